"""Elements, and texts that no registry can break out of."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from pubtools_mlmerge.reports.html import Markup, element, escaped, joined


def test_an_element_has_its_attributes_and_content() -> None:
    made = element("a", "one ", element("b", "two"), href="#x", aria_label="y", class_="z")

    assert made.text == '<a href="#x" aria-label="y" class="z">one <b>two</b></a>'


def test_what_is_none_is_left_out() -> None:
    assert element("p", None, "text", None, title=None).text == "<p>text</p>"
    assert joined([None, "a", None, element("b")]).text == "a<b></b>"


def test_an_element_that_is_always_empty_closes_itself() -> None:
    assert element("meta", charset="utf-8").text == '<meta charset="utf-8"/>'


def test_numbers_may_be_attributes() -> None:
    assert element("rect", rx=6, x=0.5).text == '<rect rx="6" x="0.5"></rect>'


def test_markup_is_taken_as_it_is() -> None:
    assert element("p", Markup("<br/>")).text == "<p><br/></p>"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("a & b", "a &amp; b"),
        ("&amp;", "&amp;amp;"),
        ("\" onload='x'", "&quot; onload=&#x27;x&#x27;"),
        ("\u00fc\U0001f600", "&#252;&#128512;"),
        ("a\nb", "a\nb"),
        ("", ""),
    ],
)
def test_text_is_escaped(text: str, expected: str) -> None:
    assert escaped(text) == expected


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\u202eabc", r"\u202eabc"),  # turns the direction of writing
        ("\u2066a\u2069", r"\u2066a\u2069"),
        ("a\u200fb", r"a\u200fb"),
        ("\x00\x1b[31m", r"\x00\x1b[31m"),
        ("a\tb\rc", r"a\tb\rc"),
        ("\ud800", r"\ud800"),  # half a character, as JSON may have it
        ("\ufeff", r"\ufeff"),
    ],
)
def test_what_has_no_shape_is_shown(text: str, shown: str) -> None:
    assert escaped(text) == shown


@pytest.mark.parametrize("text", ["</p><p>", '"><x y="', "]]>", "<!--", "\x0b\ufffe\ud83d&lt;"])
def test_no_text_breaks_out(text: str) -> None:
    tree = ET.fromstring(element("p", text, title=text).text)  # noqa: S314 - our own markup

    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    assert (tree.text, tree.get("title"), len(tree)) == (shown, shown, 0)
