"""Coverage-guided fuzzing finds nothing, either; collected only where atheris is installed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

RUNS = 2000
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("target", ["index", "manifest", "reference", "challenges"])
def test_only_our_own_errors_come_out(target: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.hostile.fuzz_atheris", target, str(RUNS)],
        cwd=tmp_path,  # where it leaves an input that led to an error
        # atheris ends the process without a chance to remove what it began with.
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-5000:]
    done_runs = re.search(r"^Done ([0-9]+) runs", done.stderr, re.MULTILINE)
    assert done_runs is not None
    assert int(done_runs[1]) >= RUNS  # a few more where it learns to the end
