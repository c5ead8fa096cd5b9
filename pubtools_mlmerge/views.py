"""Views: inspections and differences on a terminal, in colours and as wide as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pubtools_mlmerge import difference_report, inspection_report
from pubtools_mlmerge.difference import Difference, SlotState
from pubtools_mlmerge.inspection import Inspection
from pubtools_mlmerge.inspection_report import Row
from pubtools_mlmerge.terminal import ALARM, Line, drawn, find_terminal, grid, plain

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_STYLES: dict[SlotState, str] = {
    "same": "",
    "changed": "cyan",
    "only-a": "red",
    "only-b": "green",
}
_GUIDE = 4  # columns that a level of a tree takes


def inspection_text(inspection: Inspection) -> str:
    """Write an inspection for people, as well as their terminal can show it.

    Args:
        inspection (Inspection):
            The inspection.

    Returns:
        str: Lines without a line break at the end.
    """
    console = find_terminal()
    if console is None:
        return inspection_report.to_text(inspection)
    return colored_inspection(inspection, console)


def difference_text(difference: Difference) -> str:
    """Write a difference for people, as well as their terminal can show it.

    Args:
        difference (Difference):
            The difference.

    Returns:
        str: Lines without a line break at the end.
    """
    console = find_terminal()
    if console is None:
        return difference_report.to_text(difference)
    return colored_difference(difference, console)


def colored_inspection(inspection: Inspection, console: Console) -> str:
    """Write an inspection as a coloured tree.

    Args:
        inspection (Inspection):
            The inspection.
        console (Console):
            For its width and its colours; nothing is written to it.

    Returns:
        str: Lines without a line break at the end.
    """
    from rich.tree import Tree  # noqa: PLC0415 - optional, and slow to load

    rows = list(inspection_report.rows_of(inspection))
    widths = _widths(rows)
    is_wide = sum(widths) <= console.width
    tree = Tree(plain(inspection_report.title_of(inspection), "bold"), guide_style="dim")
    image = tree
    for row in rows:
        node = _in_a_line(row, widths) if is_wide else _stacked(row)
        if row.depth:
            image.add(node)
        else:
            image = tree.add(node)
    summary, *problems = inspection_report.closing_of(inspection)
    closing = [plain(summary), *(plain(problem, ALARM) for problem in problems)]
    return drawn(console, tree, plain(""), *closing)


def _widths(rows: list[Row]) -> list[int]:
    """Measure the columns of a tree whose rows are lines, with what is before and between them."""
    before = (_GUIDE * (row.depth + 1) for row in rows)
    cells = [
        ("." * indent + row.name, row.digest, *row.facts, row.flags)
        for row, indent in zip(rows, before)
    ]
    return [max(plain(cell).cell_len for cell in column) + 2 for column in zip(*cells)]


def _in_a_line(row: Row, widths: list[int]) -> Text:
    text = plain("")
    widths = [widths[0] - _GUIDE * (row.depth + 1), *widths[1:]]
    for (cell, style), width in zip(_styled(row), widths):
        part = plain(cell, style)
        text.append_text(part).append(" " * (width - part.cell_len))
    text.rstrip()
    text.no_wrap = True
    return text


def _stacked(row: Row) -> Text:
    """Write the digest below the rest, where the terminal is too narrow."""
    name, digest, *rest = _styled(row)
    text = plain("")
    for cell, style in (name, *rest):
        if cell:
            text.append("  " if text else "").append_text(plain(cell, style))
    return text.append("\n").append_text(plain(*digest))


def _styled(row: Row) -> list[tuple[str, str]]:
    *facts, last = row.facts
    known = [*((fact, "") for fact in facts), (last, ALARM if row.is_old else "")]
    return [(row.name, "bold"), (row.digest, "cyan"), *known, (row.flags, ALARM)]


def colored_difference(difference: Difference, console: Console) -> str:
    """Write a difference as a coloured table, with what else differs below it.

    Args:
        difference (Difference):
            The difference.
        console (Console):
            For its width and its colours; nothing is written to it.

    Returns:
        str: Lines without a line break at the end.
    """
    header = difference_report.HEADER
    lines = [
        Line(difference_report.cells_of(slot), _STYLES[slot.state]) for slot in difference.slots
    ]
    titles = [plain(title, "bold") for title in difference_report.titles_of(difference)]
    *fields, summary = difference_report.closing_of(difference)
    table = grid(console, header, lines, accent=header.index("STATE"))
    below = [*map(plain, fields), plain(summary, "bold")]
    return drawn(console, *titles, plain(""), *table, plain(""), *below)
