"""SynthEmo: drawn people in drawn scenes with a synthesised voice, and a known cause for every label.

>>> from emozoo.synthemo import Knobs, generate
>>> generate("synth", 70, seed=1, knobs=Knobs(burst=0.3))  # doctest: +SKIP
PosixPath('synth/manifest.csv')
"""

from emozoo.data.protocols import SYNTHEMO_VERSION as VERSION
from emozoo.synthemo.cause import EMOTIONS, VIEWS, Cause, Course, Knobs, course, plan, split_of
from emozoo.synthemo.clip import Rendered, generate, render, write_clip
from emozoo.synthemo.compose import Mix, compose

__all__ = [
    "EMOTIONS",
    "VERSION",
    "VIEWS",
    "Cause",
    "Course",
    "Knobs",
    "Mix",
    "Rendered",
    "compose",
    "course",
    "generate",
    "plan",
    "render",
    "split_of",
    "write_clip",
]
