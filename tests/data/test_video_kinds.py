"""Videos as cameras, phones and editors leave them: odd clocks, pixels, matrices, tracks, rates and containers."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from fractions import Fraction

import av
import numpy as np
import pytest

from emozoo.data import faces, media
from emozoo.data.clips import ClipReader
from emozoo.data.clock import close_jumps, follow_on
from emozoo.errors import VideoError
from emozoo.spec import AudioSpec, ClipSpec, StreamSpec

FRAME = StreamSpec("frame", (12, 16), 4)
FACE = StreamSpec("face", (24, 24), 3)
AUDIO = StreamSpec("audio", (40, 101), mean=(-30.0,), std=(20.0,), audio=AudioSpec())


def spec(**streams: StreamSpec) -> ClipSpec:
    return ClipSpec(streams, 3, "trailing", window_s=4.0, clip_s=1.0)


def write(
    path, times, *, images=None, unit=Fraction(1, 1000), audio=(), pixels=None, matrix=None, defaults=None, step=0
):
    """H.264 whose frame i is grey ``4 i`` (or ``images``) at ``times[i]`` seconds.

    ``audio``: tracks, each a list of (seconds at which it is said to begin, amplitude of a tone, seconds).
    """
    height, width = (48, 64) if images is None else images[0].shape[:2]
    with av.open(str(path), "w") as box:
        video = box.add_stream("libx264", rate=25, options={"bf": "0", "g": "8", "crf": "10"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.codec_context.time_base = unit
        if pixels:
            video.codec_context.sample_aspect_ratio = pixels
        if matrix:
            video.set_display_matrix(*matrix) if isinstance(matrix, tuple) else matrix(video)
        tracks = [box.add_stream("pcm_s16le", rate=16000, layout="mono") for _ in audio]
        for track, flag in zip(tracks, defaults or []):
            track.disposition = flag
        for i, time in enumerate(times):
            image = np.full((height, width, 3), min(4 * i, 255), np.uint8) if images is None else images[i]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = round(time / unit), unit
            box.mux(video.encode(frame))
        box.mux(video.encode())
        for track, pieces in zip(tracks, audio):
            for begin, amplitude, seconds in pieces:
                for first in range(0, round(seconds * 16000), 1600):
                    wave = amplitude * np.sin(np.arange(first, first + 1600) / 5)
                    frame = av.AudioFrame.from_ndarray(wave.astype(np.int16)[None], format="s16", layout="mono")
                    frame.sample_rate, frame.time_base = 16000, Fraction(1, 16000)
                    frame.pts = round(begin * 16000) + first
                    packets = track.encode(frame)
                    box.mux(packets)
            box.mux(track.encode())
    return path


def steady(n: int, start: float = 0.0, fps: float = 25.0) -> list[float]:
    return [start + i / fps for i in range(n)]


# -- clocks that jump ------------------------------------------------------------------------------------------------


JUMPS = {
    "an epoch after the first frame": [0.0, *steady(39, 1.7e9)],
    "an epoch in the middle": steady(20) + steady(20, 1.7e9),
    "eleven days before the end": steady(39) + [1e6],
    "an hour before the end": steady(39) + [3600.0],
    "ten minutes in the middle": steady(20) + steady(20, 600.0),
    "two jumps": steady(10) + steady(15, 5000.0) + steady(15, 1.0e8),
    "an epoch from the start on": steady(40, 1.7e9),
}


@pytest.mark.parametrize("times", JUMPS.values(), ids=JUMPS)
def test_a_clock_that_jumps_costs_no_more_than_its_frames(tmp_path, backend, times):
    """Protects the whole process, time and memory: a gap that nothing explains is closed, and said."""
    path = write(tmp_path / "a.mkv", times)
    with ClipReader(path, spec(action=FRAME)) as reader:
        np.testing.assert_allclose(reader.images.stamps, np.arange(40) / 25, atol=3e-3)
        assert reader.duration == pytest.approx(1.6, abs=0.05)
        assert ("time_jump" in [w.code for w in reader.warnings]) == (times[-1] - times[0] > 10)
        shown = [float(p.mean()) for p in reader.images.frames([0, 1, 19, 20, 39])]
        np.testing.assert_allclose(shown, [0, 4, 76, 80, 156], atol=4)
        assert reader.read().masks["action"].any()


def test_a_long_file_with_a_jump_is_read_block_by_block(tmp_path, monkeypatch):
    """Protects long files: the jump is found without decoding, and frames behind it are found again."""
    monkeypatch.setattr(media, "CHECK_BLOCK", 16)
    video = media.open_frames(write(tmp_path / "a.mkv", steady(20) + steady(20, 1.7e9)))
    np.testing.assert_allclose(video.stamps, np.arange(40) / 25, atol=3e-3)
    assert video.check(0, 39).all()
    np.testing.assert_allclose([p.mean() for p in video.frames([35, 38])], [140, 152], atol=4)
    np.testing.assert_allclose([p.mean() for p in video.frames([3])], [12], atol=4)


@pytest.mark.parametrize(
    "times",
    [
        steady(20) + steady(20, 60.0),  # a slide shown for a minute
        steady(20) + steady(20, 290.0),
        [0.0, 0.04, 0.08, 2.0, 2.04, 2.08, 2.5, 7.0, 7.04],
        [400.0 * i for i in range(6)],  # one image every few minutes
        steady(30, fps=2),
    ],
)
def test_lawful_gaps_stay_as_they_are(tmp_path, backend, times):
    """Protects screen recordings, time lapses and variable rates: their times are the truth."""
    video = media.open_frames(write(tmp_path / "a.mkv", times))
    np.testing.assert_allclose(video.stamps, times, atol=2e-3)
    assert "time_jump" not in [w.code for w in video.warnings]


def test_a_gap_in_which_audio_goes_on_is_no_jump(tmp_path, backend):
    """Protects a lecture whose one slide is shown for ten minutes while somebody speaks."""
    times = steady(10) + steady(10, 600.0)
    with ClipReader(write(tmp_path / "a.mkv", times, audio=[[(0.0, 9000, 600.4)]]), spec(action=FRAME)) as reader:
        np.testing.assert_allclose(reader.images.stamps, times, atol=2e-3)


def test_audio_behind_a_jump_stays_with_its_images(tmp_path, backend):
    """Protects alignment: when camera and microphone jump together, the tone is heard beside its frames."""
    pieces = [(0.0, 0, 0.8), (5000.0, 9000, 0.8)]
    path = write(tmp_path / "a.mkv", steady(20) + steady(20, 5000.0), audio=[pieces])
    with ClipReader(path, spec(action=FRAME, audio=AUDIO)) as reader:
        heard = np.abs(reader.audio.read(0.0, 1.6)).reshape(16, -1).max(1)
        assert reader.audio.duration == pytest.approx(1.6, abs=0.06)
    assert heard[:8].max() < 0.01
    assert heard[8:].min() > 0.2


@pytest.mark.parametrize(("announced", "lost"), [(5000.8, False), (5002.8, True)])
def test_a_jump_is_no_audio_that_is_lost(tmp_path, announced, lost):
    """Protects from a warning of damage: containers that announce the length of their audio count the jump in."""
    pieces = [(0.0, 0, 0.8), (5000.0, 9000, 0.8)]
    path = write(tmp_path / "a.mkv", steady(20) + steady(20, 5000.0), audio=[pieces])
    header = media.read_header(path)._replace(audio_s=announced)
    audio = media.AudioTrack(path, 16000, header, media.open_frames(path).clock)
    audio.read(0.0, 1.6)
    assert ("broken_tail" in [w.code for w in audio.warnings]) == lost


def test_audio_whose_clock_starts_elsewhere_is_laid_beside_the_images(tmp_path):
    """Protects files whose audio starts at zero and whose images at an epoch."""
    path = write(tmp_path / "a.mkv", steady(40, 1.0e6), audio=[[(0.0, 9000, 1.6)]])
    with ClipReader(path, spec(action=FRAME, audio=AUDIO)) as reader:
        raw = reader.read()
        assert raw.masks["audio"].any()
        assert "time_jump" in [w.code for w in raw.warnings]


def test_audio_alone_whose_clock_jumps_is_as_long_as_its_samples(tmp_path):
    """Protects audio files: 2 s of it with an epoch between are 2 s."""
    path = tmp_path / "a.mka"
    with av.open(str(path), "w", format="matroska") as box:
        track = box.add_stream("pcm_s16le", rate=16000, layout="mono")
        for begin in (0.0, 1.0e6):
            frame = av.AudioFrame.from_ndarray(np.full((1, 16000), 9000, np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.time_base, frame.pts = 16000, Fraction(1, 16000), round(begin * 16000)
            box.mux(track.encode(frame))
        box.mux(track.encode())
    with ClipReader(path, spec(audio=AUDIO)) as reader:
        assert reader.duration == pytest.approx(2.0, abs=0.01)
        assert "time_jump" in [w.code for w in reader.warnings]


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([0, 1, 2, 0, 1, 2], [0, 1, 2, 3, 4, 5]),
        ([5, 6, 7, 1, 2, 3], [0, 1, 2, 2.125, 2.25, 3]),
        ([*range(40), *range(40)], list(range(80))),
        ([None] * 4, [0, 0.04, 0.08, 0.12]),
        ([7, 7, 7, 7], [0, 0.04, 0.08, 0.12]),
        ([0, 1, None, 3, 4], [0, 1, 2, 3, 4]),
        ([0, 1, 1, 2, 3], [0, 1, 1.125, 2, 3]),
        ([0, 2, 3, 1, 5, 6, 4], [0, 1, 2, 3, 4, 5, 6]),  # the order of decoding
    ],
)
def test_times_that_are_missing_repeated_or_run_back(times, expected):
    """Protects the order of frames: seconds rise whatever the file says, and keep what can be kept."""
    stamps = follow_on(times, 25).stamps
    assert (np.diff(stamps) > 0).all()
    if times[0] != 5 and times != [0, 1, 2, 0, 1, 2]:
        np.testing.assert_allclose(stamps, expected)


def test_no_frames_have_no_jumps():
    """Protects empty and single clips."""
    assert not len(close_jumps(np.zeros(0)).stamps)
    assert close_jumps(np.zeros(1)).stamps.tolist() == [0]


def test_a_clock_set_back_counts_on(tmp_path, backend):
    """Protects recordings joined without care: the second part follows the first, all frames are there."""
    path = tmp_path / "a.ts"
    parts = [write(tmp_path / f"{k}.ts", steady(40), unit=Fraction(1, 90000)).read_bytes() for k in (0, 1)]
    path.write_bytes(b"".join(parts))
    video = media.open_frames(path)
    assert 76 <= len(video.stamps) <= 80  # frames at the joint may count as damaged
    assert 3.0 < video.stamps[-1] < 3.4
    assert (np.diff(video.stamps) > 0).all()
    last = len(video.stamps) - 1
    np.testing.assert_allclose([p.mean() for p in video.frames([10, last - 29, last])], [40, 40, 156], atol=4)


# -- images as a player shows them ---------------------------------------------------------------------------------


def four_corners(height: int = 48, width: int = 96) -> np.ndarray:
    """Corners of four greys: 40 top left, 100 top right, 160 bottom left, 220 bottom right."""
    image = np.empty((height, width, 3), np.uint8)
    image[: height // 2, : width // 2], image[: height // 2, width // 2 :] = 40, 100
    image[height // 2 :, : width // 2], image[height // 2 :, width // 2 :] = 160, 220
    return image


def corners(image: np.ndarray) -> list[list[int]]:
    """The four greys, as rows, to the nearest of those drawn."""
    greys = np.array([40, 100, 160, 220])
    height, width = image.shape[:2]
    at = [[image[y, x, 0] for x in (width // 6, -width // 6)] for y in (height // 6, -height // 6)]
    return [[int(greys[np.abs(greys - int(v)).argmin()]) for v in row] for row in at]


DRAWN = np.array([[40, 100], [160, 220]])
MATRICES = {  # a, b, c, d of the matrix: x' = a x + c y, y' = b x + d y; y points down
    "as stored": ((1, 0, 0, 1), DRAWN),
    "mirrored": ((-1, 0, 0, 1), DRAWN[:, ::-1]),
    "upside down and mirrored": ((1, 0, 0, -1), DRAWN[::-1]),
    "half a turn": ((-1, 0, 0, -1), DRAWN[::-1, ::-1]),
    "a quarter clockwise": ((0, 1, -1, 0), np.rot90(DRAWN, -1)),
    "a quarter back": ((0, -1, 1, 0), np.rot90(DRAWN)),
    "exchanged": ((0, 1, 1, 0), DRAWN.T),
    "exchanged and half a turn": ((0, -1, -1, 0), np.rot90(DRAWN, 2).T),
}


def with_matrix(path, numbers: tuple[int, int, int, int]):
    """Writes the matrix into the track header of an mp4."""
    data = bytearray(path.read_bytes())
    at = data.rindex(b"tkhd") + 4 + 4 + 20 + 16
    a, b, c, d = (n * 65536 for n in numbers)
    values = [a, b, 0, c, d, 0, 0, 0, 1 << 30]
    data[at : at + 36] = b"".join(v.to_bytes(4, "big", signed=True) for v in values)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(("numbers", "expected"), MATRICES.values(), ids=MATRICES)
def test_images_are_turned_and_mirrored_as_their_matrix_says(tmp_path, backend, numbers, expected):
    """Protects selfies and turned phones: all eight ways, in both decoders."""
    path = with_matrix(write(tmp_path / "a.mp4", steady(10), images=[four_corners()] * 10), numbers)
    video = media.open_frames(path)
    assert video.size == ((48, 96) if numbers[0] == 0 else (96, 48))
    for image in video.frames([0, 7]):
        assert image.shape == (video.size[1], video.size[0], 3)
        assert corners(image) == expected.tolist()


@pytest.mark.parametrize(
    ("pixels", "size"),
    [
        (Fraction(2, 1), (192, 48)),
        (Fraction(1, 2), (96, 96)),
        (Fraction(16, 15), (102, 48)),
        (Fraction(1, 1), (96, 48)),
        (Fraction(500, 1), (96, 48)),  # cannot be meant
    ],
)
@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_pixels_that_are_not_square_are_stretched(tmp_path, backend, pixels, size, ending):
    """Protects DVDs and old cameras: faces have the width that a player shows."""
    path = write(tmp_path / f"a.{ending}", steady(10), images=[four_corners()] * 10, pixels=pixels)
    video = media.open_frames(path)
    assert video.size == size
    assert next(video.frames([5])).shape == (size[1], size[0], 3)
    with ClipReader(path, spec(action=FRAME)) as reader:
        assert reader.size == size


def test_stretched_images_are_turned_afterwards(tmp_path, backend):
    """Protects turned video with wide pixels: 96 x 48 pixels twice as wide, a quarter turned, are 48 x 192."""
    path = write(tmp_path / "a.mp4", steady(10), images=[four_corners()] * 10, pixels=Fraction(2, 1))
    video = media.open_frames(with_matrix(path, (0, 1, -1, 0)))
    assert video.size == (48, 192)
    assert corners(next(video.frames([0]))) == np.rot90(DRAWN, -1).tolist()


# -- slow, fast, short -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "times",
    [
        steady(20, fps=0.9),
        steady(8, fps=0.1),
        steady(1),
        steady(2),
        steady(4),
        steady(5),
        steady(60, fps=240),
        steady(90, fps=1000),
        [b + i / 25 for b in (0, 3, 6.5, 30) for i in range(4)],
        [b + i / 25 for b in (0, 1.3, 2.6) for i in range(2)],
    ],
    ids=lambda t: f"{len(t)} frames in {t[-1]:.2f} s",
)
def test_a_face_in_each_frame_is_found_in_each_frame(tmp_path, monkeypatch, times):
    """Protects slow, bursty, very fast and very short clips: no frame that shows the face counts as without one."""
    found = np.array([[10, 10, 40, 40, 0.9]], np.float32)
    monkeypatch.setattr(faces, "detector", lambda name: lambda image: found)
    with ClipReader(write(tmp_path / "a.mkv", times), spec(face=FACE)) as reader:
        assert len(reader.tracks) == 1
        assert all(reader.tracks[0].box_at(float(t)) is not None for t in reader.images.stamps)
        raw = reader.read()
    assert not raw.no_face
    assert raw.masks["face"][-1].all()


def test_a_face_that_is_gone_ends_its_track():
    """Protects against tracks that never end: where frames were looked at without a face, the face is gone."""
    box, none = np.array([[10, 10, 40, 40, 0.9]], np.float32), np.zeros((0, 5), np.float32)
    looks = [(t / 5, none if 10 <= t < 30 else box) for t in range(40)]
    first, second = sorted(faces.link(iter(looks), 0.2), key=lambda t: t.start)
    assert first.box_at(3.0) is None
    assert (first.face_frames, second.face_frames) == (10, 10)


# -- audio -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        ([(2.0, 9000, 2.0)], "starts at 2.00 s"),
        ([(0.0, 9000, 1.5)], "ends at 1.50 s"),
        ([(0.0, 9000, 1.0), (2.5, 9000, 1.5)], "from 1.00 to 2.50 s"),
        ([(0.0, 9000, 4.0)], ""),
    ],
    ids=["late", "early", "hole", "whole"],
)
def test_a_part_without_audio_is_mentioned(tmp_path, pieces, said):
    """Protects honesty: audio that starts late, ends early or has a hole is said to, and the rest keeps its place."""
    path = write(tmp_path / "a.mkv", steady(100), audio=[pieces])
    with ClipReader(path, spec(action=FRAME, audio=AUDIO)) as reader:
        warnings = [w.text for w in reader.read().warnings if w.code == "short_audio"]
        last = pieces[-1]
        assert np.abs(reader.audio.read(last[0] + 0.1, last[0] + last[2] - 0.1)).reshape(4, -1).max(1).min() > 0.2
        if len(pieces) > 1:
            assert np.abs(reader.audio.read(1.1, 2.4)).max() < 0.01
    assert len(warnings) == bool(said)
    assert all(said in w for w in warnings)


def test_holes_are_found_in_windows_of_long_audio(tmp_path, monkeypatch):
    """Protects long media: audio behind a hole is where it belongs, read by windows or as a whole."""
    path = write(tmp_path / "a.mkv", steady(125), audio=[[(0.0, 0, 1.0), (2.5, 9000, 2.5)]])
    whole = media.AudioTrack(path, 16000, media.read_header(path)).read(0, 5)
    monkeypatch.setattr("emozoo.data.waveform.WHOLE_AUDIO_S", 1.0)
    windowed = media.AudioTrack(path, 16000, media.read_header(path))
    assert windowed.duration == pytest.approx(5.0, abs=0.01)
    np.testing.assert_allclose(windowed.holes, [(1.0, 2.5)], atol=0.01)
    for start in (0.0, 0.5, 2.0, 3.2):
        np.testing.assert_allclose(
            windowed.read(start, start + 1), whole[round(start * 16000) :][:16000], atol=1e-3, err_msg=str(start)
        )


DEFAULT = av.stream.Disposition.default
NONE = av.stream.Disposition(0)


@pytest.mark.parametrize(
    ("levels", "flags", "heard"),
    [
        ((0, 9000), (NONE, NONE), 9000),  # the first is silent
        ((9000, 12000), (NONE, NONE), 9000),  # both are audio: the first
        ((9000, 3000), (NONE, DEFAULT), 3000),
        ((0, 9000), (DEFAULT, DEFAULT), 9000),
    ],
)
def test_the_main_or_else_the_loudest_audio_is_heard(tmp_path, levels, flags, heard):
    """Protects recordings with several microphones or languages."""
    audio = [[(0.0, level, 1.0)] for level in levels]
    path = write(tmp_path / "a.mkv", steady(25), audio=audio, defaults=flags)
    audio = media.AudioTrack(path, 16000, media.read_header(path))
    assert np.abs(audio.read(0, 1)).max() * 32768 == pytest.approx(heard, rel=0.01)
    assert [w.code for w in audio.warnings] == (["other_track"] if heard != levels[0] else [])


def test_decord_reads_no_audio():
    """Protects memory: decord's audio reader keeps every sample that it ever decoded."""
    from emozoo.data import waveform

    assert not hasattr(waveform, "decord")


def test_memory_stays_flat_over_many_audio_files(tmp_path):
    """Protects long batches: the fortieth minute of audio takes no more memory than the first ones."""
    run = (
        "import wave, sys, numpy as np\n"
        "from emozoo.data import media\n"
        "with wave.open(sys.argv[1], 'wb') as w:\n"
        "    w.setparams((1, 2, 48000, 0, 'NONE', ''))\n"
        "    w.writeframes(np.random.default_rng(0).integers(-9000, 9000, 48000 * 60, np.int16).tobytes())\n"
        "def used(): return int(open('/proc/self/statm').read().split()[1]) * 4096 >> 20\n"
        "seen = []\n"
        "for _ in range(16):\n"
        "    media.AudioTrack(sys.argv[1], 48000, media.read_header(sys.argv[1])).read(0, 1); seen.append(used())\n"
        "print(seen[-1] - seen[3])\n"
    )
    if not os.path.exists("/proc/self/statm"):
        pytest.skip("no /proc here")
    done = subprocess.run([sys.executable, "-c", run, str(tmp_path / "a.wav")], capture_output=True, text=True)
    assert int(done.stdout) < 40, done.stderr  # 12 minutes of samples are 138 MB


# -- what cannot be read ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tag", "said"), [(b"zzz1", "no decoder for the video codec zzz1"), (b"encv", "encrypted")], ids=["codec", "drm"]
)
def test_a_codec_without_decoder_is_named(tmp_path, tag, said):
    """Protects the message: what is missing is said, and never as an internal error."""
    path = write(tmp_path / "a.mp4", steady(10), audio=())
    data = path.read_bytes()
    at = data.rindex(b"avc1")
    path.write_bytes(data[:at] + tag + data[at + 4 :])
    with pytest.raises(VideoError, match=said) as error:
        media.open_frames(path)
    assert error.value.code == "unreadable"
    with pytest.raises(VideoError, match=said):
        ClipReader(path, spec(action=FRAME))


def test_audio_without_decoder_leaves_the_images(tmp_path):
    """Protects mixed models: they go by the images and say so; a model of audio alone says what is missing."""
    path = write(tmp_path / "a.mov", steady(50), audio=[[(0.0, 9000, 2.0)]])
    data = path.read_bytes()
    at = data.rindex(b"sowt")
    path.write_bytes(data[:at] + b"zzz2" + data[at + 4 :])
    with ClipReader(path, spec(action=FRAME, audio=AUDIO)) as reader:
        raw = reader.read()
    assert raw.masks["action"].any()
    assert any("zzz2" in w.text for w in raw.warnings if w.code == "no_audio")
    with pytest.raises(VideoError, match="no decoder for the audio codec zzz2") as error:
        ClipReader(path, spec(audio=AUDIO))
    assert error.value.code == "no_audio"


def test_subtitles_alone_hold_nothing(tmp_path):
    """Protects the message for containers without images and audio."""
    (tmp_path / "a.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nHello\n")
    with pytest.raises(VideoError) as error:
        ClipReader(tmp_path / "a.srt", spec(action=FRAME))
    assert error.value.code in ("no_video", "unreadable")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["a.mp4", "a.jpg", "a.wav", "a"])
def test_a_pipe_is_refused_at_once(tmp_path, name):
    """Protects batches: nobody writes into the pipe, and reading it would never end."""
    os.mkfifo(tmp_path / name)
    caught: list[VideoError] = []

    def read():
        try:
            ClipReader(tmp_path / name, spec(action=FRAME))
        except VideoError as error:
            caught.append(error)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(10)
    assert caught
    assert caught[0].code == "unreadable"
    assert "pipe" in str(caught[0])


def test_devices_and_sockets_are_refused(tmp_path, monkeypatch):
    """Protects against endless devices."""
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as end:
        end.bind("s.mp4")
        for path in ("s.mp4", "/dev/zero"):
            with pytest.raises(VideoError, match=r"socket|device"):
                media.open_frames(path)


def test_a_colon_in_a_name_is_no_protocol(tmp_path, backend):
    """Protects names such as 12:30.mp4."""
    path = write(tmp_path / "a.mkv", steady(5)).rename(tmp_path / "http:clip 12:30.mkv")
    assert len(media.open_frames(path).stamps) == 5


def test_the_main_video_is_shown_and_a_cover_never(tmp_path, backend):
    """Protects files with two videos: the one marked as default is shown."""
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as box:
        streams = [box.add_stream("libx264", rate=25, options={"bf": "0"}) for _ in range(2)]
        for stream, flag in zip(streams, (NONE, DEFAULT)):
            stream.width, stream.height, stream.pix_fmt, stream.disposition = 64, 48, "yuv420p", flag
        for i in range(10):
            for stream, grey in zip(streams, (40, 200)):
                frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), grey, np.uint8), format="rgb24")
                frame.pts, frame.time_base = i, Fraction(1, 25)
                box.mux(stream.encode(frame))
        for stream in streams:
            box.mux(stream.encode())
    assert next(media.open_frames(path).frames([5])).mean() == pytest.approx(200, abs=4)


def test_libraries_write_nothing_to_stderr(tmp_path, make_video):
    """Protects the terminal: what FFmpeg and decord would say about damage is said by emozoo alone."""
    whole = make_video(tmp_path / "whole.mp4", frames=60)
    data = whole.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) * 2 // 3])
    (tmp_path / "hurt.mp4").write_bytes(data[: len(data) // 2] + b"\xff" * 400 + data[len(data) // 2 + 400 :])
    (tmp_path / "text.mp4").write_text("no video")
    write(tmp_path / "jump.mkv", [0.0, *steady(20, 1.7e9)])
    run = (
        "import sys\n"
        "from emozoo.data import media\n"
        "for path in sys.argv[1:]:\n"
        "    try: list(media.open_frames(path).frames([0, 5]))\n"
        "    except media.VideoError: pass\n"
    )
    files = [str(p) for p in sorted(tmp_path.iterdir())]
    done = subprocess.run([sys.executable, "-c", run, *files], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stderr == ""
