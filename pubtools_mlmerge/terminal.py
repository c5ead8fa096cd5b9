"""The terminal: the same content as in text, in colours and as wide as it is.

What is shown comes as `Text` objects of rich, never as its markup, and without control characters:
registries wrote a part of it.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from attrs import frozen

from pubtools_mlmerge.core.ages import is_noteworthy
from pubtools_mlmerge.core.plan import Fate, Report
from pubtools_mlmerge.report import columns_of, printable, summary_of, to_text

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
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
    """Look for a terminal that can show more than plain text.

    Returns:
        Console | None: None where standard output is no terminal, or rich is not installed.
    """
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
    """Write a report for people, as well as their terminal can show it.

    Args:
        report (MergeReport):
            The report.

    Returns:
        str: Lines without a line break at the end.
    """
    console = find_terminal()
    return to_text(report) if console is None else colored(report, console)


def colored(report: Report, console: Console) -> str:
    """Write a report as a coloured table and a summary.

    Args:
        report (MergeReport):
            The report.
        console (Console):
            For its width and its colours; nothing is written to it.

    Returns:
        str: Lines without a line break at the end.
    """
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
    """Draw one below the other.

    Args:
        console (Console):
            For its width and its colours; nothing is written to it.
        parts (RenderableType):
            What to draw.

    Returns:
        str: Lines without a line break at the end.
    """
    with console.capture() as capture:
        for part in parts:
            console.print(part)
    return capture.get().rstrip("\n")


def plain(text: str, style: str = "") -> Text:
    """Make a text that is shown as it is, and folded where it is too long.

    Args:
        text (str):
            Any text.
        style (str):
            Its style.

    Returns:
        Text: The text, without control characters.
    """
    from rich.text import Text  # noqa: PLC0415 - optional, and slow to load

    return Text(printable(text), style=style, overflow="fold")


def grid(
    console: Console, header: Sequence[str], lines: Sequence[Line], accent: int
) -> list[RenderableType]:
    """Make a table, or where the terminal is too narrow for it a list.

    Args:
        console (Console):
            For its width.
        header (Sequence[str]):
            Names of the columns. The first and the last are for texts that may be folded.
        lines (Sequence[Line]):
            The rows.
        accent (int):
            Number of the column that takes the style of a row.

    Returns:
        list[RenderableType]: What to draw.
    """
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
