"""Entry points for task hosts, on modules that take the places of the host's."""

from __future__ import annotations

import sys
from importlib.metadata import distribution

import pytest
from pubtools.pluggy import hookimpl, task_context

from pubtools_mlmerge import tasks
from pubtools_mlmerge.errors import HostMismatch
from tests.pushes import registered
from tests.test_seams import PACKAGE, Modules, modules

__all__ = ["modules"]

Arguments = tuple[list[object], str, str, str, dict[str, object]]

STARTS = {"push_docker": tasks.push_docker, "tag_docker": tasks.tag_docker}
ON: dict[str, object] = {"mlmerge": {"steps": ["push", "tag-docker"]}}
OFF: dict[str, object] = {"mlmerge": {"steps": []}}


def arguments(settings: dict[str, object]) -> Arguments:
    return ([], "hub", "1", "target", settings)


@pytest.fixture(autouse=True)
def _resolved() -> None:
    """Load all plugins before the host's modules are replaced."""
    with task_context():
        pass


class Starts:
    """Counts the tasks that start."""

    number = 0

    @hookimpl
    def task_start(self) -> None:
        self.number += 1


@pytest.mark.parametrize("name", STARTS)
def test_the_host_s_task_runs_in_a_task_context(name: str, modules: Modules) -> None:
    seen: list[object] = []
    starts = Starts()

    def run(*given: object) -> str:
        seen.extend([given, starts.number])
        return "done"

    setattr(modules[name], "mod_entry_point", run)  # noqa: B010 - mypy knows no such attribute
    with registered(starts):
        assert STARTS[name](*arguments(OFF)) == "done"
    assert seen == [arguments(OFF), 1]


@pytest.mark.parametrize("name", STARTS)
def test_a_host_that_changed_is_an_error_to_tasks_that_ask_for_the_step_that_does_not_fit(
    name: str, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(modules["push_docker"].PushDocker, "rollback")
    for module in modules.values():
        monkeypatch.setattr(module, "mod_entry_point", lambda *_: "done", raising=False)

    if name == "push_docker":
        with pytest.raises(HostMismatch, match="rollback"):
            STARTS[name](*arguments(ON))
    else:
        assert STARTS[name](*arguments(ON)) == "done"
    assert STARTS[name](*arguments(OFF)) == "done"


@pytest.mark.parametrize("name", STARTS)
def test_no_host_is_the_same_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("push_docker", "tag_docker"):
        monkeypatch.setitem(sys.modules, f"{PACKAGE}.{module}", None)

    with pytest.raises(HostMismatch):
        STARTS[name](*arguments(ON))


@pytest.mark.parametrize("name", STARTS)
def test_task_hosts_find_it_by_name(name: str) -> None:
    (found,) = [
        entry
        for entry in distribution("pubtools-mlmerge").entry_points
        if (entry.group, entry.name) == ("target", f"mlmerge-{name.replace('_', '-')}")
    ]

    assert found.load() is STARTS[name]
