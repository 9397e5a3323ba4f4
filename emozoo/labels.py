"""Vocabularies: class names in order, synonyms, and named, versioned label maps. Pure data; imports no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from emozoo import files
from emozoo.errors import UsageError
from emozoo.moved import names_of

# The seven basic emotions, alphabetical: the order of every embedded seven-class checkpoint.
BASIC7 = ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
LFW5 = ("anger", "happiness", "neutral", "sadness", "surprise")
EKMAN6 = ("anger", "disgust", "fear", "joy", "sadness", "surprise")
CAER7 = ("Anger", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise")
FERPLUS8 = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")

# Spellings of one emotion that data sets use; nothing outside this table is ever taken for the same class.
SYNONYMS = {
    "angry": "anger",
    "happy": "happiness",
    "joy": "happiness",
    "sad": "sadness",
    "fearful": "fear",
    "disgusted": "disgust",
    "surprised": "surprise",
}

# (angle in degrees, length) on Russell's (1980) circumplex of valence (0) and arousal (90), whose order is pleasure 0,
# excitement 45, arousal 90, distress 135, displeasure 180, depression 225, relaxation 315. The order follows him;
# angles and lengths are ours.
CIRCUMPLEX: dict[str, tuple[float, float]] = {
    "anger": (105.0, 0.85),
    "disgust": (150.0, 0.75),
    "fear": (122.0, 0.85),
    "happiness": (25.0, 0.90),
    "neutral": (0.0, 0.0),
    "sadness": (210.0, 0.80),
    "surprise": (70.0, 0.80),
    "calm": (315.0, 0.60),
}

# name -> {class in the data: class of the model}; a class that is not named is left out of the score.
LABEL_MAPS: dict[str, dict[str, str]] = {
    "basic7_v1": {
        **{c: c for c in BASIC7},
        **SYNONYMS,
    },
    # RAVDESS and CREMA-D have fewer or more classes than the seven: calm has no counterpart and is left out.
    "lfw5_v1": {**{c: c for c in LFW5}, **{k: v for k, v in SYNONYMS.items() if v in LFW5}},
}


def canonical(name: str) -> str:
    """The zoo's own spelling of a class name: lower case, synonyms resolved.

    >>> canonical("Happy"), canonical("contempt")
    ('happiness', 'contempt')
    """
    name = name.strip().lower()
    return SYNONYMS.get(name, name)


MOST_CLASSES, MOST_NAME = 1000, 200
# Columns of the tables of predictions, which have a column for each class, too.
COLUMNS = frozenset({
    "file", "model", "track", "start_s", "end_s", "label", "valence", "arousal", "x1", "y1", "x2", "y2", "faces",
    "duration_s", "warnings", "error", "tracks", "id", "fold", "group", "predicted", "time", "true_valence",
    "true_arousal",
})  # fmt: skip


def class_fault(names: Iterable[object]) -> str | None:
    """Why these cannot be the names of classes, of which weights, tables and pages are made; None where they can.

    >>> class_fault(["calm", "label"])
    "'label' is a column of the tables that have a column for each class"
    """
    seen: set[str] = set()
    for name in names:
        if not isinstance(name, str) or not name.strip():
            return f"{name!a} is no name"
        if len(name) > MOST_NAME:
            return f"{name[:40]!a}… has {len(name)} characters, more than {MOST_NAME}"
        if files.has_controls(name) or set(name) & set("\n\t"):
            return f"{name!a} is not one line of text"
        if name in seen:
            return f"{name!a} stands twice"
        seen.add(name)
    if len(seen) > MOST_CLASSES:
        return f"{len(seen)} are more than {MOST_CLASSES}"
    if taken := sorted(c for c in seen if c in COLUMNS or (c.startswith("time_") and c[5:] in seen)):
        return f"{taken[0]!a} is a column of the tables that have a column for each class"
    return None


def circumplex_point(name: str) -> tuple[float, float] | None:
    """Valence and arousal of a class, its point on Russell's circumplex; None for a class without one.

    >>> circumplex_point("Neutral"), circumplex_point("contempt")
    ((0.0, 0.0), None)
    """
    if canonical(name) not in CIRCUMPLEX:
        return None
    angle, length = CIRCUMPLEX[canonical(name)]
    return length * math.cos(math.radians(angle)), length * math.sin(math.radians(angle))


def same_classes(a: Sequence[str], b: Sequence[str]) -> bool:
    """Whether two vocabularies name the same emotions, whatever their order and spelling."""
    return sorted(map(canonical, a)) == sorted(map(canonical, b))


def class_mapping(data: Sequence[str], model: Sequence[str], label_map: str | None = None) -> dict[str, str]:
    """Which class of the model each class of the data stands for.

    Without ``label_map`` both must name the same emotions (spelling apart). With one, classes that it or the model
    does not know are left out. Raises UsageError that shows both vocabularies.
    """
    if label_map is None:
        if not same_classes(data, model):
            raise UsageError(
                f"the data has classes {', '.join(data)} and the model {', '.join(model)}: "
                f"name a --label-map ({', '.join(LABEL_MAPS)}) to score the classes that both know"
            )
        by_name = {canonical(m): m for m in model}
        return {d: by_name[canonical(d)] for d in data}
    if label_map not in LABEL_MAPS:
        raise UsageError(f"no label map '{label_map}'; there are {', '.join(LABEL_MAPS)}")
    by_name = {canonical(m): m for m in model}
    table = {k.lower(): v for k, v in LABEL_MAPS[label_map].items()}
    return {d: by_name[table[d.lower()]] for d in data if table.get(d.lower()) in by_name}


__getattr__ = names_of(__name__)
