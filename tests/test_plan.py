"""Policy and plan."""

from __future__ import annotations

import attrs
import pytest

from pubtools_mlmerge.core.merge import merge
from pubtools_mlmerge.core.plan import Policy
from pubtools_mlmerge.core.platforms import PlatformPattern
from pubtools_mlmerge.errors import InvalidPlatform
from tests.factories import index


def test_by_default_everything_is_taken_and_kept() -> None:
    policy = Policy()

    assert policy.eligible is None
    assert (policy.keep, policy.drop) == ((), ())
    assert (policy.match, policy.mixed_types, policy.single_image) == ("platform", "oci", "wrap")


def test_patterns_are_read_from_text_and_taken_as_they_are() -> None:
    arm64 = PlatformPattern.parse("arm64")

    policy = Policy(eligible=["arm64"], keep=(arm64,), drop=iter(["s390x"]))

    assert (policy.eligible, policy.keep) == ((arm64,), (arm64,))
    assert policy.keep[0] is arm64
    assert policy.drop == (PlatformPattern.parse("s390x"),)
    assert Policy(eligible=[]).eligible == ()  # nothing, and not everything
    assert Policy(eligible="arm64").eligible == (arm64,)  # and not its letters


@pytest.mark.parametrize("name", ["eligible", "keep", "drop"])
def test_a_bad_pattern_is_refused(name: str) -> None:
    with pytest.raises(InvalidPlatform):
        Policy(**{name: ["a/b/c/d"]})  # type: ignore[arg-type]  # any of the three


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
