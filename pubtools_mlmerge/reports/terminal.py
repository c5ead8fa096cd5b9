"""Reports for a terminal: coloured tables and progress bars."""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from attrs import frozen

from pubtools_mlmerge.core.plan import Fate, Report
from pubtools_mlmerge.reports.inspection import (
    COMPARED,
    Comparison,
    Inspection,
    Row,
    closing_of,
    compared_rows,
    compared_summary,
    compared_titles,
    comparison_to_text,
    inspection_to_text,
    rows_of,
    title_of,
)
from pubtools_mlmerge.reports.report import (
    columns_of,
    is_noteworthy,
    printable,
    summary_of,
    to_text,
)

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress
    from rich.table import Table
    from rich.text import Text

# rich is optional, so each function imports the part of it that it needs.

ALARM = "bold red"

_FATES: dict[Fate, str] = {
    "added": "green",
    "replaced": "cyan",
    "same": "",
    "kept": "yellow",
    "dropped": "red",
    "excluded": "dim",
}
_STATES = {"different": "cyan", "only in A": "red", "only in B": "green", "same": ""}
_GAP = 2
_LEAST = 14  # columns for a text of several words; of 80, a report leaves no more


@frozen
class Line:
    """A row of a table; the style is that of its accented cell."""

    cells: tuple[str, ...]
    style: str = ""
    is_alarming: bool = False


def find_terminal() -> Console | None:
    """Find a terminal that can show more than plain text."""
    # While bars are shown, rich has a stand-in here, which older versions call no terminal.
    if not getattr(sys.stdout, "rich_proxied_file", sys.stdout).isatty():
        return None
    try:
        from rich.console import Console  # noqa: PLC0415
    except ImportError:
        return None
    # rich respects NO_COLOR and TERM.
    return Console(force_terminal=True, width=shutil.get_terminal_size().columns)


def report_text(report: Report) -> str:
    """Write a report for people, in colour on a terminal."""
    console = find_terminal()
    return to_text(report) if console is None else colored(report, console)


def inspection_text(inspection: Inspection) -> str:
    """Write an inspection for people, in colour on a terminal."""
    console = find_terminal()
    return colored_inspection(inspection, console) if console else inspection_to_text(inspection)


def comparison_text(comparison: Comparison) -> str:
    """Write a comparison for people, in colour on a terminal."""
    console = find_terminal()
    return colored_comparison(comparison, console) if console else comparison_to_text(comparison)


def colored(report: Report, console: Console) -> str:
    """Write a report as a coloured table and a summary."""
    columns = columns_of(report)
    lines = [
        Line(
            tuple(write(entry) for write in columns.values()),
            _FATES[entry.fate],
            is_noteworthy(entry),
        )
        for entry in report.entries
    ]
    shown = grid(console, tuple(columns), lines, accent=tuple(columns).index("FATE"))
    return _drawn(console, *shown, plain(""), plain(summary_of(report), "bold"))


def colored_inspection(inspection: Inspection, console: Console) -> str:
    """Write an inspection as a coloured tree, with digests on lines of their own if narrow."""
    rows = [_styled_row(row) for row in rows_of(inspection)]
    widths = [max(cell.cell_len for cell in column) for column in zip(*rows)]
    if _fits(console, widths):
        table = _bare_table(has_header=False)
        for row in rows:
            table.add_row(*row)
        tree: list[RenderableType] = [table] if rows else []
    else:
        tree = [
            plain(" ").join(filter(None, (name, *rest, digest))) for name, digest, *rest in rows
        ]
    summary, *problems = closing_of(inspection)
    closing = [plain(summary), *(plain(problem, ALARM) for problem in problems)]
    return _drawn(console, plain(title_of(inspection), "bold"), *tree, plain(""), *closing)


def _styled_row(row: Row) -> list[Text]:
    name = plain(row.branch, "dim").append_text(plain(row.name, "bold"))
    *facts, last = row.facts
    age = plain(last, ALARM if row.is_old else "")
    return [name, plain(row.digest, "cyan"), *map(plain, facts), age, plain(row.flags, ALARM)]


def colored_comparison(comparison: Comparison, console: Console) -> str:
    """Write a comparison as a coloured table and a summary."""
    lines = [Line(row, _STATES[row[-1]]) for row in compared_rows(comparison)]
    titles = [plain(title, "bold") for title in compared_titles(comparison)]
    table = grid(console, COMPARED, lines, accent=COMPARED.index("STATE"))
    summary = plain(compared_summary(comparison), "bold")
    return _drawn(console, *titles, plain(""), *table, plain(""), summary)


def _drawn(console: Console, *parts: RenderableType) -> str:
    with console.capture() as capture:
        for part in parts:
            console.print(part)
    return capture.get().rstrip("\n")


def plain(text: str, style: str = "") -> Text:
    """Make a text without markup that is folded where it is too long."""
    from rich.text import Text  # noqa: PLC0415

    return Text(printable(text), style=style, overflow="fold")


def grid(
    console: Console, header: Sequence[str], lines: Sequence[Line], accent: int
) -> list[RenderableType]:
    """Make a table, or a list where the terminal is too narrow for a table."""
    cells = [header, *(line.cells for line in lines)]
    widths = [max(plain(cell).cell_len for cell in column) for column in zip(*cells)]
    needed = [min(widths[0], _LEAST), *widths[1:-1], min(widths[-1], _LEAST)]
    if not _fits(console, needed):
        return _stacked(header, lines, accent)
    table = _bare_table()
    for name, least in zip(header, needed):
        is_folded = name in (header[0], header[-1])
        table.add_column(
            plain(name, "bold"), no_wrap=not is_folded, overflow="fold", min_width=least
        )
    for line in lines:
        table.add_row(*_styled(line, accent), style=ALARM if line.is_alarming else "")
    return [table]


def _fits(console: Console, widths: Sequence[int]) -> bool:
    return sum(widths) + _GAP * (len(widths) - 1) <= console.width


def _stacked(header: Sequence[str], lines: Sequence[Line], accent: int) -> list[RenderableType]:
    from rich.padding import Padding  # noqa: PLC0415

    shown: list[RenderableType] = []
    for line in lines:
        style = ALARM if line.is_alarming else ""
        title, *cells = _styled(line, accent)
        title.stylize(style or "bold")
        table = _bare_table(has_header=False)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for name, cell in zip(header[1:], cells):
            if cell.plain:
                table.add_row(plain(name, "dim"), cell, style=style)
        shown += [title, Padding(table, (0, 0, 0, _GAP))]
    return shown


def _styled(line: Line, accent: int) -> list[Text]:
    style = "" if line.is_alarming else line.style
    return [plain(cell, style if n == accent else "") for n, cell in enumerate(line.cells)]


def _bare_table(*, has_header: bool = True) -> Table:
    """Make a table without borders, which need characters that some terminals lack."""
    from rich.table import Table  # noqa: PLC0415

    gap = (0, _GAP, 0, 0)
    return Table(box=None, pad_edge=False, padding=gap, show_header=has_header)


_BAR = 20  # columns


class Display:
    """Progress bars on standard error, if that is a terminal; safe from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._progress: Progress | None = None
        self._bars = 0

    @contextmanager
    def counted(self, name: str, total: int | None) -> Iterator[Callable[[], None]]:
        """Show a bar, below those that are shown already."""
        progress = self._begin()
        if progress is None:
            yield lambda: None
            return
        task = progress.add_task(name, total=total)
        try:
            yield lambda: progress.advance(task)
        finally:
            progress.remove_task(task)
            self._end()

    def _begin(self) -> Progress | None:
        with self._lock:
            if self._progress is None:
                self._progress = _new_progress()
                if self._progress is None:
                    return None
                self._progress.start()
            self._bars += 1
            return self._progress

    def _end(self) -> None:
        with self._lock:
            self._bars -= 1
            if self._progress is not None and self._bars == 0:
                self._progress.stop()
                self._progress = None


def _new_progress() -> Progress | None:
    """Make bars that let everything printed meanwhile appear above them."""
    if not sys.stderr.isatty():
        return None
    try:
        from rich.console import Console  # noqa: PLC0415
        from rich.progress import (  # noqa: PLC0415
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
        )
    except ImportError:
        return None
    console = Console(stderr=True, soft_wrap=True)
    if console.is_dumb_terminal:
        return None
    name = TextColumn("{task.description}", markup=False)
    columns = name, BarColumn(_BAR), MofNCompleteColumn(), TimeElapsedColumn()
    is_terminal = sys.stdout.isatty()  # else what is printed has to go to a file
    return Progress(*columns, console=console, transient=True, redirect_stdout=is_terminal)
