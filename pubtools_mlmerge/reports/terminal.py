"""Reports for a terminal: coloured tables and progress bars."""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pubtools_mlmerge.core.plan import Report
from pubtools_mlmerge.errors import one_line, without_commands
from pubtools_mlmerge.reports.report import Row, Sheet, report_sheet

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress
    from rich.table import Table
    from rich.text import Text

# rich is optional, so each function imports the part of it that it needs.

ALARM = "bold red"

_COLOURS = {  # of fates, and of states in a comparison
    "added": "green",
    "replaced": "cyan",
    "kept": "yellow",
    "dropped": "red",
    "excluded": "dim",
    "different": "cyan",
    "only in A": "red",
    "only in B": "green",
    "same, attestations differ": "cyan",
}
_STYLES = {"NAME": "bold", "DIGEST": "cyan", "PROBLEMS": ALARM}  # of columns
_COMMON_WIDTH = 80
_GAP = 2
_LEAST = 14  # columns for a text of several words; of 80, a report leaves no more


def find_terminal() -> Console | None:
    """Find a terminal that can show more than plain text."""
    # While bars are shown, rich has a stand-in here, which older versions call no terminal.
    if not getattr(sys.stdout, "rich_proxied_file", sys.stdout).isatty():
        return None
    try:
        from rich.console import Console  # noqa: PLC0415
    except ImportError:
        return None
    # rich respects NO_COLOR and TERM. Before Python 3.11, a terminal without size has no columns.
    return Console(force_terminal=True, width=shutil.get_terminal_size().columns or _COMMON_WIDTH)


def report_text(report: Report, *, every: bool = False, titled: bool = False) -> str:
    """Write a report for people.

    Where there are several, each is `titled` by its tag, and a line is left free after it.
    """
    text = shown(report_sheet(report, every=every))
    return f"{one_line(str(report.destination))}\n{text}\n" if titled else text


def shown(sheet: Sheet, console: Console | None = None) -> str:
    """Write for people: in colour on a terminal, within its width."""
    if (console := console or find_terminal()) is None:
        return sheet.text
    summary, *problems = sheet.closing
    parts: list[RenderableType] = [plain(title, "bold") for title in sheet.titles]
    if sheet.is_tree:
        parts += [*_tree(console, sheet), plain(""), plain(summary)]
    else:
        gap = [plain("")] if sheet.titles else []
        parts += [*gap, *_grid(console, sheet), plain(""), plain(summary, "bold")]
    with console.capture() as capture:
        for part in (*parts, *(plain(problem, ALARM) for problem in problems)):
            console.print(part)
    # Where a long text is folded, a line may begin with anything of it.
    return "\n".join(map(without_commands, capture.get().rstrip("\n").split("\n")))


def _tree(console: Console, sheet: Sheet) -> list[RenderableType]:
    """Draw a tree; where it is narrow, digests are on lines of their own."""
    rows = [_cells(sheet, row) for row in sheet.rows]
    if rows and _fits(console, [max(c.cell_len for c in column) for column in zip(*rows)]):
        return [_bare_table(rows)]
    return [plain(" ").join(filter(None, (n, *rest, digest))) for n, digest, *rest in rows]


def _cells(sheet: Sheet, row: Row) -> list[Text]:
    """Make the cells of a row."""
    cells = []
    for column, cell in zip(sheet.columns, row.cells):
        style = _STYLES.get(column, "")
        if column in ("FATE", "STATE") and not row.is_alarming:
            style = _COLOURS.get(cell, "")
        elif column == "AGE" and row.is_alarming:
            style = ALARM
        cells.append(plain(cell, style))
    if sheet.is_tree:
        cells[0] = plain(row.branch, "dim").append_text(cells[0])
    return cells


def plain(text: str, style: str = "") -> Text:
    """Make a text without markup that is folded where it is too long."""
    from rich.text import Text  # noqa: PLC0415

    return Text(one_line(text), style=style, overflow="fold")


def _grid(console: Console, sheet: Sheet) -> list[RenderableType]:
    """Draw a table, or a list where the terminal is too narrow for one."""
    header = sheet.columns
    rows = [(_cells(sheet, row), ALARM if row.is_alarming else "") for row in sheet.rows]
    cells = [[plain(name, "bold") for name in header], *(row for row, _ in rows)]
    widths = [max(cell.cell_len for cell in column) for column in zip(*cells)]
    needed = [min(widths[0], _LEAST), *widths[1:-1], min(widths[-1], _LEAST)]
    if not _fits(console, needed):
        return [part for row, style in rows for part in _stacked(header, row, style)]
    table = _bare_table()
    for name, least in zip(cells[0], needed):
        is_folded = name.plain in (header[0], header[-1])
        table.add_column(name, no_wrap=not is_folded, overflow="fold", min_width=least)
    for row, style in rows:
        table.add_row(*row, style=style)
    return [table]


def _fits(console: Console, widths: Sequence[int]) -> bool:
    return sum(widths) + _GAP * (len(widths) - 1) <= console.width


def _stacked(header: Sequence[str], row: Sequence[Text], style: str) -> list[RenderableType]:
    """List the cells of a row below the first one."""
    from rich.padding import Padding  # noqa: PLC0415

    title, *cells = row
    title.stylize(style or "bold")
    named = zip(header[1:], cells)
    rows = [(plain(name, "dim"), cell) for name, cell in named if cell.plain]
    return [title, Padding(_bare_table(rows, style), (0, 0, 0, _GAP))]


def _bare_table(rows: Sequence[Sequence[Text]] = (), style: str = "") -> Table:
    """Make a table without borders, which need characters that some terminals lack."""
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), show_header=not rows)
    for row in rows:
        table.add_row(*row, style=style)
    return table


_BAR = 20  # columns


class Display:
    """Progress bars on standard error, if that is a terminal; safe from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._progress: Progress | None = None

    @contextmanager
    def counted(self, name: str, total: int | None) -> Iterator[Callable[[], None]]:
        """Show a bar, below those that are shown already."""
        with self._lock:
            progress = self._progress = self._progress or _new_progress()
            if progress is not None:
                progress.start()
                task = progress.add_task(one_line(name), total=total)
        if progress is None:
            yield lambda: None
            return
        try:
            yield lambda: progress.advance(task)
        finally:
            with self._lock:
                progress.remove_task(task)
                if not progress.task_ids:
                    progress.stop()
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
