"""Which modules of ours a run enters: those of which it executes a function."""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pubtools_mlmerge

PACKAGE = Path(pubtools_mlmerge.__file__).parent
# The registry that a test runs against is no part of the run.
TESTING = PACKAGE / "testing"


def modules_entered(run: Callable[[], object]) -> list[str]:
    """List the modules, without those that are merely imported, in all threads of a run."""
    found: set[str] = set()
    passed = {str(path) for path in TESTING.rglob("*.py")}

    def note(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        name = code.co_filename
        if event != "call" or name in found or name in passed or not name.startswith(str(PACKAGE)):
            return
        if code.co_flags & inspect.CO_OPTIMIZED and not _is_importing(frame):
            found.add(name)

    before = sys.getprofile()
    threading.setprofile(note)
    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(before)
        threading.setprofile(before)
    return sorted(Path(name).relative_to(PACKAGE).as_posix() for name in found)


def _is_importing(frame: FrameType | None) -> bool:
    """Tell whether the body of one of our modules is running further up."""
    while frame is not None:
        code = frame.f_code
        if code.co_name == "<module>" and code.co_filename.startswith(str(PACKAGE)):
            return True
        frame = frame.f_back
    return False
