"""Entry points for task hosts, group ``target``: the host's tasks, with merging."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from pubtools.pluggy import task_context

from pubtools_mlmerge.errors import HostMismatch
from pubtools_mlmerge.host import seams
from pubtools_mlmerge.host.seams import StepName


def push_docker(
    push_items: Sequence[object],
    hub: object,
    task_id: str,
    target_name: str,
    target_settings: dict[str, object],
) -> object:
    """Push container images, as the host's ``push-docker`` does.

    The arguments are the host's; ours are in ``target_settings["mlmerge"]``.

    Returns:
        object: The result of the host's task.

    Raises:
        HostMismatch: When the step is enabled and the installed pubtools-quay does not fit, before
            anything is written.
        InvalidSettings: When ours are wrong, before anything is asked.
    """
    return _run("push", push_items, hub, task_id, target_name, target_settings)


def tag_docker(
    push_items: Sequence[object],
    hub: object,
    task_id: str,
    target_name: str,
    target_settings: dict[str, object],
) -> object:
    """Tag container images, as the host's ``tag-docker`` does; otherwise like `push_docker`."""
    return _run("tag-docker", push_items, hub, task_id, target_name, target_settings)


def _run(step: StepName, *arguments: object) -> object:
    target_settings = arguments[-1]
    module_name = seams.SEAMS[step].module_name
    is_asked = isinstance(target_settings, dict) and seams.is_asked_for(step, target_settings)
    found = seams.problems(step) if is_asked else ()
    if found:
        raise HostMismatch(found)
    with task_context():
        module = importlib.import_module(module_name)
        seams.install()
        return module.mod_entry_point(*arguments)
