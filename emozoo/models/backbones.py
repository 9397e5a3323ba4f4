"""Encoders by name, never downloaded: ``image_encoder`` for single images, ``clip_encoder`` for short clips,
``audio_encoder`` for windows of audio.

All return ``(module, width)``; the module gives maps that the networks pool themselves: images (N, 3, H, W) ->
(N, D, h, w), clips (N, 3, F, H, W) -> (N, D, f, h, w), log-mel audio (N, 1, M, S) -> (N, D, h, w), samples
(N, 1, 1, S) -> (N, D, 1, steps). An encoder with an attribute ``stacked`` gives that many layers one after the other
in D, which :class:`emozoo.models.layers.LayerPool` weighs.

Pretrained weights come only from a path that the user gives (``weights=``): a plain state dict, read with
``weights_only=True``, or safetensors.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from emozoo.models.mobile import PLANS, MobileMaps
from emozoo.models.whisper import WhisperEncoder

StrPath = str | PathLike[str]

# What classifiers carry beyond the encoder, in torchvision, timm, SCN/RAN/FAN and Places365 files.
_HEADS = ("fc.", "feature.", "classifier.", "head.")


class _TimmMaps(nn.Module):
    """Any timm network as an encoder of maps (tokens of transformers are put back on their grid).

    ``level``: the map that it ends on, 0-based, the last by default; layers behind it are not there.
    """

    def __init__(self, name: str, in_chans: int, level: int = -1) -> None:
        super().__init__()
        import timm

        net: Any = timm.create_model(
            name, pretrained=False, features_only=True, out_indices=(level,), in_chans=in_chans
        )
        self.net, self.width = net, int(net.feature_info.channels()[-1])
        if level >= 0 and isinstance(getattr(net, "blocks", None), nn.Sequential):  # timm cuts at the last stage alone
            module = str(net.feature_info.info[level]["module"])
            net.blocks = net.blocks[: int(module.split(".")[1]) + 1]

    def forward(self, x: Tensor) -> Tensor:
        # Depthwise convolutions, which many of these networks consist of, run faster with channels last.
        return self.net(x.contiguous(memory_format=torch.channels_last))[-1]  # (N, D, h, w)


def _resnet(layers: tuple[int, ...], channels: tuple[int, ...], in_chans: int, bottleneck: bool = False) -> nn.Module:
    """ResNet (He et al., 2016) without its head; parameter names and arithmetic are torchvision's."""
    from timm.models.resnet import BasicBlock, Bottleneck, ResNet

    block: Any = Bottleneck if bottleneck else BasicBlock
    return ResNet(
        block, layers, num_classes=0, global_pool="", in_chans=in_chans, channels=channels, zero_init_last=False
    )


def _resnet_lite(in_chans: int) -> nn.Module:
    net = _resnet((1, 1, 1, 1), (32, 64, 128, 256), in_chans)
    net.maxpool = nn.Identity()  # 48 x 48 images end on a 3 x 3 map instead of 2 x 2
    return net


# Plain stacks of 3 x 3 convolutions (VGG, Simonyan and Zisserman, 2015) with batch norm: "M" halves the image. On
# 48 x 48 faces they learn several times faster per example than a residual network of the same cost.
_VGG: dict[str, list[Any]] = {
    "vgg_lite": [24, "M", 48, 64, "M", 128, 128, "M", 256, 256],
    "vgg_tiny": [16, "M", 32, "M", 64, "M", 128],
}


def _vgg(name: str, in_chans: int) -> nn.Module:
    layers: list[nn.Module] = []
    for width in _VGG[name]:
        if width == "M":
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(in_chans, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            in_chans = width
    return nn.Sequential(*layers)


def _is_timm(name: str) -> bool:
    if name in PLANS:
        return True
    import timm  # takes seconds, torchvision among them

    return name in timm.list_models()


def image_encoder(name: str, in_chans: int = 3, weights: StrPath | None = None) -> tuple[nn.Module, int]:
    """An encoder of single images.

    ``name``: ``resnet18`` (11,176,512 parameters), ``resnet50``, ``resnet_lite`` (four basic blocks, 1.2 million
    parameters, D = 256, for images of about 48 x 48), ``vgg_lite`` (1.1 million, D = 256), ``vgg_tiny`` (0.1 million,
    D = 128), or any timm network, with ``@k`` behind the name up to its k-th map, 0-based
    (``tf_efficientnet_lite0@3``: 0.7 million parameters, D = 112, H/16). ``_audio`` behind a name means one input
    channel: (N, 1, M, S) log-mel images. Raises ValueError for an unknown name or unusable weights.
    """
    if name.endswith("_audio"):
        name, in_chans = name.removesuffix("_audio"), 1
    net: nn.Module
    if name == "resnet18":
        net, width = _resnet((2, 2, 2, 2), (64, 128, 256, 512), in_chans), 512
    elif name == "resnet50":
        net, width = _resnet((3, 4, 6, 3), (64, 128, 256, 512), in_chans, bottleneck=True), 2048
    elif name == "resnet_lite":
        net, width = _resnet_lite(in_chans), 256
    elif name in _VGG:
        net, width = _vgg(name, in_chans), int(_VGG[name][-1])
    else:
        timm_name, _, level = name.partition("@")
        if not _is_timm(timm_name) or (level and not level.isdigit()):
            known = ", ".join(("resnet18", "resnet50", "resnet_lite", *_VGG))
            raise ValueError(f"no image encoder '{name}': use {known} or a timm name, @k behind it for its k-th map")
        net = (MobileMaps if timm_name in PLANS else _TimmMaps)(timm_name, in_chans, int(level or -1))
        width = net.width
    if weights is not None:
        load_encoder(net, weights)
    return net, width


class _R2Plus1D(nn.Module):
    """torchvision's R(2+1)D-18 without pooling and head: 31,300,125 parameters, (N, 512, F/8, H/16, W/16)."""

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models.video import r2plus1d_18

        net = r2plus1d_18(weights=None)
        self.stem, self.layer1, self.layer2 = net.stem, net.layer1, net.layer2
        self.layer3, self.layer4 = net.layer3, net.layer4

    def forward(self, x: Tensor) -> Tensor:
        return self.layer4(self.layer3(self.layer2(self.layer1(self.stem(x)))))


class _S3D(nn.Module):
    """torchvision's S3D without pooling and head: (N, 1024, F/8, H/32, W/32)."""

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models.video import s3d

        self.features = s3d(weights=None).features

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x)


def _factorised(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """A (2+1)D convolution (Tran et al., 2018): 1 x 3 x 3 in space, then 3 x 1 x 1 in time."""
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False),
        nn.BatchNorm3d(outputs),
        nn.ReLU(inplace=True),
        nn.Conv3d(outputs, outputs, (3, 1, 1), (1, 1, 1), (1, 0, 0), bias=False),
        nn.BatchNorm3d(outputs),
        nn.ReLU(inplace=True),
    )


def _r2plus1d_lite() -> nn.Module:
    """Four (2+1)D layers for about four frames of 48 x 48: (N, 128, F, H/16, W/16), 0.4 million parameters."""
    widths = (3, 24, 48, 96, 128)
    return nn.Sequential(*(_factorised(a, b, 2) for a, b in pairwise(widths)))


_CLIP_ENCODERS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "s3d": (_S3D, 1024),
    "r2plus1d_18": (_R2Plus1D, 512),
    "r2plus1d_lite": (_r2plus1d_lite, 128),
}


def clip_encoder(name: str, weights: StrPath | None = None) -> tuple[nn.Module, int]:
    """An encoder of short clips, and the width D of its maps.

    ``name``: ``s3d``, ``r2plus1d_18`` (torchvision) or ``r2plus1d_lite``. ``weights``: a file; None starts at random.

    Raises ValueError for an unknown name or unusable weights.
    """
    if name not in _CLIP_ENCODERS:
        raise ValueError(f"no clip encoder '{name}': use one of {', '.join(_CLIP_ENCODERS)}")
    build, width = _CLIP_ENCODERS[name]
    net = build()
    if weights is not None:
        load_encoder(net, weights)
    return net, width


def is_clip_encoder(name: str) -> bool:
    """Whether the name is that of an encoder of clips, not of single images."""
    return name in _CLIP_ENCODERS


class Speech(nn.Module):
    """A speech model of transformers as an encoder of maps: samples (N, 1, 1, S) in [-1, 1] -> (N, D, 1, steps).

    ``normalize``: each window gets mean 0 and variance 1 first, silence in front of it included, as the model's
    preprocessor does. A silent window is zeros.
    """

    def __init__(self, net: Any, normalize: bool) -> None:
        super().__init__()
        self.net, self.normalize = net, normalize

    def forward(self, x: Tensor) -> Tensor:
        wave = x.flatten(1)  # (N, S)
        if self.normalize:
            variance, mean = torch.var_mean(wave, 1, correction=0, keepdim=True)
            wave = (wave - mean) / (variance + 1e-7).sqrt()
        return self.net(wave).last_hidden_state.mT.unsqueeze(2)  # (N, D, 1, steps)


_NAMES_CODE = {"auto_map", "attn_implementation", "experts_implementation", "quantization_config", "custom_pipelines"}


def is_speech_encoder(name: Any) -> bool:
    """Whether the name stands for a speech model of transformers: ``hf:FOLDER``, or the architecture of one."""
    return name.startswith("hf:") if isinstance(name, str) else isinstance(name, Mapping) and "model_type" in name


def speech_architecture(name: str | Mapping[str, Any]) -> dict[str, Any]:
    """The ``config.json`` of a speech model's folder, with ``do_normalize`` of its preprocessor (default: true).

    A mapping is such an architecture already. Keys with which transformers would fetch or run code are left out.
    Raises ValueError for a folder that transformers did not write.
    """
    if not isinstance(name, str):
        return _without_code(name)
    folder = Path(os.path.expanduser(name.removeprefix("hf:")))
    if not (folder / "config.json").is_file():
        raise ValueError(
            f"{folder}: holds no speech model (no config.json): save one there with save_pretrained, or clone one"
        )
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        beside = folder / "preprocessor_config.json"
        preprocessor = json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else {}
        return _without_code({**found, "do_normalize": bool(preprocessor.get("do_normalize", True))})
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder}: its configuration is not valid JSON ({error})") from error


def _without_code(architecture: Mapping[str, Any]) -> dict[str, Any]:
    """An architecture without what names code: classes of a folder, kernels of a hub, quantizers, private settings."""
    return {k: v for k, v in architecture.items() if not k.startswith("_") and k not in _NAMES_CODE}


def _speech_encoder(name: str | Mapping[str, Any], weights: StrPath | None) -> tuple[nn.Module, int]:
    what = name if isinstance(name, str) else f"speech model '{name['model_type']}'"
    architecture = speech_architecture(name)
    normalize = bool(architecture.pop("do_normalize", True))
    try:
        from transformers import CONFIG_MAPPING, AutoModel
    except ImportError as error:
        raise ValueError(f"{what} needs transformers, which is not installed: pip install 'emozoo[speech]'") from error
    if architecture.get("model_type") not in CONFIG_MAPPING:
        raise ValueError(f"{what}: transformers knows no model of type '{architecture.get('model_type')}'")
    missing: set[str] = set()
    try:
        config = CONFIG_MAPPING[architecture["model_type"]].from_dict(architecture)
        # The data module augments; the model's own augmentation needs long windows, and layer drop stalls DDP.
        config.apply_spec_augment, config.layerdrop = False, 0.0
        if not hasattr(config, "conv_stride"):
            raise ValueError("it does not take samples; use wav2vec2, hubert, wavlm or another of their kind")
        net: Any
        # On the meta device only shapes matter: the file stays closed.
        if isinstance(name, str) and weights is None and torch.get_default_device().type != "meta":
            net, report = AutoModel.from_pretrained(
                Path(os.path.expanduser(name.removeprefix("hf:"))),
                config=config,
                local_files_only=True,
                trust_remote_code=False,
                dtype=torch.float32,
                output_loading_info=True,
            )
            missing = set(report["missing_keys"]) - {"masked_spec_embed"}  # belongs to the augmentation above
        else:
            net = AutoModel.from_config(config, dtype=torch.float32, trust_remote_code=False)
    except (ImportError, OSError, RuntimeError, TypeError, ValueError) as error:
        cause: BaseException = error
        while cause.__cause__ is not None:  # a torchaudio that does not fit torch, for one, is not in the outer message
            cause = cause.__cause__
        words = " ".join(str(cause).split())[:200] or type(cause).__name__
        raise ValueError(f"{what}: transformers cannot build it ({words})") from error
    if missing:
        raise ValueError(f"{what}: its weights lack {len(missing)} parameters, {min(missing)} among them")
    if weights is not None:
        load_encoder(net, weights)
    adapted = getattr(config, "add_adapter", False)
    return Speech(net, normalize), int(config.output_hidden_size if adapted else config.hidden_size)


def audio_encoder(name: str | Mapping[str, Any], weights: StrPath | None = None) -> tuple[nn.Module, int]:
    """An encoder of windows of audio.

    ``name``: an image encoder, for log-mel (N, 1, M, S); or for waveforms (N, 1, 1, S)

    * ``speech_tiny``: convolutions and first three blocks of Whisper-tiny (5.9 million parameters, D = 384, 16 kHz),
      ``@k`` behind it for k of its four blocks; ``speech_tiny_layers``: mean and deviation over time of each of its
      layers instead of the last one's map (D = 768 a layer). Trained weights come with the package (``speech_tiny.v2``,
      as ``init_from`` of training);
    * ``hf:FOLDER``: a speech model as ``save_pretrained`` of transformers wrote it (wav2vec2, hubert, wavlm and others
      that take samples), or the mapping that :func:`portable` makes of that, which holds no weights. ``weights``
      replace those of the folder.

    Raises ValueError for an unknown name, unusable weights, and where transformers is missing or broken.
    """
    if isinstance(name, str) and name.startswith("speech_tiny"):
        net, width = _speech_tiny(name)
        if weights is not None:
            load_encoder(net, weights)
        return net, width
    if isinstance(name, str) and not is_speech_encoder(name):
        return image_encoder(name, in_chans=1, weights=weights)
    return _speech_encoder(name, weights)


def _speech_tiny(name: str) -> tuple[WhisperEncoder, int]:
    found = re.fullmatch(r"speech_tiny(_layers)?(?:@([1-4]))?", name)
    if found is None:
        raise ValueError(
            f"no audio encoder '{name}': use speech_tiny or speech_tiny_layers, @1 to @4 behind for blocks"
        )
    net = WhisperEncoder(blocks=int(found[2] or 3), statistics=bool(found[1]))
    return net, net.width * 2 * net.stacked if net.statistics else net.width


def check_audio(encoder: nn.Module, x: Tensor) -> None:
    """Raises ValueError where samples (..., 1, S) meet an encoder of log-mel images (..., M, S), or the reverse."""
    takes_samples = isinstance(encoder, (Speech, WhisperEncoder))
    if takes_samples and x.shape[-2] != 1:
        raise ValueError("a speech encoder takes samples, its stream is log-mel: set its audio kind to 'waveform'")
    if not takes_samples and x.shape[-2] == 1:
        raise ValueError(
            "this audio encoder takes log-mel images, its stream is a waveform: use speech_tiny or 'hf:FOLDER' for one"
        )


def portable(options: Mapping[str, Any]) -> dict[str, Any]:
    """A network's options without names of the user's files, for the config beside weights.

    Files of encoder weights are left out, since the weights hold all parameters; the folder of a speech model becomes
    its architecture.
    """
    stored: dict[str, Any] = {}
    for key, value in options.items():
        if is_speech_encoder(value):
            stored[key] = speech_architecture(value)
        elif not key.endswith("_weights"):
            stored[key] = portable(value) if isinstance(value, Mapping) else value
    return stored


def load_encoder(encoder: nn.Module, path: StrPath) -> None:
    """Loads a user's state dict into an encoder, in place.

    ``module.`` (DataParallel) before names is dropped, as are a classifier's own parameters; a wrapper with the key
    ``state_dict`` or ``model_state_dict`` is opened. Raises ValueError where the file cannot be read without running
    code from it, or does not fit.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such weights file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each format has its own zoo of errors
        raise ValueError(f"{path}: not a plain state dict or safetensors file ({type(error).__name__})") from error
    for key in ("state_dict", "model_state_dict"):
        state = state.get(key, state) if isinstance(state, dict) else state
    if not isinstance(state, dict):
        raise ValueError(f"{path}: holds a {type(state).__name__}, not a state dict")
    state = {str(k).removeprefix("module."): v for k, v in state.items()}
    state = {k: v for k, v in state.items() if not k.startswith(_HEADS)}
    if isinstance(encoder, _TimmMaps | MobileMaps) and not any(k.startswith("net.") for k in state):
        # A file of the whole network: what lies behind the map that the encoder ends on is left out.
        own = encoder.state_dict()
        state = {f"net.{k}": v for k, v in state.items() if f"net.{k}" in own}
    try:
        encoder.load_state_dict(state)
    except (RuntimeError, TypeError) as error:
        first = str(error).strip().splitlines()[1:2] or [str(error)]
        raise ValueError(f"{path}: does not fit this encoder ({first[0].strip()[:160]})") from error
