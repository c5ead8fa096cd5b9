"""The benchmarks still run, each figure once and at the smallest scale."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.programs import ROOT

# At this scale all distances are one, and so are all numbers of tags.
ONCE = "(not one_process or process[0-) and not (bench_push and (10-3 or 50-1))"
FIGURES = {
    "one merge, 0 ms",
    "2000 tags, 20 ms",
    "another registry, a layer of 1 GiB",
    "one merge as a process, 0 ms",
    "push, tags: 1, OCI, other registry",
    "start of a command",
    "import of the plugin",
}


def run(*arguments: str) -> str:
    """Run a module, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_figure_is_measured_and_shown(tmp_path: Path) -> None:
    run("benchmarks", "--tiny", "--into", str(tmp_path), "-k", ONCE)

    figures = json.loads((tmp_path / "benchmarks.json").read_text(encoding="utf-8"))["figures"]
    assert set(figures) >= FIGURES
    ET.fromstring((tmp_path / "benchmarks.svg").read_text(encoding="utf-8"))  # noqa: S314 - our own
    table = (tmp_path / "benchmarks.txt").read_text(encoding="utf-8")
    assert [name for name in figures if f'"{name}"' not in table] == []


def test_a_small_batch_has_the_table_of_a_large_one() -> None:
    assert "to resume when all is done 0, results 0" in run("benchmarks.scale", "2000")
