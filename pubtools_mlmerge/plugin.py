"""Our implementations of hooks: the seams of the host, and the two steps.

Every task of every pubtools library loads this module, so it loads next to nothing.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pubtools.pluggy import hookimpl, pm

from pubtools_mlmerge import hookspecs
from pubtools_mlmerge.host import seams, task

if TYPE_CHECKING:
    from pubtools_mlmerge.core.plan import Report
    from pubtools_mlmerge.host.requests import MergeRequest, SelectedRequest


LOG = logging.getLogger("pubtools.mlmerge")

_warned: set[tuple[object, str]] = set()


@hookimpl(trylast=True)
def task_start() -> None:
    """Replace the host's names, unless that is done."""
    seams.install()
    warn_of_unknown_hooks()
    program = "".join(sys.argv[:1])  # embedded, Python may have none
    if Path(program).name == task.COPYING_SCRIPT:
        task.refuse_script()


def warn_of_unknown_hooks() -> None:
    """Warn once of each hook that a plugin implements and nobody calls, as its name is misspelt."""
    for plugin in pm.get_plugins():
        for caller in pm.get_hookcallers(plugin) or ():
            name = pm.get_name(plugin)
            if caller.name.startswith("mlmerge_") and not caller.has_spec():
                if (name, caller.name) not in _warned:
                    ours = [each for each in vars(hookspecs) if each.startswith("mlmerge_")]
                    words = "The plugin %s implements %s, which is never called; the hooks are %s"
                    LOG.warning(words, name, caller.name, ", ".join(ours))
                _warned.add((name, caller.name))


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
