"""The old name of :mod:`emozoo.synthemo`, for one version."""

import importlib
import sys
import warnings

warnings.warn("emozoo.data.synthetic is emozoo.synthemo now", DeprecationWarning, stacklevel=2)
sys.modules[__name__] = importlib.import_module("emozoo.synthemo")
