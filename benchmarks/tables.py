"""Results as tables: for a terminal, and for the documentation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from attrs import frozen

from benchmarks import lists
from benchmarks.figures import Case
from benchmarks.results import Results
from benchmarks.targets import growth_of, targets

_MARKS = {True: "yes", False: "no", None: "-"}


@frozen
class Table:
    """A table.

    Attributes:
        title (str):
            What it shows.
        head (tuple[str, ...]):
            Its columns.
        rows (tuple[tuple[str, ...], ...]):
            Its rows.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def as_text(self) -> str:
        """Write it for a terminal."""
        widths = [max(map(len, column)) for column in zip(self.head, *self.rows)]
        rule = tuple("-" * width for width in widths)
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
            for row in (self.head, rule, *self.rows)
        ]
        return "\n".join([self.title, "", *lines, ""])

    def as_rst(self) -> str:
        """Write it for the documentation."""
        head = [f".. csv-table:: {self.title}", "   :header-rows: 1", ""]
        return "\n".join([*head, *(f"   {_csv(row)}" for row in (self.head, *self.rows)), ""])


def _csv(cells: Iterable[str]) -> str:
    return ", ".join(f'"{cell}"' if "," in cell or not cell else cell for cell in cells)


def tables(results: Results) -> Iterator[Table]:
    """Make the tables: targets first, then all cases.

    Args:
        results (Results):
            What was measured.

    Yields:
        Table: A table.
    """
    judged = ((t.text, t.wanted, t.measured, _MARKS[t.reached]) for t in targets(results))
    yield Table("Targets", ("target", "wanted", "measured", "reached"), tuple(judged))
    for name in results.names:
        yield _table(name, results.all_of(name))
    sides = [side for side in (lists.OURS, lists.HOSTS) if growth_of(results, side)]
    if sides:
        grown = zip(*(growth_of(results, side) for side in sides))
        rows = tuple(
            (f"{each[0][0]} to {each[0][1]}", *(f"{exponent:.2f}" for *_, exponent in each))
            for each in grown
        )
        yield Table(f"growth of {lists.TIME}, as exponent", ("entries", *sides), rows)


def _table(name: str, cases: Sequence[Case]) -> Table:
    details = tuple(dict.fromkeys(detail for case in cases for detail in case.details))
    against = cases[0].against
    counted = any(side.requests is not None for case in cases for side in case.sides.values())
    is_time = cases[0].unit == "s"
    head = (*details, "side", "median", *(("requests",) if counted else ()))
    if against:
        head = *head, f"{'times as fast as' if is_time else 'times as small as'} {against}"
    rows = tuple(row for case in cases for row in _rows(case, details, counted=counted))
    return Table(name, head, rows)


def _rows(case: Case, details: Sequence[str], *, counted: bool) -> Iterator[tuple[str, ...]]:
    shown = [str(case.details.get(detail, "")) for detail in details]
    for name, side in case.sides.items():
        row = [*shown, name, _measure(side.median, case.unit)]
        if counted:
            row.append(str(side.requests))
        if case.against:
            row.append(_ratio(case, name))
        yield tuple(row)


def _measure(value: float, unit: str) -> str:
    if unit == "bytes":
        return f"{value / 2**20:.3g} MiB"
    return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.3g} s"


def _ratio(case: Case, side: str) -> str:
    ratio = case.ratio(side)
    if ratio is None or side == case.against:
        return ""
    return f"{ratio.middle:.2f} ({ratio.least:.2f} to {ratio.most:.2f})"
