"""Check an installation: ``python -m pubtools_mlmerge.host``."""

from __future__ import annotations

import os
import sys
from importlib.metadata import distributions

from pubtools_mlmerge.errors import one_line
from pubtools_mlmerge.host.seams import SEAMS, problems
from pubtools_mlmerge.host.task import version_of


def main() -> int:
    """Print what is installed, whether each step fits, and how to start it.

    Returns:
        int: The exit code, 1 if something does not fit.
    """
    lines = [
        f"pubtools-mlmerge {version_of('pubtools-mlmerge')}",
        f"pubtools-quay    {version_of('pubtools-quay')}",
    ]
    entries = {(e.group, e.name) for each in distributions() for e in each.entry_points}
    is_loaded = ("pubtools.hooks", "mlmerge") in entries
    lines.append(f"plugin: {'found' if is_loaded else 'not found'} in the group pubtools.hooks")
    fits = is_loaded
    for step, seam in SEAMS.items():
        found = problems(step)
        fits = fits and not found
        lines.append(f"step {step}: {'the seams fit' if not found else 'does not fit'}")
        lines += [f"  {problem}" for problem in found]
        is_there = ("target", seam.entry_point) in entries
        lines.append(
            f"  start it by the entry point {seam.entry_point} of the group target"
            + ("" if is_there else ", which is not installed")
        )
    steps = os.environ.get("MLMERGE_STEPS", "")
    lines.append(f"environment: MLMERGE_STEPS={steps}" if steps else "environment: enables nothing")
    sys.stdout.write("\n".join(map(one_line, lines)) + "\n")
    return 0 if fits else 1


if __name__ == "__main__":
    sys.exit(main())
