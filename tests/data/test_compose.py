"""Composed clips: images and audio put together so that it is known what causes a label, and what is degraded."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import recorded
import trees

from emozoo.data import datasets
from emozoo.data.clips import ClipReader
from emozoo.data.manifest import Row
from emozoo.errors import DatasetError, UsageError, VideoError
from emozoo.labels import BASIC7
from emozoo.spec import AudioSpec, ClipSpec, StreamSpec
from emozoo.synthemo import Mix, compose
from emozoo.synthemo.clip import write_media
from emozoo.synthemo.compose import Composition, Material, images, plan, waveform


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Row], list[Row]]:
    """Faces and voices of two people, one of each emotion: grey images whose level is the emotion, and tones."""
    root = tmp_path_factory.mktemp("material")
    faces, voices = [], []
    for k, emotion in enumerate(BASIC7):
        for who in ("a", "b"):
            face = root / f"{emotion}_{who}.png"
            cv2.imwrite(str(face), np.full((48, 48), 40 + 30 * k, np.uint8))
            faces.append(Row(face.stem, str(face), emotion, group=who, box=(0, 0, 47, 47)))
            voice = root / f"{emotion}_{who}.wav"
            trees.film(voice, seconds=3.0, silent_s=0.8 + 0.1 * k)
            voices.append(Row(f"v_{voice.stem}", str(voice), emotion, group=f"v{who}"))
    return faces, voices


SIZE = {"size": (96, 72), "seconds": 1.6, "fps": 10.0}


def compositions(material: tuple[list[Row], list[Row]], n: int = 700, **mix: object) -> list[Composition]:
    found = Mix(**mix)  # type: ignore[arg-type]
    known = Material(*material, found.views)
    return [plan(known, 3, i, found, **SIZE) for i in range(n)]  # type: ignore[arg-type]


def test_same_seed_same_clips(material: tuple[list[Row], list[Row]], tmp_path: Path) -> None:
    """Protects repeatability: number and processes change no clip, a cut run goes on, other settings are refused."""
    faces, voices = material
    compose(tmp_path / "few", 3, 5, faces=faces, voices=voices, split="train", **SIZE)  # type: ignore[arg-type]
    made = compose(tmp_path / "more", 8, 5, faces=faces[::-1], voices=voices, workers=2, **SIZE)  # type: ignore[arg-type]
    names = [f"clips/{i:06d}.mp4" for i in range(3)]
    first = [(tmp_path / "few" / n).read_bytes() for n in names]
    assert first == [(made.parent / n).read_bytes() for n in names]
    (tmp_path / "few" / names[1]).unlink()
    calls: list[tuple[int, int]] = []
    compose(
        tmp_path / "few", 3, 5, faces=faces, voices=voices, progress=lambda *x: calls.append(x), **SIZE  # type: ignore[arg-type]
    )  # fmt: skip
    assert calls == [(3, 3)], "what is there is kept"
    assert first == [(tmp_path / "few" / n).read_bytes() for n in names]
    with pytest.raises(DatasetError, match="made with other settings"):
        compose(tmp_path / "few", 3, 5, faces=faces[1:], voices=voices, **SIZE)  # type: ignore[arg-type]


def test_a_clip_is_the_same_on_any_machine(material: tuple[list[Row], list[Row]], tmp_path: Path) -> None:
    """Protects repeatability between machines: images, audio and file of composed clips have the committed hashes."""
    found = compositions(material, 40, views=("face", "scene", "voice"), spoil=0.7, strangers=0.5)
    frames, waves = np.concatenate([images(r) for r in found]), np.concatenate([waveform(r) for r in found])
    write_media(tmp_path / "a.mp4", frames, waves, 16000, 10.0, 26)
    recorded.assert_as_recorded("composed", tmp_path / "a.mp4", frames, waves)


def test_something_is_always_whole(material: tuple[list[Row], list[Row]]) -> None:
    """Protects the question itself: one view at least is clear and tells the label; only degraded ones show another."""
    found = compositions(material, spoil=0.9, conflict=0.9)
    assert set(Counter(r.label for r in found).values()) == {100}
    for r in found:
        face, voice = (r.shows[0], r.states[0]), (r.shows[2], r.states[2])
        assert (r.label, "clear") in (face, voice)
        assert all(shown == r.label for shown, state in (face, voice) if state == "clear")
        assert (r.shows[1], r.states[1]) == ("neutral", "clear"), "a view that is not asked for tells nothing"
    assert 0.5 < np.mean([r.conflict for r in found]) < 0.7
    assert len({r.states[0] for r in found}) == 6
    assert not any(r.conflict for r in compositions(material, spoil=0.0))


def test_what_is_degraded_is_degraded(material: tuple[list[Row], list[Row]]) -> None:
    """Protects the degradations: each leaves less of the image or of the audio than a clear clip."""
    seen: dict[str, Composition] = {}
    for r in compositions(material, views=("face", "scene", "voice"), spoil=0.7):
        for view, state in zip(("face", "scene", "voice"), r.states, strict=True):
            seen.setdefault(f"{view} {state}", r)
    x1, y1, x2, y2 = (round(v) for v in seen["face dark"].box)
    dark = images(seen["face dark"])[:, y1 + 8 : y2 - 8, x1 + 8 : x2 - 8]
    assert dark.mean() < 45
    noise = images(seen["face noise"])
    x1, y1, x2, y2 = (round(v) for v in seen["face noise"].box)
    assert noise[0, y1 + 8 : y2 - 8, x1 + 8 : x2 - 8].std() > 30
    assert images(seen["scene gone"])[:, :4].std() < 15, "no place"
    whole = waveform(seen["voice clear"])
    assert np.abs(whole).max() > 0.2
    assert not waveform(seen["voice gone"]).any()
    assert (waveform(seen["voice gaps"]) == 0).mean() > 0.5
    noisy = np.abs(np.fft.rfft(waveform(seen["voice noise"])))
    tone = round(440 * len(whole) / 16000)
    assert noisy[: tone // 2].mean() > 5 * np.abs(np.fft.rfft(whole))[: tone // 2].mean()


def test_a_stranger_is_revealed_by_the_other_view(material: tuple[list[Row], list[Row]]) -> None:
    """Protects what fusing is for: headphones say whose the voice is not, a telephone whose the face is not, and
    neither says an emotion; clips without strangers are what they were."""
    without, found = compositions(material, spoil=0.3), compositions(material, spoil=0.3, strangers=0.6)
    ends = {"face": 0, "voice": 2}
    strange = {v: [r for r in found if r.states[i] == "stranger"] for v, i in ends.items()}
    both = sum(r.states == ("clear", "clear", "clear") for r in without)
    assert sum(map(len, strange.values())) == pytest.approx(0.6 * both, abs=40)
    for view, i in ends.items():
        assert len(strange[view]) > 0.4 * sum(map(len, strange.values()))
        assert all((r.shows[2 - i], r.states[2 - i]) == (r.label, "clear") for r in strange[view])
        same = np.mean([r.shows[i] == r.label for r in strange[view]])
        assert same == pytest.approx(1 / 7, abs=0.08), "what a stranger shows has nothing to do with the label"
    for r, old in zip(found, without, strict=True):
        if "stranger" not in r.states:
            assert replace(r, mix=old.mix) == old

    clip = next(r for r in strange["voice"] if not r.calm)
    seen, bare = (images(r)[0].astype(int) for r in (clip, replace(clip, states=("clear", "clear", "clear"))))
    x1, y1, x2, y2 = (round(v) for v in clip.box)
    changed = np.abs(seen - bare).max(-1) > 20
    rim, inner = changed[y1:y2, x1:x2].mean(), changed[y1 + 8 : y2 - 2, x1 + 9 : x2 - 9].mean()
    assert rim > 0.1
    assert inner < 0.02, "eyes and mouth stay as they are"
    clip = strange["face"][0]
    heard, near = (waveform(r) for r in (clip, replace(clip, states=("clear", "clear", "clear"))))
    level, old_level = (np.sqrt(np.mean(np.square(x))) for x in (heard, near))
    assert level == pytest.approx(old_level, rel=0.05), "loudness is no sign"
    power, pitch = np.abs(np.fft.rfft(heard)) ** 2, np.fft.rfftfreq(len(heard), 1 / 16000)
    assert power[(pitch < 200) | (pitch > 4500)].sum() < 1e-3 * power.sum()


def test_a_face_turns_where_one_person_has_both(material: tuple[list[Row], list[Row]]) -> None:
    """Protects against inventing movement: a face changes from the same person's neutral image, or not at all."""
    turning = next(r for r in compositions(material, spoil=0.0) if r.shows[0] == "surprise")
    assert turning.face is not None
    assert turning.calm is not None
    assert turning.calm.id == f"neutral_{turning.face.group}"
    x, y = (round((turning.box[i] + turning.box[i + 2]) / 2) for i in (0, 1))
    levels = images(turning)[:, y - 4 : y + 4, x - 4 : x + 4].mean((1, 2, 3))
    assert levels[-3:].mean() > levels[0] + 25, "neutral is the darker image"
    faces = [r for r in material[0] if r.label != "neutral" or r.group == "a"]
    of_b = [r for r in compositions((faces, material[1]), spoil=0.0) if r.face is not None and r.face.group == "b"]
    assert of_b
    assert all(r.calm is None for r in of_b)


def test_clips_are_read_like_any_others(material: tuple[list[Row], list[Row]], tmp_path: Path) -> None:
    """Protects training on them: a table with labels, boxes (four zeros: no face), places on the circle, audio."""
    faces, voices = material
    mix = Mix(spoil=0.8, gone=0.6)
    path = compose(tmp_path / "set", 21, 2, faces=faces, voices=voices, mix=mix, split="val", **SIZE)  # type: ignore[arg-type]
    manifest = datasets.load("csv", path)
    assert {r.split for r in manifest} == {"val"}
    assert Counter(r.label for r in manifest) == dict.fromkeys(BASIC7, 3)
    assert all(r.valence is not None and r.group is not None for r in manifest)
    audio = AudioSpec(rate=16000, win=400, hop=250, fft=512, seconds=0.4)
    spec = ClipSpec(
        {"face": StreamSpec("face", (32, 32)), "audio": StreamSpec("audio", (40, 26), audio=audio)},
        clips=3, sampling="trailing", window_s=1.6, clip_s=0.4,
    )  # fmt: skip
    gone = [r for r in manifest if r.box == (0, 0, 0, 0)]
    assert 0 < len(gone) < 21
    for row in manifest:
        with ClipReader.of(row, spec) as reader:
            raw = reader.read()
        assert raw.no_face == (row in gone)
    table = list(csv.DictReader(path.open()))
    assert all((line["face_state"] == "gone") == (line["face_shows"] == "") for line in table)


def test_voices_are_their_labelled_part(tmp_path: Path) -> None:
    """Protects labels: of a long recording only the seconds of its row are heard; one without audio is named."""
    trees.film(tmp_path / "v.wav", seconds=4.0, silent_s=2.0)
    image = tmp_path / "f.png"
    cv2.imwrite(str(image), np.full((48, 48), 99, np.uint8))
    faces = [Row(e, str(image), e) for e in ("anger", "neutral")]
    quiet = [Row(f"q{e}", str(tmp_path / "v.wav"), e, start=0.0, end=1.9) for e in ("anger", "neutral")]
    found = compositions((faces, quiet), 4, spoil=0.0)
    assert all(np.abs(waveform(r)).max() < 0.01 for r in found)
    trees.video(tmp_path / "mute.mp4")
    mute = [Row(f"m{e}", str(tmp_path / "mute.mp4"), e) for e in ("anger", "neutral")]
    with pytest.raises(VideoError, match=r"mute\.mp4: has no audio track"):
        waveform(compositions((faces, mute), 1, spoil=0.0)[0])
    with pytest.raises(DatasetError, match="image files"):
        compositions((mute, quiet), 1)


def test_the_command(tmp_path: Path) -> None:
    """Protects `emozoo synth --faces --voices`, and the one line for what is asked wrongly."""
    for k, emotion in enumerate(("anger", "neutral")):
        (tmp_path / "faces" / "train" / emotion).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "faces" / "train" / emotion / "1.png"), np.full((48, 48), 90 * k, np.uint8))
        trees.film(tmp_path / "voices" / emotion / "1.wav", seconds=2.0)
    run = [sys.executable, "-m", "emozoo", "synth", "--out", str(tmp_path / "out"), "--n", "2"]
    faces, voices = f"folder:{tmp_path}/faces", f"folder:{tmp_path}/voices"
    done = subprocess.run([*run, "--faces", faces, "--voices", voices], capture_output=True, text=True)
    assert done.stdout.strip() == str(tmp_path / "out" / "manifest.csv"), done.stderr
    assert {r.label for r in datasets.load("csv", tmp_path / "out")} == {"anger", "neutral"}
    for wrong, said in (
        (["--faces", str(tmp_path / "faces")], "DATASET:ROOT"),
        (["--faces", faces, "--voices", voices, "--split", "test"], "no split 'test'"),
        (["--faces", faces], "fewer than two"),
        (["--faces", faces, "--voices", voices, "--views", "face"], "two or more of face, scene, voice"),
    ):
        done = subprocess.run([*run[:5], f"{tmp_path}/no", *run[6:], *wrong], capture_output=True, text=True)
        assert done.returncode in (2, 3)
        assert said in done.stderr
        assert done.stderr.count("\n") == 1


def test_wrong_mixes_are_refused() -> None:
    """Protects from sets that ask nothing."""
    for wrong in ({"views": ("face",)}, {"views": ("face", "smell")}, {"spoil": 1.5}, {"strangers": -0.1}):
        with pytest.raises(UsageError):
            Mix(**wrong)  # type: ignore[arg-type]
