"""The documentation says what the project does: names, options, keys, examples and their output."""

from __future__ import annotations

import ast
import doctest
import json
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import get_args

import attrs
import pytest

import pubtools_mlmerge
from pubtools_mlmerge import errors, hookspecs, testing
from pubtools_mlmerge.cli import demo
from pubtools_mlmerge.cli.parsers import inspect_main, merge_main, remove_archs_main, restore_main
from pubtools_mlmerge.core.plan import Fate
from pubtools_mlmerge.errors import InvalidSettings, MergeError
from pubtools_mlmerge.host import seams
from pubtools_mlmerge.settings import Settings
from pubtools_mlmerge.testing import (
    RegistryServer,
    make_attestation,
    make_image,
    make_index,
    upload,
)
from tests.programs import run

ROOT = Path(__file__).parents[1]
PACKAGE = Path(pubtools_mlmerge.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
PAGES = sorted((ROOT / "docs").glob("*.rst"))
PROGRAMS: dict[str, Callable[[Sequence[str]], None]] = {
    "pubtools-mlmerge-merge": merge_main,
    "pubtools-mlmerge-remove-archs": remove_archs_main,
    "pubtools-mlmerge-inspect": inspect_main,
    "pubtools-mlmerge-restore": restore_main,
    "pubtools-mlmerge-demo": demo.main,
}
ERRORS = {
    kind.__name__: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, MergeError)
}
AUTODOC = re.compile(
    r"^\.\. auto(?:class|exception|function|data):: pubtools_mlmerge\.([\w.]+)(?:\(\))?$",
    re.MULTILINE,
)


def page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.rst").read_text(encoding="utf-8")


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


# Names


def test_the_reference_has_every_public_name() -> None:
    documented = {name.rpartition(".")[2] for name in AUTODOC.findall(page("reference"))}

    assert {*testing.__all__} - documented == set()


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
    section = section_of(error)

    assert {field for field in own if f"``{field}``" not in section} == set()


@pytest.mark.parametrize("name", [name for name in ERRORS if name != "MergeError"])
def test_every_error_says_when_it_comes_and_what_to_do(name: str) -> None:
    section = section_of(ERRORS[name])

    assert "**When:**" in section
    assert "**What to do:**" in section


# What can go wrong

SAID = (
    errors.ConflictError("TAG", "sha256:...", "sha256:...", 5),
    errors.ShrinkError("TAG", ("linux/s390x",)),
    errors.LockFailed("TAG", "somebody else holds it, given up after 600 seconds"),
    errors.LockLost("TAG", "it expired, or somebody took it away"),
    errors.InvalidRecord("FILE", "..."),
    errors.RecordFailed("DIRECTORY", "..."),
    errors.CannotRestore("TAG", "it was changed since: ..."),
    errors.StaleImages("TAG", ("...",)),
    errors.RegistryError("TAG", None, "connection refused"),
    errors.RegistryError("TAG", 429),
    errors.RegistryError("TAG", 500),
    errors.Unauthorized("TAG", 401),
    errors.Forbidden("TAG", 403),
    errors.ImmutableTag("TAG", 409),
    errors.MissingChild("TAG", 400, "", ("sha256:...",)),
    errors.DigestMismatch("TAG", "sha256:...", "sha256:..."),
    errors.CopyFailed("SOURCE", "TAG", "..."),
)


def failures() -> str:
    """Return the page about failures as one line."""
    return " ".join(page("failures").split())


@pytest.mark.parametrize("error", SAID, ids=lambda error: type(error).__name__)
def test_the_page_on_failures_quotes_what_they_say(error: MergeError) -> None:
    assert f"``{error}``" in failures()


def templates() -> Iterator[re.Pattern[str]]:
    """Yield what the log lines of the package look like."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and "%" in node.value:
                yield re.compile(re.sub(r"%(s|\\\.1f)", ".+", re.escape(node.value)))


def test_the_page_on_failures_quotes_what_is_logged() -> None:
    quoted = re.findall(r"``(?:INFO|WARNING): (.+?)``", failures())
    lines = [template for template in templates() if len(template.pattern) > len(".+: .+ .+")]

    assert len(quoted) > 5
    assert [line for line in quoted if not any(t.fullmatch(line) for t in lines)] == []


# Inside the host


def settings_table() -> dict[str, tuple[str, str, object]]:
    """Read the table: the variable, the type and the default of each setting."""
    rows = re.findall(
        r"^   \* - ``(\w+)``\n\n       ``(\w+)``\n     - (.+)\n     - ``(.+)``\n     - \w",
        page("settings"),
        re.MULTILINE,
    )
    return {name: (variable, kind, json.loads(default)) for name, variable, kind, default in rows}


TABLE = settings_table()
# Another value than the default for types that are not a choice, here and in the environment.
VALUES: dict[str, tuple[object, str]] = {
    "list of ``push``, ``tag-docker``": (["push", "tag-docker"], "push,tag-docker"),
    "list of glob patterns": (["a/*", "b"], "a/*, b"),
    "list of platforms": (["s390x", "linux/arm/*"], "s390x,linux/arm/*"),
    "text or null": (None, ""),
    "URL or null": ("file:///srv/locks", "file:///srv/locks"),
    "directory or null": ("records", "records"),
    "number from 1 to 100": (7, "7"),
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
    del policy["eligible"]  # the tasks say what is eligible
    values = {**settings, **policy, "anchor_tag": settings["anchor_tag"].template}
    return {
        name: list(value) if isinstance(value, (tuple, frozenset)) else value
        for name, value in values.items()
    }


def read(name: str, value: object) -> Settings:
    return Settings.from_task({"mlmerge": {name: value}}, {})


def test_the_table_has_every_setting_with_its_default() -> None:
    assert {name: default for name, (_, _, default) in TABLE.items()} == defaults()


@pytest.mark.parametrize("name", TABLE)
def test_the_default_in_the_table_changes_nothing(name: str) -> None:
    assert read(name, TABLE[name][2]) == Settings()


@pytest.mark.parametrize("name", TABLE)
def test_a_setting_takes_values_of_its_type_from_both_places(name: str) -> None:
    variable, kind, default = TABLE[name]
    value, text = other_value(kind, default)

    settings = read(name, value)

    assert settings != Settings()
    assert Settings.from_task({}, {variable: text}) == settings


@pytest.mark.parametrize("name", TABLE)
def test_a_setting_takes_no_value_of_another_type(name: str) -> None:
    kind = TABLE[name][1]

    with pytest.raises(InvalidSettings) as caught:
        read(name, 5.5)

    (problem,) = caught.value.problems
    if " or ``" in kind:
        assert problem == f"mlmerge.{name}: expected {kind.replace('``', '')}"
    else:
        assert problem.startswith(f"mlmerge.{name}: expected")


def test_each_variable_is_named_after_its_setting() -> None:
    assert [row[0] for row in TABLE.values()] == [f"MLMERGE_{name.upper()}" for name in TABLE]


def test_the_picture_and_the_page_have_every_seam() -> None:
    picture = (ROOT / "docs" / "pipeline.svg").read_text(encoding="utf-8")
    replaced = {(module, name) for module, name in seams._EXPECTED}

    assert set(re.findall(r'class="name"[^>]*>(\w+)<', picture)) == {name for _, name in replaced}
    assert set(re.findall(r"\* - ``(\w+)\.(\w+)``", page("host"))) == replaced


def test_every_hook_is_explained() -> None:
    hooks = {name for name in vars(hookspecs) if name.startswith("mlmerge_")}

    assert set(re.findall(r"hookspecs\.(\w+)$", page("hooks"), re.MULTILINE)) == hooks


# The command line


def documented_options(program: str) -> set[str]:
    """Return the names of the options that the page gives a program."""
    section = page("cli").partition(f".. program:: {program}\n")[2].partition(".. program::")[0]
    lines = re.findall(r"^\.\. option:: (.+)$", section, re.MULTILINE)
    return {name for line in lines for name in re.findall(r"(?<!\S)--?[a-z-]+", line)}


def real_options(program: str, capsys: pytest.CaptureFixture[str]) -> set[str]:
    """Return the names of the options that a program takes, as its own summary tells."""
    with pytest.raises(SystemExit):
        PROGRAMS[program](["--help"])
    lines = re.findall(r"^  (-.+?)(?:  |$)", capsys.readouterr().out, re.MULTILINE)
    return {name for line in lines for name in re.findall(r"(?<!\S)--?[a-z-]+", line)}


@pytest.mark.parametrize("program", PROGRAMS)
def test_options_are_those_of_the_program(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert documented_options(program) == real_options(program, capsys)


def documented_terms(label: str) -> set[str]:
    """Return the terms of the definition list below a label."""
    section = page("cli").partition(f".. _{label}:\n")[2].partition("\n.. _")[0]
    return set(re.findall(r"^``(\w+)``$", section, re.MULTILINE))


def test_keys_of_a_merge_are_those_of_a_report(registry: RegistryServer) -> None:
    image = f"{registry.host}/demo/app"
    options = ("--ages", "--dry-run", "--output", "json")

    report = run(
        "merge", "--source-ref", f"{image}:1.1", "--dest-ref", f"{image}:stable", *options
    ).report

    assert documented_terms("json-merge") == set(report)
    entries = report["entries"]
    assert isinstance(entries, list)
    assert documented_terms("json-entry") == {key for entry in entries for key in entry}


def test_keys_of_an_inspection_are_those_of_a_report(registry: RegistryServer) -> None:
    report = run("inspect", f"{registry.host}/demo/app:1.1", "--output", "json").report

    assert documented_terms("json-inspect") == set(report)
    entries = report["entries"]
    assert isinstance(entries, list)
    section = page("cli").partition(".. _json-inspect:")[2].partition("\n.. _")[0]
    assert {key for entry in entries for key in entry if f"``{key}``" not in section} == set()


def test_fates_are_those_of_a_plan() -> None:
    section = page("merge-rules").partition("The laws")[0]

    assert set(re.findall(r"^``(\w+)``$", section, re.MULTILINE)) == set(get_args(Fate))


# Examples


def agrees(expected: str, actual: str) -> bool:
    """Compare an output with the documented one, where three dots stand for anything."""
    checker = doctest.OutputChecker()
    return checker.check_output(expected.strip() + "\n", actual.strip() + "\n", doctest.ELLIPSIS)


def blocks(text: str, first_lines: str) -> list[str]:
    """Return the blocks that begin with these lines, Markdown's or reStructuredText's."""
    if first_lines.startswith("```"):
        return re.findall(rf"^{first_lines}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    found = re.findall(rf"^{first_lines}\n\n((?:   .*\n|\n)+)", text, re.MULTILINE)
    return [textwrap.dedent(block) for block in found]


@pytest.fixture
def registry() -> Iterator[RegistryServer]:
    """Start a registry that holds what the demo pushes: 1.0, stable and 1.1."""
    platforms = ("linux/amd64", "linux/arm64", "linux/ppc64le", "linux/s390x")
    old = make_index([make_image(platform, seed="old") for platform in platforms])
    images = [make_image(platform, seed="new") for platform in platforms[:3]]
    new = make_index([*images, *map(make_attestation, images)])
    with RegistryServer() as server:
        for tag, index in (("1.0", old), ("stable", old), ("1.1", new)):
            upload(server.url, "demo/app", index, reference=tag)
        yield server


def test_the_tutorial_shows_what_the_demo_prints() -> None:
    shown = blocks(page("tutorial"), r"\.\. code-block:: text\n   :class: demo")

    done = run("demo")

    assert done.code == 0, done.err
    actual = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:5000", done.out)
    assert len(shown) > 1
    assert agrees("\n...\n".join(block.strip() for block in shown), actual), actual


@pytest.mark.parametrize("path", [p for p in PAGES if ">>> " in p.read_text()], ids=relative)
def test_python_examples_run(path: Path) -> None:
    failed, attempted = doctest.testfile(
        str(path), module_relative=False, encoding="utf-8", optionflags=doctest.ELLIPSIS
    )

    assert attempted
    assert not failed


# Form


def test_every_page_is_in_the_contents() -> None:
    contents = page("index").partition(".. toctree::")[2].split()

    assert {path.stem for path in PAGES} - {"index"} <= set(contents)


def test_what_is_new_is_under_the_unreleased_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    sections = re.findall(r"^(#{2,3}) (.+)$", text, re.MULTILINE)

    assert sections[0] == ("##", "[Unreleased]")
    kinds = {title for marks, title in sections if marks == "###"}
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
