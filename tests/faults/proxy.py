"""A proxy in front of a real registry: it hands each exchange to whoever wants to spoil it."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from http import HTTPStatus
from io import BufferedReader
from typing import final
from urllib.parse import urlsplit

from attrs import define, evolve, field, frozen

from tests.servers import RealRegistry

_HOP_BY_HOP = frozenset({"connection", "content-length", "keep-alive", "transfer-encoding"})
_RESET = struct.pack("ii", 1, 0)  # a linger of zero seconds makes the end of a connection a reset
_PATIENCE = 30.0  # seconds
_LONGEST_STALL = 2.0  # seconds; other programs may have no limit of their own
_LONGEST_LINE = 65536


@frozen
class Seen:
    """The head of a request."""

    method: str
    target: str
    authorization: str = ""
    turn: int = 1
    """How many there were with its label, this one included."""

    @property
    def what(self) -> str:
        """What it is about."""
        path, _, query = self.target.partition("?")
        if path == "/token":
            return "token"
        if "/blobs/" in path:
            return "mount" if "mount=" in query else "blob"
        if "/referrers/" in path:
            return "referrers"
        reference = path.rpartition("/")[2]
        if reference.startswith("sha256:"):
            return "child"
        return {"new": "source", "stable": "tag", "": "root"}.get(reference, "anchor")

    @property
    def label(self) -> str:
        """What is done, in words that are the same in each run."""
        return f"{self.method} {self.what}"

    @property
    def place(self) -> str:
        """Its place among the requests of a run, though several are made at a time."""
        return f"{self.label} {self.turn}"

    @property
    def is_write(self) -> bool:
        """Whether it changes something."""
        return self.method not in ("GET", "HEAD")

    def is_like(self, other: Seen) -> bool:
        """Whether both have the same method and target."""
        return (self.method, self.target) == (other.method, other.target)


@frozen
class Response:
    """What the registry said, or what the client is made to believe that it said."""

    status: int
    headers: Mapping[str, str] = field(factory=dict)
    body: bytes = b""


@define(kw_only=True, eq=False)
class Exchange:
    """One request on a connection, and the ways to answer it."""

    seen: Seen
    proxy: Proxy
    headers: Mapping[str, str]
    connection: socket.socket = field(repr=False)
    stream: BufferedReader = field(repr=False)
    is_open: bool = True
    _body: bytes | None = None

    def body(self) -> bytes:
        """Read the body of the request."""
        if self._body is None:
            if "chunked" in self.headers.get("transfer-encoding", ""):
                self._body = b"".join(_chunks(self.stream))
            else:
                self._body = self.stream.read(self.length)
        return self._body

    @property
    def length(self) -> int:
        """How long the body says to be."""
        return int(self.headers.get("content-length", 0))

    def forward(self, *, authorized: bool = True, method: str = "") -> Response:
        """Ask the registry, or the server of tokens."""
        dropped = _HOP_BY_HOP if authorized else {*_HOP_BY_HOP, "authorization"}
        headers = {name: value for name, value in self.headers.items() if name not in dropped}
        host = self.proxy.upstream(self.seen)
        body = self.body() or None
        with closing(http.client.HTTPConnection(host, timeout=_PATIENCE)) as upstream:
            upstream.request(method or self.seen.method, self.seen.target, body, headers)
            found = upstream.getresponse()
            response = Response(found.status, dict(found.getheaders()), found.read())
        return self.proxy.localised(response)

    def relay(self) -> None:
        """Do what a proxy does."""
        self.answer(self.forward())

    def answer(self, response: Response) -> None:
        """Answer in good order."""
        self.body()  # what is not read now would be taken for the next request
        self.send(b"".join(self.encoded(response)))

    def encoded(self, response: Response, more: int = 0) -> tuple[bytes, bytes]:
        """Write head and body, which may be announced to be longer than it is."""
        kept = {n: v for n, v in response.headers.items() if n.lower() not in _HOP_BY_HOP}
        length = str(len(response.body) + more)
        if self.seen.method == "HEAD":
            length = response.headers.get("Content-Length", length)
        headers = {**kept, "Content-Length": length}
        if not self.is_open:
            headers["Connection"] = "close"
        lines = [f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        body = b"" if self.seen.method == "HEAD" else response.body
        return "\r\n".join((*lines, "", "")).encode("latin-1"), body

    def send(self, content: bytes) -> None:
        """Send bytes as they are."""
        self.connection.sendall(content)

    def reset(self) -> None:
        """End the connection with a reset."""
        self.is_open = False
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    def outwait(self) -> None:
        """Say nothing until the client has had enough, and end the connection."""
        self.is_open = False
        self.connection.settimeout(_LONGEST_STALL)
        with suppress(OSError):
            self.connection.recv(1)


Handler = Callable[[Exchange], None]


@final
class Proxy:
    """A proxy on a loopback port, of a registry and of its token server.

    `handle` sees each request unless one of `later` takes it: what a spoilt exchange leaves behind
    for those that follow.
    """

    def __init__(self, registry: RealRegistry, handle: Handler = Exchange.relay) -> None:
        self.seen: list[Seen] = []
        self.later: list[Callable[[Exchange], bool]] = []
        self._registry = registry
        self._handle = handle
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._open: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        self._port = 0
        self.listen()
        self.host = f"127.0.0.1:{self._port}"
        self.url = f"http://{self.host}"

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.collapse()
        for thread in self._threads:
            thread.join(_PATIENCE)

    def listen(self) -> None:
        """Accept connections, as at the beginning."""
        with self._lock:
            if self._listener is None:
                self._listener = socket.create_server(("127.0.0.1", self._port), backlog=64)
                self._port = int(self._listener.getsockname()[1])
                self._start(self._accept, self._listener)

    def refuse(self) -> None:
        """Refuse connections from now on."""
        with self._lock:
            if self._listener is not None:
                self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
                self._listener.close()
                self._listener = None

    def collapse(self) -> None:
        """Break all connections, and refuse new ones."""
        self.refuse()
        for connection in tuple(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def upstream(self, seen: Seen) -> str:
        """Return the server that a request is for."""
        tokens = self._registry.tokens
        is_for_tokens = tokens is not None and seen.what == "token"
        return urlsplit(tokens.realm).netloc if tokens and is_for_tokens else self._registry.host

    def localised(self, response: Response) -> Response:
        """Let the client come here for tokens, too."""
        tokens = self._registry.tokens
        if tokens is None:
            return response
        own = f"{self.url}/token"
        headers = {name: v.replace(tokens.realm, own) for name, v in response.headers.items()}
        return Response(response.status, headers, response.body)

    def _start(self, target: Callable[[socket.socket], None], connection: socket.socket) -> None:
        thread = threading.Thread(target=target, args=(connection,), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self._open.add(connection)
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(OSError), connection, connection.makefile("rb") as stream:
            while (exchange := self._next(connection, stream)) is not None:
                if not any(take(exchange) for take in self.later):
                    self._handle(exchange)
                if not exchange.is_open:
                    break
        self._open.discard(connection)

    def _next(self, connection: socket.socket, stream: BufferedReader) -> Exchange | None:
        # A client that tries TLS sends no end of a line that could be waited for.
        words = stream.readline(_LONGEST_LINE).split() if stream.peek(1)[:1].isalpha() else []
        if len(words) != 3:
            return None
        headers = {n.lower(): v for n, v in http.client.parse_headers(stream).items()}
        method, target = words[0].decode(), words[1].decode()
        seen = Seen(method, target, headers.get("authorization", ""))
        with self._lock:
            seen = evolve(seen, turn=1 + sum(other.label == seen.label for other in self.seen))
            self.seen.append(seen)
        return Exchange(
            seen=seen, proxy=self, headers=headers, connection=connection, stream=stream
        )


def _chunks(stream: BufferedReader) -> Iterator[bytes]:
    while size := int(stream.readline(_LONGEST_LINE).partition(b";")[0], 16):
        yield stream.read(size)
        stream.readline(_LONGEST_LINE)
    stream.readline(_LONGEST_LINE)
