"""Echoes: no way to write a secret hides it, and no text takes long."""

from __future__ import annotations

import json
from collections.abc import Callable
from html import escape
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pubtools_mlmerge.registry.refusals import blank, blank_headers
from tests.growth import growth

SECRET = 'p"a\\s/s <w&rd> 100% \U0001f511'
FORMS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in JSON": lambda text: json.dumps(text)[1:-1],
    "in JSON, unescaped": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "in HTML": escape,
    "in HTML by numbers": lambda text: "".join(f"&#{ord(c)};" for c in text),
    "in a URL": quote,
    "in a form": lambda text: quote(text, safe=""),
}
PRINTABLE = st.text(min_size=1).filter(str.isprintable)


@pytest.mark.parametrize("form", FORMS.values(), ids=list(FORMS))
def test_a_secret_is_taken_out_and_the_rest_is_left_as_it_is(form: Callable[[str], str]) -> None:
    text = f'{{"a": "\\n&lt;%41 {form(SECRET)}!"}}'

    assert blank(text, ["", SECRET]) == '{"a": "\\n&lt;%41 ***!"}'


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(json.dumps({"a": SECRET})),
        json.dumps(escape(SECRET)),
        quote(json.dumps(SECRET)),
        escape(escape(SECRET)),
    ],
)
def test_of_what_is_coded_twice_nothing_is_shown(text: str) -> None:
    assert blank(f"no: {text}", [SECRET]) == "***"


def test_the_longest_secret_comes_first() -> None:
    assert blank("abcdef \\u0061bcdef", ["abc", "def", "abcdef"]) == "*** ***"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Authorization: Bearer 0123456789abcdef.x-y, sorry", "Authorization: Bearer ***, sorry"),
        ("basic+QWxhZGRpbjpvcGVuIHNlc2FtZQ==!", "basic ***!"),
        ("basic authentication is required", "basic authentication is required"),
    ],
)
def test_a_login_is_known_by_its_form(text: str, expected: str) -> None:
    assert blank_headers(text) == expected


@given(PRINTABLE, st.sampled_from(list(FORMS)))
def test_nothing_of_a_secret_is_left(secret: str, form: str) -> None:
    assert blank(FORMS[form](secret), [secret]) == "***"


@given(st.text(), st.lists(PRINTABLE, max_size=2))
def test_what_holds_no_secret_stays(text: str, secrets: list[str]) -> None:
    if set(text).isdisjoint("\\&%") and not any(secret in text for secret in secrets):
        assert blank(text, secrets) == text


@pytest.mark.parametrize("piece", ["a", "\\", "\\u0061", "&#97;", "%61", "&", "%", "\\u00"])
def test_no_text_takes_longer_than_its_length(piece: str) -> None:
    def work(size: int) -> None:
        text, half = piece * (size // len(piece)), size // 2
        blank(text, [text[:-1] + "b", "a" * half + "b", "\\" * half + "b"])

    assert growth(work, 15_000) < 9
