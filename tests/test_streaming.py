"""Streaming: a blob goes from one registry into another one, whole and right or not at all."""

from __future__ import annotations

import os
import socket
import socketserver
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256

import pytest
import requests
from attrs import define, evolve, field

from pubtools_mlmerge.concurrency import Watch, unwatched
from pubtools_mlmerge.core.manifests import digest_of
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import (
    DigestMismatch,
    Forbidden,
    MergeError,
    NotFound,
    OutOfTime,
    RegistryError,
)
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.registry.copying import stream_blob
from pubtools_mlmerge.registry.http import PIECE, ConnectOptions
from pubtools_mlmerge.testing import RegistryServer
from tests.scripted import (
    HANG_UP,
    HURRIED,
    Received,
    Reply,
    ScriptedServer,
    bearer,
    json_reply,
    redirect,
    refusal,
)

BLOB = os.urandom(3 * PIECE + 5)
DIGEST = digest_of(BLOB)
CUT = Reply(200, {}, BLOB, cut=PIECE + 7)


@define
class Front:
    """Stands before a registry, and answers some requests itself: each of these once."""

    server: RegistryServer
    replies: list[tuple[str, Reply]] = field(factory=list)

    def __call__(self, request: Received) -> Reply:
        for number, (method, reply) in enumerate(self.replies):
            if method == request.method:
                del self.replies[number]
                return reply
        dropped = ("host", "connection", "content-length")
        kept = {name: value for name, value in request.headers.items() if name not in dropped}
        url = self.server.url + request.target
        got = requests.request(request.method, url, headers=kept, data=request.body, timeout=60)
        headers = {n: v.replace(self.server.url, "") for n, v in got.headers.items()}
        headers = {n: v for n, v in headers.items() if n not in ("Connection", "Date")}
        return Reply(got.status_code, headers, got.content)


@pytest.fixture
def held(registry_server: RegistryServer) -> RegistryServer:
    """A registry that has the blob."""
    registry_server.put_blob("from/app", BLOB)
    return registry_server


def stream(
    source: str,
    destination: str,
    *,
    digest: str = DIGEST,
    size: int = len(BLOB),
    options: ConnectOptions = HURRIED,
    watch: Watch = unwatched,
    **login: str,
) -> None:
    """Stream a blob between two URLs."""
    names = [Reference("quay.io", f"{side}/app", digest=digest) for side in ("from", "to")]
    reader = RegistryClient(host=source, options=options, **login)
    writer = RegistryClient(host=destination, options=options)
    stream_blob(reader, names[0], writer, names[1], size=size, watch=watch)


def methods(server: ScriptedServer) -> str:
    return " ".join(request.method for request in server.received)


def has_blob(server: RegistryServer, digest: str = DIGEST) -> bool:
    got = requests.head(f"{server.url}/v2/to/app/blobs/{digest}", timeout=60)
    return got.status_code == 200


def test_a_blob_is_sent_in_one_request(held: RegistryServer) -> None:
    with RegistryServer() as other:
        stream(held.url, other.url)

        assert has_blob(other)
        assert [request.method for request in other.requests] == ["POST", "PUT", "HEAD"]
        assert other.requests[1].body_size == len(BLOB)
        assert "transfer-encoding" not in other.requests[1].headers


def test_an_empty_blob_is_sent() -> None:
    empty = digest_of(b"")
    with RegistryServer() as server, RegistryServer() as other:
        server.put_blob("from/app", b"")
        stream(server.url, other.url, digest=empty, size=0)
        assert has_blob(other, empty)


@pytest.mark.parametrize(
    "fault",
    [
        *(HANG_UP, CUT, Reply(200, {}, BLOB[:-1]), Reply(503), Reply(500)),
        *(Reply(429), redirect("/v2/from/app/blobs/broken")),
    ],
)
def test_what_breaks_at_the_source_begins_anew(held: RegistryServer, fault: Reply) -> None:
    front = Front(held, [("GET", fault)])
    if fault.status == 307:
        front.replies.append(("GET", CUT))
    with ScriptedServer(front) as source, RegistryServer() as other:
        stream(source.url, other.url)

        assert has_blob(other)
        writes = [request.method for request in other.requests[:-1]]
        assert writes[-2:] == ["POST", "PUT"]
        # What an upload has got so far is not added to.
        assert writes.count("DELETE") == writes.count("POST") - 1


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        (Reply(200, {}, BLOB[:-1] + b"!"), DigestMismatch, "content has digest"),
        (Reply(200, {}, BLOB + b"!"), RegistryError, f"more than the {len(BLOB)} bytes"),
        (Reply(200, {}, BLOB[:-1]), RegistryError, f"{len(BLOB) - 1} of {len(BLOB)} bytes"),
        (CUT, RegistryError, "connection broken|bytes came"),
        (Reply(404), NotFound, "from/app@sha256:"),
        (Reply(503), RegistryError, "HTTP 503"),
        (HANG_UP, RegistryError, "connection broken"),
    ],
)
def test_what_is_wrong_or_stays_broken_never_arrives(
    fault: Reply, error: type[MergeError], words: str
) -> None:
    with ScriptedServer(fault) as source, RegistryServer() as other:
        with pytest.raises(error, match=words) as caught:
            stream(source.url, other.url)

        assert not has_blob(other)
        assert "quay.io/from/app@" in str(caught.value)
        writes = [request.method for request in other.requests[:-1]]
        assert writes[-1] == "DELETE"
        is_final = error in (DigestMismatch, NotFound) or "more than" in words
        assert writes.count("POST") == (1 if is_final else 1 + HURRIED.retries.most)


@pytest.mark.parametrize(
    "fault",
    [
        *(Reply(404), refusal(404, "BLOB_UPLOAD_UNKNOWN"), Reply(416), Reply(408)),
        *(Reply(500), Reply(503), Reply(429), HANG_UP, redirect("/v2/to/app/blobs/uploads/lost")),
    ],
)
def test_what_breaks_at_the_destination_begins_anew(held: RegistryServer, fault: Reply) -> None:
    """An upload that expired is answered by 404."""
    with RegistryServer() as other, ScriptedServer(Front(other, [("PUT", fault)])) as front:
        stream(held.url, front.url)

        assert has_blob(other)
        again = fault.status in (429, 307)
        expected = {429: "POST PUT PUT", 307: "POST PUT PUT DELETE POST PUT"}
        assert methods(front) == (expected[fault.status] if again else "POST PUT DELETE POST PUT")


@pytest.mark.parametrize(
    ("fault", "error"),
    [(refusal(400, "DIGEST_INVALID", "no"), RegistryError), (Reply(403), Forbidden)],
)
def test_a_refused_upload_is_an_error_and_cancelled(
    held: RegistryServer, fault: Reply, error: type[MergeError]
) -> None:
    with RegistryServer() as other, ScriptedServer(Front(other, [("PUT", fault)])) as front:
        with pytest.raises(error, match=r"quay\.io/to/app@"):
            stream(held.url, front.url)

        assert methods(front) == "POST PUT DELETE"


def test_without_the_right_to_write_nothing_is_read(held: RegistryServer) -> None:
    held.forget_requests()
    refused = pytest.raises(Forbidden, match="this login may not write to the repository to/app")
    with ScriptedServer(refusal(403, "DENIED")) as front, refused:
        stream(held.url, front.url)

    assert held.requests == ()


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/v2/to/app/blobs/uploads/7?state=a%3D", "/v2/to/app/blobs/uploads/7?state=a%3D&"),
        ("{url}/somewhere/7", "/somewhere/7?"),
        ("7", "/v2/to/app/blobs/uploads/7?"),
        ("../uploads/7?a=b", "/v2/to/app/blobs/uploads/7?a=b&"),
        ("?session=7", "/v2/to/app/blobs/uploads/?session=7&"),
    ],
)
def test_a_location_has_any_form(held: RegistryServer, location: str, target: str) -> None:
    with ScriptedServer(Reply()) as front:
        begun = Reply(202, {"Location": location.format(url=front.url)})
        front.then(begun, Reply(201))

        stream(held.url, front.url)

        assert front.lines[1] == f"PUT {target}digest={DIGEST.replace(':', '%3A')}"
        assert front.received[1].body == BLOB


@pytest.mark.parametrize("location", ["", "http://127.0.0.1:1/upload", "http://[::1"])
def test_nothing_is_uploaded_elsewhere(held: RegistryServer, location: str) -> None:
    held.forget_requests()
    with ScriptedServer(Reply(202, {"Location": location} if location else {})) as front:
        with pytest.raises(RegistryError, match="place"):
            stream(held.url, front.url)

        assert methods(front) == "POST"
    assert held.requests == ()


def test_a_token_that_expires_meanwhile_is_renewed(held: RegistryServer) -> None:
    held.forget_requests()
    with ScriptedServer(Reply()) as front:
        begun = Reply(202, {"Location": "/upload/7"})
        token = json_reply({"token": "fresh"})
        front.then(begun, bearer(f"{front.url}/token"), token, Reply(201))

        stream(held.url, front.url)

        assert methods(front) == "POST PUT GET PUT"
        assert front.received[-1].body == BLOB
    assert len(held.requests) == 2  # it is read again


def test_a_store_that_the_source_redirects_to_gets_no_login() -> None:
    with (
        ScriptedServer(Reply(200, {"Content-Encoding": "gzip"}, BLOB)) as store,
        ScriptedServer(Reply()) as source,
        RegistryServer() as other,
    ):
        source.then(bearer(f"{source.url}/t"), json_reply({"token": "x"}), redirect(store.url))

        stream(source.url, other.url, username="alice", password="wonderland")

        assert has_blob(other)
        assert source.authorizations[-1] == "Bearer x"
        assert store.authorizations == [""]


@pytest.mark.parametrize("side", ["source", "destination"])
def test_who_makes_no_progress_is_given_up(held: RegistryServer, side: str) -> None:
    """The source sends nothing, or the destination takes nothing."""
    options = evolve(HURRIED, silence=0.1, retries=evolve(HURRIED.retries, most=0))
    ended = threading.Event()

    def hold(request: Received) -> Reply:
        ended.wait(60)
        return HANG_UP

    class Deaf(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            method = self.rfile.readline().split()[0]
            if method == b"POST":
                self.wfile.write(b"HTTP/1.1 202 A\r\nLocation: /7\r\nContent-Length: 0\r\n\r\n")
            if method == b"PUT":
                ended.wait(60)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

        def server_bind(self) -> None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            super().server_bind()

    with (
        ScriptedServer(hold) as mute,
        Server(("127.0.0.1", 0), Deaf) as deaf,
        RegistryServer() as to,
    ):
        threading.Thread(target=deaf.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{deaf.server_address[1]}"
        with pytest.raises(RegistryError, match=r"no answer in time|connection broken"):
            stream(*((mute.url, to.url) if side == "source" else (held.url, url)), options=options)
        ended.set()
        deaf.shutdown()


def test_the_time_limit_of_the_run_counts(held: RegistryServer) -> None:
    """Though the registry goes on to send."""
    options = evolve(HURRIED, time_limit=0.3)

    def come_late(request: Received) -> Reply:
        time.sleep(max(0.0, options.ends - time.monotonic()) + 0.01)
        return Reply(200, {}, BLOB)

    with ScriptedServer(come_late) as source, RegistryServer() as other:
        with pytest.raises(OutOfTime):
            stream(source.url, other.url, options=options)

        assert not has_blob(other)


LARGE = 64 * PIECE


def pieces() -> Iterator[bytes]:
    """Make a large blob that is nowhere kept."""
    piece = bytes(PIECE)
    for number in range(LARGE // PIECE):
        yield number.to_bytes(8, "big") + piece[8:]


class LargeBlobs(socketserver.StreamRequestHandler):
    """Serves the large blob, and takes blobs that it only hashes."""

    taken: tuple[str, int] = ("", 0)

    def handle(self) -> None:
        method, length = self.rfile.readline().split()[0], 0
        while line := self.rfile.readline().strip().lower():
            length = int(line.split()[1]) if line.startswith(b"content-length:") else length
        head = b"HTTP/1.1 %s\r\nLocation: /7\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        if method == b"GET":
            self.wfile.write(head % (b"200 OK", LARGE))
            for piece in pieces():
                self.wfile.write(piece)
            return
        digest, buffer = sha256(), bytearray(PIECE)
        for start in range(0, length, PIECE):
            size = self.rfile.readinto(memoryview(buffer)[: length - start])
            digest.update(buffer[:size])
        if method == b"PUT":
            type(self).taken = f"sha256:{digest.hexdigest()}", length
        self.wfile.write(head % (b"202 Accepted" if method == b"POST" else b"201 Created", 0))


def test_memory_stays_flat() -> None:
    """Server and client are both in this process, and neither holds more than a few pieces."""
    whole = sha256()
    for piece in pieces():
        whole.update(piece)
    digest = f"sha256:{whole.hexdigest()}"
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), LargeBlobs) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        tracemalloc.start()
        try:
            stream(url, url, digest=digest, size=LARGE)
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            server.shutdown()

    assert LargeBlobs.taken == (digest, LARGE)
    assert most < LARGE / 4


def test_progress_is_shown_in_mebibytes_and_never_goes_back(held: RegistryServer) -> None:
    shown: list[tuple[str, int | None]] = []
    done: list[None] = []

    @contextmanager
    def watch(name: str, total: int | None) -> Iterator[Callable[[], None]]:
        shown.append((name, total))
        yield lambda: done.append(None)

    front = Front(held, [("GET", CUT)])
    with ScriptedServer(front) as source, RegistryServer() as other:
        stream(source.url, other.url, watch=watch)

    assert shown == [(f"quay.io/to/app {DIGEST[:19]}, MiB", 4)]
    assert len(done) == 3
