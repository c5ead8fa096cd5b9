"""The benchmark of a push still runs."""

from __future__ import annotations

import subprocess
import sys

from tests.programs import ROOT


def test_a_push_is_measured() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--tiny", "-k", "push[0-"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "push of five tags, 0 ms" in done.stdout
