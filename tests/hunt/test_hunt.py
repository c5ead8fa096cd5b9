"""Between two writes of ours a platform leaves a tag only if somebody named it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from pubtools_mlmerge.testing import RegistryServer
from tests.hunt.machine import Hunt, Memory, Troubled

# It would take twice as long, and other tests are there for coverage.
pytestmark = pytest.mark.no_cover

SEQUENCES = int(os.environ.get("MLMERGE_HUNT", "200"))


@pytest.mark.usefixtures("no_variables")
def test_nothing_is_lost_unless_it_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    records = tmp_path / "records"
    records.mkdir()
    dialect = Troubled()
    bounds = settings(
        max_examples=SEQUENCES,
        report_multiple_bugs=False,
        stateful_step_count=10,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    with RegistryServer(dialect=dialect) as server:
        place = Memory(server, dialect)
        run_state_machine_as_test(lambda: Hunt(place, records), settings=bounds)
