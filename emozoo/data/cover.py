"""What a prepared store covers: sizes, rates and crops, against what a spec needs (:mod:`emozoo.data.store`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from emozoo.data.streams import Stored, streams_of
from emozoo.errors import UsageError
from emozoo.spec import ClipSpec


@dataclass(frozen=True)
class Cover:
    """What is stored of each item.

    ``face``: side in pixels of the square crop, whose ``margin`` is that of a spec; ``frame``: (H, W) of the whole
    image. Both are upper bounds: what is smaller in the file stays so. ``audio``: rates in Hz. ``rate``: frames stored
    of each second; 0 = all. ``detector``: of the face; None = boxes came with the data. ``align``: as in a spec.
    """

    face: int | None
    frame: tuple[int, int] | None
    audio: tuple[int, ...] = field(metadata={"stored": "sound"})  # as stores have always spelled it
    margin: float = 0.0
    rate: float = 0.0
    detector: str | None = "cascade"
    interpolation: str = "area"
    align: bool = False

    @staticmethod
    def of(specs: Iterable[ClipSpec], *, rate: float = 0.0, detector: str | None = None) -> Cover:
        """The smallest cover that serves all of the specs. Raises UsageError where they cannot share a store."""
        specs = list(specs)
        if detector is not None:
            specs = [s.with_detector(detector) for s in specs]
        streams = [(s, x, x.stored()) for s in specs for x in streams_of(s).values()]
        crops = [(s, want.crop) for s, _, want in streams if want and want.crop]
        wholes = [want.whole for _, _, want in streams if want and want.whole]
        shared = {
            "detectors": {s.detector for s in specs if s.needs_face},
            "face crops": {"aligned" if s.align else "plain" for s, _ in crops},
            "interpolations": {s.interpolation for s, x, _ in streams if x.spec.kind.is_image},
        }
        for what, values in shared.items():
            if len(values) > 1:
                raise UsageError(f"one store cannot serve the {what} {' and '.join(sorted(values))}: prepare two")
        margin = max((s.margin for s, _ in crops), default=0.0)
        cover = Cover(
            face=max((_side(side, s.margin, margin) for s, side in crops), default=None),
            frame=(max(h for h, _ in wholes), max(w for _, w in wholes)) if wholes else None,
            audio=tuple(sorted({want.rate for _, _, want in streams if want and want.rate})),
            margin=margin,
            rate=rate,
            detector=next(iter(shared["detectors"]), None),
            interpolation=next(iter(shared["interpolations"]), "area"),
            align=shared["face crops"] == {"aligned"},
        )
        for spec in specs:
            if lacks := cover.lacks(spec):
                raise UsageError(f"such a store would not serve every model asked for: {'; '.join(lacks)}")
        return cover

    def lacks(self, spec: ClipSpec, *, boxes_known: bool = False) -> list[str]:
        """What a spec needs and the store does not have, in words; empty = it is served."""
        found = []
        for name, stream in streams_of(spec).items():
            if fault := self._fault(stream.stored(), spec.margin):
                found.append(f"stream {name} {fault}")
        if spec.needs_face and spec.detector != self.detector and not boxes_known:
            found.append(f"faces are to be found by {spec.detector}, the store's were found by {self.detector}")
        if spec.align != self.align and not boxes_known and any(s.kind.crops_face for s in spec.streams.values()):
            want, have = ("aligned" if aligned else "plain" for aligned in (spec.align, self.align))
            found.append(f"face crops are to be {want}, the store's are {have}")
        if spec.needs_images:
            if spec.interpolation != self.interpolation:
                found.append(
                    f"images are to be scaled by {spec.interpolation}, the store's were by {self.interpolation}"
                )
            if self.rate and (not spec.rate or spec.rate > self.rate):
                want = f"{spec.rate:g} frames a second" if spec.rate else "every frame"
                found.append(f"{want} may be asked for, the store has {self.rate:g} a second")
        return found

    def _fault(self, want: Stored | None, margin: float) -> str | None:
        """Why the store cannot serve a stream that needs ``want``; None = it can."""
        if want is None:
            return "is of a source that no store holds"
        if want.rate and want.rate not in self.audio:
            return f"needs audio at {want.rate} Hz, the store has {_list(self.audio, ' Hz')}"
        if want.crop:
            if self.face is None:
                return "needs face crops, the store has none"
            if margin > self.margin:
                return f"needs a margin of {margin:g}, the store has {self.margin:g}"
            if _side(want.crop, margin, self.margin) > self.face:
                have = round(self.face * (1 + 2 * margin) / (1 + 2 * self.margin))
                return f"needs faces of {want.crop} pixels, the store has {have}"
        if want.whole:
            if self.frame is None:
                return "needs whole frames, the store has none"
            if want.whole[0] > self.frame[0] or want.whole[1] > self.frame[1]:
                needed, stored = (f"{h} x {w}" for h, w in (want.whole, self.frame))
                return f"needs frames of {needed} pixels, the store has {stored}"
        return None

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, as ``store.json`` holds them; ``align`` only where it is on, as older ones lack it."""
        names = [f for f in fields(self) if f.name != "align" or self.align]
        return {f.metadata.get("stored", f.name): getattr(self, f.name) for f in names}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Cover:
        """The inverse of :meth:`to_dict`, also after a trip through JSON."""
        pairs: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        return Cover(audio=pairs.pop("sound"), **pairs)


def _side(side: int, margin: float, wider: float) -> int:
    """Side of the crop with the wider margin in which the crop with ``margin`` has ``side`` pixels."""
    return int(np.ceil(side * (1 + 2 * wider) / (1 + 2 * margin) - 1e-9))


def _list(values: Sequence[object], unit: str) -> str:
    return " and ".join(f"{v}{unit}" for v in values) or "none"
