"""Policy, plan and report: what a merge may decide differently, what it decided, what was done."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Generic, Literal, TypeVar, get_args

from attrs import field, frozen

from pubtools_mlmerge.core.manifests import Descriptor, Index, Manifest
from pubtools_mlmerge.core.platforms import PlatformPattern
from pubtools_mlmerge.core.references import Reference

Fate = Literal["added", "replaced", "same", "kept", "dropped", "excluded"]
FATES: tuple[Fate, ...] = get_args(Fate)
Match = Literal["platform", "architecture"]


def patterns_of(values: Iterable[str | PlatformPattern]) -> tuple[PlatformPattern, ...]:
    """Read what is still text; the rest is taken as it is."""
    if isinstance(values, str):  # one name, not its letters
        values = [values]
    return tuple(
        value if isinstance(value, PlatformPattern) else PlatformPattern.parse(value)
        for value in values
    )


def _optional_patterns(
    values: Iterable[str | PlatformPattern] | None,
) -> tuple[PlatformPattern, ...] | None:
    return None if values is None else patterns_of(values)


@frozen(kw_only=True)
class Policy:
    """What a merge may decide differently.

    Attributes:
        match (str):
            What makes two entries the same: the whole ``platform``, or its ``architecture`` alone.
        eligible (tuple[PlatformPattern, ...] | None):
            What may be taken from the source; none for all of it.
        keep (tuple[PlatformPattern, ...]):
            If there are any, only these platforms of the destination stay.
        drop (tuple[PlatformPattern, ...]):
            Platforms of the destination that do not stay.
        mixed_types (str):
            ``oci`` to list Docker and OCI manifests together in an OCI index, ``fail`` to refuse.
        single_image (str):
            What to do where either side is a single image: ``replace`` the destination by the
            source, ``wrap`` it into an index, or ``fail``.
    """

    match: Match = "platform"
    eligible: tuple[PlatformPattern, ...] | None = field(default=None, converter=_optional_patterns)
    keep: tuple[PlatformPattern, ...] = field(default=(), converter=patterns_of)
    drop: tuple[PlatformPattern, ...] = field(default=(), converter=patterns_of)
    mixed_types: Literal["oci", "fail"] = "oci"
    single_image: Literal["replace", "wrap", "fail"] = "replace"


@frozen
class Age:
    """How old an image is.

    Attributes:
        created (datetime | None):
            When it was made, in UTC; none if that is unknown.
        days (int | None):
            Whole days since then.
        problem (str):
            Why it is unknown.
    """

    created: datetime | None = None
    days: int | None = None
    problem: str = ""


@frozen
class Entry:
    """What becomes of one entry.

    Attributes:
        descriptor (Descriptor):
            The entry.
        fate (str):
            ``added``, ``replaced``, ``same``, ``kept``, ``dropped`` or ``excluded``.
        reason (str):
            Why, in a few words.
        previous_digest (str | None):
            What the destination had in its place before; none if nothing.
        age (Age | None):
            How old its image is; none if that was not asked.
        is_stale (bool):
            Whether it is older than the rule of the merge allows.
    """

    descriptor: Descriptor
    fate: Fate
    reason: str
    previous_digest: str | None = None
    age: Age | None = None
    is_stale: bool = False

    @property
    def age_days(self) -> int | None:
        """Whole days since the image was made; none if that is unknown or was not asked."""
        return None if self.age is None else self.age.days


ResultT_co = TypeVar("ResultT_co", bound=Manifest, covariant=True)


@frozen
class Plan(Generic[ResultT_co]):
    """The outcome of a merge, decided and not yet carried out.

    Attributes:
        result (Index | Image):
            What the destination is to hold; a single image only where one is copied as it is.
        entries (tuple[PlannedEntry, ...]):
            The entries of the result in their order, then those left out.
        changed (bool):
            Whether the result differs from what the destination has.
        missing (tuple[str, ...]):
            Eligible names that the source lacks.
        source (Index | None):
            What was merged; none where platforms are removed or an image is copied.
        destination (Index | None):
            What the destination holds; none if it does not exist.
    """

    result: ResultT_co
    entries: tuple[Entry, ...]
    changed: bool
    missing: tuple[str, ...] = ()
    source: Index | None = None
    destination: Index | None = None

    @property
    def source_digest(self) -> str | None:
        """Digest of what was merged."""
        return None if self.source is None else self.source.digest

    @property
    def previous_digest(self) -> str | None:
        """Digest of what the destination holds; none if it does not exist."""
        return None if self.destination is None else self.destination.digest

    @property
    def taken(self) -> tuple[Descriptor, ...]:
        """The entries of the result that come from the source."""
        return tuple(e.descriptor for e in self.entries if e.fate in ("added", "replaced", "same"))

    @property
    def too_old(self) -> frozenset[str]:
        """The digests of what was dropped for its age."""
        return frozenset(
            e.descriptor.digest for e in self.entries if e.fate == "dropped" and e.is_stale
        )


@frozen(kw_only=True)
class Report:
    """What became of one destination.

    Attributes:
        source (Reference | None):
            Where the new entries came from; none where platforms were removed.
        destination (Reference):
            The tag.
        source_digest (str | None):
            What the source held.
        previous_digest (str | None):
            What the destination held before; none if it did not exist.
        digest (str):
            What the destination holds now, or would hold after a dry run.
        media_type (str):
            Its media type.
        changed (bool):
            Whether that differs from before.
        dry_run (bool):
            Whether nothing was to be written.
        entries (tuple[PlannedEntry, ...]):
            The entries of the result in their order, then those left out.
        missing (tuple[str, ...]):
            Names that were asked for and matched nothing.
        anchor_tag (str | None):
            A second tag on the result; none if there is none.
        attempts (int):
            How often the merge was planned.
        requests (int):
            How many requests it took, those for tokens included.
        seconds (float):
            How long it took.
    """

    source: Reference | None
    destination: Reference
    source_digest: str | None
    previous_digest: str | None
    digest: str
    media_type: str
    changed: bool
    dry_run: bool
    entries: tuple[Entry, ...] = field(converter=tuple[Entry, ...], repr=False)
    missing: tuple[str, ...] = field(default=(), converter=tuple[str, ...])
    anchor_tag: str | None = None
    attempts: int = 1
    requests: int = 0
    seconds: float = 0.0

    @property
    def counts(self) -> dict[Fate, int]:
        """How many entries have a fate, for each fate that there is."""
        fates = [entry.fate for entry in self.entries]
        return {fate: fates.count(fate) for fate in FATES if fate in fates}
