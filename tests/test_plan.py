"""Policy and plan."""

from __future__ import annotations

from typing import Callable

import attrs
import pytest

from pubtools_mlmerge.core.merge import merge
from pubtools_mlmerge.core.plan import Policy, patterns_of
from pubtools_mlmerge.core.platforms import PlatformPattern
from pubtools_mlmerge.errors import InvalidPlatform
from tests.factories import index


def test_by_default_everything_is_taken_and_kept() -> None:
    policy = Policy()

    assert policy.eligible is None
    assert (policy.keep, policy.drop) == ((), ())
    assert (policy.match, policy.mixed_types, policy.single_image) == ("platform", "oci", "wrap")


def test_patterns_are_read_from_text() -> None:
    policy = Policy(eligible=["arm64"], keep=("linux/*",), drop=iter(["s390x"]))

    assert policy.eligible == (PlatformPattern.parse("arm64"),)
    assert policy.keep == (PlatformPattern.parse("linux/*"),)
    assert policy.drop == (PlatformPattern.parse("s390x"),)


def test_a_pattern_that_was_read_already_is_taken_as_it_is() -> None:
    pattern = PlatformPattern.parse("arm64")

    assert patterns_of([pattern, "amd64"])[0] is pattern


def test_nothing_eligible_is_not_everything_eligible() -> None:
    assert Policy(eligible=[]).eligible == ()


@pytest.mark.parametrize(
    "policy_of",
    [lambda p: Policy(eligible=p), lambda p: Policy(keep=p), lambda p: Policy(drop=p)],
    ids=["eligible", "keep", "drop"],
)
def test_a_bad_pattern_is_refused(policy_of: Callable[[list[str]], Policy]) -> None:
    with pytest.raises(InvalidPlatform):
        policy_of(["a/b/c/d"])


def test_names_of_what_to_take_may_be_unknown_and_those_of_what_goes_may_not() -> None:
    assert Policy(eligible=["s390"]).eligible == (PlatformPattern.parse("s390"),)
    with pytest.raises(InvalidPlatform, match="unknown architecture"):
        Policy(keep=["s390"])
    with pytest.raises(InvalidPlatform, match="unknown architecture"):
        Policy(drop=["s390"])


def test_a_policy_does_not_change() -> None:
    policy = Policy()

    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        policy.match = "architecture"  # type: ignore[misc]  # wrong on purpose
    assert hash(policy) == hash(Policy())


def test_taken_are_the_entries_that_come_from_the_source() -> None:
    source = index("linux/amd64@new", "linux/arm64@same", "linux/s390x")
    destination = index("linux/amd64@old", "linux/arm64@same", "linux/ppc64le")

    plan = merge(source, destination)

    assert plan.taken == source.manifests
    assert [e.fate for e in plan.entries] == ["replaced", "same", "added", "kept"]


def test_a_single_name_is_not_taken_for_its_letters() -> None:
    policy = Policy(eligible="arm64")

    assert [pattern.text for pattern in policy.eligible or ()] == ["arm64"]
