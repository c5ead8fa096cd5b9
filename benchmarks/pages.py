"""What results become in the documentation: data, a plot, and tables in a page."""

from __future__ import annotations

import textwrap
from pathlib import Path

from benchmarks.plot import plot
from benchmarks.results import Results, read
from benchmarks.tables import tables

DATA, PLOT, PAGE = "benchmarks.json", "benchmarks.svg", "benchmarks.rst"
_WIDTH = 100
_PICTURE = """\
.. image:: benchmarks.svg
   :alt: How long merges take on registries at different distances, and of lists of different length

A line goes through the medians, and the bar at each point reaches from the fastest run to the
slowest. Times are on logarithmic axes.

:download:`All values <benchmarks.json>`.
"""
_BEGIN, _END = ".. results begin here", ".. results end here"


def write_pages(results: Results, directory: Path) -> None:
    """Write results, in place of those that are there.

    Args:
        results (Results):
            What was measured. Cases that are there and were not measured again stay.
        directory (Path):
            Where the page is.
    """
    data, page = directory / DATA, directory / PAGE
    if data.exists():
        results = results.over(read(data))
    results.write(data)
    # From what was written, so that anybody gets the same.
    results = read(data)
    (directory / PLOT).write_text(plot(results), encoding="utf-8")
    text = page.read_text(encoding="utf-8")
    page.write_text(with_tables(text, results), encoding="utf-8")


def with_tables(page: str, results: Results) -> str:
    """Put the tables of results into a page, between its marks."""
    before, mark, rest = page.partition(f"{_BEGIN}\n")
    _, end, after = rest.partition(_END)
    assert mark, f"the page has no line {_BEGIN!r}"
    assert end, f"the page has no line {_END!r}"
    found = "\n".join(table.as_rst() for table in tables(results))
    return f"{before}{mark}\n{_PICTURE}\n{_where(results)}\n\n{found}\n{end}{after}"


def _where(results: Results) -> str:
    """Say on what it was measured."""
    loads = [case.load for case in results.cases]
    told = "; ".join(f"{name}: {value}" for name, value in results.machine.items())
    absent = ", ".join(results.absent) or "none"
    where = f"Measured with {told}; load average from {min(loads)} to {max(loads)}."
    return textwrap.fill(f"{where} Programs that were absent: {absent}.", _WIDTH)
