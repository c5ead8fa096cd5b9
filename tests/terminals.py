"""Terminals: programs run on one of their own, and what it shows in the end."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Callable, Mapping, Sequence

from attrs import frozen

from tests import forked
from tests.programs import PROGRAMS, ROOT, environment

_ESCAPE = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|[@-Z\\^_])")
_STYLE = re.compile(r"\x1b\[[0-9;]*m")


@frozen
class Shown:
    """What a program showed on its terminal."""

    code: int
    raw: str

    @property
    def text(self) -> str:
        """What is to be read, in lines."""
        return _ESCAPE.sub("", self.raw).replace("\r\n", "\n")

    @property
    def lines(self) -> list[str]:
        """The lines, without what fills them up."""
        return [line.rstrip() for line in self.text.splitlines()]

    @property
    def joined(self) -> str:
        """The text without spaces and line breaks, which folding moves."""
        return "".join(self.text.split())

    @property
    def styles(self) -> set[str]:
        """The escape sequences that set colours and the like."""
        return set(_STYLE.findall(self.raw))

    @property
    def others(self) -> set[str]:
        """All other escape sequences and control characters."""
        rest = _STYLE.sub("", self.raw).replace("\r\n", "\n")
        return {c for c in rest if not c.isprintable() and c != "\n"}


def on_a_terminal(
    arguments: Sequence[str], width: int = 80, *, logs: bool = False, **variables: str | None
) -> Shown:
    """Run something whose standard output, and error if logs count, is a terminal."""

    def begin(streams: Sequence[int], own: Mapping[str, str]) -> Callable[[float], int]:
        stdin, stdout, stderr = streams
        return subprocess.Popen(
            arguments, cwd=ROOT, env=own, stdin=stdin, stdout=stdout, stderr=stderr
        ).wait

    return _shown(begin, width, variables, logs=logs)


def program_on_a_terminal(
    program: str, *arguments: str, width: int = 80, logs: bool = False, **variables: str | None
) -> Shown:
    """Run one of the project's programs."""

    def begin(streams: Sequence[int], own: Mapping[str, str]) -> Callable[[float], int]:
        words = [f"pubtools-mlmerge-{program}", *arguments]
        return forked.start(PROGRAMS[program], words, own, streams).wait

    return _shown(begin, width, variables, logs=logs)


Begin = Callable[[Sequence[int], Mapping[str, str]], Callable[[float], int]]


def _shown(begin: Begin, width: int, variables: Mapping[str, str | None], *, logs: bool) -> Shown:
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    with open(os.devnull, "r+b") as nothing:  # noqa: PTH123 - no file
        none = nothing.fileno()
        wait = begin((none, follower, follower if logs else none), _environment(variables))
    os.close(follower)
    shown = b""
    try:
        while part := os.read(leader, 4096):
            shown += part
    except OSError:  # how a terminal tells its end
        pass
    code = wait(30)
    os.close(leader)
    return Shown(code, shown.decode())


def _environment(variables: Mapping[str, str | None]) -> dict[str, str]:
    """Make an environment in which the terminal alone says what it can do."""
    told = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "COLORTERM", "TTY_COMPATIBLE")
    kept = {name: value for name, value in environment().items() if name not in told}
    given = {"TERM": "xterm-256color", **variables}
    return {**kept, **{name: value for name, value in given.items() if value is not None}}
