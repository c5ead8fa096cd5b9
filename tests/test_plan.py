"""Policy and plan."""

from __future__ import annotations

import pytest

from pubtools_mlmerge.core.plan import Policy
from pubtools_mlmerge.core.platforms import PlatformPattern
from pubtools_mlmerge.errors import InvalidPlatform


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


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        *((name, "a/b/c/d") for name in ("eligible", "keep", "drop")),
        ("keep", "s390"),
        ("drop", "s390"),
    ],
)
def test_a_bad_pattern_is_refused_and_an_unknown_name_of_what_goes(name: str, pattern: str) -> None:
    with pytest.raises(InvalidPlatform):
        Policy(**{name: [pattern]})  # type: ignore[arg-type]  # any of the three

    assert Policy(eligible=["s390"]).eligible == (PlatformPattern.parse("s390"),)
