"""One file under one spec, to a clip, to a batch."""

from __future__ import annotations

import pickle
import wave

import cv2
import numpy as np
import pytest
import torch
import trees

from emozoo.data import datasets
from emozoo.data.clips import ClipReader, to_batch
from emozoo.data.faces import Track
from emozoo.data.manifest import Row
from emozoo.data.prepare import prepare
from emozoo.data.store import Cover
from emozoo.data.transforms import Augment
from emozoo.errors import UsageError, VideoError
from emozoo.spec import AudioSpec, ClipSpec, StreamSpec

FACE = StreamSpec("face", (24, 24), 3, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
CONTEXT = StreamSpec("context", (12, 16), 1, "center")
FRAME = StreamSpec("frame", (12, 16), 4)
AUDIO = StreamSpec("audio", (40, 101), mean=(-30.0,), std=(20.0,), audio=AudioSpec())


WAVE = AudioSpec(rate=16000, seconds=0.1, kind="waveform")


def spec(sampling: str = "overlap", clips: int = 3, **streams: StreamSpec) -> ClipSpec:
    return ClipSpec(streams, clips, sampling, window_s=4.0, clip_s=1.0)


def read(path, a_spec, window=(), **how):
    with ClipReader(path, a_spec, **how) as reader:
        return reader.read(*window)


@pytest.fixture
def still(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), image[..., ::-1])
    return tmp_path / "a.png", image


@pytest.fixture
def voice(tmp_path):
    """2.5 s of audio alone: silence, then a tone from 2.0 s on."""
    samples = np.zeros(40000, dtype=np.int16)
    samples[32000:] = 8000 * np.sin(np.arange(8000) / 3)
    with wave.open(str(tmp_path / "voice.wav"), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    return tmp_path / "voice.wav"


def test_a_still_is_repeated_to_clips_and_frames_and_says_so(still):
    """Protects stills: never C = F = 1, index 0 throughout, warning ``still``."""
    path, image = still
    raw = read(path, spec(face=FACE, context=CONTEXT), box=(10, 5, 34, 29))
    assert raw.streams["face"].shape == (3, 3, 24, 24, 3)
    assert raw.masks["face"].all()
    assert not raw.frames["face"].any()
    assert np.array_equal(raw.streams["face"][2, 1], image[5:29, 10:34])
    assert [w.code for w in raw.warnings] == ["still"]
    np.testing.assert_allclose(raw.boxes, [[10, 5, 34, 29]] * 3)


def test_a_face_crop_on_disk_is_taken_whole_and_has_no_context(still):
    """Protects box = whole image: no detection, no margin; a context that would be all black is masked."""
    path, image = still
    raw = read(path, spec(face=FACE, context=CONTEXT), box=(0, 0, 60, 40))
    assert raw.masks["face"].all()
    assert not raw.masks["context"].any()
    assert not raw.streams["context"].any()
    assert np.array_equal(raw.streams["face"][0, 0], cv2.resize(image, (24, 24), interpolation=cv2.INTER_AREA))


def test_no_face_uses_the_whole_frame_and_counts_it(tmp_path, make_video):
    """Protects evaluation without a face: the whole frame, ``no_face`` set, warned of."""
    raw = read(make_video(tmp_path / "a.mp4"), spec(face=FACE, context=CONTEXT))
    assert raw.no_face
    assert raw.masks["face"].all()
    assert "no_face" in [w.code for w in raw.warnings]
    assert np.isnan(raw.boxes).all()
    assert abs(float(raw.streams["face"][1, 1].mean()) - 4 * raw.frames["face"][1, 1]) < 4


def test_a_face_lost_on_the_way_is_masked_there(tmp_path, make_video):
    """Protects the mask: frames outside the track hold zeros and are false; the context shows the whole image."""
    track = Track(np.array([0.0, 0.9]), np.float32([[10, 10, 40, 40]] * 2), 0.1)
    with ClipReader(make_video(tmp_path / "a.mp4"), spec("segments", face=FACE, context=CONTEXT)) as reader:
        raw = reader.read(track=track)
    assert not raw.no_face
    assert raw.masks["face"].tolist() == [[True] * 3, [True] * 3, [False] * 3] or not raw.masks["face"].all()
    assert not raw.streams["face"][~raw.masks["face"]].any()
    assert raw.masks["context"].all()


def test_a_model_without_faces_looks_for_none(tmp_path, make_video):
    """Protects speed and results: no detection, no warning."""
    raw = read(make_video(tmp_path / "a.mp4"), spec("segments", action=FRAME))
    assert not raw.warnings
    assert not raw.no_face


def test_a_window_of_everything_is_the_whole(tmp_path, make_video):
    """Protects predict = benchmark: (0, duration) is sampled exactly as the whole file is."""
    path = make_video(tmp_path / "a.mkv", clicks=(0.5,))
    for sampling in ("overlap", "segments", "trailing"):
        a_spec = spec(sampling, action=FRAME, audio=AUDIO)
        with ClipReader(path, a_spec) as reader:
            one, two = reader.read(), reader.read(0.0, reader.duration)
        for name in a_spec.streams:
            assert np.array_equal(one.streams[name], two.streams[name])
            assert np.array_equal(one.frames[name], two.frames[name])


def test_windows_stay_inside_their_seconds(tmp_path, make_video):
    """Protects labelled parts: frames of [start, end) alone, whether asked of the reader or of read."""
    path = make_video(tmp_path / "a.mp4")
    for raw in (read(path, spec(action=FRAME), start=0.4, end=1.0), read(path, spec(action=FRAME), (0.4, 1.0))):
        assert raw.frames["action"].min() >= 10
        assert raw.frames["action"].max() <= 24
    with pytest.raises(VideoError, match="no frame"):
        read(path, spec(action=FRAME), (5.0, 6.0))


def test_training_draws_differ_and_follow_their_generator(tmp_path, make_video):
    """Protects training variety and its reproducibility."""
    path = make_video(tmp_path / "a.mp4")
    with ClipReader(path, spec("segments", action=FRAME)) as reader:
        drawn = [reader.read(rng=np.random.default_rng(s)).frames["action"].tolist() for s in (0, 1, 0)]
    assert drawn[0] == drawn[2]
    assert drawn[0] != drawn[1]


def test_audio_ends_where_its_clip_ends(voice):
    """Protects alignment: clips that end at 0.5, 1.5, 2.5 s; the tone from 2.0 s fills the last half of the last."""
    raw = read(voice, spec("trailing", audio=AUDIO))
    np.testing.assert_allclose(raw.times, [0.5, 1.5, 2.5], atol=0.02)
    assert raw.masks["audio"].all()
    loud = raw.streams["audio"][:, 0].max(axis=1)  # (C, S)
    assert loud[:2].max() < -60
    assert loud[2, 55:].min() > loud[2, :45].max() + 30


def test_a_microphone_leaves_no_colour_in_centred_audio(tmp_path):
    """Protects centre: a filter, a constant in dB for each bin, is gone, before padding too; loudness stays."""
    noise = np.random.default_rng(0).normal(0, 1500, 40000) * (1 + np.sin(np.arange(40000) / 900))
    heard = {}
    for name, samples in (("near", noise), ("far", 0.2 * noise), ("dull", noise + 0.9 * np.roll(noise, 1))):
        with wave.open(str(tmp_path / f"{name}.wav"), "wb") as file:
            file.setparams((1, 2, 16000, 0, "NONE", ""))
            file.writeframes(samples.clip(-32768, 32767).astype(np.int16).tobytes())
        kinds = {"plain": AudioSpec(), "centred": AudioSpec(cmn=True)}
        audio = {k: StreamSpec("audio", (40, 101), audio=a) for k, a in kinds.items()}
        heard[name] = read(tmp_path / f"{name}.wav", spec("trailing", **audio)).streams
        plain, centred = (heard[name][k][1:, 0] for k in kinds)
        assert np.ptp(plain - centred, axis=(0, 2)).max() < 1e-3, "one number for each bin"
        assert centred.mean() == pytest.approx(plain.mean(), abs=0.5)
    near, far, dull = (x["centred"][1:] for x in heard.values())
    assert (near - far).mean() == pytest.approx(14, abs=0.5)  # 0.2 times
    assert (near - dull).std() < 1 < (heard["near"]["plain"] - heard["dull"]["plain"])[1:].std()
    with pytest.raises(UsageError, match="waveform"):
        AudioSpec(kind="waveform", cmn=True)


def test_missing_streams_are_zeros_with_a_false_mask(voice, still):
    """Protects mixed models: audio alone and an image alone both go through, saying what was missing."""
    a_spec = spec("trailing", face=FACE, audio=AUDIO)
    heard = read(voice, a_spec)
    assert not heard.masks["face"].any()
    assert heard.masks["audio"].any()
    assert "no_video" in [w.code for w in heard.warnings]
    seen = read(still[0], a_spec, box=(0, 0, 60, 40))
    assert not seen.masks["audio"].any()
    assert {w.code for w in seen.warnings} == {"no_audio", "still"}
    batch = to_batch([heard, seen], a_spec)
    assert not batch.inputs["face"][0].any()
    assert not batch.inputs["audio"][1].any()


def test_nothing_to_look_at_is_an_error_that_names_it(voice, still, tmp_path, make_video):
    """Protects single-stream models: what is missing is said, with its code."""
    cases = [(voice, spec(face=FACE), "no_video"), (still[0], spec("trailing", audio=AUDIO), "no_audio")]
    cases.append((make_video(tmp_path / "mute.mp4"), spec("trailing", audio=AUDIO), "no_audio"))
    for path, a_spec, code in cases:
        with pytest.raises(VideoError) as error:
            read(path, a_spec)
        assert error.value.code == code
        copy = pickle.loads(pickle.dumps(error.value))
        assert (copy.code, str(copy)) == (code, str(error.value))


def test_a_box_outside_the_image_is_refused(still):
    """Protects against crops of nothing; a box that overlaps is cut to the image."""
    with pytest.raises(VideoError, match="face box"):
        read(still[0], spec(face=FACE), box=(70, 10, 90, 30))
    assert read(still[0], spec(face=FACE), box=(-5, -5, 20, 20)).masks["face"].all()


def test_shared_faces_fill_their_crops(shared):
    """Protects the whole path on real clips: track, boxes, crops, audio, warnings."""
    path = shared / "data" / "clips" / "pyfeat_single_face.mp4"
    raw = read(path, spec("trailing", clips=2, face=FACE, context=CONTEXT, audio=AUDIO))
    assert not raw.no_face
    assert all(m.all() for m in raw.masks.values())
    x1, y1, x2, y2 = raw.boxes[0]
    assert 100 < x2 - x1 < 300
    assert 100 < y2 - y1 < 300
    assert not raw.warnings


def test_short_audio_is_masked_and_reported(shared):
    """Protects audio that ends before the images: masked where it is silent by absence, and said."""
    raw = read(shared / "data" / "clips" / "short_audio.mp4", spec("trailing", clips=4, action=FRAME, audio=AUDIO))
    assert raw.masks["audio"][:, 0].tolist()[-2:] == [False, False]
    assert raw.masks["audio"].any()
    assert "short_audio" in [w.code for w in raw.warnings]


def test_batches_are_normalised_and_named(still):
    """Protects the numbers that reach the network: (x / 255 - mean) / std, channels first, ids kept."""
    path, image = still
    a_spec = spec(face=FACE)
    raw = read(path, a_spec, box=(10, 5, 34, 29))
    batch = to_batch([raw, raw], a_spec, ids=["a", "b"])
    assert batch.inputs["face"].shape == (2, 3, 3, 3, 24, 24)
    expected = (image[5:29, 10:34] / 255 - np.array(FACE.mean)) / np.array(FACE.std)
    np.testing.assert_allclose(batch.inputs["face"][1, 2, 0].numpy(), expected.transpose(2, 0, 1), atol=1e-5)
    assert len(batch) == 2
    assert batch.meta["id"] == ["a", "b"]
    assert batch.meta["times"].dtype == torch.float64
    assert batch.to("cpu").inputs["face"] is not None


def test_augmented_batches_differ_by_seed_only(still):
    """Protects training batches: seeds decide, and what is masked stays zero."""
    path, _ = still
    a_spec = spec("trailing", face=FACE, audio=AUDIO)
    raw = read(path, a_spec, box=(10, 5, 34, 29))
    augment = Augment(flip=0.5, rotate=10, motion=0.5, gain=6)
    one, two = (to_batch([raw, raw], a_spec, augment=augment, seeds=[1, 2]) for _ in range(2))
    assert torch.equal(one.inputs["face"], two.inputs["face"])
    assert not torch.equal(one.inputs["face"][0], one.inputs["face"][1])
    assert not one.inputs["audio"].any()


def test_a_box_of_zeros_means_no_face(still):
    """Protects face-box lists: an image known to hold no face is not searched, and not refused."""
    path, _ = still
    raw = read(path, spec(face=FACE), box=(0, 0, 0, 0))
    assert raw.no_face
    assert np.isnan(raw.boxes).all()


def test_frames_in_a_folder_are_heard_from_their_video(tmp_path):
    """Protects data sets of frame folders: audio beside them is in step with the images, also where some are missing,
    and a prepared store keeps it."""
    trees.film(tmp_path / "film.avi", fps=30, seconds=1.5, silent_s=0.5)
    trees.frames(tmp_path / "faces", range(7, 46))  # the first image of a face is the seventh of the video
    row = Row("faces", str(tmp_path / "faces"), "joy", extra={"sound": str(tmp_path / "film.avi")})
    both = ClipSpec(
        {"face": StreamSpec("frame", (48, 48), frames=2), "audio": StreamSpec("audio", (1, 1600), audio=WAVE)},
        clips=2, sampling="segments", window_s=1.0,
    )  # fmt: skip
    (tmp_path / "manifest.csv").write_text("path,label,sound\nfaces,joy,film.avi\nfilm.avi,joy,\n")
    made = prepare("csv", tmp_path / "manifest.csv", tmp_path.parent / "store", cover=Cover.of([both]), workers=1)
    assert made is not None
    stored = datasets.load("store", tmp_path.parent / "store").rows[0]
    assert row.extra == datasets.load("csv", tmp_path / "manifest.csv").rows[0].extra
    for one in (row, stored):
        with ClipReader.of(one, both) as reader:
            np.testing.assert_allclose(reader.images.stamps, np.arange(39) / 30)
            heard = np.abs(reader.audio.read(0.2, 0.4)).reshape(2, -1).max(1)  # in the video 0.4 to 0.6 s
            assert heard[0] < 0.01
            assert heard[1] > 0.4
            assert reader.read().masks["audio"].all()
    with ClipReader(row.path, both) as alone:
        assert [w.code for w in alone.warnings] == ["no_audio"]
    with pytest.raises(VideoError, match=r"gone\.mp4: no such file"):
        ClipReader(row.path, both, beside=tmp_path / "gone.mp4")


def test_a_face_that_comes_late_keeps_its_place_in_the_video(tmp_path):
    """Protects Aff-Wild2: of somebody who appears in the last second of a video, that second is heard."""
    trees.film(tmp_path / "film.avi", fps=30, seconds=3.0, silent_s=2.0)
    trees.frames(tmp_path / "faces", range(61, 91))
    late = ClipReader(
        tmp_path / "faces", spec(face=StreamSpec("frame", (8, 8)), audio=AUDIO), beside=tmp_path / "film.avi"
    )
    assert late.audio.offset == pytest.approx(-2.0, abs=0.05)
    assert np.abs(late.audio.read(0.1, 0.9)).max() > 0.4


def test_frames_numbered_from_a_longer_film_start_with_their_audio(tmp_path):
    """Protects clips cut out of films: images 12000 to 12029 beside a second of audio are that second."""
    trees.film(tmp_path / "cut.wav", seconds=1.0, silent_s=0.0)
    trees.film(tmp_path / "cut.avi", seconds=1.0, silent_s=0.0)
    trees.frames(tmp_path / "frames", range(12000, 12030))
    for beside in ("cut.wav", "cut.avi"):
        reader = ClipReader(
            tmp_path / "frames", spec(face=StreamSpec("frame", (8, 8)), audio=AUDIO), beside=tmp_path / beside
        )
        assert reader.fps == pytest.approx(30)
        assert reader.audio.offset == pytest.approx(0, abs=0.05)


def test_frames_in_a_folder_last_as_long_as_their_audio(tmp_path):
    """Protects frame folders beside an mp3, whose frame rate nobody wrote down."""
    trees.film(tmp_path / "film.wav", seconds=2.0)
    trees.frames(tmp_path / "frames", range(1, 31))
    with ClipReader(
        tmp_path / "frames", spec(face=StreamSpec("frame", (8, 8))), beside=tmp_path / "film.wav"
    ) as reader:
        assert reader.fps == pytest.approx(15)
