"""Errors: fields for programs, one line of text for people."""

from __future__ import annotations

import copy
import pickle
from typing import Callable

import pytest

from pubtools_mlmerge import errors
from pubtools_mlmerge.core import ages
from pubtools_mlmerge.core.ages import StaleImages
from pubtools_mlmerge.errors import (
    CannotRestore,
    ConflictError,
    CopyFailed,
    DigestMismatch,
    EmptyIndex,
    Forbidden,
    HostMismatch,
    ImmutableTag,
    InvalidCredentials,
    InvalidIndex,
    InvalidPlatform,
    InvalidRecord,
    InvalidReference,
    InvalidSettings,
    LockFailed,
    LockLost,
    MergeError,
    MissingChild,
    MixedTypes,
    NotAnIndex,
    NotFound,
    NothingEligible,
    RecordFailed,
    RegistryError,
    ShrinkError,
    Unauthorized,
)
from tests.factories import digest

REFERENCE = "quay.io/org/app:1"
HOSTILE = "first\nERROR forged line\r\n\x1b[2J\x00\u2028second\ud800 " + "x" * 100_000

ERRORS = [
    InvalidReference("quay.io/UPPER", "no tag"),
    InvalidPlatform("a/b/c/d", "too many parts"),
    InvalidIndex("manifests[2].digest", "expected a digest", REFERENCE),
    NotAnIndex(REFERENCE, "text/html"),
    MixedTypes((digest("docker"),), (digest("oci"),)),
    EmptyIndex(("arm64", "amd64")),
    NothingEligible("quay.io/ns/app:1", ("arm64",)),
    DigestMismatch(REFERENCE, digest("expected"), digest("actual")),
    RegistryError(REFERENCE, 500, "sorry"),
    NotFound(REFERENCE, 404, "MANIFEST_UNKNOWN"),
    Unauthorized(REFERENCE, 401),
    Forbidden(REFERENCE, 403),
    ImmutableTag(REFERENCE, 409),
    MissingChild(REFERENCE, 400, "MANIFEST_BLOB_UNKNOWN", (digest("child"),)),
    CopyFailed("quay.io/a/b:1", "quay.io/c/d:1", "skopeo is not installed"),
    InvalidCredentials("/run/auth.json", "not JSON"),
    InvalidSettings(("tries: expected a number", "lock: expected a URL")),
    HostMismatch(("PushDocker is missing", "TagDocker.run takes no target")),
    ConflictError(REFERENCE, digest("expected"), digest("found"), 5),
    ShrinkError(REFERENCE, ("linux/arm64", "linux/s390x")),
    LockFailed(REFERENCE, "somebody else holds it"),
    LockLost(REFERENCE, "it expired"),
    InvalidRecord("audit/1.json", "format: expected 1"),
    RecordFailed("audit", "no space left on device"),
    CannotRestore(REFERENCE, "it was changed since"),
    StaleImages(REFERENCE, ("linux/s390x is 90 days old", "linux/arm64 is 91 days old")),
]
OF_A_REGISTRY = [e for e in ERRORS if isinstance(e, RegistryError)]


def name_of(error: MergeError) -> str:
    return type(error).__name__


@pytest.mark.parametrize("error", ERRORS, ids=name_of)
def test_pickle_keeps_type_fields_and_text(error: MergeError) -> None:
    copied = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own pickle

    assert type(copied) is type(error)
    assert vars(copied) == vars(error)
    assert str(copied) == str(error)


def test_every_kind_of_error_is_tested_here() -> None:
    named = {**vars(errors), **vars(ages)}.values()
    kinds = {kind for kind in named if isinstance(kind, type)}

    expected = {kind for kind in kinds if issubclass(kind, MergeError)} - {MergeError}
    assert {type(error) for error in ERRORS} == expected


@pytest.mark.parametrize("error", ERRORS, ids=name_of)
def test_copy_keeps_the_fields(error: MergeError) -> None:
    assert vars(copy.copy(error)) == vars(error)
    assert vars(copy.deepcopy(error)) == vars(error)


@pytest.mark.parametrize("error", ERRORS, ids=name_of)
def test_raise_from_keeps_the_cause(error: MergeError) -> None:
    cause = KeyError("digest")

    with pytest.raises(MergeError) as caught:
        raise error from cause

    assert caught.value is error
    assert caught.value.__cause__ is cause


def test_an_error_takes_a_note() -> None:
    """What add_note() does, which exceptions have since 3.11."""
    error = NotFound(REFERENCE, 404)

    setattr(error, "__notes__", ["while pulling"])  # noqa: B010  # mypy checks for 3.9 too

    assert vars(error)["__notes__"] == ["while pulling"]


def test_equal_fields_do_not_make_two_errors_one() -> None:
    assert NotFound(REFERENCE, 404) != NotFound(REFERENCE, 404)


@pytest.mark.parametrize(
    "kind", [InvalidReference, InvalidPlatform, InvalidIndex, InvalidSettings, InvalidRecord]
)
def test_errors_of_bad_values_are_value_errors(kind: type[MergeError]) -> None:
    assert issubclass(kind, ValueError)


@pytest.mark.parametrize("error", OF_A_REGISTRY, ids=name_of)
def test_registry_errors_name_reference_and_status(error: RegistryError) -> None:
    text = str(error)

    assert text.startswith(f"{REFERENCE}: ")
    assert f"(HTTP {error.status})" in text
    assert text.endswith(error.message or ")")


def test_registry_errors_tell_what_happened_by_kind() -> None:
    texts = {str(type(error)(REFERENCE)) for error in OF_A_REGISTRY}

    assert len(texts) == len(OF_A_REGISTRY)
    assert f"{REFERENCE}: the registry could not be asked" in texts


def test_a_registry_that_answered_nothing_has_no_status() -> None:
    assert "HTTP" not in str(RegistryError(REFERENCE, None, "connection refused"))


def test_a_missing_child_is_named() -> None:
    assert digest("child") in str(MissingChild(REFERENCE, 400, "", (digest("child"),)))


def test_an_unnamed_missing_child_is_told_as_such() -> None:
    assert "lacks a manifest that it lists" in str(MissingChild(REFERENCE, 400))


def test_an_invalid_index_names_reference_place_and_expectation() -> None:
    error = InvalidIndex("manifests[2].digest", "expected a digest", REFERENCE)

    assert str(error) == f"{REFERENCE}: manifests[2].digest: expected a digest"


def test_an_invalid_index_without_a_place_means_the_document() -> None:
    assert str(InvalidIndex("", "is not JSON")) == "document: is not JSON"


def test_not_an_index_names_what_is_there() -> None:
    assert str(NotAnIndex(REFERENCE, "text/html")).startswith(f"{REFERENCE} holds text/html,")
    assert "holds an unknown type" in str(NotAnIndex(REFERENCE, ""))


def test_mixed_types_names_both_kinds() -> None:
    text = str(MixedTypes(("sha256:d1", "sha256:d2"), ("sha256:o",)))

    assert "Docker manifests (sha256:d1, sha256:d2)" in text
    assert "OCI manifests (sha256:o)" in text


def test_an_empty_index_names_what_was_removed() -> None:
    assert "removing arm64, amd64 would" in str(EmptyIndex(("arm64", "amd64")))
    assert "removing these entries would" in str(EmptyIndex(()))


def test_a_digest_mismatch_names_both_digests() -> None:
    text = str(DigestMismatch(REFERENCE, "sha256:expected", "sha256:actual"))

    assert text == f"{REFERENCE}: content has digest sha256:actual, expected sha256:expected"


def test_a_failed_copy_names_both_ends_and_the_reason() -> None:
    assert str(CopyFailed("a/b:1", "c/d:1", "no skopeo")) == "cannot copy a/b:1 to c/d:1: no skopeo"


def test_unreadable_credentials_are_named_by_their_place() -> None:
    error = InvalidCredentials("/run/auth.json", "not JSON")

    assert str(error) == "credentials in /run/auth.json: not JSON"


@pytest.mark.parametrize("kind", [InvalidSettings, HostMismatch])
def test_all_problems_are_named_at_once(kind: Callable[[tuple[str, ...]], MergeError]) -> None:
    assert str(kind(("first", "second"))).endswith(": first; second")


def test_a_conflict_names_both_digests_and_how_often_it_was_tried() -> None:
    text = str(ConflictError(REFERENCE, "sha256:expected", "sha256:found", 3))

    assert text.startswith(f"{REFERENCE}: somebody else writes this tag, given up after 3 tries")
    assert text.endswith("it holds sha256:found, expected sha256:expected")


def test_a_conflict_knows_tags_that_hold_nothing() -> None:
    text = str(ConflictError(REFERENCE, None, None, 1))

    assert text.startswith(f"{REFERENCE}: the registry does not show it, given up after 1 try")
    assert text.endswith("it holds nothing, expected nothing")


def test_lost_platforms_are_named_with_what_may_be_done() -> None:
    text = str(ShrinkError(REFERENCE, ("linux/arm64", "linux/s390x")))

    assert text.startswith(f"{REFERENCE} would lose linux/arm64, linux/s390x; name ")


def test_images_that_are_too_old_are_all_named() -> None:
    text = str(StaleImages(REFERENCE, ("linux/s390x is old", "linux/arm64 is older")))

    assert text.startswith(f"{REFERENCE} would keep ")
    assert text.endswith(": linux/s390x is old; linux/arm64 is older")


@pytest.mark.parametrize("kind", [LockFailed, LockLost, InvalidRecord, RecordFailed, CannotRestore])
def test_a_problem_is_told_with_its_place(kind: Callable[[str, str], MergeError]) -> None:
    text = str(kind("the place", "the reason"))

    assert "the place" in text
    assert text.endswith(": the reason")


@pytest.mark.parametrize(
    "error",
    [
        InvalidReference(HOSTILE, "problem"),
        InvalidPlatform(HOSTILE, "problem"),
        InvalidIndex(HOSTILE, "problem"),
        InvalidIndex("place", HOSTILE),
        NotAnIndex(REFERENCE, HOSTILE),
        DigestMismatch(REFERENCE, HOSTILE, digest("actual")),
        RegistryError(REFERENCE, 500, HOSTILE),
        CopyFailed("a/b:1", "c/d:1", HOSTILE),
        LockFailed(REFERENCE, HOSTILE),
        LockLost(REFERENCE, HOSTILE),
        InvalidRecord("1.json", HOSTILE),
        RecordFailed("audit", HOSTILE),
        CannotRestore(REFERENCE, HOSTILE),
    ],
    ids=name_of,
)
def test_hostile_text_is_folded_to_one_short_line(error: MergeError) -> None:
    text = str(error)

    assert text.isprintable()
    assert "…" in text
    assert len(text) < 1000


def test_a_message_of_allowed_length_is_not_cut() -> None:
    assert RegistryError(REFERENCE, 500, "x" * 500).message == "x" * 500
    assert RegistryError(REFERENCE, 500, "x" * 501).message == "x" * 500 + " …"


def test_a_cut_message_is_not_cut_again() -> None:
    cut = RegistryError(REFERENCE, 500, ("x" * 499 + " ") * 3)

    assert RegistryError(REFERENCE, 500, cut.message).message == cut.message


def test_a_login_that_was_pasted_into_a_reference_is_masked() -> None:
    error = InvalidReference("user:secret@quay.io/ns/app:1", "whatever")

    assert "secret" not in str(error)
    assert "quay.io/ns/app:1" in str(error)
