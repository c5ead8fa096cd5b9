"""What our modules load in an environment that has the host."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys
from importlib.metadata import entry_points
for entry in entry_points(group="console_scripts"):
    if entry.module.startswith("pubtools") and not entry.module.startswith("pubtools_mlmerge"):
        entry.load()
before = {{*sys.modules, *sys.builtin_module_names}}
import {module}
print(sorted(name for name in set(sys.modules) - before if not name.startswith("pubtools_mlmerge")))
"""


@pytest.mark.parametrize("module", ["plugin", "cli", "demo", "tasks"])
def test_it_loads_no_module_that_the_host_has_not_loaded(module: str) -> None:
    program = PROGRAM.format(module=f"pubtools_mlmerge.{module}")

    loaded = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert loaded.stdout.strip() == "[]"
