"""Progress: a bar for people, nothing for anybody else."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from pubtools_mlmerge.progress import watched

PROGRAM = """
import logging
logging.basicConfig(format="%(message)s", level=logging.INFO)
from pubtools_mlmerge.progress import watched
for item in watched((number for number in range(3)), {total}):
    logging.info("log of %d", item)
    print("output of", item, flush=True)
logging.info("the end")
"""


def on_a_terminal(program: str) -> str:
    """Run a program whose standard error is a terminal, and return what that shows."""
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    with subprocess.Popen(
        [sys.executable, "-c", program], stderr=follower, stdout=follower, env=environment
    ) as running:
        os.close(follower)
        shown = b""
        try:
            while part := os.read(leader, 4096):
                shown += part
        except OSError:  # how a terminal tells its end
            pass
        assert running.wait(10) == 0, shown
    os.close(leader)
    return shown.decode()


@pytest.mark.parametrize(("total", "count"), [("3", "3/3"), ("None", "/?")])
def test_a_terminal_shows_a_bar_below_all_else(total: str, count: str) -> None:
    shown = on_a_terminal(PROGRAM.format(total=total))

    assert count in shown
    lines = [f"{kind} of {number}\r\n" for number in range(3) for kind in ("log", "output")]
    assert all(line in shown for line in lines)
    assert "the end" in shown


def test_without_the_library_there_is_no_bar() -> None:
    hidden = "import sys\nsys.modules['rich.console'] = None\n"

    shown = on_a_terminal(hidden + PROGRAM.format(total=3))

    assert "3/3" not in shown
    assert "output of 2" in shown


def test_elsewhere_there_is_no_bar() -> None:
    items = [1, 2]

    assert watched(items, 2) is items
