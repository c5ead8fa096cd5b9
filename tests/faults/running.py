"""Running the program in this process, without the waiting."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from typing import final

import pytest
from requests.adapters import HTTPAdapter

from tests.faults.scenarios import Bench
from tests.programs import Done, run_here
from tests.servers import TOKEN_PASSWORD

PASSWORDS = {"SOURCE_QUAY_PASSWORD": TOKEN_PASSWORD, "DEST_QUAY_PASSWORD": TOKEN_PASSWORD}
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


def merge(bench: Bench, host: str, log: StringIO | None = None) -> Done:
    """Run the program, and keep what it prints."""
    return run_here("merge", *bench.arguments(host), env=PASSWORDS, log=log)
