"""Deadlines: an answer that trickles is cut off, though each of its parts comes in time."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import requests

_OFTEN = 10.0  # seconds between two looks, at most


class Deadlines:
    """Cuts off what takes too long, by one thread for all; there is none while nothing is read.

    Args:
        seconds (float):
            How long the body of an answer may take as a whole.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._lock = threading.Condition()
        self._open: dict[int, _Reading] = {}
        self._is_watched = False

    @contextmanager
    def over(self, response: requests.Response) -> Iterator[_Reading]:
        """Watch over the reading of an answer.

        Args:
            response (requests.Response):
                The answer, of which only the headers were read.

        Yields:
            _Reading: Knows whether it was cut off.
        """
        reading = _Reading(response, time.monotonic() + self.seconds)
        with self._lock:
            self._open[id(reading)] = reading
            if not self._is_watched:
                self._is_watched = True
                threading.Thread(target=self._watch, name="mlmerge-deadlines", daemon=True).start()
        try:
            yield reading
        finally:
            with self._lock:
                del self._open[id(reading)]

    def _watch(self) -> None:
        with self._lock:
            while self._open:
                self._lock.wait(min(self.seconds / 4, _OFTEN))
                for reading in self._open.values():
                    if reading.deadline <= time.monotonic():
                        reading.cut_off()
            self._is_watched = False


class _Reading:
    """An answer that is being read."""

    def __init__(self, response: requests.Response, deadline: float) -> None:
        self._response = response
        self.deadline = deadline
        self.is_late = False

    def cut_off(self) -> None:
        """Let whoever reads it find the connection broken."""
        self.is_late = True
        with suppress(OSError, ValueError, AttributeError):  # it may have come to its end just now
            handle = os.dup(self._response.raw.fileno())
            with socket.socket(fileno=handle) as connection:
                connection.shutdown(socket.SHUT_RDWR)
