"""Between two writes of ours a platform leaves a tag only if somebody named it."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from pubtools_mlmerge.testing import RegistryServer
from tests.hunt.machine import Expected, Hunt, Memory, Troubled

# It would take twice as long, and other tests are there for coverage.
pytestmark = pytest.mark.no_cover

SEQUENCES = int(os.environ.get("MLMERGE_HUNT", "200"))


def hunt(make: Callable[[Path], Hunt], directory: Path, sequences: int) -> None:
    """Run random sequences; a failure is reduced, and printed with what repeats it."""
    records = directory / "records"
    records.mkdir()
    bounds = settings(
        max_examples=sequences,
        stateful_step_count=10,
        deadline=None,
        print_blob=True,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(directory))
        factory = partial(make, records)
        run_state_machine_as_test(factory, settings=bounds)  # type: ignore[arg-type]  # not a class


@pytest.mark.usefixtures("no_variables")
def test_nothing_is_lost_unless_it_was_named(tmp_path: Path) -> None:
    expected = Expected()
    with RegistryServer(dialect=Troubled(expected)) as server:
        hunt(partial(Hunt, Memory(server, expected)), tmp_path, SEQUENCES)
