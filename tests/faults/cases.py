"""Cases: one fault at one request of one scenario."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from io import StringIO

from attrs import frozen

from tests.faults.judging import judge, judge_second_run, unless
from tests.faults.kinds import Fault, Injection, Mode
from tests.faults.proxy import Proxy, Seen
from tests.faults.running import Clock, hurried, merge
from tests.faults.scenarios import Bench, Scenario
from tests.programs import Done

_CHANCES = 3
"""How often a case is tried whose request never comes, as those made at a time change places."""
_TOLERANCE = 1.0  # seconds


@frozen
class Case:
    """A fault at one request of a scenario."""

    scenario: Scenario
    fault: Fault
    mode: Mode
    request: Seen
    """As it was in a run in which all went well."""

    def __str__(self) -> str:
        """Name it in a few words."""
        return f"{self.scenario.name}: {self.fault} {self.mode} at {self.request.place}"

    def problems(self) -> list[str]:
        """Let it happen; return what is wrong afterwards, and after a second run."""
        for _ in range(_CHANCES):
            injection = Injection(self.fault, self.request.place, self.mode)
            with self.scenario.fresh() as bench:
                found = [*self._first_run(bench, injection), *judge_second_run(bench)]
            if injection.hits:
                return [f"{self}: {problem}" for problem in found]
        return [f"{self}: it does not happen"]

    def _first_run(self, bench: Bench, injection: Injection) -> Iterator[str]:
        log = StringIO()
        with (
            Proxy(self.scenario.registry, injection) as proxy,
            hurried(impatient=self.fault.is_slow) as clock,
        ):
            if self.mode == "once":
                clock.at_wait = partial(_end_outage, proxy, log)
            done = merge(bench, proxy.host, log)
        yield from judge(bench, done)
        yield from self._flaws(done, clock)

    def _flaws(self, done: Done, clock: Clock) -> Iterator[str]:
        """Judge the end by what this fault must come to."""
        fault, says = self.fault, self.fault.says
        if self.request.what == "mount" or self.mode == "from then on":
            says += "|cannot copy"  # where it does not mount, another program is asked to copy
        # While one thread waits, time passes for the others, too.
        waited = sum(clock.waits) >= fault.waits - _TOLERANCE
        yield from unless(waited, f"it waits for {clock.waits} s only")
        yield from unless(fault.shows in done.err, f"{fault.shows!r} is not in {done.err}")
        if done.code:
            is_said = re.search(f"(?m)^ERROR: .*({says})", done.err) is not None
            yield from unless(is_said, f"it says: {done.err}")
        if self.mode == "once" and fault.heals:
            yield from unless(not done.code, f"it does not get over it: {done.err}")


def _end_outage(proxy: Proxy, log: StringIO) -> None:
    """Let clients connect again once one of them was refused."""
    if "connection refused" in log.getvalue():
        proxy.listen()
