"""Policy, Plan and Report: the options of a merge, its decision, and the result."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Generic, Literal, TypeVar, get_args

from attrs import field, frozen
from attrs.converters import optional

from pubtools_mlmerge.core.manifests import Descriptor, Index, Manifest
from pubtools_mlmerge.core.platforms import PlatformPattern
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import MergeError

Fate = Literal["added", "replaced", "same", "kept", "dropped", "excluded"]
FATES: tuple[Fate, ...] = get_args(Fate)
Match = Literal["platform", "architecture"]
SingleImage = Literal["wrap", "index", "replace", "fail"]
Stale = Literal["warn", "drop", "fail"]
MOST_DAYS = 36500


def patterns_of(
    values: Iterable[str | PlatformPattern],
    parse: Callable[[str], PlatformPattern] = PlatformPattern.parse,
) -> tuple[PlatformPattern, ...]:
    """Parse patterns that are still text."""
    if isinstance(values, str):  # one pattern, not one for each letter
        values = [values]
    return tuple(value if isinstance(value, PlatformPattern) else parse(value) for value in values)


def named_patterns(values: Iterable[str | PlatformPattern]) -> tuple[PlatformPattern, ...]:
    """Parse patterns of what to keep, drop or remove."""
    return patterns_of(values, PlatformPattern.named)


@frozen(kw_only=True)
class Policy:
    """How a merge decides where it has a choice.

    Attributes:
        match (str): Which entries replace each other: those of the same ``platform``, or of the
            same ``architecture``.
        eligible (tuple[PlatformPattern, ...] | None): Platforms to take from the source; none for
            all.
        keep (tuple[PlatformPattern, ...]): Platforms of the destination to keep, and no others;
            empty for all.
        drop (tuple[PlatformPattern, ...]): Platforms of the destination not to keep; ``none`` for
            entries without a platform.
        mixed_types (str): ``oci`` to list Docker and OCI manifests together in an OCI index,
            ``fail`` to refuse.
        single_image (str): How to merge a single image on either side: ``wrap`` merges it as an
            index of one entry, ``index`` as well and never results in the image alone, ``replace``
            replaces the destination by the source, ``fail`` refuses.
        strict (bool): Whether a pattern of `keep` or `drop` that fits nothing is an error.
        annotations (dict[str, str]): Annotations to add to the resulting index itself, which makes
            it an OCI index.
        serves_many (bool): Whether `keep` is meant for many tags, so that it may fit nothing in
            one of them.
    """

    match: Match = "platform"
    eligible: tuple[PlatformPattern, ...] | None = field(
        default=None, converter=optional(patterns_of)
    )
    keep: tuple[PlatformPattern, ...] = field(default=(), converter=named_patterns)
    drop: tuple[PlatformPattern, ...] = field(default=(), converter=named_patterns)
    mixed_types: Literal["oci", "fail"] = "oci"
    single_image: SingleImage = "wrap"
    strict: bool = False
    serves_many: bool = False
    annotations: Mapping[str, str] = field(factory=dict, hash=False)


@frozen(kw_only=True)
class AgeRule:
    """How old kept images may be.

    Attributes:
        max_age_days (int | None): The limit in days; none for no limit.
        stale (str): What to do with older images: ``warn`` keeps them with a warning, ``drop``
            drops them, ``fail`` refuses to merge. An image of unknown age is kept.
        shown (bool): Whether to read and report ages even without a limit.
    """

    max_age_days: int | None = None
    stale: Stale = "warn"
    shown: bool = False

    @property
    def needs_ages(self) -> bool:
        """Whether ages have to be read at all."""
        return self.shown or self.max_age_days is not None


@frozen
class Age:
    """How old an image is.

    Attributes:
        created (datetime | None): When it was built, in UTC; none if unknown.
        days (int | None): Whole days since then; none if unknown.
        problem (str): Why the age is unknown.
    """

    created: datetime | None = None
    days: int | None = None
    problem: str = ""


@frozen
class Entry:
    """What happens to one entry of the source or the destination.

    Attributes:
        descriptor (Descriptor): The entry itself.
        fate (str): ``added``, ``replaced``, ``same``, ``kept``, ``dropped`` or ``excluded``.
        reason (str): Why, in a few words.
        previous_digest (str | None): Digest that the destination had in its place; none for a new
            entry.
        age (Age | None): How old the image is; none if ages were not read.
        is_stale (bool): Whether it is older than the rule for ages allows.
    """

    descriptor: Descriptor
    fate: Fate
    reason: str
    previous_digest: str | None = None
    age: Age | None = None
    is_stale: bool = False

    @property
    def age_days(self) -> int | None:
        """Whole days since the image was built; none if unknown or not read."""
        return None if self.age is None else self.age.days


ResultT_co = TypeVar("ResultT_co", bound=Manifest, covariant=True)


@frozen
class Plan(Generic[ResultT_co]):
    """What a merge decided, before anything is written.

    Attributes:
        result (Index | Image): The new content of the destination.
        entries (tuple[Entry, ...]): The entries of the result, source first, then those left out.
        changed (bool): Whether the result differs from what the destination holds.
        missing (tuple[str, ...]): Names of eligible platforms that the source lacks, or of
            platforms to remove that the index lacks.
        source (Index | None): The index that was merged; none where platforms are removed or an
            image is copied.
        destination (Index | None): The index that was merged into; none if there was none.
        warnings (tuple[str, ...]): Warnings about the result.
    """

    result: ResultT_co
    entries: tuple[Entry, ...]
    changed: bool
    missing: tuple[str, ...] = ()
    source: Index | None = None
    destination: Index | None = None
    warnings: tuple[str, ...] = ()

    @property
    def previous_digest(self) -> str | None:
        """Digest of the destination; none if there was none."""
        return None if self.destination is None else self.destination.digest

    @property
    def taken(self) -> tuple[Descriptor, ...]:
        """The entries of the result that come from the source."""
        return tuple(e.descriptor for e in self.entries if e.fate in ("added", "replaced", "same"))

    @property
    def too_old(self) -> frozenset[str]:
        """Digests of the entries that were dropped for their age."""
        return frozenset(
            e.descriptor.digest for e in self.entries if e.fate == "dropped" and e.is_stale
        )


@frozen(kw_only=True)
class Report:
    """What was done to one destination.

    Attributes:
        source (Reference | None): Where new entries came from, the first place if there were
            several; none where platforms were removed.
        destination (Reference): The tag.
        source_digest (str | None): Digest of the source; none where there was none.
        previous_digest (str | None): Digest that the destination held before; none if it did not
            exist.
        digest (str): Digest that the destination holds now, or would hold without the dry run.
        media_type (str): Media type of that.
        changed (bool): Whether the digest differs from before.
        dry_run (bool): Whether writing was disabled.
        entries (tuple[Entry, ...]): The entries of the result, source first, then those left out.
        missing (tuple[str, ...]): Requested names that matched nothing.
        anchor_tag (str | None): A second tag on the result, if any.
        anchor_is_new (bool): Whether that tag was written, and did not hold the result before.
        attempts (int): How often the merge was planned.
        seconds (float): How long it took.
        is_hidden (bool): Whether the registry refused to show the destination, which was taken as
            absent.
        error (MergeError | None): Why the anchor tag could not be set; none if nothing failed.
        sources (tuple[Reference, ...]): All places where new entries came from.
        manifest (Index | Image | None): The manifest that the destination holds now, or would.
    """

    source: Reference | None
    destination: Reference
    source_digest: str | None
    previous_digest: str | None
    digest: str
    media_type: str
    changed: bool
    dry_run: bool
    entries: tuple[Entry, ...] = field(converter=tuple[Entry, ...])
    missing: tuple[str, ...] = field(default=(), converter=tuple[str, ...])
    anchor_tag: str | None = None
    anchor_is_new: bool = False
    attempts: int = 1
    seconds: float = 0.0
    is_hidden: bool = False
    error: MergeError | None = None
    sources: tuple[Reference, ...] = field(converter=tuple[Reference, ...])
    manifest: Manifest | None = field(default=None, repr=False, eq=False)

    @sources.default
    def _only_source(self) -> tuple[Reference, ...]:
        return () if self.source is None else (self.source,)

    @classmethod
    def of(
        cls,
        plan: Plan[Manifest],
        source: Reference | None,
        destination: Reference,
        *,
        dry_run: bool = False,
        seconds: float = 0.0,
    ) -> Report:
        """Report a plan that was carried out as it is, at the first attempt."""
        return cls(
            source=source,
            destination=destination,
            source_digest=None if plan.source is None else plan.source.digest,
            previous_digest=plan.previous_digest,
            digest=plan.result.digest,
            media_type=plan.result.media_type,
            changed=plan.changed,
            dry_run=dry_run,
            entries=plan.entries,
            missing=plan.missing,
            seconds=seconds,
            manifest=plan.result,
        )

    @property
    def destination_state(self) -> Literal["absent", "hidden", "present"]:
        """What was seen of the destination before."""
        if self.previous_digest is not None:
            return "present"
        return "hidden" if self.is_hidden else "absent"

    @property
    def counts(self) -> dict[Fate, int]:
        """The number of entries of each fate that occurs."""
        fates = [entry.fate for entry in self.entries]
        return {fate: fates.count(fate) for fate in FATES if fate in fates}
