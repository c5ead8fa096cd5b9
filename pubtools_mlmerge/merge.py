"""The laws of a merge: which entries the merged index has, in which order, and why.

Everything here is a function from values to values. Both directions are linear in the number of
entries.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Mapping, Sequence

from pubtools_mlmerge.assembly import assemble, is_unchanged
from pubtools_mlmerge.descriptors import Descriptor
from pubtools_mlmerge.errors import EmptyIndex
from pubtools_mlmerge.index import Index
from pubtools_mlmerge.plan import Match, MergePlan, PlannedEntry, Policy, patterns_of
from pubtools_mlmerge.platforms import PlatformPattern

_Keyed = tuple[Hashable, Descriptor]


_NOTHING = Policy()


def merge(
    source: Index,
    destination: Index | None,
    policy: Policy = _NOTHING,
    stale: Mapping[str, str] | None = None,
) -> MergePlan[Index]:
    """Take the source, and keep what only the destination has.

    Args:
        source (Index):
            The newer index. Its entries come first, in their order.
        destination (Index | None):
            What the destination holds now; none if it does not exist yet.
        policy (Policy):
            What to decide differently.
        stale (Mapping[str, str] | None):
            Digests of what is too old to stay in the destination, with what to say of each.

    Returns:
        MergePlan: Its result is the source itself where nothing of the destination is kept, and
        the destination itself where the merge would change nothing.

    Raises:
        MixedTypes: When the result would mix Docker and OCI manifests and the policy forbids it.
        InvalidIndex: When the result would be larger than registries take.
    """
    taken, excluded = _take(source.manifests, policy)
    old = _keyed(destination.manifests if destination is not None else (), policy.match)
    keyed = _keyed(taken, policy.match)
    before = _Before(old, keyed)
    entries = [before.judge(key, entry) for key, entry in keyed]
    kept, dropped = _keep(old, taken, before, policy, stale or {})
    manifests = [*taken, *(entry.descriptor for entry in kept)]
    result = source
    if kept or excluded:
        result = assemble(source, destination, manifests, policy)
    unchanged = is_unchanged(result, source, destination)
    if unchanged and destination is not None and result is not source:
        result = destination
    return MergePlan(
        result,
        (*entries, *kept, *dropped, *excluded),
        not unchanged,
        _missing(taken, policy.eligible),
        source.digest,
        None if destination is None else destination.digest,
    )


def remove(
    index: Index, patterns: Iterable[str | PlatformPattern], *, allow_empty: bool = False
) -> MergePlan[Index]:
    """Take platforms out of an index, their attestations with them.

    Args:
        index (Index):
            What the reference holds now.
        patterns (Iterable[str | PlatformPattern]):
            The platforms to remove. Entries without a platform stay.
        allow_empty (bool):
            Whether nothing may be left.

    Returns:
        MergePlan: Its result is the index itself where nothing is removed.

    Raises:
        EmptyIndex: When nothing would be left and that is not allowed.
        InvalidPlatform: When a pattern is none.
    """
    chosen = patterns_of(patterns)
    gone = {e.digest for e in index.manifests if _matches(e, chosen)}
    # An image may be listed for two platforms; its attestations go with the last of them.
    gone -= {e.digest for e in index.manifests if e.attests is None and not _matches(e, chosen)}
    kept: list[PlannedEntry] = []
    dropped: list[PlannedEntry] = []
    for entry in index.manifests:
        if _matches(entry, chosen):
            dropped.append(PlannedEntry(entry, "dropped", "removed by name", entry.digest))
        elif entry.attests in gone:
            dropped.append(PlannedEntry(entry, "dropped", "its image is removed", entry.digest))
        else:
            kept.append(PlannedEntry(entry, "kept", "not among those removed", entry.digest))
    if not kept and not allow_empty:
        raise EmptyIndex(tuple(pattern.text for pattern in chosen))
    result = index
    if dropped:
        result = index.with_manifests((e.descriptor for e in kept), index.media_type)
    missing = tuple(p.text for p in chosen if not any(_matches(e, [p]) for e in index.manifests))
    return MergePlan(result, (*kept, *dropped), bool(dropped), missing)


def _matches(entry: Descriptor, patterns: Iterable[PlatformPattern]) -> bool:
    slot = entry.slot
    return slot is not None and any(pattern.matches(slot) for pattern in patterns)


def _key(entry: Descriptor, match: Match) -> Hashable:
    """Tell what an entry stands for: entries of one key replace each other."""
    if entry.attests is not None:
        return "attests", entry.attests
    slot = entry.slot
    if slot is None:
        return "digest", entry.digest
    return slot.architecture if match == "architecture" else slot


def _keyed(entries: Iterable[Descriptor], match: Match) -> list[_Keyed]:
    return [(_key(entry, match), entry) for entry in entries]


def _take(
    entries: Sequence[Descriptor], policy: Policy
) -> tuple[list[Descriptor], list[PlannedEntry]]:
    """Part the source into what is taken and what is not eligible."""
    if policy.eligible is None:
        return list(entries), []
    images = {e.digest for e in entries if _matches(e, policy.eligible)}
    taken: list[Descriptor] = []
    excluded: list[PlannedEntry] = []
    for entry in entries:
        if entry.attests in images or _matches(entry, policy.eligible):
            taken.append(entry)
        else:
            reason = "not eligible" if entry.attests is None else "its image is not eligible"
            excluded.append(PlannedEntry(entry, "excluded", reason))
    return taken, excluded


class _Before:
    """What the destination had in each slot, to tell what a taken entry replaces."""

    def __init__(self, old: Sequence[_Keyed], taken: Sequence[_Keyed]) -> None:
        self.covered: dict[Hashable, set[str]] = {}
        for key, entry in taken:
            self.covered.setdefault(key, set()).add(entry.digest)
        self._had: dict[Hashable, set[str]] = {}
        self._replaceable: dict[Hashable, deque[str]] = {}
        self._replaced: set[tuple[Hashable, str]] = set()
        for key, entry in old:
            self._had.setdefault(key, set()).add(entry.digest)
            if entry.digest not in self.covered.get(key, ()):
                self._replaceable.setdefault(key, deque()).append(entry.digest)

    def judge(self, key: Hashable, entry: Descriptor) -> PlannedEntry:
        """Compare a taken entry with what stood in its place; each old entry is replaced once."""
        if entry.digest in self._had.get(key, ()):
            return PlannedEntry(entry, "same", "both have this digest", entry.digest)
        replaceable = self._replaceable.get(key)
        if not replaceable:
            return PlannedEntry(entry, "added", "only the source has it")
        digest = replaceable.popleft()
        self._replaced.add((key, digest))
        return PlannedEntry(entry, "replaced", "the source has a newer one", digest)

    def is_told(self, key: Hashable, entry: Descriptor) -> bool:
        """Tell whether the fate of a taken entry speaks for this one already."""
        return entry.digest in self.covered.get(key, ()) or (key, entry.digest) in self._replaced


def _keep(
    old: Sequence[_Keyed],
    taken: Sequence[Descriptor],
    before: _Before,
    policy: Policy,
    stale: Mapping[str, str],
) -> tuple[list[PlannedEntry], list[PlannedEntry]]:
    """Part the destination into what stays and what goes, each with its reason."""
    reasons = [
        _against(key, entry, before, policy) or stale.get(entry.digest) for key, entry in old
    ]
    images = {e.digest for e in taken if e.attests is None}
    images.update(
        entry.digest
        for (_, entry), reason in zip(old, reasons)
        if reason is None and entry.attests is None
    )
    kept: list[PlannedEntry] = []
    dropped: list[PlannedEntry] = []
    for (key, entry), against in zip(old, reasons):
        reason = against
        if reason is None and entry.attests is not None and entry.attests not in images:
            reason = "its image is not in the result"
        if reason is None:
            kept.append(PlannedEntry(entry, "kept", "only the destination has it", entry.digest))
        elif not before.is_told(key, entry):
            dropped.append(PlannedEntry(entry, "dropped", reason, entry.digest))
    return kept, dropped


def _against(key: Hashable, entry: Descriptor, before: _Before, policy: Policy) -> str | None:
    """Say why an entry of the destination does not stay; none if it may."""
    if key in before.covered:
        what = "another one for this platform" if entry.attests is None else "newer attestations"
        return f"the source has {what}"
    if entry.slot is None:
        return None
    if policy.keep and not _matches(entry, policy.keep):
        return "not among the platforms to keep"
    return "dropped by name" if _matches(entry, policy.drop) else None


def _missing(
    taken: Sequence[Descriptor], eligible: Sequence[PlatformPattern] | None
) -> tuple[str, ...]:
    return tuple(p.text for p in eligible or () if not any(_matches(e, [p]) for e in taken))
