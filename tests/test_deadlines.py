"""Deadlines: one thread watches over all that is being read, while there is something."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO

import pytest
import requests

from pubtools_mlmerge.registry.http import Deadlines


@contextmanager
def connected() -> Iterator[tuple[requests.Response, socket.socket]]:
    """Give an answer that is read from a connection, and the other end of that."""
    ours, theirs = socket.socketpair()
    with ours, theirs, ours.makefile("rb") as stream:
        response = requests.Response()
        response.raw = stream
        theirs.settimeout(10)
        yield response, theirs


class Watchers:
    """The threads that watch, but for those that other tests left."""

    def __init__(self) -> None:
        self._others = set(threading.enumerate())

    @property
    def found(self) -> list[threading.Thread]:
        ours = [each for each in threading.enumerate() if each not in self._others]
        return [each for each in ours if each.name == "mlmerge-deadlines"]

    def wait_for_none(self) -> None:
        end = time.monotonic() + 10
        while self.found and time.monotonic() < end:
            time.sleep(0.01)
        assert self.found == []


@pytest.fixture(autouse=True)
def watchers() -> Iterator[Watchers]:
    found = Watchers()
    yield found
    found.wait_for_none()


def test_what_takes_too_long_is_cut_off() -> None:
    with connected() as (response, theirs), Deadlines(0.05).over(response) as reading:
        assert response.raw.read() == b""
        assert theirs.recv(1) == b""

    assert reading.is_late


def test_what_ends_in_time_is_left_alone(watchers: Watchers) -> None:
    deadlines = Deadlines(0.1)
    with connected() as (response, theirs):
        with deadlines.over(response) as reading:
            theirs.sendall(b"early")
            assert response.raw.read(5) == b"early"
        watchers.wait_for_none()
        theirs.sendall(b"later")
        assert response.raw.read(5) == b"later"

    assert not reading.is_late


def test_one_thread_watches_over_many(watchers: Watchers) -> None:
    deadlines = Deadlines(0.1)
    with ExitStack() as stack:
        readings = [
            stack.enter_context(deadlines.over(stack.enter_context(connected())[0]))
            for _ in range(5)
        ]
        assert len(watchers.found) == 1
        wait_for = time.monotonic() + 10
        while not all(each.is_late for each in readings) and time.monotonic() < wait_for:
            time.sleep(0.01)

        assert all(each.is_late for each in readings)


def test_what_has_no_connection_any_more_cannot_be_cut_off() -> None:
    response = requests.Response()
    response.raw = BytesIO(b"all of it")
    with Deadlines(0.02).over(response) as reading:
        time.sleep(0.2)

    assert reading.is_late
