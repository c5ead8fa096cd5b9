"""The documentation says what the project does: names, options, keys, examples and their output."""

from __future__ import annotations

import ast
import doctest
import re
import shlex
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import get_args

import attrs
import pytest

import pubtools_mlmerge
from pubtools_mlmerge import demo, errors, testing
from pubtools_mlmerge.cli import inspect_main, merge_main, remove_archs_main
from pubtools_mlmerge.plan import Fate
from pubtools_mlmerge.testing import (
    RegistryServer,
    make_attestation,
    make_image,
    make_index,
    upload,
)
from tests.programs import Done, run

ROOT = Path(__file__).parents[1]
PACKAGE = Path(pubtools_mlmerge.__file__).parent
PAGES = sorted((ROOT / "docs").glob("*.rst"))
PROSE = [ROOT / "README.md", ROOT / "CHANGELOG.md", *PAGES]
# The modules that programs may rely on as a whole, and what they may take from others.
PUBLIC_MODULES = (
    *("registry", "errors", "platforms", "references"),
    *("descriptors", "index", "image", "plan", "merge"),
)
PUBLIC_NAMES = (
    *("merger.ManifestListMerger", "client.RegistryClient"),
    *("exchange.Options", "retries.Retries"),
)
NOT_FOR_USERS = {"plan.ResultT"}  # a type variable
PROGRAMS: dict[str, Callable[[Sequence[str]], None]] = {
    "pubtools-mlmerge-merge": merge_main,
    "pubtools-mlmerge-remove-archs": remove_archs_main,
    "pubtools-mlmerge-inspect": inspect_main,
    "pubtools-mlmerge-demo": demo.main,
}
DOCUMENTED_REGISTRY = "localhost:5000"
AUTODOC = re.compile(
    r"^\.\. auto(?:class|exception|function|data):: pubtools_mlmerge\.(\S+)$", re.MULTILINE
)


def page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.rst").read_text(encoding="utf-8")


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


# Names


def names_of(statement: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement at the top of a module defines."""
    if isinstance(statement, (ast.ClassDef, ast.FunctionDef)):
        yield statement.name
    elif isinstance(statement, ast.Assign):
        yield from (target.id for target in statement.targets if isinstance(target, ast.Name))


def public_names() -> set[str]:
    found = {*PUBLIC_NAMES, *(f"testing.{name}" for name in testing.__all__)}
    for module in PUBLIC_MODULES:
        tree = ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))
        names = (name for statement in tree.body for name in names_of(statement))
        found |= {f"{module}.{name}" for name in names if not name.startswith("_")}
    return found - NOT_FOR_USERS


def test_the_reference_has_every_public_name_and_no_other() -> None:
    documented = AUTODOC.findall(page("reference") + page("errors"))

    assert sorted(documented) == sorted(public_names())


@pytest.mark.parametrize("name", re.findall(r"autoexception:: \S+\.(\w+)", page("errors")))
def test_the_fields_of_every_error_are_explained(name: str) -> None:
    error = getattr(errors, name)
    own = {f.name for f in attrs.fields(error) if not f.inherited} if attrs.has(error) else set()
    if attrs.has(error.__base__):
        own -= {f.name for f in attrs.fields(error.__base__)}
    section = page("errors").partition(f"errors.{name}\n")[2].partition(".. autoexception")[0]

    assert {field for field in own if f"``{field}``" not in section} == set()


@pytest.mark.parametrize("name", re.findall(r"autoexception:: \S+\.(\w+)", page("errors"))[1:])
def test_every_error_says_when_it_comes_and_what_to_do(name: str) -> None:
    section = page("errors").partition(f"errors.{name}\n")[2].partition(".. autoexception")[0]

    assert "**When:**" in section
    assert "**What to do:**" in section


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
    dry_run = ("--dry-run", "--output", "json")

    report = run(
        "merge", "--source-ref", f"{image}:1.1", "--dest-ref", f"{image}:stable", *dry_run
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


def test_every_environment_variable_is_listed() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.glob("*.py"))
    read = set(re.findall(r'"([A-Z]+(?:_[A-Z]+)*_(?:FILE|DIR|HOME|CONFIG|BUNDLE))"', sources))
    section = page("cli").partition("Environment variables\n---")[2]

    assert {name for name in read if f"``{name}``" not in section} == set()


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


def sessions(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the commands in the console examples of a page with the output that follows each."""
    text = path.read_text(encoding="utf-8")
    style = "```console" if path.suffix == ".md" else r"\.\. code-block:: console"
    for block in blocks(text, style):
        for session in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = session.replace("\\\n", " ").partition("\n")
            yield command, output


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


def execute(command: str, host: str) -> Done:
    """Run a documented command against a registry in the place of the documented one."""
    program, *arguments = shlex.split(command.replace(DOCUMENTED_REGISTRY, host))
    return run(program.replace("pubtools-mlmerge-", ""), *arguments)


@pytest.mark.parametrize("path", [ROOT / "README.md", ROOT / "docs" / "cli.rst"], ids=relative)
def test_commands_print_what_the_page_says(path: Path, registry: RegistryServer) -> None:
    examples = [(c, out) for c, out in sessions(path) if c.startswith("pubtools-mlmerge-")]
    assert examples

    for command, expected in examples:
        done = execute(command, registry.host)

        actual = done.out.replace(registry.host, DOCUMENTED_REGISTRY)
        assert done.code == 0, done.err
        assert agrees(expected, actual), f"$ {command}\n{actual}"


def test_all_other_commands_are_those_of_the_makefile() -> None:
    commands = {c for path in PROSE for c, _ in sessions(path)}
    others = {c for c in commands if not c.startswith("pubtools-mlmerge-")}
    targets = re.findall(
        r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE
    )

    assert others <= {"pip install .", *(f"make {target}" for target in targets)}


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


@pytest.mark.parametrize("path", PROSE, ids=relative)
def test_lines_are_short(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()

    assert [line for line in lines if len(line) > 100] == []


def test_links_lead_somewhere() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = [t for t in re.findall(r"\]\(([^)]+)\)", text) if "://" not in t]

    assert [target for target in targets if not (ROOT / target).is_file()] == []


def test_every_page_is_in_the_contents() -> None:
    contents = page("index").partition(".. toctree::")[2].split()

    assert {path.stem for path in PAGES} - {"index"} <= set(contents)


def test_what_is_new_is_under_the_unreleased_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    sections = re.findall(r"^(#{2,3}) (.+)$", text, re.MULTILINE)

    assert sections[0] == ("##", "[Unreleased]")
    kinds = {title for marks, title in sections if marks == "###"}
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
