"""The frame of each page, and its style."""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import datetime, timedelta, timezone

import pytest

from pubtools_mlmerge.reports.html import PageInfo, document, heading, style_of
from tests.paper import NOW, read_as_html, text_of, tree_of

VARIABLE = re.compile(r"--([\w-]+): (#[0-9a-f]{6})")
# What is written on what.
PAIRS = [
    *((text, ground) for text in ("text", "muted") for ground in ("page", "surface", "raised")),
    *(("link", ground) for ground in ("page", "surface", "old-ground")),
    *((fate, "raised") for fate in ("added", "replaced", "same", "kept", "dropped", "excluded")),
    *((fate, "surface") for fate in ("added", "replaced", "same", "kept", "dropped", "excluded")),
    *((tone, "page") for tone in ("added", "replaced", "muted", "dropped")),
    *(("old", "old-ground"), ("text", "old-ground"), ("muted", "old-ground")),
    *(("text", "failed-ground"), ("dropped", "failed-ground"), ("kept", "old-ground")),
]


def palettes() -> list[dict[str, str]]:
    """Read the colours by day and by night."""
    light, _, rest = style_of().partition("@media (prefers-color-scheme: dark)")
    return [dict(VARIABLE.findall(part.partition("}")[0])) for part in (light, rest)]


def luminance(colour: str) -> float:
    """Compute it as WCAG 2 does ("relative luminance")."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("palette", palettes(), ids=["light", "dark"])
@pytest.mark.parametrize(("text", "ground"), PAIRS, ids=str)
def test_text_can_be_read_on_its_ground(palette: dict[str, str], text: str, ground: str) -> None:
    lights = sorted((luminance(palette[text]), luminance(palette[ground])))

    assert (lights[1] + 0.05) / (lights[0] + 0.05) >= 4.5


def test_both_palettes_have_the_same_colours() -> None:
    light, dark = palettes()

    assert light.keys() == dark.keys()


def test_a_page_allows_nothing_but_its_own_style() -> None:
    page = tree_of(document("Title", PageInfo(NOW), "text"))

    policy = page.find("head/meta[@http-equiv='Content-Security-Policy']")
    assert policy is not None
    style = page.findtext("head/style", "")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.get("content") == (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def test_the_style_loads_nothing() -> None:
    style = style_of()

    assert not re.search(r"url\(|@import|@font-face|<|&", style)
    assert style.isascii()


def test_a_page_names_its_language_and_its_title() -> None:
    page = tree_of(document("A <title>", PageInfo(NOW)))

    assert (page.get("lang"), page.findtext("head/title")) == ("en", "A <title>")
    assert page.find("head/meta[@name='viewport']") is not None


def test_a_page_is_the_same_as_html_and_as_xml() -> None:
    page = document("Title", PageInfo(NOW), heading("Kind", "a <b> & \u00fc", "x"))

    tags, text = read_as_html(page)

    assert page.isascii()
    assert tags == [element.tag for element in tree_of(page).iter()]
    assert text.endswith(text_of(page))


def test_the_time_is_in_utc() -> None:
    east = timezone(timedelta(hours=2))
    page = document("Title", PageInfo(datetime(2026, 1, 1, 1, 30, tzinfo=east)))

    assert "Made by pubtools-mlmerge on 2025-12-31 23:30:00 UTC" in text_of(page)


@pytest.mark.parametrize("complete", [True, False])
def test_an_interruption_is_said(complete: bool) -> None:
    page = document("Title", PageInfo(NOW, complete))

    assert ("It was interrupted." in text_of(page)) is not complete
