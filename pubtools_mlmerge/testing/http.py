"""What goes over the wire: requests, responses and the errors among them."""

from __future__ import annotations

import contextlib
import json
import socket
import socketserver
import ssl
import sys
from collections.abc import Callable, Mapping
from email.utils import formatdate
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote

from attrs import field, frozen

JSON_TYPE = "application/json; charset=utf-8"
TEXT_TYPE = "text/plain; charset=utf-8"
HTML_TYPE = "text/html; charset=utf-8"


@frozen(kw_only=True)
class RecordedRequest:
    """A request that the registry answered.

    Attributes:
        method (str):
            The HTTP method, in capitals.
        path (str):
            The path as it was sent, without the query.
        query (str):
            What followed the question mark, as it was sent.
        headers (Mapping[str, str]):
            The headers, by lower-case name.
        status (int):
            The status of the answer.
        body_size (int):
            The length of the request's body in bytes.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str] = field(repr=False)
    status: int
    body_size: int


@frozen(kw_only=True)
class Request:
    """A request as it arrived, with its whole body."""

    method: str
    base_url: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def raw_path(self) -> str:
        """The path as it was sent."""
        return self.target.partition("?")[0]

    @property
    def path(self) -> str:
        """The path with escaped characters decoded."""
        return unquote(self.raw_path)

    @property
    def query(self) -> str:
        """What followed the question mark."""
        return self.target.partition("?")[2]

    def parameters(self, name: str) -> tuple[str, ...]:
        """Return every value of a query parameter, in order."""
        pairs = parse_qsl(self.query, keep_blank_values=True)
        return tuple(value for key, value in pairs if key == name)

    def parameter(self, name: str) -> str:
        """Return the first value of a query parameter, or nothing."""
        return next(iter(self.parameters(name)), "")

    def number(self, name: str, default: int) -> int:
        """Return a query parameter that is a number, or the default."""
        text = self.parameter(name)
        return int(text) if text.isascii() and text.isdigit() else default

    @property
    def accepted(self) -> frozenset[str]:
        """The media types of the Accept header, without parameters."""
        ranges = self.headers.get("accept", "").split(",")
        return frozenset(text.partition(";")[0].strip() for text in ranges)


@frozen(kw_only=True)
class Response:
    """An answer that is ready to be sent."""

    status: int = 200
    headers: Mapping[str, str] = field(factory=dict)
    body: bytes = b""


class RegistryError(NamedTuple):
    """One entry of the error list that registries answer with."""

    code: str
    message: str
    detail: object = None


class Refused(Exception):
    """An endpoint's way to answer from anywhere below it."""

    def __init__(self, response: Response) -> None:
        """Keep the response that is to be sent."""
        super().__init__(response.status)
        self.response = response


def json_response(document: object, status: int = 200, **headers: str) -> Response:
    """Answer with a JSON document."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = json.dumps(document, separators=(",", ":")).encode() + b"\n"
    return Response(status=status, headers={"Content-Type": JSON_TYPE, **named}, body=body)


def refuse(status: int, *errors: RegistryError, **headers: str) -> Refused:
    """Make the exception that answers with the registry's error format."""
    listed = [
        {"code": error.code, "message": error.message} if error.detail is None else error._asdict()
        for error in errors
    ]
    return Refused(json_response({"errors": listed}, status, **headers))


def page_not_found(media_type: str = TEXT_TYPE) -> Refused:
    """Make the exception for a path that no endpoint serves."""
    html = b"<!doctype html>\n<html><title>404</title><h1>Not Found</h1></html>\n"
    body = html if media_type == HTML_TYPE else b"404 page not found\n"
    return Refused(Response(status=404, headers={"Content-Type": media_type}, body=body))


BODYLESS = (204, 304)
LINE_BYTES = 65536
REQUEST_LINE_WORDS = 3


class ConnectionServer(ThreadingHTTPServer):
    """Accepts connections on the loopback interface, each served by a thread."""

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
