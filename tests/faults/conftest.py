"""Scenarios in real registries, and the count of what was survived."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from attrs import field, frozen

from tests.faults.judging import judge
from tests.faults.proxy import Proxy, Seen
from tests.faults.running import hurried, merge
from tests.faults.scenarios import Scenario, across, tokens, union
from tests.servers import RealRegistry
from tests.stress.arena import IS_LONG


@frozen
class Recording:
    """A scenario, and the requests of a run in which all went well."""

    scenario: Scenario
    requests: tuple[Seen, ...] = field(repr=False)

    def chosen(self) -> tuple[Seen, ...]:
        """Leave out, where time is short, what the scenario with tokens shows as well."""
        if IS_LONG or self.scenario.name == "union":
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
