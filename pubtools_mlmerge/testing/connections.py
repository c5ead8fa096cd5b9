"""Sockets and threads: HTTP/1.1 to and from values."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import ssl
import sys
from collections.abc import Callable, Mapping
from email.utils import formatdate
from http import HTTPStatus
from http.server import ThreadingHTTPServer

from pubtools_mlmerge.testing.wire import Request, Response

BODYLESS = (204, 304)
LINE_BYTES = 65536
REQUEST_LINE_WORDS = 3


class ConnectionServer(ThreadingHTTPServer):
    """Accepts connections on the loopback interface, each served by a thread.

    Args:
        answer (Callable[[Request], Response]):
            Answers one request; called from many threads.
        ssl_context (ssl.SSLContext | None):
            Given, every connection is wrapped in TLS.
        port (int):
            Where to listen; 0 is for any port that is free.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        answer: Callable[[Request], Response],
        ssl_context: ssl.SSLContext | None,
        port: int = 0,
    ) -> None:
        self.answer = answer
        self._ssl_context = ssl_context
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), ConnectionHandler)

    @property
    def url(self) -> str:
        """The root of everything that is served here."""
        return f"{'https' if self._ssl_context else 'http'}://127.0.0.1:{self.server_port}"

    def server_bind(self) -> None:
        """Bind without asking any name server for a name."""
        socketserver.TCPServer.server_bind(self)
        self.server_name = "127.0.0.1"
        self.server_port = int(self.server_address[1])

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        """Accept a connection; the thread that serves it will shake hands."""
        connection, address = super().get_request()
        if self._ssl_context:
            connection = self._ssl_context.wrap_socket(
                connection,
                server_side=True,
                do_handshake_on_connect=False,
            )
        self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        """Close a connection."""
        if isinstance(request, socket.socket):
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(
        self,
        request: socket.socket | tuple[bytes, socket.socket],
        client_address: object,
    ) -> None:
        """Leave it to the client to report a connection that broke; report the rest."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)

    def close_connections(self) -> None:
        """End connections that clients keep alive."""
        for connection in tuple(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class ConnectionHandler(socketserver.StreamRequestHandler):
    """Serves the requests of one connection.

    The handler of the standard library takes twice as long, most of it to read
    headers as if they were those of an e-mail; benchmarks run against this one.
    """

    server: ConnectionServer
    disable_nagle_algorithm = True

    def handle(self) -> None:
        """Answer requests until the client has no more."""
        keep_alive = True
        while keep_alive:
            words = self._request_line()
            if len(words) != REQUEST_LINE_WORDS:
                return
            method, target, version = words
            headers = self._headers()
            request = Request(
                method=method,
                base_url=self.server.url,
                target=target,
                headers=headers,
                body=self._body(headers),
            )
            default = "close" if version == "HTTP/1.0" else "keep-alive"
            keep_alive = headers.get("connection", default).lower() != "close"
            self._send(self.server.answer(request), method, "keep-alive" if keep_alive else "close")

    def _request_line(self) -> list[str]:
        first = self.rfile.read(1)
        # Clients try TLS first. Its greeting begins with no letter, and need not
        # hold the end of a line that they would otherwise wait for in vain.
        if not first.isalpha():
            return []
        return (first + self.rfile.readline(LINE_BYTES)).decode("latin-1").split()

    def _headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        while line := self.rfile.readline(LINE_BYTES).decode("latin-1").strip():
            name, _, value = line.partition(":")
            name, value = name.lower(), value.strip()
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return headers

    def _body(self, headers: Mapping[str, str]) -> bytes:
        if headers.get("expect", "").lower() == "100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if "chunked" not in headers.get("transfer-encoding", ""):
            return self.rfile.read(int(headers.get("content-length", 0)))
        pieces = []
        while size := int(self.rfile.readline(LINE_BYTES).partition(b";")[0].strip() or b"0", 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline(LINE_BYTES)
        self._headers()
        return b"".join(pieces)

    def _send(self, response: Response, method: str, connection: str) -> None:
        """Send head and body in one piece, lest the client wait for the second."""
        headers = {
            "Docker-Distribution-Api-Version": "registry/2.0",
            "Date": formatdate(usegmt=True),
            "Connection": connection,
            **response.headers,
        }
        if response.status not in BODYLESS:
            headers["Content-Length"] = str(len(response.body))
        lines = [f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = "\r\n".join((*lines, "", "")).encode("latin-1")
        self.wfile.write(head if method == "HEAD" else head + response.body)
