"""Measure, print one table, and write it into the documentation, with a plot and JSON."""

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

from benchmarks.bench_programs import ABSENT
from benchmarks.plot import Figures, Side, in_words, plot

OPTIONS = "-opython_files=bench_*.py -opython_functions=bench_* -ofilterwarnings=ignore"
HEAD = ("what", "by", "median", "fastest to slowest", "requests", "times as fast as the last")


def main() -> int:
    """Do what the command line says; other options go to pytest, such as ``-k push``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--into", type=Path, metavar="DIRECTORY", help="write the results here")
    arguments, others = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "results.json")
        options = ("--benchmark-quiet", f"--benchmark-json={file}", *others)
        code = pytest.main([str(Path(__file__).parent), *OPTIONS.split(), *options])
        if code != pytest.ExitCode.OK:
            return int(code)
        figures = read(file)
    origin = (
        f"Measured on {dt.datetime.now(dt.timezone.utc).date()} on {os.cpu_count()} cores with "
        f"Python {platform.python_version()}, requests {version('requests')} and pubtools-quay "
        f"{version('pubtools-quay')}. Programs that were absent: {', '.join(ABSENT) or 'none'}."
    )
    widths = [max(map(len, column)) for column in zip(*rows(figures))]
    table = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows(figures))
    print(*table, origin, sep="\n")
    if arguments.into:
        write(figures, origin, arguments.into)
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
        for number, side in enumerate(sides):
            spread = f"{in_words(side.fastest)} to {in_words(side.slowest)}"
            requests = "" if side.requests is None else str(side.requests)
            ratio = "" if side is sides[-1] else f"{sides[-1].median / side.median:.3g}"
            yield "" if number else name, side.name, in_words(side.median), spread, requests, ratio


def write(figures: Figures, origin: str, directory: Path) -> None:
    """Write what the page of the documentation shows: table, plot and JSON."""
    data = {"origin": origin, "figures": {n: list(map(asdict, s)) for n, s in figures.items()}}
    table = ("   " + ", ".join(f'"{cell}"' for cell in row) for row in rows(figures))
    head = (textwrap.fill(origin, 100), "", ".. csv-table::", "   :header-rows: 1", "")
    for name, text in (
        ("benchmarks.json", json.dumps(data, indent=1)),
        ("benchmarks.svg", plot(figures)),
        ("benchmarks.txt", "\n".join([*head, *table])),
    ):
        (directory / name).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
