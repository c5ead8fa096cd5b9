"""A merge that is killed at any request: nothing is lost, and a second run completes the work."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from functools import partial

import pytest
from attrs import field, frozen

from tests.faults.conftest import Recording
from tests.faults.judging import damage, judge_second_run
from tests.faults.proxy import Exchange, Proxy
from tests.faults.running import PASSWORDS
from tests.faults.scenarios import Scenario
from tests.programs import start
from tests.stress.counts import Counts

_PATIENCE = 30


@frozen
class Hold:
    """Keeps one request from its answer, and if `is_early` from the registry as well."""

    place: str
    is_early: bool
    reached: threading.Event = field(factory=threading.Event)
    released: threading.Event = field(factory=threading.Event)

    def __call__(self, exchange: Exchange) -> None:
        """Handle an exchange."""
        if exchange.seen.place != self.place:
            exchange.relay()
            return
        if not self.is_early:
            exchange.forward()
        self.reached.set()
        self.released.wait(_PATIENCE)
        exchange.reset()


def kill(hold: Hold, arguments: tuple[str, ...]) -> int:
    """Start the program, and kill it as soon as it waits for that answer."""
    with open(os.devnull, "r+b") as nothing:  # noqa: PTH123 - no file
        process = start("merge", arguments, [nothing.fileno()] * 3, PASSWORDS)
    hold.reached.wait(_PATIENCE)
    os.kill(process.pid, signal.SIGKILL)
    hold.released.set()
    return process.wait(_PATIENCE)


def problems(scenario: Scenario, place: str, *, is_early: bool) -> Iterator[str]:
    """Kill a merge at one request; yield what is wrong then and later."""
    hold = Hold(place, is_early)
    with scenario.fresh() as bench:
        with Proxy(scenario.registry, hold) as proxy:
            code = kill(hold, bench.arguments(proxy.host))
        if code != -signal.SIGKILL or not hold.reached.is_set():
            yield f"{place}: it ended with {code}"
        later = (*damage(bench, bench.held()), *judge_second_run(bench))
        yield from (f"{place}: {problem}" for problem in later)


@pytest.mark.parametrize("is_early", [True, False], ids=["before it is done", "when it is done"])
@pytest.mark.parametrize("name", ["union", "across"])
def test_a_kill_leaves_the_tag_whole(
    recordings: Mapping[str, Recording], counts: Counts, name: str, is_early: bool
) -> None:
    scenario, found = recordings[name].scenario, list[str]()
    for request in recordings[name].chosen():
        judge = partial(problems, scenario, request.place, is_early=is_early)
        found += counts.judge("kills at a request", judge)

    assert not found, "\n".join(found)
