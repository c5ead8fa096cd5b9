"""The life cycle of a task, without a host."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import suppress

import pytest
from attrs import evolve
from pubtools.pluggy import hookimpl, pm, task_context

from pubtools_mlmerge import plugin
from pubtools_mlmerge.core.manifests import Index
from pubtools_mlmerge.core.merge import merge
from pubtools_mlmerge.core.plan import Report
from pubtools_mlmerge.errors import InvalidSettings
from pubtools_mlmerge.host.task import current_task, settings_for
from tests.factories import index
from tests.test_hooks import REPORT


class Failure(Exception):
    """A task fails."""


@pytest.fixture(autouse=True)
def _no_trace(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Compare the plugins before and after; the first task loads what there is."""
    for name in [name for name in os.environ if name.startswith("MLMERGE_")]:
        monkeypatch.delenv(name)
    with task_context():
        pass
    before = set(pm.get_plugins())
    yield
    assert set(pm.get_plugins()) == before
    assert current_task() is None


def reported(source: Index, destination: Index) -> Report:
    return evolve(REPORT, entries=merge(source, destination).entries)


def test_a_task_has_a_state_of_its_own() -> None:
    with task_context():
        outer = current_task()
        with task_context():
            inner = current_task()
        assert current_task() is outer

    assert outer is not None
    assert inner not in (outer, None)


@pytest.mark.parametrize("error", [Failure(), SystemExit(2), KeyboardInterrupt()])
def test_a_task_that_fails_leaves_no_trace(error: BaseException) -> None:
    with pytest.raises(type(error)), task_context(), task_context():
        raise error


@pytest.mark.parametrize(
    ("code", "expected"), [(None, "succeeded"), (0, "succeeded"), (1, "failed")]
)
def test_the_summary_counts_what_was_merged(
    code: int | None, expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pubtools.mlmerge")
    report = reported(index("linux/amd64@new"), index("linux/amd64@old", "linux/s390x@old"))

    with suppress(SystemExit), task_context():
        task = current_task()
        assert task is not None
        task.note(report)
        task.note(report)
        if code is not None:
            sys.exit(code)

    (record,) = [r for r in caplog.records if r.name == "pubtools.mlmerge"]
    assert record.getMessage() == f"Merged 2 tags, kept 2 entries, in a task that {expected}"
    assert record.__dict__["event"] == {"type": "mlmerge-summary", "merged": 2, "kept": 2}


def test_a_task_that_merged_nothing_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "pubtools.mlmerge")

    with task_context():
        pass

    assert caplog.messages == []


class BadStart:
    """Another plugin, whose task_start raises."""

    @hookimpl
    def task_start(self) -> None:
        raise Failure


class BadStop:
    """Another plugin, whose task_stop raises."""

    @hookimpl
    def task_stop(self, failed: bool) -> None:
        raise Failure


@pytest.mark.parametrize("other", [BadStart(), BadStop()])
def test_another_plugin_that_raises_leaves_no_trace_of_ours(other: object) -> None:
    pm.register(other)
    try:
        with pytest.raises(Failure), task_context():
            pass
    finally:
        pm.unregister(other)


def test_settings_are_read_where_they_enable_the_step() -> None:
    target = {"mlmerge": {"steps": ["push"]}}

    found = settings_for("push", target)

    assert found is not None
    assert found.steps == {"push"}
    assert settings_for("tag-docker", target) is None
    assert settings_for("push", {}) is None


def test_wrong_settings_are_told() -> None:
    with pytest.raises(InvalidSettings):
        settings_for("push", {"mlmerge": {"steps": ["pull"]}})


def test_the_environment_enables_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLMERGE_STEPS", "tag-docker")

    assert settings_for("tag-docker", {}) is not None


def test_importing_it_twice_registers_it_once() -> None:
    assert sum(found is plugin for found in pm.get_plugins()) == 1
