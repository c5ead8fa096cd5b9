"""The pages of the documentation, and the blocks of code in them."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
MARKDOWN = tuple(
    ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
)
PAGES = tuple(sorted(DOCS.glob("*.rst")))

_FENCED = re.compile(r"^```(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_DIRECTIVE = re.compile(
    r"^(?P<indent> *)\.\. code-block:: (?P<language>\S+)\n"
    r"(?P<options>(?:(?P=indent)   :[^\n]+\n)*)\n"
    r"(?P<code>(?:(?P=indent)   [^\n]*\n|\n)+)",
    re.MULTILINE,
)


@frozen
class Block:
    """A block of code.

    Attributes:
        page (Path): Where it stands.
        language (str): What it is written in.
        kind (str): Its class, which says what a test does with it; empty for the usual thing.
        code (str): The code, without the indentation of the page.
    """

    page: Path
    language: str
    kind: str
    code: str

    @property
    def sessions(self) -> list[tuple[str, str]]:
        """The commands after a prompt, each with the output that follows it."""
        pieces = re.split(r"^\$ ", self.code, flags=re.MULTILINE)[1:]
        found = re.compile(r"((?:[^\n]*\\\n)*[^\n]*)\n?(.*)", re.DOTALL)
        matches = (found.fullmatch(piece) for piece in pieces)
        return [(match[1], match[2]) for match in matches if match]


def blocks(page: Path) -> Iterator[Block]:
    """Yield the blocks of a page, in Markdown or in reStructuredText."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".md":
        for language, code in _FENCED.findall(text):
            yield Block(page, language, "", code)
    for match in _DIRECTIVE.finditer(text if page.suffix == ".rst" else ""):
        kind = re.search(r":class: (\S+)", match["options"])
        code = textwrap.dedent(match["code"]).strip() + "\n"
        yield Block(page, match["language"], kind[1] if kind else "", code)


def every_block() -> list[Block]:
    """List the blocks of all pages."""
    return [block for page in (*MARKDOWN, *PAGES) if page.exists() for block in blocks(page)]


def relative(page: Path) -> str:
    """Name a page as in the repository."""
    return page.relative_to(ROOT).as_posix()
