"""Animated images (GIF, WebP, PNG, AVIF): their frames at the times that the file gives."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import numpy as np

from emozoo.data.container import Warn
from emozoo.data.image_decode import DAMAGED_PNG, DECODE_ERRORS, open_pillow, to_rgb, upright
from emozoo.data.image_format import png_fault
from emozoo.errors import VideoError

MOST_FRAME_PIXELS = 1 << 32  # of all frames of an animation together: 2000 in full HD
MOST_SHORT_DELAY_S, USUAL_DELAY_S = 0.01, 0.1  # a frame shown for no longer is shown for a tenth, as browsers do


class Animation:
    """A FrameSource of the frames of an animated image; it holds one decoded frame in memory at a time.

    Opening it decodes every frame once. The frames from the first one that cannot be decoded are left out, with the
    warning ``broken_tail``; a PNG of which a part does not match its checksum has the warning ``broken_part``. A frame
    that lasts 10 ms or less is shown for 100 ms, as browsers do.

    Raises VideoError: ``broken`` (no frame can be decoded), ``unreadable`` (too large).
    """

    def __init__(self, path: str | os.PathLike[str], data: bytes, kind: str) -> None:
        self.path, self._data, self._kind = path, data, kind
        self.warnings: list[Warn] = []
        self._image = open_pillow(path, data, kind)
        self._first = 1 if getattr(self._image, "default_image", False) else 0  # a still for viewers without animation
        width, height = self._image.size
        try:
            count = getattr(self._image, "n_frames", 1)
        except DECODE_ERRORS as e:
            raise VideoError(path, f"the {kind} file is cut off or damaged: fetch it again ({e})", "broken") from None
        if count * width * height > MOST_FRAME_PIXELS:
            raise VideoError(
                path,
                f"the animation of {count} frames of {width} x {height} pixels is too large: more than "
                f"{MOST_FRAME_PIXELS / 1e6:.0f} million pixels in all are not read; convert it to MP4",
            )
        stamps, now = [], 0.0
        for number in range(self._first, count):
            try:
                self._image.seek(number)
                self._image.load()
            except DECODE_ERRORS:
                break
            stamps.append(now)
            seconds = float(self._image.info.get("duration") or 0) / 1000
            now += seconds if seconds > MOST_SHORT_DELAY_S else USUAL_DELAY_S
        if not stamps:
            raise VideoError(path, f"the {kind} file is cut off or damaged: no frame of it can be decoded", "broken")
        lost = count - self._first - len(stamps)
        if lost:
            text = f"the end of the file is damaged: the first {len(stamps)} frames, up to {now:.2f} s, were used"
            self.warnings.append(Warn("broken_tail", text))
        if kind == "PNG" and png_fault(data) == "damaged":
            self.warnings.append(DAMAGED_PNG)
        self.stamps = np.array(stamps)
        self.size = next(self.frames([0])).shape[1::-1]

    def check(self, first: int, last: int) -> np.ndarray:
        return np.ones(last - first + 1, dtype=bool)

    def frames(self, indices: Sequence[int] | np.ndarray) -> Iterator[np.ndarray]:
        for i in indices:
            try:
                if self._first + i < self._image.tell():  # Pillow cannot seek back in some PNGs
                    self._image = open_pillow(self.path, self._data, self._kind)
                self._image.seek(self._first + int(i))
                self._image.load()
                image = to_rgb(upright(self._image), [])
            except DECODE_ERRORS:
                reason = f"the frame at {self.stamps[i]:.2f} s cannot be decoded"
                raise VideoError(self.path, reason, "broken") from None
            yield image

    def close(self) -> None:
        self._image.close()
