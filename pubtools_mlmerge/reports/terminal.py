"""Reports for a terminal: coloured tables and progress bars."""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pubtools_mlmerge.core.plan import Fate, Report
from pubtools_mlmerge.errors import one_line, without_commands
from pubtools_mlmerge.reports.inspection import (
    ATTESTATIONS_DIFFER,
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
_STATES[ATTESTATIONS_DIFFER] = "cyan"
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
    # rich respects NO_COLOR and TERM.
    return Console(force_terminal=True, width=shutil.get_terminal_size().columns)


def report_text(
    report: Report, console: Console | None = None, *, every: bool = False, titled: bool = False
) -> str:
    """Write a report for people: on a terminal as a coloured table and a summary.

    Where there are several, each is `titled` by its tag, and a line is left free after it.
    """
    text = _report_text(report, console or find_terminal(), every=every)
    return f"{one_line(str(report.destination))}\n{text}\n" if titled else text


def _report_text(report: Report, console: Console | None, *, every: bool) -> str:
    if console is None:
        return to_text(report, every=every)
    entries, columns = columns_of(report, every=every)
    rows = []
    for entry in entries:
        alarm = ALARM if is_noteworthy(entry) else ""
        style = "" if alarm else _FATES[entry.fate]
        rows.append(
            ([_styled(name, write(entry), style) for name, write in columns.items()], alarm)
        )
    shown = grid(console, tuple(columns), rows)
    return _drawn(console, *shown, plain(""), plain(summary_of(report), "bold"))


def inspection_text(inspection: Inspection, console: Console | None = None) -> str:
    """Write an inspection for people: on a terminal as a coloured tree.

    If it is narrow, digests are on lines of their own.
    """
    if (console := console or find_terminal()) is None:
        return inspection_to_text(inspection)
    rows = [_styled_row(row) for row in rows_of(inspection)]
    tree: list[RenderableType] = []
    if rows and _fits(console, [max(c.cell_len for c in column) for column in zip(*rows)]):
        tree = [_bare_table(rows)]
    else:
        tree += [plain(" ").join(filter(None, (n, *rest, digest))) for n, digest, *rest in rows]
    summary, *problems = closing_of(inspection)
    closing = [plain(summary), *(plain(problem, ALARM) for problem in problems)]
    return _drawn(console, plain(title_of(inspection), "bold"), *tree, plain(""), *closing)


def _styled_row(row: Row) -> list[Text]:
    name = plain(row.branch, "dim").append_text(plain(row.name, "bold"))
    *facts, last = row.facts
    age = plain(last, ALARM if row.is_old else "")
    return [name, plain(row.digest, "cyan"), *map(plain, facts), age, plain(row.flags, ALARM)]


def comparison_text(
    comparison: Comparison, console: Console | None = None, *, every: bool = False
) -> str:
    """Write a comparison for people: on a terminal as a coloured table and a summary."""
    if (console := console or find_terminal()) is None:
        return comparison_to_text(comparison, every=every)
    rows = [
        ([_styled(name, cell, _STATES[row[-1]]) for name, cell in zip(COMPARED, row)], "")
        for row in compared_rows(comparison, every=every)
    ]
    titles = [plain(title, "bold") for title in compared_titles(comparison)]
    summary = plain(compared_summary(comparison), "bold")
    table = grid(console, COMPARED, rows)
    return _drawn(console, *titles, plain(""), *table, plain(""), summary)


def _drawn(console: Console, *parts: RenderableType) -> str:
    with console.capture() as capture:
        for part in parts:
            console.print(part)
    # Where a long text is folded, a line may begin with anything of it.
    return "\n".join(map(without_commands, capture.get().rstrip("\n").split("\n")))


def plain(text: str, style: str = "") -> Text:
    """Make a text without markup that is folded where it is too long."""
    from rich.text import Text  # noqa: PLC0415

    return Text(one_line(text), style=style, overflow="fold")


def _styled(column: str, text: str, style: str) -> Text:
    """Make a cell, in colour where it says what became of an entry."""
    return plain(text, style if column in ("FATE", "STATE") else "")


def grid(
    console: Console, header: Sequence[str], rows: Sequence[tuple[list[Text], str]]
) -> list[RenderableType]:
    """Make a table of rows with a style, or a list where the terminal is too narrow for one."""
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
    table = _bare_table()
    table.show_header = False
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, cell in zip(header[1:], cells):
        if cell.plain:
            table.add_row(plain(name, "dim"), cell, style=style)
    return [title, Padding(table, (0, 0, 0, _GAP))]


def _bare_table(rows: Sequence[Sequence[Text]] = ()) -> Table:
    """Make a table without borders, which need characters that some terminals lack."""
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), show_header=not rows)
    for row in rows:
        table.add_row(*row)
    return table


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
        task = progress.add_task(one_line(name), total=total)
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
