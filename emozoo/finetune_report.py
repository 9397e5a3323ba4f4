"""The report of a fine-tuning: one self-contained page with its scores, its mistakes, and what to do next.

Scores and intervals are those of :mod:`emozoo.benchmark.statistics`. The page needs no network and no script.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from emozoo.benchmark import page, statistics
from emozoo.benchmark.formatting import joined, number
from emozoo.benchmark.statistics import Outcome
from emozoo.data.clips import RawClip
from emozoo.data.manifest import Finding
from emozoo.spec import ClipSpec

MOST_MISTAKES = 12  # that are shown
MOST_PAIRS = 3  # of classes that are taken for each other
THUMBNAIL = 112  # the longer side of a thumbnail in pixels
OVERFITTED = 0.2  # difference of UAR between training and held-out items from which the page speaks of it


@dataclass(frozen=True)
class HeldOut:
    """The prediction for a held-out item.

    ``label``: number of its class. ``scores`` (K,): probabilities with the class prior of training. ``image``: RGB
    uint8 (H, W, 3) as the network sees it, None for audio.
    """

    path: str
    group: str | None
    label: int
    scores: np.ndarray
    image: np.ndarray | None

    @property
    def predicted(self) -> int:
        """The number of the likeliest class."""
        return int(self.scores.argmax())


@dataclass(frozen=True)
class Report:
    """All that the page shows.

    ``folder``: of the model; ``data``: where its items are from. ``n_train``: training items by class. ``curve``: for
    each epoch its ``epoch`` (from 1), ``train_loss``, ``train_UAR``, ``val_loss`` and ``val_UAR``. ``findings``: of the
    checks before training. ``unreadable``: items left out, ``path: reason``. ``settings``: names and values.
    ``drawn``: the held-out items were drawn here, the data have no split. ``grouped``: the data name people.
    """

    folder: str
    data: str
    classes: tuple[str, ...]
    n_train: Mapping[str, int]
    held_out: list[HeldOut]
    curve: list[dict[str, Any]]
    findings: list[Finding]
    unreadable: list[str]
    settings: Mapping[str, Any]
    drawn: bool
    grouped: bool

    @cached_property
    def outcome(self) -> Outcome | None:
        """The held-out predictions as the statistics take them; None without any."""
        if not self.held_out:
            return None
        groups = statistics.group_numbers([h.group for h in self.held_out], [h.path for h in self.held_out])
        return Outcome(groups, self.classes, np.array([(h.label, h.predicted) for h in self.held_out]))

    def metrics(self) -> dict[str, float]:
        """WAR, UAR and F1 of the held-out items (fractions); empty without any."""
        return {} if self.outcome is None else statistics.evaluate(self.outcome)[0]

    def mistakes(self) -> list[HeldOut]:
        """The wrong predictions, the most confident first."""
        wrong = [h for h in self.held_out if h.predicted != h.label]
        return sorted(wrong, key=lambda h: -float(h.scores[h.predicted]))

    def confused(self) -> list[tuple[str, str, int, int]]:
        """Pairs of classes that are taken for each other: both names, how often, and of how many items; worst first.

        Only pairs with two confusions or more, which are at least a tenth of the items of the two classes.
        """
        counts = np.array(statistics.matrix(self.outcome)) if self.outcome is not None else np.zeros((0, 0), int)
        found = []
        for a in range(len(counts)):
            for b in range(a + 1, len(counts)):
                n, of = int(counts[a, b] + counts[b, a]), int(counts[a].sum() + counts[b].sum())
                if n >= max(2, of / 10):
                    found.append((self.classes[a], self.classes[b], n, of))
        return sorted(found, key=lambda pair: -pair[2] / pair[3])[:MOST_PAIRS]

    def to_html(self) -> str:
        """The page; names and labels are escaped, thumbnails are in it."""
        scored: dict[str, Any] = {}
        if self.outcome is not None:
            metrics, ends = statistics.evaluate(self.outcome)
            scored = {
                "metrics": [(m, number(m, metrics[m]), joined(ends.get(m), lambda x: number("WAR", x)))
                            for m in ("WAR", "UAR")],
                "record": {
                    "classes": self.classes, "confusion": statistics.matrix(self.outcome),
                    "per_class": statistics.per_class(self.outcome),
                },
                "people": len(set(self.outcome.groups.tolist())),
                "few": any(f.code == "few_items" for f in self.findings),
            }  # fmt: skip
        wrong = self.mistakes()
        shown = [
            {"image": _data_uri(h.image), "name": _short(h.path, self.data), "true": self.classes[h.label],
             "predicted": self.classes[h.predicted], "p": f"{h.scores[h.predicted]:.2f}"}
            for h in wrong[:MOST_MISTAKES]
        ]  # fmt: skip
        counts = [(c, self.n_train.get(c, 0), sum(h.label == i for h in self.held_out))
                  for i, c in enumerate(self.classes)]  # fmt: skip
        return page.environment("emozoo").get_template("finetune.html").render(
            report=self, scored=scored, mistakes=shown, n_wrong=len(wrong), counts=counts, charts=self._charts(),
            advice=list(self.advice()),
        )  # fmt: skip

    def _charts(self) -> list[dict[str, Any]]:
        """Loss and UAR over epochs as lines of an SVG of 360 x 170 pixels."""
        charts = []
        for title, metric in (("Loss", "loss"), ("UAR, %", "UAR")):
            lines = {part: [(e["epoch"], v) for e in self.curve if (v := e[f"{part}_{metric}"]) is not None]
                     for part in ("train", "val")}  # fmt: skip
            values = [v for line in lines.values() for _, v in line]
            if not values:
                continue
            top = 1.0 if metric == "UAR" else 1.05 * max(values)
            last = max(e["epoch"] for e in self.curve)
            at = {part: [(40 + 305 * (e - 1) / max(1, last - 1), 12 + 128 * (1 - v / top)) for e, v in line]
                  for part, line in lines.items()}  # fmt: skip
            form = "{:.0f}" if metric == "UAR" else "{:.2f}"
            ticks = [(f"{12 + 128 * (1 - f):.1f}", form.format(f * top * (100 if metric == "UAR" else 1)))
                     for f in (0.0, 0.5, 1.0)]  # fmt: skip
            charts.append({
                "title": title, "last": last, "ticks": ticks,
                "lines": {p: " ".join(f"{x:.1f},{y:.1f}" for x, y in spots) for p, spots in at.items() if spots},
                "ends": {p: (f"{spots[-1][0]:.1f}", f"{spots[-1][1]:.1f}") for p, spots in at.items() if spots},
            })  # fmt: skip
        return charts

    def advice(self) -> Iterator[str]:
        """What to do next, in plain words, the most useful first."""
        if self.unreadable:
            yield "Mend or fetch again the items that could not be read (listed below), then run the same command."
        if self.outcome is None:
            yield (
                "No item is held out, so nothing is known of how good this model is. Put more items into every class "
                "(50 are a good start), or give it items of a val folder."
            )
        else:
            yield from self._advice_on_scores(self.outcome)
        if not self.grouped:
            yield (
                "Nothing says who is in which item. If a person has several, list the items in a table with the "
                "columns path, label and group (a name for each person), and give that as --data: then nobody is both "
                "trained on and held out, and the score holds for people that the model has not seen."
            )

    def _advice_on_scores(self, outcome: Outcome) -> Iterator[str]:
        metrics, ends = statistics.evaluate(outcome)
        uar, chance = metrics["UAR"], 1 / sum(bool(x["n"]) for x in statistics.per_class(outcome).values())
        low, high = ends.get("UAR", (uar, uar))
        if low <= chance:
            yield (
                f"The model cannot be told from guessing: of {number('UAR', chance)} % UAR by chance, the interval has "
                f"{number('UAR', low)} to {number('UAR', high)} %. Collect more items before you use it."
            )
        if any(f.code == "few_items" for f in self.findings):
            yield (
                "Collect more items, first for the classes named above: with 50 a class a fifth is held out, and the "
                "recall of a class is known to about 30 points on both sides; with 250, to about 14."
            )
        if any(f.code.endswith("on_both_sides") for f in self.findings):
            yield "Divide the items by person or recording (see the warnings): this score is likely too good."
        for a, b, n, of in self.confused():
            yield (
                f"{a} and {b} are taken for each other in {n} of {of} held-out items. Look at them in the list of "
                "mistakes: if you cannot tell them apart either, mend the labels or make them one class; else collect "
                "more items of both."
            )
        last = self.curve[-1] if self.curve else {}
        trained = last.get("train_UAR")
        if trained is not None and trained - uar > OVERFITTED:
            yield (
                f"It knows its training items ({number('UAR', trained)} % UAR) much better than new ones "
                f"({number('UAR', uar)} %): more people and more variety help, more epochs do not."
            )
        elif trained is not None and trained < 0.8 and len(self.curve) > 1 and self._still_learning():
            epochs = 2 * len(self.curve)
            yield f"It was still learning when training ended: try more epochs, --epochs {epochs} --no-resume."
        if outcome.confusion is not None and min(x["recall"] or 0 for x in statistics.per_class(outcome).values()) == 0:
            never = [c for c, x in statistics.per_class(outcome).items() if x["n"] and not x["recall"]]
            if never:
                yield f"No held-out item of {', '.join(never)} was recognized: that class needs more or clearer items."

    def _still_learning(self) -> bool:
        """Whether the held-out loss, else that of training, was lowest at the end."""
        for part in ("val_loss", "train_loss"):
            losses = [e[part] for e in self.curve if e[part] is not None]
            if losses:
                return losses[-1] == min(losses)
        return False


def middle_image(clip: RawClip, spec: ClipSpec) -> np.ndarray | None:
    """The real image in the middle of a clip, of the face where the network looks at it; RGB (H, W, 3), or None."""
    images = {name: stream.kind for name, stream in spec.streams.items() if stream.kind.is_image}
    for name in sorted(images, key=lambda name: not images[name].crops_face):
        real = np.argwhere(clip.masks[name])
        if len(real):
            clip_number, frame = real[len(real) // 2]
            return clip.streams[name][clip_number, frame]
    return None


def _data_uri(image: np.ndarray | None) -> str | None:
    """A small JPEG as a data URI."""
    if image is None:
        return None
    small, text = Image.fromarray(image), io.BytesIO()
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    small.save(text, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(text.getvalue()).decode()}"


def _short(path: str, data: str) -> str:
    """A path below the folder of the data, else its last two parts."""
    file, root = Path(path), Path(data).resolve()
    root = root.parent if root.is_file() else root
    return str(file.relative_to(root)) if file.is_relative_to(root) else "/".join(file.parts[-2:])
