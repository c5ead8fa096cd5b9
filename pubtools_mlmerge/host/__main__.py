"""Check an installation: ``python -m pubtools_mlmerge.host``."""

from __future__ import annotations

import os
import sys
from importlib.metadata import distributions

from pubtools_mlmerge.errors import one_line
from pubtools_mlmerge.host.seams import STEPS, problems
from pubtools_mlmerge.host.task import version_of

_STARTS = {"push": "mlmerge-push-docker", "tag-docker": "mlmerge-tag-docker"}


def _found(group: str, name: str) -> bool:
    """Whether a distribution of this environment has an entry point."""
    return any(
        entry.group == group and entry.name == name
        for distribution in distributions()
        for entry in distribution.entry_points
    )


def main() -> int:
    """Print what is installed, whether each step fits, and how to start it.

    Returns:
        int: The exit code, 1 if something does not fit.
    """
    lines = [
        f"pubtools-mlmerge {version_of('pubtools-mlmerge')}",
        f"pubtools-quay    {version_of('pubtools-quay')}",
    ]
    is_loaded = _found("pubtools.hooks", "mlmerge")
    lines.append(f"plugin: {'found' if is_loaded else 'not found'} in the group pubtools.hooks")
    fits = is_loaded
    for step in STEPS:
        found = problems(step)
        fits = fits and not found
        lines.append(f"step {step}: {'the seams fit' if not found else 'does not fit'}")
        lines += [f"  {problem}" for problem in found]
        name = _STARTS[step]
        is_there = "" if _found("target", name) else ", which is not installed"
        lines.append(f"  start it by the entry point {name} of the group target{is_there}")
    steps = os.environ.get("MLMERGE_STEPS", "")
    lines.append(f"environment: MLMERGE_STEPS={steps}" if steps else "environment: enables nothing")
    sys.stdout.write("\n".join(map(one_line, lines)) + "\n")
    return 0 if fits else 1


if __name__ == "__main__":
    sys.exit(main())
