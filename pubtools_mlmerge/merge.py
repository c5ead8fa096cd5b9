"""The laws of a merge: which entries the merged index has, in which order, and why.

Everything here is a function from values to values. Both directions are linear in the number of
entries.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence

from pubtools_mlmerge.assembly import assemble, is_unchanged
from pubtools_mlmerge.descriptors import Descriptor
from pubtools_mlmerge.errors import EmptyIndex
from pubtools_mlmerge.index import Index
from pubtools_mlmerge.plan import Match, MergePlan, PlannedEntry, Policy, patterns_of
from pubtools_mlmerge.platforms import PlatformPattern

_NOTHING = Policy()
_NEWER_IMAGE = "the source has another one for this platform"
_NEWER_ATTESTATIONS = "the source has newer attestations"


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
    """
    taken, excluded = _take(source.manifests, policy)
    old = destination.manifests if destination is not None else ()
    sides = _Sides(taken, old, policy.match)
    entries = list(sides.judge_taken())
    kept, dropped = sides.part_old(policy, stale or {})
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
        source,
        destination,
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
    slot = entry.slot
    if slot is None:
        attests = entry.attests
        return ("digest", entry.digest) if attests is None else ("attests", attests)
    if match == "architecture":
        return slot.architecture
    # Plain values are hashed and compared several times as fast as the platform itself.
    return slot.os, slot.architecture, slot.variant, slot.os_version, slot.os_features


def _number(entries: Iterable[Descriptor], match: Match, numbers: dict[Hashable, int]) -> list[int]:
    """Number the slots: numbers are looked up faster than what they stand for."""
    number = numbers.setdefault
    return [number(_key(entry, match), len(numbers)) for entry in entries]


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


class _Sides:
    """What stands in which slot on either side."""

    def __init__(
        self, taken: Sequence[Descriptor], old: Sequence[Descriptor], match: Match
    ) -> None:
        self._taken, self._old = taken, old
        numbers: dict[Hashable, int] = {}
        self._new_slots = _number(taken, match, numbers)
        self._old_slots = _number(old, match, numbers)
        self._covered = set(self._new_slots)
        # Few indexes share many digests, and pairs take longer to make and to look up than texts.
        digests = {entry.digest for entry in taken}
        shared = {(n, e.digest) for n, e in zip(self._old_slots, old) if e.digest in digests}
        self._same = shared and shared.intersection(
            (number, entry.digest) for number, entry in zip(self._new_slots, taken)
        )
        self._left: set[tuple[int, str]] = set()

    def judge_taken(self) -> Iterator[PlannedEntry]:
        """Compare taken entries with what stood in their place; each of those is replaced once."""
        replaceable: dict[int, str] = {}
        others: dict[int, list[str]] = {}  # few indexes list a slot more than once
        told: set[tuple[int, str]] = set()
        # Backwards, so that the first is the first to be replaced.
        for slot, entry in zip(reversed(self._old_slots), reversed(self._old)):
            if slot in self._covered and (slot, entry.digest) not in self._same:
                if slot in replaceable:
                    others.setdefault(slot, []).append(replaceable[slot])
                replaceable[slot] = entry.digest
        for slot, entry in zip(self._new_slots, self._taken):
            if (slot, entry.digest) in self._same:
                yield PlannedEntry(entry, "same", "both have this digest", entry.digest)
            elif slot in replaceable:
                replaced = replaceable.pop(slot)
                if slot in others:
                    told.add((slot, replaced))
                    if others[slot]:
                        replaceable[slot] = others[slot].pop()
                yield PlannedEntry(entry, "replaced", "the source has a newer one", replaced)
            else:
                yield PlannedEntry(entry, "added", "only the source has it")
        self._left.update(replaceable.items())
        self._left.update((slot, digest) for slot, more in others.items() for digest in more)
        self._left -= told

    def part_old(
        self, policy: Policy, stale: Mapping[str, str]
    ) -> tuple[list[PlannedEntry], list[PlannedEntry]]:
        """Part the destination into what stays and what goes, each with its reason."""
        reasons = [
            self._against(slot, entry, policy, stale)
            for slot, entry in zip(self._old_slots, self._old)
        ]
        images = {e.digest for e in self._taken if e.attests is None}
        staying = (entry for entry, reason in zip(self._old, reasons) if reason is None)
        images.update(entry.digest for entry in staying if entry.attests is None)
        kept: list[PlannedEntry] = []
        dropped: list[PlannedEntry] = []
        for slot, entry, against in zip(self._old_slots, self._old, reasons):
            reason = against
            if reason is None and entry.attests is not None and entry.attests not in images:
                reason = "its image is not in the result"
            if reason is None:
                kept.append(
                    PlannedEntry(entry, "kept", "only the destination has it", entry.digest)
                )
            elif slot not in self._covered or (slot, entry.digest) in self._left:
                dropped.append(PlannedEntry(entry, "dropped", reason, entry.digest))
        return kept, dropped

    def _against(
        self, slot: int, entry: Descriptor, policy: Policy, stale: Mapping[str, str]
    ) -> str | None:
        """Say why an entry of the destination does not stay; none if it may."""
        if slot in self._covered:
            return _NEWER_IMAGE if entry.attests is None else _NEWER_ATTESTATIONS
        if entry.slot is not None:
            if policy.keep and not _matches(entry, policy.keep):
                return "not among the platforms to keep"
            if policy.drop and _matches(entry, policy.drop):
                return "dropped by name"
        return stale.get(entry.digest)


def _missing(
    taken: Sequence[Descriptor], eligible: Sequence[PlatformPattern] | None
) -> tuple[str, ...]:
    return tuple(p.text for p in eligible or () if not any(_matches(e, [p]) for e in taken))
