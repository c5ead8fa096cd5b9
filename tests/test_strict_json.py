"""Strict JSON: a document, or an error that names the place."""

from __future__ import annotations

import hashlib
import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pubtools_mlmerge.core.strict_json import DEEPEST, LARGEST, decode, encode
from pubtools_mlmerge.errors import InvalidIndex
from tests.laws.strategies import JSON


def refusal(content: bytes) -> InvalidIndex:
    """Decode what must be refused and give the error."""
    with pytest.raises(InvalidIndex) as caught:
        decode(content)
    return caught.value


def nested(levels: int, opening: str = "[", closing: str = "]") -> bytes:
    """Make a document of so many levels, its own included."""
    inner = opening * (levels - 1) + ("0" if opening.endswith(":") else "") + closing * (levels - 1)
    return f'{{"a": {inner}}}'.encode()


def test_a_document_is_decoded() -> None:
    content = b'{"a": [1, -2, 3.5, true, null, "\\u00e9 \xc3\xa9"], "b": {}}'

    assert decode(content) == {"a": [1, -2, 3.5, True, None, "é é"], "b": {}}


@pytest.mark.parametrize("content", [b"[]", b"1", b'"text"', b"null", b"true", b"[{}]"])
def test_a_document_is_an_object(content: bytes) -> None:
    assert str(refusal(content)) == "document: expected an object"


@pytest.mark.parametrize(
    ("content", "position"),
    [
        (b"\xff", 0),
        ('{"a": 1}'.encode("utf-16"), 0),
        (b'{"a": "\xe9"}', 7),
        (b'{"\xed\xa0\x80": 1}', 2),
    ],
)
def test_other_encodings_than_utf8_are_refused(content: bytes, position: int) -> None:
    assert str(refusal(content)) == f"document: is not UTF-8 at byte {position}"


BROKEN = (b"", b" ", b"{", b'{"a": 1', b'{"a": 1,}', b"{'a': 1}", b'{"a": 01}', b'{"a": 1} x')


@pytest.mark.parametrize("content", [*BROKEN, b"<html>", b'\xef\xbb\xbf{"a": 1}', b'{"a": "\n"}'])
def test_what_is_no_json_is_refused_with_line_and_column(content: bytes) -> None:
    error = refusal(content)

    assert error.problem.startswith("is not JSON: ")
    assert "at line 1 column " in error.problem
    assert isinstance(error.__cause__, json.JSONDecodeError)


LARGE = ["1e999", "-1e999", "1" + "0" * 400, "-1" + "0" * 400]
HALF = "has half of a surrogate pair"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"a": 1, "b": 2, "a": 1}', "document: has the key 'a' more than once"),
        ('{"a": {"b": 1, "b": 2}}', "a: has the key 'b' more than once"),
        ('{"a": [0, {"b": [{"c": 1, "c": 1}]}]}', "a[1].b[0]: has the key 'c' more than once"),
        ('{"a": {"\\u0062": 1, "b": 2}}', "a: has the key 'b' more than once"),
        ('{"a": {"x": 1, "y": 1, "y": 1, "x": 1, "x": 1}}', "a: has the key 'x' more than once"),
        *[
            (f'{{"a": [0, {{"b": {text}}}]}}', f"a[1].b: {text} is no JSON number")
            for text in ("NaN", "Infinity", "-Infinity")
        ],
        *[
            (f'{{"a": [0, {{"b": {text}}}]}}', f"a[1].b: {text[:40]} is out of range")
            for text in LARGE
        ],
        ('{"a": "\\ud800"}', f"a: {HALF}"),
        ('{"a": ["x", "\\uDFFF"]}', f"a[1]: {HALF}"),
        ('{"a": {"\\ud800": 1}}', f"a: {HALF}"),
        ('{"a": "\\udc00\\ud800"}', f"a: {HALF}"),
        ('{"\\udead": 1}', f"document: {HALF}"),
        # The first of several, and one that is the whole document.
        ('{"a": [{"b": NaN}, 1e999], "c": "\\ud800"}', "a[0].b: NaN is no JSON number"),
        ("NaN", "document: NaN is no JSON number"),
        ("1e999", "document: 1e999 is out of range"),
        ("[0, NaN]", "[1]: NaN is no JSON number"),
    ],
)
def test_a_flaw_is_named_with_its_place(content: str, expected: str) -> None:
    assert str(refusal(content.encode())) == expected


def test_an_integer_of_a_million_digits_is_refused_in_few_words() -> None:
    error = refusal(b'{"size": ' + b"9" * 1_000_000 + b"}")

    assert error.path == "size"
    assert len(error.problem) < 100


def test_integers_within_range_are_exact() -> None:
    assert decode(b'{"a": 9007199254740993, "b": -0}') == {"a": 9007199254740993, "b": 0}


def test_a_whole_surrogate_pair_and_text_that_looks_like_one_are_taken() -> None:
    assert decode(b'{"a": "\\ud83d\\ude00"}') == {"a": "\U0001f600"}
    assert decode(b'{"a": "\\\\ud800"}') == {"a": "\\ud800"}


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"k":', "}")])
def test_nesting_is_bounded_exactly(opening: str, closing: str) -> None:
    decode(nested(DEEPEST, opening, closing))

    error = refusal(nested(DEEPEST + 1, opening, closing))

    assert error.problem == f"nests deeper than {DEEPEST} levels"
    assert error.path == "a" + {"[": "[0]", '{"k":': ".k"}[opening] * (DEEPEST - 1)


def test_the_first_place_that_is_too_deep_is_named() -> None:
    deep = "[" * DEEPEST + "]" * DEEPEST
    error = refusal(f'{{"ok": [[]], "first": {deep}, "last": {deep}}}'.encode())

    assert error.path == "first" + "[0]" * (DEEPEST - 1)


@pytest.mark.parametrize("opening", ["[", '{"a":'])
@pytest.mark.parametrize("levels", [500, 100_000])
def test_a_nesting_bomb_is_refused(opening: str, levels: int) -> None:
    closing = "]" if opening == "[" else "}"

    error = refusal(nested(levels, opening, closing))

    assert error.problem == f"nests deeper than {DEEPEST} levels"
    assert "document: " in str(refusal(opening.encode() * levels))


def padded(size: int) -> bytes:
    """Make a document of exactly so many bytes."""
    frame = b'{"a": ""}'
    return frame[:-2] + b"x" * (size - len(frame)) + frame[-2:]


def test_size_is_bounded_exactly() -> None:
    assert LARGEST == 4 * 1024 * 1024
    assert len(padded(LARGEST)) == LARGEST
    decode(padded(LARGEST))

    error = refusal(padded(LARGEST + 1))

    assert error.problem == f"has {LARGEST + 1} bytes, at most {LARGEST} are allowed"


def test_one_of_many_keys_that_stands_twice_is_named() -> None:
    """A search that is quadratic in the number of keys would take minutes here."""
    keys = ",".join(f'"{number}":0' for number in range(100_000))

    error = refusal(f'{{{keys},"99999":0}}'.encode())

    assert error.problem == "has the key '99999' more than once"


@pytest.mark.parametrize("flaw", [b'"\\ud800"', b"[" * DEEPEST + b"]" * DEEPEST])
def test_the_search_for_a_flaw_does_not_multiply_a_long_key(flaw: bytes) -> None:
    """A path kept for each of the members would take 400 MB here, and terabytes at worst."""
    members = b",".join([b"[]"] * 4_000)
    content = b'{"' + b"k" * 100_000 + b'": [' + members + b'], "x": ' + flaw + b"}"

    tracemalloc.start()
    try:
        error = refusal(content)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert error.path.startswith("x")
    assert peak < 20_000_000


def test_the_encoding_is_the_hosts() -> None:
    document: dict[str, object] = {"b": ["é"], "a": {"d": 1, "c": None}}

    assert encode(document) == json.dumps(document, sort_keys=True, indent=4).encode()
    assert hashlib.sha256(encode({"b": 1, "a": 2})).digest() == (
        hashlib.sha256(b'{\n    "a": 2,\n    "b": 1\n}').digest()
    )


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_what_is_encoded_is_decoded_the_same(document: dict[str, object]) -> None:
    assert decode(encode(document)) == document
