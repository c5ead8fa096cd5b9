"""Answers that never end, with a limit to what is sent so that a test of them does."""

from __future__ import annotations

import gzip
import socketserver
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from attrs import define

from pubtools_mlmerge.errors import RegistryError
from pubtools_mlmerge.registry.http import ConnectOptions, Request, Retries, Transport

MOST = 2**26
"""Bytes of memory that an answer may take, and bytes of it that are sent."""
_LINE = b"x" * 2**16
_LINES = b"X: y\r\n" * 10_000
_BEGIN = b"HTTP/1.1 200 OK\r\n"
_CHUNKED = _BEGIN + b"Transfer-Encoding: chunked\r\n\r\n"
_GZIP = b"Content-Encoding: gzip\r\n"
_AROUND, _BODY = "more than 1048576 bytes around its body", "more than 4194304 bytes"

# What begins an answer, what it goes on with for ever, and what is said of it.
FLOODS = {
    "a size of a chunk": (_CHUNKED, _LINE.replace(b"x", b"1"), _AROUND),
    "an extension of a chunk": (_CHUNKED + b"1;", _LINE, _AROUND),
    "many extensions": (_CHUNKED, b"1;" + _LINE[:60_000] + b"\r\nx\r\n", _AROUND),
    "a size below zero": (_CHUNKED + b"-1\r\n", _LINE, "the answer states no valid size"),
    "many chunks": (_CHUNKED, b"1\r\nx\r\n" * 10_000, _AROUND),
    "a trailer": (_CHUNKED + b"0\r\nX: ", _LINE, _AROUND),
    "trailers": (_CHUNKED + b"0\r\n", _LINES, _AROUND),
    "a status": (b"HTTP/1.1 200 ", _LINE, "connection broken"),
    "a header": (_BEGIN + b"X: ", _LINE, "connection broken"),
    "headers": (_BEGIN, _LINES, "connection broken"),
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 4000, _AROUND),
    "gzip": (_BEGIN + _GZIP + b"\r\n", gzip.compress(b" " * 2**25), _BODY),
    "gzip in chunks": (
        _BEGIN + _GZIP + b"Transfer-Encoding: chunked\r\n\r\n10000000\r\n",
        gzip.compress(b" " * 2**25),
        _BODY,
    ),
}
floods = pytest.mark.parametrize("name", list(FLOODS))


@define
class _Flood:
    url: str
    sent: int = 0


@contextmanager
def _flood(head: bytes, part: bytes) -> Iterator[_Flood]:
    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(2**16)
            with suppress(OSError):  # the client has seen enough
                self.request.sendall(head)
                while found.sent < MOST:
                    self.request.sendall(part)
                    found.sent += len(part)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        found = _Flood(f"http://127.0.0.1:{server.server_address[1]}")
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield found
        server.shutdown()


def check(name: str) -> None:
    """Read an answer without end, and check that it is given up early and takes little memory."""
    head, part, words = FLOODS[name]
    with _flood(head, part) as found:
        transport = Transport(ConnectOptions(retries=Retries(most=0)))
        tracemalloc.start()
        try:
            with pytest.raises(RegistryError) as caught:
                transport.send(Request(method="GET", url=found.url, subject="app:1"))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            transport.close()

    # Versions of the library differ in what they notice first, and in limits of their own.
    known = (words, _AROUND, "connection broken")
    assert any(each in caught.value.message for each in known)
    assert peak < MOST // 2
    assert found.sent < MOST // 2
