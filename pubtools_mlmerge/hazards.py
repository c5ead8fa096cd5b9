"""What can go wrong around a write: other writers, locks, lost platforms, the way back.

These are errors as those of `pubtools_mlmerge.errors` are, with their facts in fields.
"""

from __future__ import annotations

from attrs import field, frozen

from pubtools_mlmerge.errors import MergeError, brief


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
