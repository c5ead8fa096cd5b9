"""What the plugin adds to the start of every task: time, and modules that were not loaded yet.

Run it where the host is installed: ``make bench`` does.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

RUNS = 15
OURS = ("pubtools_mlmerge.plugin", "pubtools_mlmerge.cli", "pubtools_mlmerge.demo")

# Loads what a task of the host loads anyway, then ours, in a process of its own.
PROGRAM = """
import importlib, json, sys, time
from importlib.metadata import entry_points

def scripts():
    found = entry_points()
    if hasattr(found, "select"):
        return found.select(group="console_scripts")
    return found["console_scripts"]

for script in scripts():
    if script.value.startswith("pubtools.") or script.value.startswith("pubtools._"):
        script.load()
host = set(sys.modules)
began = time.perf_counter()
for name in {names}:
    importlib.import_module(name)
took = time.perf_counter() - began
added = sorted(n for n in set(sys.modules) - host if n.partition(".")[0] != "pubtools_mlmerge")
print(json.dumps([took * 1000, added, "pubtools._quay" in host]))
"""


def measure() -> tuple[float, list[str]]:
    """Load the host and then ours, once.

    Returns:
        tuple[float, list[str]]: Milliseconds that ours took, and the foreign modules they loaded.
    """
    program = PROGRAM.format(names=repr(OURS))
    done = subprocess.run(  # noqa: S603 - a program of our own
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    took, added, has_host = json.loads(done.stdout)
    assert has_host, "pubtools-quay is not installed here"
    return took, added


def main() -> None:
    """Measure several times and print the figures."""
    measured = [measure() for _ in range(RUNS)]
    times = [took for took, _ in measured]
    added = sorted({name for _, names in measured for name in names})
    print(f"imports of {', '.join(OURS)} after the host's own, {RUNS} runs")
    print(f"min {min(times):.1f} ms, median {statistics.median(times):.1f} ms (at most 15)")
    print(f"foreign modules loaded: {', '.join(added) or 'none'}")


if __name__ == "__main__":
    main()
