"""Measure, print the figures, and write them into the documentation."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from attrs import evolve

from benchmarks import peers
from benchmarks.figures import Case, Detail
from benchmarks.pages import write_pages
from benchmarks.results import Results
from benchmarks.scale import FULL, QUICK
from benchmarks.suite import PARTS, measure
from benchmarks.tables import tables

_PACKAGES = ("pubtools-quay", "requests", "urllib3")


def main() -> None:
    """Do what the command line says."""
    arguments = _parser().parse_args()
    scale = QUICK if arguments.quick else FULL
    if arguments.runs:
        scale = evolve(scale, runs=arguments.runs)
    parts = arguments.only or PARTS
    cases = tuple(_told(measure(parts, scale, arguments.alone)))
    results = Results(machine=_machine(scale.runs), absent=tuple(_absent()), cases=cases)
    for table in tables(results):
        print(table.as_text())
    if results.absent:
        print(f"Absent, and so not measured: {', '.join(results.absent)}")
    if arguments.into:
        write_pages(results, arguments.into)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only", action="append", choices=PARTS, help="measure this part; repeatable"
    )
    parser.add_argument("--quick", action="store_true", help="once, and the smallest of all")
    parser.add_argument("--runs", type=int, metavar="N", help="how often, instead of 7 times")
    parser.add_argument(
        "--alone",
        default=sys.executable,
        metavar="PYTHON",
        help="a Python that has this project and no pubtools-quay; its programs are measured",
    )
    parser.add_argument(
        "--into", type=Path, metavar="DIRECTORY", help="write data, plot and tables here"
    )
    return parser


def _told(cases: Iterator[Case]) -> Iterator[Case]:
    """Tell on standard error how far it is."""
    for case in cases:
        details = ", ".join(f"{name} {value}" for name, value in case.details.items())
        print(f"{case.name}: {details} (load {case.load})", file=sys.stderr, flush=True)
        yield case


def _machine(runs: int) -> dict[str, Detail]:
    found: dict[str, Detail] = {
        "cores": os.cpu_count() or 1,
        "system": f"{platform.system()} {platform.machine()}",
        "Python": platform.python_version(),
    }
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return {**found, "runs": runs}


def _absent() -> Iterator[str]:
    if "pubtools-quay" not in _machine(0):
        yield "pubtools-quay"
    yield from peers.absent()


if __name__ == "__main__":
    main()
