"""The state of one task, and the settings that enable its steps.

Every task of every pubtools library loads this module, so it loads next to nothing.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Generator, Iterable, Mapping
from typing import TYPE_CHECKING

from pubtools.pluggy import hookimpl, pm

from pubtools_mlmerge.host.seams import SEAMS, is_mentioned

if TYPE_CHECKING:
    from pubtools_mlmerge.core.plan import Report
    from pubtools_mlmerge.settings import Settings

LOG = logging.getLogger("pubtools.mlmerge")

_REGISTRATION = threading.Lock()


class _Running(threading.local):
    """The tasks of a thread, each inside the one before it."""

    def __init__(self) -> None:
        self.tasks: list[MergeTask] = []


_RUNNING = _Running()


class MergeTask:
    """The state of one task, registered as a plugin while it runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reports: list[Report] = []

    def note(self, report: Report) -> None:
        """Keep a report for the summary."""
        with self._lock:
            self._reports.append(report)

    def begin(self) -> None:
        """Register, and put the seams in place."""
        with _REGISTRATION:
            pm.register(self)
        SEAMS.install()
        _RUNNING.tasks.append(self)

    @hookimpl(hookwrapper=True, tryfirst=True)
    def task_stop(self, failed: bool) -> Generator[None, object, None]:  # noqa: FBT001 - the hook's
        """End with the task that this is of, however the others end it."""
        yield
        if not _RUNNING.tasks or _RUNNING.tasks[-1] is not self:
            return  # a task of another thread, or one inside this one
        _RUNNING.tasks.pop()
        SEAMS.remove()
        with _REGISTRATION:
            pm.unregister(self)
        if self._reports:
            _collect(self._reports)
            kept = sum(e.fate == "kept" for report in self._reports for e in report.entries)
            outcome = "failed" if failed else "succeeded"
            event = {"type": "mlmerge-summary", "merged": len(self._reports), "kept": kept}
            LOG.info(
                "Merged %d tags, kept %d entries, in a task that %s",
                len(self._reports),
                kept,
                outcome,
                extra={"event": event},
            )


def _collect(reports: Iterable[Report]) -> None:
    """Attach the reports to the task, where its host collects files."""
    from pubtools_mlmerge.merging.audit import Collected  # noqa: PLC0415 - only tasks that merged need it
    from pubtools_mlmerge.reports.report import to_json  # noqa: PLC0415 - as above

    lines = ",\n".join(map(to_json, reports))
    Collected().attach("mlmerge-report.json", f"[\n{lines}\n]\n".encode("ascii"), "report")


def current_task() -> MergeTask | None:
    """Find the task that this thread runs."""
    return _RUNNING.tasks[-1] if _RUNNING.tasks else None


def settings_for(step: str, target_settings: Mapping[str, object]) -> Settings | None:
    """Read the settings of a task if they enable a step."""
    if not is_mentioned(target_settings):
        return None
    from pubtools_mlmerge.settings import Settings  # noqa: PLC0415 - see above

    settings = Settings.from_task(target_settings, os.environ)
    return settings if step in settings.steps else None
