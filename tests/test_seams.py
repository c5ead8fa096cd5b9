"""The seams, on modules that take the places of the host's."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import reduce
from inspect import Parameter, Signature
from pathlib import Path
from types import ModuleType

import pytest

from pubtools_mlmerge import plugin  # noqa: F401 - watches for imports
from pubtools_mlmerge.errors import HostMismatch
from pubtools_mlmerge.host import seams
from pubtools_mlmerge.host.seams import StepName, install, is_in_place, problems

PACKAGE = "pubtools._quay"


Modules = Mapping[str, ModuleType]
Patch = pytest.MonkeyPatch
Log = pytest.LogCaptureFixture


def function(*names: str) -> Callable[..., None]:
    """Make a function whose arguments have names."""

    def made(*_: object, **__: object) -> None: ...

    parameters = [Parameter(name, Parameter.POSITIONAL_OR_KEYWORD) for name in names]
    vars(made)["__signature__"] = Signature(parameters)
    return made


def contents(step: StepName) -> dict[str, object]:
    """Make what a module of the host has, shaped as the table of seams says."""
    made: dict[str, object] = dict.fromkeys(seams.SEAMS[step].used, object())
    for name, methods in seams.SEAMS[step].replaced.items():
        functions = {each: function("self", *names) for each, names in methods.items()}
        made[name] = type(name, (), {**functions, "__module__": __name__})
    return made


@pytest.fixture
def modules(monkeypatch: Patch) -> Modules:
    """Put modules in the place of the host's, and forget that anything was replaced."""
    for name in [name for name in os.environ if name.startswith("MLMERGE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(seams, "_OUTCOMES", {})
    monkeypatch.setattr(seams, "_REPLACED", {})
    package = ModuleType(PACKAGE)
    monkeypatch.setitem(sys.modules, PACKAGE, package)
    made: dict[str, ModuleType] = {}
    for step, seam in seams.SEAMS.items():
        module = made[seam.module] = ModuleType(seam.module_name)
        vars(module).update(contents(step))
        setattr(package, seam.module, module)
        monkeypatch.setitem(sys.modules, seam.module_name, module)
        monkeypatch.delitem(sys.modules, f"pubtools_mlmerge.host.{seam.module}", raising=False)
    return made


def names_of(modules: Modules) -> list[type]:
    """List the classes that the replaced names name now."""
    seam_names = [(seam.module, name) for seam in seams.SEAMS.values() for name in seam.replaced]
    found = [getattr(modules[module], name, None) for module, name in seam_names]
    return [each for each in found if isinstance(each, type)]


@pytest.mark.parametrize("step", seams.STEPS)
def test_a_host_as_expected_has_no_problems(modules: Modules, step: StepName) -> None:
    assert problems(step) == ()
    install()
    assert problems(step) == ()
    assert is_in_place(step)


CHANGES: list[tuple[StepName, str, object, str]] = [  # what is there instead of a name, if anything
    ("push", "push_docker.PushDocker", None, " is missing"),
    ("push", "push_docker.PushDocker", "PushDocker", " is missing"),
    ("push", "push_docker.SignEntry", None, " is missing"),
    ("tag-docker", "tag_docker.TagDocker.is_arch_relevant", None, " takes None"),
    ("push", "push_docker.PushDocker.rollback", function("self", "tags"), " takes ('tags',)"),
]


@pytest.mark.parametrize(("step", "name", "instead", "problem"), CHANGES)
def test_what_does_not_fit_disables_its_step_with_one_line_and_leaves_the_other(  # noqa: PLR0917
    modules: Modules,
    monkeypatch: Patch,
    caplog: Log,
    step: StepName,
    name: str,
    instead: object,
    problem: str,
) -> None:
    module, *owner, attribute = name.split(".")
    place = reduce(getattr, owner, modules[module])
    if instead is None:
        monkeypatch.delattr(place, attribute)
    else:
        monkeypatch.setattr(place, attribute, instead)
    message = name + problem
    (other,) = {*seams.STEPS} - {step}

    install()
    install()

    assert any(message in problem for problem in problems(step))
    (line,) = caplog.messages
    assert line.startswith(f"No step '{step}' inside this pubtools-quay: ")
    assert message in line
    assert not is_in_place(step)
    assert is_in_place(other)


ASKING: list[tuple[dict[str, object], dict[str, str]]] = [
    ({"mlmerge": {"steps": ["tag-docker"]}}, {}),
    ({}, {"MLMERGE_STEPS": "push, tag-docker"}),
    ({"mlmerge": {"copy": "never"}}, {"MLMERGE_STEPS": "tag-docker"}),
]
NOT_ASKING: list[tuple[dict[str, object], dict[str, str]]] = [
    ({}, {}),
    ({"mlmerge": {"steps": []}}, {}),
    ({"mlmerge": {"steps": ["push"]}}, {"MLMERGE_STEPS": "tag-docker"}),
    ({}, {"MLMERGE_STEPS": "push"}),
    ({}, {"MLMERGE_COPY": "never"}),
]


@pytest.mark.parametrize(
    ("settings", "environment", "asks"),
    [*((*each, True) for each in ASKING), *((*each, False) for each in NOT_ASKING)],
)
@pytest.mark.parametrize("named", [False, True])
def test_only_a_task_that_asks_gets_an_error_from_a_step_that_does_not_fit(  # noqa: PLR0917
    modules: Modules,
    monkeypatch: Patch,
    settings: dict[str, object],
    environment: dict[str, str],
    asks: bool,
    named: bool,
) -> None:
    monkeypatch.delattr(modules["tag_docker"].TagDocker, "is_arch_relevant")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    install()
    start = modules["tag_docker"].TagDocker

    given, by_name = ([], {"target_settings": settings}) if named else ([settings], {})
    with pytest.raises(HostMismatch, match="is_arch_relevant") if asks else nullcontext():
        start([], None, "1", "target", *given, **by_name)


def test_ours_are_put_in_place_once_and_stay(modules: Modules) -> None:
    install()
    first = names_of(modules)
    install()

    assert names_of(modules) == first
    assert {each.__module__ for each in first} == {
        "pubtools_mlmerge.host.push_docker",
        "pubtools_mlmerge.host.tag_docker",
    }


def test_what_others_replaced_since_is_left_to_them(modules: Modules) -> None:
    install()
    ours = modules["tag_docker"].TagDocker

    class Site(ours):  # type: ignore[misc, valid-type]  # any class
        """Another plugin's class."""

    setattr(modules["tag_docker"], "TagDocker", Site)  # noqa: B010 - mypy knows no such attribute
    install()

    assert modules["tag_docker"].TagDocker is Site


def test_where_ours_do_not_load_only_tasks_that_ask_suffer(
    modules: Modules, monkeypatch: Patch, caplog: Log
) -> None:
    monkeypatch.setitem(sys.modules, "pubtools_mlmerge.host.tag_docker", None)

    install()

    modules["tag_docker"].TagDocker([], None, "1", "target", {})
    with pytest.raises(HostMismatch):
        modules["tag_docker"].TagDocker([], None, "1", "target", ASKING[0][0])
    assert len([r for r in caplog.records if r.levelno >= logging.WARNING]) == 1
    assert is_in_place("push")


def test_nothing_is_loaded_where_no_host_is(modules: Modules, monkeypatch: Patch) -> None:
    for name in modules:
        monkeypatch.delitem(sys.modules, f"{PACKAGE}.{name}")

    install()

    assert not is_in_place("push")
    assert f"{PACKAGE}.push_docker" not in sys.modules


def test_names_are_replaced_when_the_host_s_module_is_imported_after_us(
    modules: Modules, monkeypatch: Patch, tmp_path: Path
) -> None:
    """Whoever imports it, and without any hook being called."""
    for name in modules:
        monkeypatch.delitem(sys.modules, f"{PACKAGE}.{name}")
    (tmp_path / "tag_docker.py").write_text(
        "from tests.test_seams import contents\nglobals().update(contents('tag-docker'))\n"
    )
    monkeypatch.setattr(sys.modules[PACKAGE], "__path__", [str(tmp_path)], raising=False)

    module = importlib.import_module(f"{PACKAGE}.tag_docker")

    assert module.TagDocker.__module__ == "pubtools_mlmerge.host.tag_docker"
    assert is_in_place("tag-docker")
