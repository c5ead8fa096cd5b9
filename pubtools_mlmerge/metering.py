"""Metering: how many requests a merge takes, also beside others that use the same clients."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class Meter:
    """Counts requests and seconds of one piece of work, in all threads that do a part of it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._requests = 0

    @property
    def requests(self) -> int:
        """How many requests there were."""
        return self._requests

    @property
    def seconds(self) -> float:
        """How long ago it was made."""
        return time.monotonic() - self._began

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count what is requested in this context.

        Yields:
            None: While it counts.
        """
        token = _CURRENT.set(self)
        try:
            yield
        finally:
            _CURRENT.reset(token)

    def count(self) -> None:
        """Count one request."""
        with self._lock:
            self._requests += 1


_CURRENT: ContextVar[Meter | None] = ContextVar("pubtools_mlmerge_meter", default=None)


def count_request() -> None:
    """Count a request for whoever counts in this context."""
    meter = _CURRENT.get()
    if meter is not None:
        meter.count()


@contextmanager
def uncounted() -> Iterator[None]:
    """Count nothing of what is requested in this context.

    Yields:
        None: While nothing is counted.
    """
    token = _CURRENT.set(None)
    try:
        yield
    finally:
        _CURRENT.reset(token)
