"""Faces through time: detect on a few frames a second, link into tracks, smooth the boxes.

Boxes are x1, y1, x2, y2 in pixels. Detectors take RGB uint8 (H, W, 3) and return (n, 5): box and score; yunet returns
(n, 15), with x and y of the :data:`emozoo.data.views.LANDMARKS` behind.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from emozoo.data import detector_file
from emozoo.errors import UsageError
from emozoo.spec import ClipSpec

DETECTORS = ("cascade", "yunet")
DETECTIONS_PER_S = 5.0
LONG_SIDE = 960  # larger images are shrunk to this before detection
SMALL = 160  # smaller images are padded by a quarter on each side: the cascade wants to see what is around a face
TINY = 96  # and enlarged to at least this before
GAP_S = 1.0  # a track goes on after this long without a detection, and always after one frame without
SMOOTH_S = 0.4  # standard deviation of the Gaussian that smooths a track's boxes, seconds

YUNET_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
YUNET = detector_file.Source(
    "yunet", "opencv/face_detection_yunet", "face_detection_yunet_2023mar.onnx", YUNET_SHA256, "EMOZOO_YUNET"
)
FALLBACK = "cascade"  # comes with OpenCV, so it is always there
FALLBACK_CODE = "detector_fallback"  # of the warning

TRACKED = 96  # pixels that a face must have in a shrunk image
FULL_PER_S = 1.0  # looks a second at images of full size, where faces were found

Detector = Callable[..., np.ndarray]  # of an image and, if it may be shrunk first, of the factor

_log = logging.getLogger(__name__)  # without a handler of the user's, one plain line on stderr

# Where no face was found at all, a few images are looked at again, turned or enlarged, to say what would help.
HINT_IMAGES = 3
TURNS = {1: "by 90° clockwise", 2: "by 180°", 3: "by 90° anticlockwise"}  # by numpy.rot90 with axes (1, 0)
PART = 0.6  # side of the enlarged parts, of the image's
# What the cascade finds in images upside down, or on their side, may be no face: its scores of real ones are higher.
DOUBTFUL = 4.0  # mean score of a track below which the turned images are looked at too
SURER = 2.0  # so many times the score is wanted of a face that is found after turning
FLAT = 8  # images whose pixels lie within so many of 256 values show nothing


@dataclass(frozen=True)
class Track:
    """One face through time: ``times`` (n,) seconds, ``boxes`` (n, 4) smoothed, ``step`` seconds between detections.

    ``score``: the detector's, on average over all frames looked at, 0 in those without the face; nan = not known.
    ``points``: (n, 5, 2) x and y of the landmarks in pixels, smoothed; None of a detector that finds none.
    """

    times: np.ndarray
    boxes: np.ndarray
    step: float
    score: float = float("nan")
    points: np.ndarray | None = None

    @property
    def start(self) -> float:
        return float(self.times[0]) - self.step

    @property
    def end(self) -> float:
        return float(self.times[-1]) + self.step

    @property
    def face_frames(self) -> int:
        """In how many of the frames looked at the face was found."""
        return len(self.times)

    def box_at(self, time: float) -> np.ndarray | None:
        """The box at that time, interpolated; None outside the track or inside a gap longer than a second."""
        return self._at(self.boxes, time)

    def points_at(self, time: float) -> np.ndarray | None:
        """The landmarks (5, 2) at that time as :meth:`box_at` has the box; None also where the track has none."""
        return None if self.points is None else self._at(self.points, time)

    def _at(self, values: np.ndarray, time: float) -> np.ndarray | None:
        if not self.start <= time <= self.end:
            return None
        after = int(np.searchsorted(self.times, time))
        if after == 0 or after == len(self.times):
            return np.asarray(values[min(after, len(self.times) - 1)])
        before, gap = after - 1, self.times[after] - self.times[after - 1]
        if gap > GAP_S and min(time - self.times[before], self.times[after] - time) > self.step:
            return None
        part = np.float32((time - self.times[before]) / gap)
        return np.asarray(values[before] * (1 - part) + values[after] * part)


class Look:
    """The detector on the frames of one video in the order of time.

    Where the faces of the last look were large, yunet gets the image shrunk until the smallest of them has a side of
    ``TRACKED`` pixels, which is faster. It gets the full size ``FULL_PER_S`` times a second, for faces that are new,
    and wherever a face is lost. The cascade, whose scores depend on the size, always gets the full one.
    """

    def __init__(self, name: str) -> None:
        self._detect, self._may_shrink = detector(name), name == YUNET.detector
        self._faces, self._smallest, self._full = 0, 0.0, -math.inf

    def __call__(self, time: float, image: np.ndarray) -> np.ndarray:
        """Faces as :data:`Detector` gives them; ``time`` in seconds."""
        found = None
        if self._may_shrink and self._smallest > TRACKED and time < self._full + 1 / FULL_PER_S - 1e-6:
            # in steps, since yunet is made anew for each size
            found = self._detect(image, 2 ** (math.ceil(2 * math.log2(TRACKED / self._smallest)) / 2))
            if len(found) < self._faces:
                found = None
        if found is None:
            found, self._full = self._detect(image), time
        self._faces = len(found)
        self._smallest = float((found[:, 2:4] - found[:, :2]).max(1).min()) if len(found) else 0.0
        return found


class _Pool:
    """A detector that any number of threads may call: OpenCV's are not re-entrant, so each works for one at a time.

    There are never more of them than calls at once; ``make`` builds one more where all are busy.
    """

    def __init__(self, make: Callable[[], Detector]) -> None:
        self._make, self._free = make, deque([make()])

    def __call__(self, image: np.ndarray, shrink: float = 1.0) -> np.ndarray:
        try:
            detect = self._free.pop()
        except IndexError:
            detect = self._make()
        try:
            return detect(image, shrink)
        finally:
            self._free.append(detect)


def detector(name: str) -> Detector:
    """The detector of that name, ready to use in any thread; the file of ``yunet`` is fetched at its first use.

    Raises UsageError for another name, WeightsError where the file cannot be had.
    """
    if name == "cascade":
        return _cascade()
    if name == "yunet":
        return _yunet(str(detector_file.locate(YUNET)))
    raise UsageError(f"face detector must be one of {DETECTORS}, got {name!r}")


def available(spec: ClipSpec) -> ClipSpec:
    """The spec itself or, where its detector cannot be had, the same with ``cascade``: the one place that decides so.

    For a detector that weights name; one that the user asks for is not replaced. The reason is :func:`fallback_reason`.
    Raises WeightsError where ``EMOZOO_YUNET`` names another file.
    """
    return spec.with_detector(FALLBACK) if spec.needs_face and fallback_reason(spec.detector) else spec


def fallback_reason(name: str) -> str | None:
    """Why ``cascade`` finds the faces in place of the detector of that name, in words; None where it does not.

    A download that failed is not tried again by this process, and is logged once.
    """
    if name != YUNET.detector or detector_file.at_hand(YUNET) is not None:
        return None
    return _download_once(YUNET, detector_file.cached(YUNET))


@lru_cache(maxsize=8)
def _download_once(source: detector_file.Source, _path: Path) -> str | None:
    """None after a download, else why there is none."""
    try:
        detector_file.locate(source)
    except detector_file.Unavailable as error:
        reason = f"faces are found by {FALLBACK} in place of {source.detector}, which cannot be had: {error}"
        _log.warning("%s: %s", FALLBACK_CODE, reason)
        return reason
    return None


@lru_cache(maxsize=1)
def _cascade() -> Detector:
    return _Pool(_make_cascade)


def _make_cascade() -> Detector:
    model = cv2.CascadeClassifier(str(Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_default.xml"))

    def once(grey: np.ndarray, smallest: int) -> np.ndarray:
        found, _, weights = model.detectMultiScale3(
            grey, scaleFactor=1.15, minNeighbors=4, minSize=(smallest, smallest), outputRejectLevels=True
        )
        if not len(found):
            return np.zeros((0, 5), dtype=np.float32)
        boxes = np.asarray(found, dtype=np.float32)
        boxes[:, 2:] += boxes[:, :2]
        return np.column_stack([boxes, np.asarray(weights, dtype=np.float32).reshape(-1)])

    def padded(grey: np.ndarray) -> np.ndarray:
        """Of faces that fill the image: at least 0.4 of its shorter side."""
        by_y, by_x = grey.shape[0] // 4, grey.shape[1] // 4
        wide = cv2.copyMakeBorder(grey, by_y, by_y, by_x, by_x, cv2.BORDER_REPLICATE)
        found = once(wide, max(24, round(min(grey.shape) * 0.4)))
        found[:, :4] -= np.array([by_x, by_y, by_x, by_y], dtype=np.float32)
        return found

    def detect(image: np.ndarray, shrink: float) -> np.ndarray:
        height, width = image.shape[:2]
        scale = max(1.0, TINY / min(height, width)) if min(height, width) < TINY else 1.0
        scale = min(scale, LONG_SIDE / max(height, width), shrink)
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        grey = _scaled(grey, scale)
        found = np.zeros((0, 5), dtype=np.float32)
        if min(height, width) >= SMALL:
            found = once(grey, max(24, round(min(grey.shape) / 12)))
        if not len(found):
            found = padded(grey)
        found[:, :4] /= scale
        return _inside(found, width, height)

    return detect


@lru_cache(maxsize=2)
def _yunet(path: str) -> Detector:
    return _Pool(lambda: _make_yunet(path))


def _make_yunet(path: str) -> Detector:
    @lru_cache(maxsize=8)
    def model(width: int, height: int) -> Any:
        return cv2.FaceDetectorYN.create(path, "", (width, height), score_threshold=0.7)

    def detect(image: np.ndarray, shrink: float) -> np.ndarray:
        height, width = image.shape[:2]
        scale = LONG_SIDE / max(height, width)
        scale = min(scale, 1.0 if min(height, width) >= TINY else TINY / min(height, width), shrink)
        bgr = _scaled(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), scale)
        pad = max(bgr.shape[:2]) // 4 if min(height, width) < SMALL else 0
        if pad:
            bgr = cv2.copyMakeBorder(bgr, pad, pad, pad, pad, cv2.BORDER_REPLICATE)
        rows = model(*bgr.shape[1::-1]).detect(bgr)[1]
        if rows is None:
            return np.zeros((0, 5), dtype=np.float32)
        found = np.column_stack([rows[:, :2], rows[:, :2] + rows[:, 2:4], rows[:, -1], rows[:, 4:14]])
        found = found.astype(np.float32)
        pixels = np.arange(found.shape[1]) != 4
        found[:, pixels] = (found[:, pixels] - pad) / scale
        return _inside(found, width, height)

    return detect


def _scaled(image: np.ndarray, scale: float) -> np.ndarray:
    """The image enlarged or shrunk; a side of one pixel never vanishes."""
    if scale == 1.0:
        return image
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    if min(image.shape[:2]) * scale < 1:
        height, width = image.shape[:2]
        return cv2.resize(image, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=how)
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=how)


def smallest(name: str, width: int, height: int) -> int:
    """Side in pixels of the smallest face that the detector looks for in an image of that size."""
    short, scale = min(width, height), min(1.0, LONG_SIDE / max(width, height))
    if name == "yunet":
        return round(10 / (scale if short >= TINY else TINY / short))
    if short < SMALL:
        return round(short * 0.4)
    return round(max(24, round(short * scale / 12)) / scale)


def hint(images: Sequence[np.ndarray], name: str) -> str:
    """What would help with images in which the detector sees no face, in words.

    The detector sees them once more: turned, with space around them, and in enlarged parts. The text names the change
    with which it finds a face in most images (of equal ones the one with higher scores). Where none helps in more than
    half of them, the text names the smallest face that the detector looks for.
    """
    detect = detector(name)
    height, width = images[0].shape[:2]

    def pad(image: np.ndarray) -> np.ndarray:
        y, x = height // 4, width // 4
        return cv2.copyMakeBorder(image, y, y, x, x, cv2.BORDER_REPLICATE)

    def enlarged(image: np.ndarray) -> tuple[float, float]:
        h, w = int(height * PART), int(width * PART)
        scale = max(1.0, LONG_SIDE / max(h, w))
        found = []
        for y in (0, height - h):
            for x in (0, width - w):
                part = cv2.resize(image[y : y + h, x : x + w], None, fx=scale, fy=scale)
                score, side = _surest(detect(part))
                found.append((score, side / scale))
        return max(found)

    other = ", or try the detector yunet" if name == "cascade" else ""
    shortest = max(1, smallest(name, width, height))
    limit = f"faces smaller than {shortest} pixels are not looked for in an image of {width} x {height}"
    if max(int(p.max()) - int(p.min()) for p in images) < FLAT:
        return f"the images show one plain colour; {limit}"
    tries = {words: [_surest(detect(_turned(p, turns))) for p in images] for turns, words in TURNS.items()}
    if min(height, width) >= SMALL:
        tries["border"] = [_surest(detect(pad(p))) for p in images]
        tries["small"] = [enlarged(p) for p in images]
    counts = {k: (sum(side > 0 for _, side in found), sum(score for score, _ in found)) for k, found in tries.items()}
    chosen = max(counts, key=counts.__getitem__)
    if 2 * counts[chosen][0] <= len(images) or (chosen == "small" and counts[chosen][0] < len(images)):
        return f"{limit}: crop or enlarge it{other}"
    if chosen == "small":
        side = float(np.median([side for _, side in tries[chosen] if side > 0]))
        return (
            f"what may be a face of {side:.0f} pixels was found in an enlarged part; {limit}: crop or enlarge it{other}"
        )
    if chosen == "border":
        return f"a face was found at the border when the image got more room: leave room around the face{other}"
    return f"a face was found after turning {chosen}: turn the image or video"


def surer_turned(images: Sequence[np.ndarray], name: str, score: float) -> str | None:
    """How images are to be turned to show a face far surer than one of that score, in words; None if in no way."""
    detect = detector(name)
    wanted = SURER * max(score, DOUBTFUL / 2)
    scores = {words: [_surest(detect(_turned(p, turns)))[0] for p in images] for turns, words in TURNS.items()}
    words = max(scores, key=lambda w: sum(scores[w]))
    return words if sum(scores[words]) / len(images) >= wanted and min(scores[words]) > 0 else None


def _surest(found: np.ndarray) -> tuple[float, float]:
    """Score and side of the surest face; 0 and 0 without one."""
    row = found[found[:, 4].argmax()] if len(found) else np.zeros(5)
    return float(row[4]), float(row[2] - row[0])


def _turned(image: np.ndarray, turns: int) -> np.ndarray:
    return np.ascontiguousarray(np.rot90(image, turns, (1, 0)))


def _inside(found: np.ndarray, width: int, height: int) -> np.ndarray:
    """Clipped to the image; what lies mostly outside is dropped."""
    area = (found[:, 2] - found[:, 0]) * (found[:, 3] - found[:, 1])
    clipped = found.copy()
    clipped[:, [0, 2]] = clipped[:, [0, 2]].clip(0, width - 1)
    clipped[:, [1, 3]] = clipped[:, [1, 3]].clip(0, height - 1)
    kept = (clipped[:, 2] - clipped[:, 0]) * (clipped[:, 3] - clipped[:, 1])
    return clipped[kept > 0.5 * area]


def _similarity(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """(n,): intersection over union, plus up to 1 for near centres of like size; 0 = another face."""
    x1, y1 = np.maximum(box[0], boxes[:, 0]), np.maximum(box[1], boxes[:, 1])
    x2, y2 = np.minimum(box[2], boxes[:, 2]), np.minimum(box[3], boxes[:, 3])
    inter = np.clip(x2 - x1, 0, None) * np.clip(y2 - y1, 0, None)
    side, sides = box[2] - box[0], boxes[:, 2] - boxes[:, 0]
    iou = inter / (side * side + sides * sides - inter + 1e-6)
    distance = np.hypot(box[0] + box[2] - boxes[:, 0] - boxes[:, 2], box[1] + box[3] - boxes[:, 1] - boxes[:, 3]) / 2
    near = np.clip(1 - distance / np.maximum(side, sides), 0, 1) * (
        np.minimum(side, sides) / np.maximum(side, sides) > 0.5
    )
    return np.asarray(iou + near)


@dataclass(eq=False)
class Chain:
    """Detections that belong to one face, in order of time: seconds, and rows of the detector."""

    times: list[float]
    rows: list[np.ndarray]


class Linker:
    """Links detections, look by look, to faces. A detection joins the most similar face that was seen just before.

    A face ends only where frames without it were looked at: time without frames, as between those of a slow video, does
    not end it.
    """

    def __init__(self) -> None:
        self.looks: list[float] = []
        self._open: list[Chain] = []
        self._closed: list[Chain] = []

    def add(self, time: float, found: np.ndarray) -> None:
        """Faces (n, 5) or (n, 15) that the detector found at that time, later than all before."""
        self.looks.append(time)
        gone = [time - c.times[-1] > GAP_S + 1e-6 and c.times[-1] < min(self.looks[-3:]) for c in self._open]
        self._closed += [c for c, away in zip(self._open, gone) if away]
        self._open = [c for c, away in zip(self._open, gone) if not away]
        pairs = []
        for k, chain in enumerate(self._open):
            if len(found):
                near = _similarity(chain.rows[-1][:4], found[:, :4])
                pairs += [(s, k, j) for j, s in enumerate(near) if s > 0.3]
        used_chains, used_boxes = set(), set()
        for _, k, j in sorted(pairs, reverse=True):
            if k not in used_chains and j not in used_boxes:
                used_chains.add(k)
                used_boxes.add(j)
                self._open[k].times.append(time)
                self._open[k].rows.append(found[j])
        self._open += [Chain([time], [found[j]]) for j in range(len(found)) if j not in used_boxes]

    def faces(self, step: float, since: float = -math.inf) -> list[tuple[Chain, Track]]:
        """The faces seen so far, those with most face frames first; ``step``: seconds between looks.

        Those seen in fewer than 3 frames (1 or 2 where no more were looked at) or in less than a third of the frames of
        their own span are left out as false alarms. ``since``: only faces seen later, and their boxes from then on.
        """
        found = []
        for chain in (c for c in self._closed + self._open if c.times[-1] >= since):
            times = np.array(chain.times)
            first, last = np.searchsorted(self.looks, [times[0], times[-1]])
            span = min((times[-1] - times[0]) / step, float(last - first)) + 1 if step else 1
            if len(times) >= min(3, len(self.looks)) and len(times) * 3 >= span:
                part = slice(int(np.searchsorted(times, since)), None)
                seen = np.stack(chain.rows[part])
                smooth = _smooth(times[part], np.delete(seen, 4, 1))
                points = smooth[:, 4:].reshape(len(seen), -1, 2) if seen.shape[1] > 5 else None
                score = sum(map(float, seen[:, 4])) / len(self.looks)
                found.append((chain, Track(times[part], smooth[:, :4], step, score, points)))
        return sorted(found, key=lambda pair: (-pair[1].face_frames, -_area(pair[1])))


def link(detections: Iterable[tuple[float, np.ndarray]], step: float) -> list[Track]:
    """Detections (seconds, (n, 5) or (n, 15)) in order of time → tracks, as :class:`Linker` has them."""
    linker = Linker()
    for time, found in detections:
        linker.add(time, found)
    return [track for _, track in linker.faces(step)]


def _area(track: Track) -> float:
    sides = track.boxes[:, 2:] - track.boxes[:, :2]
    return float((sides[:, 0] * sides[:, 1]).mean())


def _smooth(times: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Gaussian average of (n, k) over time; in pieces, so that a track of hours needs no square matrix."""
    out = np.empty(values.shape, dtype=np.float32)
    for i, t in enumerate(times):
        lo, hi = np.searchsorted(times, [t - 3 * SMOOTH_S, t + 3 * SMOOTH_S])
        # the window is symmetric: at the ends an average of one side would lag behind a moving face
        reach = min(i - lo, hi - 1 - i)
        part = slice(i - reach, i + reach + 1)
        weight = np.exp(-0.5 * ((times[part] - t) / SMOOTH_S) ** 2)
        out[i] = (weight[:, None] * values[part]).sum(0) / weight.sum()
    return out
