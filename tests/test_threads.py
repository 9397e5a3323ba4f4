"""One module, many threads, as a web service asks it: every answer is the one that the file gets alone.

Runs by itself (``python -m pytest tests/test_threads.py``): Python 3.12 and later have no lock in ``cached_property``,
which hides some races on 3.11.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from media_files import write_video

from emozoo import inference
from emozoo.data import faces
from emozoo.module import EmotionModule

ROOT = Path(__file__).resolve().parents[1]
SIZES = ((192, 144), (256, 192), (320, 240), (160, 200), (224, 176), (288, 300))
THREADS, TURNS = 8, 100


@pytest.fixture(autouse=True)
def _hurried() -> Iterator[None]:
    """Threads change places as often as Python can make them, and torch starts none of its own."""
    before, own = sys.getswitchinterval(), torch.get_num_threads()
    sys.setswitchinterval(1e-5)
    torch.set_num_threads(1)
    yield
    sys.setswitchinterval(before)
    torch.set_num_threads(own)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A short clip of a drawn person in each of the sizes."""
    from emozoo.synthemo import Knobs, plan, render

    folder = tmp_path_factory.mktemp("clips")
    files = []
    for number, size in enumerate(SIZES):
        frames = render(plan(3 + number, 0, Knobs(), size=(192, 144), seconds=0.8, fps=10)).frames
        files.append(folder / f"{number}.mp4")
        write_video(files[-1], [cv2.resize(frame, size) for frame in frames])
    return files


def small(arch: str = "ceflnet") -> EmotionModule:
    torch.manual_seed(0)
    return EmotionModule(arch, size="lite").eval()


def answer(found: inference.Prediction) -> tuple[object, ...]:
    boxes = [[round(x, 2) for x in moment.box or []] for track in found.tracks for moment in track.timeline]
    scores = {k: round(v, 4) for k, v in (found.scores or {}).items()}
    return found.error, scores, boxes, [w["code"] for w in found.warnings]


def in_threads(work, turns: int = TURNS) -> list:
    """``work(i)`` for each turn, in threads that all start at once."""
    start = threading.Barrier(THREADS)
    with ThreadPoolExecutor(THREADS, initializer=start.wait) as pool:
        return list(pool.map(work, range(turns)))


@pytest.mark.parametrize("detector", ["cascade", "yunet"])
def test_threads_get_the_answers_of_one(clips, detector):
    """Protects web services: faces, scores and errors of files that are asked for at once do not mix."""
    if detector == "yunet":
        try:
            faces.detector("yunet")
        except Exception as error:
            pytest.skip(str(error))
    module = small()
    missing = clips[0].with_name("missing.mp4")
    files = [*clips, missing]
    alone = [answer(inference.predict(f, module, detector=detector)) for f in files]
    assert [bool(a[0]) for a in alone] == [False] * len(clips) + [True]
    assert any(a[2] for a in alone)
    together = in_threads(lambda i: answer(inference.predict(files[i % len(files)], module, detector=detector)))
    wrong = [i for i, found in enumerate(together) if found != alone[i % len(files)]]
    assert not wrong


def test_detectors_are_never_shared_at_work(clips):
    """Protects from crashes inside OpenCV: images of many sizes, one detector each at a time."""
    rng = np.random.default_rng(0)
    with av.open(str(clips[2])) as box:
        face = next(box.decode(video=0)).to_ndarray(format="rgb24")
    images = [cv2.resize(face, (int(w), int(h))) for w, h in rng.integers(100, 400, (16, 2))]
    detect = faces.detector("cascade")
    alone = [detect(p) for p in images]
    together = in_threads(lambda i: faces.detector("cascade")(images[i % 16]))
    for i, found in enumerate(together):
        np.testing.assert_array_equal(found, alone[i % 16])


def test_a_module_in_training_keeps_its_mode(clips):
    """Protects dropout: a module in training mode answers as in eval mode in every thread, and keeps its mode."""
    module = small()
    expected = answer(inference.predict(clips[2], module))
    module.train()
    module.net.encoder.eval()
    modes = [m.training for m in module.modules()]
    assert inference.predict(clips[2], module).scores
    assert [m.training for m in module.modules()] == modes
    together = in_threads(lambda i: answer(inference.predict(clips[2], module)), 24)
    assert [m.training for m in module.modules()] == modes
    assert all(found == expected for found in together)


def test_plots_in_threads(clips, tmp_path):
    """Protects drawing: the images of predictions drawn at once are those drawn alone; settings stay the user's."""
    import matplotlib

    module = small()
    found = [inference.predict(f, module) for f in clips]
    found = [p for p in found if p.tracks]
    settings = dict(matplotlib.rcParams)
    for i, p in enumerate(found):
        p.plot(tmp_path / f"alone{i}.png")

    def draw(i: int) -> bytes:
        found[i % len(found)].plot(tmp_path / f"{i}.png")
        return (tmp_path / f"{i}.png").read_bytes()

    together = in_threads(draw, 10)
    for i, image in enumerate(together):
        assert image == (tmp_path / f"alone{i % len(found)}.png").read_bytes()
    assert dict(matplotlib.rcParams) == settings


FIRST = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
sys.setswitchinterval(1e-5)
import emozoo
start = threading.Barrier(8)
def ask(i):
    module = emozoo.load("ceflnet", size="lite", weights=None)
    return emozoo.predict(sys.argv[1], module).error, emozoo.ClipSpec.__name__
with ThreadPoolExecutor(8, initializer=start.wait) as pool:
    print(set(map(str, pool.map(ask, range(8)))))
"""


def test_the_first_call_may_come_from_many_threads(clips):
    """Protects the start of a service: what is imported on first use is imported once, whoever asks first."""
    done = subprocess.run(
        [sys.executable, "-c", FIRST, clips[0]],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "{\"(None, 'ClipSpec')\"}"
