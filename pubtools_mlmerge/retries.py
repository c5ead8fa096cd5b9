"""Retries: which answers are worth asking again, and how long to wait."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

from attrs import frozen

RATE_LIMIT = 429
"""Status code that says "not so fast"."""
SERVER_FAILED = 500
"""Status code of a server that failed; docker-registry says so to who reads a tag being written."""
TRANSIENT = frozenset({RATE_LIMIT, 502, 503, 504})
"""Status codes that say "not now"."""


@frozen(kw_only=True)
class Retries:
    """How often and how patiently a request is repeated.

    Attributes:
        most (int):
            Most repetitions of one request.
        first_wait (float):
            Wait before the first repetition, in seconds; it doubles each time.
        longest_wait (float):
            Longest wait, in seconds, whatever the registry asks for.
    """

    most: int = 4
    first_wait: float = 0.5
    longest_wait: float = 60.0

    def wait(self, attempt: int, headers: Mapping[str, str]) -> float:
        """Tell how long to wait.

        Args:
            attempt (int):
                How many repetitions there were already.
            headers (Mapping[str, str]):
                Headers of the refusal; Retry-After is obeyed within bounds.

        Returns:
            float: Seconds, spread at random so that many clients do not come back at once.
        """
        backoff = self.first_wait * float(2**attempt)
        asked = _retry_after(headers.get("Retry-After", ""))
        spread = backoff * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing
        return min(max(spread, asked), self.longest_wait)


def _retry_after(header: str) -> float:
    """Read seconds or a date (RFC 9110, section 10.2.3); anything else asks for nothing."""
    header = header.strip()
    if header.isascii() and header.isdigit():
        return float(header[:9])
    try:
        until = parsedate_to_datetime(header)
    except (TypeError, ValueError, IndexError, OverflowError):
        return 0.0
    if until.tzinfo is None:
        until = until.replace(tzinfo=timezone.utc)
    return max(0.0, (until - datetime.now(timezone.utc)).total_seconds())


class Pauses:
    """Until when registries want to be left alone; a rate limit holds for all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until: dict[str, float] = {}

    def set(self, host: str, seconds: float) -> None:
        """Leave a registry alone for some time.

        Args:
            host (str):
                The registry.
            seconds (float):
                How long from now; a longer pause that is set already stays.
        """
        until = time.monotonic() + seconds
        with self._lock:
            self._until[host] = max(until, self._until.get(host, until))

    def left(self, host: str) -> float:
        """Tell how long a registry is still to be left alone.

        Args:
            host (str):
                The registry.

        Returns:
            float: Seconds; a little more than asked for, differently for each caller.
        """
        with self._lock:
            left = self._until.get(host, 0.0) - time.monotonic()
        return left * random.uniform(1.0, 1.1) if left > 0 else 0.0  # noqa: S311 - as above
