"""Every official layout in miniature: real tiny videos and images, and the quirks that copies in use have.

Each function writes one data set below ``root``; :data:`TREES` names them as the adapters are named.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Iterable
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import cv2
import numpy as np

CAER = ("Anger", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise")
SEVEN = ("Happy", "Sad", "Neutral", "Angry", "Surprise", "Disgust", "Fear")
SIX = ("Angry", "Disgust", "Fear", "Happy", "Sad", "Surprise")
VE8 = ("Anger", "Anticipation", "Disgust", "Fear", "Joy", "Sadness", "Surprise", "Trust")
EK6 = ("anger", "disgust", "fear", "joy", "sadness", "surprise")


def _blobs(seed: int, size: tuple[int, int]) -> np.ndarray:
    colours = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return cv2.resize(colours, size[::-1])


@cache
def _image(suffix: str, size: tuple[int, int], seed: int) -> bytes:
    return cv2.imencode(suffix, _blobs(seed, size))[1].tobytes()


def image(path: Path, size: tuple[int, int] = (48, 48)) -> None:
    """Soft blobs; there are four such images of each size, and the name says which one this is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_image(path.suffix, size, zlib.crc32(path.name.encode()) % 4))


def frames(folder: Path, numbers: Iterable[int] = range(1, 4), name: str = "{:05d}.jpg", side: int = 48) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for n in numbers:
        image(folder / name.format(n), (side, side))


def video(path: Path) -> None:
    """Four frames of 48 x 48; there are two such videos of each format, and the name says which one this is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_video(path.suffix, zlib.crc32(path.name.encode()) % 2))


@cache
def _video(suffix: str, which: int) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format={".mkv": "matroska"}.get(suffix, suffix[1:])) as box:
        stream = box.add_stream("flv1" if suffix == ".flv" else "mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 48, "yuv420p"
        still = _blobs(which, (48, 48))
        for i in range(4):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.roll(still, 4 * i, 1)), format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, 25)
            box.mux(stream.encode(frame))
        box.mux(stream.encode())
    return file.getvalue()


def film(path: Path, *, fps: int = 30, seconds: float = 1.5, silent_s: float = 0.5) -> None:
    """A video whose audio, a tone, begins after ``silent_s`` seconds; by an ending of audio files the audio alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rate, t = 16000, np.arange(round(seconds * 16000)) / 16000
    wave = np.where(t < silent_s, 0, 0.5 * np.sin(2 * np.pi * 440 * t))
    with av.open(str(path), "w") as box:
        if path.suffix not in (".mp3", ".wav"):
            images = box.add_stream("mpeg4", rate=fps)
            images.width, images.height, images.pix_fmt = 64, 48, "yuv420p"
        audio = box.add_stream("mp3" if path.suffix == ".mp3" else "pcm_s16le", rate=rate, layout="mono")
        for i in range(round(seconds * fps)) if path.suffix not in (".mp3", ".wav") else ():
            shown = np.roll(_blobs(0, (48, 64)), 2 * i, 1)
            box.mux(images.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(shown), format="rgb24")))
        if path.suffix not in (".mp3", ".wav"):
            box.mux(images.encode())
        heard = av.AudioFrame.from_ndarray((wave * 32767).astype(np.int16)[None], format="s16", layout="mono")
        heard.sample_rate, heard.pts, heard.time_base = rate, 0, Fraction(1, rate)
        converted = av.AudioResampler(audio.format, "mono", rate, audio.frame_size or None)
        for frame in [*converted.resample(heard), *converted.resample(None)]:
            box.mux(audio.encode(frame))
        box.mux(audio.encode())


def text(path: Path, *lines: str) -> None:
    """A list whose last line lacks its newline, as many do."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines), encoding="utf-8")


def caer_s(root: Path) -> None:
    """Angry in train and Anger in test; boxes leave the image; one image has none, one that is listed is absent."""
    lists: dict[str, list[str]] = {"train": [], "test": []}
    for split, angry in (("train", "Angry"), ("test", "Anger")):
        for k, c in enumerate(CAER):
            for n in (1, 3):  # numbers have gaps
                name = f"{split}/{angry if c == 'Anger' else c}/{n:04d}.png"
                image(root / name, (40, 71))
                lists[split].append(f"{split}/{'Angry' if c == 'Anger' else c}/{n:04d}.png,{k},-2,3,20,25")
    lists["train"].pop()  # Surprise/0003: no face was found
    lists["test"].append("test/Sad/0005.png,5,1,1,20,20")
    for split, entries in lists.items():
        (root / "boxes").mkdir(exist_ok=True)
        with gzip.open(root / "boxes" / f"{split}.txt.gz", "wt") as f:
            f.write("\n".join(entries))


def caer(root: Path) -> None:
    """Videos; the validation folder is called ``validation``, and numbers repeat in every class and split."""
    for split in ("train", "validation", "test"):
        for c in CAER:
            video(root / "CAER" / split / c / "0001.avi")


def ncaer_s(root: Path) -> None:
    """Images under Angry, their boxes under Anger; one image without a face, one without a box file."""
    for split in ("train", "val", "test"):
        for c in CAER:
            image(root / "images" / split / ("Angry" if c == "Anger" else c) / "12.jpg")
            if c != "Sad":
                text(root / "crop" / split / c / "12.txt", "0,0,0,0" if c == "Fear" else "4,4,30,30")


def ekman6(root: Path) -> None:
    """Names with brackets, commas and spaces, the same name in all classes, one video absent; indices in both lists."""
    train, test = [], []
    for k, c in enumerate(EK6, 1):
        for name in ("01", "[Vimeo-]-20", "a b, part (1)"):
            video(root / c / f"{name}.mp4")
        train += [f"{c}/01 {k}", f"{c}/a b, part (1) {k}"]
        test.append(f"{c}/[Vimeo-]-20 {k}")
    (root / "joy" / "01.mp4").unlink()
    text(root / "annotations" / "trainlist01.txt", *train)
    text(root / "annotations" / "testlist01.txt", *test)
    text(root / "annotations" / "classInd.txt", *(f"{k} {c}" for k, c in enumerate(EK6, 1)))


def videoemotion8(root: Path) -> None:
    """Folders of frames beside ``n_frames``; no index in the test list; one video in two classes."""
    train, test = [], []
    for k, c in enumerate(VE8, 1):
        for name in ("3527012618_7ceb8fb27b_700", "clip 2"):
            frames(root / "VideoEmotion8--imgs" / c / name, name="{:06d}.jpg")
            text(root / "VideoEmotion8--imgs" / c / name / "n_frames", "3")
        film(root / "VideoEmotion8--mp3" / c / "clip 2.mp3", seconds=0.5)
        train.append(f"{c}/3527012618_7ceb8fb27b_700 {k}")
        test.append(f"{c}/clip 2")
    text(root / "trainlist01.txt", *train)
    text(root / "testlist01.txt", *test)


def aff_wild2(root: Path) -> None:
    """Two people in one video, labels of -5, images missing where no face was, one frame more than labels."""
    place = root / "6th ABAW Annotations" / "VA_Estimation_Challenge"
    for split, name, there in (
        ("Train_Set", "7-60-1920x1080", range(1, 9)),
        ("Train_Set", "video12_left", (2, 3, 5, 6, 7, 8)),
        ("Train_Set", "video12_right", range(1, 9)),
        ("Validation_Set", "12-24-1920x1080", range(1, 10)),
    ):
        frames(root / "cropped_aligned" / name, there, side=112)
        values = [f"{i / 10},{-i / 10}" for i in range(1, 9)]
        values[1] = "-5,0.3" if name == "7-60-1920x1080" else values[1]
        text(place / split / f"{name}.txt", "valence,arousal", *values)
    film(root / "batch1" / "7-60-1920x1080.avi", seconds=0.3, silent_s=0.0)
    film(root / "batch2" / "video12.avi", seconds=0.3, silent_s=0.0)
    text(root / "Valence_Arousal_Estimation_Challenge_test_set_release.txt", "7-60-1920x1080")


def ferplus(root: Path) -> None:
    """Votes without a name, a name that stands twice, a tie; pixels in a second table, joined line by line."""
    emotions = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF")
    votes, pixels = ["Usage,Image name," + ",".join(emotions)], ["emotion,pixels,Usage"]
    for usage in ("Training", "Training", "PublicTest", "PrivateTest"):
        for k in range(8):
            n = len(pixels) - 1
            shares = [1] * 8 if (usage, k) == ("Training", 0) else [9 * (i == k) for i in range(8)]
            votes.append(f"{usage},fer{n:07d}.png," + ",".join(map(str, [*shares, 1, 0])))
            pixels.append(f"{k % 7},{' '.join(str((31 * n + i) % 256) for i in range(48 * 48))},{usage}")
    votes += ["PrivateTest,," + ",".join("0" * 9) + ",10", votes[1].replace("fer0000000", "fer0000001")]
    pixels += [pixels[-1], pixels[1]]
    text(root / "fer2013new.csv", *votes)
    text(root / "fer2013.csv", *pixels)


def afew(root: Path) -> None:
    """Faces cut out as in Emotion-FAN: one folder is empty, one that is listed is absent."""
    for split in ("train", "val"):
        entries = []
        for i, c in enumerate(sorted(SEVEN)):
            for n in (i, 40 + i):
                frames(
                    root / "data" / "face" / f"{split}_afew" / c / f"{n:09d}",
                    () if (c, n) == ("Fear", 2) else (1, 2, 3),
                )
                entries.append(f"{c}/{n:09d} {c}")
        entries.append("Sad/999999999 Sad")
        text(root / "data" / "txt" / f"afew_{split}.txt", *entries)


def dfew(root: Path) -> None:
    """Names without leading zeros, both spellings of the list folders, the images of 256 pixels; votes in csv."""
    names = {n: SEVEN[n % 7] for n in range(1, 36)}
    for n in names:
        if n != 35:  # listed, without a face
            frames(root / "Clip" / "clip_224x224" / f"{n:05d}", name=f"{n:05d}_{{:05d}}.jpg", side=64)
    for k in range(1, 6):
        tested = [n for n in names if n % 5 == k - 1]
        for part, spelled in (("test", "test(single_labeled)"), ("train", "train(single-labeled)")):
            entries = [f"{n},{n % 7 + 1}" for n in names if (n in tested) == (part == "test")]
            text(root / "EmoLabel_DataSplit" / spelled / f"set_{k}.csv", "video_name,label", *entries)
    (root / "Annotation").mkdir()
    with (root / "Annotation" / "annotation.csv").open("w", newline="") as f:
        out = csv.writer(f)
        out.writerow([*(f"vote_{c.lower()}" for c in SEVEN), "clip_name", "annotation"])
        for n in names:
            out.writerow([*(6 if i == n % 7 else 2 if i == 0 else 0 for i in range(7)), n, n % 7 + 1])


def mmi(root: Path) -> None:
    """Emotions in words and in numbers, an action-unit session that is no item, several sessions of one person."""
    for n in range(24):
        place = root / "Sessions" / str(100 + n)
        video(place / f"S{n:03d}-001.avi")
        text(place / "session.xml", f'<session sessionId="{n}"><subject id="{n % 12}" gender="f"/></session>')
        value = SIX[n % 6] if n % 2 else str(n % 6 + 1)
        mark = "AU" if n == 20 else "Emotion"
        text(
            place / f"S{n:03d}-001-aucs.xml",
            f'<ActionUnitCoding><Metatag Name="{mark}" Value="{value}"/></ActionUnitCoding>',
        )


def bu4dfe(root: Path) -> None:
    """Twelve people, numbered from 000; one sequence is absent."""
    for person in [f"F{n:03d}" for n in range(1, 8)] + [f"M{n:03d}" for n in range(1, 6)]:
        for c in SIX:
            if (person, c) != ("M003", "Sad"):
                frames(root / person / c, range(3), name="{:03d}.jpg")


def ferv39k(root: Path) -> None:
    """The same id in two scenes; one clip without images."""
    for part, scenes in (("train", ("Action", "War")), ("test", ("Crime",))):
        entries = []
        for scene in scenes:
            for c in SEVEN:
                if (scene, c) != ("War", "Fear"):
                    frames(root / "2_ClipsforFaceCrop" / scene / c / "0007")
                entries.append(f"{scene}/{c}/0007 {c}")
        text(root / "4_setups" / "All_scenes" / f"{part}_All.csv", *entries)


def mafw(root: Path) -> None:
    """Eleven classes, whole frames; one clip without any."""
    classes = (
        "anger", "disgust", "fear", "happiness", "neutral", "sadness",
        "surprise", "contempt", "anxiety", "helplessness", "disappointment",
    )  # fmt: skip
    names = {n: classes[n % 11] for n in range(1, 34)}
    for n in names:
        if n != 33:
            frames(root / "data" / "frames" / f"{n:05d}", name="{:06d}.png")
    for k in range(1, 6):
        for part in ("train", "test"):
            entries = [f"{n:05d}.mp4 {c}" for n, c in names.items() if (n % 5 == k - 1) == (part == "test")]
            text(root / "split" / "single" / "no_caption" / f"set_{k}" / f"{part}.txt", *entries)


def ravdess(root: Path) -> None:
    """The same recording with image and audio and as audio alone; a song; eight actors."""
    for actor in range(1, 9):
        for emotion in range(1, 9):
            video(root / f"Actor_{actor:02d}" / f"01-01-{emotion:02d}-01-01-01-{actor:02d}.mp4")
    video(root / "Audio" / "Actor_01" / "03-01-03-01-01-01-01.mkv")
    video(root / "Actor_01" / "01-02-03-01-01-01-01.mp4")


def crema_d(root: Path) -> None:
    """Flash videos of six actors and the table of votes of all three views, with a tie."""
    place = root / "VideoFlash"
    with_votes = []
    for actor in range(1001, 1007):
        for i, code in enumerate(("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")):
            video(place / f"{actor}_IEO_{code}_XX.flv")
            for view in (1, 2, 3):
                votes = [0] * 6
                votes[i] = 6
                votes[4] += 2 * view  # listeners, viewers and both hear neutral more and more; a tie in the last view
                with_votes.append([f"{view}{len(with_votes):05d}", *votes, f"{actor}_IEO_{code}_XX", sum(votes)])
    (root / "processedResults").mkdir()
    with (root / "processedResults" / "tabulatedVotes.csv").open("w", newline="") as f:
        csv.writer(f).writerows([["", *"ADFHNS", "fileName", "numResponses"], *with_votes])


TREES: dict[str, Callable[[Path], None]] = {
    f.__name__: f
    for f in (
        caer_s, caer, ncaer_s, ekman6, videoemotion8, aff_wild2, afew, dfew,
        mmi, bu4dfe, ferv39k, mafw, ravdess, crema_d, ferplus,
    )
} | {"fer2013": ferplus}  # fmt: skip
