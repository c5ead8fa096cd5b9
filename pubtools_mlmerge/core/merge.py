"""The laws of a merge: which entries the merged index has, in which order, and why.

Pure functions from values to values, linear in the number of entries. The laws and their numbers
are in ``docs/merge-rules.rst``.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import chain

from attrs import evolve, frozen

from pubtools_mlmerge.core.manifests import (
    DOCKER_LIST,
    DOCKER_MANIFESTS,
    OCI_INDEX,
    Descriptor,
    Image,
    Index,
    Manifest,
    platforms_of,
)
from pubtools_mlmerge.core.plan import Entry, Match, Plan, Policy, patterns_of
from pubtools_mlmerge.core.platforms import NO_PLATFORM, Platform, PlatformPattern
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.core.strict_json import encode
from pubtools_mlmerge.errors import (
    EmptyIndex,
    MixedTypes,
    NestedIndex,
    NotAnIndex,
    PatternFitsNothing,
    ShrinkError,
    SourcesDiffer,
)

NOT_KEPT = "not among the platforms to keep"
_DEFAULT = Policy()
# What an OCI index may have at its top level, and a Docker list may not.
_OCI_ONLY = frozenset({"annotations", "artifactType"})


def merge(
    source: Index,
    destination: Index | None,
    policy: Policy = _DEFAULT,
    stale: Mapping[str, str] | None = None,
) -> Plan[Index]:
    """Take all of the source, and keep what only the destination has.

    Args:
        source (Index): The newer index. Its entries come first, in their order.
        destination (Index | None): The index at the destination; none if there is none yet.
        policy (Policy): Options of the merge.
        stale (Mapping[str, str] | None): Digests of destination entries that are too old to keep,
            each with the reason to give.

    Returns:
        Plan[Index]: Its result is the source itself where nothing of the destination is kept, and
        the destination itself where the merge would change nothing.

    Raises:
        MixedTypes: When the result would mix Docker and OCI manifests and the policy forbids it.
    """
    old = destination.manifests if destination is not None else ()
    eligible, excluded = _split_eligible(source.manifests, policy.eligible)
    taken = _compare(eligible, old, policy.match)
    kept, dropped = _split_kept(old, taken, policy, stale or {})
    result = source
    if kept or excluded:
        manifests = [entry.descriptor for entry in (*taken, *kept)]
        sides = [source] if destination is None else [source, destination]
        result = assemble(sides, manifests, policy)
    changed = destination is None or result is not source or result.digest != destination.digest
    if destination is not None and result is not source and serve_the_same(result, destination):
        result, changed = destination, False
    return Plan(
        result,
        (*taken, *kept, *dropped, *excluded),
        changed=changed,
        missing=_texts(_fit_nothing(eligible, policy.eligible or ())),
        source=source,
        destination=destination,
        warnings=tuple(_listed_twice(taken, kept)),
    )


def _split_eligible(
    entries: Sequence[Descriptor], patterns: Sequence[PlatformPattern] | None
) -> tuple[Sequence[Descriptor], list[Entry]]:
    """Split the source into entries that may be taken, with their attestations, and the rest."""
    if patterns is None:
        return entries, []
    images = _digests(entry for entry in entries if matches(entry, patterns))
    eligible: list[Descriptor] = []
    excluded: list[Entry] = []
    for entry in entries:
        if entry.attested in images or matches(entry, patterns):
            eligible.append(entry)
        else:
            reason = "its image is not eligible" if entry.is_attestation else "not eligible"
            excluded.append(Entry(entry, "excluded", reason))
    return eligible, excluded


def _compare(taken: Sequence[Descriptor], old: Sequence[Descriptor], match: Match) -> list[Entry]:
    """Compare what is taken with the destination; each old entry is replaced by one new one."""
    taken_keys = [_key(entry, match) for entry in taken]
    old_keys = [_key(entry, match) for entry in old]
    on_both_sides = {(key, entry.digest) for key, entry in zip(taken_keys, taken)}
    on_both_sides &= {(key, entry.digest) for key, entry in zip(old_keys, old)}
    replaceable: dict[Hashable, list[str]] = {}
    for key, entry in zip(reversed(old_keys), reversed(old)):  # so that pop() takes the first
        if (key, entry.digest) not in on_both_sides:
            replaceable.setdefault(key, []).append(entry.digest)
    entries: list[Entry] = []
    for key, entry in zip(taken_keys, taken):
        if (key, entry.digest) in on_both_sides:
            entries.append(Entry(entry, "same", "both have this digest", entry.digest))
        elif replaceable.get(key):
            replaced = replaceable[key].pop()
            entries.append(Entry(entry, "replaced", "in both, the source wins", replaced))
        else:
            entries.append(Entry(entry, "added", "only the source has it"))
    return entries


def _split_kept(
    old: Sequence[Descriptor],
    taken: Sequence[Entry],
    policy: Policy,
    stale: Mapping[str, str],
    carried: frozenset[str | None] = frozenset(),
) -> tuple[list[Entry], list[Entry]]:
    """Split the destination into what is kept and what is dropped, each with its reason.

    Attestations of the images in `carried` are kept although these are not listed.
    """
    accounted = {(_key(e.descriptor, policy.match), e.previous_digest) for e in taken}
    covered = frozenset[Hashable]().union(*(key for key, _ in accounted))
    keys = [_key(entry, policy.match) for entry in old]
    reasons = [_reason_to_drop(entry, key, covered, policy, stale) for key, entry in zip(keys, old)]
    images = carried | _digests(e.descriptor for e in taken)
    images |= _digests(entry for entry, reason in zip(old, reasons) if reason is None)
    kept: list[Entry] = []
    dropped: list[Entry] = []
    for key, entry, reason in zip(keys, old, reasons):
        if (key, entry.digest) in accounted:
            continue  # a taken entry is the same, or says that it replaces this one
        is_orphan = entry.is_attestation and entry.attested not in images
        if reason is not None or is_orphan:
            why = reason or "its image is not in the result"
            dropped.append(Entry(entry, "dropped", why, entry.digest))
        else:
            kept.append(Entry(entry, "kept", "only the destination has it", entry.digest))
    return kept, dropped


def _reason_to_drop(
    entry: Descriptor,
    key: frozenset[Hashable],
    covered: frozenset[Hashable],
    policy: Policy,
    stale: Mapping[str, str],
) -> str | None:
    """Say why an entry of the destination must go; none if it may stay."""
    if key <= covered:
        if entry.is_attestation:
            return "the source has newer attestations"
        return "the source has another one for this platform"
    if entry.slots and all(s in covered or s.of_any_version in covered for s in entry.slots):
        return "the source has one for all versions"
    if policy.keep and entry.slots and not matches(entry, policy.keep):
        return NOT_KEPT
    if matches(entry, policy.drop):
        return "dropped by name"
    return stale.get(entry.digest)


def _digests(entries: Iterable[Descriptor]) -> frozenset[str]:
    """List the images that an attestation may belong to."""
    images = (entry.digests for entry in entries if not entry.is_attestation)
    return frozenset(chain.from_iterable(images))


def _listed_twice(taken: Sequence[Entry], kept: Sequence[Entry]) -> Iterator[str]:
    """Warn of kept nested indexes of which the source covers a part."""
    covered = _slots(entry.descriptor for entry in taken)
    for entry in (each.descriptor for each in kept):
        twice = entry.slots & covered  # of a nested index: any other entry would be replaced
        if twice:
            names = _names(twice)
            yield f"the nested index {entry.digest} is kept whole, so {names} is listed twice"


def _key(entry: Descriptor, match: Match = "platform") -> frozenset[Hashable]:
    """Say what an entry covers: it replaces what covers the same, or a part of that."""
    if entry.attested:
        return frozenset({("attestation", entry.attested)})
    if not entry.slots:
        return frozenset({("digest", entry.digest)})
    return frozenset(s.architecture if match == "architecture" else s for s in entry.slots)


def fits(pattern: PlatformPattern, entry: Descriptor) -> bool:
    """Whether a pattern fits an entry, or a part of a nested index."""
    return (
        pattern.digest == entry.digest
        or (pattern.os == NO_PLATFORM and entry.lacks_platform)
        or any(map(pattern.matches, entry.slots))
    )


def matches(entry: Descriptor, patterns: Iterable[PlatformPattern]) -> bool:
    """Whether patterns fit an entry; a nested index may not fit in part."""
    fitting = [pattern for pattern in patterns if fits(pattern, entry)]
    parts = {slot for slot in entry.slots if any(pattern.matches(slot) for pattern in fitting)}
    if parts and parts != entry.slots and not any(pattern.digest for pattern in fitting):
        names, rest = (tuple(sorted(map(str, s))) for s in (parts, entry.slots - parts))
        raise NestedIndex(entry.digest, names, rest)
    return bool(fitting)


def _fit_nothing(
    entries: Sequence[Descriptor], patterns: Iterable[PlatformPattern]
) -> list[PlatformPattern]:
    return [p for p in patterns if not any(fits(p, entry) for entry in entries)]


def _texts(patterns: Iterable[PlatformPattern]) -> tuple[str, ...]:
    return tuple(pattern.text for pattern in patterns)


def remove(
    index: Index,
    patterns: Iterable[str | PlatformPattern],
    *,
    allow_empty: bool = False,
    prune: bool = False,
) -> Plan[Index]:
    """Remove platforms from an index, and their attestations.

    Args:
        index (Index): The index at the destination.
        patterns (Iterable[str | PlatformPattern]): The platforms to remove. Entries without a
            platform stay, unless ``none`` or a digest names them.
        allow_empty (bool): Whether the result may be empty.
        prune (bool): Whether to remove attestations of images that are not listed, entries for
            ``unknown/unknown`` that name no image, and what is listed twice.

    Returns:
        Plan[Index]: Its result is the index itself where nothing is removed.

    Raises:
        EmptyIndex: When nothing would be left and that is not allowed.
        InvalidPlatform: When a pattern is malformed, or a name is unknown.
    """
    chosen = named_in(index, patterns)
    # An image may be listed for two platforms; its attestations go with the last of them.
    gone = _digests(index.manifests)
    gone -= _digests(entry for entry in index.manifests if not matches(entry, chosen))
    waste = find_waste(index) if prune else {}
    kept: list[Entry] = []
    dropped: list[Entry] = []
    for number, entry in enumerate(index.manifests):
        if matches(entry, chosen):
            dropped.append(Entry(entry, "dropped", "removed by name", entry.digest))
        elif entry.attested in gone:
            dropped.append(Entry(entry, "dropped", "its image is removed", entry.digest))
        elif number in waste:
            dropped.append(Entry(entry, "dropped", waste[number], entry.digest))
        else:
            kept.append(Entry(entry, "kept", "not among those removed", entry.digest))
    if not kept and not allow_empty:
        raise EmptyIndex(_texts(chosen))
    result = index
    if dropped:
        result = index.with_manifests((e.descriptor for e in kept), index.media_type)
    missing = _texts(_fit_nothing(index.manifests, chosen))
    return Plan(result, (*kept, *dropped), bool(dropped), missing, destination=index)


def named_in(
    index: Index, patterns: Iterable[str | PlatformPattern]
) -> tuple[PlatformPattern, ...]:
    """Read what is to be removed from an index; the starts of its digests are completed."""
    digests = tuple(dict.fromkeys(entry.digest for entry in index.manifests))
    parsed = patterns_of(patterns, PlatformPattern.removed)
    return tuple(pattern.among(digests) for pattern in parsed)


def find_waste(index: Index) -> dict[int, str]:
    """Find useless entries (law 3): their positions, each with the reason."""
    unknown = [e.lacks_platform and e.platform is not None for e in index.manifests]
    images = _digests(e for e, is_unknown in zip(index.manifests, unknown) if not is_unknown)
    waste: dict[int, str] = {}
    seen: set[Hashable] = set()
    for number, entry in enumerate(index.manifests):
        if (_key(entry), entry.digest) in seen:
            waste[number] = "it is listed twice"
        elif entry.is_attestation and entry.attested not in images:
            waste[number] = "its image is not listed"
        elif unknown[number]:
            waste[number] = "it is for an unknown platform and names no image"
        else:
            seen.add((_key(entry), entry.digest))
    return waste


def assemble(sides: Sequence[Index], manifests: Sequence[Descriptor], policy: Policy) -> Index:
    """Make an index of entries from all sides: a Docker list where that can hold them all.

    The rest of it comes from the first side.
    """
    docker, oci = _by_kind(manifests)
    if policy.mixed_types == "fail" and docker and oci:
        raise MixedTypes(tuple(e.digest for e in docker), tuple(e.digest for e in oci))
    fits_a_docker_list = (
        DOCKER_LIST in {side.media_type for side in sides}
        and not oci
        and _OCI_ONLY.isdisjoint(sides[0].fields)
        and all(map(_states_os, manifests))
    )
    return sides[0].with_manifests(manifests, DOCKER_LIST if fits_a_docker_list else OCI_INDEX)


def _by_kind(entries: Iterable[Descriptor]) -> tuple[list[Descriptor], list[Descriptor]]:
    """Split entries into Docker's and others."""
    kinds: tuple[list[Descriptor], list[Descriptor]] = ([], [])
    for entry in entries:
        kinds[entry.media_type not in DOCKER_MANIFESTS].append(entry)
    return kinds


def _states_os(entry: Descriptor) -> bool:
    """Check for the os, which a Docker list requires and `Descriptor.platform` fills in."""
    if "digest" not in entry.fields or "size" not in entry.fields:
        return True  # abbreviated by a Python program, which the class allows
    platform = entry.fields.get("platform")
    return isinstance(platform, dict) and bool(platform.get("os"))


@frozen
class Side:
    """One side of a merge: an index, a single image (law 11), or several sources (law 1)."""

    reference: Reference
    manifest: Manifest
    index: Index  # the manifest itself, or the index that lists the image alone
    parts: tuple[Side, ...] = ()  # the sources, if there are several
    passed_over: tuple[Entry, ...] = ()  # what an earlier source has as well
    warnings: tuple[str, ...] = ()

    @property
    def is_artifact(self) -> bool:
        """Whether the manifest is not an image for a platform, so that no index may list it."""
        return isinstance(self.manifest, Image) and self.index.manifests[0].slot is None

    def by_origin(self, digests: Iterable[str]) -> dict[Side, list[str]]:
        """Group manifests by the first source that has them."""
        places: dict[str, Side] = {}
        for part in self.parts:
            for entry in part.index.manifests:
                for digest in entry.digests:
                    places.setdefault(digest, part)
        groups: dict[Side, list[str]] = {}
        for digest in digests:
            groups.setdefault(places.get(digest, self), []).append(digest)
        return groups


def combine(sources: Sequence[Side], policy: Policy = _DEFAULT) -> Side:
    """Put sources together: the first that has a slot wins it (law 1).

    Raises:
        NotAnIndex: When one is a single image that cannot be an entry of an index.
        SourcesDiffer: When two have different images in one slot, and the policy is strict.
        MixedTypes: When the result would mix Docker and OCI manifests and the policy forbids it.
    """
    first = sources[0]
    if len(sources) == 1:
        return first
    for side in sources:
        if isinstance(side.manifest, Image) and (policy.single_image == "fail" or side.is_artifact):
            raise NotAnIndex(str(side.reference), side.manifest.kind)
    listed, passed_over, differing = first.index.manifests, list[Entry](), list[str]()
    for side in sources[1:]:
        more, lost = _add_source(listed, side.index.manifests, policy.match)
        listed = (*listed, *more)
        passed_over += [Entry(entry, "excluded", "an earlier source comes first") for entry in lost]
        images = [entry for entry in lost if not entry.is_attestation]
        for entry in _split_eligible(images, policy.eligible)[0]:
            differing.append(f"{_names(entry.slots)} of {side.reference}")
    if differing and policy.strict:
        raise SourcesDiffer(tuple(differing))
    taken = _split_eligible(listed, policy.eligible)[0]
    assemble([first.index], taken, policy)  # refuses what must not be mixed
    index = first.index
    if listed != index.manifests:
        sides = [side.index for side in sources]
        index = assemble(sides, listed, evolve(policy, mixed_types="oci"))
    left_out = "is left out: an earlier source has another digest for that"
    warnings = (*(f"{name} {left_out}" for name in differing), *_mix(taken))
    return Side(first.reference, index, index, tuple(sources), tuple(passed_over), warnings)


def _add_source(
    listed: Sequence[Descriptor], entries: Sequence[Descriptor], match: Match
) -> tuple[list[Descriptor], list[Descriptor]]:
    """Split another source into new entries and those an earlier source has with another digest."""
    taken = _compare(listed, entries, match)
    # An attestation of an image that this source does not list is carried as it is (law 3).
    orphaned = frozenset(entry.attested for entry in entries) - _digests(entries)
    kept, dropped = _split_kept(entries, taken, Policy(match=match), {}, orphaned)
    replaced = {(_key(e.descriptor, match), e.previous_digest) for e in taken if e.fate != "same"}
    lost = [entry for entry in entries if (_key(entry, match), entry.digest) in replaced]
    return [e.descriptor for e in kept], [*lost, *(e.descriptor for e in dropped)]


def merge_manifests(
    source: Side,
    destination: Side | None,
    policy: Policy,
    merging: Callable[[Index, Index | None, Policy], Plan[Manifest]] = merge,
) -> Plan[Manifest]:
    """Merge two sides of which either may be a single image, as the policy says (law 11).

    A single image is merged as an index of one entry. Where the result would list nothing else,
    the result is the image itself.
    """
    sides = [source] if destination is None else [source, destination]
    singles = [(side, side.manifest) for side in sides if isinstance(side.manifest, Image)]
    if (source.parts or policy.annotations) and policy.single_image == "wrap":
        policy = evolve(policy, single_image="index")  # these make one
    if singles and policy.single_image == "fail":
        raise NotAnIndex(str(singles[0][0].reference), singles[0][1].kind)
    plan: Plan[Manifest]
    if singles and policy.single_image == "replace":
        plan = _replace(source, destination, policy)
    else:
        plan = merging(source.index, None if destination is None else destination.index, policy)
        if singles:
            plan = evolve(plan, result=_without_wrapping(plan.result, sides, policy))
    plan = annotate(plan, policy.annotations)
    result = plan.result
    listed = {entry.digest for entry in result.manifests} if isinstance(result, Index) else set()
    for side, image in singles:
        if side.is_artifact and image.digest in listed:
            what = f"{image.kind}, which states no platform"
            raise NotAnIndex(str(side.reference), what)
    return evolve(
        plan,
        changed=destination is None or result.digest != destination.manifest.digest,
        entries=(*plan.entries, *source.passed_over),
        warnings=(*source.warnings, *plan.warnings),
    )


def annotate(plan: Plan[Manifest], annotations: Mapping[str, str]) -> Plan[Manifest]:
    """Write annotations into the index that results, which makes it an OCI index."""
    index = plan.result
    held = index.fields.get("annotations") if isinstance(index, Index) else None
    held = held if isinstance(held, dict) else {}
    if not isinstance(index, Index) or annotations.items() <= held.items():
        return plan
    fields = index.with_manifests(index.manifests, OCI_INDEX).fields
    result = Index(OCI_INDEX, index.manifests, {**fields, "annotations": {**held, **annotations}})
    return evolve(plan, result=result, changed=True)


def _without_wrapping(result: Manifest, sides: Sequence[Side], policy: Policy) -> Manifest:
    """Choose what to write: the merged index, or the only image that it lists."""
    held = sides[-1].manifest
    if isinstance(result, Image):
        return result
    if len(sides) > 1 and isinstance(held, Index) and serve_the_same(result, held):
        return held
    if policy.single_image == "index" or result is sides[0].manifest:
        return result
    images = {s.manifest.digest: s.manifest for s in sides if isinstance(s.manifest, Image)}
    digests = [entry.digest for entry in result.manifests]
    return images.get(digests[0], result) if len(digests) == 1 else result


def _replace(source: Side, destination: Side | None, policy: Policy) -> Plan[Manifest]:
    """Replace the destination by the source, or by its eligible part."""
    old = None if destination is None else destination.index
    plan: Plan[Manifest] = merge(source.index, old, evolve(policy, mixed_types="oci"))
    result = source.manifest
    if any(entry.fate == "excluded" for entry in plan.entries):
        result = assemble([source.index], plan.taken, policy)
    entries = tuple(
        evolve(entry, fate="dropped", reason="the source replaces all of it")
        if entry.fate == "kept"
        else entry
        for entry in plan.entries
    )
    return evolve(plan, result=result, entries=entries)


def serve_the_same(one: Index, other: Index) -> bool:
    """Whether two indexes differ at most in the order of entries in different slots (law 6).

    Among entries in one slot the order counts: clients take the first that fits. So it does in an
    index that lists a platform both in a nested index and beside it.
    """
    same_kind = (one.media_type, len(one.manifests)) == (other.media_type, len(other.manifests))
    return same_kind and _in_fixed_order(one) == _in_fixed_order(other)


def _in_fixed_order(index: Index) -> bytes:
    # 1, 1.0 and True are equal in Python and not in JSON, so the encoded bytes decide.
    ordered: Sequence[Descriptor] = index.manifests
    keys = set(map(_key, ordered))
    if sum(map(len, keys)) == len(frozenset[Hashable]().union(*keys)):  # equal, or nothing shared
        ordered = sorted(ordered, key=lambda entry: sorted(map(repr, _key(entry))))
    listed = [entry.fields for entry in ordered]
    return encode({**index.fields, "mediaType": index.media_type, "manifests": listed})


def union(manifests: Iterable[Manifest]) -> Index | None:
    """Merge the indexes that a tag held at different times, the newest first."""
    merged: Index | None = None
    for manifest in manifests:
        if isinstance(manifest, Index):
            merged = manifest if merged is None else merge(merged, manifest).result
    return merged


def review(tag: Reference, plan: Plan[Manifest], policy: Policy) -> tuple[str, ...]:
    """Refuse a plan that takes away what nobody named, or named by a slip.

    Returns:
        tuple[str, ...]: Warnings.

    Raises:
        ShrinkError: When a platform would go that nobody named.
        PatternFitsNothing: When a pattern of `keep` or `drop` must be a slip.
    """
    check_shrink(tag, plan, policy)
    warnings = [*plan.warnings, *_gone(plan, policy), *_waste(plan), *_types(plan)]
    if plan.destination is not None:
        warnings += _slips(tag, plan.destination, policy, _at_stake(plan, policy.drop))
    return tuple(f"{tag}: {warning}" for warning in warnings)


def check_shrink(tag: Reference, plan: Plan[Manifest], policy: Policy) -> None:
    """Refuse a result that lacks a platform of the tag, except those named to go (law 4)."""
    lost = {
        slot.name
        for entry, slot in _not_dropped(plan, policy)
        if not policy.keep or _is_among(policy.keep, entry, slot)
    }
    if lost:
        raise ShrinkError(str(tag), tuple(sorted(lost)))


def _not_dropped(plan: Plan[Manifest], policy: Policy) -> Iterator[tuple[Descriptor, Platform]]:
    """Find what the result lacks although it is neither dropped by name nor too old."""
    too_old = plan.too_old
    for entry, slot in _lacking(plan):
        if entry.digest not in too_old and not _is_among(policy.drop, entry, slot):
            yield entry, slot


def _lacking(plan: Plan[Manifest]) -> Iterator[tuple[Descriptor, Platform]]:
    """Find the platforms of the tag that the result lacks, each with the entry for it."""
    has = _result_slots(plan)
    for entry in () if plan.destination is None else plan.destination.manifests:
        for slot in entry.slots - has:
            if slot.of_any_version not in has:
                yield entry, slot


def _result_slots(plan: Plan[Manifest]) -> frozenset[Platform]:
    """List the platforms of the result; that of a single image is known from its entry."""
    if isinstance(plan.result, Index):
        return _slots(plan.result.manifests)
    return _slots(e.descriptor for e in plan.entries if e.fate not in ("dropped", "excluded"))


def _slots(entries: Iterable[Descriptor]) -> frozenset[Platform]:
    return frozenset(chain.from_iterable(entry.slots for entry in entries))


def _is_among(patterns: Iterable[PlatformPattern], entry: Descriptor, slot: Platform) -> bool:
    return any(p.digest == entry.digest or p.matches(slot) for p in patterns)


def _gone(plan: Plan[Manifest], policy: Policy) -> Iterator[str]:
    """Name the platforms that go; the guard has let those pass that keep does not name."""
    has, taken = _result_slots(plan), _slots(plan.taken)
    not_kept = {slot.name for _, slot in _not_dropped(plan, policy)}
    for entry in (e.descriptor for e in plan.entries if e.reason == NOT_KEPT):
        not_kept |= {entry.digest if slot in has else slot.name for slot in entry.slots}
    if not_kept:
        yield f"loses {', '.join(sorted(not_kept))}, which keep does not name"
    held = () if plan.destination is None else plan.destination.manifests
    versions = {slot for slot in _slots(held) - has if slot.of_any_version in taken}
    if versions:
        yield f"an entry without os.version replaces {_names(versions)}"


def _names(slots: Iterable[Platform]) -> str:
    return ", ".join(sorted({slot.name for slot in slots}))


def _waste(plan: Plan[Manifest]) -> Iterator[str]:
    """Warn of entries that pile up or are useless, and say how to remove them."""
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
        # The tag may hold a single image, so that the type of an index would be wrong.
        kinds = "Docker to OCI" if new.media_type == OCI_INDEX else "OCI to Docker"
        yield f"changes from {kinds} types, those of the source"
    if any(e.fate == "kept" for e in plan.entries) and plan.taken:
        yield from _mix(new.manifests)


def _mix(entries: Iterable[Descriptor]) -> Iterator[str]:
    docker, oci = _by_kind(entries)
    if docker and oci:
        others = _names(_slots(oci)) or "without platform"
        both = f"Docker manifests ({_names(_slots(docker))}) beside OCI manifests ({others})"
        yield f"lists {both}, which some registries refuse"


def check_removal(
    tag: Reference,
    old: Index,
    plan: Plan[Manifest],
    patterns: Sequence[PlatformPattern],
    *,
    strict: bool,
) -> None:
    """Refuse patterns of a removal that must be slips; if strict, all that fit nothing."""
    unfit = _fit_nothing(old.manifests, patterns)
    if unfit and (strict or _is_near(unfit, _at_stake(plan, patterns))):
        raise PatternFitsNothing(str(tag), "removal", _texts(unfit), platforms_of(old))


def _at_stake(plan: Plan[Manifest], named: Iterable[PlatformPattern]) -> frozenset[Platform]:
    """List the platforms that would go, but for those whose architecture is named to go."""
    architectures = {pattern.architecture for pattern in named}
    return frozenset(s for _, s in _lacking(plan) if s.architecture not in architectures)


def _is_near(patterns: Iterable[PlatformPattern], gone: Iterable[Platform]) -> bool:
    return any(pattern.is_nearly(slot) for pattern in patterns for slot in gone)


def _slips(tag: Reference, old: Index, policy: Policy, gone: frozenset[Platform]) -> Iterator[str]:
    """Refuse patterns that must be slips, and name others that fit nothing."""
    keep = _fit_nothing(old.manifests, policy.keep)
    # With --drop none, an index without such entries is the normal case.
    drop = _fit_nothing(old.manifests, (p for p in policy.drop if p.os != NO_PLATFORM))
    platforms = platforms_of(old)
    none_fits = len(keep) == len(policy.keep) and not policy.serves_many
    for option, patterns, is_slip in (("keep", keep, none_fits), ("drop", drop, False)):
        if not patterns or not platforms:
            continue
        error = PatternFitsNothing(str(tag), option, _texts(patterns), platforms)
        if is_slip or policy.strict or _is_near(patterns, gone):
            raise error
        yield error.problem
