"""What a merge must not take away unasked, and what it has to warn of (laws 2 to 4)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pubtools_mlmerge.core.manifests import (
    DOCKER_MANIFESTS,
    Descriptor,
    Index,
    Manifest,
    platforms_of,
)
from pubtools_mlmerge.core.merge import ALL_VERSIONS, NOT_KEPT, any_version, find_waste, fits
from pubtools_mlmerge.core.plan import Entry, Plan, Policy
from pubtools_mlmerge.core.platforms import NO_PLATFORM, Platform, PlatformPattern
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import PatternFitsNothing, ShrinkError


def review(tag: Reference, plan: Plan[Manifest], policy: Policy) -> tuple[str, ...]:
    """Refuse a plan that takes away what nobody named, or named by a slip.

    Returns:
        tuple[str, ...]: What to warn of.

    Raises:
        ShrinkError: When a platform would go that nobody named.
        PatternFitsNothing: When a pattern of `keep` or `drop` must be a slip.
    """
    check_shrink(tag, plan, policy)
    warnings = [*plan.warnings, *_gone(plan), *_waste(plan), *_types(plan)]
    if plan.destination is not None:
        gone = [e.descriptor for e in plan.entries if e.reason == NOT_KEPT]
        warnings += _slips(tag, plan.destination, policy, gone)
    return tuple(f"{tag}: {warning}" for warning in warnings)


def check_shrink(tag: Reference, plan: Plan[Manifest], policy: Policy) -> None:
    """Refuse a result that lacks a platform of the tag, except those named to go (law 4)."""
    if plan.destination is None:
        return
    if isinstance(plan.result, Index):
        listed = plan.result.manifests
    else:  # its platform is known from its entry
        listed = tuple(e.descriptor for e in plan.entries if e.fate not in ("dropped", "excluded"))
    has = frozenset[Platform]().union(*(entry.slots for entry in listed))
    lost = {
        slot.name
        for entry in plan.destination.manifests
        if entry.digest not in plan.too_old
        for slot in entry.slots - has
        if any_version(slot) not in has and not _may_go(entry, slot, policy)
    }
    if lost:
        raise ShrinkError(str(tag), tuple(sorted(lost)))


def _may_go(entry: Descriptor, slot: Platform, policy: Policy) -> bool:
    def is_among(patterns: Iterable[PlatformPattern]) -> bool:
        return any(p.digest == entry.digest or p.matches(slot) for p in patterns)

    return (bool(policy.keep) and not is_among(policy.keep)) or is_among(policy.drop)


def _gone(plan: Plan[Manifest]) -> Iterator[str]:
    """Name the platforms that go."""
    not_kept = _names(e.descriptor for e in plan.entries if e.reason == NOT_KEPT)
    versions = _names(e.descriptor for e in plan.entries if e.reason == ALL_VERSIONS)
    if not_kept:
        yield f"loses {not_kept}, which keep does not name"
    if versions:
        yield f"an entry without os.version replaces {versions}"


def _names(entries: Iterable[Descriptor]) -> str:
    return ", ".join(sorted({slot.name for entry in entries for slot in entry.slots}))


def _waste(plan: Plan[Manifest]) -> Iterator[str]:
    """Name entries that pile up, or serve nobody, and how to remove them."""
    if plan.source is not None:
        kinds = {_kind(entry) for entry in plan.source.manifests if entry.lacks_platform}
        kept = [e for e in plan.entries if e.fate == "kept" and e.descriptor.lacks_platform]
        alike = [e for e in kept if _kind(e.descriptor) in kinds]
        if alike:
            yield (
                f"keeps {_count(alike)} without a platform, of a kind that the source brings as "
                "well; remove them by --drop none, or by a digest"
            )
    if isinstance(plan.result, Index):
        reasons = list(find_waste(plan.result).values())
        for reason in dict.fromkeys(reasons):
            yield (
                f"{reasons.count(reason)} of its entries: {reason}; "
                "remove such entries by pubtools-mlmerge-remove-archs --prune"
            )


def _kind(entry: Descriptor) -> tuple[str, str, bool]:
    return entry.media_type, str(entry.fields.get("artifactType")), entry.platform is None


def _count(entries: Sequence[Entry]) -> str:
    days = sorted(e.age_days for e in entries if e.age_days is not None)
    span = dict.fromkeys((str(days[0]), str(days[-1]))) if days else {}
    ages = f" ({' to '.join(span)} days old)" if days else ""
    return f"{len(entries)} {'entry' if len(entries) == 1 else 'entries'}{ages}"


def _types(plan: Plan[Manifest]) -> Iterator[str]:
    """Name a change of the tag's type, and a mix of both kinds of manifests (law 9)."""
    old, new = plan.destination, plan.result
    if old is None or not isinstance(new, Index) or not plan.changed:
        return
    if new is plan.source and new.media_type != old.media_type:
        yield f"changes from {old.media_type} to {new.media_type}, the type of the source"
    docker = [e for e in new.manifests if e.media_type in DOCKER_MANIFESTS]
    oci = [e for e in new.manifests if e.media_type not in DOCKER_MANIFESTS]
    if docker and oci and any(e.fate == "kept" for e in plan.entries) and plan.taken:
        others = _names(oci) or "without platform"
        both = f"Docker manifests ({_names(docker)}) beside OCI manifests ({others})"
        yield f"lists {both}, which some registries refuse"


def _slips(tag: Reference, old: Index, policy: Policy, gone: Sequence[Descriptor]) -> Iterator[str]:
    """Refuse patterns that must be slips, and name others that fit nothing."""
    keep = _fit_nothing(old, policy.keep)
    # An index without such entries is what --drop none is for.
    drop = _fit_nothing(old, (p for p in policy.drop if p.os != NO_PLATFORM))
    platforms = platforms_of(old)
    nearly = [p for p in keep if any(p.is_nearly(slot) for e in gone for slot in e.slots)]
    none_fits = len(keep) == len(policy.keep) and not policy.serves_many
    for option, patterns, is_slip in (("keep", keep, none_fits), ("drop", drop, False)):
        if not patterns or not platforms:
            continue
        error = PatternFitsNothing(
            str(tag), option, tuple(pattern.text for pattern in patterns), platforms
        )
        if is_slip or policy.strict or (option == "keep" and nearly):
            raise error
        yield error.problem


def _fit_nothing(index: Index, patterns: Iterable[PlatformPattern]) -> list[PlatformPattern]:
    return [p for p in patterns if not any(fits(p, entry) for entry in index.manifests)]
