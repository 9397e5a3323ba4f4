"""Reports: one page that needs nothing else, Markdown, csv and JSON that say the same."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from emozoo.benchmark import command, compare, leaderboard, page
from emozoo.benchmark.markdown import markdown
from emozoo.benchmark.records import Result
from emozoo.benchmark.resume import UnfinishedRun
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


def test_two_models_of_one_name(make_weights: Callable[..., Path], data: Path, tmp_path: Path) -> None:
    """Protects runs of several seeds that share a tag: each record has predictions of its own, also in the cache of an
    unfinished run, and a comparison tells the two apart."""
    folders = [str(make_weights("emotion_fan", seed=seed, tag="mine_v1")) for seed in (0, 1)]
    unfinished = UnfinishedRun(tmp_path / "cache")
    sides = [measure([f], "csv", data, unfinished=unfinished) for f in (*folders, folders[0])]
    assert len(set(unfinished.files)) == 2, "the predictions of one are not taken for those of the other"
    first, second, again = (side.records[0] for side in sides)
    (found,) = compare.results(*sides[:2])
    both = Result()
    for side in sides:
        both += side
    command.write(both, [], tmp_path / "r.json", None)
    assert first["model"] == second["model"] == "emotion_fan.mine_v1"
    assert (found["a"], found["b"]) == tuple(f"{r['model']} ({r['sha256'][:8]})" for r in (first, second))
    assert second["predictions"] == first["predictions"].replace(".csv", f"_{second['sha256'][:8]}.csv")
    assert again["predictions"] == first["predictions"], "the same weights on the same items share a file"
    for side, record in zip(sides, both.records, strict=True):
        lines = list(csv.DictReader((tmp_path / record["predictions"]).open()))
        assert [float(x["surprise"]) for x in lines] == pytest.approx([t["surprise"] for t in side.tables[0]], abs=1e-6)


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
