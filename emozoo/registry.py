"""Names to models and weights. Pure data; imports no torch until :func:`build_network` is called.

Names are ``arch`` or ``arch.tag``. A tag such as ``faces7_v3`` is immutable; ``faces7`` (its newest version) and the
bare architecture (its default tag) are aliases that :func:`resolve` turns into the full name.
"""

from __future__ import annotations

import difflib
import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from emozoo import files
from emozoo.errors import UnknownModelError, UsageError
from emozoo.labels import BASIC7, CAER7, EKMAN6
from emozoo.spec import IMAGENET_MEAN, IMAGENET_STD, KINETICS_MEAN, KINETICS_STD, AudioSpec, ClipSpec, StreamSpec

# The hub account does not exist yet; every weights entry that is not packaged says so through this constant.
# Once it does: "ORG/{name}", one repository per tag; the revisions stand in the tags' config.json (docs/hub.md).
HUB_REPO: str | None = None


@dataclass(frozen=True)
class ModelSpec:
    """One architecture.

    ``network`` = "module:Class". ``wirings`` and ``sizes`` map names to keyword arguments of the class; ``missing``
    says why a wiring cannot be had. ``specs`` holds a ClipSpec per size, ``default_tag`` the weights that the bare
    name stands for (None: no weights yet).
    """

    name: str
    title: str
    paper: str
    network: str
    classes: tuple[str, ...]
    tasks: tuple[str, ...]
    wirings: Mapping[str, Mapping[str, Any]]
    sizes: Mapping[str, Mapping[str, Any]]
    specs: Mapping[str, ClipSpec]
    default_tag: str | None = None
    default_wiring: str = "stable"
    missing: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Weights:
    """One immutable weights tag, read from ``checkpoints/<arch>.<tag>/config.json``.

    ``revision`` is the 40-hex commit on the hub (None: not on a hub), ``config`` the whole file.
    """

    arch: str
    tag: str
    sha256: str
    licence: str
    classes: tuple[str, ...]
    wiring: str
    size: str
    trained_on: str
    revision: str | None
    config: Mapping[str, Any]

    @property
    def name(self) -> str:
        return f"{self.arch}.{self.tag}"

    @property
    def tasks(self) -> tuple[str, ...]:
        """What these weights answer: ``emotion``, ``va`` or both, which may be more than their paper's network does."""
        return tuple(self.config.get("tasks") or MODELS[self.arch].tasks)


def _image(
    source: str, side: int, frames: int = 1, position: str = "all", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)
) -> StreamSpec:
    return StreamSpec(source=source, size=(side, side), frames=frames, position=position, mean=mean, std=std)


# Log-mel of the Aff-Wild2 line (recursive_joint_attention, section 7): 44.1 kHz, 20 ms windows, 45,599 samples.
_AUDIO_FULL = AudioSpec(rate=44100, win=882, hop=441, fft=1024, seconds=45599 / 44100, top_db=80.0)
_AUDIO_LITE = AudioSpec(rate=16000, win=400, hop=250, fft=512, seconds=1.0, top_db=80.0)

MODELS: dict[str, ModelSpec] = {
    spec.name: spec
    for spec in (
        ModelSpec(
            name="caer_cross_attention",
            title="CAER cross-attention (CAHFW-Net): face and scene context",
            paper="Zhou, Wu, Jiang, Huang, Huang: Emotion Recognition from Large-Scale Video Clips with "
            "Cross-Attention and Hybrid Feature Weighting Neural Networks, IJERPH 2023, 20(2), 1400",
            network="emozoo.models.caer_cross_attention:CAERCrossAttention",
            classes=CAER7,
            tasks=("emotion",),
            wirings={"paper": {"highlight_rescale": False}, "stable": {"highlight_rescale": True}},
            missing={"official": "the authors published no code; use 'paper' or 'stable'"},
            sizes={"full": {"widths": (32, 64, 128, 256, 256)}, "lite": {"widths": (16, 32, 64, 128, 128)}},
            specs={
                "full": ClipSpec(
                    {
                        "face": _image("face", 224, mean=IMAGENET_MEAN, std=IMAGENET_STD),
                        "context": _image("context", 224, mean=IMAGENET_MEAN, std=IMAGENET_STD),
                    },
                    clips=1,
                    sampling="segments",
                    window_s=2.0,
                ),
                "lite": ClipSpec(
                    {
                        "face": _image("face", 64, mean=IMAGENET_MEAN, std=IMAGENET_STD),
                        "context": _image("context", 64, mean=IMAGENET_MEAN, std=IMAGENET_STD),
                    },
                    clips=3,
                    sampling="segments",
                    window_s=3.0,
                ),
            },
            default_tag="synth_v1",
        ),
        ModelSpec(
            name="dfan",
            title="DFAN: dual focus attention over time and space",
            paper="Qiu, He, Wang: Dual Focus Attention Network for Video Emotion Recognition, IEEE ICME 2020",
            network="emozoo.models.dfan:DFAN",
            classes=EKMAN6,
            tasks=("emotion",),
            wirings={"reconstruction": {}, "stable": {}},
            missing={
                "paper": "only the abstract was readable; use 'reconstruction'",
                "official": "the authors published no code; use 'reconstruction'",
            },
            sizes={
                "full": {"encoders": {"action": "s3d", "object": "resnet50", "scene": "resnet50"}},
                "lite": {
                    "encoders": {"action": "r2plus1d_lite", "object": "vgg_tiny", "scene": "vgg_tiny"},
                    "width": 128,
                    "hidden": 64,
                    "freeze": False,
                },
            },
            specs={
                "full": ClipSpec(
                    {
                        "action": _image("frame", 224, 16, mean=KINETICS_MEAN, std=KINETICS_STD),
                        "object": _image("frame", 224, position="center", mean=IMAGENET_MEAN, std=IMAGENET_STD),
                        "scene": _image("frame", 224, position="center", mean=IMAGENET_MEAN, std=IMAGENET_STD),
                    },
                    clips=16,
                    sampling="segments",
                    window_s=10.0,
                ),
                "lite": ClipSpec(
                    {
                        "action": _image("frame", 48, 4, mean=KINETICS_MEAN, std=KINETICS_STD),
                        "object": _image("frame", 64, position="center", mean=IMAGENET_MEAN, std=IMAGENET_STD),
                        "scene": _image("frame", 64, position="center", mean=IMAGENET_MEAN, std=IMAGENET_STD),
                    },
                    clips=6,
                    sampling="segments",
                    window_s=3.0,
                    rate=12.5,
                ),
            },
            default_tag="synth_v1",
            note="Independent re-implementation from the abstract: the full text was not available.",
        ),
        ModelSpec(
            name="recursive_joint_attention",
            title="Recursive joint attention: audio and face to valence and arousal",
            paper="Praveen, Granger, Cardinal: Recursive Joint Attention for Audio-Visual Fusion in Regression Based "
            "Emotion Recognition, ICASSP 2023, arXiv 2304.07958",
            network="emozoo.models.recursive_joint_attention:RecursiveJointAttention",
            classes=(),
            tasks=("va",),
            wirings={
                "official": {"fusion": "official", "num_iter": 1, "legacy_layout": True, "visual_input": "grid"},
                "reconstruction": {"fusion": "reconstruction", "num_iter": 2, "visual_input": "pooled"},
                "stable": {"fusion": "reconstruction", "num_iter": 2, "visual_input": "pooled"},
            },
            missing={"paper": "only the abstract was readable; use 'reconstruction' or 'official'"},
            sizes={
                "full": {"encoders": {"face": "r2plus1d_18", "audio": "resnet18_audio"}, "seq_len": 16},
                "lite": {
                    "encoders": {"face": "vgg_tiny", "audio": "vgg_tiny_audio"},
                    "seq_len": 8,
                    "regions": 36,  # 48-pixel faces end on a 6 x 6 map
                    "width": 128,
                    "hidden": 64,
                    "freeze": False,
                },
            },
            specs={
                "full": ClipSpec(
                    {
                        "face": _image("face", 112, 8, mean=KINETICS_MEAN, std=KINETICS_STD),
                        "audio": StreamSpec("audio", (64, 104), mean=(-14.8,), std=(19.895,), audio=_AUDIO_FULL),
                    },
                    clips=16,
                    sampling="trailing",
                    window_s=16 * 32 / 30,
                    clip_s=32 / 30,
                ),
                "lite": ClipSpec(
                    {
                        "face": _image("face", 48, 2),
                        "audio": StreamSpec("audio", (40, 64), mean=(-14.8,), std=(19.895,), audio=_AUDIO_LITE),
                    },
                    clips=8,
                    sampling="trailing",
                    window_s=3.2,
                    clip_s=0.4,
                ),
            },
            default_tag="synth_v1",
        ),
        ModelSpec(
            name="ceflnet",
            title="CEFLNet: clip-aware facial expression",
            paper="Liu, Feng, Yuan, Zhou, Wang, Qin, Luo: Clip-aware expressive feature learning for video-based "
            "facial expression recognition, Information Sciences 598 (2022) 182-195",
            network="emozoo.models.ceflnet:CEFLNet",
            classes=BASIC7,
            tasks=("emotion",),
            wirings={"official": {"bn_mode": "per_frame"}, "stable": {"bn_mode": "flat"}},
            missing={"paper": "only the abstract was readable; use 'official', which is read from the authors' code"},
            sizes={"full": {"backbone": "resnet18"}, "lite": {"backbone": "vgg_lite"}},
            specs={
                "full": ClipSpec({"face": _image("face", 224, 5)}, clips=7, sampling="overlap", window_s=3.5),
                "lite": ClipSpec({"face": _image("face", 48, 3)}, clips=3, sampling="overlap", window_s=3.0),
            },
            default_tag="faces7_v3",
        ),
        ModelSpec(
            name="caer_net_s",
            title="CAER-Net-S: face and masked scene, static (baseline)",
            paper="Lee, Kim, Kim, Park, Sohn: Context-Aware Emotion Recognition Networks, ICCV 2019",
            network="emozoo.models.caer_net_s:CAERNetS",
            classes=CAER7,
            tasks=("emotion",),
            wirings={"paper": {"pooled_bn": False}, "official": {"pooled_bn": True}, "stable": {"pooled_bn": True}},
            sizes={"full": {"widths": (32, 64, 128, 256, 256)}, "lite": {"widths": (16, 32, 64, 128, 128)}},
            specs={
                "full": ClipSpec(
                    {
                        "face": _image("face", 96, mean=IMAGENET_MEAN, std=IMAGENET_STD),
                        "context": _image("context", 112, mean=IMAGENET_MEAN, std=IMAGENET_STD),
                    },
                    clips=1,
                    sampling="segments",
                    window_s=2.0,
                ),
                "lite": ClipSpec(
                    {
                        "face": _image("face", 64, mean=IMAGENET_MEAN, std=IMAGENET_STD),
                        "context": _image("context", 64, mean=IMAGENET_MEAN, std=IMAGENET_STD),
                    },
                    clips=3,
                    sampling="segments",
                    window_s=3.0,
                ),
            },
        ),
        ModelSpec(
            name="emotion_fan",
            title="Emotion-FAN: frame attention network (baseline)",
            paper="Meng, Peng, Wang, Qiao: Frame Attention Networks for Facial Expression Recognition in Videos, ICIP "
            "2019, arXiv 1907.00193",
            network="emozoo.models.emotion_fan:EmotionFAN",
            classes=BASIC7,
            tasks=("emotion",),
            wirings={"official": {"attention": "relation"}, "stable": {"attention": "relation"}},
            missing={"paper": "the wiring was read from the authors' code; use 'official'"},
            sizes={"full": {"backbone": "resnet18"}, "lite": {"backbone": "vgg_lite"}},
            specs={
                "full": ClipSpec({"face": _image("face", 224)}, clips=3, sampling="segments", window_s=3.5),
                "lite": ClipSpec({"face": _image("face", 48)}, clips=3, sampling="segments", window_s=3.0),
            },
            default_tag="ferplus_v3",
        ),
        ModelSpec(
            name="resnet_gru",
            title="ResNet-18 and a bidirectional GRU (baseline)",
            paper="No paper: the plain temporal baseline that tables of DFEW print (those of FERV39k and MAFW: its "
            "twin with an LSTM)",
            network="emozoo.models.resnet_gru:ResNetGRU",
            classes=BASIC7,
            tasks=("emotion",),
            wirings={"stable": {}},
            missing={"paper": "there is no paper; use 'stable'", "official": "there is no official code; use 'stable'"},
            sizes={"full": {"backbone": "resnet18"}, "lite": {"backbone": "vgg_lite", "hidden": 64}},
            specs={
                "full": ClipSpec(
                    {"face": _image("face", 224, mean=IMAGENET_MEAN, std=IMAGENET_STD)},
                    clips=16,
                    sampling="segments",
                    window_s=3.5,
                ),
                "lite": ClipSpec({"face": _image("face", 48)}, clips=8, sampling="segments", window_s=3.0),
            },
        ),
    )
}

# The plain-average control of each paper: keywords that replace those of its wiring and take out what the paper adds.
CONTROLS: dict[str, Mapping[str, Any]] = {
    "caer_cross_attention": {"fusion": "mean"},
    "dfan": {"use_temporal": False, "use_spatial": False},
    "recursive_joint_attention": {"num_iter": 0},
    "ceflnet": {"pooling": "mean"},
}


def _nearest(word: str, choices: list[str]) -> str:
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.4)
    return f"; did you mean '{close[0]}'?" if close else f"; there are {', '.join(choices)}"


def model(arch: str) -> ModelSpec:
    """The architecture of that name. Raises UnknownModelError with the nearest one."""
    if arch not in MODELS:
        raise UnknownModelError(f"no model '{arch}'{_nearest(arch, list(MODELS))}")
    return MODELS[arch]


def wiring_and_size(arch: str, wiring: str | None = None, size: str | None = None) -> tuple[str, str]:
    """Validated wiring and size of an architecture, defaults filled in (``stable``, ``full``)."""
    spec = model(arch)
    wiring = wiring or spec.default_wiring
    size = size or "full"
    if wiring in spec.missing:
        raise UnknownModelError(f"{arch} has no wiring '{wiring}': {spec.missing[wiring]}")
    if wiring not in spec.wirings:
        raise UnknownModelError(f"{arch} has no wiring '{wiring}'{_nearest(wiring, list(spec.wirings))}")
    if size not in spec.sizes:
        raise UnknownModelError(f"{arch} has no size '{size}'{_nearest(size, list(spec.sizes))}")
    return wiring, size


@cache
def _tagged() -> dict[str, Weights]:
    """Every folder of weights in the package, by full name."""
    found = {}
    for folder in sorted(files.packaged("checkpoints").iterdir(), key=lambda p: p.name):
        config = folder / "config.json"
        if config.is_file():
            data = json.loads(config.read_text(encoding="utf-8"))
            entry = Weights(
                arch=data["arch"],
                tag=data["tag"],
                sha256=data["sha256"],
                licence=data["licence"],
                classes=tuple(data["classes"]),
                wiring=data["wiring"],
                size=data["size"],
                trained_on=data["trained_on"],
                revision=data.get("revision"),
                config=data,
            )
            found[entry.name] = entry
    return found


@cache
def weights() -> dict[str, Weights]:
    """Every weights tag of a model that this installation knows, by full name."""
    return {name: entry for name, entry in _tagged().items() if entry.arch in MODELS}


@cache
def encoders() -> dict[str, Weights]:
    """Weights of encoders alone, by full name: no models, but what models start from and share (``init_from``)."""
    return {name: entry for name, entry in _tagged().items() if entry.arch not in MODELS}


def _version(tag: str) -> tuple[str, int]:
    stem, _, number = tag.rpartition("_v")
    return (stem, int(number)) if stem and number.isdigit() else (tag, 0)


def resolve(name: str) -> tuple[ModelSpec, Weights | None]:
    """The architecture and the exact weights that a name stands for; weights None where the bare name has none.

    Raises UnknownModelError with the nearest known name.
    """
    arch, _, tag = name.partition(".")
    if arch not in MODELS:
        raise UnknownModelError(f"no model '{name}'{_nearest(name, list(MODELS) + list(weights()))}")
    spec = MODELS[arch]
    tags = {w.tag: w for w in weights().values() if w.arch == arch}
    if not tag:
        return spec, tags.get(spec.default_tag or "")
    if tag in tags:
        return spec, tags[tag]
    versions = [t for t in tags if _version(t)[0] == tag]
    if versions:
        return spec, tags[max(versions, key=_version)]
    known = [f"{arch}.{t}" for t in tags]
    raise UnknownModelError(f"no weights '{name}'" + (_nearest(name, known) if known else f"; {arch} has none yet"))


def check_request(entry: Weights, wiring: str | None, size: str | None) -> None:
    """Refuses a wiring or size that contradicts what the weights were trained with. Raises UsageError."""
    for word, asked, have in (("wiring", wiring, entry.wiring), ("size", size, entry.size)):
        if asked is not None and asked != have:
            raise UsageError(
                f"{entry.name} has {word} '{have}', not '{asked}': drop {word}=, "
                f"or ask for an untrained {entry.arch} with weights=None"
            )


def build_network(arch: str, wiring: str, size: str, classes: Sequence[str], options: Mapping[str, Any]) -> Any:
    """The network (``torch.nn.Module``) of an architecture; its file is imported here, by name.

    ``options`` replace keyword arguments of wiring and size. Raises UsageError for options that the network does not
    take.
    """
    spec = model(arch)
    module, _, name = spec.network.partition(":")
    kwargs = {**spec.sizes[size], **spec.wirings[wiring], **options}
    try:
        return getattr(importlib.import_module(module), name)(len(classes) or None, **kwargs)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"{arch} with {', '.join(f'{k}={v!r}' for k, v in options.items()) or size}: {error}"
        ) from error


def clip_spec(arch: str, size: str, changes: Mapping[str, Any] | None = None) -> ClipSpec:
    """The ClipSpec of an architecture at a size; ``changes`` replaces fields of it, or all of it (a stored dict)."""
    base = model(arch).specs[size]
    if not changes:
        return base
    if "streams" in changes:
        return ClipSpec.from_dict(changes)
    unknown = set(changes) - set(base.to_dict())
    if unknown:
        raise UsageError(f"ClipSpec has no field {', '.join(sorted(unknown))}")
    return replace(base, **changes)
