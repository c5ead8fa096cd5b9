"""The order of the modules and the house numbers, held by test."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import pubtools_mlmerge

PACKAGE = "pubtools_mlmerge"
ROOT = Path(pubtools_mlmerge.__file__).parent

# A module may import only from those above it.
ORDER = (
    "errors",
    "hazards",
    "lock_file",
    "lock_redis",
    "lock",
    "platforms",
    "references",
    "documents",
    "descriptors",
    "index",
    "image",
    "plan",
    "assembly",
    "merge",
    "unions",
    "manifests",
    "replacement",
    "guard",
    "echoes",
    "failures",
    "answers",
    "metering",
    "spans",
    "registry",
    "pulling",
    "ages",
    "dating",
    "inspection",
    "difference",
    "client_registry",
    "retries",
    "exchange",
    "deadlines",
    "bodies",
    "addresses",
    "challenges",
    "transport",
    "tokens",
    "credentials",
    "hosts",
    "access",
    "client",
    "quay_api",
    "skopeo",
    "once",
    "side_by_side",
    "progress",
    "children",
    "anchors",
    "sources",
    "outcome",
    "schema",
    "report",
    "phrases",
    "inspection_report",
    "difference_report",
    "terminal",
    "views",
    "fates",
    "markup",
    "drawing",
    "page_file",
    "html_parts",
    "html_page",
    "html_merge",
    "html_inspect",
    "outputs",
    "changes",
    "planned",
    "events",
    "uploading",
    "losses",
    "writing",
    "recovery",
    "audit",
    "safety",
    "step",
    "removal",
    "restoring",
    "merger",
    "activation",
    "values",
    "settings",
    "jobs",
    "hookspecs",
    "calls",
    "host_types",
    "host",
    "plugin",
    "push_parts",
    "push_step",
    "push_sides",
    "tag_step",
    "tag_guard",
    "host_client",
    "host_push",
    "host_tag",
    "tasks",
    "arguments",
    "batch",
    "commands",
    "merge_command",
    "remove_command",
    "inspect_command",
    "restore_command",
    "output_option",
    "options",
    "cli",
    "demo",
)
MAY_IMPORT_TESTING = ("cli", "demo")
MAX_FUNCTION_LINES = 40
MAX_MODULE_LINES = 250

SOURCES = sorted(ROOT.rglob("*.py"))
Function = (ast.FunctionDef, ast.AsyncFunctionDef)


def room(path: Path) -> str:
    """Return the name of the room that a source file belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def absolute(node: ast.ImportFrom, package: str) -> str:
    """Spell out where a `from` import in a module of a package takes its names from."""
    parents = package.split(".")[: 1 - node.level or None] if node.level else []
    return ".".join([*parents, *([node.module] if node.module else [])])


def imported_names(tree: ast.AST, package: str) -> Iterator[str]:
    """Yield the absolute dotted name of everything that a module of a package imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{absolute(node, package)}.{alias.name}" for alias in node.names)


def imported_rooms(tree: ast.AST, package: str = PACKAGE) -> set[str]:
    """Return the rooms that a module of a package imports, wherever in the file."""
    names = (name.split(".") for name in imported_names(tree, package))
    return {name[1] if len(name) > 1 else "__init__" for name in names if name[0] == PACKAGE}


def allowed_rooms(importer: str) -> set[str]:
    """Return the rooms that a room may import from."""
    if importer == "__init__":
        return {*ORDER, "testing"}
    if importer == "testing":
        return {"errors", "testing"}
    above = set(ORDER[: ORDER.index(importer)])
    return above | {"testing"} if importer in MAY_IMPORT_TESTING else above


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the lines of a function from its def to its end, without the docstring."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    if ast.get_docstring(function) is None:
        return lines
    docstring = function.body[0]
    return lines - ((docstring.end_lineno or docstring.lineno) - docstring.lineno + 1)


def long_functions(tree: ast.AST) -> list[str]:
    """Name the functions that are longer than the house allows, with their lengths."""
    functions = (node for node in ast.walk(tree) if isinstance(node, Function))
    lengths = ((function.name, body_lines(function)) for function in functions)
    return [f"{name}: {lines} lines" for name, lines in lengths if lines > MAX_FUNCTION_LINES]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_every_module_has_its_place(path: Path) -> None:
    known = {*ORDER, "__init__", "testing"}

    assert room(path) in known, f"add {room(path)} to ORDER in tests/test_layers.py"


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_modules_import_only_from_those_above(path: Path) -> None:
    importer = room(path)
    if importer not in {*ORDER, "__init__", "testing"}:
        pytest.fail(f"add {importer} to ORDER in tests/test_layers.py")

    package = ".".join((PACKAGE, *path.relative_to(ROOT).parts[:-1]))
    imported = imported_rooms(ast.parse(path.read_text(encoding="utf-8")), package)

    assert imported - allowed_rooms(importer) == set(), f"{importer} may not import these"


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_functions_are_short(path: Path) -> None:
    assert long_functions(ast.parse(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_modules_are_short(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())

    assert lines <= MAX_MODULE_LINES


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("import requests", set()),
        ("import pubtools_mlmerge", {"__init__"}),
        ("import pubtools_mlmerge.merge as m", {"merge"}),
        ("from pubtools_mlmerge import index", {"index"}),
        ("from pubtools_mlmerge.index import Index", {"index"}),
        ("from .testing.server import RegistryServer", {"testing"}),
        ("from . import errors, merge", {"errors", "merge"}),
        ("def f():\n    from .host import seams", {"host"}),
    ],
)
def test_an_import_is_seen_in_any_spelling(line: str, expected: set[str]) -> None:
    assert imported_rooms(ast.parse(line)) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("from . import server", {"testing"}),
        ("from .server import RegistryServer", {"testing"}),
        ("from ..errors import MergeError", {"errors"}),
        ("from .. import errors", {"errors"}),
    ],
)
def test_relative_imports_start_at_the_package_of_the_file(line: str, expected: set[str]) -> None:
    assert imported_rooms(ast.parse(line), f"{PACKAGE}.testing") == expected


def test_a_module_may_not_import_from_below() -> None:
    assert "client" not in allowed_rooms("merge")
    assert "merge" in allowed_rooms("client")


def test_a_docstring_does_not_make_a_function_long() -> None:
    code = 'def f():\n    """One.\n\n    Two.\n    """\n    return 1\n'
    (function,) = ast.parse(code).body

    assert isinstance(function, ast.FunctionDef)
    assert body_lines(function) == 2


def test_a_long_function_is_named() -> None:
    code = "def f():\n" + "    pass\n" * MAX_FUNCTION_LINES

    assert long_functions(ast.parse(code)) == ["f: 41 lines"]
