"""Makes the pictures of these pages anew, from drawn clips: what commands write, and their pages in a browser.

python docs/pictures.py                all of them, below docs/img; some minutes
python docs/pictures.py doctor         one or several, by name

Needs Debian's chromium for the pages. People are drawn; nothing is fetched. Those of the web page: docs/screenshots.py.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import av
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
IMAGES, WORK = ROOT / "docs" / "img", ROOT / "runs" / "pictures"
SHOWN = 2.2  # seconds: where the annotated video is shown


@cache
def follow(tutorial: str) -> Path:
    """The folder in which everything has been done that a tutorial says."""
    from page_code import blocks, run

    folder = WORK / tutorial
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    names: dict[str, Any] = {}
    before = Path.cwd()
    os.chdir(folder)
    for block in blocks(ROOT / "docs" / "tutorials" / f"{tutorial}.md"):
        run(block, folder, names)
    os.chdir(before)
    return folder


@cache
def acted() -> Path:
    """The clip of `make demo`, with its plot and annotated video beside it."""
    from page_code import environment

    folder = WORK / "demo_out"
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, str(ROOT / "examples" / "predict_clip.py"), "demo_out/drawn.mp4"]
    subprocess.run(command, cwd=WORK, env=environment(WORK), check=True, stdout=subprocess.DEVNULL)
    return folder / "drawn.mp4"


def emozoo(folder: Path, *arguments: str, code: int = 0) -> None:
    """Runs a command in a folder; it has to end with this exit code."""
    from page_code import environment

    done = subprocess.run(["emozoo", *arguments], cwd=folder, env=environment(folder), capture_output=True, text=True)
    assert done.returncode == code, f"{' '.join(arguments)}: exit code {done.returncode}\n{done.stdout}{done.stderr}"


def browse(page: Path, image: Path, size: tuple[int, int] = (1000, 900)) -> None:
    """The upper part of a page, as a browser shows it; ``size`` = (w, h) in pixels."""
    raw = WORK / "page.png"
    subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--screenshot={raw}",
         f"--window-size={size[0]},{size[1]}", page.resolve().as_uri()],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    small(Image.open(raw), image)


def small(image: Image.Image, path: Path) -> None:
    """Writes a PNG of at most 256 colors: these images are drawings and pages."""
    image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def prediction(path: Path) -> None:
    """The plot of a timeline."""
    shutil.copy(acted().with_name("drawn.emozoo.png"), path)


def annotated(path: Path) -> None:
    """A frame of the annotated video."""
    with av.open(str(acted().with_name("drawn.emozoo.mp4"))) as video:
        frame = next(f for f in video.decode(video=0) if f.time is not None and f.time >= SHOWN)
        small(frame.to_image(), path)


def explain(path: Path) -> None:
    """What the network weighed."""
    from emozoo.explain import explain as explained

    explained(acted(), "ceflnet.synth_v1").save(path)
    small(Image.open(path), path)


def report(path: Path) -> None:
    """The page about a folder of clips: those of the tutorial, and the one that is longer."""
    folder = WORK / "report"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(follow("predict") / "drawn" / "clips", folder / "clips", ignore=shutil.ignore_patterns("*.csv"))
    shutil.copy(acted(), folder / "clips" / "acted.mp4")
    emozoo(folder, "predict", "clips", "--model", "ceflnet.synth_v1", "--every", "0.5", "--out", "results", "--report")
    browse(folder / "results" / "predictions.html", path, (1000, 1190))


def benchmark(path: Path) -> None:
    """The report of a benchmark."""
    browse(follow("benchmark") / "report" / "report.html", path)


def finetune(path: Path) -> None:
    """The report of fine-tuning."""
    browse(follow("finetune") / "my_model" / "report.html", path, (1000, 1100))


def doctor(path: Path) -> None:
    """What the data doctor says of a folder with mistakes: a damaged file, a clip under two labels, an empty file."""
    folder = WORK / "doctor"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(follow("finetune") / "my_clips", folder / "my_clips")
    frowning, smiling = (sorted((folder / "my_clips" / name).glob("*.mp4")) for name in ("frowning", "smiling"))
    shutil.copy(frowning[0], folder / "my_clips" / "smiling" / "copy.mp4")
    smiling[0].write_bytes(smiling[0].read_bytes()[:2000])
    smiling[1].write_bytes(b"")
    emozoo(folder, "check", "folder", "--root", "my_clips", "--html", "check.html", code=1)  # mistakes were found
    browse(folder / "check.html", path, (1000, 860))


PICTURES: tuple[Callable[[Path], None], ...] = (prediction, annotated, explain, report, doctor, finetune, benchmark)

if __name__ == "__main__":
    unknown = set(sys.argv[1:]) - {draw.__name__ for draw in PICTURES}
    if unknown:
        sys.exit(f"no picture {', '.join(sorted(unknown))}; there are {', '.join(d.__name__ for d in PICTURES)}")
    os.environ.update(HF_HUB_OFFLINE="1", NO_ALBUMENTATIONS_UPDATE="1")
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # tutorials are followed as the tests do
    WORK.mkdir(parents=True, exist_ok=True)
    for draw in PICTURES:
        if draw.__name__ in sys.argv[1:] or not sys.argv[1:]:
            draw(IMAGES / f"{draw.__name__}.png")
            print(f"docs/img/{draw.__name__}.png")
