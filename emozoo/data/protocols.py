"""Protocols by name: which items are trained on and tested, who made the split, how many there should be.

Pure data; the adapters of :mod:`emozoo.data.datasets` make the splits. A result prints name and version. A split that
others can only remake, not look up, says ``regenerated`` in its name; one from a list that exists in several versions
says which, by eight digits of the list's hash: ``ekman6_list_01@1a2b3c4d``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from emozoo.data.manifest import Manifest
from emozoo.labels import CAER7, EKMAN6

# Of what SynthEmo draws: grows whenever the same seed gives other pixels or audio; weights and results name it.
SYNTHEMO_VERSION = 2


@dataclass(frozen=True)
class Protocol:
    """One way to split a data set.

    ``about``: who made it, and how. ``counts``: items that there should be, by ``all``, by split (``train``), by fold
    (``fold 1``), or by class of one (``test/Anger``); what was not published is absent.
    """

    about: str
    counts: Mapping[str, int] = field(default_factory=dict)
    version: int = 1


def _each(part: str, classes: Sequence[str], numbers: Sequence[int]) -> dict[str, int]:
    return {part: sum(numbers), **{f"{part}/{c}": n for c, n in zip(classes, numbers, strict=True)}}


_SEVEN = ("Happy", "Sad", "Neutral", "Angry", "Surprise", "Disgust", "Fear")
_SIX = ("Angry", "Disgust", "Fear", "Happy", "Sad", "Surprise")
_VE8 = ("Anger", "Anticipation", "Disgust", "Fear", "Joy", "Sadness", "Surprise", "Trust")
_RAVDESS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
_AFEW = ("Happy", "Sad", "Neutral", "Angry", "Surprise", "Disgust", "Fear")
_CAERS = {"all": 69_982, "test": 20_987}
_CREMA = {"all": 7_442}

PROTOCOLS: dict[str, Protocol] = {
    "caers_val_from_train": Protocol(
        "one in eight of each class of train/ is held out for choosing, by a hash; test/ is touched once",
        _CAERS,
    ),
    "caers_full_test": Protocol("train/ and the whole of test/, no validation", {**_CAERS, "train": 48_995}),
    "nd_val_test": Protocol(
        "three lists of images with a face; validation and test both lie in test/",
        {"train": 48_850, "val": 6_971, "test": 13_942},
    ),
    "caer_official": Protocol(
        "the folders train, validation, test",
        _each("all", CAER7, (1628, 719, 514, 2726, 4579, 1473, 1562)),
    ),
    "ncaers_official": Protocol(
        "the folders train, val, test, which follow CAER's split of videos",
        _each("train", CAER7, (2272, 3004, 2902, 1905, 3202, 3084, 2186)),
    ),
    "ekman6_list_01": Protocol(
        "a public list of halves; whether it is the authors' own is not proven",
        _each("train", EKMAN6, (113, 119, 144, 152, 111, 180)) | _each("test", EKMAN6, (112, 120, 143, 153, 110, 180)),
    ),
    "ekman6_json_01": Protocol("the same in JSON, whose bare names collide", {"all": 1_637}),
    "ekman6_regenerated_01": Protocol(
        "stratified halves, drawn by a seed",
        _each("all", EKMAN6, (225, 239, 287, 305, 221, 360)),
    ),
    **{
        f"videoemotion8_split_{k:02d}": Protocol(
            f"split {k} of the authors' ten; report mean and deviation over all ten", {"all": 1_101}
        )
        for k in range(1, 11)
    },
    "videoemotion8_list_01": Protocol(
        "a public list of split 1, two videos short",
        _each("train", _VE8, (74, 64, 76, 113, 114, 64, 166, 61))
        | _each("test", _VE8, (27, 36, 39, 54, 66, 36, 70, 39)),
    ),
    **{f"videoemotion8_list_{k:02d}": Protocol("a user's list", {"all": 1_101}) for k in range(2, 11)},
    **{
        f"videoemotion8_json_{k:02d}": Protocol("a user's list in JSON, whose bare names collide") for k in range(1, 11)
    },
    **{
        f"videoemotion8_regenerated_{k:02d}": Protocol(
            "stratified, two thirds and one third, drawn by a seed", {"all": 1_101}
        )
        for k in range(1, 11)
    },
    "abaw3_va": Protocol("training and validation sets of the third ABAW challenge", {"train": 341, "val": 71}),
    "abaw5_va": Protocol("the same of the fifth", {"train": 356, "val": 76}),
    "abaw6_va": Protocol("the same of the sixth", {"train": 356, "val": 76}),
    "abaw_va_test": Protocol("the videos to submit, without labels"),
    "afew8_folders": Protocol(
        "training and validation folders; the test labels are private", {"train": 773, "val": 383}
    ),
    "afew8_aligned": Protocol("every clip, the faces that the organisers cut out"),
    "afew_list_aligned": Protocol("the clips of a list, the faces that the organisers cut out"),
    "afew_list": Protocol(
        "a list of clips; those in use differ by one or two, and hold 381 or 383 of validation",
        {"train": 773},
    ),
    "dfew_5fold": Protocol(
        "five official folds of clips with one label and a face; report the mean over folds",
        _each("all", _SEVEN, (2445, 1894, 2669, 2173, 1469, 145, 902))
        | {"fold 1": 2341, "fold 2": 2341, "fold 3": 2340, "fold 4": 2339, "fold 5": 2336},
    ),
    "ferv39k_all_scenes": Protocol(
        "the official setup All_scenes",
        _each("train", _SEVEN, (5854, 5523, 7790, 5906, 2502, 1833, 1680))
        | _each("test", _SEVEN, (1473, 1393, 1958, 1487, 638, 467, 431)),
    ),
    "mafw_5fold": Protocol(
        "five official folds of clips with one label; report the mean over folds",
        {"all": 9172, "fold 1": 1839, "fold 2": 1837, "fold 3": 1833, "fold 4": 1832, "fold 5": 1831},
    ),
    "mmi_regenerated_10fold": Protocol("ten folds by person, drawn by a seed", {"all": 205}),
    "bu4dfe_regenerated_10fold": Protocol("ten folds by person, drawn by a seed", _each("all", _SIX, (101,) * 6)),
    "ravdess_speech_6fold": Protocol(
        "speech; fold k tests the actors 4k+1 to 4k+4",
        _each("all", _RAVDESS, (96, *(192,) * 7)) | {f"fold {k}": 240 for k in range(6)},
    ),
    "ravdess_song_6fold": Protocol("song; fold k tests the actors 4k+1 to 4k+4"),
    "crema_d_intended_5fold": Protocol(
        "the emotion that the actor was told to show; fold k tests the actors with (number - 1001) % 5 = k", _CREMA
    ),
    **{
        f"crema_d_{view}_5fold": Protocol(
            f"the plurality of votes on {what}, not scored at a tie; the same folds", _CREMA
        )
        for view, what in (("voice", "the audio"), ("face", "the image"), ("multimodal", "both"))
    },
    "ferplus8": Protocol("plurality among eight emotions; Training, PublicTest, PrivateTest"),
    "ferplus7": Protocol("the same without contempt"),
    "fer2013": Protocol(
        "the one label of each image; Training, PublicTest, PrivateTest",
        {"train": 28709, "val": 3589, "test": 3589},
    ),
}

# What may follow the name of a data set after a colon; without one, the first.
CHOICES: dict[str, tuple[str, ...]] = {
    "caer_s": ("caers_val_from_train", "caers_full_test", "nd_val_test"),
    "videoemotion8": tuple(f"split_{k:02d}" for k in range(1, 11)),
    "aff_wild2": ("va", "test"),
    "afew": ("videos", "aligned"),
    "ravdess": ("speech", "song"),
    "crema_d": ("intended", "voice", "face", "multimodal"),
}


def protocol(name: str) -> Protocol | None:
    """The protocol of a manifest or record, whichever list it was made from; None for a user's own data."""
    return PROTOCOLS.get(name.partition("@")[0])


def differences(manifest: Manifest) -> list[tuple[str, int, int]]:
    """Part, items that the protocol counts, items that are there, for every part in which the two differ."""
    known = protocol(manifest.protocol)
    found: Counter[str] = Counter()
    for r in manifest.rows:
        for part in {"all", str(r.split), f"fold {r.fold}"}:
            found[part] += 1
            found[f"{part}/{r.label}"] += 1
    return [(part, n, found[part]) for part, n in (known.counts if known else {}).items() if found[part] != n]
