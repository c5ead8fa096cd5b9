"""Every fault at every request of a merge: nothing is lost, and a second run completes the work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from tests.faults.cases import Case
from tests.faults.conftest import Recording
from tests.faults.kinds import FAULTS, Fault, Mode
from tests.faults.proxy import Seen
from tests.stress.arena import IS_LONG
from tests.stress.counts import Counts

# It would take twice as long, and other tests are there for coverage.
pytestmark = pytest.mark.no_cover

_PATH = "/v2/app/manifests"
_MOUNT = "/v2/app/blobs/uploads/?mount=sha256:0"
_READS = (Seen("GET", f"{_PATH}/stable"), Seen("HEAD", f"{_PATH}/stable"))
_PUT = Seen("PUT", f"{_PATH}/stable")
_BRINGS = (Seen("POST", _MOUNT), Seen("PUT", f"{_PATH}/sha256:0"))
_SCENARIOS = {
    "union": (*_READS, _PUT),
    "tokens": (*_READS, *_BRINGS, _PUT, Seen("GET", f"{_PATH}/new", "Bearer token")),
    **({"across": (*_READS, *_BRINGS, _PUT)} if IS_LONG else {}),
}
"""Requests of each kind that there are in a scenario."""


def _combinations() -> Iterator[tuple[str, Fault, Mode]]:
    for name, requests in _SCENARIOS.items():
        for fault in FAULTS:
            is_short = name == "union" and not fault.is_slow
            if any(map(fault.fits, requests)):
                for mode in fault.modes if IS_LONG or is_short else fault.modes[:1]:
                    yield name, fault, mode


@pytest.mark.parametrize(("name", "fault", "mode"), tuple(_combinations()), ids=str)
def test_a_fault_leaves_the_tag_whole(
    recordings: Mapping[str, Recording], counts: Counts, name: str, fault: Fault, mode: Mode
) -> None:
    recording = recordings[name]
    requests = filter(fault.fits, recording.chosen())
    cases = [Case(recording.scenario, fault, mode, request) for request in requests]

    problems = [each for case in cases for each in counts.judge("faults", case.problems)]

    assert cases
    assert not problems, "\n".join(problems)
