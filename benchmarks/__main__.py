"""Measure, print one table, and write it into the documentation with a plot and JSON."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from attrs import asdict

from benchmarks.bench_merges import HAS_HOST
from benchmarks.bench_programs import ABSENT
from benchmarks.plot import Figures, Side, in_words, plot

OPTIONS = (
    *("-o", "python_files=bench_*.py", "-o", "python_functions=bench_*"),
    *("-o", "filterwarnings=ignore", "--benchmark-quiet"),
)
HEAD = ("what", "by", "median", "fastest to slowest", "requests", "times as fast as the last")
BEGIN, END = ".. results begin here", ".. results end here"


def main() -> int:
    """Do what the command line says; other options go to pytest, such as ``-k push``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--into", type=Path, metavar="DIRECTORY", help="write the page here")
    arguments, others = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "results.json")
        here = str(Path(__file__).parent)
        code = pytest.main([here, *OPTIONS, f"--benchmark-json={file}", *others])
        if code != pytest.ExitCode.OK:
            return int(code)
        figures = read(file)
    host = f"pubtools-quay {version('pubtools-quay')}" if HAS_HOST else "no pubtools-quay"
    origin = (
        f"Measured on {dt.datetime.now(dt.timezone.utc).date()} with Python "
        f"{platform.python_version()}, requests {version('requests')} and {host} on "
        f"{os.cpu_count()} cores. Programs that were absent: {', '.join(ABSENT) or 'none'}."
    )
    widths = [max(map(len, column)) for column in zip(*rows(figures))]
    for row in rows(figures):
        print("  ".join(map(str.ljust, row, widths)).rstrip())
    print(origin)
    if arguments.into:
        write_page(figures, origin, arguments.into)
    return 0


def read(path: Path) -> Figures:
    """Read a file of pytest-benchmark."""
    found: dict[str, list[Side]] = {}
    for each in json.loads(path.read_text(encoding="utf-8"))["benchmarks"]:
        stats, requests = each["stats"], each["extra_info"].get("requests")
        side = Side(each["name"], stats["median"], stats["min"], stats["max"], requests)
        found.setdefault(each["group"], []).append(side)
    return found


def rows(figures: Figures) -> Iterator[tuple[str, ...]]:
    yield HEAD
    for name, sides in figures.items():
        for side in sides:
            spread = f"{in_words(side.fastest)} to {in_words(side.slowest)}"
            requests = "" if side.requests is None else str(side.requests)
            ratio = "" if side is sides[-1] else f"{sides[-1].median / side.median:.3g}"
            yield name, side.name, in_words(side.median), spread, requests, ratio


def write_page(figures: Figures, origin: str, directory: Path) -> None:
    """Write JSON and plot, and put the table into the page between its marks."""
    data = {"origin": origin, "figures": {n: list(map(asdict, s)) for n, s in figures.items()}}
    (directory / "benchmarks.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    (directory / "benchmarks.svg").write_text(plot(figures), encoding="utf-8")
    table = ("   " + ", ".join(f'"{cell}"' for cell in row) for row in rows(figures))
    head = ("", textwrap.fill(origin, 100), "", ".. csv-table::", "   :header-rows: 1", "")
    page = directory / "benchmarks.rst"
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    text = "\n".join([before + BEGIN, *head, *table, "", END + rest.partition(END)[2]])
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
