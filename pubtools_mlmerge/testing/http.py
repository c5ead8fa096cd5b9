"""What goes over the wire: requests, responses, and the HTTP server that carries them."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from io import BufferedReader
from socketserver import TCPServer
from urllib.parse import parse_qs, unquote

from attrs import field, frozen

JSON = {"Content-Type": "application/json; charset=utf-8"}
TEXT = {"Content-Type": "text/plain; charset=utf-8"}
_BODYLESS = (204, 304)
_POLL_SECONDS = 0.05


@frozen
class RecordedRequest:
    """A request that the registry answered, with the status of the answer.

    Path and query are as they were sent; the names of headers are in lower case.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str] = field(repr=False)
    status: int
    body_size: int


@frozen
class Request:
    """A request as it arrived, with its whole body and lower-case names of headers."""

    method: str
    base_url: str
    raw_path: str
    query: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def path(self) -> str:
        """The path with escaped characters decoded."""
        return unquote(self.raw_path)

    def parameters(self, name: str) -> list[str]:
        """Return every value of a query parameter, in order."""
        return parse_qs(self.query, keep_blank_values=True).get(name, [])

    def parameter(self, name: str) -> str:
        """Return the first value of a query parameter, or an empty string."""
        return next(iter(self.parameters(name)), "")

    def credentials(self, scheme: str) -> str:
        """Return what the Authorization header holds for a scheme, or an empty string."""
        given, _, credentials = self.headers.get("authorization", "").partition(" ")
        return credentials.strip() if given.lower() == scheme else ""

    @property
    def accepted(self) -> frozenset[str]:
        """The media types of the Accept header, without parameters."""
        ranges = self.headers.get("accept", "").split(",")
        return frozenset(text.partition(";")[0].strip() for text in ranges)


@frozen
class Response:
    """An answer that is ready to be sent."""

    status: int = 200
    headers: Mapping[str, str] = field(factory=dict)
    body: bytes = b""


class Refused(Exception):
    """Ends the work on a request with a response in the registry's error format.

    Its list has an error for each detail, or one error without detail.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *details: object,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status)
        error: dict[str, object] = {"code": code, "message": message}
        errors = [{**error, "detail": detail} for detail in details] or [error]
        self.response = json_response({"errors": errors}, status, headers)


def json_response(
    document: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Answer with a JSON document."""
    body = json.dumps(document, separators=(",", ":")).encode() + b"\n"
    return Response(status, {**JSON, **(headers or {})}, body)


class Server(TCPServer):
    """Listens on the loopback interface; each connection has a thread."""

    allow_reuse_address = True
    request_queue_size = 128

    def __init__(
        self, answer: Callable[[Request], Response], ssl_context: ssl.SSLContext | None, port: int
    ) -> None:
        self.answer = answer
        self._connections: dict[socket.socket, threading.Thread] = {}
        super().__init__(("127.0.0.1", port), _Handler)
        scheme = "https" if ssl_context else "http"
        self.url = f"{scheme}://127.0.0.1:{self.socket.getsockname()[1]}"
        if ssl_context:  # the thread that serves a connection shakes hands
            self.socket = ssl_context.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )
        threading.Thread(
            target=self.serve_forever, args=(_POLL_SECONDS,), name="registry", daemon=True
        ).start()

    def stop(self) -> None:
        """Close the port and every connection, and wait for the threads."""
        # Wakes the thread that listens (on Linux); it would look up at its next poll only.
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.shutdown()
        self.server_close()
        for connection, thread in tuple(self._connections.items()):
            # Not the method of SSLSocket, which takes away what the thread is still using.
            with suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
            thread.join()

    def process_request(
        self, request: socket.socket | tuple[bytes, socket.socket], client_address: object
    ) -> None:
        """Serve a connection in a thread."""
        assert isinstance(request, socket.socket)  # noqa: S101 - not a datagram
        thread = threading.Thread(target=self._serve, args=(request, client_address), daemon=True)
        self._connections[request] = thread
        thread.start()

    def _serve(self, connection: socket.socket, address: tuple[str, int]) -> None:
        try:
            self.finish_request(connection, address)
        except OSError:
            pass  # the connection broke: the client reports it
        except Exception:  # noqa: BLE001 - whatever it is, it is reported
            self.handle_error(connection, address)
        finally:
            self.shutdown_request(connection)
            del self._connections[connection]


class _Handler(BaseHTTPRequestHandler):
    """Answers the requests of one connection."""

    server: Server
    rfile: BufferedReader
    protocol_version = "HTTP/1.1"
    # Head and body leave in one segment, at once: a client would wait 40 ms for the second one.
    wbufsize = -1
    disable_nagle_algorithm = True

    def handle_one_request(self) -> None:
        """Answer a request, unless the client tries TLS first."""
        # A TLS greeting need not hold the end of a line, for which both sides would wait.
        if self.rfile.peek(1)[:1].isalpha():
            super().handle_one_request()
        else:
            self.close_connection = True

    def handle_expect_100(self) -> bool:
        """Tell a client that waits with the body to send it, at once."""
        is_going_on = super().handle_expect_100()
        self.wfile.flush()
        return is_going_on

    def log_message(self, *_arguments: object) -> None:
        """Keep quiet."""

    def _serve(self) -> None:
        headers = {name.lower(): ", ".join(self.headers.get_all(name, ())) for name in self.headers}
        path, _, query = self.path.partition("?")
        scheme, _, host = self.server.url.partition("://")
        base_url = f"{scheme}://{headers.get('host', host)}"  # clients stay at the host they know
        request = Request(self.command, base_url, path, query, headers, self._body(headers))
        response = self.server.answer(request)
        self.send_response(response.status)
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        for name, value in response.headers.items():
            self.send_header(name, value)
        if response.status not in _BODYLESS:
            self.send_header("Content-Length", str(len(response.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815 - names of http.server

    def _body(self, headers: Mapping[str, str]) -> bytes:
        if "chunked" not in headers.get("transfer-encoding", ""):
            length = int(headers.get("content-length", 0))
            body = self.rfile.read(length)
            if len(body) < length:
                raise ConnectionError("the client is gone")
            return body
        pieces = []
        while size := int(self.rfile.readline().partition(b";")[0].strip() or b"0", 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():  # trailers
            pass
        return b"".join(pieces)
