"""Reading media files, whole and damaged, through decord and through PyAV."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
import time
import wave
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from emozoo.data import media, waveform
from emozoo.data.datamodule import EmotionDataModule
from emozoo.data.images import FOLDER_FPS
from emozoo.errors import UsageError, VideoError
from emozoo.spec import ClipSpec, StreamSpec


def means(images, indices) -> list[float]:
    return [float(p.mean()) for p in images.frames(indices)]


def test_frames_come_in_order_with_their_times(tmp_path, make_video, backend):
    """Protects random access: frame i is frame i, at its time, whichever decoder reads."""
    images = media.open_frames(make_video(tmp_path / "a.mp4", frames=40, fps=20))
    assert images.size == (64, 48)
    np.testing.assert_allclose(images.stamps, np.arange(40) / 20, atol=1e-3)
    wanted = [0, 1, 13, 14, 39]
    np.testing.assert_allclose(means(images, wanted), [4 * i for i in wanted], atol=3)
    np.testing.assert_allclose(means(images, [5]), [20], atol=3)  # and back again


def test_every_shared_clip_meets_its_expectation(shared, backend):
    """Protects the 25 edge cases: frames and audio as the manifest promises, or a clear error; nothing hangs."""
    folder = shared / "data" / "clips"
    frames = {"truncated_index_first.mp4": 48, "corrupt_middle.mp4": 65, "pyfeat_no_face.mp4": 95}
    errors = {"truncated.mp4": "unreadable", "zero_bytes.mp4": "empty", "not_a_video.mp4": "unreadable"}
    for row in csv.DictReader((folder / "manifest.csv").open()):
        path, note = folder / row["path"], row["pyav_18.1.0"]
        began = time.process_time()
        if row["path"] in errors:
            with pytest.raises(VideoError) as error:
                media.open_frames(path)
            assert error.value.code == errors[row["path"]], row["path"]
            continue
        header = media.read_header(path)
        if "no video stream" in note:
            with pytest.raises(VideoError) as error:
                media.open_frames(path, header)
            assert error.value.code == "no_video"
        else:
            images = media.open_frames(path, header)
            expected = frames.get(row["path"]) or int(note.split(" frame")[0])
            whole = np.flatnonzero(images.check(0, len(images.stamps) - 1))
            assert len(whole) == expected, row["path"]
            assert images.stamps[0] == 0
            assert (np.diff(images.stamps) > 0).all()
            *_, last = images.frames(whole[[0, -1]])
            assert last.shape == (images.size[1], images.size[0], 3)
            assert bool(images.warnings) == (row["path"] in ("truncated_index_first.mp4", "corrupt_middle.mp4"))
            images.close()
        assert header.has_audio == ("audio" in note and "no audio" not in note), row["path"]
        if header.has_audio:
            audio = media.AudioTrack(path, 16000, header)
            seconds = float(note.split("audio ")[1].split(" s")[0])
            assert audio.duration == pytest.approx(seconds, abs=0.06), row["path"]
            assert np.isfinite(audio.read(0, 1)).all()
        assert time.process_time() - began < 60


def test_damaged_frames_are_left_out_and_never_made_up(shared, backend):
    """Protects against decoders that hand out grey or stale images: what is read equals the undamaged file."""
    folder = shared / "data" / "clips"
    whole = media.open_frames(folder / "base.mp4")
    for name, code in (("corrupt_middle.mp4", "broken_part"), ("truncated_index_first.mp4", "broken_tail")):
        damaged = media.open_frames(folder / name)
        assert [w.code for w in damaged.warnings] == [code]
        good = damaged.check(0, len(damaged.stamps) - 1)
        np.testing.assert_array_equal(np.rint(damaged.stamps * 25), np.arange(len(good)))
        at = np.flatnonzero(good)[::3]
        for a, b in zip(damaged.frames(at), whole.frames(at)):
            assert np.abs(a.astype(int) - b).max() <= 1


@pytest.mark.parametrize("block", [1000, 20])
def test_labels_of_frames_stay_with_their_frames(shared, tmp_path, backend, block, monkeypatch):
    """Protects valence and arousal by the frame from damage in the middle of a video: line n is that of frame n, in
    short files and in long ones."""
    monkeypatch.setattr(media, "CHECK_BLOCK", block)
    shutil.copy(shared / "data" / "clips" / "corrupt_middle.mp4", tmp_path / "a.mp4")
    lines = [f"{n / 100},{-n / 100}" for n in range(100)]
    (tmp_path / "a.va.csv").write_text("\n".join(["valence,arousal", *lines, ""]))
    (tmp_path / "m.csv").write_text("path,va_file\na.mp4,a.va.csv\n")
    spec = ClipSpec({"frame": StreamSpec("frame", (16, 16))}, clips=30, sampling="segments", window_s=4.0)
    dm = EmotionDataModule("csv", tmp_path / "m.csv", spec=spec, split="all")
    dm.setup("test")
    (batch,) = dm.test_dataloader()
    valence = batch.targets["va"][0, :, 0].numpy()
    np.testing.assert_allclose(valence, batch.meta["times"][0].numpy() / 4, atol=0.011)
    assert valence.max() > 0.9


def test_both_decoders_agree(shared, monkeypatch):
    """Protects the swap of decoders: same frames, times, turn and size on rotated, odd, hidden-frame, 10-bit files."""
    pytest.importorskip("decord")
    for name in ("rotated_90.mp4", "odd_size_177x101.mp4", "pyfeat_no_face.mp4", "h264_422_10bit.mkv", "vfr.mp4"):
        path = shared / "data" / "clips" / name
        monkeypatch.setenv("EMOZOO_DECODER", "decord")
        one = media.open_frames(path)
        monkeypatch.setenv("EMOZOO_DECODER", "pyav")
        two = media.open_frames(path)
        np.testing.assert_array_equal(one.stamps, two.stamps)
        assert one.size == two.size
        n = len(one.stamps)
        for at in ([0, n // 2, n - 1], [n // 5]):  # and back again, which needs a seek
            for a, b in zip(one.frames(at), two.frames(at)):
                # 10 bits a channel are rounded differently on the way to 8
                assert np.abs(a.astype(int) - b).mean() <= (2 if "10bit" in name else 0), name


def test_a_seek_lands_on_the_right_frame(shared, backend):
    """Protects random access in real files (B-frames, edit lists): forward, far back and forward again as in order."""
    for name in ("pyfeat_no_face.mp4", "pyfeat_single_face.mp4", "odd_size_mpeg4.mp4"):
        path = shared / "data" / "clips" / name
        in_order = [p[::8, ::8].copy() for p in media.open_frames(path).frames(range(41))]
        jumping = media.open_frames(path)
        for i in (40, 7, 33, 2):
            assert np.array_equal(next(jumping.frames([i]))[::8, ::8], in_order[i]), (name, i)


@pytest.mark.parametrize(
    ("ending", "codec", "options"),
    [
        ("avi", "mpeg4", {"bf": "2"}),
        ("avi", "mjpeg", {}),
        ("avi", "libx264", {"bf": "2"}),
        ("mp4", "libx264", {"bf": "2", "g": "8", "x264-params": "open-gop=1"}),
        ("mkv", "libx264", {"bf": "2", "g": "8"}),
        ("mov", "mpeg4", {"bf": "2"}),
        ("webm", "libvpx", {}),
        ("ts", "mpeg2video", {"bf": "2"}),
    ],
)
def test_other_containers_are_read_in_order(tmp_path, backend, ending, codec, options):
    """Protects AVI (which stores no presentation times), MOV, WebM and TS: frame i is frame i."""
    path = tmp_path / f"a.{ending}"
    with av.open(str(path), "w") as box:
        video = box.add_stream(codec, rate=25, options=options)
        video.width, video.height, video.bit_rate = 64, 48, 4_000_000
        video.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for i in range(24):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 10 * i + 5, dtype=np.uint8), format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, 25)
            box.mux(video.encode(frame))
        box.mux(video.encode())
    images = media.open_frames(path)
    assert not images.warnings
    assert len(images.stamps) == 24
    np.testing.assert_allclose(images.stamps, np.arange(24) / 25, atol=2e-3)
    for at in ([3, 15, 23], [0, 4]):
        np.testing.assert_allclose(means(images, at), [10 * i + 5 for i in at], atol=4)


def test_long_gop_access_equals_reading_in_order(shared, backend):
    """Protects seeking: one key frame in 500 frames, read backwards and forwards."""
    path = shared / "data" / "clips" / "long_gop.mp4"
    jumping = media.open_frames(path)
    late = list(jumping.frames([400, 490]))
    early = next(jumping.frames([37]))
    in_order = media.open_frames(path)
    wanted = {37: early, 400: late[0], 490: late[1]}
    for i, image in enumerate(in_order.frames(range(491))):
        if i in wanted:
            assert np.array_equal(image, wanted[i])


def test_damage_in_a_long_file_is_found_block_by_block(shared, monkeypatch):
    """Protects long media: with small blocks the damage is still found, and the frames behind it are read."""
    monkeypatch.setattr(media, "CHECK_BLOCK", 20)
    monkeypatch.setenv("EMOZOO_DECODER", "pyav")
    folder = shared / "data" / "clips"
    video = media.open_frames(folder / "corrupt_middle.mp4")
    assert not video.warnings  # not reached yet
    good = video.check(0, 99)
    assert good[:40].all()
    assert not good[40:75].any()
    assert good[75:].all()
    assert {w.code for w in video.warnings} == {"broken_part"}
    whole = media.open_frames(folder / "base.mp4")
    assert whole.check(0, 99).all()
    at = np.flatnonzero(good)[::6]
    for a, b in zip(video.frames(at), whole.frames(at)):
        assert np.abs(a.astype(int) - b).max() <= 1


@pytest.mark.slow(5)
def test_memory_stays_flat_on_long_files(tmp_path, make_video):
    """Protects long media: looking through 6,000 frames takes no more memory than through 600."""
    path = make_video(tmp_path / "long.mp4", frames=6000, size=(320, 240))
    read = (
        "import resource, sys\n"
        "from emozoo.data import media\n"
        "video = media.open_frames(sys.argv[1])\n"
        "n = int(sys.argv[2])\n"
        "video.check(0, n - 1)\n"
        "print(sum(1 for _ in video.frames(range(0, n, 5))), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    peak = {}
    for n in (600, 6000):
        done = subprocess.run([sys.executable, "-c", read, path, str(n)], capture_output=True, text=True, check=True)
        count, peak[n] = map(int, done.stdout.split())
        assert count == n // 5
    assert peak[6000] - peak[600] < 100_000  # kB; the frames themselves are 1.4 GB


def test_images_of_all_kinds(tmp_path):
    """Protects stills: jpg, png, bmp, webp, grey, with alpha, 16 bit; upper-case endings; RGB order."""
    red = np.zeros((20, 30, 3), dtype=np.uint8)
    red[..., 2] = 255  # OpenCV writes BGR
    for name in ("a.jpg", "a.PNG", "a.bmp", "a.webp"):
        assert cv2.imwrite(str(tmp_path / name), red)
        image = next(media.open_frames(tmp_path / name).frames([0]))
        assert image.shape == (20, 30, 3)
        assert image[..., 0].min() > 240
        assert image[..., 2].max() < 20
    others = {
        "grey.png": red[..., 0],
        "alpha.png": np.dstack([red, red[..., 2]]),
        "deep.png": red.astype(np.uint16) * 257,
    }
    for name, value in others.items():
        cv2.imwrite(str(tmp_path / name), value)
        image = media.read_image(tmp_path / name)[0]
        assert image.shape == (20, 30, 3)
        assert image.dtype == np.uint8


def test_a_cut_jpeg_is_reported(tmp_path):
    """Protects against half-grey images going unmentioned."""
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    data = cv2.imencode(".jpg", noise)[1].tobytes()
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) // 2])
    try:
        _, warnings = media.read_image(tmp_path / "cut.jpg")
    except VideoError:
        return
    assert [w.code for w in warnings] == ["broken_tail"]


def test_frame_folder_keeps_gaps_in_time(tmp_path):
    """Protects frame folders: order by number, a missing number is a gap, other files are ignored."""
    for i in (1, 2, 10, 4):
        cv2.imwrite(str(tmp_path / f"f{i}.png"), np.full((8, 8, 3), i, dtype=np.uint8))
    (tmp_path / "notes.txt").write_text("x")
    folder = media.open_frames(tmp_path)
    np.testing.assert_allclose(folder.stamps * FOLDER_FPS, [0, 1, 3, 9])
    assert means(folder, range(4)) == [1, 2, 4, 10]


def test_what_cannot_be_read_says_why(tmp_path):
    """Protects the messages: each failure has its code and one readable line."""
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "none").mkdir()
    cases = {
        "gone.mp4": "missing",
        "gone.jpg": "missing",
        "empty.jpg": "empty",
        "text.png": "unreadable",
        "none": "empty",
    }
    for name, code in cases.items():
        with pytest.raises(VideoError) as error:
            media.open_frames(tmp_path / name)
        assert error.value.code == code
        assert "\n" not in str(error.value)


def test_audio_is_read_by_the_clock(tmp_path, make_video, backend):
    """Protects the alignment of audio and image: a click at 1 s is heard at 1 s; before the start is silence."""
    path = make_video(tmp_path / "click.mkv", frames=50, clicks=(1.0,))
    audio = media.AudioTrack(path, 16000, media.read_header(path))
    heard = audio.read(-0.5, 2.0)
    assert len(heard) == 40000
    first = int(np.flatnonzero(np.abs(heard) > 0.1)[0])
    assert first / 16000 - 0.5 == pytest.approx(1.0, abs=0.005)
    assert not heard[:8000].any()


def test_long_audio_is_read_window_by_window(tmp_path, monkeypatch):
    """Protects flat memory on hours of audio: windows equal those cut from the whole."""
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes((np.random.default_rng(0).normal(0, 3000, 16000 * 6)).astype(np.int16).tobytes())
    header = media.read_header(tmp_path / "a.wav")
    whole = media.AudioTrack(tmp_path / "a.wav", 16000, header).read(0, 6)
    monkeypatch.setattr(waveform, "WHOLE_AUDIO_S", 1.0)
    windowed = media.AudioTrack(tmp_path / "a.wav", 16000, header)
    for start, end in ((0.0, 1.0), (2.25, 3.75), (-0.5, 0.5), (5.5, 6.5)):
        expected = np.zeros(round((end - start) * 16000), dtype=np.float32)
        lo, hi = max(round(start * 16000), 0), min(round(end * 16000), len(whole))
        expected[lo - round(start * 16000) : hi - round(start * 16000)] = whole[lo:hi]
        np.testing.assert_allclose(windowed.read(start, end), expected, atol=1e-4)


@pytest.mark.parametrize("side", [16, 32, 48, 80])
def test_small_images_have_three_colours(make_video, tmp_path, side):
    """Protects small videos: rows that a decoder pads do not become a fourth colour."""
    images = media.open_frames(make_video(tmp_path / "small.mp4", frames=4, size=(side, side)))
    first, last = images.frames([0, 3])
    assert first.shape == last.shape == (side, side, 3)
    assert abs(float(last.mean()) - 12) < 3


def test_the_decoder_is_chosen_by_name(tmp_path, make_video, monkeypatch):
    """Protects the choice of decoder: PyAV by default, decord when asked for, one readable line when neither."""
    path = make_video(tmp_path / "a.mp4")
    for name, kind in (("", media.AvVideo), ("pyav", media.AvVideo)):
        monkeypatch.setenv("EMOZOO_DECODER", name)
        assert type(media.open_frames(path)) is kind
    monkeypatch.setenv("EMOZOO_DECODER", "ffmpeg")
    with pytest.raises(UsageError, match=r"EMOZOO_DECODER must be one of pyav, decord; got 'ffmpeg'"):
        media.open_frames(path)
    monkeypatch.setenv("EMOZOO_DECODER", "decord")
    media._decord.cache_clear()
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "decord", None)
        with pytest.raises(UsageError, match=r"decord is not installed here: unset EMOZOO_DECODER"):
            media.open_frames(path)
    pytest.importorskip("decord")
    assert type(media.open_frames(path)) is media.DecordVideo


def test_decord_is_loaded_only_when_asked_for():
    """Protects the start of every command: the library that is not used is not loaded."""
    read = "import sys\nfrom emozoo.data import media\nprint('decord' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", read], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
