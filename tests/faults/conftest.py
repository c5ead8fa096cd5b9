"""Scenarios in real registries, and the count of what was survived."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping

import pytest
from attrs import define, field, frozen

from tests.faults.judging import judge
from tests.faults.proxy import Proxy, Seen
from tests.faults.running import hurried, merge
from tests.faults.scenarios import Scenario, across, tokens, union
from tests.servers import RealRegistry

STRESS = bool(os.environ.get("MLMERGE_STRESS"))
"""Whether everything is tried, however long that takes."""


@define
class Tally:
    """How many cases there were, and how many went as they must."""

    cases: int = 0
    survived: int = 0

    def count(self, judge: Callable[[], Iterable[str]]) -> list[str]:
        """Judge one more case, and hand on its problems."""
        self.cases += 1
        problems = list(judge())
        self.survived += not problems
        return problems

    def __str__(self) -> str:
        return f"faults survived: {self.survived}/{self.cases}"


_TALLY = pytest.StashKey[Tally]()


@pytest.fixture
def tally(pytestconfig: pytest.Config) -> Tally:
    return pytestconfig.stash.setdefault(_TALLY, Tally())


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the count."""
    if tally := config.stash.get(_TALLY, None):
        terminalreporter.write_line(str(tally))


@frozen
class Recording:
    """A scenario, and the requests of a run in which all went well."""

    scenario: Scenario
    requests: tuple[Seen, ...] = field(repr=False)

    def chosen(self) -> tuple[Seen, ...]:
        """Leave out, where time is short, what the scenario with tokens shows as well."""
        if STRESS or self.scenario.name == "union":
            return self.requests
        first = tuple(seen for seen in self.requests if seen.turn == 1)
        if self.scenario.name == "tokens":
            return first
        return tuple(seen for seen in first if seen.is_write)


@pytest.fixture(scope="session")
def recordings(
    docker_registry_plain: RealRegistry, docker_registry_token: RealRegistry
) -> Mapping[str, Recording]:
    """Merge once in each scenario, with nothing going wrong."""
    scenarios = (
        union(docker_registry_plain),
        across(docker_registry_plain),
        tokens(docker_registry_token),
    )
    return {scenario.name: _recorded(scenario) for scenario in scenarios}


def _recorded(scenario: Scenario) -> Recording:
    with scenario.fresh() as bench, Proxy(scenario.registry) as proxy, hurried():
        done = merge(bench, proxy.host)
        assert (done.code, [*judge(bench, done)]) == (0, []), done.err
    return Recording(scenario, tuple(proxy.seen))
