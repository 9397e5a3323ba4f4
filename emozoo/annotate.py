"""The annotated video: a file's frames and audio, with boxes, labels, score bars and a strip of labels drawn in.

A still gets the same in one image.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from emozoo.data import media
from emozoo.data.find import MARK
from emozoo.errors import VideoError
from emozoo.files import replacing
from emozoo.plots import AROUSAL, VALENCE, colors
from emozoo.prediction import FaceTrack, Prediction


def video(prediction: Prediction, path: Path, progress: Callable[[float], None] | None = None) -> None:
    """Writes the file again as H.264 and AAC, with boxes, labels and score bars; one frame is in memory at a time.

    Frames keep their time stamps, and so a variable frame rate. ``progress`` is called with the fraction of the frames
    that is done. Raises VideoError for stills, for audio files, and for a prediction that has an error.
    """
    if prediction.error:
        raise VideoError(prediction.file, prediction.error["text"], prediction.error["code"])
    images = media.open_frames(prediction.file)
    try:
        if len(images.stamps) < 2:
            raise VideoError(prediction.file, "is a still image", "still")
        with replacing(path) as part:
            _write_video(prediction, images, part, progress or (lambda fraction: None))
    finally:
        images.close()


def still(prediction: Prediction) -> np.ndarray:
    """The file's first image, RGB uint8 (H, W, 3), with boxes, labels and score bars. Raises VideoError without one."""
    if prediction.error:
        raise VideoError(prediction.file, prediction.error["text"], prediction.error["code"])
    images = media.open_frames(prediction.file)
    try:
        image = next(images.frames([0]))
    finally:
        images.close()
    return _Painter(prediction, image.shape[1], image.shape[0]).paint(image, 0.0)


def _write_video(
    prediction: Prediction, images: media.FrameSource, part: Path, progress: Callable[[float], None]
) -> None:
    width, height = images.size
    painter = _Painter(prediction, width, height)
    unit = Fraction(1, 90000)
    with av.open(str(part), "w", format="mp4", options={"movflags": "+faststart"}) as out:
        out.metadata["comment"] = MARK
        rate = Fraction(media.frame_rate(images.stamps)).limit_denominator(1001)
        stream: Any = out.add_stream("libx264", rate=rate, options={"crf": "19", "preset": "veryfast"})
        stream.width, stream.height = width + width % 2, height + height % 2  # 4:2:0 wants even sides
        stream.pix_fmt, stream.codec_context.time_base = "yuv420p", unit
        audio = _Audio(prediction.file, out, images)
        for index, shown in _whole_frames(images):
            time = float(images.stamps[index])
            image = painter.paint(shown, time)
            if width % 2 or height % 2:
                image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = round(time / unit), unit
            out.mux(stream.encode(frame))
            audio.write(time)
            progress((index + 1) / len(images.stamps))
        out.mux(stream.encode())
        audio.write(None)


def _whole_frames(images: media.FrameSource) -> Iterator[tuple[int, np.ndarray]]:
    """Indices and images of the frames that decode whole, in order, without seeking back."""
    count = len(images.stamps)
    for first in range(0, count, 1000):
        last = min(first + 1000, count) - 1
        indices = first + np.flatnonzero(images.check(first, last))
        yield from zip(indices.tolist(), images.frames(indices.tolist()), strict=True)


class _Audio:
    """Encodes the audio of the file again, in step with the frames."""

    def __init__(self, path: str, out: Any, images: media.FrameSource) -> None:
        self.frames: Iterator[Any] = iter(())
        self.stream: Any = None
        if os.path.isdir(path):
            return
        header = media.read_header(path)
        if not header.has_audio or header.audio_fault:
            return
        with media.open_container(path) as source:
            inside: Any = source.streams[header.audio_index]
            self.rate = inside.rate if inside.rate in (16000, 22050, 24000, 32000, 44100, 48000) else 48000
            self.layout = "mono" if inside.channels == 1 else "stereo"
        self.out, self.until = out, float(images.stamps[-1]) + 0.1
        self.stream = out.add_stream("aac", rate=self.rate, layout=self.layout)
        self.frames = self._decode(media.AudioTrack(path, self.rate, header, getattr(images, "clock", None)))

    def _decode(self, audio: media.AudioTrack) -> Iterator[Any]:
        """Audio from the first video frame to the last, numbered by samples; silence fills the holes."""
        resampler: Any = None
        kind: Any = None
        at = 0
        for begin, joined, frame in audio.frames():
            if begin > self.until:
                break
            if begin < 0:
                continue
            last, kind = kind, (frame.format.name, frame.layout.name, frame.sample_rate)
            if not joined or kind != last:
                start = round(begin * self.rate)
                if resampler is None:
                    at = start
                else:
                    at = yield from self._numbered(resampler.resample(None), at)
                    at = yield from self._numbered(self._silence(start - at), at)
                resampler = av.AudioResampler(format="fltp", layout=self.layout, rate=self.rate)
            frame.pts = None
            at = yield from self._numbered(resampler.resample(frame), at)
        if resampler is not None:
            yield from self._numbered(resampler.resample(None), at)

    def _numbered(self, frames: Iterable[Any], at: int) -> Generator[Any, None, int]:
        """The frames with time stamps from sample ``at`` on; returns the sample after them."""
        for frame in frames:
            frame.pts, frame.time_base = at, Fraction(1, self.rate)
            at += frame.samples
            yield frame
        return at

    def _silence(self, samples: int) -> Iterator[Any]:
        channels = 1 if self.layout == "mono" else 2
        for first in range(0, samples, self.rate):
            zeros = np.zeros((channels, min(self.rate, samples - first)), dtype=np.float32)
            frame = av.AudioFrame.from_ndarray(zeros, format="fltp", layout=self.layout)
            frame.sample_rate = self.rate
            yield frame

    def write(self, until: float | None) -> None:
        """Encodes audio up to a time in seconds; None: to the end."""
        if self.stream is None:
            return
        for frame in self.frames:
            self.out.mux(self.stream.encode(frame))
            if until is not None and frame.pts > until * self.rate:
                return
        if until is None:
            self.out.mux(self.stream.encode())


@lru_cache(maxsize=8)
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(os.path.join(matplotlib.get_data_path(), "fonts", "ttf", name), size)


@dataclass
class _Patch:
    """An image that is drawn once and laid over many frames.

    ``color`` (h, w, 3) in [0, 255]; ``cover`` (h, w, 1) in [0, 1]: how much of the frame it hides.
    """

    color: np.ndarray
    cover: np.ndarray

    @staticmethod
    def of(image: Image.Image) -> _Patch:
        data = np.asarray(image, dtype=np.float32)
        return _Patch(data[..., :3], data[..., 3:] / 255)

    def lay(self, image: np.ndarray, x: int, y: int) -> None:
        """Draws itself over the image with its corner at x, y; moves inside if it would stick out."""
        height, width = self.color.shape[:2]
        x, y = max(0, min(x, image.shape[1] - width)), max(0, min(y, image.shape[0] - height))
        part = image[y : y + height, x : x + width]
        h, w = part.shape[:2]
        part[:] = (part * (1 - self.cover[:h, :w]) + self.color[:h, :w] * self.cover[:h, :w]).astype(np.uint8)


class _Painter:
    """Draws one prediction over the frames of its file; labels are drawn once a moment and reused."""

    def __init__(self, prediction: Prediction, width: int, height: int) -> None:
        self.prediction, self.width, self.height = prediction, width, height
        # Font size in pixels; smaller if the image shows several people.
        self.unit = max(10, round(min(height, 0.75 * width) / (34 if len(prediction.tracks) > 1 else 26)))
        self.line = max(2, round(self.unit / 6))
        self.palette = colors(prediction.classes)
        self.plate = lru_cache(maxsize=64)(self._plate)
        self.strip = self._strip()
        self.note = None if prediction.tracks else self._note("no face" if prediction.detector else "no prediction")
        self.cursor = {t.id: 0 for t in prediction.tracks}

    def paint(self, image: np.ndarray, time: float) -> np.ndarray:
        """The frame at ``time`` seconds, RGB uint8 (H, W, 3), as a copy with the prediction drawn in."""
        image = np.array(image, copy=True)
        for track in reversed(self.prediction.tracks):  # the main face last, on top
            number = self._moment(track, time)
            if number is None:
                continue
            moment = track.timeline[number]
            plate = self.plate(track.id, number)
            box = track.path.box_at(time) if track.path is not None else None
            if box is None:
                if track.path is None:
                    plate.lay(image, self.unit // 2, self.unit // 2)
                continue
            color = self.palette[moment.label] if moment.label else "#FFFFFF"
            x1, y1, x2, y2 = (round(float(v)) for v in box)
            self._draw_corners(image, x1, y1, x2, y2, color)
            high = plate.color.shape[0]
            above = y1 - high - self.line
            below = y2 + self.line + 1
            plate.lay(image, x1 - self.line, above if above >= 0 or below + high > self.height else below)
        if self.strip is not None:
            self._draw_strip(image, time)
        if self.note is not None:
            self.note.lay(image, self.unit // 2, self.unit // 2)
        return image

    def _moment(self, track: FaceTrack, time: float) -> int | None:
        """Index of the moment of the track at a time, None without one; times must ascend between calls."""
        at = self.cursor[track.id]
        while at < len(track.timeline) - 1 and track.timeline[at].end_s <= time:
            at += 1
        self.cursor[track.id] = at
        moment = track.timeline[at]
        alone = len(track.timeline) == 1
        return at if alone or moment.start_s <= time <= moment.end_s + 0.05 else None

    def _draw_corners(self, image: np.ndarray, x1: int, y1: int, x2: int, y2: int, color: str) -> None:
        """Draws the four corners of a box, so that its sides do not cover the face."""
        rgb = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)], dtype=np.uint8)
        t, arm = self.line, max(2 * self.line, round(0.22 * min(x2 - x1, y2 - y1)))

        def fill(left: int, top: int, right: int, bottom: int, value: Any) -> None:
            image[max(0, top) : max(0, bottom), max(0, left) : max(0, right)] = value

        for grow, value in ((1, 20), (0, rgb)):  # a dark rim makes the line visible on any background
            for x, towards in ((x1, 1), (x2, -1)):
                for y, down in ((y1, 1), (y2, -1)):
                    far_x, far_y = x + towards * arm, y + down * arm
                    fill(min(x, far_x) - grow, y - t // 2 - grow, max(x, far_x) + grow, y - t // 2 + t + grow, value)
                    fill(x - t // 2 - grow, min(y, far_y) - grow, x - t // 2 + t + grow, max(y, far_y) + grow, value)

    def _plate(self, track_id: int, number: int) -> _Patch:
        """A plate with the three likeliest classes, valence and arousal: name, bar and number of each."""
        moment = next(t for t in self.prediction.tracks if t.id == track_id).timeline[number]
        u = self.unit
        big, small = _font(u, bold=True), _font(max(8, round(0.78 * u)))
        best = sorted(moment.scores, key=moment.scores.__getitem__, reverse=True)[:3]
        rows: list[tuple[str, float, str, bool]] = [(n, moment.scores[n], self.palette[n], False) for n in best]
        if moment.valence is not None and moment.arousal is not None:
            rows += [("valence", moment.valence, VALENCE, True), ("arousal", moment.arousal, AROUSAL, True)]
        names = self.prediction.classes + ["valence", "arousal"]
        wide = max(int(big.getlength(n)) for n in names if n in self.prediction.classes or moment.valence is not None)
        number_width = int(big.getlength("+0.00" if moment.valence is not None else "0.00"))
        bar = (4 if moment.valence is not None else 3) * u
        pad, step = u // 2, round(1.32 * u)
        width = pad + wide + pad + bar + pad + number_width + pad
        height = pad + step * len(rows) + pad // 2
        image = Image.new("RGBA", (width, height), (0, 0, 0, 0))
        draw = ImageDraw.Draw(image)
        draw.rounded_rectangle((0, 0, width - 1, height - 1), radius=u // 3, fill=(18, 21, 28, 205))
        for i, (name, value, color, signed) in enumerate(rows):
            first = i == 0 and moment.label is not None
            font, ink = (big, "#FFFFFF") if first else (small, "#D7DBE2")
            middle = pad + step * i + step // 2 - u // 8
            draw.text((pad, middle), name, font=font, fill=ink, anchor="lm")
            left, half = pad + wide + pad, max(2, u // 4)
            draw.rectangle((left, middle - half, left + bar, middle + half), fill=(72, 77, 88, 215))
            if signed:
                zero = left + bar // 2
                end = zero + round(bar / 2 * max(-1.0, min(1.0, value)))
                draw.rectangle((min(zero, end), middle - half, max(zero, end), middle + half), fill=color)
                draw.line((zero, middle - half - 1, zero, middle + half + 1), fill="#C9CED6")
            else:
                draw.rectangle((left, middle - half, left + round(bar * value), middle + half), fill=color)
            text = f"{value:+.2f}" if signed else f"{value:.2f}"
            draw.text((width - pad, middle), text, font=font, fill=ink, anchor="rm")
        return _Patch.of(image)

    def _note(self, text: str) -> _Patch:
        """A plate with a text, for a file without a prediction."""
        u, font = self.unit, _font(self.unit, bold=True)
        image = Image.new("RGBA", (int(font.getlength(text)) + u, round(1.8 * u)), (0, 0, 0, 0))
        draw = ImageDraw.Draw(image)
        draw.rounded_rectangle((0, 0, image.width - 1, image.height - 1), radius=u // 3, fill=(18, 21, 28, 205))
        draw.text((u // 2, image.height // 2), text, font=font, fill="#D7DBE2", anchor="lm")
        return _Patch.of(image)

    def _strip(self) -> _Patch | None:
        """A strip for the lower edge: the whole file in the colors of the labels of the main track."""
        moments, until = self.prediction.timeline, self.prediction.duration_s or 0.0
        if len(moments) < 2 or until <= 0 or not moments[0].scores:
            return None
        high = max(3, self.unit // 3)
        image = Image.new("RGBA", (self.width, high), (18, 21, 28, 120))
        draw = ImageDraw.Draw(image)
        for m in moments:
            left, right = (round(self.width * s / until) for s in (m.start_s, m.end_s))
            draw.rectangle((left, 0, max(left, right - 1), high), fill=self.palette[m.label] if m.label else "#888888")
        return _Patch.of(image)

    def _draw_strip(self, image: np.ndarray, time: float) -> None:
        """Draws the strip and a line at ``time``."""
        assert self.strip is not None
        high = self.strip.color.shape[0]
        self.strip.lay(image, 0, self.height - high)
        x = round(self.width * time / (self.prediction.duration_s or 1.0))
        image[self.height - 2 * high :, max(0, x - self.line // 2) : x + max(1, self.line // 2)] = 255
