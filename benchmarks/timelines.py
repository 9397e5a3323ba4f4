"""Timelines of real clips that carry one label or none, for readers to judge: predictions second by second.

    python benchmarks/timelines.py [model ...]

The predictions of ``emozoo predict`` for the six user videos of ``ekman6_samples`` and the real clips of ``clips``.
Writes ``benchmarks/results/timelines.csv`` (a line per clip, model and moment of the face seen longest) and
``docs/img/timelines.png``, bands of colour without any image of the people. Needs the real material
(``EMOZOO_SHARED``).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from emozoo import files
from emozoo.files import resolve_path
from emozoo.inference import Prediction, predict
from emozoo.plots import colors
from emozoo.zoo import load

DATA, IMAGE = "$EMOZOO_SHARED/data", Path("docs/img/timelines.png")
CLIPS = ("ekman6_samples/*", "clips/liveportrait_*", "clips/pyfeat_*", "clips/facenet_*")
MODELS = ("ceflnet", "emotion_fan")
COLUMNS = ("clip", "model", "sha256", "start_s", "end_s", "label", "probability", "face", "file_label")
ROW = 0.34  # height of a band, inches


def table(found: Sequence[Prediction]) -> str:
    """The text of ``benchmarks/results/timelines.csv``."""
    rows = [
        {
            "clip": Path(one.file).stem, "model": one.model, "sha256": one.sha256, "start_s": f"{m.start_s:.2f}",
            "end_s": f"{m.end_s:.2f}", "label": m.label, "probability": f"{m.scores[m.label]:.3f}" if m.label else "",
            "face": int(m.box is not None), "file_label": one.label,
        }
        for one in found
        for m in one.timeline
    ]  # fmt: skip
    return files.csv_text(rows, COLUMNS)


def image(found: Sequence[Prediction]) -> Figure:
    """A band for each clip and model; the higher the probability, the stronger its colour."""
    seen = [p for p in found if p.timeline]
    classes = list(dict.fromkeys(c for p in seen for c in p.classes))
    palette = colors(classes)
    figure = Figure(figsize=(10, 1.1 + ROW * len(seen)), layout="constrained")
    FigureCanvasAgg(figure)
    ax = figure.subplots()
    for i, p in enumerate(seen):
        for m in p.timeline:
            if m.label:
                width = m.end_s - m.start_s
                ax.barh(i, width, 0.8, m.start_s, color=palette[m.label], alpha=0.25 + 0.75 * m.scores[m.label])
        ax.barh(i, p.duration_s or 0, 0.8, color="none", edgecolor="#B8BDC6", linewidth=0.6)
    ax.set_yticks(range(len(seen)), [f"{Path(p.file).stem}   {p.model}" for p in seen], fontsize=8)
    ax.invert_yaxis()
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("seconds (white: no face was found)", fontsize=8)
    ax.tick_params(labelsize=8, length=0)
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    handles = [Patch(color=palette[c], label=c) for c in classes]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(classes), fontsize=8, frameon=False)
    return figure


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="model", help=f"default: {', '.join(MODELS)}")
    models = [load(m) for m in parser.parse_args(argv).models or MODELS]
    paths = [p for pattern in CLIPS for p in sorted(resolve_path(DATA).glob(f"{pattern}.mp4"))]
    by_model = [predict([str(p) for p in paths], model=m) for m in models]
    found = [p for same in zip(*by_model, strict=True) for p in same]
    files.write_text(Path("benchmarks/results/timelines.csv"), table(found))
    IMAGE.parent.mkdir(parents=True, exist_ok=True)
    image(found).savefig(IMAGE, dpi=110)


if __name__ == "__main__":
    main()
