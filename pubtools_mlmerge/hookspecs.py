"""The hooks that other libraries may implement.

They are registered with the plugin manager of pubtools, ``pubtools.pluggy.pm``. Each may be called
from any thread.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Literal

from pubtools.pluggy import hookspec, pm

if TYPE_CHECKING:
    from pubtools_mlmerge.core.plan import Report
    from pubtools_mlmerge.host.requests import MergeRequest, SelectedRequest


@hookspec(firstresult=True)
def mlmerge_merge(request: MergeRequest) -> Report | Literal[False] | None:
    """Called for each destination tag of a push item that is no source container, to merge it.

    It is called with the tag locked, once all tags of the push were looked at and before anything
    is written to this one, for several tags at a time. The project's own implementation comes last.

    :param request: Source, destination and settings; ``request.carry_out()`` does the usual thing.
    :type request: pubtools_mlmerge.host.requests.MergeRequest
    :return: The report of the merge; False to leave the tag to the host's plain copy; None to let
        the next implementation decide.
    :rtype: pubtools_mlmerge.core.plan.Report or bool
    """


@hookspec(firstresult=True)
def mlmerge_merge_selected(request: SelectedRequest) -> dict[str, object] | None:
    """Called in tag-docker to compute the list that a tag is to hold; nothing is uploaded.

    It is called on the thread of the task. The project's own implementation comes last.

    :param request: Source, destination and eligible architectures; ``request.carry_out()`` does
        the usual thing.
    :type request: pubtools_mlmerge.host.requests.SelectedRequest
    :return: The new manifest list.
    :rtype: dict
    """


@hookspec
def mlmerge_merged(report: Report) -> None:
    """Called after each upload of a merged index, on the thread that did it.

    :param report: The report of the merge.
    :type report: pubtools_mlmerge.core.plan.Report
    """


@hookspec(firstresult=True)
def mlmerge_lock(reference: str) -> AbstractContextManager[object] | None:
    """Called before a tag is merged, to keep other writers away until it was written.

    :param reference: The tag.
    :type reference: str
    :return: A context manager that holds the lock. If what it yields has a method ``check``, that
        is called just before the tag is written, on any thread, to raise if the lock was lost.
    :rtype: contextlib.AbstractContextManager
    """


pm.add_hookspecs(sys.modules[__name__])
