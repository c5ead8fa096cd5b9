"""A picture of the packages, made from what they import."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from html import escape
from pathlib import Path

import pubtools_mlmerge

ROOT = Path(pubtools_mlmerge.__file__).parent
WIDTH, ROW, BOX = 760, 74, (104, 34)
STYLE = """
  .packages text { font: 14px "DejaVu Sans", Verdana, sans-serif; fill: #1b2733; }
  .packages rect { fill: #eef3f8; stroke: #5b6b7d; }
  .packages path { fill: none; stroke: #5b6b7d; marker-end: url(#package-arrow); }
"""

Graph = dict[str, set[str]]


def read_imports(root: Path = ROOT) -> Graph:
    """Read which top-level packages and modules import which, without imports for types alone."""
    found: Graph = {}
    for path in sorted(root.rglob("*.py")):
        part = path.relative_to(root).parts[0].removesuffix(".py")
        if part != "__init__":
            names = (name.partition(".")[0] for name in imported(path))
            found.setdefault(part, set()).update(names)
    return {part: (names & found.keys()) - {part} for part, names in found.items()}


def imported(path: Path) -> Iterator[str]:
    """Name what a file imports from the package, such as `core.merge.remove`."""
    for name in _imported(ast.parse(path.read_text(encoding="utf-8"))):
        package, _, rest = name.partition(".")
        if package == ROOT.name:
            yield rest


def _imported(tree: ast.AST) -> Iterator[str]:
    if isinstance(tree, ast.If) and ast.unparse(tree.test) == "TYPE_CHECKING":
        return
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        yield from _imported(node)


def levels_of(graph: Graph) -> dict[str, int]:
    """Give each package a level above all that it imports."""
    levels: dict[str, int] = {}
    while len(levels) < len(graph):
        free = [p for p in graph if p not in levels and graph[p] <= levels.keys()]
        if not free:
            raise ValueError(f"packages import each other: {sorted(graph.keys() - levels.keys())}")
        levels.update({p: 1 + max((levels[q] for q in graph[p]), default=-1) for p in free})
    return levels


def without_detours(graph: Graph) -> Graph:
    """Leave out an import where another one leads to the same package."""

    def reached(part: str) -> set[str]:
        return graph[part].union(*map(reached, graph[part]))

    return {p: q - set().union(*map(reached, q)) for p, q in graph.items()}


def draw(graph: Graph) -> str:
    """Draw boxes and arrows as SVG."""
    levels = levels_of(graph)
    top = max(levels.values())
    width, height = BOX
    places: dict[str, tuple[float, int]] = {}
    for level in range(top + 1):
        row = [part for part in graph if levels[part] == level]
        for number, part in enumerate(row):
            places[part] = WIDTH * (number + 0.5) / len(row), ROW * (top - level) + 20
    lines = []
    for part, others in without_detours(graph).items():
        x, y = places[part]
        for to_x, to_y in (places[other] for other in sorted(others)):
            bend = (to_y - y) / 2
            start, end = f"{x:.0f} {y + height}", f"{to_x:.0f} {to_y - 5}"
            lines.append(f'<path d="M{start}C{x:.0f} {y + bend} {to_x:.0f} {to_y - bend} {end}"/>')
    for part, (x, y) in places.items():
        box = f'x="{x - width / 2:.0f}" y="{y}" width="{width}" height="{height}" rx="5"'
        lines.append(f'<rect {box}/><text x="{x:.0f}" y="{y + 22}">{escape(part)}</text>')
    size = f'viewBox="0 0 {WIDTH} {ROW * (top + 1)}" width="{WIDTH}"'
    arrow = (
        '<defs><marker id="package-arrow" refX="5" refY="3" markerWidth="6" markerHeight="6" '
        'orient="auto"><polygon points="0,0 6,3 0,6" fill="#5b6b7d"/></marker></defs>'
    )
    head = f'<svg class="packages" xmlns="http://www.w3.org/2000/svg" role="img" {size}>'
    title = f"<title>Which package imports which</title><style>{STYLE}</style>{arrow}"
    return "\n".join([head, title, '<g text-anchor="middle">', *lines, "</g></svg>"])
