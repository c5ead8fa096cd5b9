"""Errors: fields for programs, one line of text for people."""

from __future__ import annotations

import copy
import pickle

import attrs
import pytest

from pubtools_mlmerge import errors
from pubtools_mlmerge.core.merge import merge
from pubtools_mlmerge.core.plan import Report
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import MergeError
from tests.factories import digest, index

REFERENCE = "quay.io/org/app:1"
REPORT = Report.of(merge(index("linux/amd64"), None), None, Reference.parse("quay.io/org/app:3"))
HOSTILE = "first\nERROR forged line\r\n\x1b[2J\x00\u2028second\ud800 " + "x" * 100_000

MESSAGES: list[tuple[MergeError, str]] = [
    (errors.InvalidReference("quay.io/app", "missing"), "invalid reference 'quay.io/app': missing"),
    (errors.InvalidPlatform("a/b/c/d", "too long"), "invalid platform 'a/b/c/d': too long"),
    (
        errors.InvalidIndex("manifests[2].digest", "expected a digest", REFERENCE),
        f"{REFERENCE}: manifests[2].digest: expected a digest; build and push the image again",
    ),
    (errors.InvalidIndex("", "is not JSON"), "document: is not JSON"),
    (
        errors.NotAnIndex(REFERENCE, "text/html"),
        f"{REFERENCE} holds text/html, expected an image index or manifest list",
    ),
    (
        errors.NotAnIndex(REFERENCE, ""),
        f"{REFERENCE} holds an unknown type, expected an image index or manifest list",
    ),
    (
        errors.MixedTypes(("sha256:d1", "sha256:d2"), ("sha256:o",)),
        (
            "the merged index would mix Docker manifests (sha256:d1, sha256:d2) and OCI manifests "
            "(sha256:o); build both in one format, or allow it (--mixed-types oci, setting "
            "mixed_types)"
        ),
    ),
    (
        errors.SourcesDiffer(("linux/amd64 of quay.io/a/b:2", "linux/arm64 of quay.io/a/b:3")),
        (
            "an earlier source has a different image for linux/amd64 of quay.io/a/b:2, "
            "linux/arm64 of quay.io/a/b:3"
        ),
    ),
    (
        errors.NestedIndex("sha256:d", ("linux/arm64",), ("linux/s390x",), REFERENCE),
        (
            f"{REFERENCE}: nested index sha256:d cannot be split: the patterns match "
            "linux/arm64, not linux/s390x; name all, or none"
        ),
    ),
    (
        errors.EmptyIndex(("arm64", "amd64"), REFERENCE),
        (
            f"{REFERENCE}: removing arm64, amd64 would leave an empty index; "
            "add --allow-empty if that is meant"
        ),
    ),
    (
        errors.EmptyIndex(()),
        "removing these entries would leave an empty index; add --allow-empty if that is meant",
    ),
    (
        errors.NothingEligible(REFERENCE, ("arm64", "arm")),
        f"{REFERENCE} has none of arm64, arm, and the destination has nothing to keep",
    ),
    (
        errors.DigestMismatch(REFERENCE, "sha256:expected", "sha256:actual"),
        f"{REFERENCE}: content has digest sha256:actual, expected sha256:expected",
    ),
    (
        errors.RegistryError(REFERENCE, 500, "sorry"),
        f"{REFERENCE}: the request failed (HTTP 500): sorry",
    ),
    (
        errors.RegistryError(REFERENCE, None, "connection refused"),
        f"{REFERENCE}: the request failed: connection refused",
    ),
    (errors.NotFound(REFERENCE, 404, "UNKNOWN"), f"{REFERENCE}: not found (HTTP 404): UNKNOWN"),
    (errors.Unauthorized(REFERENCE, 401), f"{REFERENCE}: not authorized (HTTP 401)"),
    (errors.Forbidden(REFERENCE, 403), f"{REFERENCE}: forbidden (HTTP 403)"),
    (errors.ImmutableTag(REFERENCE, 409), f"{REFERENCE}: the tag is immutable (HTTP 409)"),
    (
        errors.AnchorTaken(REFERENCE, "sha256:1"),
        f"{REFERENCE}: the anchor tag exists and holds sha256:1",
    ),
    (
        errors.MissingChild(REFERENCE, 400, "", ("sha256:1", "sha256:2")),
        f"{REFERENCE}: the repository lacks sha256:1, sha256:2 (HTTP 400)",
    ),
    (errors.MissingChild(REFERENCE), f"{REFERENCE}: the repository lacks a manifest that it lists"),
    (errors.CopyFailed("a/b:1", "c/d:1", "no skopeo"), "cannot copy a/b:1 to c/d:1: no skopeo"),
    (errors.InvalidCredentials("auth.json", "not JSON"), "credentials in auth.json: not JSON"),
    (errors.InvalidSettings(("first", "second")), "invalid settings: first; second"),
    (
        errors.CannotMergeHere("no merging", "mlmerge-push-docker"),
        "no merging; start the task by mlmerge-push-docker",
    ),
    (
        errors.PushFailed("no space left", ("a:1 was b", "c:2 was d")),
        "no space left; merged before that: a:1 was b; c:2 was d",
    ),
    (errors.StepNotDone("not signed", ("a:1", "b:2")), "not signed: a:1, b:2"),
    (
        errors.HostMismatch(("first", "second")),
        "cannot merge inside this pubtools-quay: first; second",
    ),
    (
        errors.MergesFailed(
            (
                (Reference.parse(REFERENCE), errors.ShrinkError(REFERENCE, ("linux/arm64",))),
                (Reference.parse("quay.io/org/app:2"), OSError()),
            ),
            (REPORT,),
        ),
        (
            f"2 of 3 merges failed: {errors.ShrinkError(REFERENCE, ('linux/arm64',))}; "
            "quay.io/org/app:2: OSError"
        ),
    ),
    (
        errors.ConflictError(REFERENCE, "sha256:expected", "sha256:found", 3),
        (
            f"{REFERENCE}: another program writes this tag, gave up after 3 tries: it holds "
            "sha256:found, expected sha256:expected; run it again, with a lock for all writers"
        ),
    ),
    (
        errors.ConflictError(REFERENCE, None, None, 1),
        (
            f"{REFERENCE}: the tag cannot be read back, gave up after 1 try: it holds nothing, "
            "expected nothing; see whether this login may read it, and whether the registry "
            "ignores writes"
        ),
    ),
    (
        errors.ConflictError(REFERENCE, "sha256:expected", "sha256:found", 2, ignored=True),
        (
            f"{REFERENCE}: the registry accepts writes and ignores them, as a proxy cache or "
            "mirror does, gave up after 2 tries: it holds sha256:found, expected sha256:expected; "
            "write to the registry behind it"
        ),
    ),
    (
        errors.ShrinkError(REFERENCE, ("linux/arm64", "linux/s390x")),
        (
            f"{REFERENCE} would lose linux/arm64, linux/s390x; "
            "if that is meant, add --drop linux/arm64,linux/s390x, or in a task the setting drop"
        ),
    ),
    (
        errors.PatternFitsNothing(REFERENCE, "keep", ("arm", "s390x"), ("linux/amd64",)),
        (
            f"{REFERENCE}: keep arm, s390x matches none of its platforms (linux/amd64); "
            "correct the name, or omit it"
        ),
    ),
    (
        errors.StaleImages(REFERENCE, ("linux/s390x is old", "linux/arm64 is older")),
        f"{REFERENCE} would keep images that are too old: linux/s390x is old; linux/arm64 is older",
    ),
    (
        errors.OutOfTime(REFERENCE, 60.0),
        (
            f"{REFERENCE}: not done within 60 seconds; each tag holds its old content or the whole "
            "result; run it again, or raise --timeout"
        ),
    ),
    (errors.LockFailed(REFERENCE, "no Redis"), f"{REFERENCE}: cannot lock this tag: no Redis"),
    (
        errors.LockLost(REFERENCE, "it expired"),
        f"{REFERENCE}: the lock of this tag was lost, so it was not written: it expired",
    ),
    (errors.InvalidRecord("1.json", "no format"), "1.json: not a record of a change: no format"),
    (
        errors.RecordFailed("quay.io/ns/app:1", "audit", "no space left"),
        "quay.io/ns/app:1: not written, as the change cannot be recorded in audit: no space left",
    ),
    (
        errors.CannotRestore(REFERENCE, "it was changed"),
        f"{REFERENCE}: not restored: it was changed",
    ),
]
ERRORS = [error for error, _ in MESSAGES]


def name_of(value: object) -> str:
    return type(value).__name__


def facts(error: MergeError) -> dict[str, str]:
    """Show the fields; errors among them equal no other."""
    fields = attrs.asdict(error, recurse=False)
    return {name: repr(value) for name, value in fields.items()}


@pytest.mark.parametrize(("error", "text"), MESSAGES, ids=name_of)
def test_a_message_names_the_reference_and_what_is_wrong(error: MergeError, text: str) -> None:
    assert str(error).startswith(text)


def test_every_kind_of_error_is_tested_here() -> None:
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type)}

    expected = {kind for kind in kinds if issubclass(kind, MergeError)} - {MergeError}
    assert {type(error) for error in ERRORS} == expected


@pytest.mark.parametrize("error", ERRORS, ids=name_of)
def test_copies_and_pickles_keep_type_fields_and_text(error: MergeError) -> None:
    pickled = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own pickle

    for copied in (pickled, copy.copy(error), copy.deepcopy(error)):
        assert type(copied) is type(error)
        assert facts(copied) == facts(error)
        assert str(copied) == str(error)


@pytest.mark.parametrize("error", ERRORS, ids=name_of)
def test_raise_from_keeps_the_cause(error: MergeError) -> None:
    cause = KeyError("digest")

    with pytest.raises(MergeError) as caught:
        raise error from cause

    assert caught.value is error
    assert caught.value.__cause__ is cause


def test_an_error_takes_a_note() -> None:
    """What add_note() does, which exceptions have since 3.11."""
    error = errors.NotFound(REFERENCE, 404)

    setattr(error, "__notes__", ["while pulling"])  # noqa: B010  # mypy checks for 3.9 too

    assert vars(error)["__notes__"] == ["while pulling"]


def test_equal_fields_do_not_make_two_errors_one() -> None:
    assert errors.NotFound(REFERENCE, 404) != errors.NotFound(REFERENCE, 404)


@pytest.mark.parametrize(
    "kind",
    [
        errors.InvalidReference,
        errors.InvalidPlatform,
        errors.InvalidIndex,
        errors.InvalidSettings,
        errors.InvalidRecord,
    ],
)
def test_errors_of_bad_values_are_value_errors(kind: type[MergeError]) -> None:
    assert issubclass(kind, ValueError)


@pytest.mark.parametrize(
    "error",
    [
        errors.InvalidReference(HOSTILE, "problem"),
        errors.InvalidPlatform(HOSTILE, "problem"),
        errors.InvalidIndex(HOSTILE, "problem"),
        errors.InvalidIndex("place", HOSTILE),
        errors.NotAnIndex(REFERENCE, HOSTILE),
        errors.DigestMismatch(REFERENCE, HOSTILE, digest("actual")),
        errors.RegistryError(REFERENCE, 500, HOSTILE),
        errors.CopyFailed("a/b:1", "c/d:1", HOSTILE),
        errors.LockFailed(REFERENCE, HOSTILE),
        errors.LockLost(REFERENCE, HOSTILE),
        errors.InvalidRecord("1.json", HOSTILE),
        errors.RecordFailed("quay.io/ns/app:1", "audit", HOSTILE),
        errors.CannotRestore(REFERENCE, HOSTILE),
    ],
    ids=name_of,
)
def test_hostile_text_is_folded_to_one_short_line(error: MergeError) -> None:
    text = str(error)

    assert text.isprintable()
    assert "…" in text
    assert len(text) < 1000


def test_a_message_is_cut_once_and_not_below_its_limit() -> None:
    cut = errors.RegistryError(REFERENCE, 500, ("x" * 499 + " ") * 3)

    assert errors.RegistryError(REFERENCE, 500, "x" * 500).message == "x" * 500
    assert errors.RegistryError(REFERENCE, 500, "x" * 501).message == "x" * 500 + " …"
    assert errors.RegistryError(REFERENCE, 500, cut.message).message == cut.message


def test_a_login_that_was_pasted_into_a_reference_is_masked() -> None:
    error = errors.InvalidReference("user:secret@quay.io/ns/app:1", "whatever")

    assert "secret" not in str(error)
    assert "quay.io/ns/app:1" in str(error)
