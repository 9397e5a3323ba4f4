"""Sphinx settings: Markdown pages and docstrings to HTML (`make docs`)."""

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

project = "emozoo"
author = "The emozoo authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_theme = "furo"
autodoc_member_order = "bysource"
