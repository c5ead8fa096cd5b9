"""A small server on the loopback interface that answers from a script."""

from __future__ import annotations

import json
import socket
import socketserver
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Union, final

import trustme
from attrs import define, field, frozen

from pubtools_mlmerge.registry.http import ConnectOptions, Retries

QUICK = Retries(most=2, first_wait=0.001, longest_wait=0.01, patience=0.02)
HURRIED = ConnectOptions(retries=QUICK, timeout=(5.0, 5.0))
"""What tests connect with: they try again, and hardly wait."""


@define
class Clock:
    """A clock that stands still until a test moves it."""

    now: float = 1_700_000_000.9

    def __call__(self) -> float:
        return self.now


@frozen(kw_only=True)
class Received:
    """A request as it arrived."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    host: str
    shows_certificate: bool = False

    @property
    def authorization(self) -> str:
        return self.headers.get("authorization", "")


@frozen
class Reply:
    """An answer to send; with `cut`, the connection breaks after that many bytes of the body."""

    status: int = 200
    headers: Mapping[str, str] = field(factory=dict)
    body: bytes = b""
    reason: str = ""
    cut: int | None = None


HANG_UP = Reply(0)
"""The connection breaks without an answer."""

Step = Union[Reply, Callable[[Received], Reply]]


def json_reply(document: object, status: int = 200, **headers: str) -> Reply:
    """Answer with a JSON document; underscores in names of headers stand for dashes."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = json.dumps(document).encode()
    return Reply(status, {"Content-Type": "application/json", **named}, body)


def refusal(status: int, code: str = "", message: str = "", **headers: str) -> Reply:
    """Answer with the registry's error document."""
    return json_reply({"errors": [{"code": code, "message": message}]}, status, **headers)


def manifest_reply(content: bytes, media_type: str = "", **headers: str) -> Reply:
    """Answer with a manifest."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(200, {"Content-Type": media_type, **named} if media_type else named, content)


def redirect(location: str, status: int = 307) -> Reply:
    """Redirect to another place."""
    return Reply(status, {"Location": location})


def bearer(realm: str, status: int = 401, **parameters: str) -> Reply:
    """Answer that a token is wanted, from this realm."""
    parts = {"realm": realm, "service": "registry.test", **parameters}
    header = ",".join(f'{name}="{value}"' for name, value in parts.items())
    return refusal(status, "UNAUTHORIZED", "who are you?", WWW_Authenticate=f"Bearer {header}")


@cache
def authority() -> trustme.CA:
    """Return the authority that signed for every scripted server that speaks TLS."""
    return trustme.CA()


def ca_bundle(directory: Path, name: str = "ca.pem") -> str:
    """Write down the authority to trust."""
    path = directory / name
    authority().cert_pem.write_to_path(str(path))
    return str(path)


def write_client(place: Path, *names: str) -> None:
    """Write down a certificate of a client, with its key."""
    issued = authority().issue_cert("client.test")
    for name, part in zip(names, (issued.cert_chain_pems[0], issued.private_key_pem)):
        part.write_to_path(str(place / name))


@final
class ScriptedServer:
    """Answers each request with the next step of its script, and the last step from then on."""

    def __init__(self, *steps: Step, tls: bool = False, name: str = "127.0.0.1") -> None:
        self.received: list[Received] = []
        self._steps = list(steps)
        self._lock = threading.Lock()
        self._server = _Server(_Handler, _tls_context(name) if tls else None)
        self._server.answer = self._answer
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self.url = f"{'https' if tls else 'http'}://{self.host}"

    def __enter__(self) -> ScriptedServer:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def lines(self) -> list[str]:
        """Method and target of each request."""
        return [f"{request.method} {request.target}" for request in self.received]

    @property
    def authorizations(self) -> list[str]:
        """The Authorization header of each request, empty where there was none."""
        return [request.authorization for request in self.received]

    def then(self, *steps: Step) -> None:
        """Write the script anew, for steps that need to know where the server is."""
        self._steps = list(steps)

    def _answer(self, request: Received) -> Reply:
        with self._lock:
            self.received.append(request)
            step = self._steps.pop(0) if len(self._steps) > 1 else self._steps[0]
        return step(request) if callable(step) else step


def _tls_context(name: str = "127.0.0.1") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert(name).configure_cert(context)
    context.verify_mode = ssl.CERT_OPTIONAL  # who has a certificate may show it
    authority().configure_trust(context)
    return context


class _Server(socketserver.ThreadingTCPServer):
    answer: Callable[[Received], Reply]  # of a script
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(
        self, handler: type[socketserver.BaseRequestHandler], context: ssl.SSLContext | None
    ) -> None:
        self.context = context
        super().__init__(("127.0.0.1", 0), handler)

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        connection, address = super().get_request()
        if self.context is not None:
            connection = self.context.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        return connection, address

    def handle_error(self, request: object, client_address: object) -> None:
        """Keep quiet: tests and their servers break connections on purpose."""


class _Handler(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        """Answer one request and end the connection."""
        line = self.rfile.readline().decode("latin-1")
        if not line.endswith((" HTTP/1.1\r\n", " HTTP/1.0\r\n")):  # the latter for CONNECT
            return  # such as the first bytes of TLS
        method, target, _ = line.split()
        headers = {}
        while line := self.rfile.readline().decode("latin-1").strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        request = Received(
            method=method,
            target=target,
            headers=headers,
            body=self.rfile.read(int(headers.get("content-length", 0))),
            host=headers.get("host", ""),
            shows_certificate=isinstance(self.connection, ssl.SSLSocket)
            and bool(self.connection.getpeercert()),
        )
        reply = self.server.answer(request)
        if reply.status:
            self._send(reply, method)
        else:
            # A linger of zero seconds makes the end of the connection a reset.
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    def _send(self, reply: Reply, method: str) -> None:
        headers = {"Content-Length": str(len(reply.body)), "Connection": "close", **reply.headers}
        reason = reply.reason or HTTPStatus(reply.status).phrase
        lines = [f"HTTP/1.1 {reply.status} {reason}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.wfile.write("\r\n".join((*lines, "", "")).encode("latin-1"))
        if method != "HEAD":
            self.wfile.write(reply.body[: reply.cut])


@contextmanager
def raw_server(*parts: bytes | None, pause: float = 0.0, tls: bool = False) -> Iterator[str]:
    """Serve these bytes to everybody who connects, with a pause before each part but the first.

    None reads a part of the request, of which the first is read anyway.
    """

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.connection.recv(65536)
            for number, part in enumerate(parts):
                time.sleep(pause if number else 0.0)
                if part is None:
                    self.connection.recv(65536)
                else:
                    self.wfile.write(part)

    server = _Server(Handler, _tls_context() if tls else None)
    with server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
