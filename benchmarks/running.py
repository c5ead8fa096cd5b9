"""Running programs, where nothing of the user's own tells them where or as whom to connect."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.world import PASSWORD
from tests.programs import PROGRAMS, ROOT, environment


def script(python: str, name: str) -> list[str]:
    """Tell how to start a program of this project, installed beside a Python or merely found."""
    installed = Path(python).with_name(f"pubtools-mlmerge-{name}")
    if installed.exists():
        return [str(installed)]
    module, _, function = PROGRAMS[name].partition(":")
    return [python, "-c", f"from {module} import {function}; {function}()"]


def run(command: Sequence[str]) -> float:
    """Run a program to its end, which must be a good one.

    Args:
        command (Sequence[str]):
            The program with its arguments.

    Returns:
        float: Seconds.
    """
    began = time.perf_counter()
    output(command)
    return time.perf_counter() - began


def output(command: Sequence[str]) -> str:
    """Run a program to its end, which must be a good one.

    Args:
        command (Sequence[str]):
            The program with its arguments.

    Returns:
        str: What it printed.
    """
    passwords = dict.fromkeys(("SOURCE_QUAY_PASSWORD", "DEST_QUAY_PASSWORD"), PASSWORD)
    own = {name: os.environ[name] for name in ("HOME", "REQUESTS_CA_BUNDLE") if name in os.environ}
    variables = environment(**own, **passwords)
    variables.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed is compiled
    done = subprocess.run(  # noqa: S603 - programs that are compared
        command,
        cwd=ROOT,
        env=variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command[0]} failed: {done.stderr}"
    return done.stdout
