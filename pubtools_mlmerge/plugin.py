"""Our implementations of hooks: the life cycle of a task, and the two steps.

Every task of every pubtools library loads this module, so it loads next to nothing.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Generator
from typing import TYPE_CHECKING, Literal

from pubtools.pluggy import hookimpl, pm

from pubtools_mlmerge import hookspecs  # noqa: F401 - the hooks are there once it is imported
from pubtools_mlmerge.host.task import MergeTask

if TYPE_CHECKING:
    from pubtools_mlmerge.core.plan import Report
    from pubtools_mlmerge.host.requests import MergeRequest, SelectedRequest

LOG = logging.getLogger("pubtools.mlmerge")


@hookimpl(hookwrapper=True, tryfirst=True)
def task_start() -> Generator[None, object, None]:
    """Begin once all others have begun: where one of them fails, there is no end to undo ours."""
    outcome = yield
    if getattr(outcome, "excinfo", None) is None:
        MergeTask().begin()


@hookimpl(trylast=True)
def mlmerge_merge(request: MergeRequest) -> Report | Literal[False]:
    """Merge one tag of a push item, unless the host's plain copy does the same."""
    report = request.carry_out()
    return False if report is None else report


@hookimpl(trylast=True)
def mlmerge_merge_selected(request: SelectedRequest) -> dict[str, object]:
    """Compute one list in tag-docker."""
    return request.carry_out()


pm.register(sys.modules[__name__])
