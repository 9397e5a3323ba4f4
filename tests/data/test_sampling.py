"""Which frames a model sees."""

from __future__ import annotations

import json

import numpy as np
import pytest

from emozoo.data import sampling
from emozoo.errors import UsageError

# Aff-Wild2 windows (public code of Praveen et al. 2023): 16 clips of 32 frames, 8 taken of each.
AFF_CLIPS, AFF_CLIP, AFF_FRAMES = 16, 32, 8
AFF_WINDOW = AFF_CLIPS * AFF_CLIP
AFF_FIRST_END = AFF_WINDOW - AFF_CLIP + 1  # 481: the first clip ends at frame 1 then


def even(n: int, fps: float = 25.0) -> np.ndarray:
    return np.arange(n) / fps


def aff_wild2_ends(n: int, training: bool) -> np.ndarray:
    """Last frames (numbered from 1) of the 512-frame windows of a video with ``n`` frames, ascending.

    481..512, then 993..1024, and so on: every frame ends exactly one clip. Training keeps ends up to ``n``, evaluation
    runs on below ``n + 482`` so that the tail is predicted too.
    """
    ends = AFF_FIRST_END + np.arange(n + AFF_WINDOW)
    ends = ends[(ends - AFF_FIRST_END) % AFF_WINDOW < AFF_CLIP]
    return ends[ends <= n] if training else ends[ends < n + AFF_FIRST_END + 1]


def aff_wild2_clip(end: int, present: np.ndarray) -> np.ndarray:
    """The 8 frames (numbered from 1) sampled from the clip ``end - 31 .. end``; empty where it holds none.

    ``present``: ascending frame numbers that may be used (training: the labelled ones; evaluation: those that exist).
    """
    inside = present[np.searchsorted(present, end - AFF_CLIP + 1) : np.searchsorted(present, end, "right")]
    if not len(inside):
        return inside
    step = max(1, len(inside) // AFF_FRAMES)
    taken = inside[::-1][::step][:AFF_FRAMES][::-1]
    return np.pad(taken, (0, AFF_FRAMES - len(taken)), mode="edge")


def aff_wild2_windows(n: int, labelled: np.ndarray | None = None) -> list[np.ndarray]:
    """Windows of (16, 8) frame numbers for training on a video with ``n`` frames, of which ``labelled`` have a label.

    A window with an empty clip is dropped, as in the public code (so a video below 481 frames gives none).
    """
    present = np.arange(1, n + 1) if labelled is None else np.asarray(labelled)
    windows = []
    for end in aff_wild2_ends(n, training=True):
        clips = [aff_wild2_clip(int(e), present) for e in end - AFF_CLIP * np.arange(AFF_CLIPS - 1, -1, -1)]
        if all(len(c) for c in clips):
            windows.append(np.stack(clips))
    return windows


def test_overlap_test_indices_are_those_of_the_published_code():
    """Protects the comparability of CEFLNet: the frames of a 105-frame video, as its public code takes them."""
    plan = sampling.plan(even(105), "overlap", 7, 5)
    expected = [[s, s + 3, s + 6, s + 9, s + 12] for s in range(15, 76, 10)]
    assert plan.indices.tolist() == expected
    assert plan.mask.all()


def test_overlap_meets_the_golden_table(golden_values):
    """Protects the sampler against the table that was made by running the public code."""
    golden = json.loads((golden_values / "ceflnet_sampling.json").read_text())
    case = golden["cases"][0]
    plan = sampling.plan(even(case["video_frames"]), "overlap", 7, case["frames_per_clip"])
    assert plan.indices.tolist() == case["test_frame_indices"]
    bounds = np.array(golden["training_bounds"]["clip_frame_range"])
    draws = np.stack([sampling.overlap(7, 5, np.random.default_rng(i)) for i in range(400)])
    assert draws.min(axis=(0, 2)).tolist() == bounds[:, 0].tolist()
    assert draws.max(axis=(0, 2)).tolist() == bounds[:, 1].tolist()


def test_overlap_training_draws_are_distinct_sorted_and_share_their_start():
    """Protects the training rule: F distinct offsets out of 15 a clip, one start for all clips."""
    for seed in range(50):
        draw = sampling.overlap(7, 5, np.random.default_rng(seed))
        assert (np.diff(draw, axis=1) > 0).all()
        starts = draw - 10 * np.arange(7)[:, None]
        assert starts.max() - starts.min() <= 14 + 29
        assert (draw[:, -1] - draw[:, 0] <= 14).all()
    assert not np.array_equal(*(sampling.overlap(7, 5, np.random.default_rng(s)) for s in (0, 1)))


@pytest.mark.parametrize("n", [1, 2, 11, 53, 104, 847])
@pytest.mark.parametrize(("clips", "frames"), [(7, 5), (1, 1), (3, 7), (9, 15)])
def test_overlap_fits_any_length(n, clips, frames):
    """Protects short and long videos: laid on the positions in order, within the file, ends reachable."""
    plan = sampling.plan(even(n), "overlap", clips, frames)
    assert plan.indices.shape == (clips, frames)
    assert plan.indices.min() >= 0
    assert plan.indices.max() < n
    assert (np.diff(plan.indices, axis=1) >= 0).all()
    length = sampling.overlap_length(clips)
    whole = sampling.nearest(even(n), np.linspace(0, even(n)[-1], length)) if n > 1 else np.zeros(length)
    assert whole[0] == 0
    assert whole[-1] == n - 1


def test_overlap_refuses_more_frames_than_a_clip_has():
    """Protects against a spec that cannot be met."""
    with pytest.raises(UsageError, match="1 to 15"):
        sampling.overlap(7, 16)


def test_segments_take_the_centre_in_test_and_stay_inside_in_training():
    """Protects TSN sampling: 4 segments of 25 frames, snippets of 5 consecutive frames."""
    assert sampling.segments(100, 4, 5)[:, 0].tolist() == [10, 35, 60, 85]
    starts = np.stack([sampling.segments(100, 4, 5, np.random.default_rng(i))[:, 0] for i in range(300)])
    assert starts.min(axis=0).tolist() == [0, 25, 50, 75]
    assert starts.max(axis=0).tolist() == [20, 45, 70, 95]


def test_segments_play_a_short_video_again():
    """Protects the loop padding: 6 frames for 2 x 5."""
    assert sampling.segments(6, 2, 5).tolist() == [[0, 1, 2, 3, 4], [5, 0, 1, 2, 3]]


def test_segments_at_another_rate_follow_the_clock():
    """Protects ``rate``: frames of a 120 fps file taken at 30 a second lie four apart."""
    plan = sampling.plan(even(240, 120), "segments", 2, 8, rate=30.0)
    assert (np.diff(plan.indices, axis=1) == 4).all()


def test_trail_follows_the_aff_wild2_rule_at_30_fps():
    """Protects the 16 x 8 window: clips 32 frames apart, every 4th frame counted back from the last."""
    plan = sampling.plan(even(512, 30), "trailing", 16, 8, clip_s=32 / 30)
    assert plan.mask.all()
    assert plan.indices[:, -1].tolist() == list(range(31, 512, 32))
    assert plan.indices[-1].tolist() == list(range(483, 512, 4))
    assert plan.indices[0].tolist() == list(range(3, 32, 4))


@pytest.mark.parametrize("n", [7, 8, 15, 16, 23, 24, 31, 32])
def test_trail_shrinks_its_stride_where_the_media_begins(n):
    """Protects the dilation rule: 24-31 frames every 3rd, 16-23 every 2nd, 8-15 each, fewer repeat the last."""
    plan = sampling.plan(even(n, 30), "trailing", 1, 8, clip_s=32 / 30)
    expected = aff_wild2_clip(32, np.arange(33 - n, 33)) - (33 - n)
    assert plan.indices[0].tolist() == expected.tolist()


def test_trail_masks_leading_clips_that_the_media_does_not_reach():
    """Protects short media: 2 of 4 clips exist, the last one ends with the media."""
    plan = sampling.plan(even(50), "trailing", 4, 3, clip_s=1.0)
    assert plan.mask.tolist() == [[False] * 3, [False] * 3, [True] * 3, [True] * 3]
    assert plan.indices[-1, -1] == 49


def test_trail_training_ends_anywhere_that_leaves_room():
    """Protects training on long media: the end is drawn, the clips stay inside."""
    stamps = even(250)
    plans = [sampling.plan(stamps, "trailing", 4, 3, clip_s=1.0, rng=np.random.default_rng(i)) for i in range(50)]
    assert all(p.mask.all() for p in plans)
    assert len({int(p.indices[-1, -1]) for p in plans}) > 20


@pytest.mark.parametrize("kind", ["overlap", "segments", "trailing"])
def test_sampling_is_by_time_not_by_number(kind):
    """Protects variable frame rates: 2 s at 30 fps, then 2 s at 6 fps; the middle of time is not the middle frame."""
    stamps = np.concatenate([np.arange(60) / 30, 2 + np.arange(12) / 6])
    plan = sampling.plan(stamps, kind, 4, 1, clip_s=1.0)
    even_plan = sampling.plan(even(100), kind, 4, 1, clip_s=1.0)
    assert np.abs(stamps[plan.indices] - even(100)[even_plan.indices]).max() < 0.25


def test_one_frame_is_enough_for_all():
    """Protects stills: every rule gives its C x F with frame 0."""
    for kind in ("overlap", "segments", "trailing"):
        plan = sampling.plan(np.zeros(1), kind, 3, 4, clip_s=1.0)
        assert plan.indices.tolist() == [[0] * 4] * 3
        assert plan.mask.all()


def test_a_stream_takes_its_share_of_a_clip():
    """Protects streams of different F: the middle frame, all frames, an even spread."""
    assert sampling.subset(16, 1, "center").tolist() == [8]
    assert sampling.subset(5, 5, "all").tolist() == [0, 1, 2, 3, 4]
    assert sampling.subset(16, 4, "all").tolist() == [2, 6, 10, 14]


def test_aff_wild2_windows_meet_the_golden_table(golden_values):
    """Protects the literal Aff-Wild2 windows: counts, ends and sampled frames as the public code made them."""
    golden = json.loads((golden_values / "rja_windows.json").read_text())
    for case in golden["cases"]:
        n, missing = case["video_frames"], case.get("frames_without_label") or []
        unlabelled = {f for lo, hi in missing for f in range(lo, hi + 1)}
        labelled = np.array([f for f in range(1, n + 1) if f not in unlabelled])
        windows, training = aff_wild2_windows(n, labelled), case["training"]
        assert len(windows) == training["windows"], case["name"]
        if windows:
            stacked = np.stack(windows)
            assert len(np.unique(stacked)) == training["distinct_sampled_frames"]
            assert len(np.unique(stacked[:, :, -1])) == training["distinct_label_frames"]
        for key, window in (("first_window", 0), ("last_window", -1), ("window_33", 32)):
            if key in training:
                assert windows[window][0].tolist() == training[key]["first_clip_frames"]
                assert windows[window][-1].tolist() == training[key]["last_clip_frames"]
        for clip in training.get("clip_examples", []):
            assert aff_wild2_clip(clip["clip_end_frame"], labelled).tolist() == clip["sampled_frames"]
        ends = aff_wild2_ends(n, training=False)
        assert len(ends) == case["evaluation"]["windows"]
        ranges = [[int(block[0]), int(block[-1])] for block in np.split(ends, np.flatnonzero(np.diff(ends) > 1) + 1)]
        assert ranges == case["evaluation"]["window_end_ranges"]
