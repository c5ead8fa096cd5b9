"""The plugin: what it registers, and what the host's tasks have in common."""

from __future__ import annotations

import logging
from contextlib import suppress

import pytest
from attrs import evolve
from pubtools.pluggy import hookimpl, pm, task_context

from pubtools_mlmerge import plugin
from pubtools_mlmerge.core.merge import merge
from pubtools_mlmerge.errors import CannotMergeHere, InvalidSettings
from pubtools_mlmerge.host.task import refuse, settings_for, summed_up
from tests.factories import index
from tests.pushes import registered
from tests.test_hooks import REPORT

Log = pytest.LogCaptureFixture

pytestmark = pytest.mark.usefixtures("no_variables")


def test_importing_it_twice_registers_it_once() -> None:
    assert sum(found is plugin for found in pm.get_plugins()) == 1


class Failure(Exception):
    """A task fails."""


class BadStart:
    """Another plugin, whose task_start raises."""

    @hookimpl
    def task_start(self) -> None:
        raise Failure


def test_a_task_registers_nothing_however_it_ends() -> None:
    with task_context():
        pass
    before = set(pm.get_plugins())

    with task_context(), task_context():
        assert set(pm.get_plugins()) == before
    with registered(BadStart()), pytest.raises(Failure), task_context():
        pass
    assert set(pm.get_plugins()) == before


# The summary of a task


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "succeeded"),
        (SystemExit(0), "succeeded"),
        *((error, "failed") for error in (SystemExit(1), Failure(), KeyboardInterrupt())),
    ],
)
def test_the_summary_counts_what_was_merged(
    error: BaseException | None, outcome: str, caplog: Log
) -> None:
    caplog.set_level(logging.INFO, "pubtools.mlmerge")
    merged = merge(index("linux/amd64@new"), index("linux/amd64@old", "linux/s390x@old"))
    report = evolve(REPORT, entries=merged.entries)
    other = evolve(report, destination=report.destination.tagged("other"))
    reports = [report, other, report]  # a tag of two items

    with suppress(SystemExit, Failure, KeyboardInterrupt), summed_up(reports):
        if error is not None:
            raise error

    (record,) = [r for r in caplog.records if r.name == "pubtools.mlmerge"]
    assert record.getMessage() == f"Merged 2 tags, kept 2 entries, in a task that {outcome}"
    assert record.__dict__["event"] == {"type": "mlmerge-summary", "merged": 2, "kept": 2}


def test_a_task_that_merged_nothing_says_nothing(caplog: Log) -> None:
    caplog.set_level(logging.DEBUG, "pubtools.mlmerge")

    with summed_up([]):
        pass

    assert caplog.messages == []


# Whether a step is enabled


def test_settings_are_read_where_they_enable_the_step(caplog: Log) -> None:
    caplog.set_level(logging.INFO, "pubtools.mlmerge")
    target = {"mlmerge": {"steps": ["push"]}}

    found = settings_for("push", target)

    assert found is not None
    assert found.steps == {"push"}
    assert settings_for("tag-docker", target) is None
    assert settings_for("push", {}) is None
    (line,) = caplog.messages
    assert line.startswith("The step 'push' is enabled: pubtools-mlmerge ")


@pytest.mark.parametrize("mlmerge", [{"steps": ["pull"]}, {"step": ["push"]}, "push", ["push"]])
def test_wrong_settings_are_an_error_and_do_not_pass_for_none(mlmerge: object) -> None:
    with pytest.raises(InvalidSettings):
        settings_for("push", {"mlmerge": mlmerge})


def test_the_environment_enables_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLMERGE_STEPS", "tag-docker")
    assert settings_for("tag-docker", {}) is not None
    assert settings_for("push", {}) is None

    monkeypatch.setenv("MLMERGE_STEPS", "psuh")
    with pytest.raises(InvalidSettings, match="MLMERGE_STEPS"):
        settings_for("push", {})


@pytest.mark.parametrize(
    "target", [{}, {"mlmerge": {}}, {"mlmerge": {"steps": []}}, {"mlmerge": {"copy": "never"}}]
)
def test_a_task_that_does_not_ask_reads_no_other_variable(
    target: dict[str, object], monkeypatch: pytest.MonkeyPatch, caplog: Log
) -> None:
    monkeypatch.setenv("MLMERGE_TRIES", "many")
    monkeypatch.setenv("MLMERGE_SERVICE_PORT", "8080")

    assert settings_for("push", target) is None
    assert caplog.messages == []


def test_a_refusal_says_what_to_start_instead() -> None:
    with pytest.raises(CannotMergeHere, match="mlmerge-push-docker"):
        refuse("push", {"mlmerge": {"steps": ["push"]}})
    refuse("push", {"mlmerge": {"steps": ["push"], "report_only": True}})
    refuse("push", {})
