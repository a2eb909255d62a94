"""Sphinx configuration; ``./run docs`` builds with warnings as errors."""

import re
from importlib.metadata import version as installed_version

project = "sparselm"
author = "The sparselm developers"
copyright = "The sparselm developers, BSD 3-clause licence"
version = release = installed_version("sparselm")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"sparselm {version}"
html_theme_options = {"source_repository": "", "navigation_with_keys": True}

myst_enable_extensions = ["dollarmath", "deflist", "colon_fence"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_class_signature = "mixed"
napoleon_numpy_docstring = True
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_param = True
# A name listed under "References" is text, not a link target.
napoleon_custom_sections = ["References"]

_LITERAL = re.compile(r"(``.*?``|`[^`]*`)")


def _protect_bars(app, what, name, obj, options, lines):
    """In docstrings |x| is an absolute value, not a substitution of reStructuredText."""
    for number, line in enumerate(lines):
        parts = _LITERAL.split(line)
        lines[number] = "".join(part if part.startswith("`") else part.replace("|", r"\|") for part in parts)


def setup(app):
    """Register what the extensions lack."""
    app.connect("autodoc-process-docstring", _protect_bars)
