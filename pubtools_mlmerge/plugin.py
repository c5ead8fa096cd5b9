"""Our implementations of hooks: the seams of the host, and the two steps.

Every task of every pubtools library loads this module, so it loads next to nothing.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Literal

from pubtools.pluggy import hookimpl, pm

from pubtools_mlmerge import hookspecs  # noqa: F401 - the hooks are there once it is imported
from pubtools_mlmerge.host import seams, task

if TYPE_CHECKING:
    from pubtools_mlmerge.core.plan import Report
    from pubtools_mlmerge.host.requests import MergeRequest, SelectedRequest


@hookimpl
def task_start() -> None:
    """Replace the host's names, unless that is done."""
    seams.install()
    task.refuse_script("".join(sys.argv[:1]))  # embedded, Python may have none


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
seams.watch_imports()
