"""SynthEmo keeps its word: same seed same pixels, causes that hold, faces that can be found, people in one split."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import recorded

from emozoo.benchmark.suite import TASKS
from emozoo.data.tables import read_manifest
from emozoo.errors import DatasetError, UsageError
from emozoo.synthemo import EMOTIONS, VIEWS, Cause, Knobs, course, generate, plan, render, split_of
from emozoo.synthemo.clip import write_clip, write_media

SMALL = {"size": (96, 72), "seconds": 0.8, "fps": 5.0}


def _decoded(path: Path) -> np.ndarray:
    import torch  # noqa: F401  (before decord)
    from decord import VideoReader

    return VideoReader(str(path)).get_batch(range(4)).asnumpy()


def _causes(n: int, knobs: Knobs, seed: int = 5) -> list[Cause]:
    return [plan(seed, i, knobs, **SMALL) for i in range(n)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three small clips."""
    return generate(tmp_path_factory.mktemp("synth"), 3, 4, Knobs(talking=1), **SMALL).parent


def test_same_seed_same_pixels_whatever_the_number(made: Path, tmp_path: Path) -> None:
    """A clip must not depend on how many others are made, nor on worker processes."""
    again = generate(tmp_path, 2, 4, Knobs(talking=1), **SMALL, workers=2).parent
    for name in ("clips/000000.mp4", "clips/000001.mp4"):
        assert np.array_equal(_decoded(made / name), _decoded(again / name))
        va = Path(name).with_suffix(".va.csv")
        assert (made / va).read_bytes() == (again / va).read_bytes()
    a, b = render(plan(4, 1, Knobs(talking=1), **SMALL)), render(plan(4, 2, Knobs(talking=1), **SMALL))
    assert np.array_equal(a.frames, render(a.cause).frames)
    assert np.array_equal(a.waveform, render(a.cause).waveform)
    assert not np.array_equal(a.frames, b.frames)


def test_twenty_files_of_one_clip_are_one(tmp_path: Path) -> None:
    """An encoder's shortcuts must not leak into the file: x264's for AVX-512 gave 2 to 7 files of the same images."""
    r = np.random.default_rng(0)
    still = cv2.resize(r.integers(0, 255, (12, 16, 3), dtype=np.uint8), (192, 144), interpolation=cv2.INTER_CUBIC)
    frames = np.stack([np.roll(still, (i, 3 * i), (0, 1)) for i in range(40)])
    frames = (frames + r.normal(0, 3, frames.shape)).clip(0, 255).astype(np.uint8)
    audio = r.normal(0, 0.1, 51200).clip(-1, 1).astype(np.float32)
    files = set()
    for _ in range(20):
        write_media(tmp_path / "a.mp4", frames, audio, 16000, 12.5, 23)
        files.add(recorded.sha256((tmp_path / "a.mp4").read_bytes()))
    assert len(files) == 1, f"{len(files)} different files of the same images and audio"


def test_a_clip_is_the_same_on_any_machine(tmp_path: Path) -> None:
    """Images, audio and file of a clip have the hashes that are committed, whatever processor made them."""
    clip = render(plan(20230, 3, TASKS["ceflnet"], split="test"))
    write_clip(clip, tmp_path / "a.mp4")
    recorded.assert_as_recorded("drawn", tmp_path / "a.mp4", clip.frames, clip.waveform)


# What older processors lack. numpy has old and new names for it, and only warns of those that it does not know.
NUMPY = "AVX512_SPR AVX512_ICL AVX512_SKX AVX512CD AVX512F X86_V4"
LACKS = {
    "AVX-512": {"NPY_DISABLE_CPU_FEATURES": NUMPY, "OPENCV_CPU_DISABLE": "AVX512-SKX"},
    "AVX": {
        "NPY_DISABLE_CPU_FEATURES": f"{NUMPY} X86_V3 AVX2 FMA3 F16C AVX",
        "OPENCV_CPU_DISABLE": "AVX512-SKX,AVX2,AVX,FP16",
        "OPENBLAS_CORETYPE": "Nehalem",
    },
}
DRAWS = """
import sys, recorded
from emozoo.synthemo import Knobs, plan, render
clips = [render(plan(7, i, Knobs(occlusion=0.4, motion=0.8))) for i in range(14)]
print(*(recorded.sha256(x) for c in clips for x in (c.frames, c.waveform)))
"""


def test_processors_that_lack_something_draw_the_same() -> None:
    """Images and audio must not follow from a processor's own sine, or from its way of blurring in single precision:
    of 90 million values, 23 differed between two kinds, and each changed its clip's whole file."""
    here = Path(__file__).parent
    said = {}
    for name, lacks in {"nothing": {}, **LACKS}.items():
        path = os.pathsep.join(filter(None, (str(here), os.environ.get("PYTHONPATH"))))
        words = {**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore", **lacks}
        done = subprocess.run([sys.executable, "-c", DRAWS], capture_output=True, text=True, env=words)
        assert done.returncode == 0, done.stderr
        said[name] = done.stdout.split()
    assert len(said["nothing"]) == 28
    for name in LACKS:
        assert said[name] == said["nothing"], f"a processor without {name} draws or speaks otherwise"


def test_files_are_ordinary_videos_with_audio_and_a_manifest(made: Path) -> None:
    """Every reader must open them: images, audio as long as the images, one valence and arousal per frame."""
    import torch  # noqa: F401  (before decord)
    from decord import AudioReader, VideoReader

    manifest = read_manifest(made / "manifest.csv")
    assert len(manifest) == 3
    for row in manifest:
        assert row.label in EMOTIONS
        assert row.box is None  # faces are looked for, as in any other data
        video = VideoReader(str(made / row.path))
        assert len(video) == 4
        assert video[0].shape == (72, 96, 3)
        assert video.get_avg_fps() == pytest.approx(5.0)
        audio = AudioReader(str(made / row.path), sample_rate=16000)[:].asnumpy()
        assert audio.shape[1] == pytest.approx(0.8 * 16000, abs=2200)
        assert 0.01 < np.abs(audio).max() <= 1.0
        with (made / row.path).with_suffix(".va.csv").open() as f:
            va = list(csv.DictReader(f))
        assert len(va) == 4
        assert all(-1 <= float(r["valence"]) <= 1 and -1 <= float(r["arousal"]) <= 1 for r in va)


def test_a_cut_run_is_continued_and_other_settings_are_refused(made: Path) -> None:
    """Finished clips are kept; clips of different settings never mix in one folder."""
    kept, lost = made / "clips/000000.mp4", made / "clips/000001.mp4"
    before, time = lost.read_bytes(), kept.stat().st_mtime_ns
    lost.unlink()
    generate(made, 3, 4, Knobs(talking=1), **SMALL)
    assert kept.stat().st_mtime_ns == time
    assert lost.read_bytes() == before
    assert not list(made.rglob("*.part"))
    with pytest.raises(DatasetError, match="other settings"):
        generate(made, 3, 5, Knobs(talking=1), **SMALL)


@pytest.mark.parametrize("name", ["manifest.csv", "clips/000000.mp4"])
def test_files_of_somebody_else_stay(tmp_path: Path, name: str) -> None:
    """Protects a table of labels and clips that are not ours: they are not replaced, and not taken for drawn ones."""
    mine = tmp_path / name
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    with pytest.raises(DatasetError, match=f"{mine} was not made here"):
        generate(tmp_path, 1, 0, Knobs(), **SMALL)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [mine]
    assert mine.read_text() == "mine"


def test_the_cascade_finds_the_faces() -> None:
    """Training and evaluation look for faces as in real data: OpenCV's cascade must find at least 95 % of them."""
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")
    found = wanted = 0
    for i in range(28):
        clip = render(plan(77, i, Knobs(occlusion=0), seconds=1.5, fps=2.0))
        for image, (x1, y1, x2, y2) in zip(clip.frames, clip.boxes, strict=True):
            boxes = cascade.detectMultiScale(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), 1.1, 4, minSize=(24, 24))
            off = [max(abs(x + w / 2 - (x1 + x2) / 2), abs(y + h / 2 - (y1 + y2) / 2)) for x, y, w, h in boxes]
            found += bool(off) and min(off) < 0.3 * (x2 - x1)
            wanted += 1
    assert found >= 0.95 * wanted, f"{found} of {wanted} faces found"


def test_nobody_is_in_two_splits() -> None:
    """Splits are by person, and a person's split is the same in every data set."""
    seen = {(c.person, c.split) for seed in (1, 2) for c in _causes(300, Knobs(), seed)}
    assert len({p for p, _ in seen}) == len(seen)
    shares = Counter(split_of(p) for p in range(200))
    assert shares == {"train": 140, "val": 20, "test": 40}
    assert {plan(3, i, split="val", **SMALL).split for i in range(30)} == {"val"}


def test_labels_are_balanced() -> None:
    """Every run of seven clips holds each emotion once, so small sets are balanced too."""
    labels = [c.label for c in _causes(70, Knobs())]
    assert all(sorted(labels[i : i + 7]) == list(EMOTIONS) for i in range(0, 70, 7))


@pytest.mark.parametrize("view", VIEWS)
def test_reliability_is_the_share_of_clips_that_show_the_label(view: str) -> None:
    """A view with reliability 0.7 shows the label in 70 % of the clips, the other views stay perfect."""
    causes = _causes(600, replace(Knobs(face=1, scene=1, voice=1, action=1), **{view: 0.7}))
    at = VIEWS.index(view)
    assert np.mean([c.shows[at] == c.label for c in causes]) == pytest.approx(0.7, abs=0.06)
    assert all(c.conflicts in ((), (view,)) for c in causes)


def test_combined_views_tell_nothing_alone_and_everything_together() -> None:
    """With ``combine`` the best guess from one view is at chance, and the pair decides the label exactly."""
    causes = _causes(1400, Knobs(face=1, scene=1, combine=("face", "scene")))
    for at in range(4):
        table = Counter((c.shows[at], c.label) for c in causes)
        best = sum(max(table[e, label] for label in EMOTIONS) for e in EMOTIONS) / len(causes)
        assert best < 1 / 7 + 0.06
    pairs: dict[tuple[str, str], set[str]] = {}
    for c in causes:
        pairs.setdefault((c.shows[0], c.shows[1]), set()).add(c.label)
    assert len(pairs) == 49
    assert all(len(labels) == 1 for labels in pairs.values())
    assert causes[0].knobs.has_screen


def test_a_burst_stays_in_its_time() -> None:
    """Outside the recorded burst nothing is expressed; valence and arousal follow its strength."""
    for i in range(14):
        cause = plan(2, i, Knobs(burst=0.3))
        run = course(cause)
        inside = (run.times > cause.burst_start) & (run.times < cause.burst_end)
        assert cause.burst_end - cause.burst_start == pytest.approx(0.72)
        assert run.strength[~inside].max() == 0
        assert run.strength[inside].max() > 0.3
        assert np.abs(run.va).max() <= 1
        signs = {"happiness": (1, 1), "anger": (-1, 1), "fear": (-1, 1), "sadness": (-1, -1), "neutral": (0, 0)}
        if cause.label in signs:
            assert tuple(np.sign(run.va.sum(0))) == signs[cause.label]


def test_a_spot_is_the_only_place_where_the_scene_speaks() -> None:
    """With ``spot`` two emotions of the scene differ in the pixels of the recorded box and nowhere else."""
    cause = plan(6, 1, Knobs(spot=True, motion=0), **SMALL)
    a, b = (render(replace(cause, shows=("neutral", e, "neutral", "neutral"))).frames for e in ("happiness", "anger"))
    differs = (a != b).any(-1).any(0)
    x1, y1, x2, y2 = cause.spot
    grow = 0.35 * (x2 - x1)
    ys, xs = np.nonzero(differs)
    assert len(ys) > 20
    assert xs.min() >= x1 - grow
    assert xs.max() <= x2 + grow
    assert ys.min() >= y1 - grow
    assert ys.max() <= y2 + grow


def test_views_do_not_leak_into_each_other() -> None:
    """What the face shows must not change the audio, what the voice shows must not change a pixel."""
    cause = plan(8, 3, Knobs(talking=0), **SMALL)
    other = next(e for e in EMOTIONS if e not in cause.shows)
    face, scene, voice, action = cause.shows
    plain = render(cause)
    louder = render(replace(cause, shows=(face, scene, other, action)))
    assert np.array_equal(plain.frames, louder.frames)
    assert not np.array_equal(plain.waveform, louder.waveform)
    moved = render(replace(cause, shows=(other, scene, voice, action)))
    assert np.array_equal(plain.waveform, moved.waveform)
    assert not np.array_equal(plain.frames, moved.frames)


@pytest.mark.parametrize(
    "wrong", [{"face": 1.2}, {"combine": ("face",)}, {"combine": ("face", "smell")}, {"emotions": ("joy", "anger")}]
)
def test_wrong_knobs_are_refused_with_a_readable_line(wrong: dict[str, object]) -> None:
    """A knob out of range is an error at once, not odd data later."""
    with pytest.raises(UsageError, match="SynthEmo"):
        Knobs(**wrong)  # type: ignore[arg-type]


def test_drawing_needs_no_torch() -> None:
    """`emozoo synth` starts fast: nothing of it imports torch."""
    code = "import sys, emozoo.synthemo; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env={**os.environ}, check=False).returncode == 0
