"""ClipSpec: the named streams that a model eats. Pure data; imports no torch.

Legend: C = clips in one prediction, F = images in a clip, H, W = pixels, M = mel bins, S = spectrogram steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from emozoo.errors import UsageError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Kinetics statistics that torchvision's video networks were trained with.
KINETICS_MEAN, KINETICS_STD = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)

SOURCES = ("face", "context", "frame", "audio")
SAMPLINGS = ("overlap", "segments", "trailing")
POSITIONS = ("all", "center")
AUDIO_KINDS = ("log_mel", "waveform")

# Spelling of specs that were stored before these names: fields, and values that only one field has.
_OLD_FIELDS = {"place": "position", "centre": "cmn"}
_OLD_VALUES = {"centre": "center", "trail": "trailing"}


@dataclass(frozen=True)
class AudioSpec:
    """How the audio of a window is shown to a network.

    ``kind``: ``log_mel`` = an image of M mel bins by S steps in dB, ``waveform`` = its S samples in [-1, 1], for
    speech models. ``rate`` in Hz; ``win``, ``hop``, ``fft`` in samples; ``seconds`` = length of the window that ends
    where its clip ends; dB is cut ``top_db`` below the loudest step of the window's own file scale (reference 1.0).
    ``cmn``: cepstral mean normalisation. The mean spectrum between the begin of the first clip and the end of the last
    one is subtracted, but for its mean over all bins, so that the loudness stays. A voice, a room and a microphone each
    add such a constant in dB to every bin.
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
        if self.cmn and self.kind == "waveform":
            raise UsageError("cmn works on log-mel images; speech models normalise a waveform themselves")


@dataclass(frozen=True)
class StreamSpec:
    """One named input.

    ``source``: ``face`` (crop), ``context`` (whole image, face blacked out), ``frame`` (whole image) or ``audio``.
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
        if self.source not in SOURCES or self.position not in POSITIONS:
            raise UsageError(
                f"source must be one of {SOURCES}, position one of {POSITIONS}; got {self.source!r}, {self.position!r}"
            )
        if (self.source == "audio") != (self.audio is not None):
            raise UsageError("a stream has audio settings exactly when its source is 'audio'")
        if self.audio is not None and self.audio.kind == "waveform":
            samples = round(self.audio.seconds * self.audio.rate)
            if tuple(self.size) != (1, samples):
                raise UsageError(f"a waveform stream has size (1, seconds * rate) = (1, {samples}), got {self.size}")


@dataclass(frozen=True)
class ClipSpec:
    """What one prediction of a model looks at.

    ``streams`` by name, in the order that the model documents. ``clips`` = C. ``window_s`` = seconds of media that one
    prediction covers (``predict`` cuts longer files into such windows; ``benchmark`` samples a labelled clip whole).

    ``sampling``:
      * ``overlap`` (CEFLNet, section 6): the media is laid on ``30 + 10 (C-1) + 15`` positions by linear
        interpolation of time; clip c covers 15 of them from s + 10 c, s = 15 in test and 0..29 in training.
      * ``segments`` (TSN): C equal segments, F consecutive frames at ``rate`` in each; the centre snippet in test.
      * ``trailing`` (Aff-Wild2): C clips of ``clip_s`` seconds one after the other, F frames spread backwards from each
        clip's last; the label of a clip is that of its last frame. Clips that the media does not reach are masked.

    ``rate`` = frames per second that consecutive frames are taken at; 0 = those of the file. ``margin`` = share of the
    face box's longer side added on each side of the square crop. ``detector``, ``interpolation`` belong to the weights.
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

    def __post_init__(self) -> None:
        if self.sampling not in SAMPLINGS:
            raise UsageError(f"sampling must be one of {SAMPLINGS}, got {self.sampling!r}")

    @property
    def needs_face(self) -> bool:
        """Whether a face has to be looked for at all."""
        return any(s.source in ("face", "context") for s in self.streams.values())

    @property
    def needs_audio(self) -> bool:
        return any(s.source == "audio" for s in self.streams.values())

    @property
    def needs_images(self) -> bool:
        return any(s.source != "audio" for s in self.streams.values())

    def windows(self, start: float, end: float) -> list[float]:
        """Where windows of ``window_s`` begin that cover ``start`` to ``end`` seconds; the last one ends with the media
        and may overlap the one before. One, at ``start``, for what is not longer than a window (and a half, but in
        ``trailing``, whose clips would not reach the rest).
        """
        length = self.window_s
        if end - start > 1.5 * length:
            n = math.ceil((end - start) / length - 1e-9) - 1
            return [*(start + i * length for i in range(n)), end - length]
        return [start, end - length] if self.sampling == "trailing" and end - start > length else [start]

    def with_detector(self, detector: str) -> ClipSpec:
        """The same spec read with another face detector (which every result then names)."""
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
            for name, stored in data["streams"].items():
                s: dict[str, Any] = _renamed(stored)
                s |= {k: tuple(v) for k, v in s.items() if k in ("size", "mean", "std")}
                audio = AudioSpec(**_renamed(stored["audio"])) if stored.get("audio") else None
                streams[name] = StreamSpec(**{**s, "audio": audio})
            return ClipSpec(**{**_renamed(data), "streams": streams})
        except TypeError as error:
            raise UsageError(f"this ClipSpec cannot be read: {error}") from error


def _renamed(stored: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a stored spec under their present names."""
    values = {k: _OLD_VALUES.get(v, v) if isinstance(v, str) else v for k, v in stored.items()}
    return {_OLD_FIELDS.get(k, k): v for k, v in values.items()}
