"""How Sphinx builds the site. It needs no network, neither here nor in the reader's browser: formulas are MathML."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_ext")]

import gencli  # noqa: E402  # of this tree, whatever is installed

project = "gencli"
author = "the gencli authors"
project_copyright = author
release = version = gencli.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "docstrings",
    "mathml",
    "options",
    "repository",
]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "_ext"]
highlight_language = "text"

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
autodoc_inherit_docstrings = False
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"gencli {version}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_sourcelink = False
