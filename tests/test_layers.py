"""Packages import only from those below them, save for types, and never in circles."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from packages import imported

import pubtools_mlmerge

ROOT = Path(pubtools_mlmerge.__file__).parent
SOURCES = sorted(ROOT.rglob("*.py"))

# The rows of the house, top to bottom. A row may import from itself and from those below it.
ROWS = (
    {"__init__"},
    {"plugin", "tasks", "__main__"},
    {"cli"},
    {"host"},
    {"settings"},
    {"merging"},
    {"hooks", "hookspecs"},
    {"registry"},
    {"reports"},
    {"observe", "locks", "concurrency"},
    {"testing"},
    {"core"},
    {"errors"},
)
MAX_FUNCTION_LINES, MAX_MODULE_LINES = 60, 700


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def module_of(path: Path) -> str:
    """Return the dotted name of a source file, without that of the package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {module_of(path): path for path in SOURCES}


def row(module: str) -> int:
    """Return the number of the row that a module belongs to, 0 at the top."""
    room = module.partition(".")[0]
    return next(number for number, rooms in enumerate(ROWS) if room in rooms)


def nearest_module(parts: list[str]) -> str:
    """Return the module that a dotted name is in."""
    while parts and ".".join(parts) not in MODULES:
        parts = parts[:-1]
    return ".".join(parts) or "__init__"


def imports_of(module: str) -> set[str]:
    """List the modules that a module imports, save for types alone."""
    return {nearest_module(name.split(".")) for name in imported(MODULES[module])}


@pytest.mark.parametrize("module", MODULES)
def test_no_module_imports_from_a_row_above_its_own(module: str) -> None:
    assert {other for other in imports_of(module) if row(other) < row(module)} == set()


def test_no_modules_import_each_other_in_a_circle() -> None:
    left = {module: imports_of(module) - {module} for module in MODULES}
    while free := [module for module, others in left.items() if not others & left.keys()]:
        for module in free:
            del left[module]

    assert left == {}


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_functions_are_short(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = (
        n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))
    )

    assert [f.name for f in functions if body_lines(f) > MAX_FUNCTION_LINES] == []


def test_modules_are_read_in_one_sitting() -> None:
    lengths = {relative(path): len(path.read_text("utf-8").splitlines()) for path in SOURCES}

    assert {name: n for name, n in lengths.items() if n > MAX_MODULE_LINES} == {}


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the lines of a function from its def to its end, without the docstring."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    if ast.get_docstring(function) is None:
        return lines
    docstring = function.body[0]
    return lines - ((docstring.end_lineno or docstring.lineno) - docstring.lineno + 1)
