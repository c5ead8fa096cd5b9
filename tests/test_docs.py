"""Options, settings and errors are documented, and the examples in Python run."""

from __future__ import annotations

import doctest
import json
import re
from pathlib import Path

import attrs
import pytest

from pubtools_mlmerge import errors
from pubtools_mlmerge.cli.parsers import COMMANDS
from pubtools_mlmerge.core import ages
from pubtools_mlmerge.errors import InvalidSettings, MergeError
from pubtools_mlmerge.settings import Settings
from tests.pages import DOCS, PAGES, relative

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


# The type and the default of each, as the page lists them.
SETTINGS = {
    name: (kind, json.loads(default))
    for name, kind, default in re.findall(
        r"^``(\w+)``: (.+); default ``(.+)``\n   \w", page("settings"), re.MULTILINE
    )
}


def defaults() -> dict[str, object]:
    """Tell the real defaults, as JSON has them."""
    settings = attrs.asdict(Settings(), recurse=False)
    policy = attrs.asdict(settings.pop("policy"), recurse=False)
    for name in ("eligible", "strict", "serves_many", "annotations"):  # not of settings
        del policy[name]
    values = {**settings, **policy, "anchor_tag": settings["anchor_tag"].template}
    return {
        name: list(value) if isinstance(value, (tuple, frozenset)) else value
        for name, value in values.items()
    }


def read(name: str, value: object) -> Settings:
    return Settings.from_task({"mlmerge": {name: value}}, {})


def test_the_page_has_every_setting_with_its_default() -> None:
    assert {name: default for name, (_, default) in SETTINGS.items()} == defaults()


@pytest.mark.parametrize("name", SETTINGS)
def test_the_default_on_the_page_changes_nothing(name: str) -> None:
    assert read(name, SETTINGS[name][1]) == Settings()


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_takes_no_value_of_another_type(name: str) -> None:
    kind = SETTINGS[name][0].removesuffix(", or null").replace("``", "")

    with pytest.raises(InvalidSettings) as caught:
        read(name, 5.5)

    (problem,) = caught.value.problems
    assert problem.startswith(f"mlmerge.{name}: expected ")
    if kind.startswith("number"):
        assert problem.endswith(f": expected a {kind}")
    elif " or ``" in SETTINGS[name][0]:
        assert problem.endswith(f": expected {kind}")


# The command line


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_a_page(command: str) -> None:
    """Its options are read from its parser, as those of the manual pages."""
    assert f"\n.. command:: {command}\n" in page(f"cli-{command}")


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
