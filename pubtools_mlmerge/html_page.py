"""HTML pages: the frame of each page.

A page is one file that loads nothing and runs nothing. Its policy (CSP) allows its own style alone.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from datetime import timezone
from importlib.resources import files

from pubtools_mlmerge.html_parts import note
from pubtools_mlmerge.markup import Content, Markup, element
from pubtools_mlmerge.page_file import Making

PROGRAM = "pubtools-mlmerge"
_STYLES = ("drawing.css", "page.css")


def style_of(names: Iterable[str] = _STYLES) -> str:
    """Read style sheets of the package.

    Args:
        names (Iterable[str]):
            Their files.

    Returns:
        str: All of them.
    """
    found = (files("pubtools_mlmerge").joinpath(name) for name in names)
    return "\n" + "".join(file.read_text(encoding="ascii") for file in found)


def document(title: str, making: Making, *body: Content) -> str:
    """Write a page.

    Args:
        title (str):
            Its title.
        making (Making):
            How it came to be.
        *body (str | Markup | None):
            What is on it.

    Returns:
        str: The page, in ASCII.
    """
    style = style_of()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    time = making.time.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", Markup(style)),
    )
    interrupted = note("It was interrupted. What was not finished then is not on this page.", "bad")
    main = element("main", None if making.complete else interrupted, *body)
    foot = element("footer", element("p", f"Made by {PROGRAM} on {time}"))
    page = element("html", head, element("body", main, foot), lang="en")
    return f"<!DOCTYPE html>\n{page}\n"


def heading(kicker: str, title: str, *marks: Content) -> Markup:
    """Write the head of a page.

    Args:
        kicker (str):
            What kind of page it is.
        title (str):
            What it is about.
        *marks (str | Markup | None):
            What stands below that.

    Returns:
        Markup: The head.
    """
    return element(
        "header",
        element("p", kicker, class_="kicker"),
        element("h1", element("bdi", title)),
        element("div", *marks, class_="marks"),
    )
