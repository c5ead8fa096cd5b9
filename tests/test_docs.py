"""Options, settings and errors are documented, and the examples in Python run."""

from __future__ import annotations

import doctest
import json
import re
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

import attrs
import pytest

from pubtools_mlmerge import errors
from pubtools_mlmerge.cli.parsers import (
    demo_main,
    inspect_main,
    merge_main,
    remove_archs_main,
    restore_main,
)
from pubtools_mlmerge.core import ages
from pubtools_mlmerge.errors import InvalidSettings, MergeError
from pubtools_mlmerge.settings import Settings
from tests.pages import DOCS, PAGES, relative

PROGRAMS: dict[str, Callable[[Sequence[str]], None]] = {
    "pubtools-mlmerge-merge": merge_main,
    "pubtools-mlmerge-remove-archs": remove_archs_main,
    "pubtools-mlmerge-inspect": inspect_main,
    "pubtools-mlmerge-restore": restore_main,
    "pubtools-mlmerge-demo": demo_main,
}
ERRORS = {
    kind.__name__: kind
    for module in (errors, ages)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, MergeError)
}


def page(name: str) -> str:
    return (DOCS / f"{name}.rst").read_text(encoding="utf-8")


# Errors


def section_of(error: type[MergeError]) -> str:
    """Return what the page says about an error."""
    name = f"{error.__module__}.{error.__name__}"
    return page("errors").partition(f"{name}\n")[2].partition(".. autoexception")[0]


@pytest.mark.parametrize("name", ERRORS)
def test_the_fields_of_every_error_are_explained(name: str) -> None:
    error = ERRORS[name]
    base = error.__base__ or Exception
    own = {f.name for f in attrs.fields(error) if not f.inherited} if attrs.has(error) else set()
    if attrs.has(base):
        own -= {f.name for f in attrs.fields(base)}
    section = section_of(error) + page("errors").partition(".. autoexception")[0]

    assert {field for field in own if f"``{field}``" not in section} == set()


@pytest.mark.parametrize("name", [name for name in ERRORS if name != "MergeError"])
def test_every_error_is_on_the_page_with_what_to_do(name: str) -> None:
    assert "**What to do:**" in section_of(ERRORS[name])


# Settings


def settings_listed() -> dict[str, tuple[str, str, object]]:
    """Read the list: the variable, the type and the default of each setting."""
    rows = re.findall(r"^``(\w+)``: (.+); default ``(.+)``\n   \w", page("settings"), re.MULTILINE)
    return {
        name: (f"MLMERGE_{name.upper()}", kind, json.loads(default)) for name, kind, default in rows
    }


SETTINGS = settings_listed()
# Another value than the default for types that are not a choice, here and in the environment.
VALUES: dict[str, tuple[object, str]] = {
    "list of ``push``, ``tag-docker``": (["push", "tag-docker"], "push,tag-docker"),
    "list of glob patterns": (["a/*", "b"], "a/*, b"),
    "list of hosts": (["a.test", "b.test:5000"], "a.test,b.test:5000"),
    "list of platforms": (["s390x", "linux/arm/*"], "s390x,linux/arm/*"),
    "text or null": (None, ""),
    "URL or null": ("file:///srv/locks", "file:///srv/locks"),
    "directory or null": ("records", "records"),
    "number from 1 to 100": (7, "7"),
    "true, false or null": (True, "yes"),
    "number from 1 to 36500, or null": (90, "90"),
}


def other_value(kind: str, default: object) -> tuple[object, str]:
    """Make a value of a type that is not the default, here and as the environment writes it."""
    if isinstance(default, bool):
        return not default, str(not default)
    return VALUES[kind] if kind in VALUES else (re.findall("``(.+?)``", kind)[-1],) * 2


def defaults() -> dict[str, object]:
    """Tell the real defaults, as JSON has them."""
    settings = attrs.asdict(Settings(), recurse=False)
    policy = attrs.asdict(settings.pop("policy"), recurse=False)
    for name in (
        "eligible",
        "strict",
        "serves_many",
        "annotations",
    ):  # the tasks and commands say these
        del policy[name]
    values = {**settings, **policy, "anchor_tag": settings["anchor_tag"].template}
    return {
        name: list(value) if isinstance(value, (tuple, frozenset)) else value
        for name, value in values.items()
    }


def read(name: str, value: object) -> Settings:
    return Settings.from_task({"mlmerge": {name: value}}, {})


def test_the_page_has_every_setting_with_its_default() -> None:
    assert {name: default for name, (_, _, default) in SETTINGS.items()} == defaults()


@pytest.mark.parametrize("name", SETTINGS)
def test_the_default_on_the_page_changes_nothing(name: str) -> None:
    assert read(name, SETTINGS[name][2]) == Settings()


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_takes_values_of_its_type_from_both_places(name: str) -> None:
    variable, kind, default = SETTINGS[name]
    value, text = other_value(kind, default)

    settings = read(name, value)

    assert settings != Settings()
    assert Settings.from_task({}, {variable: text}) == settings


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_takes_no_value_of_another_type(name: str) -> None:
    kind = SETTINGS[name][1]

    with pytest.raises(InvalidSettings) as caught:
        read(name, 5.5)

    (problem,) = caught.value.problems
    if " or ``" in kind:
        assert problem == f"mlmerge.{name}: expected {kind.replace('``', '')}"
    else:
        assert problem.startswith(f"mlmerge.{name}: expected")


# The command line


@pytest.mark.parametrize("program", PROGRAMS)
def test_options_are_those_of_the_program(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = program.partition("mlmerge-")[2]
    assert f"\n.. command:: {command}\n" in page(f"cli-{command}")
    sys.path.insert(0, str(DOCS))
    written = "\n".join(import_module("options").write_command(command))
    assert f".. program:: {program}\n" in written
    with pytest.raises(SystemExit):
        PROGRAMS[program](["--help"])

    lines = re.findall(r"^  (-.+?)(?:  |$)", capsys.readouterr().out, re.MULTILINE)
    documented = re.findall(r"^\.\. option:: (.+)$", written, re.MULTILINE)
    shown, listed = (
        set(re.findall(r"(?<!\S)--?[a-z-]+", " ".join(found))) for found in (lines, documented)
    )
    assert shown == listed


# Laws


def test_the_tests_that_stand_for_the_laws_are_there() -> None:
    code = "".join(path.read_text() for path in (DOCS.parent / "tests").glob("**/test_*.py"))
    named = re.findall(r"``(test_\w+)``", page("merge-rules"))

    assert len(named) >= 11
    assert [name for name in named if f"def {name}(" not in code] == []


# Examples


@pytest.mark.parametrize("path", [p for p in PAGES if ">>> " in p.read_text()], ids=relative)
def test_python_examples_run(path: Path) -> None:
    failed, attempted = doctest.testfile(
        str(path), module_relative=False, encoding="utf-8", optionflags=doctest.ELLIPSIS
    )

    assert attempted
    assert not failed
