"""The pace of requests to each registry, for all threads and clients of a run."""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING

from attrs import define, field

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pubtools_mlmerge.registry.http import Retries

_FIRST_INTERVAL = 0.1  # part of the first wait; between requests after a first refusal
_SLOWER, _FASTER = 2.0, 0.8
_GOOD = 20  # answers after which requests become faster again
_MOST_DOUBLINGS = 30


@define
class _Pace:
    lock: threading.Lock = field(factory=threading.Lock)
    next: float = 0.0  # when the next request may go
    interval: float = 0.0  # seconds between requests
    epoch: int = 0  # number of pauses so far
    refusals: int = 0  # pauses since the last good answer
    good: int = 0  # answers since the interval was changed


class Throttle:
    """Lets requests to a host go one after the other once it said that there are too many.

    A pause after an answer 429 is for all. Answers to what was sent before it do not prolong it.
    After it, requests keep an interval, which doubles with each pause and slowly shrinks again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._paces: dict[str, _Pace] = {}

    def wait(self, host: str, max_rate: float | None = None) -> int:
        """Wait until a request may go to a host; return the number of pauses before it."""
        pace, least = self._pace(host), 1 / max_rate if max_rate else 0.0
        while True:
            with pace.lock:
                now, epoch = time.monotonic(), pace.epoch
                at = max(now, pace.next)
                pace.next = at + max(pace.interval, least)
            if at > now:
                time.sleep(at - now)
            if pace.epoch == epoch:  # otherwise another thread was refused in the meantime
                return epoch

    def slow_down(
        self, host: str, epoch: int, retries: Retries, headers: Mapping[str, str]
    ) -> float:
        """Pause after a refusal of what `wait` let go; return the seconds until its end."""
        pace = self._pace(host)
        with pace.lock:
            now = time.monotonic()
            if epoch == pace.epoch:
                wait = retries.wait(min(pace.refusals, _MOST_DOUBLINGS), headers)
                spread = wait * random.uniform(1.0, 1.1)  # noqa: S311 - spreads load, guards nothing
                first = retries.first_wait * _FIRST_INTERVAL
                pace.epoch, pace.refusals, pace.good = epoch + 1, pace.refusals + 1, 0
                pace.interval = max(first, min(pace.interval * _SLOWER, retries.longest_wait))
                pace.next = now + min(spread, retries.longest_wait)
            return max(0.0, pace.next - now)

    def speed_up(self, host: str) -> None:
        """Take note of an answer that is no refusal."""
        pace = self._pace(host)
        with pace.lock:
            pace.refusals, pace.good = 0, pace.good + 1
            if pace.good >= _GOOD:
                pace.interval, pace.good = pace.interval * _FASTER, 0

    def _pace(self, host: str) -> _Pace:
        with self._lock:
            return self._paces.setdefault(host, _Pace())
