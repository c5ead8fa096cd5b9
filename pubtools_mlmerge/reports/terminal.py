"""Reports for a terminal: coloured tables and progress bars."""

from __future__ import annotations

import logging
import shutil
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import IO, TYPE_CHECKING, Optional, TypeVar

from attrs import frozen

from pubtools_mlmerge.core.plan import Fate, Report
from pubtools_mlmerge.reports import inspection
from pubtools_mlmerge.reports.inspection import (
    Difference,
    Inspection,
    Row,
    SlotState,
    cells_of,
    closing_of_difference,
    closing_of_inspection,
    difference_to_text,
    inspection_to_text,
    rows_of,
    title_of,
    titles_of,
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

ALARM = "bold red"

_STYLES: dict[Fate, str] = {
    "added": "green",
    "replaced": "cyan",
    "same": "",
    "kept": "yellow",
    "dropped": "red",
    "excluded": "dim",
}
_GAP = 2
_LEAST = 14  # columns for a text of several words; of 80, a report leaves no more


@frozen(eq=False, repr=False)
class Line:
    """A row of a table.

    Attributes:
        cells (tuple[str, ...]):
            As many as there are columns.
        style (str):
            Style of the cell that tells what it is about.
        is_alarming (bool):
            Whether the whole row is to catch the eye.
    """

    cells: tuple[str, ...]
    style: str = ""
    is_alarming: bool = False


def find_terminal() -> Console | None:
    """Look for a terminal that can show more than plain text."""
    if not sys.stdout.isatty():
        return None
    try:
        # Optional, and slow to load.
        from rich.console import Console  # noqa: PLC0415
    except ImportError:
        return None
    # rich goes by the environment as well: NO_COLOR and TERM say how much is to be seen.
    return Console(force_terminal=True, width=shutil.get_terminal_size().columns)


def text_of(report: Report) -> str:
    """Write a report for people, as well as their terminal can show it."""
    console = find_terminal()
    return to_text(report) if console is None else colored(report, console)


def colored(report: Report, console: Console) -> str:
    """Write a report as a coloured table and a summary."""
    columns = columns_of(report)
    lines = [
        Line(
            tuple(write(entry) for write in columns.values()),
            _STYLES[entry.fate],
            is_noteworthy(entry),
        )
        for entry in report.entries
    ]
    shown = grid(console, tuple(columns), lines, accent=tuple(columns).index("FATE"))
    return drawn(console, *shown, plain(""), plain(summary_of(report), "bold"))


def drawn(console: Console, *parts: RenderableType) -> str:
    """Draw one below the other."""
    with console.capture() as capture:
        for part in parts:
            console.print(part)
    return capture.get().rstrip("\n")


def plain(text: str, style: str = "") -> Text:
    """Make a text that is shown as it is, and folded where it is too long."""
    from rich.text import Text  # noqa: PLC0415 - optional, and slow to load

    return Text(printable(text), style=style, overflow="fold")


def grid(
    console: Console, header: Sequence[str], lines: Sequence[Line], accent: int
) -> list[RenderableType]:
    """Make a table, or where the terminal is too narrow for it a list."""
    cells = [header, *(line.cells for line in lines)]
    widths = [max(plain(cell).cell_len for cell in column) for column in zip(*cells)]
    needed = [min(widths[0], _LEAST), *widths[1:-1], min(widths[-1], _LEAST)]
    if sum(needed) + _GAP * (len(widths) - 1) > console.width:
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


def _stacked(header: Sequence[str], lines: Sequence[Line], accent: int) -> list[RenderableType]:
    from rich.padding import Padding  # noqa: PLC0415 - optional, and slow to load

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
    """Make a table without lines, which need characters that some terminals lack."""
    from rich.table import Table  # noqa: PLC0415 - optional, and slow to load

    gap = (0, _GAP, 0, 0)
    return Table(box=None, pad_edge=False, padding=gap, show_header=has_header)


_STATE_STYLES: dict[SlotState, str] = {
    "same": "",
    "changed": "cyan",
    "only-a": "red",
    "only-b": "green",
}
_GUIDE = 4  # columns that a level of a tree takes


def inspection_text(inspection: Inspection) -> str:
    """Write an inspection for people, as well as their terminal can show it."""
    console = find_terminal()
    if console is None:
        return inspection_to_text(inspection)
    return colored_inspection(inspection, console)


def difference_text(difference: Difference) -> str:
    """Write a difference for people, as well as their terminal can show it."""
    console = find_terminal()
    if console is None:
        return difference_to_text(difference)
    return colored_difference(difference, console)


def colored_inspection(inspection: Inspection, console: Console) -> str:
    """Write an inspection as a coloured tree."""
    from rich.tree import Tree  # noqa: PLC0415 - optional, and slow to load

    rows = list(rows_of(inspection))
    widths = _widths(rows)
    is_wide = sum(widths) <= console.width
    tree = Tree(plain(title_of(inspection), "bold"), guide_style="dim")
    image = tree
    for row in rows:
        node = _in_a_line(row, widths) if is_wide else _stacked_states(row)
        if row.depth:
            image.add(node)
        else:
            image = tree.add(node)
    summary, *problems = closing_of_inspection(inspection)
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
    for (cell, style), width in zip(_styled_state(row), widths):
        part = plain(cell, style)
        text.append_text(part).append(" " * (width - part.cell_len))
    text.rstrip()
    text.no_wrap = True
    return text


def _stacked_states(row: Row) -> Text:
    """Write the digest below the rest, where the terminal is too narrow."""
    name, digest, *rest = _styled_state(row)
    text = plain("")
    for cell, style in (name, *rest):
        if cell:
            text.append("  " if text else "").append_text(plain(cell, style))
    return text.append("\n").append_text(plain(*digest))


def _styled_state(row: Row) -> list[tuple[str, str]]:
    *facts, last = row.facts
    known = [*((fact, "") for fact in facts), (last, ALARM if row.is_old else "")]
    return [(row.name, "bold"), (row.digest, "cyan"), *known, (row.flags, ALARM)]


def colored_difference(difference: Difference, console: Console) -> str:
    """Write a difference as a coloured table, with what else differs below it."""
    header = inspection.HEADER
    lines = [Line(cells_of(slot), _STATE_STYLES[slot.state]) for slot in difference.slots]
    titles = [plain(title, "bold") for title in titles_of(difference)]
    *fields, summary = closing_of_difference(difference)
    table = grid(console, header, lines, accent=header.index("STATE"))
    below = [*map(plain, fields), plain(summary, "bold")]
    return drawn(console, *titles, plain(""), *table, plain(""), *below)


_Item = TypeVar("_Item")

Watch = Callable[[str, Optional[int]], AbstractContextManager[Callable[[], None]]]
"""Shows how many of some things are done: a name, and how many there are."""

_BAR = 20  # columns
_Handlers = list[tuple["logging.StreamHandler[IO[str]]", Optional[IO[str]]]]


@contextmanager
def unwatched(_name: str, _total: int | None) -> Iterator[Callable[[], None]]:
    """Show nothing."""
    yield lambda: None


class Display:
    """The one place of a program where bars are shown; safe from several threads.

    It is on standard error, and only there if that is a terminal. Log lines are shown above the
    bars. While something is printed, the bars are taken away.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._progress: Progress | None = None
        self._is_new = True
        self._wanted = 0
        self._hidden = 0
        self._handlers: _Handlers | None = None

    def watched(self, items: Iterable[_Item], total: int | None) -> Iterable[_Item]:
        """Show how far something is."""
        return items if self._open() is None else self._go_through(items, total)

    def _go_through(self, items: Iterable[_Item], total: int | None) -> Iterator[_Item]:
        with self.counted("", total) as advance:
            for item in items:
                advance()
                with self._changed(hidden=1), _logs_waiting():
                    yield item

    @contextmanager
    def counted(self, name: str, total: int | None) -> Iterator[Callable[[], None]]:
        """Show how many of some things are done."""
        progress = self._open()
        if progress is None:
            yield lambda: None
            return
        task = progress.add_task(name, total=total)
        try:
            with self._changed(wanted=1):
                yield lambda: progress.advance(task)
        finally:
            progress.remove_task(task)

    def _open(self) -> Progress | None:
        """Look for the terminal when there is something to show."""
        with self._lock:
            if self._is_new:
                self._is_new, self._progress = False, _new_progress()
            return self._progress

    @contextmanager
    def _changed(self, *, wanted: int = 0, hidden: int = 0) -> Iterator[None]:
        self._change(wanted, hidden)
        try:
            yield
        finally:
            self._change(-wanted, -hidden)

    def _change(self, wanted: int, hidden: int) -> None:
        with self._lock:
            self._wanted += wanted
            self._hidden += hidden
            is_due = self._wanted > 0 and not self._hidden
            if self._progress is None or is_due == (self._handlers is not None):
                return
            if is_due:
                self._progress.start()
                self._handlers = _logs_above()
            else:
                _give_back(self._handlers or [])
                self._handlers = None
                self._progress.stop()


@contextmanager
def _logs_waiting() -> Iterator[None]:
    """Let the log lines of other threads wait, which would stand within what is printed."""
    with ExitStack() as stack:
        for handler in logging.getLogger().handlers:
            handler.acquire()
            stack.callback(handler.release)
        yield


def _new_progress() -> Progress | None:
    if not sys.stderr.isatty():
        return None
    try:
        # Optional, and slow to load.
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
    console = Console(stderr=True)
    if console.is_dumb_terminal:
        return None
    name = TextColumn("{task.description}", markup=False)
    columns = name, BarColumn(_BAR), MofNCompleteColumn(), TimeElapsedColumn()
    # What is printed goes to standard output, which may be elsewhere.
    return Progress(*columns, console=console, transient=True, redirect_stdout=False)


def _logs_above() -> _Handlers:
    """Let log lines go by way of what standard error is at present, above the bars."""
    handlers = [h for h in logging.getLogger().handlers if type(h) is logging.StreamHandler]
    return [(handler, handler.setStream(sys.stderr)) for handler in handlers]


def _give_back(handlers: _Handlers) -> None:
    for handler, stream in handlers:
        if stream is not None:
            handler.setStream(stream)
