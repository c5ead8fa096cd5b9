"""Shared by the host's tasks: whether a step is enabled, and the summary at the end.

Loaded in every task of the host, so it loads nothing of the engine unless a step is enabled.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from pubtools_mlmerge.host.seams import SEAMS, STEPS, StepName, is_asked_for, is_in_place

if TYPE_CHECKING:
    from pubtools_mlmerge.core.plan import Report
    from pubtools_mlmerge.settings import Settings

LOG = logging.getLogger("pubtools.mlmerge")


def version_of(distribution: str) -> str:
    """Return the version of an installed distribution."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "(not installed)"


def settings_for(step: StepName, target_settings: Mapping[str, object]) -> Settings | None:
    """Read the settings of a task if they enable a step; None if they do not.

    A task that does not ask for the step reads `MLMERGE_STEPS` and nothing else of the environment.
    """
    ours = target_settings.get("mlmerge")
    is_off = not ours or (isinstance(ours, Mapping) and ours.get("steps") in ([], ()))
    is_asked = is_asked_for(step, target_settings)
    if is_off and not is_asked:
        return None
    from pubtools_mlmerge.settings import Settings  # noqa: PLC0415 - loads part of the engine

    # A misspelt key must not pass for a target that does not merge.
    environment = os.environ if is_asked else {}
    settings = Settings.from_task(target_settings, environment)
    if step not in settings.steps:
        return None
    LOG.info(
        "The step %r is enabled: pubtools-mlmerge %s in pubtools-quay %s, seams %s%s",
        step,
        version_of("pubtools-mlmerge"),
        version_of("pubtools-quay"),
        "in place" if is_in_place(step) else "not in place",
        ", reports only" if settings.report_only else "",
    )
    return settings


COPYING_SCRIPT = "pubtools-quay-tag-image"


def refuse_script() -> None:
    """Refuse the host's script that copies and cannot merge, where a step is enabled."""
    if not any(is_asked_for(step, {}) for step in STEPS):
        return
    from pubtools_mlmerge.errors import CannotMergeHere  # noqa: PLC0415 - seldom needed
    from pubtools_mlmerge.settings import Settings  # noqa: PLC0415 - as above

    if Settings.from_task({}, os.environ).report_only:
        return
    raise CannotMergeHere(
        f"MLMERGE_STEPS enables merging, but {COPYING_SCRIPT} copies images as they are",
        "pubtools-mlmerge-merge, or without that variable",
    )


def refuse(step: StepName, target_settings: Mapping[str, object]) -> None:
    """Refuse to merge in the host's own class, imported before ours replaced it."""
    settings = settings_for(step, target_settings)
    if settings is None or settings.report_only:
        return
    from pubtools_mlmerge.errors import CannotMergeHere  # noqa: PLC0415 - seldom needed

    raise CannotMergeHere(
        f"the step {step!r} is enabled, but this task was begun by a class that was taken from "
        "pubtools-quay before pubtools-mlmerge was loaded, so that nothing would be merged well",
        f"the entry point {SEAMS[step].entry_point}",
    )


def log_plan(outcome: Report | Exception) -> None:
    """Log what would be done to a tag, or why that would fail."""
    from pubtools_mlmerge.reports.report import to_text  # noqa: PLC0415 - part of the engine

    if isinstance(outcome, Exception):
        LOG.warning("Would fail, if not report_only: %s", outcome)
    else:
        LOG.info(f"Would merge, if not report_only:\n{to_text(outcome)}")  # noqa: G004 - arguments are put on one line


@contextmanager
def summed_up(reports: Sequence[Report]) -> Iterator[None]:
    """Log a summary at the end, and attach the reports where the task host collects files."""
    outcome = "failed"
    try:
        yield
        outcome = "succeeded"
    except SystemExit as error:
        outcome = "failed" if error.code else "succeeded"
        raise
    finally:
        if reports:
            _sum_up(reports, outcome)


def _sum_up(reports: Sequence[Report], outcome: str) -> None:
    from pubtools_mlmerge.merging.audit import collect  # noqa: PLC0415 - part of the engine
    from pubtools_mlmerge.reports.report import to_json  # noqa: PLC0415 - as above

    lines = ",\n".join(map(to_json, reports))
    collect("mlmerge-report.json", f"[\n{lines}\n]\n".encode("ascii"), "report")
    last = {report.destination: report for report in reports}  # of tags of several items
    kept = sum(entry.fate == "kept" for report in last.values() for entry in report.entries)
    event = {"type": "mlmerge-summary", "merged": len(last), "kept": kept}
    LOG.info(
        "Merged %d tags, kept %d entries, in a task that %s",
        *(len(last), kept, outcome),
        extra={"event": event},
    )
