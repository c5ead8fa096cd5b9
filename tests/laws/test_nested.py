"""Law 2 for nested indexes: all that they list counts, and none is taken apart."""

from __future__ import annotations

from itertools import combinations

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from pubtools_mlmerge.core.manifests import Descriptor, Index
from pubtools_mlmerge.core.merge import check_shrink, merge, remove
from pubtools_mlmerge.core.plan import Policy
from pubtools_mlmerge.core.platforms import Platform, PlatformPattern
from pubtools_mlmerge.errors import EmptyIndex, NestedIndex
from tests.factories import entry, index
from tests.laws.strategies import MATCHES, PATTERNS, PLATFORMS, TAG, indexes

SLOTS = [Platform.from_json(platform).normalized() for platform in PLATFORMS]
LISTS = [frozenset(), *map(frozenset, combinations(dict.fromkeys(SLOTS[:6]), 2)), frozenset(SLOTS)]


def listed_by(nested: Descriptor) -> frozenset[Platform]:
    return LISTS[int(nested.digest[-4:], 16) % len(LISTS)]


def read(made: Index) -> Index:
    """Let each nested index list some platforms; which ones depends on its digest."""
    return evolve(
        made,
        manifests=[
            evolve(each, listed=frozenset((each.digest, slot) for slot in listed_by(each)))
            if each.is_index
            else each
            for each in made.manifests
        ],
    )


NESTED = [entry("linux/amd64", seed=str(n), media_type=index().media_type) for n in range(12)]
READ = st.builds(
    lambda made, nested: read(index(*(e.fields for e in made.manifests), *nested)),
    indexes(),
    st.lists(st.sampled_from(NESTED), max_size=3),
)
NAMED = st.builds(
    Policy,
    keep=st.lists(PATTERNS, max_size=2),
    drop=st.lists(PATTERNS, max_size=2),
    eligible=st.none() | st.lists(PATTERNS, max_size=2),
)


def covered(of: Index) -> set[Platform]:
    return {slot for each in of.manifests for slot in each.slots}


def lost(before: set[Platform], after: Index) -> set[Platform]:
    has = covered(after)
    return {slot for slot in before if slot not in has and slot.of_any_version not in has}


@given(READ, READ)
def test_nothing_that_is_listed_anywhere_is_lost(source: Index, destination: Index) -> None:
    plan = merge(source, destination)

    check_shrink(TAG, plan, Policy())
    assert not lost(covered(source) | covered(destination), plan.result)


@given(READ, READ, MATCHES)
def test_merging_again_changes_nothing(source: Index, destination: Index, policy: Policy) -> None:
    result = merge(source, destination, policy).result

    again = merge(source, result, policy)

    assert (again.changed, again.result) == (False, result)


@given(READ, READ, NAMED)
def test_only_what_is_named_goes_and_only_whole(
    source: Index, destination: Index, policy: Policy
) -> None:
    def is_named(slot: Platform, patterns: tuple[PlatformPattern, ...]) -> bool:
        return any(pattern.matches(slot) for pattern in patterns)

    try:
        result = merge(source, destination, policy).result
    except NestedIndex:
        return
    for slot in lost(covered(destination), result):
        is_kept = not policy.keep or is_named(slot, policy.keep)
        assert is_named(slot, policy.drop) or not is_kept


@given(READ, st.lists(PATTERNS, max_size=2))
def test_only_what_is_named_is_removed(held: Index, names: list[str]) -> None:
    patterns = tuple(map(PlatformPattern.parse, names))
    try:
        result = remove(held, patterns).result
    except (NestedIndex, EmptyIndex):
        return

    gone = covered(held) - covered(result)
    assert all(any(pattern.matches(slot) for pattern in patterns) for slot in gone)
    assert not any(p.matches(slot) for p in patterns for slot in covered(result))


def test_the_order_counts_where_a_nested_index_lists_the_platform_of_another_entry() -> None:
    new, nested = entry("linux/amd64", seed="new"), entry(None, media_type=index().media_type)
    amd64, s390x = (Platform(os="linux", architecture=name) for name in ("amd64", "s390x"))

    def holds(*entries: dict[str, object]) -> Index:
        listed = frozenset({("sha256:1", amd64), ("sha256:2", s390x)})
        made = index(*entries)
        manifests = [evolve(m, listed=listed if m.is_index else None) for m in made.manifests]
        return evolve(made, manifests=manifests)

    plan = merge(holds(new), holds(nested, new))

    assert [e.is_index for e in plan.result.manifests] == [False, True]
    assert plan.changed
