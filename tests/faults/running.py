"""Running the program in this process, without the waiting."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from typing import final

import pytest
from requests.adapters import HTTPAdapter

from pubtools_mlmerge.cli.parsers import merge_main
from tests.faults.scenarios import Bench
from tests.programs import Done, call

_IMPATIENCE = 0.2  # seconds


@final
class Clock:
    """Time that passes at once where the program waits."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        self.at_wait: Callable[[], None] = _nothing
        self._monotonic = time.monotonic

    def sleep(self, seconds: float) -> None:
        """Wait."""
        self.waits.append(seconds)
        self.at_wait()

    def monotonic(self) -> float:
        """Return the time."""
        return self._monotonic() + sum(self.waits)


def _nothing() -> None:
    """Do nothing."""


@contextmanager
def hurried(*, impatient: bool = False) -> Iterator[Clock]:
    """Do not wait, or if impatient only briefly for answers."""
    clock, send = Clock(), HTTPAdapter.send

    def send_impatiently(self: HTTPAdapter, *args: object, **options: object) -> object:
        return send(self, *args, **{**options, "timeout": (5.0, _IMPATIENCE)})  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "sleep", clock.sleep)
        patch.setattr(time, "monotonic", clock.monotonic)
        if impatient:
            patch.setattr(HTTPAdapter, "send", send_impatiently)
        yield clock


@contextmanager
def _own_logging() -> Iterator[None]:
    """Let the program set up its logging as in a new process."""
    root = logging.getLogger()
    handlers = root.handlers
    root.handlers = []
    try:
        yield
    finally:
        root.handlers = handlers


def call_here(
    main: Callable[[Sequence[str]], None], *arguments: str, log: StringIO | None = None
) -> Done:
    """Run the function of a program in this process, and keep what it prints."""
    out, err = StringIO(), log or StringIO()
    with _own_logging(), redirect_stdout(out), redirect_stderr(err):
        code = call(main, *arguments)
    return Done(code, out.getvalue(), err.getvalue())


def merge(bench: Bench, host: str, log: StringIO | None = None) -> Done:
    """Run a merge by way of a host."""
    return call_here(merge_main, *bench.arguments(host), log=log)
