"""Only our own errors come out of anything that is read, however it was garbled."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from tests.hostile.strategies import VALID, fuzzed, replaced, seeds
from tests.hostile.targets import TARGETS

# It would take twice as long, and other tests are there for coverage.
pytestmark = pytest.mark.no_cover

BOUNDED = settings(
    max_examples=300,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.mark.parametrize("target", TARGETS)
def test_only_our_own_errors_come_out(target: str) -> None:
    @BOUNDED
    @given(fuzzed(target))
    def any_other_one_fails(content: bytes) -> None:
        TARGETS[target](content)

    any_other_one_fails()


@pytest.mark.parametrize("target", VALID)
def test_no_place_takes_an_odd_value_amiss(target: str) -> None:
    for content in replaced(target):
        TARGETS[target](content)


@pytest.mark.parametrize("target", TARGETS)
def test_what_fuzzing_begins_with_is_taken(target: str) -> None:
    """Else all that comes after it would fail in the same place."""
    assert None in [TARGETS[target](content) for content in seeds(target)]
