"""Streams: how each source that a model may look at is read, augmented, normalised and stored. One class a source.

:class:`~emozoo.data.clips.ClipReader` chooses the moments of a clip; every stream of the spec reads its values there;
:func:`~emozoo.data.clips.to_batch` makes tensors of them, :func:`~emozoo.data.clips.to_arrays` the same arrays without
torch. :func:`register` adds a source of your own (docs/extend.md).
What a network or a control has to know of a source, without reading it, is its :class:`emozoo.spec.StreamKind`.

Legend: B = samples, C = clips, F = frames in a clip, H, W = pixels, M = mel bins, S = spectrogram steps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

import numpy as np

from emozoo.data import audio, sampling, views
from emozoo.data.faces import Track
from emozoo.data.media import FrameSource, Warn
from emozoo.data.transforms import Augment, augment_images, augment_log_mel, augment_waveform
from emozoo.errors import UsageError
from emozoo.spec import KINDS, AudioSpec, ClipSpec, StreamKind

if TYPE_CHECKING:
    from torch import Tensor

SHORT_AUDIO_S = 0.5  # audio that starts so late, ends so early or has such a hole is mentioned
LEAST_AUDIO_S = 0.1  # a clip with less audio in its window counts as silent


class Audio(Protocol):
    """Mono samples at ``rate`` Hz: ``duration`` seconds from ``offset`` seconds after the first frame on."""

    @property
    def rate(self) -> int: ...
    @property
    def offset(self) -> float: ...
    @property
    def duration(self) -> float: ...
    @property
    def holes(self) -> Sequence[tuple[float, float]]:
        """From when to when nothing was recorded."""

    def read(self, start: float, end: float) -> np.ndarray:
        """Samples from ``start`` to ``end`` seconds."""


class Media(Protocol):
    """What a stream may ask an open file for: a :class:`~emozoo.data.clips.ClipReader`."""

    path: str

    @property
    def images(self) -> FrameSource | None: ...
    @property
    def audio(self) -> Audio | None: ...
    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the images."""

    @property
    def start(self) -> float: ...
    @property
    def end(self) -> float: ...
    def shots(self, indices: np.ndarray) -> Iterator[views.Shot]:
        """The frames with those ascending indices, one at a time."""


@dataclass(frozen=True)
class Moments:
    """The moments of one clip of a file.

    Attributes:
        seconds: float64 (C, F), for the F of the stream with most frames.
        frames: int64 (C, F) numbers of the file's frames; -1 without images.
        mask: bool (C, F), false where the file does not reach.
        face: the face that the clip is about; None = none, or none was looked for.
        no_face: a face was looked for and not found; whole images are used instead.
    """

    seconds: np.ndarray
    frames: np.ndarray
    mask: np.ndarray
    face: Track | None = None
    no_face: bool = False

    def of(self, stream: Stream) -> Moments:
        """Those that the stream takes: its own F, and its ``position``."""
        taken = sampling.subset(self.mask.shape[1], stream.spec.frames, stream.spec.position)
        seconds, frames, mask = (x[:, taken] for x in (self.seconds, self.frames, self.mask))
        return replace(self, seconds=seconds, frames=frames, mask=mask)


@dataclass
class Reading:
    """What a stream read: ``values`` (C, F, ...), ``mask`` bool (C, F), false where they are zeros that mean nothing,
    ``frames`` int64 (C, F) numbers of the file's frames, -1 for values of no frame."""

    values: np.ndarray
    mask: np.ndarray
    frames: np.ndarray
    warnings: list[Warn] = field(default_factory=list)


class Stored(NamedTuple):
    """What a prepared store has to hold of an item, one of three: face crops with a side of ``crop`` pixels, whole
    images of ``whole`` = (H, W) pixels, audio at ``rate`` Hz."""

    crop: int | None = None
    whole: tuple[int, int] | None = None
    rate: int | None = None


class Stream(ABC):
    """One stream of a spec. Subclasses say how its source is read.

    ``kind``: what the source is. ``dtype``: of the values that are read.
    ``name``, ``spec``: of the stream; ``clip``: the ClipSpec that it belongs to.
    """

    kind: ClassVar[StreamKind]
    dtype: ClassVar[type[np.generic]] = np.float32

    def __init__(self, name: str, clip: ClipSpec) -> None:
        self.name, self.clip, self.spec = name, clip, clip.streams[name]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one frame of the values that are read."""
        return self.spec.kind.item_shape(self.spec.size)

    @abstractmethod
    def read(self, media: Media, moments: Moments) -> Reading:
        """The values at the moments of a clip (``moments.of(self)``); zeros and a false mask where there are none."""

    def files(self, path: str) -> list[Path]:
        """The files beside the media file ``path`` that values come from; cached features follow their changes."""
        return []

    def missing(self) -> Reading:
        """The reading of a clip whose file lacks this source: zeros with a false mask."""
        shape = (self.clip.clips, self.spec.frames)
        values = np.broadcast_to(np.zeros((), self.dtype), (*shape, *self.shape))
        return Reading(values, np.zeros(shape, dtype=bool), np.full(shape, -1, dtype=np.int64))

    def augment(self, values: np.ndarray, augment: Augment, seed: int) -> np.ndarray:
        """Values (C, F, ...) for training, changed at random by ``seed`` alone; masked ones are set to zero later."""
        return values

    def normalize(self, values: np.ndarray) -> np.ndarray:
        """Values (B, C, F, ...) to the inputs of a network: float32, ``(x - mean) / std`` with one number each."""
        x: np.ndarray = values.astype(np.float32)
        return (x - self.spec.mean[0]) / self.spec.std[0]

    def to_tensor(self, values: np.ndarray) -> Tensor:
        """The values that :meth:`normalize` gives, as a tensor."""
        import torch  # here: reading media needs none

        return torch.from_numpy(self.normalize(values))

    def stored(self) -> Stored | None:
        """What a store has to hold for it; None = no store serves it."""
        return None


# -- images --------------------------------------------------------------------------------------------------------


class Frame(NamedTuple):
    """A decoded frame. ``box``: of the face in it, or None; ``fills``: the box is the whole image; ``no_face``: as in
    :class:`Moments`; ``points``: the landmarks (5, 2) of the face in pixels, or None."""

    shot: views.Shot
    box: np.ndarray | None
    fills: bool
    no_face: bool
    points: np.ndarray | None = None


class ImageStream(Stream):
    """RGB images, uint8 (C, F, H, W, 3): a view of each frame."""

    dtype = np.uint8

    @property
    def shape(self) -> tuple[int, ...]:
        return *self.spec.size, 3

    @abstractmethod
    def view(self, frame: Frame) -> np.ndarray | None:
        """What the stream shows of a frame; None = nothing."""

    def read(self, media: Media, moments: Moments) -> Reading:
        return read_images([self], media, [moments])[0][self.name]

    def augment(self, values: np.ndarray, augment: Augment, seed: int) -> np.ndarray:
        return augment_images(values, augment, seed)

    def normalize(self, values: np.ndarray) -> np.ndarray:
        """uint8 (B, C, F, H, W, 3) → (B, C, F, 3, H, W), scaled to [0, 1], then ``(x - mean) / std`` per channel."""
        x: np.ndarray = values.transpose(0, 1, 2, 5, 3, 4).astype(np.float32, order="C")
        mean, std = (np.array(n, np.float32)[:, None, None] for n in (self.spec.mean, self.spec.std))
        x *= 1 / (255 * std)
        x -= mean / std
        return x


class FrameStream(ImageStream):
    """The whole image."""

    kind = KINDS["frame"]

    def view(self, frame: Frame) -> np.ndarray | None:
        return frame.shot.frame(self.spec.size, self.clip.interpolation)

    def stored(self) -> Stored:
        return Stored(whole=self.spec.size)


class FaceStream(ImageStream):
    """The square around the face, widened by the spec's margin, and aligned if the spec says so."""

    kind = KINDS["face"]

    def view(self, frame: Frame) -> np.ndarray | None:
        size, how = self.spec.size, self.clip.interpolation
        if frame.no_face:
            return frame.shot.frame(size, how)
        points = frame.points if self.clip.align else None
        return None if frame.box is None else frame.shot.face(frame.box, size, self.clip.margin, how, points)

    def stored(self) -> Stored:
        return Stored(crop=max(self.spec.size))


class ContextStream(ImageStream):
    """The whole image with the face blacked out; nothing of an image that is all face."""

    kind = KINDS["context"]

    def view(self, frame: Frame) -> np.ndarray | None:
        size, how = self.spec.size, self.clip.interpolation
        if frame.no_face:
            return frame.shot.frame(size, how)
        return None if frame.fills else frame.shot.context(frame.box, size, how)

    def stored(self) -> Stored:
        return Stored(whole=self.spec.size)


def read_images(streams: Sequence[ImageStream], media: Media, clips: Sequence[Moments]) -> list[dict[str, Reading]]:
    """Decodes each frame that any of the clips needs once and cuts all views from it. ``media`` has images.

    A clip that shows one frame throughout, as a still does, is one image in memory (strides of 0).
    """
    assert media.images is not None
    taken = [{s.name: moments.of(s) for s in streams} for moments in clips]
    needed = [np.unique(np.concatenate([t.frames[t.mask] for t in of_clip.values()])) for of_clip in taken]
    # clips of one face share its views
    keys = [(s.name, id(moments.face)) for s in streams for moments in clips]
    seen: dict[tuple[str, int], dict[int, np.ndarray | None]] = {key: {} for key in keys}
    showing: dict[int, dict[tuple[int, bool], Moments]] = {}
    for moments, indices in zip(clips, needed, strict=True):
        for index in indices.tolist():
            showing.setdefault(index, {})[id(moments.face), moments.no_face] = moments
    everything = np.array(sorted(showing), dtype=np.int64)
    for index, shot in zip(everything.tolist(), media.shots(everything), strict=True):
        time = float(media.images.stamps[index])
        for moments in showing[index].values():
            face = moments.face
            box, points = (face.box_at(time), face.points_at(time)) if face else (None, None)
            frame = Frame(shot, box, box is not None and views.covers(box, *media.size), moments.no_face, points)
            for s in streams:
                seen[s.name, id(face)][index] = s.view(frame)
    return [
        {s.name: _reading(s, of_clip[s.name], seen[s.name, id(moments.face)], indices) for s in streams}
        for moments, of_clip, indices in zip(clips, taken, needed, strict=True)
    ]


def _reading(
    stream: ImageStream, moments: Moments, seen: Mapping[int, np.ndarray | None], needed: np.ndarray
) -> Reading:
    """The views of one clip; ``needed``: the frames that any of its streams shows."""
    mask, frames = moments.mask, moments.frames
    if lost := [i for i in needed.tolist() if seen[i] is None]:
        mask = mask & ~np.isin(frames, lost)
    if len(needed) == 1 and mask.all():
        values = np.broadcast_to(np.asarray(seen[int(needed[0])]), (*frames.shape, *stream.shape))
    else:
        values = np.zeros((*frames.shape, *stream.shape), dtype=np.uint8)
        for at in zip(*np.nonzero(mask), strict=True):
            values[at] = seen[int(frames[at])]
    return Reading(values, mask, frames)


# -- audio ---------------------------------------------------------------------------------------------------------


class AudioStream(Stream):
    """The audio before the end of each clip, float32: log-mel in dB (C, 1, M, S), or samples (C, 1, 1, S)."""

    kind = KINDS["audio"]

    @property
    def _settings(self) -> AudioSpec:
        assert self.spec.audio is not None
        return self.spec.audio

    def read(self, media: Media, moments: Moments) -> Reading:
        if media.audio is None:
            return self.missing()
        a, (mels, steps) = self._settings, self.spec.size
        ends, reached = moments.seconds[:, -1], moments.mask[:, -1]
        samples = audio.window_samples(a, steps)
        length = samples / a.rate
        first = max(media.start, media.audio.offset)
        last = min(media.end, media.audio.offset + media.audio.duration)
        heard = np.minimum(ends, last) - np.maximum(ends - length, first)
        for lost_from, lost_to in media.audio.holes:
            heard -= np.clip(np.minimum(ends, lost_to) - np.maximum(ends - length, lost_from), 0, None)
        mask = reached & (heard >= min(LEAST_AUDIO_S, a.seconds / 2))
        values = np.zeros((len(ends), 1, mels, steps), dtype=np.float32)
        if mask.any():
            waves = np.zeros((len(ends), samples), dtype=np.float32)
            for c in np.flatnonzero(mask):
                begin = max(ends[c] - length, media.start)
                wave = media.audio.read(begin, float(ends[c]))[-samples:]
                waves[c, samples - len(wave) :] = wave
            values[mask] = audio.windows(waves[mask], a, self.spec.size)
            if a.cmn:
                span = media.audio.read(max(float(ends[mask].min()) - length, first), min(float(ends.max()), last))
                values[mask] -= audio.mean_spectrum(span, a, mels)[:, None]
        warnings = []
        if not mask.any():
            warnings.append(Warn("no_audio", "no audio in this part; the prediction comes from the frames alone"))
        elif reached.any():
            begin, end = max(float(ends[reached].min()) - length, media.start), float(ends[reached].max())
            after_end = bool((reached & ~mask & (ends > last)).any())
            warnings = _gaps(media.audio, begin, end, first, last, after_end)
        return Reading(values, mask[:, None], np.full((len(ends), 1), -1, dtype=np.int64), warnings)

    def augment(self, values: np.ndarray, augment: Augment, seed: int) -> np.ndarray:
        change = augment_waveform if self._settings.kind == "waveform" else augment_log_mel
        return change(values, augment, seed)

    def stored(self) -> Stored:
        return Stored(rate=self._settings.rate)


def _gaps(track: Audio, begin: float, end: float, first: float, last: float, after_end: bool) -> list[Warn]:
    """Warnings where ``begin`` to ``end`` seconds lack audio; the track has some from ``first`` to ``last``."""
    found = []
    if first - begin > SHORT_AUDIO_S:
        found.append(Warn("short_audio", f"the audio starts at {first:.2f} s, later than the video"))
    elif after_end or end - last > SHORT_AUDIO_S:
        found.append(Warn("short_audio", f"the audio ends at {last:.2f} s, before the video does"))
    for lost_from, lost_to in track.holes:
        if min(lost_to, end) - max(lost_from, begin) > SHORT_AUDIO_S:
            found.append(Warn("short_audio", f"there is no audio from {lost_from:.2f} to {lost_to:.2f} s"))
            break
    return found


# -- all of a spec -------------------------------------------------------------------------------------------------

_STREAMS: dict[str, type[Stream]] = {
    "face": FaceStream, "context": ContextStream, "frame": FrameStream, "audio": AudioStream,
}  # fmt: skip


def register(source: str) -> Callable[[type[Any]], type[Any]]:
    """Registers a subclass of Stream for a source: ``@register("pose")``. Specs may name it from then on.

    Every process that reads or loads such a spec has to import the file with the class.
    Raises UsageError where another class has that source.
    """

    def decorate(stream: type[Any]) -> type[Any]:
        known = _STREAMS.get(source)
        if known is not None and (known.__module__, known.__qualname__) != (stream.__module__, stream.__qualname__):
            name = f"{known.__module__}.{known.__qualname__}"
            raise UsageError(f"the source '{source}' belongs to {name}: choose another name")
        KINDS[source], _STREAMS[source] = stream.kind, stream
        return stream

    return decorate


def streams_of(spec: ClipSpec) -> dict[str, Stream]:
    """The streams of a spec by name, in its order. Raises UsageError for a source that nobody registered here."""
    # ``kind`` raises where a spec came from a process in which more sources are registered.
    return {name: _STREAMS[s.source](name, spec) for name, s in spec.streams.items() if s.kind}


def augment_clip(
    streams: Mapping[str, Stream],
    values: Mapping[str, np.ndarray],
    augment: Augment | Mapping[str, Augment],
    seed: int,
) -> dict[str, np.ndarray]:
    """Augmented copies of a sample's values (see :class:`~emozoo.data.clips.RawClip`), by ``seed`` alone.

    A mapping gives each named stream its own settings; streams that it does not name stay as they are.
    """
    out = {}
    for name, value in values.items():
        settings = augment if isinstance(augment, Augment) else augment.get(name)
        out[name] = value if settings is None else streams[name].augment(value, settings, seed)
    return out
