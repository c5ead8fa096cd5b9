"""The benchmarks still run, each figure once and at the smallest scale."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.programs import ROOT

PAGE = "benchmarks.rst"
ONCE = "not one_process or process[0-"  # at this scale all distances are one
FIGURES = {"one merge, 0 ms", "2000 tags, 20 ms", "growth of merge()", "start of a command"}


def test_every_figure_is_measured_and_shown(tmp_path: Path) -> None:
    shutil.copy(ROOT / "docs" / PAGE, tmp_path)

    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--tiny", "--into", str(tmp_path), "-k", ONCE],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads((tmp_path / "benchmarks.json").read_text(encoding="utf-8"))["figures"]
    assert set(figures) >= FIGURES
    ET.fromstring((tmp_path / "benchmarks.svg").read_text(encoding="utf-8"))  # noqa: S314 - our own
    page = (tmp_path / PAGE).read_text(encoding="utf-8")
    assert [name for name in figures if f'"{name}"' not in page] == []
