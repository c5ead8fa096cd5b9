"""Activation: whether anything speaks of merging, found out without reading it."""

from __future__ import annotations

import importlib
import inspect
import logging
import os
import sys
import threading
from collections.abc import Mapping
from types import ModuleType

KEY = "mlmerge"
"""The key of the target settings that holds ours."""
PREFIX = "MLMERGE_"
"""What our environment variables begin with."""


def is_mentioned(target_settings: Mapping[str, object]) -> bool:
    """Tell whether the settings of a task or the environment hold anything of ours."""
    return bool(target_settings.get(KEY)) or any(name.startswith(PREFIX) for name in os.environ)


LOG = logging.getLogger("pubtools.mlmerge")

_PACKAGE = "pubtools._quay"
_TASK = ("push_items", "hub", "task_id", "target_name", "target_settings")
# Module, class, and the methods that ours override or call, with their arguments.
_EXPECTED: Mapping[tuple[str, str], Mapping[str, tuple[str, ...]]] = {
    ("push_docker", "PushDocker"): {
        "__init__": _TASK,
        "run": (),
        "sign_new_manifests": ("docker_push_items",),
        "rollback": ("backup_tags", "rollback_tags"),
        "get_outdated_manifests": ("backup_tags",),
        "ImageData": ("repo", "tag", "v2list_digest", "v2s2_digest", "v2s1_digest"),
    },
    ("push_docker", "ContainerImagePusher"): {
        "__init__": ("push_items", "target_settings"),
        "run_tag_images": ("source_ref", "dest_refs", "all_arch", "target_settings"),
        "copy_multiarch_push_item": ("push_item", "source_ml"),
        "copy_v1_push_item": ("push_item",),
    },
    ("tag_docker", "TagDocker"): {
        "__init__": _TASK,
        "is_arch_relevant": ("push_item", "arch"),
        "tag_add_calculate_archs": ("push_item", "tag", "executor"),
        "tag_remove_calculate_archs": ("push_item", "tag", "executor"),
        "merge_manifest_lists_sign_images": ("push_item", "tag", "add_archs"),
        "manifest_list_remove_archs": ("push_item", "tag", "remove_archs"),
    },
    ("tag_docker", "ManifestListMerger"): {
        "merge_manifest_lists_selected_architectures": ("eligible_archs",),
    },
}
_USED = {
    "push_docker": ("SignEntry", "SIGNER_BY_LABEL", "set_aws_kms_environment_variables"),
    "tag_docker": ("get_internal_container_repo_name",),
    "quay_client": ("QuayClient",),
}


def problems() -> tuple[str, ...]:
    """Compare the installed host with what ours are made for.

    Returns:
        tuple[str, ...]: What does not fit; empty if all does.
    """
    found: list[str] = []
    for (module_name, class_name), methods in _EXPECTED.items():
        host_class = getattr(_module(module_name), class_name, None)
        if not isinstance(host_class, type):
            found.append(f"{module_name}.{class_name} is missing")
            continue
        for method, arguments in methods.items():
            actual = _arguments(getattr(host_class, method, None))
            if actual != arguments:
                found.append(f"{module_name}.{class_name}.{method} takes {actual}")
    for module_name, names in _USED.items():
        module = _module(module_name)
        found += [f"{module_name}.{name} is missing" for name in names if not hasattr(module, name)]
    return tuple(found)


def _module(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(f"{_PACKAGE}.{name}")
    except ImportError:
        return None


def _arguments(function: object) -> tuple[str, ...] | None:
    if not callable(function):
        return None
    names = inspect.signature(function).parameters
    return tuple(name for name in names if name not in ("self", "cls"))


class Seams:
    """The replaced names; in place as long as at least one task runs, in any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._replaced: list[tuple[ModuleType, str, object, object]] = []

    def install(self) -> None:
        """Put ours in place, unless no host is loaded."""
        with self._lock:
            self._users += 1
            if self._users == 1 and _PACKAGE in sys.modules:
                self._replace()

    def remove(self) -> None:
        """Put the host's back, if no other task needs ours."""
        with self._lock:
            self._users -= 1
            if self._users == 0:
                while self._replaced:
                    module, name, theirs, ours = self._replaced.pop()
                    if getattr(module, name, None) is ours:
                        setattr(module, name, theirs)
                    else:
                        LOG.warning("%s.%s was replaced by others", module.__name__, name)

    def _replace(self) -> None:
        found, ours = _prepare()
        if found:
            LOG.warning("No merging inside this pubtools-quay: %s", "; ".join(found))
        for module_name, name in _EXPECTED:
            module = sys.modules.get(f"{_PACKAGE}.{module_name}")
            theirs = getattr(module, name, None)
            if module is not None and isinstance(theirs, type):
                stand_in = _guard(theirs, found) if found else ours[module_name, name]
                self._replaced.append((module, name, theirs, stand_in))
                setattr(module, name, stand_in)


SEAMS = Seams()


def _prepare() -> tuple[tuple[str, ...], Mapping[tuple[str, str], object]]:
    """Check the host and load ours; whatever goes wrong hurts only tasks that ask for merging."""
    try:
        found = problems()
        return found, {} if found else {names: _ours(*names) for names in _EXPECTED}
    except Exception as error:
        LOG.debug("The host does not fit", exc_info=True)
        return (f"{type(error).__name__}: {error}",), {}


def _ours(module_name: str, name: str) -> object:
    # These modules derive from the host's classes, so they load only where it is there and fits.
    return getattr(importlib.import_module(f"pubtools_mlmerge.host.{module_name}"), name)


def _asks_to_merge(target_settings: Mapping[object, object]) -> bool:
    """Tell whether a task wants a step; settings win over the environment, as ever."""
    ours = target_settings.get(KEY)
    if isinstance(ours, Mapping) and "steps" in ours:
        return bool(ours["steps"])
    return bool(os.environ.get(f"{PREFIX}STEPS"))


def _guard(theirs: type, found: tuple[str, ...]) -> type:
    """Let a class that does not fit do its work, unless it is asked to merge."""

    def refuse(self: object, *arguments: object, **named: object) -> None:
        given = [value for value in (*arguments, *named.values()) if isinstance(value, Mapping)]
        if any(map(_asks_to_merge, given or [{}])):
            from pubtools_mlmerge.errors import HostMismatch  # noqa: PLC0415 - seldom needed

            raise HostMismatch(found)
        theirs.__init__(self, *arguments, **named)  # type: ignore[misc]  # any class

    return type(theirs.__name__, (theirs,), {"__init__": refuse, "__module__": theirs.__module__})
