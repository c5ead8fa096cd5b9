"""Programs in processes of their own, without the half second that loading them takes.

`start` asks a server, which has them loaded and forks for each: one at a time. That the installed
scripts start is tested in `tests/test_distributions.py`.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path

from attrs import frozen

LONGEST = 2**16  # bytes of a request
PATIENCE = 60  # seconds
LOADED = (
    "jinja2",
    "pubtools_mlmerge.cli.commands",
    "pubtools_mlmerge.cli.demo",
    "pubtools_mlmerge.cli.parsers",
    "pubtools_mlmerge.reports.html",
    "pubtools_mlmerge.reports.terminal",
    "redis",
    "rich.progress",
)
_is_free = threading.Lock()


@frozen
class Started:
    """A program that runs."""

    pid: int
    _server: socket.socket

    def wait(self, seconds: float) -> int:
        """Wait for its end; return its code, or the negative number of the signal that ended it."""
        self._server.settimeout(seconds)
        try:
            return int(self._server.recv(LONGEST))
        except TimeoutError:
            os.kill(self.pid, signal.SIGKILL)
            self._server.settimeout(PATIENCE)
            self._server.recv(LONGEST)
            raise
        finally:
            _is_free.release()


def start(
    entry_point: str, arguments: Sequence[str], variables: Mapping[str, str], streams: Sequence[int]
) -> Started:
    """Start what is written as `module:function`, with its three standard streams."""
    request = json.dumps([entry_point, list(arguments), dict(variables)]).encode()
    assert len(request) < LONGEST
    assert _is_free.acquire(timeout=PATIENCE), "another program was not waited for"
    server = _server()
    server.settimeout(PATIENCE)
    socket.send_fds(server, [request], list(streams))
    return Started(int(server.recv(LONGEST)), server)


@cache
def _server() -> socket.socket:
    """Start the server; it ends with this process."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        running = subprocess.Popen(
            [sys.executable, "-m", "tests.forked", str(theirs.fileno())],
            cwd=Path(__file__).parents[1],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
        )
    atexit.register(running.wait)
    atexit.register(running.kill)  # before that, as it may wait for a program that hangs
    atexit.register(ours.close)
    return ours


def serve(client: socket.socket) -> Callable[[], object] | None:
    """Fork for each request; return in each process made so, and in the server at its end."""
    while True:
        request, streams, _, _ = socket.recv_fds(client, LONGEST, 3)
        if not request:
            return None
        if (pid := os.fork()) == 0:
            client.close()
            entry_point, arguments, variables = json.loads(request)
            return _prepared(entry_point, arguments, variables, streams)
        for stream in streams:
            os.close(stream)
        client.send(str(pid).encode())
        client.send(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())


def _prepared(
    entry_point: str, arguments: list[str], variables: dict[str, str], streams: list[int]
) -> Callable[[], object]:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=os.isatty(1))
    os.environ.clear()
    os.environ.update(variables)
    module, _, name = entry_point.partition(":")
    sys.argv = arguments
    function: Callable[[], object] = getattr(import_module(module), name)
    return function


if __name__ == "__main__":
    for loaded in LOADED:
        import_module(loaded)
    if (program := serve(socket.socket(fileno=int(sys.argv[1])))) is not None:
        program()
