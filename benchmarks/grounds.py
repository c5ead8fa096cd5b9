"""The registries that are measured against, in a process of their own.

Three registries share one storage. One is open and one wants tokens, both over TLS and as far away
as they are told to look. A plain one is at hand, to prepare images and tags.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import requests
import trustme

from benchmarks.relay import Distance, listen
from benchmarks.world import PASSWORD, USER
from tests.servers import RealRegistry, TokenServer, docker_registry

_MARKS = itertools.count(1)
_SECONDS = 10


class _TokenHandler(BaseHTTPRequestHandler):
    """Issues tokens, over connections that are kept."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    tokens: TokenServer

    def do_GET(self) -> None:
        """Issue one."""
        scopes = tuple(parse_qs(urlsplit(self.path).query).get("scope", ()))
        self.tokens.scopes.append(scopes)
        user = self.tokens.login(self.headers.get("Authorization", "")) or ""
        content = json.dumps(self.tokens.issue(user, scopes)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_arguments: object) -> None:
        """Keep quiet."""


class _Counter:
    """Counts the requests that a registry logged, and those for its tokens."""

    def __init__(self, registry: RealRegistry) -> None:
        self._registry = registry
        self._offset = 0
        self._tokens = 0

    def count(self) -> int:
        """Tell how many there were since this was asked before."""
        mark = f"/v2/?mark={next(_MARKS)}"
        registry = self._registry
        requests.get(f"{registry.url}{mark}", verify=registry.verify, timeout=_SECONDS)
        give_up = time.monotonic() + _SECONDS
        text = b""
        while mark.encode() not in text:
            assert time.monotonic() < give_up, "the registry does not log"
            with registry.log.open("rb") as log:
                log.seek(self._offset)
                text = log.read()
        self._offset += len(text)
        asked = registry.tokens.count if registry.tokens else 0
        tokens, self._tokens = asked - self._tokens, asked
        return tokens + sum(b'HTTP/1.1" ' in s and b"mark=" not in s for s in text.splitlines())


@contextmanager
def _token_server(tokens: TokenServer) -> Iterator[tuple[str, int]]:
    handler = type("Handler", (_TokenHandler,), {"tokens": tokens})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield "127.0.0.1", server.server_port
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def _registry(
    root: Path, name: str, *, tls: bool = True, tokens: TokenServer | None = None
) -> Iterator[RealRegistry]:
    directory = root / name
    directory.mkdir()
    (root / "storage").mkdir(exist_ok=True)
    (directory / "storage").symlink_to(root / "storage")
    with docker_registry(directory, tls=tls, tokens=tokens) as registry:
        yield registry


def _address(host: str) -> tuple[str, int]:
    name, _, port = host.partition(":")
    return name, int(port)


async def _serve(root: Path, distance: Distance) -> None:
    loop = asyncio.get_running_loop()
    authority = trustme.CA()
    certificate = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(certificate)
    tokens = TokenServer({USER: PASSWORD})
    with _token_server(tokens) as at:
        realm = await listen(_address(await listen(at, Distance(), certificate)), distance)
        tokens.realm = f"https://{realm}/token"
        with (
            _registry(root, "open") as open_,
            _registry(root, "token", tokens=tokens) as token,
            _registry(root, "door", tls=False) as door,
        ):
            bundle = root / "authorities.pem"
            parts = [authority.cert_pem.bytes()]
            parts += [r.ca_file.read_bytes() for r in (open_, token) if r.ca_file]
            bundle.write_bytes(b"".join(parts))
            addresses = {r: await listen(_address(r.host), distance) for r in (open_, token)}
            hosts = {"open": addresses[open_], "token": addresses[token]}
            _say({"hosts": hosts, "door": door.url, "bundle": str(bundle)})
            counters = {"open": _Counter(open_), "token": _Counter(token)}
            await loop.run_in_executor(None, _obey, distance, counters)


def _obey(distance: Distance, counters: dict[str, _Counter]) -> None:
    """Do what is said on standard input, until that ends."""
    for line in sys.stdin:
        word, value = line.split()
        if word == "distance":
            distance.seconds = float(value)
            _say(None)
        else:
            _say(counters[value].count())


def _say(value: object) -> None:
    print(json.dumps(value), flush=True)


def main() -> None:
    """Serve until nobody listens any more."""
    with tempfile.TemporaryDirectory(prefix="mlmerge-benchmarks-") as directory:
        asyncio.run(_serve(Path(directory), Distance()))


if __name__ == "__main__":
    main()
