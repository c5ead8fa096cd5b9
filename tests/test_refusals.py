"""Refusals: registries say the same thing in many ways, and no way to write a secret hides it."""

from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from html import escape
from secrets import token_urlsafe
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pubtools_mlmerge.errors import (
    Forbidden,
    ImmutableTag,
    MissingChild,
    NotFound,
    RegistryError,
    Unauthorized,
)
from pubtools_mlmerge.registry.auth import WITHHELD, Secrets, failure, redact, redacted
from pubtools_mlmerge.registry.http import Answer
from tests.factories import digest
from tests.growth import growth

REFERENCE = "quay.io/org/app:1"


def body(*errors: object) -> bytes:
    return json.dumps({"errors": list(errors)}).encode()


def refused(status: int, code: str = "", message: str = "", detail: object = None) -> RegistryError:
    return failure(REFERENCE, status, body({"code": code, "message": message, "detail": detail}))


IN_WORDS = "The tag '1' cannot be overwritten because the repository is immutable."
IN_OTHERS = "cannot update tag 1. The repository has enabled tag immutability"


@pytest.mark.parametrize(
    ("kind", "status", "code", "words"),
    [
        *((Unauthorized, 401, code, "") for code in ("UNAUTHORIZED", "")),
        *((Forbidden, 403, code, "") for code in ("DENIED", "")),
        *((NotFound, 404, name, "") for name in ("MANIFEST_UNKNOWN", "NAME_UNKNOWN")),
        *((NotFound, 404, code, "") for code in ("TAG_EXPIRED", "")),
        (NotFound, 400, "NAME_UNKNOWN", ""),
        *((ImmutableTag, 409, code, "") for code in ("TAG_IMMUTABLE", "TAG_ALREADY_EXISTS", "")),
        *((ImmutableTag, 412, "PRECONDITION", ""), (ImmutableTag, 400, "TAG_IMMUTABLE", "")),
        (MissingChild, 400, "MANIFEST_BLOB_UNKNOWN", ""),
        *((RegistryError, 400, "MANIFEST_INVALID", ""), (RegistryError, 413, "", "")),
        *((RegistryError, 429, "TOOMANYREQUESTS", ""), (RegistryError, 500, "UNKNOWN", "")),
        (RegistryError, 307, "", ""),
        # How other registries say that a tag is immutable.
        *((ImmutableTag, status, "TAG_INVALID", IN_WORDS) for status in (400, 403)),
        (ImmutableTag, 400, "MANIFEST_INVALID", IN_OTHERS),
        (ImmutableTag, 403, "DENIED", "The requested tag already exists and cannot be overwritten"),
        (ImmutableTag, 400, "TAG_INVALID", "'1' already exists in 'app' and cannot be overwritten"),
        (ImmutableTag, 405, "DENIED", "The operation is disallowed on this registry"),
        # An image that has the word in its name.
        (Unauthorized, 401, "UNAUTHORIZED", "org/immutable-os"),
        *((NotFound, 404, code, "org/immutable-os") for code in ("NAME_UNKNOWN", "")),
        (RegistryError, 400, "MANIFEST_INVALID", "org/immutable-os"),
    ],
)
def test_status_code_and_words_tell_the_kind(
    kind: type[RegistryError], status: int, code: str, words: str
) -> None:
    found = refused(status, code, words)

    assert type(found) is kind
    assert (found.reference, found.status) == (REFERENCE, status)


def test_distribution_names_each_missing_child_by_code() -> None:
    missing = [digest("a"), digest("b"), digest("a")]
    errors = [{"code": "MANIFEST_BLOB_UNKNOWN", "message": "?", "detail": d} for d in missing]

    found = failure(REFERENCE, 400, body(*errors))

    assert isinstance(found, MissingChild)
    assert found.digests == (digest("a"), digest("b"))


def test_quay_names_the_missing_child_in_words() -> None:
    words = f"Could not find child manifest with digest `{digest('a')}`"

    found = refused(400, "MANIFEST_INVALID", "manifest invalid", {"message": words})

    assert isinstance(found, MissingChild)
    assert found.digests == (digest("a"),)
    assert words in found.message


def test_other_words_about_a_child_are_about_no_missing_one() -> None:
    absent = f"Could not find child manifest with digest `{digest('a')}`"
    size = "Size of manifest does not match that retrieved: 522 vs 1"

    for status, words in ((400, size), (500, absent)):
        assert type(refused(status, "MANIFEST_INVALID", "", {"message": words})) is RegistryError


def test_the_words_are_the_messages_each_once() -> None:
    errors = [
        {"code": "DENIED", "message": "no rights"},
        {"code": "DENIED", "message": "no rights"},
        {"code": "UNSUPPORTED"},
        "not an object",
    ]

    assert failure(REFERENCE, 403, body(*errors)).message == "no rights; UNSUPPORTED"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", ""),
        (b"Too many login attempts", "Too many login attempts"),
        (b"<html><h1>413 Request Entity Too Large</h1></html>", ""),
        (b"true", "true"),
        (b"[1]", "[1]"),
        (b'{"errors": 5}', '{"errors": 5}'),
        (b"\xff\x00ok", "\ufffd?ok"),
    ],
)
def test_any_other_body_is_shown_if_it_is_text(content: bytes, message: str) -> None:
    assert failure(REFERENCE, 500, content).message == message


def test_only_the_beginning_of_a_huge_body_is_read_and_shown() -> None:
    assert 3 < len(failure(REFERENCE, 400, b"[" * 50_000).message) < 600
    found = failure(REFERENCE, 400, b" " * 70_000 + body({"code": "MANIFEST_BLOB_UNKNOWN"}))

    assert type(found) is RegistryError


@given(st.binary(), st.integers(100, 599))
def test_any_answer_becomes_an_error_that_can_be_shown(content: bytes, status: int) -> None:
    assert str(failure(REFERENCE, status, content)).startswith(REFERENCE)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
FIELDS = st.fixed_dictionaries({}, optional={"code": JSON, "message": JSON, "detail": JSON})


@given(st.lists(FIELDS | JSON))
def test_error_documents_of_any_shape_are_read(errors: list[object]) -> None:
    assert failure(REFERENCE, 400, body(*errors)).status == 400


# Secrets: a text that shows one in any reading is withheld, and no text takes long


SECRET = 'p"a\\s/s <w&rd> 100% \U0001f511'
FORMS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in JSON": lambda text: json.dumps(text)[1:-1],
    "in JSON, unescaped": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "in JSON, escaped": lambda text: "".join(
        f"\\u{text.encode('utf-16-be').hex().upper()[i : i + 4]}"
        for i in range(0, len(text.encode("utf-16-be")) * 2, 4)
    ),
    "in HTML": escape,
    "in HTML by numbers": lambda text: "".join(f"&#{ord(c)};" for c in text),
    "in a URL": quote,
    "in a form": quote_plus,
    "in JSON in JSON": lambda text: json.dumps(json.dumps({"a": text})),
    "in HTML in JSON": lambda text: json.dumps(escape(text)),
    "in JSON in a URL": lambda text: quote(json.dumps(text)),
    "in HTML in HTML": lambda text: escape(escape(text)),
}
PRINTABLE = st.text(min_size=1).filter(str.isprintable)


@pytest.mark.parametrize("form", FORMS.values(), ids=list(FORMS))
def test_a_text_that_shows_a_secret_is_withheld(form: Callable[[str], str]) -> None:
    text = f'{{"a": "\\n&lt;%41 {form(SECRET)}!"}}'

    assert redact(text, ["", "another", SECRET]) == WITHHELD
    assert redact(text, ["", "another"]) == text


@pytest.mark.parametrize("secrets", [(), ("",), ("absent",)])
def test_an_answer_without_a_secret_stays_as_it_is(secrets: tuple[str, ...]) -> None:
    answer = Answer(403, {"X": "harmless"}, b"\xff\x00", "https://quay.io/", "no")

    assert redacted(answer, Secrets(secrets)) == answer


def test_each_part_of_an_answer_that_repeats_a_secret_is_withheld() -> None:
    repeats = {"X-Echo": "s3cr3t", "X": "harmless"}
    found = Answer(403, repeats, b"s3cr3t", "https://quay.io/?s3cr3t", "no s3cr3t here")

    cleaned = redacted(found, Secrets(["s3cr3t"]))

    assert cleaned.headers == {"x-echo": WITHHELD, "x": "harmless"}
    assert (cleaned.content, cleaned.url, cleaned.reason) == (WITHHELD.encode(), WITHHELD, WITHHELD)


@given(PRINTABLE, st.sampled_from(list(FORMS)))
def test_no_way_to_write_a_secret_hides_it(secret: str, form: str) -> None:
    assert redact(FORMS[form](secret), [secret]) == WITHHELD


@given(st.binary(max_size=8), st.text(min_size=6).filter(str.isprintable), st.binary(max_size=8))
def test_base64_hides_no_secret_wherever_it_begins(before: bytes, secret: str, end: bytes) -> None:
    content = before + secret.encode() + end

    for encode in (b64encode, urlsafe_b64encode):
        encoded = encode(content).decode()
        for text in (encoded, encoded.rstrip("="), json.dumps(encoded).replace("/", "\\/")):
            assert redact(f"no: {text}!", [secret]) == WITHHELD


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Authorization: Bearer 0123456789abcdef.x-y, sorry", "Authorization: Bearer ***, sorry"),
        ("basic+QWxhZGRpbjpvcGVuIHNlc2FtZQ==!", "basic ***!"),
        ("basic authentication is required", "basic authentication is required"),
    ],
)
def test_a_login_that_is_not_known_is_blanked_by_its_form(text: str, expected: str) -> None:
    assert redact(text) == expected


@given(st.text(), st.lists(PRINTABLE, max_size=2))
def test_a_text_without_a_secret_stays_as_it_is(text: str, secrets: list[str]) -> None:
    if set(text).isdisjoint("\\&%+") and not any(secret in text for secret in secrets):
        assert redact(text, secrets) in (text, redact(text))


@pytest.mark.parametrize("piece", ["a", "\\", "\\u0061", "&#97;", "%61", "&", "%", "\\u00", "+"])
def test_no_text_takes_longer_than_its_length(piece: str) -> None:
    def work(size: int) -> None:
        text, half = piece * (size // len(piece)), size // 2
        redact(text, [text[:-1] + "b", "a" * half + "b", "\\" * half + "b"])

    assert growth(work, 15_000) < 9


@pytest.mark.parametrize("others", [0, 500])
@pytest.mark.parametrize("form", FORMS.values(), ids=list(FORMS))
def test_one_of_many_tokens_is_found_until_it_is_replaced(
    form: Callable[[str], str], others: int
) -> None:
    token = token_urlsafe(300)
    tokens = Secrets([token_urlsafe(300) for _ in range(others)], beside=Secrets([SECRET]))
    tokens.add(token)
    tokens.add(token)

    tokens.add("another", replaced=token)
    assert tokens.withhold(f"no: {form(token)}!") == WITHHELD
    assert tokens.withhold(f"no: {form(SECRET)}!") == WITHHELD

    tokens.add("a third", replaced=token)
    assert tokens.withhold(f"no: {form(token)}!") != WITHHELD


def test_many_tokens_take_no_longer_than_a_few() -> None:
    text = "Docker-Content-Digest: " + digest("a") * 5
    known = {n: Secrets([token_urlsafe(24) for _ in range(n)]) for n in (500, 2000)}

    assert growth(lambda size: [known[size].shown_in(text) for _ in range(100)], 500) < 2
