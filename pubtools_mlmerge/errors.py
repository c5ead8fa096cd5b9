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
            f"({', '.join(self.docker)}) and OCI manifests ({', '.join(self.oci)})"
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
