"""What the page and its HTTP interface do with a file: check it, predict it, and write the results to a folder."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from PIL import Image

from emozoo import annotate, files, registry
from emozoo.data.clips import ClipReader
from emozoo.data.find import one_line
from emozoo.data.image_decode import open_pillow
from emozoo.data.image_format import format_of
from emozoo.data.media import is_image, read_header
from emozoo.demo.samples import sample
from emozoo.errors import UsageError, VideoError
from emozoo.explain import Explanation
from emozoo.inference import Prediction, Predictor
from emozoo.journal import locked
from emozoo.spec import ClipSpec, StreamKind

MAX_MB = 200  # of a file that is sent to the page
MAX_SECONDS = 180.0  # of a video or audio file
MAX_PIXELS = 64_000_000  # of an image, or of a frame of a video: each million takes about 10 MB of memory
MAX_WAITING = 50  # files in the queue
KEEP_SECONDS = 3600  # after which files that were sent, and results, are removed
QUEUE_SECONDS = 6 * 3600  # by which a file may be older that may still wait: the longest that MAX_WAITING films take
PAUSE_SECONDS = 10  # without a prediction, after which nobody waits
MODELS_IN_MEMORY = 3
SAMPLES = "samples"  # the folder of the drawn clips
FOLDER = "emozoo-demo-"  # how the temporary folder of a server begins
LOCK = ".lock"  # the file in it that is locked as long as the server runs
MAX_SIDE = 1600  # pixels of an image on the page

Progress = Callable[[float, str], None]  # called with the fraction that is done, in [0, 1], and what is being done


def model_choices(extra: str | None = None) -> list[tuple[str, str]]:
    """(what is written, name) of the weights to choose from: first those that have met people, then drawn ones.

    Controls and older versions of a tag are left out. ``extra``: weights of the user's, which come first.
    """
    entries = [
        w
        for w in registry.weights().values()
        if not w.config.get("control_of") and registry.resolve(f"{w.arch}.{_stem(w.tag)}")[1] == w
    ]
    defaults = {w.name for arch in registry.MODELS if (w := registry.resolve(arch)[1]) is not None}
    entries.sort(key=lambda w: (_drawn(w), w.name not in defaults, list(registry.MODELS).index(w.arch)))
    choices = [(f"{w.name}: {looks_at(w.config)}" + " (drawn people only)" * _drawn(w), w.name) for w in entries]
    if extra is not None and extra not in dict(map(reversed, choices)):  # type: ignore[arg-type]
        choices.insert(0, (one_line(Path(extra).name), extra))
    return choices


def _stem(tag: str) -> str:
    stem, _, number = tag.rpartition("_v")
    return stem if stem and number.isdigit() else tag


def _drawn(entry: registry.Weights) -> bool:
    return entry.material[:1] == ("drawn",)


def looks_at(config: Mapping[str, Any]) -> str:
    """What weights predict from, for readers: ``face and voice``."""
    streams = ClipSpec.from_dict(config["spec"]).streams.values()
    return " and ".join(dict.fromkeys(_word(stream.kind) for stream in streams))


def _word(kind: StreamKind) -> str:
    if kind.needs_audio:
        return "voice"
    return "face" if kind.crops_face else "scene" if kind.hides_face else "whole image"


@dataclass(frozen=True)
class Results:
    """A prediction and what was written about it. Paths are None for what there is none of.

    Attributes:
        prediction: with the name under which the file was sent in place of its path.
        media: the annotated video or image, or the audio file itself.
        explanation: the image of what the network attended to.
        json, csv: the tables to take away.
    """

    prediction: Prediction
    media: Path | None = None
    explanation: Path | None = None
    json: Path | None = None
    csv: Path | None = None


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that is removed when the block ends; no symbolic links lead to it.

    Removes those of servers that were killed, too.
    """
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER}*"):
        if _is_left_behind(folder):
            shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=FOLDER, ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        can_tell = find_spec("fcntl") is not None
        lock = folder / (f"{LOCK}.part" if can_tell else LOCK)
        with locked(lock, "the web page"):
            if can_tell:  # others see it when it is locked; Windows renames no open file
                lock.rename(folder / LOCK)
            yield folder


def _is_left_behind(folder: Path) -> bool:
    """Whether the server of that folder is no more; false where the system cannot tell (Windows)."""
    try:
        import fcntl

        with (folder / LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return False
    return True


class Service:
    """Predicts files with any of the models. One file at a time: whoever calls it has a queue.

    ``folder``: everything it writes lies below it, and so do the files that are sent, each in a folder of its own;
    what is in ``folder / SAMPLES`` stays. A folder of results belongs to one open page; its name is random, so that
    nobody finds the results of others by guessing.
    """

    def __init__(self, folder: Path, device: str | None = None) -> None:
        self.folder, self.device = folder.resolve(), device
        self._predictor = lru_cache(maxsize=MODELS_IN_MEMORY)(self._load)
        self._lock = threading.Lock()
        self._open: dict[str, tuple[Path, Path]] = {}  # by page: the folder of its results, the file that was sent
        self._at_work = threading.Lock()  # held during a prediction, and for ever once the service has ended
        self._drawing = threading.Lock()  # likewise for an example
        self._ended = False
        self._busy_since = self._worked_at = 0.0  # times: the first prediction after a pause; the end of the last one

    def _load(self, model: str) -> Predictor:
        return Predictor(model, evidence=True, device=self.device)

    def predict(self, path: Path, model: str, progress: Progress) -> Prediction:
        """The prediction that ``emozoo predict`` gives for the file; one with an error where it is unfit or too long.

        Raises EmozooError for a model that cannot be had, for a path of anything but a file that was sent, and where
        the server ends meanwhile.
        """
        with self._work(progress) as report:
            return self._predict(path, model, report)

    @contextmanager
    def _work(self, progress: Progress) -> Iterator[Progress]:
        """Keeps the service from ending during the block; yields a ``progress`` that raises once it should end."""

        def report(fraction: float, what: str) -> None:
            if self._ended:
                raise UsageError("the server ends: send the file to the next one")
            progress(fraction, what)

        report(0.0, "waiting")
        with self._at_work:
            if time.time() - self._worked_at > PAUSE_SECONDS:
                self._busy_since = time.time()
            try:
                yield report
            finally:
                self._worked_at = time.time()

    def _predict(self, path: Path, model: str, progress: Progress) -> Prediction:
        path = self._sent(path)
        progress(0.0, "loading the model")
        predictor = self._predictor(model)
        progress(0.0, "reading the file")
        if _is_too_large(path):
            return predictor.failed(
                path, "too_large",
                f"its images have more than {MAX_PIXELS / 1e6:.0f} million pixels, which this page does not take: make "
                "them smaller, or use `emozoo predict`",
            )  # fmt: skip
        seconds = 0.0
        with suppress(Exception):  # what is wrong with the file is said by its prediction
            reader = ClipReader(str(path), predictor.spec)
            reader.close()
            seconds = reader.duration
        if seconds > MAX_SECONDS:
            return predictor.failed(
                path, "too_long",
                f"the file is {seconds / 60:.1f} minutes long, and this page takes up to {MAX_SECONDS / 60:g}: cut it, "
                "or use `emozoo predict`, which takes files of any length",
            )  # fmt: skip
        return predictor.predict(path, lambda fraction: progress(fraction, "predicting"))

    def _sent(self, path: Path) -> Path:
        """The file itself, whatever way ``path`` takes to it; its time to be removed counts from now."""
        if not path.is_file() or path.resolve().parent.parent != self.folder:
            raise UsageError("the file is not here, or no longer: send it again")
        path = path.resolve()
        os.utime(path.parent)
        return path

    def results(self, page: str, path: Path, model: str, progress: Progress) -> Results:
        """Predicts a file for an open page and writes all there is to see and to take away.

        What the page had before is removed; what is written after the page was closed, too. Raises as :meth:`predict`.
        """
        with self._work(progress) as report:
            path = self._sent(path)
            self.close(page, but=path)
            folder = self.folder / secrets.token_urlsafe(16)
            folder.mkdir()
            with self._lock:
                self._open[page] = (folder, path)
            try:
                return self._write(folder, path, self._predict(path, model, report), report)
            finally:
                with self._lock:
                    closed = self._open.get(page) != (folder, path)
                if closed:
                    _remove(folder)

    def _write(self, folder: Path, path: Path, prediction: Prediction, progress: Progress) -> Results:
        named = replace(prediction, file=path.name)
        if prediction.error:
            return Results(named)
        stem = folder / (path.stem[:60].strip(".") or "file")
        table, record = stem.with_name(f"{stem.name}.csv"), stem.with_name(f"{stem.name}.json")
        files.write_text(record, named.to_json(indent=1) + "\n")
        named.to_csv(table)
        why = None
        if named.evidence is not None:
            progress(0.0, "drawing what the model attended to")
            why = stem.with_name(f"{stem.name}.explain.png")
            Explanation.of(named).save(why)
        return Results(named, _media(prediction, path, stem, progress), why, record, table)

    def close(self, page: str, but: Path | None = None) -> None:
        """Removes the results of a page, and the file that it sent unless it is ``but``."""
        with self._lock:
            folder, path = self._open.pop(page, (None, None))
        if folder is not None and path is not None:
            _remove(folder)
            if path != but and path.parent != self.folder / SAMPLES:
                _remove(path.parent)  # of this file alone

    def sample(self, name: str) -> Path:
        """The file of an example, drawn if it is not there."""
        with self._drawing:
            return sample(name, self.folder / SAMPLES)

    def end(self) -> None:
        """Ends the prediction that runs, and waits for that: nothing is written any more when this returns."""
        self._ended = True
        self._at_work.acquire()
        self._drawing.acquire()

    def sweep(self) -> None:
        """Removes what was sent or written longer than ``KEEP_SECONDS`` ago, predicted or not, whole or not.

        What may still wait for its prediction stays, for up to ``QUEUE_SECONDS`` more.
        """
        now = time.time()
        pauses = not self._at_work.locked() and now - self._worked_at > PAUSE_SECONDS
        old = (now if pauses else max(self._busy_since, now - QUEUE_SECONDS)) - KEEP_SECONDS
        with suppress(OSError):  # somebody removed the folder
            for found in self.folder.iterdir():
                with suppress(OSError):
                    if found.name not in (SAMPLES, LOCK) and found.lstat().st_mtime < old:
                        _remove(found)
        with self._lock:
            self._open = {page: pair for page, pair in self._open.items() if pair[0].is_dir()}


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _is_too_large(path: Path) -> bool:
    """Whether an image of the file has more than ``MAX_PIXELS``, by its header; what that does not tell is small."""
    try:
        data = path.read_bytes() if is_image(path) else b""
        if kind := format_of(data):
            width, height = open_pillow(path, data, kind).size
        else:
            width, height = 1, read_header(path).frame_bytes // 3
    except VideoError as error:
        return isinstance(error.__context__, Image.DecompressionBombError)  # Pillow's own limit is higher
    return width * height > MAX_PIXELS


def _media(prediction: Prediction, path: Path, stem: Path, progress: Progress) -> Path | None:
    """Writes what is looked at beside the timeline: the annotated video or image; a copy of an audio file."""
    try:
        if prediction.duration_s:
            out = stem.with_name(f"{stem.name}.annotated.mp4")
            prediction.video(out, lambda fraction: progress(fraction, "drawing the video"))
        else:
            out = stem.with_name(f"{stem.name}.annotated.jpg")
            image = Image.fromarray(annotate.still(prediction))
            image.thumbnail((MAX_SIDE, MAX_SIDE))
            image.save(out, quality=90)
    except VideoError:  # no images in it
        out = stem.with_name(f"{stem.name}{path.suffix}")
        shutil.copyfile(path, out)
    return out
