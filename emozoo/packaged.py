"""The old place of :func:`emozoo.files.packaged`, for one version."""

from emozoo.moved import names_of

__getattr__ = names_of(__name__)
