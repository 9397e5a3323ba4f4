"""The report at the end of a fine-tuning: its numbers, its mistakes, its warnings, and that it needs nothing else."""

from __future__ import annotations

import base64
import io
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from emozoo.benchmark.run import measure
from emozoo.cli import app
from emozoo.data.manifest import Finding
from emozoo.finetune import finetune
from emozoo.finetune_report import HeldOut, Report

FEW = Finding("few_items", "calm", "few items: calm 9 (1 held out)", "aim for 50 items a class")


def fit(data: Path, out: Path, **options: Any) -> dict[str, Any]:
    return finetune("emotion_fan", data, out, **{"epochs": 1, "device": "cpu", **options})


def text_of(page: str) -> str:
    """What a reader sees of a page, in one line."""
    body = re.sub(r"<style>.*?</style>|<svg.*?</svg>", " ", page, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", body)).split())


def points(page: str) -> list[int]:
    """How many points the lines of the learning curve have."""
    return [len(line.split()) for line in re.findall(r'<polyline points="([^"]+)"', page)]


class Tags(HTMLParser):
    """The tags of a page, as a browser reads them, with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def needs_nothing_else(page: str) -> bool:
    """Whether a page loads and runs nothing: no script, frame, style sheet or image from elsewhere."""
    tags = Tags(page).found
    links = [a[k] for _, a in tags for k in ("src", "href") if k in a]
    runs = [t for t, a in tags if t in ("script", "link", "iframe", "object") or any(k.startswith("on") for k in a)]
    return not runs and "url(" not in page and all(str(x).startswith("data:image/") for x in links)


@pytest.fixture(scope="module")
def data(make_images: Callable[[int], Path]) -> Path:
    """Eight images a class, of which a table holds out the last three, as those of the persons p0 to p7."""
    folder = make_images(8)
    lines = [f"{c}/{i}.png,{c},{'train' if i < 5 else 'test'},p{i}" for c in ("angry", "calm") for i in range(8)]
    (folder / "own.csv").write_text("\n".join(["path,label,split,group", *lines, ""]))
    return folder


@pytest.fixture(scope="module")
def fitted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A model that was trained for two epochs, and what fine-tuning returned."""
    out = tmp_path_factory.mktemp("fitted") / "own"
    return out, fit(data / "own.csv", out, epochs=2)


def test_the_numbers_are_those_of_a_benchmark(data: Path, fitted: tuple[Path, dict[str, Any]]) -> None:
    """Protects the one path: the report scores the held-out items as ``emozoo benchmark`` does, intervals included."""
    out, found = fitted
    record = measure([str(out)], "csv", data / "own.csv").records[0]
    page = text_of((out / "report.html").read_text())
    assert record["n_evaluated"] == found["n_val"] == 6
    for metric in ("WAR", "UAR"):
        value, (low, high) = record["metrics"][metric], record["ci95"][metric]
        assert found[f"val_{metric}"] == pytest.approx(value)
        assert f"{metric} {100 * value:.1f} % {100 * low:.1f} to {100 * high:.1f}" in page
    assert "On 6 held-out items of 3 people" in page
    for name, numbers in record["per_class"].items():
        assert f"{name} {100 * numbers['recall']:.1f} F1" in page


def test_the_page_is_whole_and_needs_nothing_else(fitted: tuple[Path, dict[str, Any]]) -> None:
    """Protects a page that is mailed or opened without network: curve, counts, settings and mistakes are in it."""
    out, found = fitted
    page = (out / "report.html").read_text()
    assert found["report"] == str(out / "report.html")
    assert needs_nothing_else(page)
    assert points(page) == [2, 2, 2, 2], "loss and UAR, in training and held out, of two epochs"
    for part in ("angry 5 3", "calm 5 3", "started from emotion_fan.ferplus_v3", "epochs 2", f"--model {out}"):
        assert part in text_of(page)
    assert not [p for p in out.iterdir() if p.name.startswith(".")], "no half-written file is left"


def test_a_resumed_run_has_the_whole_curve(data: Path, fitted: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """Protects the curve of a run that was killed or prolonged, and the scores of one that was done already."""
    out = shutil.copytree(fitted[0], tmp_path / "own")
    longer = fit(data / "own.csv", out, epochs=3)
    assert points((out / "report.html").read_text()) == [3, 3, 3, 3]
    (out / "report.html").unlink()
    again = fit(data / "own.csv", out, epochs=3)
    assert again == longer
    assert points((out / "report.html").read_text()) == [3, 3, 3, 3]


def test_what_makes_a_score_too_good_is_said_before_training(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Protects from a proud score: one person, or one image, on both sides; few items; a class under two names."""
    own = shutil.copytree(data, tmp_path / "data")
    (own / "own.csv").unlink()
    rng = np.random.default_rng(0)
    for name in ("Happy", "happiness"):
        (own / name).mkdir()
        for i in range(4):
            smooth = cv2.resize(rng.uniform(0, 255, (5, 5, 3)).astype(np.uint8), (96, 96))
            Image.fromarray(smooth).save(own / name / f"{i}.png")
    copy = Image.open(own / "Happy" / "0.png").point(lambda v: min(255, v + 4))
    copy.save(own / "Happy" / "3.jpg", quality=90)  # the same image, brighter and compressed
    names = [f"{c}/{i}.png" for c in ("angry", "Happy", "happiness") for i in range(3)]
    lines = [f"{n},{n.split('/')[0]},train,p{n[-5]}" for n in names]
    held = ["angry/3.png,angry,test,p0", "happiness/3.png,happiness,test,p8", "Happy/3.jpg,Happy,test,p9"]
    (own / "own.csv").write_text("\n".join(["path,label,split,group", *lines, *held, ""]))
    found = fit(own / "own.csv", tmp_path / "own")
    codes = [w["code"] for w in found["warnings"]]
    assert codes == ["same_class", "few_items", "person_on_both_sides", "alike_on_both_sides"]
    page = text_of((tmp_path / "own" / "report.html").read_text())
    for part in (
        "'Happy' and 'happiness' have two names", "angry 4 (1 held out)", "aim for 50 items",
        "trained on and held out: p0", "Happy/3 like Happy/0",
    ):  # fmt: skip
        assert part in caplog.text
        assert part.lower() in page.lower()
    assert "score is likely too good" in page
    assert "the interval is too narrow" in page


def test_nothing_held_out_is_said(data: Path, tmp_path: Path) -> None:
    """Protects from a page without a score that looks like one with a good score."""
    for name in ("angry", "calm"):
        for i in range(2):
            (tmp_path / "two" / name).mkdir(parents=True, exist_ok=True)
            shutil.copy(data / name / f"{i}.png", tmp_path / "two" / name)
    found = fit(tmp_path / "two", tmp_path / "own")
    page = text_of((tmp_path / "own" / "report.html").read_text())
    assert (found["n_val"], found["val_UAR"]) == (0, None)
    assert [w["code"] for w in found["warnings"]] == ["nothing_held_out"]
    assert "the model was not scored" in page
    assert "Put more items into every class" in page
    assert points((tmp_path / "own" / "report.html").read_text()) == [1, 1]


def test_the_command_names_the_report(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects that anybody finds the page: its path stands on the terminal, beside the command to use the model."""
    words = ["finetune", "emotion_fan", "--data", str(data / "own.csv"), "--out", str(tmp_path / "own")]
    app([*words, "--epochs", "1", "--device", "cpu"], standalone_mode=False)
    printed = capsys.readouterr()
    assert f"report: {tmp_path / 'own' / 'report.html'}" in printed.out
    assert "few items" not in printed.out, "warnings are on stderr, before training"
    assert "Tip" not in printed.err, "no tips of Lightning, which would drown them"


# -- the page alone: no network is trained --------------------------------------------------------------------------


def report(
    predicted: list[tuple[int, int, float]], classes: tuple[str, ...] = ("calm", "angry"), **more: Any
) -> Report:
    """A report of held-out items ``(true, predicted, probability)`` of two or three classes, one person each."""
    held_out = []
    for i, (true, best, p) in enumerate(predicted):
        scores = np.full(len(classes), (1 - p) / (len(classes) - 1))
        scores[best] = p
        held_out.append(HeldOut(f"/data/{i}.png", None, true, scores, np.full((200, 100, 3), 10 * i % 256, np.uint8)))
    curve = [{"epoch": e, "train_loss": 1 / e, "train_UAR": 0.9, "val_loss": 1 / e, "val_UAR": 0.5} for e in (1, 2)]
    settings = {"started from": "ceflnet.faces7_v4"}
    given: dict[str, Any] = {"findings": [], "unreadable": [], "grouped": True, "curve": curve, **more}
    return Report("own", "/data", classes, dict.fromkeys(classes, 5), held_out, settings=settings, drawn=True, **given)


def test_the_most_confident_mistakes_come_first_with_their_image() -> None:
    """Protects the quickest way to a wrong label: what the network is surest of, with file, labels and probability."""
    page = report([(0, 0, 0.9), (0, 1, 0.6), (1, 0, 0.8), (1, 1, 0.7)]).to_html()
    images = re.findall(r'<img src="data:image/jpeg;base64,([^"]+)" alt="([^"]+)"', page)
    assert [name for _, name in images] == ["2.png", "1.png"]
    shown = Image.open(io.BytesIO(base64.b64decode(images[0][0])))
    assert shown.size == (56, 112), "small, and not squeezed"
    assert abs(int(np.asarray(shown).mean()) - 20) < 3, "the image of that very item"
    assert "2.png is angry , predicted calm 0.80" in text_of(page)


def test_names_cannot_break_the_page() -> None:
    """Protects from names of files and classes that are markup."""
    classes = ("<b>calm</b>", 'ang"ry&<script>alert(1)</script>')
    odd = report([(0, 1, 0.9), (1, 0, 0.8)], classes, unreadable=["<i>x</i>.png: cut off"])
    held = [replace(h, path='/data/<img src=x onerror="alert(1)">.png') for h in odd.held_out]
    page = replace(odd, held_out=held, folder="own<script>").to_html()
    assert needs_nothing_else(page)
    for bad in ("<script", "<b>calm", "<i>x", "<img src=x"):
        assert bad not in page
    assert classes[1] in text_of(page)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (report([(0, 0, 0.9), (0, 1, 0.6), (1, 0, 0.6), (1, 1, 0.6)]), "cannot be told from guessing"),
        (report([(0, 1, 0.6)] * 3 + [(0, 0, 0.6)] * 5 + [(1, 1, 0.6)] * 8), "are taken for each other in 3 of 16"),
        (report([(0, 0, 0.6)] * 6 + [(1, 0, 0.6)] * 6), "No held-out item of angry was recognized"),
        (report([(0, 0, 0.6), (0, 1, 0.6), (1, 1, 0.6), (1, 0, 0.6)]), "knows its training items (90.0 % UAR)"),
        (report([(0, 0, 0.6), (1, 1, 0.6)], findings=[FEW]), "Collect more items"),
        (report([(0, 0, 0.6), (1, 1, 0.6)], grouped=False), "columns path, label and group"),
        (report([(0, 0, 0.6), (1, 1, 0.6)], unreadable=["x"]), "could not be read"),
        (report([]), "No item is held out"),
    ],
)  # fmt: skip
def test_what_to_do_next_follows_from_the_numbers(given: Report, said: str) -> None:
    """Protects newcomers: each fault that numbers show comes with what to do about it."""
    assert said in text_of(given.to_html())
    good = report([(0, 0, 0.9)] * 30 + [(1, 1, 0.9)] * 30)
    assert list(good.advice()) == [], "and a good run is left in peace"
    assert "every held-out item was predicted right" in text_of(good.to_html())
