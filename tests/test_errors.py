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
TAG = Reference.parse(REFERENCE)
REPORT = Report.of(merge(index("linux/amd64"), None), None, TAG)
SHRUNK = errors.ShrinkError(REFERENCE, ("linux/arm64", "linux/s390x"))
HOSTILE = "first\nERROR forged line\r\n\x1b[2J\x00\u2028second\ud800 " + "x" * 100_000
KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, MergeError) and kind is not MergeError
]


def made(kind: type[MergeError], text: str) -> MergeError:
    """Make an error of a kind, with a text in each of its fields."""
    values: dict[str, object] = {"failures": ((TAG, OSError(text)),), "reports": (REPORT,)}
    fields = attrs.fields(kind)  # type: ignore[arg-type]  # all but the base
    for field in fields:
        of = str(field.type)
        number = 7 if "int" in of or "float" in of or "bool" in of else text
        values.setdefault(field.name, (text, text) if "tuple" in of else number)
    return kind(**{field.name: values[field.name] for field in fields})


# Texts that depend on the facts; test_messages shows how each error comes about.
MESSAGES: list[tuple[MergeError, str]] = [
    (errors.InvalidIndex("", "is not JSON"), "document: is not JSON"),
    (
        errors.NotAnIndex(REFERENCE, ""),
        (
            f"{REFERENCE} holds an unknown type, expected an image index or manifest list; "
            "name a multi-arch image"
        ),
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
        errors.EmptyIndex(()),
        "removing these entries would leave an empty index; add --allow-empty if that is meant",
    ),
    (
        errors.RegistryError(REFERENCE, None, "connection refused"),
        (f"{REFERENCE}: the request failed: connection refused; fix that, or run it again later"),
    ),
    (
        errors.MissingChild(REFERENCE, 400),
        (
            f"{REFERENCE}: the repository lacks a manifest that it lists (HTTP 400); "
            "push the images, or allow copying (--copy auto, setting copy)"
        ),
    ),
    (errors.InvalidSettings(("first", "second")), "invalid settings: first; second"),
    (
        errors.MergesFailed(
            ((TAG, SHRUNK), (Reference.parse("quay.io/org/app:2"), OSError())), (REPORT,)
        ),
        f"2 of 3 merges failed: {SHRUNK}; quay.io/org/app:2: OSError",
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
        SHRUNK,
        (
            f"{REFERENCE} would lose linux/arm64, linux/s390x; "
            "if that is meant, add --drop linux/arm64,linux/s390x, or in a task the setting drop"
        ),
    ),
]


def facts(error: MergeError) -> dict[str, str]:
    """Show the fields; errors among them equal no other."""
    fields = attrs.asdict(error, recurse=False)  # type: ignore[arg-type]  # as above
    return {name: repr(value) for name, value in fields.items()}


@pytest.mark.parametrize(("error", "text"), MESSAGES)
def test_a_message_names_the_reference_and_what_is_wrong(error: MergeError, text: str) -> None:
    assert str(error) == text


@pytest.mark.parametrize("kind", KINDS)
def test_copies_and_pickles_keep_type_fields_and_text(kind: type[MergeError]) -> None:
    error = made(kind, "text")
    pickled = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own pickle

    for copied in (pickled, copy.copy(error), copy.deepcopy(error)):
        assert type(copied) is type(error)
        assert facts(copied) == facts(error)
        assert str(copied) == str(error)
    assert made(kind, "text") != error


def test_an_error_takes_a_cause_and_a_note() -> None:
    """What add_note() does, which exceptions have since 3.11."""
    error, cause = errors.NotFound(REFERENCE, 404), KeyError("digest")

    with pytest.raises(MergeError) as caught:
        raise error from cause
    setattr(error, "__notes__", ["while pulling"])  # noqa: B010  # mypy checks for 3.9 too

    assert (caught.value, caught.value.__cause__) == (error, cause)
    assert str(MergeError("of a plugin\n")) == "of a plugin?"
    assert vars(error)["__notes__"] == ["while pulling"]


def test_errors_of_bad_values_are_value_errors() -> None:
    kinds = {
        kind.__name__.removeprefix("Invalid") for kind in KINDS if issubclass(kind, ValueError)
    }

    assert kinds == {"Reference", "Platform", "Index", "Settings", "Record"}


@pytest.mark.parametrize(
    "error",
    [
        errors.InvalidReference(HOSTILE, "problem"),
        errors.InvalidPlatform(HOSTILE, "problem"),
        errors.InvalidIndex(HOSTILE, "problem"),
        errors.InvalidIndex("place", HOSTILE),
        errors.NotAnIndex(REFERENCE, HOSTILE),
        errors.DigestMismatch(REFERENCE, HOSTILE, "sha256:actual"),
        errors.RegistryError(REFERENCE, 500, HOSTILE),
        errors.CopyFailed("a/b:1", "c/d:1", HOSTILE),
        errors.LockFailed(REFERENCE, HOSTILE),
        errors.LockLost(REFERENCE, HOSTILE),
        errors.InvalidRecord("1.json", HOSTILE),
        errors.RecordFailed("quay.io/ns/app:1", "audit", HOSTILE),
        errors.CannotRestore(REFERENCE, HOSTILE),
    ],
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


@pytest.mark.parametrize(
    ("login", "shown"),
    [
        ("user:secret@", "***@"),
        ("user:a/secret@", "***@"),
        ("user:a@secret@", "***@"),
        ("user:a\nsecret@", "***@"),
        ("https://user:a:/@secret@", "https://***@"),
        ("docker:user:secret@", "***@"),
        ("dir/user:secret@", "dir/***@"),
    ],
)
def test_a_login_that_was_pasted_into_a_reference_is_masked(login: str, shown: str) -> None:
    image = f"quay.io/ns/app:1@{digest('x')}"

    assert f"'{shown}{image}'" in str(errors.InvalidReference(f"{login}{image}", "whatever"))
    assert f"'{image}'" in str(errors.InvalidReference(image, "whatever"))
