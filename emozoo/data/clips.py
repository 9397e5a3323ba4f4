"""One media file under one ClipSpec → clip → batch: where reading, sampling, faces and streams meet.

Training, benchmark and prediction all read through :meth:`ClipReader.read` and :func:`to_batch`; exported graphs take
the same arrays from :func:`to_arrays`. Torch is imported by :func:`to_batch` alone.
Legend: B = samples, C = clips, F = frames in a clip, H, W = pixels, M = mel bins, S = spectrogram steps, K = classes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from av.error import FFmpegError

from emozoo.data import faces, sampling, store, views
from emozoo.data.container import check_file, check_length
from emozoo.data.faces import Track
from emozoo.data.manifest import Row
from emozoo.data.media import (
    AudioTrack,
    FrameFolder,
    FrameSource,
    Header,
    Warn,
    frame_rate,
    is_image,
    open_frames,
    open_image,
    read_header,
)
from emozoo.data.streams import ImageStream, Moments, Reading, augment_clip, read_images, streams_of
from emozoo.data.transforms import Augment
from emozoo.errors import EmozooError, VideoError
from emozoo.moved import names_of
from emozoo.spec import ClipSpec

if TYPE_CHECKING:
    from emozoo.batch import Batch

__all__ = ["MAIN", "ClipReader", "RawClip", "Track", "Warn", "to_arrays", "to_batch"]

MAIN = Track(np.zeros(1), np.zeros((1, 4)), 0.0)  # stands for the track with most face frames, whichever that is
LOOKS = 64  # for faces, between which a long file is checked for damage
AUDIO_TICK = 0.01  # seconds: an audio file is sampled as if it had 100 frames a second


@contextmanager
def file_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """In a ``with`` block that reads a file, turns OSErrors and FFmpeg's errors into a VideoError of that path."""
    try:
        yield
    except EmozooError:
        raise
    except (OSError, FFmpegError) as error:
        raise VideoError(path, f"cannot be read ({error.strerror or error})") from error


@dataclass
class RawClip:
    """A clip that is decoded, cropped and resized, but neither augmented nor normalised.

    Attributes:
        streams: images uint8 (C, F, H, W, 3) RGB; audio float32 (C, 1, M, S) in dB, of a waveform (C, 1, 1, S)
            samples; what other sources give, (C, F, ...).
        masks: bool (C, F): true = real. What is false holds zeros.
        times: float64 (C,) seconds: the clip's middle frame; with ``trailing`` sampling its last.
        frames: int64 (C, F) indices into the file; -1 for audio.
        boxes: float32 (C, 4) smoothed face box in pixels at ``times``; nan = none.
        no_face: a face was wanted, none was found, and the whole frame stands in for it.
    """

    streams: dict[str, np.ndarray]
    masks: dict[str, np.ndarray]
    times: np.ndarray
    frames: dict[str, np.ndarray]
    boxes: np.ndarray
    no_face: bool
    warnings: list[Warn]


@dataclass(frozen=True)
class Plan:
    """A clip before it is read, from ``start`` to ``end`` seconds; ``times`` and ``boxes`` are those of RawClip."""

    start: float
    end: float
    moments: Moments
    times: np.ndarray
    boxes: np.ndarray


class ClipReader:
    """Reads clips of one media file (video, audio, image, folder of frames), or item of a prepared store, by one spec.

    A context manager.

    ``duration`` in seconds (0 for a still), ``fps`` on average (0 for a still or an audio file), ``size`` = (width,
    height) in pixels, (0, 0) without images. ``warnings`` concern the file as a whole. ``images``, ``audio``: its open
    frames and audio track, None where it has none or the spec needs none.

    Args:
        box: x1, y1, x2, y2 of the face in pixels, known beforehand: nothing is detected. A box of the whole image means
            that it is a face crop already, four zeros mean that there is no face.
        beside: another media file with the audio that belongs to the images. For a folder of frames it may be the
            video that they were taken from, whose frame rate they then have. A still image has no audio.
        images: frames that are there already; ``path`` is their name then, and nothing is opened.
        start, end: seconds of the labelled part; frames and audio outside do not exist for this reader.

    Raises:
        VideoError: the file cannot be read, or has nothing that the spec looks at.
        UsageError: the store does not serve the spec.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        spec: ClipSpec,
        *,
        box: Sequence[float] | None = None,
        start: float | None = None,
        end: float | None = None,
        beside: str | os.PathLike[str] | None = None,
        images: FrameSource | None = None,
    ) -> None:
        self.path, self.spec = os.fspath(path), spec
        self._own_warnings: list[Warn] = []
        self.images: FrameSource | None = None
        self.audio: AudioTrack | store.StoredAudio | None = None
        self._box = None if box is None else np.asarray(box, dtype=np.float32)
        self._heard: tuple[str, Header | None] = (self.path, None)  # the file with the audio
        self._lead = 0.0
        try:
            if images is not None:
                self._choose(True, False, lambda: images, lambda: None, len(images.stamps) == 1)
            elif found := store.find(self.path):
                self._open_stored(*found)
            else:
                check_file(path)
                if is_image(path) and not os.path.isdir(path):
                    self._choose(True, False, lambda: open_image(path), lambda: None, True)
                else:
                    self._open_media(beside)
            self._measure()
            self.start = 0.0 if start is None else float(start)
            self.end = self.duration if end is None else float(end)
            if self._box is not None and self._box.any():
                self._check_box(self._box)
        except BaseException:
            self.close()
            raise

    @classmethod
    def of(cls, row: Row, spec: ClipSpec) -> ClipReader:
        """The reader of a manifest's row: its box, its labelled part, and its audio where that is a file of its own."""
        return cls(row.path, spec, box=row.box, start=row.start, end=row.end, beside=row.extra.get("sound"))

    def _measure(self) -> None:
        """Size, frame rate and duration of what is open. Raises VideoError."""
        self.size = self.images.size if self.images else (0, 0)
        stamps = self.images.stamps if self.images else np.zeros(0)
        self.fps = frame_rate(stamps)
        self.is_still = len(stamps) == 1
        self.duration = 0.0
        if len(stamps) > 1:
            self.duration = float(stamps[-1]) + 1 / self.fps
            steps = np.diff(stamps)
            if steps.max() > 1.5 * float(np.median(steps)) and not self.warnings:
                least, most = steps.min(), steps.max()
                text = f"frames lie {least:.3f} to {most:.3f} s apart; they are chosen by their time stamps"
                self._own_warnings.append(Warn("variable_rate", text))
        elif self.audio is not None and not self.is_still:
            if not self.audio.duration:
                raise VideoError(self.path, "its audio cannot be decoded", "broken")
            self.duration = self.audio.offset + self.audio.duration
        check_length(self.path, self.duration)
        if self.is_still:
            self._own_warnings.append(Warn("still", "a still image: nothing temporal was seen"))

    def _open_stored(self, prepared: store.Store, number: int) -> None:
        self.path = prepared.lines[number]["file"]
        images, audio, has_audio = prepared.open(number, self.spec)
        still = images is not None and images.still
        self._choose(images is not None, has_audio, lambda: images, lambda: audio, still)

    def _open_media(self, beside: str | os.PathLike[str] | None) -> None:
        own = None if os.path.isdir(self.path) else read_header(self.path)
        other = None if beside is None else read_header(beside)
        folder = FrameFolder(self.path, other) if own is None else None
        self._lead = folder.lead if folder else 0.0
        self._heard = (self.path, own) if beside is None else (os.fspath(beside), other)
        rate = next((s.audio.rate for s in self.spec.streams.values() if s.audio), 0)
        heard = self._heard[1]
        self._choose(
            own.has_video if own else True,
            heard is not None and heard.has_audio,
            lambda: folder or open_frames(self.path, own),
            lambda: self.audio_at(rate),
            False,
        )

    def audio_at(self, rate: int) -> AudioTrack:
        """The audio of the media file at that rate, in seconds after the first frame."""
        path, header = self._heard
        assert header is not None
        clock = getattr(self.images, "clock", None) if path == self.path else None
        audio = AudioTrack(path, rate, header, clock)
        audio.offset -= self._lead
        return audio

    def _choose(
        self,
        has_video: bool,
        has_audio: bool,
        images: Callable[[], FrameSource | None],
        audio: Callable[[], AudioTrack | store.StoredAudio | None],
        still: bool,
    ) -> None:
        """Opens frames and audio as the spec needs them. A file with neither is an error; one missing is a warning."""
        spec = self.spec
        if still and not spec.needs_images:
            raise VideoError(self.path, "is an image; this model needs audio", "no_audio")
        if not has_video and not has_audio:
            raise VideoError(self.path, "has neither video nor audio", "no_video")
        if spec.needs_images:
            if has_video:
                self.images = images()
            elif not spec.needs_audio:
                raise VideoError(self.path, "has no video, only audio; this model needs images", "no_video")
            else:
                self._own_warnings.append(Warn("no_video", "no video; the prediction comes from the audio alone"))
        if spec.needs_audio:
            if has_audio:
                try:
                    self.audio = audio()
                except VideoError as error:
                    if self.images is None:
                        raise
                    text = f"{error.reason}; the prediction comes from the frames alone"
                    self._own_warnings.append(Warn("no_audio", text))
            elif not spec.needs_images:
                raise VideoError(self.path, "has no audio track; this model needs audio", "no_audio")
            else:
                what = "an image has no audio" if still else "no audio track"
                seen = "image" if still else "frames"
                self._own_warnings.append(Warn("no_audio", f"{what}; the prediction comes from the {seen} alone"))

    def _check_box(self, box: np.ndarray) -> None:
        (x1, y1, x2, y2), (width, height) = box.tolist(), self.size
        if self.images and not (max(x1, 0) < min(x2, width - 1) and max(y1, 0) < min(y2, height - 1)):
            numbers = ", ".join(f"{v:g}" for v in box)
            reason = f"the face box ({numbers}) holds nothing of the {width}x{height} image"
            raise VideoError(self.path, reason, "unreadable")

    def __enter__(self) -> ClipReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the file."""
        if self.images is not None:
            self.images.close()

    @property
    def warnings(self) -> list[Warn]:
        """What was noticed about the file so far."""
        sources = [s.warnings for s in (self.images, self.audio) if s is not None]
        return self._own_warnings + [w for ws in sources for w in ws]

    @cached_property
    def tracks(self) -> list[Track]:
        """Faces of the labelled part, most face frames first: found on first use, in one pass of constant memory."""
        if self.images is None:
            return []
        if isinstance(self.images, store.StoredFrames):
            return self.images.tracks
        stamps = self.images.stamps
        lo, hi = self._inside(self.start, self.end)
        first, last = float(stamps[lo]), float(stamps[hi])
        wanted = np.arange(first, last + 1e-6, 1 / faces.DETECTIONS_PER_S)
        indices = np.unique(lo + sampling.nearest(stamps[lo : hi + 1], wanted))
        # every frame lies within this of one that the detector sees; in a very short clip it sees only one
        step = max(1 / faces.DETECTIONS_PER_S, float(np.median(np.diff(stamps[indices]))) if len(indices) > 1 else 0.0)
        if self._box is not None:
            if not self._box.any():
                return []  # known to hold no face
            return [Track(stamps[indices], np.tile(self._box, (len(indices), 1)), step)]
        spec = faces.available(self.spec)
        if spec != self.spec:
            self._own_warnings.append(Warn(faces.FALLBACK_CODE, faces.fallback_reason(self.spec.detector) or ""))
            self.spec = spec
        look = faces.Look(spec.detector)
        return faces.link(((time, look(time, image)) for time, image in self._whole(indices)), step)

    def _whole(self, indices: np.ndarray) -> Iterator[tuple[float, np.ndarray]]:
        """Seconds and image of those of the frames that decode whole. Long files are checked part by part."""
        assert self.images is not None
        for part in np.split(indices, range(LOOKS, len(indices), LOOKS)):
            whole = part[self.images.check(int(part[0]), int(part[-1]))[part - part[0]]]
            yield from zip(self.images.stamps[whole].tolist(), self.images.frames(whole), strict=True)

    def _inside(self, start: float, end: float) -> tuple[int, int]:
        """First and last index of the frames in [start, end); where none begins there, twice the one then shown."""
        assert self.images is not None
        stamps = self.images.stamps
        if len(stamps) > 1 and not (start < end and start < self.duration and end > 0):
            raise VideoError(
                self.path, f"has no frame from {start:.2f} to {end:.2f} s (it is {self.duration:.2f} s long)", "empty"
            )
        lo = int(np.searchsorted(stamps, start - 1e-6))
        hi = int(np.searchsorted(stamps, end - 1e-6)) - 1
        return (lo, hi) if lo <= hi else (max(hi, 0), max(hi, 0))

    def offered(self, start: float, end: float) -> np.ndarray:
        """Indices of the whole frames in [start, end) seconds, at least one. Raises VideoError."""
        assert self.images is not None
        lo, hi = self._inside(start, end)
        found = lo + np.flatnonzero(self.images.check(lo, hi))
        if not len(found):
            raise VideoError(self.path, f"no frame from {start:.2f} to {end:.2f} s can be decoded", "broken")
        return found

    def shots(self, indices: np.ndarray) -> Iterator[views.Shot]:
        """The frames with these ascending indices, each with its views, one decoded at a time."""
        if isinstance(self.images, store.StoredFrames):
            return self.images.shots(indices)
        assert self.images is not None
        return map(views.Shot, self.images.frames(indices))

    def read(
        self,
        start: float | None = None,
        end: float | None = None,
        *,
        track: Track = MAIN,
        rng: np.random.Generator | None = None,
    ) -> RawClip:
        """The clip from ``start`` to ``end`` seconds; by default all of the labelled part.

        ``rng`` None: the deterministic test sampling; a Generator: training draws.

        Raises:
            VideoError: nothing that the model could look at lies there.
        """
        return self._values([self.plan(start, end, track=track, rng=rng)])[0]

    def plan(
        self,
        start: float | None = None,
        end: float | None = None,
        *,
        track: Track = MAIN,
        rng: np.random.Generator | None = None,
    ) -> Plan:
        """What :meth:`read` would read, before anything is decoded for it. Arguments and errors are the same."""
        spec = self.spec
        start, end = self.start if start is None else start, self.end if end is None else end
        most = max(s.frames for s in spec.streams.values())
        if self.images is not None:
            offered = self.offered(start, end)
            stamps = self.images.stamps[offered]
        else:
            offered = np.zeros(0, dtype=np.int64)
            stamps = np.linspace(start, end, max(2, round((end - start) / AUDIO_TICK) + 1))
        plan = sampling.plan(stamps, spec.sampling, spec.clips, most, clip_s=spec.clip_s, rate=spec.rate, rng=rng)
        seconds = stamps[plan.indices]
        times = seconds[:, sampling.label_frame(most, spec.sampling)]
        boxes = np.full((spec.clips, 4), np.nan, dtype=np.float32)
        face, no_face = None, False
        if spec.needs_face and self.images is not None:
            face = next(iter(self.tracks), None) if track is MAIN else track
            if face is None or all(face.box_at(t) is None for t in set(seconds[plan.mask].tolist())):
                face, no_face = None, True
            else:
                found = [face.box_at(t) for t in times]
                boxes = np.array([np.full(4, np.nan) if b is None else b for b in found], dtype=np.float32)
        frames = offered[plan.indices] if self.images is not None else np.full_like(plan.indices, -1)
        return Plan(start, end, Moments(seconds, frames, plan.mask, face, no_face), times, boxes)

    def read_all(self, plans: Sequence[Plan]) -> list[RawClip | VideoError]:
        """The clips of several plans; a frame that many of them show is decoded once. A clip may fail alone."""
        try:
            return list(self._values(plans))
        except (VideoError, FFmpegError, OSError):
            return [self._one_of(plan) for plan in plans]

    def _one_of(self, plan: Plan) -> RawClip | VideoError:
        try:
            with file_errors(self.path):
                return self._values([plan])[0]
        except VideoError as error:
            return error

    def _values(self, plans: Sequence[Plan]) -> list[RawClip]:
        """Reads every stream of the spec for each plan, a frame that several streams or plans show only once."""
        made = streams_of(self.spec)
        readings: list[dict[str, Reading]] = [{} for _ in plans]
        images = [s for s in made.values() if isinstance(s, ImageStream) and self.images is not None]
        for name, stream in made.items():
            if stream.spec.kind.needs_images and self.images is None:
                for found in readings:
                    found[name] = stream.missing()
            elif not isinstance(stream, ImageStream):
                for found, plan in zip(readings, plans, strict=True):
                    found[name] = stream.read(self, plan.moments)
        if images:
            for found, seen in zip(readings, read_images(images, self, [p.moments for p in plans]), strict=True):
                found |= seen
        return [self._clip(plan, found) for plan, found in zip(plans, readings, strict=True)]

    def _clip(self, plan: Plan, readings: Mapping[str, Reading]) -> RawClip:
        names = list(self.spec.streams)
        if not any(readings[name].mask.any() for name in names):
            code = "no_audio" if self.images is None else "no_video"
            text = f"from {plan.start:.2f} to {plan.end:.2f} s there is nothing that the model can look at"
            raise VideoError(self.path, text, code)
        no_face = plan.moments.no_face
        warnings = list(self.warnings)
        if no_face:
            warnings.append(Warn("no_face", "no face was found; the whole frame was used in its place"))
        return RawClip(
            streams={name: readings[name].values for name in names},
            masks={name: readings[name].mask for name in names},
            times=plan.times,
            frames={name: readings[name].frames for name in names},
            boxes=plan.boxes,
            no_face=no_face,
            warnings=warnings + [w for name in names for w in readings[name].warnings],
        )


def to_arrays(raws: Sequence[RawClip], spec: ClipSpec) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Inputs and masks by stream, with the shapes and values of :func:`to_batch`, as NumPy arrays and without torch."""
    inputs, masks = {}, {}
    for name, stream in streams_of(spec).items():
        masks[name] = np.stack([r.masks[name] for r in raws])
        inputs[name] = stream.normalize(np.stack([r.streams[name] for r in raws]))
        inputs[name][~masks[name]] = 0.0
    return inputs, masks


def to_batch(
    raws: Sequence[RawClip],
    spec: ClipSpec,
    *,
    augment: Augment | Mapping[str, Augment] | None = None,
    seeds: Sequence[int] | None = None,
    ids: Sequence[str] | None = None,
) -> Batch:
    """Augment (training), normalise and stack.

    Args:
        seeds: one per sample, from which all of its augmentation follows; drawn from torch's generator when absent.
        ids: names of the samples; their positions when absent.
    """
    import torch

    from emozoo.batch import Batch

    made = streams_of(spec)
    streams: Sequence[Mapping[str, np.ndarray]] = [r.streams for r in raws]
    if augment is not None:
        if seeds is None:
            seeds = torch.randint(2**31, (len(raws),)).tolist()
        streams = [augment_clip(made, v, augment, int(s)) for v, s in zip(streams, seeds, strict=True)]
    inputs, masks = {}, {}
    for name, stream in made.items():
        mask = torch.from_numpy(np.stack([r.masks[name] for r in raws]))
        still = bool(mask.all()) and all(_one_image(v[name]) for v in streams)
        x = stream.to_tensor(np.stack([v[name][:1, :1] if still else v[name] for v in streams]))
        if still:  # one image in memory, however often it is shown
            x = x.expand(-1, *mask.shape[1:], *x.shape[3:])
        elif not mask.all():
            x[~mask] = 0.0
        inputs[name], masks[name] = x, mask
    meta = {
        "id": list(ids) if ids is not None else [str(i) for i in range(len(raws))],
        "times": torch.from_numpy(np.stack([r.times for r in raws])),
        "frames": {n: torch.from_numpy(np.stack([r.frames[n] for r in raws])) for n in spec.streams},
        "boxes": torch.from_numpy(np.stack([r.boxes for r in raws])),
        "no_face": torch.tensor([r.no_face for r in raws]),
        "warnings": [r.warnings for r in raws],
    }
    seen = [n for n, s in spec.streams.items() if s.kind.needs_images]
    return Batch(inputs, masks, meta=meta, one_image=all(_one_image(v[n]) for v in streams for n in seen))


def _one_image(stream: np.ndarray) -> bool:
    """Whether all frames of a stream are one array in memory, as those of a still are."""
    return stream.strides[:2] == (0, 0)


__getattr__ = names_of(__name__)
