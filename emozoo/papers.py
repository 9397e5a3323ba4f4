"""The papers of this zoo: one entry for each. Pure data; imports no torch.

Everything that is known of a network before it is built stands in its entry: lists, tests, controls and the built-in
suite follow from it. ``docs/extend.md`` shows how to add one, here or in a package of yours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from emozoo.errors import UsageError
from emozoo.labels import BASIC7, CAER7, EKMAN6
from emozoo.spec import IMAGENET_MEAN, IMAGENET_STD, KINETICS_MEAN, KINETICS_STD, AudioSpec, ClipSpec, StreamSpec


@dataclass(frozen=True)
class ModelSpec:
    """One architecture: all that is known of a paper's network before it is built. ``docs/extend.md`` adds one.

    Raises UsageError where parts of the entry contradict each other.

    Attributes:
        name: lower case, without a dot; weights are ``name.tag``.
        title, paper, note: one line each: what it is, where it was published, what else one should know.
        network: ``module:Class`` of its :class:`emozoo.models.network.Network`.
        classes: the paper's classes in order; none for a network of valence and arousal alone.
        tasks: ``emotion``, ``va`` or both, as the bare network predicts them.
        wirings: keyword arguments of the class by wiring (docs/architecture.md says what the names promise); a name in
            their place means the same network as that wiring.
        missing: why a wiring cannot be had.
        sizes: keyword arguments of the class, by size: ``full``, ``lite``.
        specs: ClipSpec by size.
        parameters: by wiring, the parameters at size ``full`` with the paper's classes, as its tables count them.
        backbone_parameters: those of encoders that count apart.
        control: keyword arguments that take out what the paper adds, for its plain-average control.
        synthemo: settings of :class:`emozoo.synthemo.Knobs` for drawn clips that ask for what its mechanism claims;
            with them the built-in suite includes the model.
        recipes: data sets that the recipe ``<name>__<data set>`` trains it on.
        default_tag: the weights that the bare name stands for; None: no weights yet.
        default_wiring: the wiring where none is named.
    """

    name: str
    title: str
    paper: str
    network: str
    classes: tuple[str, ...]
    tasks: tuple[str, ...]
    wirings: Mapping[str, Mapping[str, Any] | str]
    sizes: Mapping[str, Mapping[str, Any]]
    specs: Mapping[str, ClipSpec]
    parameters: Mapping[str, int]
    backbone_parameters: int = 0
    control: Mapping[str, Any] | None = None
    synthemo: Mapping[str, Any] | None = None
    recipes: tuple[str, ...] = ()
    default_tag: str | None = None
    default_wiring: str = "stable"
    missing: Mapping[str, str] = field(default_factory=dict)
    note: str = ""

    def __post_init__(self) -> None:
        own = {w for w, keywords in self.wirings.items() if not isinstance(keywords, str)}
        for wrong, why in (
            (not self.name or "." in self.name, "a name has no dot: what follows one is the tag of weights"),
            (self.network.count(":") != 1, f"network must be 'module:Class', got '{self.network}'"),
            (set(self.sizes) != set(self.specs), "sizes and specs must have the same names"),
            (self.default_wiring not in self.wirings, f"there is no wiring '{self.default_wiring}', the default"),
            (not {self.wiring(w) for w in self.wirings} <= own, "a wiring names another that has no keywords"),
            (set(self.parameters) != own, f"parameters must be given for the wirings {', '.join(sorted(own))}"),
        ):
            if wrong:
                raise UsageError(f"model '{self.name}': {why}")

    def wiring(self, name: str) -> str:
        """The wiring whose keywords this one has: itself, or the one that it is another name of."""
        keywords = self.wirings[name]
        return keywords if isinstance(keywords, str) else name

    def keywords(self, wiring: str, size: str) -> dict[str, Any]:
        """Keyword arguments of the network at a wiring and size that exist (:func:`wiring_and_size`)."""
        return {**self.sizes[size], **self.wirings[self.wiring(wiring)]}  # type: ignore[dict-item]


def _same_streams(names: tuple[str, ...], side: int) -> dict[str, StreamSpec]:
    """Single images, normalised as ImageNet's, of sources that are called like their streams."""
    return {name: _image(name, side, mean=IMAGENET_MEAN, std=IMAGENET_STD) for name in names}


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
                    _same_streams(("face", "context"), 224),
                    clips=1,
                    sampling="segments",
                    window_s=2.0,
                ),
                "lite": ClipSpec(
                    _same_streams(("face", "context"), 64),
                    clips=3,
                    sampling="segments",
                    window_s=3.0,
                ),
            },
            parameters={"paper": 7_406_862, "stable": 7_406_862},
            control={"fusion": "mean"},
            synthemo={"face": 0.75, "scene": 0.75},  # a face and a scene that correct each other
            recipes=("caer_s", "crema_d", "ravdess"),
            default_tag="faces7_v2",
        ),
        ModelSpec(
            name="dfan",
            title="DFAN: dual focus attention over time and space",
            paper="Qiu, He, Wang: Dual Focus Attention Network for Video Emotion Recognition, IEEE ICME 2020",
            network="emozoo.models.dfan:DFAN",
            classes=EKMAN6,
            tasks=("emotion",),
            wirings={"reconstruction": {}, "stable": "reconstruction"},
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
            parameters={"reconstruction": 3_423_238},
            backbone_parameters=54_926_112,
            control={"use_temporal": False, "use_spatial": False},
            synthemo={"burst": 0.35, "spot": True, "decoys": 1},  # evidence in one moment and one place
            recipes=("ekman6", "videoemotion8", "crema_d", "ravdess"),
            default_tag="music6_v2",
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
                "stable": "reconstruction",
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
            parameters={"official": 15_947_859, "reconstruction": 15_631_362},
            backbone_parameters=31_300_125 + 11_170_240,
            control={"num_iter": 0},
            synthemo={"face": 0.7, "voice": 0.7},  # a voice that shows what the face leaves open
            recipes=("aff_wild2", "crema_d", "ravdess", "ravdess_voices"),
            default_tag="talk6_v1",
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
            parameters={"official": 12_919_624, "stable": 12_919_624},
            control={"pooling": "mean"},
            synthemo={"burst": 0.3, "decoys": 2},  # an expression in a short part, among meaningless movements
            recipes=("afew", "dfew", "mmi", "bu4dfe", "crema_d", "ravdess", "ferplus_votes", "lfw5_folds"),
            default_tag="faces7_v4",
        ),
        ModelSpec(
            name="caer_net_s",
            title="CAER-Net-S: face and masked scene, static (baseline)",
            paper="Lee, Kim, Kim, Park, Sohn: Context-Aware Emotion Recognition Networks, ICCV 2019",
            network="emozoo.models.caer_net_s:CAERNetS",
            classes=CAER7,
            tasks=("emotion",),
            wirings={"paper": {"pooled_bn": False}, "official": {"pooled_bn": True}, "stable": "official"},
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
                    _same_streams(("face", "context"), 64),
                    clips=3,
                    sampling="segments",
                    window_s=3.0,
                ),
            },
            parameters={"paper": 2_389_004, "official": 2_390_028},
            recipes=("caer_s", "crema_d", "ravdess", "ferplus_votes", "lfw5_folds"),
        ),
        ModelSpec(
            name="emotion_fan",
            title="Emotion-FAN: frame attention network (baseline)",
            paper="Meng, Peng, Wang, Qiao: Frame Attention Networks for Facial Expression Recognition in Videos, ICIP "
            "2019, arXiv 1907.00193",
            network="emozoo.models.emotion_fan:EmotionFAN",
            classes=BASIC7,
            tasks=("emotion",),
            wirings={"official": {"attention": "relation"}, "stable": "official"},
            missing={"paper": "the wiring was read from the authors' code; use 'official'"},
            sizes={"full": {"backbone": "resnet18"}, "lite": {"backbone": "vgg_lite"}},
            specs={
                "full": ClipSpec({"face": _image("face", 224)}, clips=3, sampling="segments", window_s=3.5),
                "lite": ClipSpec({"face": _image("face", 48)}, clips=3, sampling="segments", window_s=3.0),
            },
            parameters={"official": 11_185_225},
            recipes=("afew", "crema_d", "ravdess", "ferplus_votes", "lfw5_folds"),
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
            parameters={"stable": 12_362_823},
            recipes=("dfew", "ferv39k", "mafw", "afew", "crema_d", "ravdess", "ferplus_votes", "lfw5_folds"),
        ),
    )
}
