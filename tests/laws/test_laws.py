"""The laws of a merge, one test each, whatever the indexes."""

from __future__ import annotations

import copy
import hashlib
import json
import sys
from collections.abc import Hashable, Iterable
from functools import partial
from types import FrameType
from typing import Callable

import pytest
from attrs import frozen
from hypothesis import assume, given
from hypothesis import strategies as st

from pubtools_mlmerge.core.manifests import DOCKER_LIST, DOCKER_MANIFESTS, Descriptor, Index
from pubtools_mlmerge.core.merge import (
    Side,
    check_shrink,
    combine,
    merge,
    merge_manifests,
    remove,
)
from pubtools_mlmerge.core.plan import Plan, Policy
from pubtools_mlmerge.core.platforms import Platform
from pubtools_mlmerge.core.strict_json import encode
from pubtools_mlmerge.errors import EmptyIndex
from tests.factories import attestation, digests, entry, index
from tests.laws.strategies import MAKES_INDEXES, MATCHES, POLICIES, SIDES, SOME_PATTERNS, indexes

# It would take twice as long, and other tests are there for coverage.
pytestmark = pytest.mark.no_cover

INDEXES = indexes()


@frozen
class Made:
    """A merge, and what it was made from."""

    source: Index
    destination: Index
    policy: Policy
    plan: Plan[Index]

    @property
    def result(self) -> Index:
        return self.plan.result


def make(source: Index, destination: Index, policy: Policy) -> Made:
    return Made(source, destination, policy, merge(source, destination, policy))


MERGES = st.builds(make, INDEXES, INDEXES, POLICIES)
PLAIN = st.builds(make, INDEXES, INDEXES, MATCHES)


def slot(of: Descriptor, policy: Policy) -> Hashable:
    """Say what an entry that is no attestation stands for, in the words of the laws."""
    if of.slot is None:
        return of.digest
    return of.slot.architecture if policy.match == "architecture" else of.slot


def slots(of: Index, policy: Policy) -> set[Hashable]:
    """List what an index has something for, attestations aside."""
    return {slot(e, policy) for e in of.manifests if not e.is_attestation}


def lost(before: set[Hashable], after: set[Hashable]) -> set[Hashable]:
    """List what of a set another one lacks; windows of any version serves for each."""
    return {
        one
        for one in before - after
        if not (isinstance(one, Platform) and one.of_any_version in after)
    }


def by_slot(entries: Iterable[Descriptor]) -> list[bytes]:
    """List entries as encoded; the order counts within a slot only."""
    return [encoded(e) for e in sorted(entries, key=lambda e: repr(e.slot or e.digest))]


def is_subsequence(part: list[str], whole: list[str]) -> bool:
    """Tell whether all of a list stands in another in the same order."""
    rest = iter(whole)
    return all(one in rest for one in part)


def encoded(of: Descriptor) -> bytes:
    """Write an entry so that 1, 1.0 and true differ."""
    return encode(of.fields)


def written(of: Index) -> list[bytes]:
    """List the entries of an index as encoded."""
    return [encoded(e) for e in of.manifests]


def images_of(of: Index) -> list[Descriptor]:
    """List the entries that are no attestations."""
    return [e for e in of.manifests if not e.is_attestation]


def planned(plan: Plan[Index], *fates: str) -> list[Descriptor]:
    """List the entries of these fates."""
    return [e.descriptor for e in plan.entries if e.fate in fates]


@given(INDEXES, MATCHES)
def test_merging_an_index_with_itself_is_the_index(both: Index, policy: Policy) -> None:
    plan = merge(both, both, policy)

    assert plan.result is both
    assert not plan.changed


@given(MERGES)
def test_merging_again_changes_nothing(made: Made) -> None:
    again = merge(made.source, made.result, made.policy)

    assert again.result is made.result
    assert not again.changed


@given(PLAIN)
def test_the_source_is_a_prefix_of_the_result(made: Made) -> None:
    assert not made.plan.changed or written(made.result)[: len(made.source.manifests)] == written(
        made.source
    )


@given(MERGES)
def test_what_is_taken_is_a_prefix_of_the_result(made: Made) -> None:
    taken = [encoded(e) for e in made.plan.taken]
    if made.plan.changed:
        assert written(made.result)[: len(taken)] == taken
        assert is_subsequence(digests(made.result)[: len(taken)], digests(made.source))


@given(MERGES)
def test_the_plan_tells_the_fate_of_every_entry_of_the_result(made: Made) -> None:
    present = planned(made.plan, "added", "replaced", "same", "kept")
    if made.plan.changed:
        assert [e.digest for e in present] == digests(made.result)
    assert sorted(e.digest for e in present) == sorted(digests(made.result))
    assert [e.descriptor for e in made.plan.entries][: len(present)] == present
    sources = planned(made.plan, "added", "replaced", "same", "excluded")
    assert sorted(e.digest for e in sources) == sorted(digests(made.source))


@given(MERGES)
def test_nothing_is_lost_without_being_told(made: Made) -> None:
    told = {e.digest for e in planned(made.plan, "dropped")}
    told.update(e.previous_digest for e in made.plan.entries if e.previous_digest)
    assert set(digests(made.destination)) <= {*digests(made.result), *told}


@given(MERGES)
def test_every_slot_of_the_destination_is_covered_or_dropped(made: Made) -> None:
    dropped = {slot(e, made.policy) for e in planned(made.plan, "dropped")}
    listed = slots(made.result, made.policy)
    assert slots(made.destination, made.policy) <= listed | dropped


@given(PLAIN)
def test_without_patterns_every_slot_of_the_destination_is_covered(made: Made) -> None:
    new, old, listed = (
        slots(side, made.policy) for side in (made.source, made.destination, made.result)
    )
    assert new <= listed <= new | old
    assert not lost(old, listed)


@given(PLAIN)
def test_every_dropped_entry_has_a_reason(made: Made) -> None:
    assert all(e.reason for e in made.plan.entries)


@given(MERGES)
def test_kept_entries_keep_their_order_and_all_they_have(made: Made) -> None:
    kept = planned(made.plan, "kept")
    assert is_subsequence([e.digest for e in kept], digests(made.destination))
    assert {encoded(e) for e in kept} <= set(written(made.destination))
    if made.plan.changed:
        assert written(made.result)[len(made.plan.taken) :] == [encoded(e) for e in kept]


@given(MERGES)
def test_kept_entries_are_in_no_slot_of_the_source(made: Made) -> None:
    taken = {slot(e, made.policy) for e in made.plan.taken if not e.is_attestation}
    kept = {slot(e, made.policy) for e in planned(made.plan, "kept") if not e.is_attestation}
    assert not taken & kept


@given(MERGES)
def test_no_entry_is_made_up(made: Made) -> None:
    assert set(written(made.result)) <= {*written(made.source), *written(made.destination)}


@given(MERGES)
def test_an_untouched_source_keeps_its_exact_bytes(made: Made) -> None:
    assume(not planned(made.plan, "kept", "excluded"))

    assert made.result is made.source
    assert merge(made.source, None, made.policy).result is made.source
    assert made.plan.changed == (made.source.digest != made.destination.digest)


@given(MERGES)
def test_an_unchanged_destination_keeps_its_exact_bytes(made: Made) -> None:
    if not made.plan.changed:
        assert made.result.content == made.destination.content
    else:
        assert made.result is not made.destination


@given(MERGES)
def test_a_new_index_has_the_top_level_of_the_source_but_the_subject(made: Made) -> None:
    assume(made.result is not made.source and made.result is not made.destination)

    replaced = {"mediaType": made.result.media_type, "manifests": made.result.fields["manifests"]}
    expected = {**made.source.fields, **replaced}
    expected.pop("subject", None)
    assert made.result.content == encode(expected)


@given(MERGES)
def test_a_docker_list_lists_docker_manifests_with_a_platform_only(made: Made) -> None:
    if made.result.media_type == DOCKER_LIST:
        assert all(e.media_type in DOCKER_MANIFESTS for e in made.result.manifests)
        assert all(e.platform is not None for e in made.result.manifests)


@given(MERGES)
def test_only_eligible_entries_come_from_the_source_with_their_attestations(made: Made) -> None:
    eligible = made.policy.eligible
    assume(eligible is not None)

    chosen = {
        e.digest
        for e in made.source.manifests
        if e.slot is not None and any(p.matches(e.slot) for p in eligible or ())
    }
    named = {e.digest if not e.is_attestation else e.attested for e in made.plan.taken}
    assert named == chosen
    left_out = planned(made.plan, "excluded")
    assert not {e.attested for e in left_out} & chosen


@given(MERGES)
def test_missing_names_are_those_that_match_nothing_in_the_source(made: Made) -> None:
    found = [e.slot for e in made.source.manifests if e.slot is not None]
    expected = [p.text for p in made.policy.eligible or () if not any(map(p.matches, found))]
    assert list(made.plan.missing) == expected


@given(MERGES)
def test_no_attestation_is_kept_without_its_image(made: Made) -> None:
    present = {e.digest for e in made.result.manifests if not e.is_attestation}
    kept = planned(made.plan, "kept")
    assert {e.attested for e in kept if e.is_attestation} <= present


@given(PLAIN)
def test_an_attestation_stays_with_its_image_unless_the_source_brings_its_own(made: Made) -> None:
    present = {e.digest for e in made.result.manifests if not e.is_attestation}
    brought = {e.attested for e in made.source.manifests if e.is_attestation}
    expected = [
        e.digest
        for e in made.destination.manifests
        if e.attested in present and e.attested not in brought
    ]
    kept = [e for e in made.result.manifests if e.is_attestation and e.attested not in brought]
    assert [e.digest for e in kept] == expected


@given(MERGES)
def test_inputs_are_never_changed(made: Made) -> None:
    before = copy.deepcopy((made.source, made.destination))

    merge(made.source, made.destination, made.policy)

    assert (made.source, made.destination) == before


@given(MERGES)
def test_the_digest_is_that_of_the_content_and_the_content_that_of_the_index(made: Made) -> None:
    assert made.result.digest == f"sha256:{hashlib.sha256(made.result.content).hexdigest()}"
    assert json.loads(made.result.content) == made.result.fields
    assert Index.from_bytes(made.result.content, made.result.media_type) == made.result


@given(INDEXES, INDEXES, INDEXES, MATCHES)
def test_images_do_not_depend_on_how_three_indexes_are_grouped(
    first: Index, second: Index, third: Index, policy: Policy
) -> None:
    right = merge(first, merge(second, third, policy).result, policy).result
    left = merge(merge(first, second, policy).result, third, policy).result

    assert by_slot(images_of(left)) == by_slot(images_of(right))


@given(indexes("first"), indexes("second"), indexes("third"), MATCHES)
def test_indexes_that_share_no_image_may_be_grouped_in_any_way(
    first: Index, second: Index, third: Index, policy: Policy
) -> None:
    """Attestations need this: one of b, of an image of c alone, stays only if c is merged first."""
    right = merge(first, merge(second, third, policy).result, policy).result
    left = merge(merge(first, second, policy).result, third, policy).result

    assert by_slot(left.manifests) == by_slot(right.manifests)


@given(INDEXES, POLICIES)
def test_an_absent_destination_is_an_empty_one(source: Index, policy: Policy) -> None:
    absent = merge(source, None, policy)
    empty = merge(source, index(), policy)

    assert written(absent.result) == written(empty.result)
    assert absent.entries == empty.entries
    assert absent.changed


@given(INDEXES, SOME_PATTERNS)
def test_removal_leaves_a_subsequence_without_what_was_named(
    found: Index, patterns: list[str]
) -> None:
    plan = remove(found, patterns, allow_empty=True)

    gone = {e.digest for e in planned(plan, "dropped")}
    assert is_subsequence(digests(plan.result), digests(found))
    assert {*digests(plan.result), *gone} == set(digests(found))
    assert remove(plan.result, patterns, allow_empty=True).result is plan.result


@given(INDEXES, SOME_PATTERNS)
def test_removal_makes_no_orphans(found: Index, patterns: list[str]) -> None:
    result = remove(found, patterns, allow_empty=True).result

    before = {e.digest for e in found.manifests if not e.is_attestation}
    after = {e.digest for e in result.manifests if not e.is_attestation}
    assert not {e.attested for e in result.manifests} & (before - after)


@given(INDEXES, SOME_PATTERNS)
def test_removal_of_everything_needs_to_be_allowed(found: Index, patterns: list[str]) -> None:
    plan = remove(found, patterns, allow_empty=True)

    if plan.result.manifests:
        assert remove(found, patterns).entries == plan.entries
    else:
        with pytest.raises(EmptyIndex):
            remove(found, patterns)


@given(INDEXES)
def test_pruning_leaves_each_image_artifact_and_attestation_of_a_listed_image(found: Index) -> None:
    result = remove(found, [], prune=True, allow_empty=True).result

    of_use = {e.digest for e in images_of(found) if not e.lacks_platform or e.platform is None}
    attested = {e.digest for e in found.manifests if e.attested in of_use}
    assert set(digests(result)) == of_use | attested
    assert remove(result, [], prune=True, allow_empty=True).result is result


@given(SIDES, st.none() | SIDES, MAKES_INDEXES)
def test_no_platform_of_an_image_or_index_is_lost(
    source: Side, destination: Side | None, policy: Policy
) -> None:
    plan = merge_manifests(source, destination, policy)

    sides = [source] if destination is None else [source, destination]
    present = {e.descriptor.slot for e in plan.entries if e.fate not in ("dropped", "excluded")}
    assert not lost({e.slot for s in sides for e in s.index.manifests if e.slot}, {*present})
    check_shrink(source.reference, plan, policy)


@given(SIDES, st.none() | SIDES, MAKES_INDEXES)
def test_merging_images_again_changes_nothing(
    source: Side, destination: Side | None, policy: Policy
) -> None:
    result = merge_manifests(source, destination, policy).result
    wrapped = {side.manifest: side.index for side in (source, destination) if side}
    listed = result if isinstance(result, Index) else wrapped[result]

    again = merge_manifests(source, Side(source.reference, result, listed), policy)

    assert again.result == result
    assert not again.changed


@given(st.lists(SIDES, min_size=2, max_size=3), MATCHES)
def test_what_a_source_lacks_in_the_result_an_earlier_source_has(
    sources: list[Side], policy: Policy
) -> None:
    present = set(digests(combine(sources, policy).index))

    had, attested = set[Hashable](), set[object]()
    for source in sources:
        left_out = [e for e in source.index.manifests if e.digest not in present]
        own = {e.digest for e in images_of(source.index)}
        assert not lost({slot(e, policy) for e in left_out if not e.is_attestation}, had)
        assert {e.attested for e in left_out if e.is_attestation} <= own | attested
        had |= slots(source.index, policy)
        attested |= {e.attested for e in source.index.manifests if e.is_attestation}


EVEN = [f"*/*/x*{digit}" for digit in "02468"]


def calls_of(work: Callable[[], object]) -> int:
    """Count the calls of Python functions, a measure of work that does not depend on the clock."""
    calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
    return calls


def large(count: int, seed: str) -> Index:
    """Make an index of images that each have a platform of their own and an attestation."""
    texts = [f"linux/amd64/x{number}" for number in range(count)]
    images = [entry(text, seed=seed + text) for text in texts]
    return index(*images, *(attestation(str(image["digest"])) for image in images))


@pytest.mark.parametrize("shared", [True, False])
def test_work_is_linear_in_the_number_of_entries(*, shared: bool) -> None:
    sizes = [(large(n, "a"), large(n, "a" if shared else "b")) for n in (50, 200)]
    policy = Policy(eligible=EVEN, keep=["linux"], drop=["*/*/x*1"])
    for source, destination in sizes:  # compile the patterns once
        merge(source, destination, policy)

    few, many = (calls_of(partial(merge, *pair, policy)) for pair in sizes)

    assert 0 < many < 5 * few


def test_removal_is_linear_in_the_number_of_entries() -> None:
    sizes = [large(n, "a") for n in (50, 200)]
    for found in sizes:
        remove(found, EVEN)

    few, many = (calls_of(partial(remove, found, EVEN)) for found in sizes)

    assert 0 < many < 5 * few
