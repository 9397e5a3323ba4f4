"""Why a network predicts what it does: what it attended to in the window that speaks most for the label.

All of it comes from the forward pass of the prediction itself: the pixels, the audio and the weights are those of its
batch. Where predictions are averaged with those of mirror images, the weights are those of the images as they are.
Attention says what was weighed most, not that it was the reason: ``docs/predict.md`` has a test of that.

>>> from emozoo.explain import explain
>>> explain("clip.mp4", "ceflnet").save("why.png")  # doctest: +SKIP

Legend: C = clips, F = frames in a clip, T = segments (clips), H, W = pixels, h, w = cells of a map.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emozoo.data.find import one_line
from emozoo.errors import VideoError
from emozoo.evidence import Evidence
from emozoo.explain_plots import Band, Cell, Panel, Row, Signal, Words, draw
from emozoo.inference import Prediction, Predictor
from emozoo.prediction import MediaPath
from emozoo.recognizer import Recognizer
from emozoo.spec import AudioSpec

MAX_ROWS, MAX_COLUMNS = 4, 16
FACE_AND_SCENE, FACE_AND_VOICE = ("face", "scene"), ("face", "voice")

NO_PROOF = (
    "What it does not prove: that this is the reason for the label. A network can use a part without highlighting it; "
    "the occlusion check in docs/predict.md says what hiding the highlighted part changes."
)
NO_PLACES = "The network has no map of places: nothing here says what in a face was looked at."
ABOUT = {
    "ceflnet": (
        "Each row is a clip of the window, with the face crops that the network saw. The bar below a frame is its "
        "weight in the clip, the bar beside a row the weight of the clip. Frames that count little are pale. "
        + NO_PLACES
    ),
    "dfan": (
        "Each stream has its own weights: the bar below a frame says how much its segment counts, the colors where in "
        "the frame the stream looked. A map is coarse: one value for each of a few cells, drawn smoothly."
    ),
    "caer_cross_attention": (
        "The colors are the highlight map over the scene, in which the face is black. The bars say how face and scene "
        "are weighed against each other, from plain features and again after cross-attention. Frames are averaged."
    ),
    "caer_net_s": (
        "The colors are the attention map over the scene, in which the face is black. The bar says how face and scene "
        "are weighed against each other. Frames are averaged."
    ),
    "recursive_joint_attention": (
        "The bands are the shares of face and voice in each step: the energy of the features that are fused. Those of "
        "each stream have length 1 before they are joined, so shares stay near one half unless joint attention adds "
        "much to one of them. A stream may have a large share and still say little."
    ),
    "emotion_fan": (
        "The bar below a frame is its weight in the result; all weights add up to 1. Frames that count little are "
        "pale. " + NO_PLACES
    ),
}
STILL = "The network saw copies of this single image. All weigh the same, so nothing is highlighted."
NOTHING = "This network gives no weights, so only what it saw is shown: nothing here says which part of it mattered."


# -- what is weighed, by architecture --------------------------------------------------------------------------------


def frame_weights(attention: Mapping[str, Any]) -> Any:
    """CEFLNet's weight of each frame within its clip (..., C, F), arrays or tensors: adds up to 1 over the clip.

    0 in a clip without a real frame.
    """
    beta = attention["frame_weights"]
    total = beta.sum(-1)[..., None]
    return beta / (total + (total == 0))


# -- the explanation -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Explanation:
    """What a network attended to in one window of a file.

    Attributes:
        file, model, label: of the prediction; ``label`` is the likeliest class, None for valence and arousal alone.
        score: its probability over the file; ``window_score``: in this window. None without a label.
        evidence: the window: ``attention``, ``images``, ``audio`` and ``masks``, as the network saw it.
        still: a single image was predicted.
    """

    file: str
    model: str
    label: str | None
    score: float | None
    window_score: float | None
    evidence: Evidence
    still: bool

    @classmethod
    def of(cls, prediction: Prediction) -> Explanation:
        """The explanation of a prediction by a Predictor with ``evidence``.

        Raises VideoError for one without: an error, or a file in which there was nothing to predict from.
        """
        found = prediction.evidence
        if found is None:
            error = prediction.error or {"text": "there is no prediction to explain", "code": "no_answer"}
            raise VideoError(prediction.file, error["text"], error["code"])
        scores = prediction.scores or {}
        label = max(scores, key=scores.__getitem__, default=None)
        own = None if label is None or found.scores is None else float(found.scores[prediction.classes.index(label)])
        return cls(
            prediction.file, prediction.model, label, None if label is None else scores[label], own, found,
            still=not prediction.duration_s,
        )  # fmt: skip

    @property
    def attention(self) -> dict[str, np.ndarray]:
        """The maps of the network's Output, without the axis of the batch; the paper's file documents their shapes."""
        return self.evidence.attention

    @property
    def images(self) -> dict[str, np.ndarray]:
        """By stream, uint8 (C, F, H, W, 3) RGB: the pixels that the network saw."""
        return self.evidence.images

    def save(self, path: MediaPath) -> None:
        """Draws it as an image; the suffix chooses the format (.png, .svg, .pdf). Written whole or not at all."""
        draw(self.words(), self.panels(), Path(path))

    def panels(self) -> list[Panel]:
        """What is drawn, from top to bottom."""
        make = PANELS.get(self.evidence.arch)
        return make(self) if make and self.attention else _seen(self)

    def words(self) -> Words:
        """What is written above it: file, label, model, window, and what the image shows and does not prove."""
        name = one_line(Path(self.file).name)
        name = name if len(name) <= 60 else f"{name[:36]} … {name[-21:]}"
        result = "valence and arousal" if self.label is None else f"{self.label} {self.score:.2f}"
        make = PANELS.get(self.evidence.arch)
        if not (make and self.attention):
            about = [NOTHING]
        elif self.still and make in (_clips_and_frames, _weighed_frames):
            about = [STILL]
        else:
            about = [ABOUT[self.evidence.arch], NO_PROOF]
        return Words(name, result, f"{one_line(self.model)} · {self._when()}", about)

    def _when(self) -> str:
        if self.still:
            return "a still image: nothing is weighed over time"
        window = self.evidence.window
        if window.read_from is None or window.read_to is None:
            return f"the whole file, 0.0 to {window.end:.1f} s"
        if self.label is None:
            why = "where valence and arousal are farthest from neutral"
        else:
            why = f"where {self.label} scores highest ({self.window_score:.2f})"
        return f"{window.read_from:.1f} to {window.read_to:.1f} s, {why}"

    def image(self, stream: str, clip: int, frame: int) -> np.ndarray | None:
        """The pixels (H, W, 3) of one frame, None where there was nothing."""
        return self.images[stream][clip, frame] if self.evidence.masks[stream][clip, frame] else None


def explain(path: MediaPath, model: str | Recognizer = "ceflnet", **options: Any) -> Explanation:
    """Predicts a file and explains the prediction.

    ``options``: those of :func:`emozoo.predict` (``every``, ``prior``, ``detector``, ``device`` ...).

    Raises VideoError for a file that cannot be read, or in which there is nothing to predict from; other errors are
    those of :func:`emozoo.predict`.
    """
    return Explanation.of(Predictor(model, evidence=True, **options).predict(path))


# -- panels: what is drawn, by architecture --------------------------------------------------------------------------


def _spread(count: int, most: int) -> list[int]:
    """At most so many numbers below ``count``, evenly spread."""
    return list(range(count)) if count <= most else [round((i + 0.5) * count / most - 0.5) for i in range(most)]


def _pale(image: np.ndarray | None, part: float) -> np.ndarray | None:
    """An image faded towards white, the more the smaller ``part`` in [0, 1]."""
    if image is None:
        return None
    visible = 0.35 + 0.65 * part
    return (255 - (255 - image.astype(np.float32)) * visible).astype(np.uint8)


def _multiples(space: np.ndarray) -> np.ndarray | None:
    """A map (h, w) in multiples of its average; None where it is empty."""
    mean = float(space.mean())
    return space / mean if mean > 0 else None


def _time(shown: Explanation, clip: int) -> str:
    return "" if shown.still else f"{shown.evidence.times[clip]:.2f} s"


def _frames(shown: Explanation) -> list[tuple[int, int]]:
    """Clip and frame of all frames of the face or scene in which there is anything; at least one."""
    masks = np.any([m for m in shown.evidence.masks.values() if m.shape == _shape(shown)], axis=0)
    return [(int(c), int(f)) for c, f in zip(*np.nonzero(masks), strict=True)] or [(0, 0)]


def _shape(shown: Explanation) -> tuple[int, ...]:
    return max((x.shape[:2] for x in shown.images.values()), key=np.prod)


def _clips_and_frames(shown: Explanation) -> list[Panel]:
    """CEFLNet: a row for each clip, with the weights of its frames; a still is one image."""
    if shown.still:
        return _seen(shown)
    weights, clips = frame_weights(shown.attention), shown.attention["clip_attention"]
    scale = float((weights * clips[:, None]).max()) or 1.0
    panels: list[Panel] = []
    for c in _spread(len(clips), 6):
        cells = []
        for f in _spread(weights.shape[1], MAX_COLUMNS):
            part = float(weights[c, f] * clips[c]) / scale
            cells.append(Cell(_pale(shown.image("face", c, f), part), weight=float(weights[c, f])))
        panels.append(
            Row(f"clip {c + 1}, around {_time(shown, c)}", cells, {"weight of the clip": {"": float(clips[c])}})
        )
    return panels


def _streams_over_time(shown: Explanation) -> list[Panel]:
    """DFAN: a row for each stream, with the weight of each segment and the map over it."""
    panels: list[Panel] = []
    for stream in shown.images:
        if f"{stream}_time" not in shown.attention:
            continue
        time, space = shown.attention[f"{stream}_time"], shown.attention[f"{stream}_space"]
        middle = shown.images[stream].shape[1] // 2
        cells = [
            Cell(
                shown.image(stream, t, middle), _time(shown, t), None if shown.still else float(time[t]),
                _multiples(space[t]),
            )
            for t in ([0] if shown.still else _spread(len(time), MAX_COLUMNS))
        ]  # fmt: skip
        panels.append(Row(f"stream {stream}", cells))
    if "audio_time" in shown.attention:
        edges = np.arange(len(shown.evidence.times) + 1, dtype=np.float64)
        panels.append(
            Band("weight of the audio's segments", {"voice": shown.attention["audio_time"]}, edges, "segments")
        )
    return panels


def _face_and_scene(shown: Explanation) -> list[Panel]:
    """CAER: for some frames the scene, its map, the face, and the weights of both."""
    frames = _frames(shown)
    titles = {"shallow": "weights, plain features", "deep": "after cross-attention", "fusion": "weights"}
    panels: list[Panel] = []
    for number in _spread(len(frames), MAX_ROWS):
        c, f = frames[number]
        scene, face = shown.image("context", c, f), shown.image("face", c, f)
        heat = _multiples(shown.attention["context"][c, f]) if scene is not None else None
        cells = [
            Cell(scene, "scene, as the network saw it"),
            Cell(scene, "scene with its map", heat=heat),
            Cell(face, "face"),
        ]
        sides = {
            title: dict(zip(FACE_AND_SCENE, map(float, shown.attention[key][c, f]), strict=True))
            for key, title in titles.items()
            if key in shown.attention
        }
        panels.append(Row(_time(shown, c) or "image", cells, sides))
    return panels


def _streams_in_steps(shown: Explanation) -> list[Panel]:
    """Joint attention: faces, the shares of face and voice, and the audio, on one axis of time."""
    shares, times = shown.attention["stream_share"], shown.evidence.times
    length = shown.evidence.spec.clip_s or float(np.diff(times).mean() if len(times) > 1 else 1.0)
    real = [c for c in range(len(times)) if any(m[c].any() for m in shown.evidence.masks.values())]
    edges = np.array([max(0.0, times[real[0]] - length), *times[real]])
    if shown.still:
        edges = np.array([0.0, 1.0])
        real = real[:1]
    panels: list[Panel] = []
    for name, images in shown.images.items():
        if not shown.evidence.masks[name].any():
            continue
        middle = images.shape[1] // 2
        cells = [
            Cell(_first_real(shown, name, c, middle), "" if shown.still else f"ends at {times[c]:.2f} s") for c in real
        ]
        panels.append(Row("face, middle of each step", cells, edges=edges))
    parts = dict(zip(FACE_AND_VOICE, shares[real].T, strict=True))
    panels.append(Band("share of face and voice", parts, edges, "" if shown.still else "seconds"))
    for name, values in shown.evidence.audio.items():
        settings = shown.evidence.spec.streams[name].audio
        if settings is not None and shown.evidence.masks[name].any():
            panels.append(_heard(values[real], settings, length, edges))
    return panels


def _first_real(shown: Explanation, stream: str, clip: int, middle: int) -> np.ndarray | None:
    """The middle frame of a stream's clip, or the nearest one that is real."""
    real = np.flatnonzero(shown.evidence.masks[stream][clip])
    return shown.image(stream, clip, int(real[np.argmin(abs(real - middle))])) if len(real) else None


def _heard(values: np.ndarray, settings: AudioSpec, length: float, edges: np.ndarray) -> Signal:
    """The audio of the steps one after the other: of each window (C, M, S) the end, as long as the step."""
    waveform = settings.kind == "waveform"
    steps = min(values.shape[-1], round(length * settings.rate / (1 if waveform else settings.hop)))
    joined = np.concatenate(list(values[..., values.shape[-1] - steps :]), axis=-1)
    before = 1 - (edges[-1] - edges[0]) / (length * len(values))  # the part that lies before the file begins
    joined = joined[:, max(0, round(joined.shape[-1] * before)) :]
    return Signal("voice, as it was heard", joined, float(edges[0]), float(edges[-1]))


def _weighed_frames(shown: Explanation) -> list[Panel]:
    """Emotion-FAN: all frames in the order of time, with their weights."""
    if shown.still:
        return _seen(shown)
    weights = shown.attention["frame_weights"]
    scale, clips = float(weights.max()) or 1.0, weights.shape[0]
    if weights.shape[1] > 1:
        rows = [[(c, f) for f in _spread(weights.shape[1], MAX_COLUMNS)] for c in _spread(clips, 6)]
    else:
        rows = [[(c, 0) for c in _spread(clips, MAX_COLUMNS)]]
    return [
        Row(
            "frames",
            [
                Cell(
                    _pale(shown.image("face", c, f), float(weights[c, f]) / scale), _time(shown, c),
                    float(weights[c, f]),
                )
                for c, f in row
            ],
        )
        for row in rows
    ]  # fmt: skip


def _seen(shown: Explanation) -> list[Panel]:
    """Any other network: the frames that it saw."""
    panels: list[Panel] = []
    for stream, images in shown.images.items():
        middle = images.shape[1] // 2
        clips = [0] if shown.still else _spread(len(images), MAX_COLUMNS)
        cells = [Cell(shown.image(stream, c, middle), _time(shown, c)) for c in clips]
        panels.append(Row(f"stream {stream}", cells))
    return panels


PANELS: dict[str, Callable[[Explanation], list[Panel]]] = {
    "ceflnet": _clips_and_frames,
    "dfan": _streams_over_time,
    "caer_cross_attention": _face_and_scene,
    "caer_net_s": _face_and_scene,
    "recursive_joint_attention": _streams_in_steps,
    "emotion_fan": _weighed_frames,
}
