"""Leaderboards: what is shown of others' numbers, and when ours stand beside them."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from emozoo.benchmark import leaderboard
from emozoo.errors import DatasetError

ROOT = Path(__file__).resolve().parents[2]
EMOZOO = Path(sys.executable).with_name("emozoo")
DFEW = "5-fold, 11697 clips, best test epoch unless noted"
RESULT = {
    "model": "ceflnet.some_v1", "sha256": "0" * 64, "dataset": "dfew", "protocol": "dfew_5fold", "split": "",
    "fold": "mean", "prior": "train", "control": "", "n_expected": "11697", "n_evaluated": "11697", "WAR": "0.6612",
    "WAR_lo": "0.65", "WAR_hi": "0.67", "UAR": "0.5", "UAR_lo": "", "UAR_hi": "", "F1": "", "CCC_V": "", "CCC_A": "",
    "date": "2026-11-21", "commit": "abc",
}  # fmt: skip


def emozoo(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([EMOZOO, *arguments], capture_output=True, text=True)


def test_dfew_has_published_rows_with_sources():
    """Protects the contract of --json: many verified numbers, a source for each, CEFLNet marked, ours said missing."""
    board = json.loads(emozoo("leaderboard", "dfew", "--json").stdout)
    rows = [r for r in board["rows"] if r["metric"] in ("WAR", "UAR")]
    assert board["dataset"] == "dfew"
    assert len([r for r in rows if r["verified"] == "yes"]) >= 25
    assert all(r["source"] and r["method"] and r["protocol"] for r in board["rows"])
    paper = {r["metric"]: r["value"] for r in rows if r["reproduced_by"] == "ceflnet" and r["protocol"] == DFEW}
    assert paper == {"WAR": 65.35, "UAR": 51.14}
    assert [(o["published_protocol"], o["status"]) for o in board["ours"]] == [
        (DFEW, "not measured: data under licence")
    ]


def test_table_for_people():
    """Protects the terminal: ours on top of the same protocol, sources below, what is not verified marked."""
    text = emozoo("leaderboard", "DFEW").stdout
    assert "not measured: data under licence" in text
    assert "CEFLNet ← reproduced here: ceflnet" in text
    assert "FineCLIPER ?" in text
    assert "[1] " in text


@pytest.mark.parametrize("name", leaderboard.BOARDS)
def test_every_board_is_whole(name):
    """Protects every file of facts: each number has a source and a state, and nothing from memory is kept."""
    board = leaderboard.to_dict(name)
    assert json.loads(json.dumps(board, allow_nan=False)) == board
    assert board["ours"]
    path = ROOT / "benchmarks" / "leaderboards" / f"{name}.csv"
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as lines:
            stored = list(csv.DictReader(lines))
        assert len(stored) == len(board["rows"])
        assert all(r["source"] and r["verified"] in ("yes", "no") for r in stored)
        assert not [r for r in stored if "memory" in r["source"] or "recollection" in r["source"]]
    published = {r["protocol"] for r in board["rows"]}
    assert {pair.published for pair in leaderboard.BOARDS[name].pairs} <= published


def test_every_file_and_every_result_has_a_board():
    """Protects facts and results from lying in a file that no command shows."""
    assert {p.stem for p in (ROOT / "benchmarks" / "leaderboards").glob("*.csv")} <= set(leaderboard.BOARDS)
    assert {r["dataset"] for r in leaderboard.committed()} <= set(leaderboard.BOARDS)


def test_a_data_set_without_a_board():
    """Protects first results on new data: their board is a bare one, not a traceback."""
    assert leaderboard.board("mine").title == "mine"
    apart = leaderboard.ours("mine", [RESULT | {"dataset": "mine"}])
    assert [(b["published_protocol"], b["status"]) for b in apart] == [(None, "measured")]


def test_a_wrong_entry_is_named(tmp_path):
    """Protects who adds a board: an unknown key or a wrong access is one line with the board's name."""
    path = tmp_path / "boards.yaml"
    path.write_text("one:\n  title: One\n  access: open\n")
    assert leaderboard.read_boards(path) == {"one": leaderboard.Board("One", access=leaderboard.ACCESS["open"])}
    for entry in ("titel: Two", "title: Two\n  access: free", "title: Two\n  pairs:\n    - our: a", "[]"):
        path.write_text(f"two:\n  {entry}\n")
        with pytest.raises(DatasetError, match="the board two cannot be read"):
            leaderboard.read_boards(path)


def test_a_number_from_memory_is_never_shown(tmp_path):
    """Protects the rule that what nobody looked up is not shown, whoever adds it."""
    path = tmp_path / "some.csv"
    head = "protocol,metric,method,year,value,unit,source,verified,apart,model\n"
    path.write_text(head + "val,WAR,A,,50.0,%,paper,yes,,\nval,WAR,B,,60.0,%,recollection,memory,,\n")
    assert [r.method for r in leaderboard.read(path)] == ["A"]
    path.write_text(head + "val,WAR,A,,50.0,%,,yes,,\n")
    with pytest.raises(DatasetError, match=r"line 2: .*source"):
        leaderboard.read(path)
    path.write_text(head + "val,WAR,A,,fifty,%,paper,yes,,\n")
    with pytest.raises(DatasetError, match="line 2"):
        leaderboard.read(path)


def test_ours_stand_beside_the_same_protocol_only():
    """Protects comparisons: a mean over folds beside means; one fold, or another protocol, apart."""
    [same] = leaderboard.ours("dfew", [RESULT])
    assert (same["published_protocol"], same["status"]) == (DFEW, "measured")
    assert [(r["metric"], r["value"], r["ci95"]) for r in same["rows"]] == [
        ("WAR", 66.12, [65.0, 67.0]),
        ("UAR", 50.0, None),
    ]
    for other in ({"fold": "1"}, {"protocol": "my_folds"}):
        beside, apart = leaderboard.ours("dfew", [RESULT | other])
        assert beside["rows"] == []
        assert beside["status"] == "not measured: data under licence"
        assert apart["published_protocol"] is None
        assert apart["rows"][0]["value"] == 66.12


def test_a_record_carries_what_was_published():
    """Protects the field of benchmark records: verified numbers of the same protocol, none for anything else."""
    rows = leaderboard.published("ferv39k", "ferv39k_all_scenes", "test", None)
    assert len(rows) >= 40
    assert {r["verified"] for r in rows} == {"yes"}
    assert leaderboard.published("ekman6", "ekman6_list_01@1a2b3c4d", "test", None)
    assert leaderboard.published("ferv39k", "ferv39k_all_scenes", "train", None) == []
    assert leaderboard.published("dfew", "dfew_5fold", None, 1) == []
    assert leaderboard.published("dfew", "folder", "test", None) == []
    assert leaderboard.published("my_clips", "folder", "val", None) == []


def test_an_unknown_data_set_is_one_line():
    """Protects people who mistype: the nearest name, exit code 2, no traceback."""
    done = emozoo("leaderboard", "dfwe")
    assert done.returncode == 2
    assert "did you mean 'dfew'" in done.stderr
    assert done.stderr.count("\n") == 1
    assert emozoo("leaderboard", "Caer-S").stdout.startswith("CAER-S\n")


def test_nothing_heavy_is_loaded():
    """Protects the quick answer: no torch, numpy or pandas for a board."""
    code = (
        "import sys\nfrom emozoo.cli import main\nsys.argv = ['emozoo', 'leaderboard', 'dfew']\nassert main() == 0\n"
        "print([m for m in ('torch', 'numpy', 'pandas', 'matplotlib') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stderr.strip() == "[]"


def test_page_and_figures_show_what_the_files_say():
    """Protects docs/leaderboards.md and its figures from saying other numbers than the files."""
    script = ROOT / "benchmarks" / "leaderboard_pages.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
