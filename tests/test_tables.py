"""Numbers in pages come from committed results, never from memory."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = (
    "model,sha256,detector,dataset,protocol,split,fold,seed,prior,control,n_expected,n_evaluated,no_face,WAR,WAR_lo,WAR_hi,"
    "UAR,UAR_lo,UAR_hi,F1,CCC_V,CCC_A,delta,delta_lo,delta_hi,delta_metric,seconds,versions,hardware,precision,date,commit,"
    "protocol_version"
)


def tables(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a script; tables in modules of their own are found beside the original of a copy."""
    paths = [str(ROOT / "benchmarks"), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.run(
        [sys.executable, script, *arguments], capture_output=True, text=True, cwd=script.parent, env=env
    )


def test_pages_say_what_was_measured():
    """Protects README, docs and model cards from tables that no longer match benchmarks/results and the registry."""
    done = tables(ROOT / "benchmarks" / "tables.py", "--check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_readme_is_short_and_its_links_lead_somewhere():
    """Protects the first page that anybody reads: it stays readable in minutes, and no link of it is dead."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    links = [x for x in re.findall(r"\]\(([^)#]+)", text) if "://" not in x]
    assert "docs/results.md" in links, "where all results are"
    assert not [x for x in links if not (ROOT / x).exists()]


def test_a_changed_result_is_noticed_and_written(tmp_path):
    """Protects `--check`: a result that changes makes it fail, and a plain run mends the page."""
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    script = Path(shutil.copy(ROOT / "benchmarks" / "tables.py", tmp_path / "benchmarks"))
    row = dict.fromkeys(COLUMNS.split(","), "") | {
        "model": "ceflnet.some_v1",
        "dataset": "some",
        "protocol": "val",
        "prior": "train",
        "n_expected": "20",
        "n_evaluated": "20",
        "no_face": "3",
        "WAR": "0.9",
        "WAR_lo": "0.8",
        "WAR_hi": "0.95",
    }
    (tmp_path / "benchmarks" / "results" / "some.csv").write_text(COLUMNS + "\n" + ",".join(row.values()) + "\n")
    page = tmp_path / "README.md"
    page.write_text("before\n<!-- generated:results -->\n<!-- /generated -->\nafter\n")

    assert tables(script, "--check").returncode == 1
    assert "generated:results -->\n<!-- /gen" in page.read_text(), "--check must not write"
    assert tables(script).returncode == 0
    text = page.read_text()
    assert "0.900 (0.800 to 0.950)" in text
    assert "20, 3 without a face" in text
    assert text.startswith("before\n")
    assert text.endswith("<!-- /generated -->\nafter\n")
    assert tables(script, "--check").returncode == 0


def test_an_unknown_table_is_named(tmp_path):
    """Protects against a marker with a typing error that would stay empty for ever."""
    (tmp_path / "benchmarks").mkdir()
    script = Path(shutil.copy(ROOT / "benchmarks" / "tables.py", tmp_path / "benchmarks"))
    (tmp_path / "README.md").write_text("<!-- generated:modles -->\n<!-- /generated -->\n")
    done = tables(script, "--check")
    assert done.returncode == 1
    assert "README.md: no generated table 'modles'" in done.stderr
