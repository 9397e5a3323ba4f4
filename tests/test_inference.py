"""Prediction from Python: one path with the benchmark, and constant memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from media_files import write_video

from emozoo import inference
from emozoo.data.clips import ClipReader, to_batch
from emozoo.errors import UsageError
from emozoo.module import EmotionModule


@pytest.fixture(scope="module")
def drawn() -> list[np.ndarray]:
    """Twenty frames (144, 192, 3) of a drawn person."""
    from emozoo.synthemo import Knobs, plan, render

    return list(render(plan(3, 0, Knobs(), size=(192, 144), seconds=2.0, fps=10)).frames)


def small(arch: str, **options) -> EmotionModule:
    torch.manual_seed(0)
    return EmotionModule(arch, size="lite", **options).eval()


@pytest.mark.parametrize("arch", ["ceflnet", "caer_cross_attention", "dfan"])
def test_short_media_is_seen_as_the_benchmark_sees_it(arch, drawn, tmp_path):
    """Protects the one path: prediction and the data module's reading give the same scores for one clip."""
    module, path = small(arch), write_video(tmp_path / "clip.mp4", drawn)
    with ClipReader(path, module.spec) as reader:
        batch = to_batch([reader.read()], module.spec)
    with torch.inference_mode():
        logits = module.predict_step(batch, 0)["logits"]
    expected = module.scores(logits)[0].tolist()
    found = inference.predict(path, module)
    assert list(found.scores.values()) == pytest.approx(expected, abs=1e-5)


def test_list_gives_list_and_order(drawn, tmp_path):
    """Protects callers: a path gives a Prediction, a list a list in its order, a bad file does not end it."""
    good, module = write_video(tmp_path / "clip.mp4", drawn), small("ceflnet")
    one = inference.predict(str(good), module)
    assert isinstance(one, inference.Prediction)
    bad, again = inference.predict([tmp_path / "none.mp4", good], module)
    assert bad.error["code"] == "missing"
    assert again.to_dict() == one.to_dict()


def test_batches_do_not_change_answers(drawn, tmp_path):
    """Protects long media: how many windows are answered at a time changes nothing."""
    module, path = small("ceflnet"), write_video(tmp_path / "clip.mp4", drawn * 3)
    alone = inference.predict(path, module, batch_size=1)
    together = inference.predict(path, module, batch_size=8)
    for a, b in zip(alone.timeline, together.timeline, strict=True):
        assert list(a.scores.values()) == pytest.approx(list(b.scores.values()), abs=1e-5)


def test_prior_is_taken_out(drawn, tmp_path):
    """Protects `prior`: without the class prior of training, scores move towards the rare classes."""
    module, path = small("ceflnet"), write_video(tmp_path / "clip.mp4", drawn)
    module.log_prior.copy_(torch.tensor([0.01, 0.02, 0.07, 0.3, 0.4, 0.1, 0.1]).log())
    with_prior, without = (inference.predict(path, module, prior=p) for p in ("train", "uniform"))
    assert without.scores["anger"] > with_prior.scores["anger"]
    with pytest.raises(UsageError, match="prior"):
        inference.predict(path, module, prior="none")


def test_unsure_answers_have_no_label(drawn, tmp_path):
    """Protects abstention: below the least confidence there is no label, anywhere, and it is said; scores stay."""
    module, path = small("ceflnet"), write_video(tmp_path / "clip.mp4", drawn)
    sure = inference.predict(path, module)
    best = sure.scores[sure.label]
    assert inference.predict(path, module, min_confidence=best - 1e-3).label == sure.label
    unsure = inference.predict(path, module, min_confidence=1.0)
    assert unsure.scores == sure.scores
    assert unsure.label is unsure.tracks[0].label is unsure.timeline[0].label is None
    (warning,) = [w for w in unsure.warnings if w["code"] == "low_confidence"]
    assert warning["text"] == f"no label: the likeliest class, {sure.label}, has {best:.2f}, less than 1"
    assert set(unsure.to_dict()["tracks"][0]["timeline"][0]) == set(sure.to_dict()["tracks"][0]["timeline"][0])
    unsure.to_csv(tmp_path / "unsure.csv")
    assert ",ceflnet (untrained),0,0.0," in (tmp_path / "unsure.csv").read_text()
    unsure.plot(tmp_path / "unsure.png")
    unsure.video(tmp_path / "unsure.mp4")
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(UsageError, match="min_confidence"):
            inference.predict(path, module, min_confidence=wrong)


def test_smoothing_averages_over_time(drawn, tmp_path):
    """Protects `smooth`: each moment becomes the mean of those around it, labels and means follow, the JSON says it;
    valence and arousal are averaged, too."""
    clips = [(f * (1 - i / 160)).astype(np.uint8) for i, f in enumerate(drawn * 4)]
    module, path = small("ceflnet"), write_video(tmp_path / "clip.mp4", clips)
    raw, smooth = inference.predict(path, module), inference.predict(path, module, smooth=3.0)
    assert len(raw.timeline) == len(smooth.timeline) == 8
    for name in raw.classes:
        before = [m.scores[name] for m in raw.timeline]
        after = [m.scores[name] for m in smooth.timeline]
        assert after[0] == pytest.approx(np.mean(before[:2]))
        assert after[1:-1] == pytest.approx(np.convolve(before, np.ones(3) / 3, "valid"))
    assert smooth.timeline[4].label == max(smooth.timeline[4].scores, key=smooth.timeline[4].scores.get)
    assert smooth.scores["fear"] == pytest.approx(np.mean([m.scores["fear"] for m in smooth.timeline]))
    assert smooth.to_dict()["options"] == {"smooth_s": 3.0}
    assert "options" not in raw.to_dict()
    assert inference.predict(path, module, smooth=1.0).timeline[3].scores == raw.timeline[3].scores  # itself alone
    va = small("recursive_joint_attention")
    curve, flat = inference.predict(path, va), inference.predict(path, va, smooth=100.0)
    assert flat.timeline[0].valence == flat.timeline[-1].valence == pytest.approx(curve.valence)


def test_which_faces_get_a_timeline(drawn, tmp_path):
    """Protects `min_face` and `max_tracks`: small faces and those beyond the number are left out and counted, and the
    options are part of what a resumed job compares."""
    frames = [np.concatenate([f, np.zeros_like(f)], axis=1) for f in drawn]
    for whole, f in zip(frames, drawn):
        whole[18:126, 216:360] = cv2.resize(f, (144, 108))
    module, path = small("ceflnet"), write_video(tmp_path / "two.mp4", frames)
    both = inference.predict(path, module)
    heights = [max(b[2] - b[0], b[3] - b[1]) for b in (t.timeline[0].box for t in both.tracks)]
    assert len(heights) == 2
    limit = sum(heights) / 2
    large = inference.predict(path, module, min_face=limit)
    assert [t.timeline[0].box for t in large.tracks] == [both.tracks[int(np.argmax(heights))].timeline[0].box]
    (warning,) = [w for w in large.warnings if w["code"] == "more_faces"]
    assert warning["text"] == f"1 more face got no timeline: 1 smaller than {limit:g} pixels"
    one = inference.predict(path, module, max_tracks=1)
    assert [t.timeline[0].box for t in one.tracks] == [both.tracks[0].timeline[0].box]
    assert "1 beyond the 1 with most face frames" in one.warnings[0]["text"]
    none = inference.predict(path, module, min_face=4000)
    assert none.label is None
    assert none.warnings[0]["text"].startswith("no face of 4000 pixels was found, and 2 smaller")
    assert none.options == {"min_face_px": 4000}
    plans = [inference.Predictor(module, **o).settings for o in ({}, {"min_face": 9}, {"max_tracks": 1}, {"smooth": 2})]
    assert len({str(p) for p in plans}) == 4
    for wrong in ({"min_face": -1}, {"max_tracks": 0}, {"smooth": float("nan")}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            inference.predict(path, module, **wrong)


def test_one_entry_of_a_long_file_is_one_entry(drawn, tmp_path):
    """Protects timelines of valence and arousal: clip by clip is for files of one window, however few entries are asked
    for; an entry goes from its start to its end."""
    module = small("recursive_joint_attention")
    frames = drawn * (1 + int(module.spec.window_s))  # 2 s each
    path = write_video(tmp_path / "long.mp4", frames)
    (track,) = inference.predict(path, module, every=1000.0).tracks
    assert [(m.start_s, m.end_s) for m in track.timeline] == [(0.0, pytest.approx(len(frames) / 10))]
    short = write_video(tmp_path / "short.mp4", drawn)
    (track,) = inference.predict(short, module, every=1000.0).tracks
    assert len(track.timeline) > 1


@pytest.mark.parametrize("every", [0.0, -1.0, float("nan")])
def test_every_must_be_positive(every, tmp_path):
    """Protects from endless timelines."""
    with pytest.raises(UsageError, match="every"):
        inference.predict(tmp_path / "x.mp4", small("ceflnet"), every=every)


def test_names_of_results_never_collide(tmp_path):
    """Protects written results: files that differ in suffix or folder alone get names of their own."""
    for name in ("a/x.mp4", "a/x.mov", "b/x.mp4", ".hidden/x.mp4", "a/note.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    items = inference.find_media([tmp_path])
    assert [i.name for i in items] == ["a/x.mov", "a/x.mp4", "b/x"]
    items = inference.find_media([tmp_path / "a" / "x.mp4", tmp_path / "b" / "x.mp4"])
    assert len({i.name for i in items}) == 2
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no media file"):
        inference.find_media([tmp_path / "empty"])


MEMORY = """
import resource, sys
from emozoo import inference
from emozoo.module import EmotionModule
found = inference.predict(sys.argv[1], EmotionModule("ceflnet", size="lite"), every=float(sys.argv[2]))
assert found.error is None and len(found.timeline) == 4, found
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def test_long_video_needs_no_more_memory(drawn, tmp_path):
    """Protects long files: ten times the length, the same memory (MiB of the process at its highest)."""
    short, long = write_video(tmp_path / "short.mp4", drawn * 2), write_video(tmp_path / "long.mp4", drawn * 20)

    def highest(path: Path, every: float) -> int:
        done = subprocess.run([sys.executable, "-c", MEMORY, path, str(every)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    assert highest(long, 10.0) < highest(short, 1.0) + 24
