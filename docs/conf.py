"""How Sphinx builds the documentation."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version as installed_version
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

sys.path.insert(0, str(Path(__file__).parent))

from options import write_command
from packages import draw, read_imports

project = "pubtools-mlmerge"
author = "The pubtools-mlmerge authors"
copyright = "the pubtools-mlmerge authors"
release = installed_version(project)
version = release

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build"]
html_theme = "furo"  # has a dark mode
html_title = f"{project} {release}"
html_static_path = ["_static"]
html_css_files = ["width.css"]
html_theme_options = {
    "source_repository": "https://github.com/release-engineering/pubtools-mlmerge/",
    "source_branch": "main",
    "source_directory": "docs/",
}

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_numpy_docstring = False

# Other projects are linked where the pages are published. Other builds need no network.
if os.environ.get("READTHEDOCS"):
    intersphinx_mapping = {
        "attrs": ("https://www.attrs.org/en/stable/", None),
        "pluggy": ("https://pluggy.readthedocs.io/en/stable/", None),
        "python": ("https://docs.python.org/3/", None),
        "requests": ("https://requests.readthedocs.io/en/stable/", None),
    }
# Every reference within these pages has to lead somewhere.
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(collections|contextlib|pathlib|requests|ssl)\..*"),
    (r"py:.*", r"(datetime\.)?datetime"),
]
# Names of types that stand for others; Sphinx knows where to find classes only.
nitpick_ignore = [
    ("py:class", "pubtools_mlmerge.core.plan.ResultT_co"),  # Index or Image
    ("py:class", "Child"),  # the test registry's Image or ImageIndex
    ("py:class", "AuthMode"),  # its literals stand in the signature
    # Not for users: what the merges, or the clients, of one run share.
    ("py:class", "TagMerger"),
    ("py:class", "pubtools_mlmerge.merging.api.TagMerger"),
    ("py:class", "pubtools_mlmerge.registry.http.Stream"),
    ("py:class", "Dialect"),  # not for users: the tests of this package have one for Quay
    ("py:class", "pubtools_mlmerge.testing.registry.Dialect"),
]
# There are two classes Image, one of them for tests. Docstrings name classes without their modules;
# Sphinx takes the one in the module at hand, else the first in the reference, and would say so.
suppress_warnings = ["ref.python"]

# Defaults whose representation is no Python: a function of this machine, an attrs factory.
DEFAULTS = {"<built-in function time>": "time.time", "NOTHING": "..."}


def write_defaults(*event: object) -> tuple[str | None, str | None]:
    """Write the defaults in a signature so that they can be read, by people and by Sphinx."""
    signature, returned = (None if part is None else str(part) for part in event[-2:])
    for value, text in DEFAULTS.items():
        signature = signature and signature.replace(f"= {value}", f"= {text}")
    return signature, returned


class Packages(SphinxDirective):
    """Shows in HTML which package imports which."""

    def run(self) -> list[nodes.Node]:
        """Draw what is imported now."""
        return [nodes.raw("", draw(read_imports()), format="html")]


class Command(SphinxDirective):
    """Describes a command, as its parser does."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Read the parser."""
        return self.parse_text_to_nodes("\n".join(write_command(self.arguments[0])))


def setup(app: Sphinx) -> None:
    """Register what this file adds."""
    app.connect("autodoc-process-signature", write_defaults)
    app.add_directive("packages", Packages)
    app.add_directive("command", Command)
