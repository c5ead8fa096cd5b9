"""What can go wrong in a merge: one class for each thing a caller may handle.

Every error is a `MergeError`. The facts stand in fields, so that a caller need not read the text;
none of them ever holds a secret.
"""

from __future__ import annotations

import re

from attrs import field, frozen

# A user and a password where a URL has them; people paste such things.
_LOGIN = r"(?<![^/])[^/@]*:[^/@]*@(?!sha256:|sha512:)"


def brief(text: str, limit: int = 500) -> str:
    """Fold control characters and cut what a server sent to a length fit for one line."""
    folded = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return folded if len(folded) <= limit else folded[:limit].rstrip() + " …"


# Errors keep a plain __dict__ so that they can inherit from ValueError, too, and the representation
# that exceptions have anyway, as each generated method costs start-up time.
class MergeError(Exception):
    """Base of all errors of this package."""

    def __reduce__(self) -> tuple[type[MergeError], tuple[object, ...]]:
        """Pickle by the fields: a frozen instance takes no attribute afterwards."""
        return type(self), self.args


@frozen(slots=False, repr=False)
class InvalidReference(MergeError, ValueError):
    """A text is no image reference (distribution-spec, "Pulling manifests")."""

    text: str
    problem: str

    def __str__(self) -> str:
        """Name the text and what is wrong with it."""
        text = re.sub(_LOGIN, "***@", self.text)
        return f"{brief(text, 200)!r} is no valid image reference: {self.problem}"


@frozen(slots=False, repr=False)
class InvalidPlatform(MergeError, ValueError):
    """A text is no platform, or no pattern of one (image-spec, "Image Index")."""

    text: str
    problem: str

    def __str__(self) -> str:
        """Name the text and what is wrong with it."""
        return f"{brief(self.text, 200)!r} is no valid platform: {self.problem}"


@frozen(slots=False, repr=False)
class InvalidIndex(MergeError, ValueError):
    """A document breaks a rule of the image index or manifest list (image-spec, "Image Index")."""

    path: str
    problem: str
    reference: str = ""

    def __str__(self) -> str:
        """Name the reference, the place in the document and what was expected there."""
        place = brief(self.path, 200) or "document"
        found = f"{place}: {brief(self.problem)}"
        return f"{self.reference}: {found}" if self.reference else found


@frozen(slots=False, repr=False)
class NotAnIndex(MergeError):
    """The reference holds something else than a manifest list or an OCI index."""

    reference: str
    media_type: str

    def __str__(self) -> str:
        """Name the reference and what it holds."""
        return (
            f"{self.reference} holds {brief(self.media_type, 120) or 'an unknown type'}, "
            "expected an image index or manifest list"
        )


@frozen(slots=False, repr=False)
class MixedTypes(MergeError):
    """The merged index would list Docker and OCI manifests together, and that was ruled out."""

    docker: tuple[str, ...]
    oci: tuple[str, ...]

    def __str__(self) -> str:
        """Name the entries of either kind."""
        return (
            "the merged index would mix Docker manifests "
            f"({', '.join(self.docker)}) and OCI manifests ({', '.join(self.oci)}); "
            "mixed_types=oci allows that"
        )


@frozen(slots=False, repr=False)
class EmptyIndex(MergeError):
    """Nothing would be left in the index."""

    removed: tuple[str, ...]

    def __str__(self) -> str:
        """Name what would go."""
        return f"removing {', '.join(self.removed) or 'these entries'} would leave an empty index"


@frozen(slots=False, repr=False)
class NothingEligible(MergeError):
    """Of the source nothing may be taken, and the destination does not exist: nothing is left."""

    reference: str
    missing: tuple[str, ...]

    def __str__(self) -> str:
        """Name the source and what it lacks."""
        return f"{self.reference} has none of {', '.join(self.missing)}, and there is nothing else"


@frozen(slots=False, repr=False)
class DigestMismatch(MergeError):
    """Content does not hash to the digest it was announced or asked for with."""

    reference: str
    expected: str
    actual: str

    def __str__(self) -> str:
        """Name both digests."""
        return (
            f"{self.reference}: content has digest {self.actual}, "
            f"expected {brief(self.expected, 160)}"
        )


@frozen(slots=False, repr=False)
class RegistryError(MergeError):
    """A registry refused a request or could not be asked."""

    reference: str
    status: int | None = None
    """HTTP status code, or none where no answer came."""
    message: str = field(default="", converter=brief)
    """The registry's own words, cut to one line."""

    def _what(self) -> str:
        return "the registry could not be asked" if self.status is None else "the registry failed"

    def __str__(self) -> str:
        """Name the reference, what happened, the status and the registry's words."""
        status = "" if self.status is None else f" (HTTP {self.status})"
        words = f": {self.message}" if self.message else ""
        return f"{self.reference}: {self._what()}{status}{words}"


class NotFound(RegistryError):
    """The tag, manifest or repository does not exist."""

    def _what(self) -> str:
        return "not found"


@frozen(slots=False, repr=False)
class Unauthorized(RegistryError):
    """No valid login, or, on many registries, a repository that is hidden or absent (401)."""

    logged_in: bool = False
    """Whether the login was accepted: then the repository is hidden or absent."""

    def _what(self) -> str:
        return "not authorized"


class Forbidden(RegistryError):
    """The login is valid and lacks the right (403, or DENIED)."""

    def _what(self) -> str:
        return "forbidden"


class ImmutableTag(RegistryError):
    """The registry does not let this tag be moved."""

    def _what(self) -> str:
        return "the tag is immutable"


@frozen(slots=False, repr=False)
class MissingChild(RegistryError):
    """A manifest or blob that the document names is not in the repository."""

    digests: tuple[str, ...] = ()
    """What is missing, as far as the registry says."""

    def _what(self) -> str:
        missing = ", ".join(self.digests) or "a manifest that it lists"
        return f"the repository lacks {missing}"


@frozen(slots=False, repr=False)
class CopyFailed(MergeError):
    """A child could not be brought into the destination repository."""

    source: str
    destination: str
    problem: str = field(converter=brief)

    def __str__(self) -> str:
        """Name both ends and the reason."""
        return f"cannot copy {self.source} to {self.destination}: {self.problem}"


@frozen(slots=False, repr=False)
class InvalidCredentials(MergeError):
    """Credentials are kept in a way that cannot be read."""

    place: str
    problem: str

    def __str__(self) -> str:
        """Name where they are kept and what is wrong; never what they are."""
        return f"credentials in {self.place}: {self.problem}"


@frozen(slots=False, repr=False)
class InvalidSettings(MergeError, ValueError):
    """Settings are not what they should be."""

    problems: tuple[str, ...]

    def __str__(self) -> str:
        """Name all problems."""
        return f"invalid settings: {'; '.join(self.problems)}"


@frozen(slots=False, repr=False)
class HostMismatch(MergeError):
    """The installed pubtools-quay is not as it must be to merge inside its tasks."""

    problems: tuple[str, ...]

    def __str__(self) -> str:
        """Name all problems."""
        return f"cannot merge inside this pubtools-quay: {'; '.join(self.problems)}"


@frozen(slots=False, repr=False)
class CannotMergeHere(MergeError):
    """A task that asks for merging was started in a way in which the step cannot act."""

    problem: str
    start_instead: str

    def __str__(self) -> str:
        """Say what to start instead."""
        return f"{self.problem}; start the task by {self.start_instead}"


@frozen(slots=False, repr=False)
class StepNotDone(MergeError):
    """A task ended without doing for some tags what it was asked for."""

    problem: str
    tags: tuple[str, ...]

    def __str__(self) -> str:
        """Name the tags."""
        return f"{self.problem}: {', '.join(self.tags)}"


@frozen(slots=False, repr=False)
class ConflictError(MergeError):
    """The tag did not hold what it should, before or after it was written, each time it was tried.

    Either somebody else writes it, or the registry does not serve what it was given.
    """

    reference: str
    expected: str | None
    """Digest that the tag should have held; none for nothing."""
    found: str | None
    """Digest that it held; none for nothing."""
    tries: int

    def __str__(self) -> str:
        """Name the tag and both digests."""
        tries = "1 try" if self.tries == 1 else f"{self.tries} tries"
        cause = "somebody else writes this tag" if self.found else "the registry does not show it"
        return (
            f"{self.reference}: {cause}, given up after {tries}: "
            f"it holds {self.found or 'nothing'}, expected {self.expected or 'nothing'}"
        )


@frozen(slots=False, repr=False)
class ShrinkError(MergeError):
    """The tag would hold fewer platforms than before, and nobody asked for that."""

    reference: str
    lost: tuple[str, ...]
    """The platforms that would go."""

    def __str__(self) -> str:
        """Name the tag and the platforms."""
        return (
            f"{self.reference} would lose {', '.join(self.lost)}; name what is to go in drop, "
            "or wrap a single image"
        )


@frozen(slots=False, repr=False)
class LockFailed(MergeError):
    """The lock of a tag cannot be had."""

    reference: str
    problem: str = field(converter=brief)

    def __str__(self) -> str:
        """Name the tag and the reason."""
        return f"{self.reference}: cannot lock this tag: {self.problem}"


@frozen(slots=False, repr=False)
class LockLost(MergeError):
    """The lock of a tag was lost while it was held, so the tag was not written."""

    reference: str
    problem: str = field(converter=brief)

    def __str__(self) -> str:
        """Name the tag and the reason."""
        return (
            f"{self.reference}: the lock of this tag was lost, so it is left alone: {self.problem}"
        )


@frozen(slots=False, repr=False)
class InvalidRecord(MergeError, ValueError):
    """A file is no record of a change."""

    file: str
    problem: str = field(converter=brief)

    def __str__(self) -> str:
        """Name the file and what is wrong with it."""
        return f"{self.file}: no record of a change: {self.problem}"


@frozen(slots=False, repr=False)
class RecordFailed(MergeError):
    """A change could not be recorded, so it was not made."""

    place: str
    problem: str = field(converter=brief)

    def __str__(self) -> str:
        """Name the place and the reason."""
        return f"cannot record the change in {self.place}, so it was not made: {self.problem}"


@frozen(slots=False, repr=False)
class CannotRestore(MergeError):
    """A tag cannot be put back to what a record says."""

    reference: str
    problem: str = field(converter=brief)

    def __str__(self) -> str:
        """Name the tag and the reason."""
        return f"{self.reference}: not put back: {self.problem}"
