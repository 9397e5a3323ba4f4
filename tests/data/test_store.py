"""Prepared stores: what is read back is what the file gives, whoever made it and however often it was killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import trees

from emozoo import registry
from emozoo.data import datasets, doctor, faces, store
from emozoo.data.clips import RawClip
from emozoo.data.datamodule import EmotionDataModule
from emozoo.data.loading import read_row
from emozoo.data.manifest import Row
from emozoo.data.media_state import state_of, unchanged
from emozoo.data.prepare import Result, _open_writer, cover_of, prepare
from emozoo.data.store import Cover
from emozoo.errors import UsageError, VideoError
from emozoo.spec import AudioSpec, ClipSpec, StreamSpec
from emozoo.synthemo import generate
from emozoo.zoo import load

CROPS = Cover.of([ClipSpec({"face": StreamSpec("frame", (16, 16))}, clips=1, sampling="segments", window_s=1.0)])
MODELS = ("ceflnet", "caer_cross_attention", "recursive_joint_attention", "dfan")


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two drawn videos with faces and audio, once for all tests."""
    return generate(tmp_path_factory.mktemp("drawn"), 2, 0).parent


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory, drawn: Path, make_video: Callable[..., Path]) -> Path:
    """A table of everything: drawn videos (one in part), a still, a folder of frames, a large face, a broken file."""
    root = tmp_path_factory.mktemp("mixed")
    videos = sorted(drawn.rglob("*.mp4"))[:2]
    for name, video in zip(("whole", "part"), videos, strict=True):
        shutil.copy(video, root / f"{name}.mp4")
    make_video(root / "plain.mp4", frames=30, clicks=(0.1, 0.6))
    noise = cv2.resize(np.random.default_rng(0).integers(0, 255, (9, 9, 3), dtype=np.uint8), (320, 240))
    cv2.imwrite(str(root / "still.png"), noise)
    (root / "frames").mkdir()
    for i in range(5):
        cv2.imwrite(str(root / "frames" / f"{i:03d}.png"), np.roll(noise, 20 * i, 1))
    (root / "broken.mp4").write_bytes(b"no video at all")
    (root / "plain.va.csv").write_text("valence,arousal\n" + "0.5,-0.25\n" * 30)
    rows = [
        "path,label,split,start,end,x1,y1,x2,y2",
        "whole.mp4,a,train,,,,,,",
        "part.mp4,b,train,0.4,1.2,,,,",
        "plain.mp4,a,test,,,,,,",
        "still.png,b,test,,,60,40,200,199",
        "frames,a,test,,,0,0,319,239",
        "broken.mp4,b,test,,,,,,",
    ]
    (root / "manifest.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture(scope="module")
def made(mixed: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """Its store, for the small sizes of four models."""
    out = tmp_path_factory.mktemp("stores") / "mixed"
    result = prepare("csv", mixed, out, cover=lite(), workers=1)
    assert result is not None
    return out, result


def lite(*names: str) -> Cover:
    return Cover.of(registry.MODELS[n].specs["lite"] for n in names or MODELS)


def read(root: Path, spec: ClipSpec, seed: int | None = None) -> dict[str, RawClip]:
    """All items that can be read."""
    found = {}
    for row in datasets.load("csv" if (root / "manifest.csv").is_file() else "store", root).rows:
        try:
            found[row.id] = read_row(row, spec, None if seed is None else np.random.default_rng(seed))
        except VideoError:
            continue
    return found


@pytest.mark.parametrize("seed", [None, 7])
@pytest.mark.parametrize("name", MODELS)
def test_a_store_gives_what_the_files_give(mixed: Path, made: tuple[Path, Result], name: str, seed: int | None) -> None:
    """Same frames, times, boxes, masks, warnings; audio to the last bit; images but for the JPEG."""
    spec = registry.MODELS[name].specs["lite"]
    theirs, ours = read(mixed, spec, seed), read(made[0], spec, seed)
    assert theirs.keys() == ours.keys()
    assert {"whole", "part", "plain"} <= ours.keys()
    for key, a in theirs.items():
        b = ours[key]
        assert (a.no_face, a.warnings) == (b.no_face, b.warnings)
        np.testing.assert_array_equal(a.times, b.times)
        np.testing.assert_array_equal(a.boxes, b.boxes)
        for stream, s in spec.streams.items():
            np.testing.assert_array_equal(a.frames[stream], b.frames[stream])
            np.testing.assert_array_equal(a.masks[stream], b.masks[stream])
            if s.source == "audio":
                np.testing.assert_array_equal(a.streams[stream], b.streams[stream])
            else:
                error = np.abs(a.streams[stream].astype(int) - b.streams[stream])
                assert error.mean() < 5, (key, stream)
                if s.size == (64, 64) and s.source != "context":  # of the store's own size: never scaled twice
                    assert error.mean() < 2.5, (key, stream)


def test_smaller_images_come_from_larger_ones(mixed: Path, made: tuple[Path, Result]) -> None:
    """A store serves what it covers: smaller sizes and a narrower crop than it was made for, close to the file's."""
    spec = registry.MODELS["ceflnet"].specs["lite"]
    wide = replace(spec, margin=0.25)
    out = made[0].with_name("wide")
    assert prepare("csv", mixed, out, cover=Cover.of([spec, wide]), workers=1)
    for one in (spec, wide):
        theirs, ours = read(mixed, one), read(out, one)
        for key in ("whole", "part", "still"):
            error = np.abs(theirs[key].streams["face"].astype(int) - ours[key].streams["face"])
            assert error.mean() < 5, key


def test_what_is_not_covered_is_refused_and_said(made: tuple[Path, Result]) -> None:
    """Protects against reading images that are too small, badly cut or found by another detector, unknowingly."""
    spec = registry.MODELS["ceflnet"].specs
    for wrong, said in (
        (spec["full"], "faces of 224 pixels, the store has"),
        (replace(spec["lite"], margin=0.5), "margin of 0.5"),
        (spec["lite"].with_detector("yunet"), "found by yunet, the store's were found by cascade"),
        (registry.MODELS["recursive_joint_attention"].specs["full"], "audio at 44100 Hz"),
    ):
        with pytest.raises(UsageError, match=said):
            EmotionDataModule("store", made[0], spec=wrong).setup("fit")
    thin = replace(lite("ceflnet"), rate=5.0)
    assert "every frame may be asked for, the store has 5 a second" in thin.lacks(spec["lite"])
    with pytest.raises(UsageError, match="prepare two"):
        Cover.of([spec["lite"], spec["lite"].with_detector("yunet")])


def test_a_store_for_a_name_has_the_detector_of_its_default_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects `prepare` with bare names, and without any: default weights are served, whatever the sizes name.

    Two weights that were named and differ are refused. Where yunet cannot be had, all faces are found by cascade.
    """
    defaults = {
        arch: ClipSpec.from_dict(found.config["spec"])
        for arch in registry.MODELS
        if (found := registry.resolve(arch)[1]) is not None
    }
    assert {defaults[a].detector for a in ("ceflnet", "emotion_fan")} == {"yunet", "cascade"}, "or it tests nothing"
    monkeypatch.setattr(faces, "fallback_reason", lambda name: None)
    one = cover_of(["ceflnet"])
    assert not one.lacks(defaults["ceflnet"])
    every = cover_of([])
    for arch, model in registry.MODELS.items():
        for spec in [*model.specs.values(), *([defaults[arch]] if arch in defaults else [])]:
            assert not every.lacks(spec.with_detector("yunet")), arch
    for names in (["ceflnet", "emotion_fan"], ["emotion_fan", "ceflnet.faces7"]):
        with pytest.raises(UsageError, match="prepare two"):
            cover_of(names)
    assert cover_of(["ceflnet", "resnet_gru"]).detector == "yunet"
    monkeypatch.setattr(faces, "fallback_reason", lambda name: "no network" if name == "yunet" else None)
    for names in ([], ["ceflnet", "emotion_fan"]):
        assert cover_of(names).detector == "cascade"


def test_bad_items_stay_as_errors(mixed: Path, made: tuple[Path, Result]) -> None:
    """One bad file does not end the run, is not lost, and is refused in evaluation with the file's name and reason."""
    assert [f for f, _ in made[1].failed] == ["broken.mp4"]
    assert made[1].items == 6
    rows = {r.id: r for r in datasets.load("store", made[0]).rows}
    with pytest.raises(VideoError, match=r"broken\.mp4: .*not a media file"):
        read_row(rows["broken"], registry.MODELS["ceflnet"].specs["lite"])
    report = doctor.check(made[0])
    assert [(f.code, f.item) for f in report.findings if f.code != "empty_class"] == [("unreadable", "broken")]
    assert (report.items, report.content_sha256) == (6, made[1].content_sha256)


def test_labels_come_along(mixed: Path, made: tuple[Path, Result]) -> None:
    """Everything of the table but the path is the same, per-frame labels too; nothing is written beside the data."""
    before, after = datasets.load("csv", mixed), datasets.load("csv", made[0])
    for a, b in zip(before.rows, after.rows, strict=True):
        assert replace(a, path="", extra={}) == replace(b, path="", extra={})
        assert b.extra["source"] == a.path
        if "va_file" in a.extra:
            assert Path(a.extra["va_file"]).read_text() == Path(b.extra["va_file"]).read_text()
    assert (before.classes, before.protocol) == (after.classes, after.protocol)
    assert not list(mixed.glob("**/store.json"))


def test_a_model_says_the_same(mixed: Path, tmp_path: Path) -> None:
    """A clip's scores through the store, whose images are JPEG, stay within .05 of the file's, in workers too."""
    module = load("ceflnet").requires_grad_(False)
    spec = module.spec.with_detector("cascade")  # needs no file
    prepare("csv", mixed, tmp_path / "store", cover=Cover.of([spec]), workers=1)
    said = []
    for dataset, root, workers in (("csv", mixed, 0), ("store", tmp_path / "store", 2)):
        dm = EmotionDataModule(dataset, root, spec=spec, split="train", num_workers=workers, batch_size=2)
        dm.setup("test")
        batches = [b for b in dm.test_dataloader() if b is not None]
        said.append(np.concatenate([module.scores(module.predict_step(b)["logits"]).numpy() for b in batches]))
    np.testing.assert_allclose(*said, atol=0.05)


def test_damage_is_found(mixed: Path, made: tuple[Path, Result], tmp_path: Path) -> None:
    """Protects against a store that changed after it was written."""
    copy = tmp_path / "copy"
    shutil.copytree(made[0], copy)
    chunk = copy / "chunk-0-0.bin"
    data = bytearray(chunk.read_bytes())
    data[-1000] ^= 255
    chunk.write_bytes(data)
    (copy / "chunk-0-2.bin").unlink()
    found = {f.code: f.item for f in doctor.check(copy).findings}
    assert (found["damaged"], found["broken"]) == ("whole", "plain")


def test_what_out_may_be(mixed: Path, made: tuple[Path, Result], tmp_path: Path) -> None:
    """The same command again answers at once; other settings, other data, and folders of the user's are refused."""
    again = prepare("csv", mixed, made[0], cover=lite(), workers=1)
    assert again == made[1]
    with pytest.raises(UsageError, match=r"other data or settings .*covers"):
        prepare("csv", mixed, made[0], cover=lite("dfan"), workers=1)
    with pytest.raises(UsageError, match="lies inside the data set"):
        prepare("csv", mixed, mixed / "store", cover=lite(), workers=1)
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(UsageError, match="holds something else"):
        prepare("csv", mixed, tmp_path, cover=lite(), workers=1)
    with pytest.raises(UsageError, match="is a store of csv, not of dfew"):
        datasets.load("dfew", made[0])


def test_thinned(mixed: Path, tmp_path: Path) -> None:
    """With a rate, so many frames a second are kept, under the numbers that they have in the file."""
    spec = replace(registry.MODELS["ceflnet"].specs["lite"], sampling="segments", rate=5.0, clips=1)
    assert prepare("csv", mixed, tmp_path / "s", cover=Cover.of([spec], rate=5.0), workers=1)
    lines = store.open_store(tmp_path / "s").lines
    assert {line["row"]["id"]: line["frames"] for line in lines}["plain"] == 6  # 1.2 s
    assert read(tmp_path / "s", spec)["plain"].frames["face"].max() > 6


# -- killed, and shared ---------------------------------------------------------------------------------------------


def forked(job: Callable[[], object]) -> int:
    """Starts a job in a process of its own, which has everything imported already; returns its number."""
    process = os.fork()
    if process == 0:
        try:
            job()
        finally:
            os._exit(0)
    return process


@pytest.fixture(scope="module")
def ten(tmp_path_factory: pytest.TempPathFactory, make_video: Callable[..., Path]) -> tuple[Path, str]:
    """Ten short videos in two class folders, and the hash of their store when nothing happens to it."""
    root = tmp_path_factory.mktemp("ten")
    for i in range(10):
        (root / "ab"[i % 2]).mkdir(exist_ok=True)
        make_video(root / "ab"[i % 2] / f"{i}.mp4", frames=5 + i)
    whole = prepare("folder", root, tmp_path_factory.mktemp("stores") / "ten", cover=lite("dfan"), workers=1)
    assert whole is not None
    return root, whole.content_sha256


def test_goes_on_after_a_kill(ten: tuple[Path, str], tmp_path: Path) -> None:
    """kill -9 after 20, 50 and 80 %, then the same call: no item is made twice, and the store is that of one run."""
    root, expected = ten
    out = tmp_path / "store"

    def killed(share: float) -> Callable[[], object]:
        def at(done: int, of: int) -> None:
            if done >= share * of:
                os.kill(os.getpid(), signal.SIGKILL)

        return lambda: prepare("folder", root, out, cover=lite("dfan"), workers=1, progress=at)

    for share in (0.2, 0.5, 0.8):
        status = os.waitpid(forked(killed(share)), 0)[1]
        assert os.WTERMSIG(status) == signal.SIGKILL
        assert not store.is_store(out)
        assert len(list(out.glob(".prepare/part-*"))) == 10 * share
    (out / ".prepare" / "draft-00009-here-1").mkdir()  # what a kill in the middle of an item leaves
    counts: list[int] = []
    last = prepare("folder", root, out, cover=lite("dfan"), workers=1, progress=lambda done, of: counts.append(done))
    assert last is not None
    assert (last.items, last.content_sha256, counts[0]) == (10, expected, 8)
    assert not (out / ".prepare").exists()
    assert doctor.check(out).content_sha256 == expected


class Stopped(Exception):
    """Ends a run in its middle."""


def test_media_that_changed_are_read_anew_when_a_run_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Protects from stores of old and new media: what an earlier run read and what changed since is read again."""
    data = [tmp_path / "data" / "a" / f"{i}.png" for i in range(4)]
    for file in data:
        trees.image(file)
    data[0].write_bytes(b"broken")
    data[3].write_bytes(b"broken, too")

    def stop(done: int, of: int) -> None:
        if done == 3:
            raise Stopped

    def run(name: str, progress: Callable[[int, int], None] = lambda done, of: None) -> Result:
        made = prepare("folder", tmp_path / "data", tmp_path / name, cover=CROPS, workers=1, progress=progress)
        assert made is not None
        return made

    with pytest.raises(Stopped):
        run("store", stop)
    trees.image(data[0])
    os.utime(data[1])  # the same content at another time is no change
    kept = os.stat(tmp_path / "store" / ".prepare" / "part-00001" / "rows.jsonl").st_mtime_ns
    with pytest.raises(Stopped):
        run("store", stop)
    assert "1 of its files (a/0.png) changed since they were read, and are read anew" in caplog.text
    assert os.stat(tmp_path / "store" / ".prepare" / "part-00001" / "rows.jsonl").st_mtime_ns == kept
    caplog.clear()
    last, fresh = run("store"), run("fresh")
    assert (last.failed, last.content_sha256) == (fresh.failed, fresh.content_sha256)
    assert [file for file, _ in last.failed] == ["a/3.png"]
    assert caplog.text == ""


def test_a_store_of_media_that_changed_is_said(tmp_path: Path) -> None:
    """Protects from a store of other media than lie there: a bad file that was mended, a video that was replaced and
    an audio file are named; a finished store is never taken away, and one without states is read as before."""
    for i in range(3):
        trees.image(tmp_path / "data" / f"{i}.png")
    trees.frames(tmp_path / "data" / "f", range(3))
    trees.film(tmp_path / "data" / "s.wav", seconds=0.3)
    (tmp_path / "data" / "2.png").write_bytes(b"broken")
    (tmp_path / "data" / "manifest.csv").write_text("path,label,sound\n0.png,a,\n1.png,a,\n2.png,a,\nf,a,s.wav\n")

    def run() -> Result | None:
        return prepare("csv", tmp_path / "data", tmp_path / "store", cover=CROPS, workers=1)

    first = run()
    assert first is not None
    assert [file for file, _ in first.failed] == ["2.png"]
    shutil.copytree(tmp_path / "data", tmp_path / "copy", copy_function=shutil.copyfile)  # all at other times
    shutil.rmtree(tmp_path / "data")
    (tmp_path / "copy").rename(tmp_path / "data")
    assert run() == first
    trees.image(tmp_path / "data" / "2.png")
    trees.film(tmp_path / "data" / "s.wav", seconds=0.4)
    with pytest.raises(UsageError, match=r"made before 2 of its files \(2\.png, f\) changed: use it .*delete it"):
        run()
    assert [r.id for r in datasets.load("store", tmp_path / "store")] == ["0", "1", "2", "f"]
    table = tmp_path / "store" / "rows.jsonl"
    lines = [json.loads(line) for line in table.read_text().splitlines()]
    odd = Row("x", "a\0b", extra={"sound": "c\0d"})  # no path at all
    assert unchanged(odd, state_of(odd))
    table.write_text("".join(json.dumps({k: v for k, v in line.items() if k != "media"}) + "\n" for line in lines))
    assert run() == first


def test_two_processes_share_the_work(ten: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that a launcher numbers make each item once, and rank 0 joins the same store as one process makes."""
    root, expected = ten
    out = tmp_path / "store"
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    os.waitpid(forked(lambda: prepare("folder", root, out, cover=lite("dfan"), workers=1)), 0)
    assert len(list(out.glob(".prepare/part-*"))) == 5
    monkeypatch.setenv("RANK", "0")
    made = prepare("folder", root, out, cover=lite("dfan"), workers=1)
    assert made is not None
    assert (made.items, made.content_sha256) == (10, expected)


def test_object_storage(ten: tuple[Path, str], bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects stores by address: written there, checked and read from there by a machine that has never seen them, and
    one line for an address where nothing is."""
    root, expected = ten
    monkeypatch.setenv("EMOZOO_HOME", str(tmp_path / "home"))
    made = prepare("folder", root, f"{bucket}/stores/ten", cover=lite("dfan"), workers=1)
    assert made is not None
    assert (made.folder, made.items, made.content_sha256) == (f"{bucket}/stores/ten", 10, expected)
    monkeypatch.setenv("EMOZOO_HOME", str(tmp_path / "elsewhere"))
    emozoo = [sys.executable, "-m", "emozoo"]
    checked = subprocess.run([*emozoo, "check", f"{bucket}/stores/ten", "--json"], capture_output=True, text=True)
    assert checked.stderr.strip() == ""
    found = json.loads(checked.stdout)
    assert (found["items"], found["content_sha256"]) == (10, expected)
    spec = registry.MODELS["dfan"].specs["lite"]
    dm = EmotionDataModule("folder", f"{bucket}/stores/ten", spec=spec, batch_size=4, val_share=0.0)
    dm.setup("fit")
    ids = [i for b in dm.train_dataloader() for i in b.meta["id"]]
    assert len(ids) == len(set(ids)) == len(dm.train_rows) == 8
    # Another store at the same address, with as many items: what this machine has kept of the first is not its content.
    moved = shutil.copytree(root, tmp_path / "moved")
    files = sorted(p for p in moved.rglob("*") if p.is_file())
    held = [p.read_bytes() for p in files]
    for path, data in zip(files, [*held[1:], held[0]], strict=True):
        path.write_bytes(data)
    monkeypatch.setenv("EMOZOO_HOME", str(tmp_path / "home2"))
    prepare("folder", moved, f"{bucket}/stores/ten", cover=lite("dfan"), workers=1)
    monkeypatch.setenv("EMOZOO_HOME", str(tmp_path / "elsewhere"))
    again = store.Store(f"{bucket}/stores/ten")
    for number, line in enumerate(again.lines):
        assert store.digest(again.item(number)) == line["sha256"]
    nothing = subprocess.run([*emozoo, "check", f"{bucket}/nothing"], capture_output=True, text=True)
    assert nothing.returncode == 3
    assert nothing.stderr.startswith(f"error: {bucket}/nothing: no store can be fetched there")
    assert nothing.stderr.count("\n") == 1


def test_names_with_dots_and_audio_longer_than_images(tmp_path: Path) -> None:
    """Protects folders of frames called `Mr. Bean [1]`, and models of audio: a store gives what the files give."""
    trees.frames(tmp_path / "data" / "joy" / "Mr. Bean [1]", range(1, 6))
    trees.film(tmp_path / "data" / "joy" / "a.b-c.avi", seconds=0.4, silent_s=0.0)
    trees.film(tmp_path / "long.wav", seconds=2.0, silent_s=1.5)
    lines = ["path,label,sound", "joy/Mr. Bean [1],joy,../long.wav", "joy/a.b-c.avi,joy,../long.wav"]
    (tmp_path / "data" / "manifest.csv").write_text("\n".join(lines) + "\n")
    audio = AudioSpec(rate=16000, seconds=0.5, kind="waveform")
    heard = ClipSpec(
        {"audio": StreamSpec("audio", (1, 8000), audio=audio)}, clips=4, sampling="trailing", window_s=2.0, clip_s=0.5
    )
    both = ClipSpec(
        {**heard.streams, "face": StreamSpec("frame", (16, 16))}, clips=2, sampling="segments", window_s=1.0
    )
    made = prepare("csv", tmp_path / "data", tmp_path / "store", cover=Cover.of([both]), workers=1)
    assert made is not None
    assert made.failed == []
    for spec in (heard, both):
        theirs, ours = (
            [read_row(r, spec) for r in datasets.load(n, tmp_path / p).rows]
            for n, p in (("csv", "data"), ("store", "store"))
        )
        for a, b in zip(theirs, ours, strict=True):
            np.testing.assert_allclose(a.streams["audio"], b.streams["audio"], atol=1e-6)
            np.testing.assert_array_equal(a.masks["audio"], b.masks["audio"])
    assert np.abs(theirs[0].streams["audio"]).max() >= 0
    (tmp_path / "data" / "manifest.csv").write_text("\n".join(lines).replace("joy,../long.wav", "joy,", 1) + "\n")
    with pytest.raises(UsageError):
        prepare("csv", tmp_path / "data", tmp_path / "store", cover=Cover.of([both]), workers=1)


def test_nothing_is_written_below_the_data_by_another_name(tmp_path: Path) -> None:
    """Protects data sets from stores in them, also through a link."""
    trees.frames(tmp_path / "real" / "joy" / "a")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(UsageError, match="inside the data set"):
        prepare("folder", tmp_path / "link", tmp_path / "link" / "store", cover=lite("dfan"), workers=1)
    assert not (tmp_path / "real" / "store").exists()


def command(root: Path, out: Path, *more: str) -> list[str]:
    return [
        sys.executable, "-m", "emozoo", "prepare", "folder", "--root", str(root), "--out", str(out), "--spec",
        "ceflnet.faces7_v3", "--json", *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory, drawn: Path) -> Path:
    """Forty videos in two class folders."""
    root = tmp_path_factory.mktemp("many")
    videos = sorted(drawn.rglob("*.mp4"))
    for i in range(40):
        place = root / "ab"[i % 2] / f"{i:02d}.mp4"
        place.parent.mkdir(exist_ok=True)
        shutil.copy(videos[i % 2], place)
    return root


@pytest.mark.slow(120)
def test_killed_three_times(many: Path, tmp_path: Path) -> None:
    """kill -9 at 20, 50 and 80 %, then the same command: the store of a single run, nothing lost or doubled."""
    once = json.loads(subprocess.run(command(many, tmp_path / "once"), check=True, capture_output=True).stdout)
    out = tmp_path / "killed"
    for share in (0.2, 0.5, 0.8):
        run = subprocess.Popen(command(many, out, "--workers", "2"), start_new_session=True, stderr=subprocess.DEVNULL)
        while len(list(out.glob(".prepare/part-*"))) < share * 40:
            assert run.poll() is None, "finished before it could be killed"
            time.sleep(0.02)
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        assert not (out / "store.json").exists()
    last = json.loads(subprocess.run(command(many, out), check=True, capture_output=True).stdout)
    assert (
        (last["items"], last["content_sha256"])
        == (once["items"], once["content_sha256"])
        == (40, last["content_sha256"])
    )
    checked = [
        json.loads(
            subprocess.run(
                [sys.executable, "-m", "emozoo", "check", str(s), "--json"], capture_output=True, check=False
            ).stdout
        )
        for s in (tmp_path / "once", out)
    ]
    assert [c["items"] for c in checked] == [40, 40]
    assert {c["content_sha256"] for c in checked} == {once["content_sha256"]}


@pytest.mark.slow(60)
def test_two_processes_of_torchrun(many: Path, tmp_path: Path) -> None:
    """Two processes under a launcher share the work and make the same store as one."""
    once = json.loads(subprocess.run(command(many, tmp_path / "once"), check=True, capture_output=True).stdout)
    _, _, *arguments = command(many, tmp_path / "two", "--workers", "1")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    done = subprocess.run([*launch, *arguments], check=True, capture_output=True, text=True)
    two = json.loads(done.stdout)
    assert (two["items"], two["content_sha256"]) == (once["items"], once["content_sha256"])


def test_chunks_are_plain_bytes_whatever_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects stores that are made where pyarrow is installed: they can be read where it is not."""
    from litdata.streaming.item_loader import _ARROW_FOOTER_MAGIC as MAGIC
    from litdata.streaming.writer import BinaryWriter

    # What litdata does with pyarrow, less the table of the items that it puts before the last bytes.
    monkeypatch.setattr(
        "litdata.streaming.writer.append_arrow_row_footer", lambda data, samples, **_: bytes(data) + MAGIC
    )
    item = dict.fromkeys(store.LEAVES, b"an item's bytes")

    def written(writer: BinaryWriter, folder: Path) -> bytes:
        writer.add_item(0, item)
        writer.done()
        return next(folder.glob("*.bin")).read_bytes()

    assert MAGIC in written(BinaryWriter(str(tmp_path / "litdata"), chunk_bytes=2**20), tmp_path / "litdata")
    ours = written(_open_writer(tmp_path / "ours"), tmp_path / "ours")
    assert MAGIC not in ours
    assert ours.count(b"an item's bytes") == len(store.LEAVES)
