"""Markup: elements of pages and drawings, with every text escaped.

What comes out is HTML and well-formed XML at once, in ASCII.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Union

from attrs import frozen

_EMPTY = frozenset({"meta", "br"})  # of those that we use, the elements without content
_LINES = "\n"


@frozen
class Markup:
    """What is written as it is.

    Attributes:
        text (str):
            Elements, and text that is escaped already.
    """

    text: str

    def __str__(self) -> str:
        """Give the text."""
        return self.text


Content = Union[str, Markup, None]


def element(name: str, /, *content: Content, **attributes: str | float | None) -> Markup:
    """Write an element.

    Args:
        name (str):
            Its name.
        *content (str | Markup | None):
            What is in it; text is escaped, and none is nothing.
        **attributes (str | float | None):
            Its attributes. An underscore stands for a hyphen, one at the end for nothing. One that
            is none is left out.

    Returns:
        Markup: The element.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escaped(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _EMPTY:
        return Markup(f"<{name}{written}/>")
    return Markup(f"<{name}{written}>{joined(content)}</{name}>")


def joined(content: Iterable[Content]) -> Markup:
    """Write one thing after the other.

    Args:
        content (Iterable[str | Markup | None]):
            Elements, texts to escape, and nothing.

    Returns:
        Markup: All of it.
    """
    return Markup(
        "".join(
            part.text if isinstance(part, Markup) else escaped(part)
            for part in content
            if part is not None
        )
    )


def escaped(text: str) -> str:
    r"""Escape a text, and show what has no shape or moves other text around.

    Args:
        text (str):
            Whatever a registry wrote.

    Returns:
        str: The text in ASCII, with ``\u202e`` for a mark that turns the direction of writing.
    """
    if not (text.isascii() and text.isprintable()):
        text = "".join(c if c.isprintable() or c in _LINES else _shown(c) for c in text)
    return html.escape(text).encode("ascii", "xmlcharrefreplace").decode("ascii")


def _shown(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
