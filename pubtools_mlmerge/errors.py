"""Errors: one class for each failure that a caller may handle.

Every error is a `MergeError`. Its facts are in fields, so that a caller need not read the text. No
error holds a secret. What is shown of texts from outside, here or elsewhere, is made harmless here.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from attrs import field, fields, frozen, has

if TYPE_CHECKING:
    from pubtools_mlmerge.core.plan import Report
    from pubtools_mlmerge.core.references import Reference

# A user and a password, as in a URL that somebody pasted: at the start, where the password may have
# any character, or after a slash.
_FIRST_LOGIN = r"(?s)^(\w+://)?[^/@:]*:.*@(?!sha256:|sha512:)"
_LOGIN = r"(?<![^/])[^/@:]*:[^/@]*@(?!sha256:|sha512:)"
# The start of a workflow command: `::` at the start of a line for GitHub, `##vso[` and `##[`
# anywhere in a line for Azure. Our own colours may come before.
_COMMAND = re.compile(r"^(?:\s|\x1b\[[\d;]*m)*:(?=:)|#(?=#\w*\[)")


def one_line(text: str) -> str:
    """Make a text from outside harmless to terminals, logs, workflow runners and web pages.

    What is not printable becomes a question mark: control characters, line
    separators, bidirectional marks, lone surrogates.
    """
    if not text.isprintable():
        text = "".join(c if c.isprintable() else "?" for c in text)
    return without_commands(text)


def without_commands(line: str) -> str:
    """Put a space into text that a workflow runner would take for a command."""
    return _COMMAND.sub(r"\g<0> ", line)


def harmless(text: str) -> str:
    """Make each line of a text harmless."""
    return "\n".join(map(one_line, text.split("\n")))


def brief(text: str, limit: int = 500) -> str:
    """Put a text from outside on one line of at most `limit` characters."""
    folded = one_line(" ".join(text.split()))
    return folded if len(folded) <= limit else folded[:limit].rstrip() + " …"


def _clean(value: object) -> object:
    if isinstance(value, Mapping):
        return {_clean(name): _clean(member) for name, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(member) for member in value]
    return value if value is None or isinstance(value, (int, float)) else one_line(str(value))


def _clean_record(record: logging.LogRecord) -> bool:
    """Make what a record shows harmless; only the message as the code has it may have lines."""
    if record.args and isinstance(record.args, tuple):
        record.msg, record.args = record.msg % tuple(map(_clean, record.args)), ()
    record.msg = harmless(str(record.msg))
    if hasattr(record, "event"):
        record.event = _clean(record.event)
    return True


# Every module that logs imports this one, so no record reaches a handler unfiltered.
logging.getLogger("pubtools.mlmerge").addFilter(_clean_record)
# A program that has not set up logging gets no lines of ours on its standard error.
logging.getLogger("pubtools.mlmerge").addHandler(logging.NullHandler())


class MergeError(Exception):
    """Base of all errors of this package."""

    _text: ClassVar[str] = ""  # with fields in braces
    _advice: ClassVar[str] = ""  # what to do next, where the facts do not say it
    _between: ClassVar[str] = ", "  # the items of a list
    _none: ClassVar[str] = ""  # in place of an empty list

    def __str__(self) -> str:
        return one_line(f"{self._says()}; {self._advice}" if self._advice else self._says())

    def _says(self) -> str:
        """Fill in the text, which begins with the reference if that is known."""
        return self._text.format(**self._facts()).removeprefix(": ") or super().__str__()

    def _facts(self) -> dict[str, object]:
        kind = type(self)
        facts = {each.name: getattr(self, each.name) for each in fields(kind)} if has(kind) else {}
        for name, fact in facts.items():
            if isinstance(fact, tuple):
                facts[name] = self._between.join(fact) or self._none
        return facts

    def __reduce__(self) -> tuple[type[MergeError], tuple[object, ...]]:
        return type(self), self.args


@frozen
class InvalidReference(MergeError, ValueError):
    """A text is not an image reference (distribution-spec, "Pulling manifests")."""

    text: str
    problem: str

    def _says(self) -> str:
        text = re.sub(_LOGIN, "***@", re.sub(_FIRST_LOGIN, r"\1***@", self.text))
        return f"invalid reference {brief(text, 200)!r}: {self.problem}"


@frozen
class InvalidPlatform(MergeError, ValueError):
    """A text is not a platform, or not a pattern of platforms (image-spec, "Image Index")."""

    text: str
    problem: str

    def _says(self) -> str:
        return f"invalid platform {brief(self.text, 200)!r}: {self.problem}"


@frozen
class InvalidIndex(MergeError, ValueError):
    """A document breaks a rule of the image index or manifest list (image-spec, "Image Index")."""

    _text = "{reference}: {place}: {problem}{advice}"

    path: str
    problem: str
    reference: str = ""

    def _facts(self) -> dict[str, object]:
        advice = "; build and push the image again" if self.reference else ""
        facts = {"place": brief(self.path, 200) or "document", "problem": brief(self.problem)}
        return {"reference": self.reference, "advice": advice, **facts}


@frozen
class NotAnIndex(MergeError):
    """The reference holds something other than a manifest list or an OCI index."""

    _advice = "name a multi-arch image"

    reference: str
    media_type: str

    def _says(self) -> str:
        held = brief(self.media_type, 120) or "an unknown type"
        return f"{self.reference} holds {held}, expected an image index or manifest list"


@frozen
class MixedTypes(MergeError):
    """The merged index would list Docker and OCI manifests together, which is not allowed here."""

    _text = (
        "{reference}: the merged index would mix Docker manifests ({docker}) and OCI manifests "
        "({oci})"
    )
    _advice = "build both in one format, or allow it (--mixed-types oci, setting mixed_types)"

    docker: tuple[str, ...]
    oci: tuple[str, ...]
    reference: str = ""


@frozen
class SourcesDiffer(MergeError):
    """Two sources have different images for one platform, which is not allowed here."""

    _text = "an earlier source has a different image for {images}"
    _advice = "list each platform in one source only, or omit --strict to take the first"

    images: tuple[str, ...]
    """Platform and reference of each that is not the first one."""


@frozen
class NestedIndex(MergeError):
    """A pattern fits a nested index only in part, and a nested index is never taken apart."""

    _text = (
        "{reference}: nested index {digest} cannot be split: the patterns match {fits}, not {rest}"
    )
    _advice = "name all, or none"

    digest: str
    fits: tuple[str, ...]
    rest: tuple[str, ...]
    reference: str = ""


@frozen
class EmptyIndex(MergeError):
    """Nothing would be left in the index."""

    _text = "{reference}: removing {removed} would leave an empty index"
    _advice = "add --allow-empty if that is meant"
    _none = "these entries"

    removed: tuple[str, ...]
    reference: str = ""


@frozen
class NothingEligible(MergeError):
    """The source has no eligible entry, and the destination has nothing to keep."""

    _text = "{reference} has none of {missing}, and the destination has nothing to keep"
    _advice = "name architectures that the source has"

    reference: str
    missing: tuple[str, ...]


@frozen
class DigestMismatch(MergeError):
    """Content has another digest than the one that was requested or announced."""

    _text = "{reference}: content has digest {actual}, expected {expected}"
    _advice = "run it again; if it persists, a proxy may alter content"

    reference: str
    expected: str = field(converter=brief)
    actual: str


@frozen
class RegistryError(MergeError):
    """A registry refused a request or could not be reached."""

    _text = "{reference}: the request failed{answer}"
    _advice = "fix that, or run it again later"

    reference: str
    status: int | None = None
    """HTTP status code, or none where no answer came."""
    message: str = field(default="", converter=brief)
    """The registry's own words, cut to one line."""

    def _facts(self) -> dict[str, object]:
        status = "" if self.status is None else f" (HTTP {self.status})"
        words = f": {self.message}" if self.message else ""
        return {**super()._facts(), "answer": status + words}


class NotFound(RegistryError):
    """The tag, manifest or repository does not exist."""

    _text = "{reference}: not found{answer}"
    _advice = "check the name and the permissions of the login"


@frozen
class Unauthorized(RegistryError):
    """There is no valid login, or the registry hides that the repository is private or absent."""

    _text = "{reference}: not authorized{answer}"
    _advice = "check the name and the login"

    logged_in: bool = False
    """Whether the login was accepted: then the repository is hidden or absent."""


class Forbidden(RegistryError):
    """The login is valid but has no permission (403, or DENIED)."""

    _text = "{reference}: forbidden{answer}"
    _advice = "use a login with this permission"


class ImmutableTag(RegistryError):
    """The registry does not allow this tag to move."""

    _text = "{reference}: the tag is immutable{answer}"
    _advice = "use another tag, or change the rule in the registry"


@frozen
class AnchorTaken(MergeError):
    """The anchor tag exists, and holds something else."""

    _text = "{reference}: the anchor tag exists and holds {digest}"
    _advice = "choose another name, such as {tag}-{timestamp}"

    reference: str
    digest: str


@frozen
class MissingChild(RegistryError):
    """The repository lacks a manifest or blob that the manifest lists."""

    _text = "{reference}: the repository lacks {digests}{answer}"
    _advice = "push the images, or allow copying (--copy auto, setting copy)"
    _none = "a manifest that it lists"

    digests: tuple[str, ...] = ()
    """What is missing, as far as the registry says."""


@frozen
class CopyFailed(MergeError):
    """A manifest could not be copied into the destination repository."""

    _text = "cannot copy {source} to {destination}: {problem}"
    _advice = "fix that, and run it again"

    source: str
    destination: str
    problem: str = field(converter=brief)


@frozen
class InvalidCredentials(MergeError):
    """Stored credentials cannot be read."""

    _text = "credentials in {place}: {problem}"
    _advice = "correct it, or give a user and password"

    place: str
    problem: str


@frozen
class InvalidSettings(MergeError, ValueError):
    """Settings are unknown or malformed."""

    _text = "invalid settings: {problems}"
    _between = "; "

    problems: tuple[str, ...]


@frozen
class HostMismatch(MergeError):
    """The installed pubtools-quay differs from those that tasks can merge in."""

    _text = "cannot merge inside this pubtools-quay: {problems}"
    _advice = "install a tested version, or disable the step"
    _between = "; "

    problems: tuple[str, ...]


@frozen
class CannotMergeHere(MergeError):
    """A task that enables merging was started in a way that keeps the step from acting."""

    _text = "{problem}; start the task by {start_instead}"

    problem: str
    start_instead: str


@frozen
class StepNotDone(MergeError):
    """A task ended without merging or signing some of its tags."""

    _text = "{problem}: {tags}"

    problem: str
    tags: tuple[str, ...]


@frozen
class PushFailed(MergeError):
    """A push failed after it had merged some tags; the error that failed it is the cause."""

    _text = "{problem}; merged before that: {merged}"
    _between = "; "

    problem: str
    merged: tuple[str, ...]
    """Each merged tag, what it held before, and a command that puts it back."""


@frozen
class MergesFailed(MergeError):
    """Some of several merges failed; the reports are those of the others."""

    failures: tuple[tuple[Reference, Exception], ...]
    reports: tuple[Report, ...] = ()

    def _says(self) -> str:
        texts = ((tag, brief(str(error) or type(error).__name__)) for tag, error in self.failures)
        parts = [text if str(tag) in text else f"{tag}: {text}" for tag, text in texts]
        total = len(parts) + len(self.reports)
        return f"{len(parts)} of {total} merges failed: {'; '.join(parts)}"


@frozen
class ConflictError(MergeError):
    """The tag did not hold the expected digest, before or after the write, in any of the tries.

    Either another program writes it, or the registry does not serve what was written.
    """

    reference: str
    expected: str | None
    """Digest that the tag should have held; none for an absent tag."""
    found: str | None
    """Digest that it held; none for an absent tag."""
    tries: int
    ignored: bool = False
    """Whether the registry accepted two writes and the tag still holds what it held before."""

    def _says(self) -> str:
        if not self.found:
            cause = "the tag cannot be read back"
            advice = "see whether this login may read it, and whether the registry ignores writes"
        elif self.ignored:
            cause = "the registry accepts writes and ignores them, as a proxy cache or mirror does"
            advice = "write to the registry behind it"
        else:
            cause = "another program writes this tag"
            advice = "run it again, with a lock for all writers"
        tries = "1 try" if self.tries == 1 else f"{self.tries} tries"
        holds = f"it holds {self.found or 'nothing'}, expected {self.expected or 'nothing'}"
        return f"{self.reference}: {cause}, gave up after {tries}: {holds}; {advice}"


@frozen
class OutOfTime(MergeError):
    """The run took longer than its time limit (``--timeout``)."""

    _text = (
        "{reference}: not done within {seconds:g} seconds; each tag holds its old content or the "
        "whole result"
    )
    _advice = "run it again, or raise --timeout"

    reference: str
    seconds: float


@frozen
class ShrinkError(MergeError):
    """The tag would lose platforms that nobody named."""

    reference: str
    lost: tuple[str, ...]
    """The platforms that would go."""

    def _says(self) -> str:
        option = f"add --drop {','.join(self.lost)}, or in a task the setting drop"
        return f"{self.reference} would lose {', '.join(self.lost)}; if that is meant, {option}"


@frozen
class PatternFitsNothing(MergeError):
    """A pattern of what to keep, drop or remove fits nothing in the tag, and may be a slip."""

    _advice = "correct the name, or omit it"

    reference: str
    option: str
    patterns: tuple[str, ...]
    platforms: tuple[str, ...]
    """Those of the tag."""

    @property
    def problem(self) -> str:
        """What is wrong, without the reference."""
        named = f"{self.option} {', '.join(self.patterns)}"
        return f"{named} matches none of its platforms ({', '.join(self.platforms)})"

    def _says(self) -> str:
        return f"{self.reference}: {self.problem}"


@frozen
class StaleImages(MergeError):
    """Images that the tag would keep are older than allowed."""

    _text = "{reference} would keep images that are too old: {images}"
    _advice = "rebuild them, or choose stale=warn or stale=drop"
    _between = "; "

    reference: str
    images: tuple[str, ...]
    """Platform, digest and age of each."""


@frozen
class LockFailed(MergeError):
    """The lock of a tag cannot be acquired."""

    _text = "{reference}: cannot lock this tag: {problem}"
    _advice = "run it again once the lock is available"

    reference: str
    problem: str = field(converter=brief)


@frozen
class LockLost(MergeError):
    """The lock of a tag was lost while it was held, so the tag was not written."""

    _text = "{reference}: the lock of this tag was lost, so it was not written: {problem}"
    _advice = "run it again"

    reference: str
    problem: str = field(converter=brief)


@frozen
class InvalidRecord(MergeError, ValueError):
    """A file is not a record of a change."""

    _text = "{file}: not a record of a change: {problem}"
    _advice = "name a record that --audit wrote"

    file: str
    problem: str = field(converter=brief)


@frozen
class RecordFailed(MergeError):
    """The change of a tag could not be recorded, so it was not made."""

    _text = "{reference}: not written, as the change cannot be recorded in {place}: {problem}"
    _advice = "fix that, and run it again"

    reference: str
    place: str
    problem: str = field(converter=brief)


@frozen
class CannotRestore(MergeError):
    """A tag cannot be restored to what a record says."""

    _text = "{reference}: not restored: {problem}"

    reference: str
    problem: str = field(converter=brief)
