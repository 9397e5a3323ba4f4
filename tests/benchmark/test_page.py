"""Reports: one page that needs nothing else, Markdown, csv and JSON that say the same."""

import csv
import json
import re
from pathlib import Path

from emozoo.benchmark import command, compare, leaderboard, page
from emozoo.benchmark.markdown import markdown
from emozoo.benchmark.run import measure
from emozoo.labels import BASIC7


def test_files_of_a_run(weights: Path, data: Path, tmp_path: Path) -> None:
    """Protects --out: every file is there, the same numbers in each, a prediction for every item."""
    result = measure([str(weights)], "csv", data, prior="both", control=[])
    both = compare.results(result, result)
    out = tmp_path / "out"
    command.write(result, both, None, out)
    assert {p.name for p in out.iterdir()} == {
        "records.json", "records.predictions", "report.html", "report.md", "results.csv",
    }  # fmt: skip
    found = json.loads((out / "records.json").read_text())
    war = found["records"][0]["metrics"]["WAR"]
    assert f"{100 * war:.1f}" in (out / "report.md").read_text()
    assert abs(float(next(csv.DictReader((out / "results.csv").open()))["WAR"]) - war) < 1e-5
    assert len(found["comparisons"]) == 2
    assert found["comparisons"][0]["mcnemar_p"] == 1
    for record in found["records"]:
        lines = list(csv.DictReader((out / record["predictions"]).open()))
        assert len(lines) == 21
        assert sum(x["label"] == x["predicted"] for x in lines) == round(21 * record["metrics"]["WAR"])
        assert all(abs(sum(float(x[c]) for c in BASIC7) - 1) < 1e-4 for x in lines)


def test_the_page_stands_alone(weights: Path, data: Path) -> None:
    """Protects the HTML report: no network, no script, every class, and names that cannot break it."""
    (record,) = measure([str(weights)], "csv", data).records
    record["model"] = "<b>mine</b>"
    text = page.html([record])
    assert not re.search(r"<script|src=|href=\"(?!#)|@import|url\(", text)
    assert "&lt;b&gt;mine" in text
    assert "<b>mine" not in text
    assert all(f'<span class="full">{c}</span>' in text for c in BASIC7)
    assert text.count("<td style=") == 49


def test_published_numbers_stand_beside_ours(weights: Path, data: Path) -> None:
    """Protects the comparison with papers: their rows and ours in one table, ours told apart, sources shown."""
    (record,) = measure([str(weights)], "csv", data).records
    record["published"] = leaderboard.published("ferv39k", "ferv39k_all_scenes", "test", None)
    text = page.html([record])
    assert "Published under the same protocol" in text
    assert text.count('<tr class="ours">') == 1
    first = record["published"][0]
    assert first["method"] in text
    assert "this run" in markdown([record])
