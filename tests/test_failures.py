"""Failures: registries say the same thing in many ways."""

from __future__ import annotations

import json

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
from pubtools_mlmerge.registry.refusals import failure
from tests.factories import digest

REFERENCE = "quay.io/org/app:1"


def body(*errors: object) -> bytes:
    return json.dumps({"errors": list(errors)}).encode()


def refused(status: int, code: str = "", message: str = "", detail: object = None) -> RegistryError:
    return failure(REFERENCE, status, body({"code": code, "message": message, "detail": detail}))


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, "UNAUTHORIZED", Unauthorized),
        (401, "", Unauthorized),
        (403, "DENIED", Forbidden),
        (403, "", Forbidden),
        (405, "DENIED", Forbidden),
        (404, "MANIFEST_UNKNOWN", NotFound),
        (404, "NAME_UNKNOWN", NotFound),
        (404, "TAG_EXPIRED", NotFound),
        (404, "", NotFound),
        (400, "NAME_UNKNOWN", NotFound),
        (409, "TAG_IMMUTABLE", ImmutableTag),
        (409, "TAG_ALREADY_EXISTS", ImmutableTag),
        (409, "", ImmutableTag),
        (412, "PRECONDITION", ImmutableTag),
        (400, "TAG_IMMUTABLE", ImmutableTag),
        (400, "MANIFEST_INVALID", RegistryError),
        (400, "MANIFEST_BLOB_UNKNOWN", MissingChild),
        (413, "", RegistryError),
        (429, "TOOMANYREQUESTS", RegistryError),
        (500, "UNKNOWN", RegistryError),
        (307, "", RegistryError),
    ],
)
def test_status_and_code_tell_the_kind(status: int, code: str, kind: type[RegistryError]) -> None:
    found = refused(status, code)

    assert type(found) is kind
    assert (found.reference, found.status) == (REFERENCE, status)


@pytest.mark.parametrize("status", [400, 403])
def test_a_word_about_immutable_tags_tells_the_kind(status: int) -> None:
    words = "The tag '1' cannot be overwritten because the repository is immutable."

    assert type(refused(status, "TAG_INVALID", words)) is ImmutableTag


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, "UNAUTHORIZED", Unauthorized),
        (404, "NAME_UNKNOWN", NotFound),
        (404, "", NotFound),
        (400, "MANIFEST_INVALID", RegistryError),
    ],
)
def test_an_image_named_immutable_is_no_immutable_tag(
    status: int, code: str, kind: type[RegistryError]
) -> None:
    assert type(refused(status, code, "org/immutable-os")) is kind


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


def test_a_child_of_another_size_is_not_a_missing_one() -> None:
    words = "Size of manifest does not match that retrieved: 522 vs 1"

    assert type(refused(400, "MANIFEST_INVALID", "", {"message": words})) is RegistryError


def test_the_words_about_a_child_count_for_a_bad_request_only() -> None:
    words = f"Could not find child manifest with digest `{digest('a')}`"

    assert type(refused(500, "MANIFEST_INVALID", words)) is RegistryError


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
        (b"\xff\x00ok", "\ufffd ok"),
    ],
)
def test_any_other_body_is_shown_if_it_is_text(content: bytes, message: str) -> None:
    assert failure(REFERENCE, 500, content).message == message


def test_a_long_message_is_cut() -> None:
    found = refused(400, "MANIFEST_INVALID", "", {"message": "no " * 10_000})

    assert len(found.message) < 600
    assert "\n" not in str(refused(400, "", "first\nsecond"))


def test_only_the_beginning_of_a_huge_body_is_read() -> None:
    found = failure(REFERENCE, 400, b" " * 70_000 + body({"code": "MANIFEST_BLOB_UNKNOWN"}))

    assert type(found) is RegistryError


def test_a_nesting_bomb_is_shown_as_text() -> None:
    assert failure(REFERENCE, 400, b"[" * 50_000).message.startswith("[[[")


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
