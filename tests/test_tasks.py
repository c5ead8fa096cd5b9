"""Entry points for task hosts, on modules that stand where the host's are."""

from __future__ import annotations

import sys
from importlib.metadata import distribution

import pytest
from pubtools.pluggy import task_context

from pubtools_mlmerge import tasks
from pubtools_mlmerge.errors import HostMismatch
from pubtools_mlmerge.host.task import current_task
from tests.test_seams import PACKAGE, Modules, PushDocker, modules

__all__ = ["modules"]

Arguments = tuple[list[object], str, str, str, dict[str, object]]

SETTINGS: dict[str, object] = {"quay_host": "quay.io"}
ARGUMENTS: Arguments = ([], "hub", "1", "target", SETTINGS)
STARTS = {"push_docker": tasks.push_docker, "tag_docker": tasks.tag_docker}


@pytest.fixture(autouse=True)
def _resolved() -> None:
    """Load all plugins before the host's modules are stood in for."""
    with task_context():
        pass


@pytest.mark.parametrize("name", STARTS)
def test_the_host_s_task_runs_in_a_task_context(name: str, modules: Modules) -> None:
    seen: list[object] = []

    def run(*arguments: object) -> str:
        seen.extend([arguments, current_task() is not None])
        return "done"

    setattr(modules[name], "mod_entry_point", run)  # noqa: B010 - mypy knows no such attribute

    assert STARTS[name](*ARGUMENTS) == "done"
    assert seen == [ARGUMENTS, True]
    assert current_task() is None


@pytest.mark.parametrize("name", STARTS)
def test_a_host_that_changed_is_an_error_before_anything_runs(
    name: str, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(PushDocker, "rollback")

    with pytest.raises(HostMismatch, match="rollback"):
        STARTS[name](*ARGUMENTS)


@pytest.mark.parametrize("name", STARTS)
def test_no_host_is_the_same_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("push_docker", "tag_docker"):
        monkeypatch.setitem(sys.modules, f"{PACKAGE}.{module}", None)

    with pytest.raises(HostMismatch):
        STARTS[name](*ARGUMENTS)


@pytest.mark.parametrize("name", STARTS)
def test_task_hosts_find_it_by_name(name: str) -> None:
    (found,) = [
        entry
        for entry in distribution("pubtools-mlmerge").entry_points
        if (entry.group, entry.name) == ("target", f"mlmerge-{name.replace('_', '-')}")
    ]

    assert found.load() is STARTS[name]
