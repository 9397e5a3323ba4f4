"""ClipSpec: the named streams that a model reads. Pure data; imports no torch.

Legend: C = clips in one prediction, F = images in a clip, H, W = pixels, M = mel bins, S = spectrogram steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from emozoo import moved
from emozoo.errors import UsageError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Kinetics statistics that torchvision's video networks were trained with.
KINETICS_MEAN, KINETICS_STD = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)

SAMPLINGS = ("overlap", "segments", "trailing")
POSITIONS = ("all", "center")
AUDIO_KINDS = ("log_mel", "waveform")
INTERPOLATIONS = ("area", "linear", "cubic")

# Far above what any network here takes, and far below what a machine could not hold.
MOST_NUMBERS = 1 << 27  # in all streams of one prediction together
MOST_RATE, MOST_SECONDS = 1_000_000, 86_400.0

# Spelling of specs that were stored before these names: fields, and values that only one field has.
_OLD_FIELDS = {"place": "position", "centre": "cmn"}
_OLD_VALUES = {"centre": "center", "trail": "trailing"}


def _whole(name: str, value: Any, least: int, most: int) -> None:
    """Raises UsageError for anything but a whole number from ``least`` to ``most``."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise UsageError(f"{name} must be a whole number from {least} to {most:,}, got {str(value)[:60]!r}")


def _number(name: str, value: Any, least: float, most: float) -> None:
    """Raises UsageError for anything but a number from ``least`` to ``most``."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise UsageError(f"{name} must be a number from {least:g} to {most:g}, got {str(value)[:60]!r}")


def _numbers(name: str, values: Any) -> None:
    """Raises UsageError for anything but one to 16 finite numbers."""
    if not isinstance(values, Sequence) or isinstance(values, str) or not 1 <= len(values) <= 16:
        raise UsageError(f"{name} must be a list of numbers, got {str(values)[:60]!r}")
    for value in values:
        _number(name, value, -1e9, 1e9)


@dataclass(frozen=True)
class StreamKind:
    """What all streams of one source have in common, as plain data; how they are read: :mod:`emozoo.data.streams`.

    ``axes``: letter to word of each axis of an input after batch and clips. The first are the frames, the last two
    ``StreamSpec.size``; a digit is a fixed length. ``needs_images``: its moments are frames of the file.
    ``needs_audio``: it is made from the audio track, so its spec has audio settings. At least one of the two holds.
    ``is_image``: it holds RGB images. ``crops_face``: it shows the face alone. ``hides_face``: it shows all but the
    face. ``mirror``: takes inputs (B, C, F, ...) and returns them with left and right changed; None where they have
    no sides.

    Raises UsageError where neither images nor audio are needed.
    """

    axes: Mapping[str, str]
    needs_images: bool = False
    needs_audio: bool = False
    is_image: bool = False
    crops_face: bool = False
    hides_face: bool = False
    mirror: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        if not (self.needs_images or self.needs_audio):
            raise UsageError("a kind of stream needs images or audio: they say which moments a clip is made of")

    @property
    def needs_face(self) -> bool:
        """Whether a face has to be looked for."""
        return self.crops_face or self.hides_face

    def item_shape(self, size: tuple[int, int]) -> tuple[int, ...]:
        """Shape of one frame of an input, for a stream of that ``size``."""
        return *(int(axis) for axis in list(self.axes)[1:-2]), *size

    def check_shape(self, name: str, shape: tuple[int, ...]) -> None:
        """Raises UsageError where that is not the shape of an input, the tensor of the stream ``name``."""
        axes, words = ("B", "C", *self.axes), ("batch", "clips", *self.axes.values())
        if len(shape) != len(axes) or any(a.isdigit() and int(a) != n for a, n in zip(axes, shape, strict=True)):
            text = f"({', '.join(axes)}): {', '.join(words)}"
            raise UsageError(f"stream '{name}' must be {text}; got {tuple(shape)}")


def _flip_width(x: Any) -> Any:
    return x.flip(-1)


_RGB = {"F": "frames", "3": "RGB", "H": "height", "W": "width"}

# Every source that a StreamSpec may name; emozoo.data.streams.register adds others.
KINDS: dict[str, StreamKind] = {
    "face": StreamKind(_RGB, needs_images=True, is_image=True, crops_face=True, mirror=_flip_width),
    "context": StreamKind(_RGB, needs_images=True, is_image=True, hides_face=True, mirror=_flip_width),
    "frame": StreamKind(_RGB, needs_images=True, is_image=True, mirror=_flip_width),
    "audio": StreamKind({"1": "1", "M": "bins", "S": "steps"}, needs_audio=True),
}


@moved.arguments
@dataclass(frozen=True)
class AudioSpec:
    """How a stream turns the audio of a window into numbers.

    ``kind``: ``log_mel`` = an image of M mel bins by S steps in dB, ``waveform`` = its S samples in [-1, 1], for
    speech models. ``rate`` in Hz; ``win``, ``hop``, ``fft`` in samples; ``seconds`` = length of the window that ends
    where its clip ends. dB have the reference 1.0; values more than ``top_db`` below the largest of the window are
    raised to that level.
    ``cmn``: cepstral mean normalization. The mean spectrum between the beginning of the first clip and the end of the
    last one is subtracted, but for its mean over all bins, so that the loudness stays. A voice, a room and a microphone
    each add such a constant in dB to every bin.
    ``win``, ``hop``, ``fft``, ``top_db``, ``cmn`` concern ``log_mel`` alone.
    """

    rate: int = 16000
    win: int = 400
    hop: int = 160
    fft: int = 512
    seconds: float = 1.0
    top_db: float = 80.0
    kind: str = "log_mel"
    cmn: bool = False

    def __post_init__(self) -> None:
        if self.kind not in AUDIO_KINDS:
            raise UsageError(f"the kind of an audio stream must be one of {AUDIO_KINDS}, got {self.kind!r}")
        _whole("rate of an audio stream", self.rate, 1, MOST_RATE)
        for name in ("win", "hop", "fft"):
            _whole(f"{name} of an audio stream", getattr(self, name), 1, MOST_RATE)
        _number("seconds of an audio stream", self.seconds, 1e-4, MOST_SECONDS)
        _number("top_db of an audio stream", self.top_db, 0.0, 1e6)
        if self.cmn and self.kind == "waveform":
            raise UsageError("cmn works on log-mel images; speech models normalise a waveform themselves")


@moved.arguments
@dataclass(frozen=True)
class StreamSpec:
    """One named input.

    ``source``: ``face`` (crop), ``context`` (whole image, face blacked out), ``frame`` (whole image), ``audio``, or a
    name given to :func:`emozoo.data.streams.register`.
    ``frames`` = F. ``size`` = (H, W), for audio (M, S), for a waveform (1, ``seconds * rate``). ``position``: ``all`` =
    the clip's F sampled frames, ``center`` = its middle frame. Images are scaled to [0, 1], then ``(x - mean) / std``
    per channel; audio is ``(x - mean) / std`` with one number each, x in dB or samples (speech models normalise each
    window themselves).
    """

    source: str
    size: tuple[int, int]
    frames: int = 1
    position: str = "all"
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    audio: AudioSpec | None = None

    def __post_init__(self) -> None:
        if self.position not in POSITIONS:
            raise UsageError(f"position must be one of {POSITIONS}, got {self.position!r}")
        if not isinstance(self.size, Sequence) or isinstance(self.size, str) or len(self.size) != 2:
            raise UsageError(f"the size of a stream must be two numbers, (height, width), got {str(self.size)[:60]!r}")
        for side in self.size:
            _whole("the size of a stream", side, 1, MOST_NUMBERS)
        _whole("frames of a stream", self.frames, 1, MOST_NUMBERS)
        _numbers("mean of a stream", self.mean)
        _numbers("std of a stream", self.std)
        if self.kind.is_image and not {len(self.mean), len(self.std)} <= {1, 3}:
            raise UsageError("mean and std of a stream of images have one number, or three: red, green and blue")
        if 0 in self.std:
            raise UsageError("std of a stream must not be 0: inputs are divided by it")
        if self.kind.needs_audio != (self.audio is not None):
            raise UsageError("a stream has audio settings exactly when its source needs audio")
        if self.audio is not None and self.audio.kind == "waveform":
            samples = round(self.audio.seconds * self.audio.rate)
            if tuple(self.size) != (1, samples):
                raise UsageError(f"a waveform stream has size (1, seconds * rate) = (1, {samples}), got {self.size}")

    @property
    def kind(self) -> StreamKind:
        """What its source is. Raises UsageError for a source that nobody registered in this process."""
        if self.source not in KINDS:
            raise UsageError(
                f"no source '{self.source}': there are {', '.join(KINDS)}; import the file that registers another "
                "(emozoo.data.streams.register)"
            )
        return KINDS[self.source]

    def numbers(self) -> int:
        """How many numbers one clip of it has at most while it is made, so that a spec asks for no endless memory."""
        found = self.frames * math.prod((3, *self.size))
        if self.audio is None or self.audio.kind == "waveform":
            return found
        a, (mels, steps) = self.audio, self.size
        samples = max(round(a.seconds * a.rate), steps * a.hop)
        bins = a.fft // 2 + 1
        return max(found, samples, (samples // a.hop + 1) * bins, mels * bins)


@dataclass(frozen=True)
class ClipSpec:
    """The streams that one prediction of a model reads, and how their moments are sampled.

    ``streams`` by name, in the order that the model documents. ``clips`` = C. ``window_s`` = seconds of media that one
    prediction covers (``predict`` cuts longer files into such windows; ``benchmark`` samples a labelled clip whole).

    ``sampling``:
      * ``overlap`` (CEFLNet, section 6): the media is laid on ``30 + 10 (C-1) + 15`` positions by linear
        interpolation of time; clip c covers 15 of them from s + 10 c, s = 15 in test and 0..29 in training.
      * ``segments`` (TSN): C equal segments, F consecutive frames at ``rate`` in each; the centre snippet in test.
      * ``trailing`` (Aff-Wild2): C clips of ``clip_s`` seconds one after the other, F frames spread backwards from each
        clip's last; the label of a clip is that of its last frame. Clips that the media does not reach are masked.

    ``rate`` = frames per second that consecutive frames are taken at; 0 = those of the file. ``margin`` = the fraction
    of the face box's longer side that is added on each side of the square crop. ``align``: the face crop is turned,
    moved and sized so that the five landmarks of the detector lie at fixed points
    (:data:`emozoo.data.views.LANDMARKS`); without landmarks (``cascade``, boxes of the data) it is the plain crop.
    ``detector``, ``interpolation`` belong to the weights.
    """

    streams: Mapping[str, StreamSpec]
    clips: int
    sampling: str
    window_s: float
    clip_s: float = 0.0
    rate: float = 0.0
    margin: float = 0.0
    detector: str = "cascade"
    interpolation: str = "area"
    align: bool = False

    def __post_init__(self) -> None:
        if self.sampling not in SAMPLINGS:
            raise UsageError(f"sampling must be one of {SAMPLINGS}, got {self.sampling!r}")
        _whole("clips", self.clips, 1, MOST_NUMBERS)
        _number("window_s", self.window_s, 1e-4, MOST_SECONDS)
        _number("clip_s", self.clip_s, 0.0, MOST_SECONDS)
        _number("rate", self.rate, 0.0, MOST_RATE)
        _number("margin", self.margin, -0.5, 100.0)
        if self.interpolation not in INTERPOLATIONS:
            raise UsageError(f"interpolation must be one of {INTERPOLATIONS}, got {self.interpolation!r}")
        if not isinstance(self.detector, str) or not isinstance(self.align, bool):
            raise UsageError("a ClipSpec has the name of a detector, and align true or false")
        wanted = sum(self.clips * s.numbers() for s in self.streams.values())
        if wanted > MOST_NUMBERS:
            raise UsageError(
                f"one prediction would read {wanted:,} numbers ({self.clips} clips); at most {MOST_NUMBERS:,} are read"
            )

    @property
    def needs_face(self) -> bool:
        """Whether a face has to be looked for at all."""
        return any(s.kind.needs_face for s in self.streams.values())

    @property
    def needs_audio(self) -> bool:
        """Whether the audio track is read."""
        return any(s.kind.needs_audio for s in self.streams.values())

    @property
    def needs_images(self) -> bool:
        """Whether frames are read."""
        return any(s.kind.needs_images for s in self.streams.values())

    def windows(self, start: float, end: float) -> list[float]:
        """The seconds at which windows of ``window_s`` begin that cover ``start`` to ``end``.

        The last one ends at ``end`` and may overlap the one before. Up to one and a half windows there is only one, at
        ``start``; with ``trailing`` sampling, whose clips would not reach the rest, only up to one.
        """
        length = self.window_s
        if end - start > 1.5 * length:
            n = math.ceil((end - start) / length - 1e-9) - 1
            return [*(start + i * length for i in range(n)), end - length]
        return [start, end - length] if self.sampling == "trailing" and end - start > length else [start]

    def with_detector(self, detector: str) -> ClipSpec:
        """The same spec with another face detector, which every result then names."""
        return replace(self, detector=detector)

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, as stored in ``config.json`` beside the weights."""
        return {**asdict(replace(self, streams={})), "streams": {k: asdict(v) for k, v in self.streams.items()}}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> ClipSpec:
        """The inverse of :meth:`to_dict`, also after a trip through JSON; what has a default may be left out.

        Raises UsageError for a field that does not exist or is missing.
        """
        try:
            streams = {}
            if not data["streams"]:
                raise TypeError("it has no streams")
            for name, stored in data["streams"].items():
                if not isinstance(name, str):
                    raise TypeError(f"{name!r} is no name of a stream")
                s: dict[str, Any] = _renamed(stored)
                s |= {k: tuple(v) for k, v in s.items() if k in ("size", "mean", "std")}
                audio = AudioSpec(**_renamed(stored["audio"])) if stored.get("audio") else None
                streams[name] = StreamSpec(**{**s, "audio": audio})
            return ClipSpec(**{**_renamed(data), "streams": streams})
        except KeyError as error:
            raise UsageError(f"this ClipSpec cannot be read: it has no {error}") from error
        except (TypeError, AttributeError) as error:
            raise UsageError(f"this ClipSpec cannot be read: {error}") from error


def _renamed(stored: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a stored spec under their present names."""
    values = {k: _OLD_VALUES.get(v, v) if isinstance(v, str) else v for k, v in stored.items()}
    return {_OLD_FIELDS.get(k, k): v for k, v in values.items()}


def stored_names(settings: object) -> str:
    """``repr`` of settings that hold specs, with the first names of fields, so that keys of cached features stay."""
    text = repr(settings)
    for old, new in _OLD_FIELDS.items():
        text = text.replace(f"'{new}': ", f"'{old}': ").replace(f"{new}=", f"{old}=")
    for old, new in _OLD_VALUES.items():
        text = text.replace(f"'{new}'", f"'{old}'")
    return text
