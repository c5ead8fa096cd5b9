"""The names of pubtools-quay that are replaced, and whether the installed one fits.

The host has no hook before its copy, and looks its workers up by name in its modules. So these
names are replaced, once and for good, by subclasses that add nothing unless the settings of a
target enable the step. Every task of every pubtools library loads this module.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping
from functools import partial
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Literal, NamedTuple

LOG = logging.getLogger("pubtools.mlmerge")

StepName = Literal["push", "tag-docker"]
STEPS: tuple[StepName, ...] = ("push", "tag-docker")

_PACKAGE = "pubtools._quay"
_TASK = ("push_items", "hub", "task_id", "target_name", "target_settings")
_Signatures = Mapping[str, tuple[str, ...]]


class _Seam(NamedTuple):
    """What one step replaces and uses of one of the host's modules."""

    module: str
    replaced: Mapping[str, _Signatures]
    """Classes, with the arguments of the methods that ours override or call, and a function."""
    used: tuple[str, ...]

    @property
    def module_name(self) -> str:
        return f"{_PACKAGE}.{self.module}"

    @property
    def entry_point(self) -> str:
        """Name our entry point of the group ``target``."""
        return f"mlmerge-{self.module.replace('_', '-')}"


SEAMS: Mapping[StepName, _Seam] = {
    "push": _Seam(
        "push_docker",
        {
            "PushDocker": {
                "__init__": _TASK,
                "run": (),
                "get_docker_push_items": (),
                "sign_new_manifests": ("docker_push_items",),
                "rollback": ("backup_tags", "rollback_tags"),
                "get_outdated_manifests": ("backup_tags",),
                "ImageData": ("repo", "tag", "v2list_digest", "v2s2_digest", "v2s1_digest"),
            },
            "ContainerImagePusher": {
                "__init__": ("push_items", "target_settings"),
                "run_tag_images": ("source_ref", "dest_refs", "all_arch", "target_settings"),
                "copy_multiarch_push_item": ("push_item", "source_ml"),
                "copy_v1_push_item": ("push_item",),
            },
            "SecurityManifestPusher": {
                "__init__": ("push_items", "target_settings"),
                "push_manifest_list_security_manifests": ("item", "dir_path"),
            },
            "item_processor_for_internal_data": {},
        },
        ("SignEntry", "SIGNER_BY_LABEL", "set_aws_kms_environment_variables"),
    ),
    "tag-docker": _Seam(
        "tag_docker",
        {
            "TagDocker": {
                "__init__": _TASK,
                "run": (),
                "is_arch_relevant": ("push_item", "arch"),
                "tag_add_calculate_archs": ("push_item", "tag", "executor"),
                "tag_remove_calculate_archs": ("push_item", "tag", "executor"),
                "merge_manifest_lists_sign_images": ("push_item", "tag", "add_archs"),
                "copy_tag_sign_images": ("push_item", "tag", "executor"),
                "untag_image": ("push_item", "tag"),
                "manifest_list_remove_archs": ("push_item", "tag", "remove_archs"),
            },
            "ManifestListMerger": {
                "merge_manifest_lists_selected_architectures": ("eligible_archs",),
            },
            "PushDocker": {
                "check_repos_validity": ("push_items", "hub", "target_settings"),
            },
        },
        ("SIGNER_BY_LABEL",),
    ),
}


def problems(step: StepName) -> tuple[str, ...]:
    """Check that the installed host fits a step; this imports the host.

    Returns:
        tuple[str, ...]: The mismatches; empty if there are none.
    """
    seam = SEAMS[step]
    try:
        module = importlib.import_module(seam.module_name)
    except ImportError as error:
        return (f"{seam.module} cannot be loaded: {error}",)
    found = [f"{seam.module}.{name} is missing" for name in seam.used if not hasattr(module, name)]
    for name, signatures in seam.replaced.items():
        # Once it is replaced, ours has the same methods: the host's is below it.
        theirs = _REPLACED.get((seam.module, name), getattr(module, name, None))
        if not callable(theirs):
            found.append(f"{seam.module}.{name} is missing")
            continue
        for method, expected in signatures.items():
            actual = _arguments(getattr(theirs, method, None))
            if actual != expected:
                found.append(f"{seam.module}.{name}.{method} takes {actual}")
    return tuple(found)


def _arguments(function: object) -> tuple[str, ...] | None:
    if not callable(function):
        return None
    names = inspect.signature(function).parameters
    return tuple(name for name in names if name not in ("self", "cls"))


_LOCK = threading.RLock()  # loading ours may load one of the host's modules, which installs again
_REPLACED: dict[tuple[str, str], object] = {}
_OUTCOMES: dict[StepName, tuple[str, ...]] = {}


def install(just_loaded: str = "") -> None:
    """Replace the names in the modules of the host that are loaded, each step once."""
    with _LOCK:
        for step, seam in SEAMS.items():
            is_loaded = seam.module_name == just_loaded or _is_loaded(seam.module_name)
            if step not in _OUTCOMES and is_loaded:
                _OUTCOMES[step] = ()  # what is loaded for it need not try again
                _OUTCOMES[step] = _install(step, seam)


def is_in_place(step: StepName) -> bool:
    """Whether the names of a step are replaced, by classes that can merge."""
    return _OUTCOMES.get(step) == ()


def _is_loaded(name: str) -> bool:
    """Whether a module was imported to its end."""
    module = sys.modules.get(name)
    return module is not None and not getattr(module.__spec__, "_initializing", False)


def _install(step: StepName, seam: _Seam) -> tuple[str, ...]:
    """Replace the names of one step; a failure affects only tasks that enable the step."""
    module = sys.modules[seam.module_name]
    try:
        found = problems(step)
        # Ours derive from the host's classes, so they are loaded only where these are there.
        ours = None if found else importlib.import_module(f"pubtools_mlmerge.host.{seam.module}")
        new = {name: getattr(ours, name) for name in seam.replaced if ours is not None}
    except Exception as error:
        LOG.debug("The host does not fit", exc_info=True)
        found, new = (f"{type(error).__name__}: {error}",), {}
    if found:
        LOG.warning("No step %r inside this pubtools-quay: %s", step, "; ".join(found))
        theirs = {name: getattr(module, name, None) for name in seam.replaced}
        new = {
            name: _refusing(step, each, found)
            for name, each in theirs.items()
            if isinstance(each, type)
        }
    for name, replacement in new.items():
        _REPLACED[seam.module, name] = getattr(module, name)
        setattr(module, name, replacement)
    return found


def is_asked_for(step: StepName, target_settings: Mapping[str, object]) -> bool:
    """Whether a task asks for a step; target settings win over the environment."""
    ours = target_settings.get("mlmerge")
    if isinstance(ours, Mapping) and ours.get("steps") is not None:
        steps = ours["steps"]
        return step in steps if isinstance(steps, (list, tuple)) else bool(steps)
    names = {name.strip() for name in os.environ.get("MLMERGE_STEPS", "").split(",")} - {""}
    return step in names or not names.issubset(STEPS)  # a misspelt one comes to light then


def _refusing(step: StepName, theirs: type, found: tuple[str, ...]) -> type:
    """Make a class that does the host's work, unless a task asks for a step that does not fit."""

    def refuse(self: object, *arguments: object, **named: object) -> None:
        given = [value for value in (*arguments, *named.values()) if isinstance(value, Mapping)]
        if any(is_asked_for(step, each) for each in given):
            from pubtools_mlmerge.errors import HostMismatch  # noqa: PLC0415 - seldom needed

            raise HostMismatch(found)
        theirs.__init__(self, *arguments, **named)  # type: ignore[misc]  # any class

    return type(theirs.__name__, (theirs,), {"__init__": refuse, "__module__": theirs.__module__})


class _AfterImport:
    """Replaces the names as soon as a module of the host is imported.

    A task that is started by the host's own entry points calls no hook before it copies.
    """

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Find a module of the host by the other finders, and install after it was run."""
        if not name.startswith(_PACKAGE) or all(s.module_name != name for s in SEAMS.values()):
            return None
        for finder in sys.meta_path:
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find(name, path, target) if find else None
            if spec is not None and spec.loader is not None:
                run = partial(_run_and_install, spec.loader.exec_module)
                spec.loader.exec_module = run  # type: ignore[method-assign]  # of this one
                return spec
        return None


def _run_and_install(run: Callable[[ModuleType], None], module: ModuleType) -> None:
    run(module)
    install(module.__name__)


def watch_imports() -> None:
    """Replace names in modules that are loaded, and the rest when they are imported."""
    sys.meta_path.insert(0, _AfterImport())
    install()
