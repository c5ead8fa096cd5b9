"""The laws of a merge: which entries the merged index has, in which order, and why.

Everything here is a function from values to values. Both directions are linear in the number of
entries.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence

from attrs import evolve

from pubtools_mlmerge.core.manifests import (
    DOCKER_LIST,
    DOCKER_MANIFESTS,
    OCI_INDEX,
    Descriptor,
    Image,
    Index,
    Manifest,
)
from pubtools_mlmerge.core.plan import AnyPlan, Entry, Match, Plan, Policy, patterns_of
from pubtools_mlmerge.core.platforms import Platform, PlatformPattern
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.core.strict_json import encode
from pubtools_mlmerge.errors import EmptyIndex, MixedTypes, ShrinkError

# What an OCI index may state at its top and a Docker list does not define.
_OCI_ONLY = frozenset({"annotations", "artifactType"})


def assemble(
    source: Index,
    destination: Index | None,
    manifests: Sequence[Descriptor],
    policy: Policy,
) -> Index:
    """Make an index of entries from two sides; its type and the rest follow the laws."""
    types = {entry.media_type for entry in manifests}
    if policy.mixed_types == "fail" and types & DOCKER_MANIFESTS and types - DOCKER_MANIFESTS:
        docker = [e.digest for e in manifests if e.media_type in DOCKER_MANIFESTS]
        oci = [e.digest for e in manifests if e.media_type not in DOCKER_MANIFESTS]
        raise MixedTypes(tuple(docker), tuple(oci))
    sides = (source, destination) if destination is not None else (source,)
    has_docker_list = any(side.media_type == DOCKER_LIST for side in sides)
    fits = (
        has_docker_list
        and types <= DOCKER_MANIFESTS
        and _OCI_ONLY.isdisjoint(source.fields)
        and all(map(_states_platform, manifests))
    )
    return source.with_manifests(manifests, DOCKER_LIST if fits else OCI_INDEX)


def _states_platform(entry: Descriptor) -> bool:
    """Tell whether an entry has the platform that a Docker list asks for, os and architecture."""
    platform = entry.fields.get("platform")
    return isinstance(platform, dict) and bool(platform.get("os"))


def is_unchanged(result: Index, source: Index, destination: Index | None) -> bool:
    """Compare by digest, or by meaning where the result was encoded here.

    A source that goes up untouched brings its own digest, and the signatures made for it.
    """
    if destination is None:
        return False
    if result is source:
        return result.digest == destination.digest
    meaning = {**destination.fields, "mediaType": destination.media_type}
    # Python holds 1, 1.0 and true to be equal, so equal documents are compared as encoded, too.
    return result.fields == meaning and result.content == encode(meaning)


_NOTHING = Policy()
_NEWER_IMAGE = "the source has another one for this platform"
_NEWER_ATTESTATIONS = "the source has newer attestations"


def merge(
    source: Index,
    destination: Index | None,
    policy: Policy = _NOTHING,
    stale: Mapping[str, str] | None = None,
) -> Plan[Index]:
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
    return Plan(
        result,
        (*entries, *kept, *dropped, *excluded),
        not unchanged,
        _missing(taken, policy.eligible),
        source,
        destination,
    )


def remove(
    index: Index, patterns: Iterable[str | PlatformPattern], *, allow_empty: bool = False
) -> Plan[Index]:
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
    kept: list[Entry] = []
    dropped: list[Entry] = []
    for entry in index.manifests:
        if _matches(entry, chosen):
            dropped.append(Entry(entry, "dropped", "removed by name", entry.digest))
        elif entry.attests in gone:
            dropped.append(Entry(entry, "dropped", "its image is removed", entry.digest))
        else:
            kept.append(Entry(entry, "kept", "not among those removed", entry.digest))
    if not kept and not allow_empty:
        raise EmptyIndex(tuple(pattern.text for pattern in chosen))
    result = index
    if dropped:
        result = index.with_manifests((e.descriptor for e in kept), index.media_type)
    missing = tuple(p.text for p in chosen if not any(_matches(e, [p]) for e in index.manifests))
    return Plan(result, (*kept, *dropped), bool(dropped), missing)


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


def _take(entries: Sequence[Descriptor], policy: Policy) -> tuple[list[Descriptor], list[Entry]]:
    """Part the source into what is taken and what is not eligible."""
    if policy.eligible is None:
        return list(entries), []
    images = {e.digest for e in entries if _matches(e, policy.eligible)}
    taken: list[Descriptor] = []
    excluded: list[Entry] = []
    for entry in entries:
        if entry.attests in images or _matches(entry, policy.eligible):
            taken.append(entry)
        else:
            reason = "not eligible" if entry.attests is None else "its image is not eligible"
            excluded.append(Entry(entry, "excluded", reason))
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

    def judge_taken(self) -> Iterator[Entry]:
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
                yield Entry(entry, "same", "both have this digest", entry.digest)
            elif slot in replaceable:
                replaced = replaceable.pop(slot)
                if slot in others:
                    told.add((slot, replaced))
                    if others[slot]:
                        replaceable[slot] = others[slot].pop()
                yield Entry(entry, "replaced", "the source has a newer one", replaced)
            else:
                yield Entry(entry, "added", "only the source has it")
        self._left.update(replaceable.items())
        self._left.update((slot, digest) for slot, more in others.items() for digest in more)
        self._left -= told

    def part_old(self, policy: Policy, stale: Mapping[str, str]) -> tuple[list[Entry], list[Entry]]:
        """Part the destination into what stays and what goes, each with its reason."""
        reasons = [
            self._against(slot, entry, policy, stale)
            for slot, entry in zip(self._old_slots, self._old)
        ]
        images = {e.digest for e in self._taken if e.attests is None}
        staying = (entry for entry, reason in zip(self._old, reasons) if reason is None)
        images.update(entry.digest for entry in staying if entry.attests is None)
        kept: list[Entry] = []
        dropped: list[Entry] = []
        for slot, entry, against in zip(self._old_slots, self._old, reasons):
            reason = against
            if reason is None and entry.attests is not None and entry.attests not in images:
                reason = "its image is not in the result"
            if reason is None:
                kept.append(Entry(entry, "kept", "only the destination has it", entry.digest))
            elif slot not in self._covered or (slot, entry.digest) in self._left:
                dropped.append(Entry(entry, "dropped", reason, entry.digest))
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


def replace_by_image(image: Image, destination: Manifest | None) -> Plan[Image]:
    """Copy a single image over whatever the destination holds."""
    entry = _entry_of(image)
    if destination is None:
        return Plan(image, (Entry(entry, "added", "the tag is new"),), changed=True)
    if destination.digest == image.digest:
        same = Entry(entry, "same", "both have this digest", image.digest)
        return Plan(image, (same,), changed=False)
    reason = "a single image replaces what was there"
    replaced = Entry(entry, "replaced", reason, destination.digest)
    gone = destination.manifests if isinstance(destination, Index) else ()
    dropped = (Entry(e, "dropped", reason, e.digest) for e in gone)
    return Plan(image, (replaced, *dropped), changed=True)


def replace_image(source: Index, destination: Image, policy: Policy) -> Plan[Index]:
    """Put an index, or its eligible part, in the place of a single image."""
    plan = merge(source, None, policy)
    dropped = Entry(
        _entry_of(destination), "dropped", "a single image is replaced", destination.digest
    )
    return evolve(plan, entries=(*plan.entries, dropped))


def _entry_of(image: Image) -> Descriptor:
    fields = {"mediaType": image.media_type, "digest": image.digest, "size": len(image.content)}
    return Descriptor.from_json(fields, "")


def check_shrink(reference: Reference, old: Manifest | None, plan: AnyPlan, policy: Policy) -> None:
    """Refuse a result with fewer platforms than the tag has, save for those that are to go."""
    if not isinstance(old, Index):
        return
    had = {slot for slot in _slots(old, plan.too_old) if not _is_to_go(slot, policy)}
    if isinstance(plan.result, Index):
        has = _slots(plan.result)
        number = len(has)
    else:  # one platform; only its config tells which
        has, number = frozenset(), 1
    if number < len(had):
        raise ShrinkError(str(reference), tuple(sorted(map(str, had - has))))


def _slots(index: Index, without: frozenset[str] = frozenset()) -> frozenset[Platform]:
    entries = (entry for entry in index.manifests if entry.digest not in without)
    return frozenset(entry.slot for entry in entries if entry.slot is not None)


def _is_to_go(slot: Platform, policy: Policy) -> bool:
    is_kept = not policy.keep or any(pattern.matches(slot) for pattern in policy.keep)
    return not is_kept or any(pattern.matches(slot) for pattern in policy.drop)


def serve_the_same(result: Index, held: Index) -> bool:
    """Compare two indexes; the order counts among the entries of one architecture only."""
    return result.media_type == held.media_type and _unordered(result) == _unordered(held)


def _unordered(index: Index) -> dict[str, object]:
    entries: dict[object, list[object]] = {}
    for entry in index.manifests:
        slot = entry.slot
        key = None if slot is None else (slot.os, slot.architecture)
        entries.setdefault(key, []).append(entry.fields)
    return {**index.fields, "mediaType": index.media_type, "manifests": entries}


def union(manifests: Iterable[Index | Image]) -> Index | None:
    """Merge what a tag held at one time or another."""
    merged: Index | None = None
    for manifest in manifests:
        if isinstance(manifest, Index):
            merged = manifest if merged is None else merge(merged, manifest).result
    return merged
