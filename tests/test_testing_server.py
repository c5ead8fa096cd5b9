"""The registry for tests: what it offers beyond the protocol."""

from __future__ import annotations

import socket
import ssl
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from pubtools_mlmerge.core.manifests import digest_of
from pubtools_mlmerge.testing import RegistryServer, make_index, upload_index
from tests.peers import OCI_INDEX, Peer, challenge, error_codes
from tests.quay import QuayDialect
from tests.scripted import Clock
from tests.servers import RealRegistry, require

NAME = "ns/images"
ABSENT = "sha256:" + "a" * 64
INDEX = make_index([])
PATH = f"/v2/{NAME}/manifests/latest"
MOUNT = f"/v2/{NAME}/blobs/uploads/?mount={digest_of(b'content')}&from=ns/source"


@pytest.fixture
def registry(registry_server: RegistryServer) -> RegistryServer:
    """A registry that has the index as its latest image."""
    registry_server.put_manifest(NAME, "latest", INDEX.content, OCI_INDEX)
    return registry_server


@pytest.fixture
def peer(registry: RegistryServer) -> Peer:
    return Peer(url=registry.url)


def connect(registry: RegistryServer) -> socket.socket:
    host, _, port = registry.host.partition(":")
    return socket.create_connection((host, int(port)), timeout=10)


def talk(registry: RegistryServer, request: bytes) -> bytes:
    """Send raw bytes, then return everything that comes back until the end."""
    with connect(registry) as raw:
        raw.sendall(request)
        raw.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: raw.recv(65536), b""))


# Start and stop


def test_a_registry_runs_between_start_and_stop_and_keeps_its_contents() -> None:
    registry = RegistryServer()
    with registry:
        assert registry.url == f"http://{registry.host}"
        assert registry.host.startswith("127.0.0.1:")
        with pytest.raises(RuntimeError, match="running already"):
            registry.start()
        registry.put_manifest(NAME, "latest", INDEX.content, OCI_INDEX)
        url = registry.url

    registry.stop()
    with pytest.raises(RuntimeError, match="not running"):
        _ = registry.url
    with pytest.raises(requests.ConnectionError):
        Peer(url=url).send("GET", "/v2/")
    assert registry.manifest(NAME, "latest").content == INDEX.content
    with registry:
        assert Peer(url=registry.url).get(NAME, "latest", OCI_INDEX).content == INDEX.content


def test_a_stop_ends_every_connection_and_thread() -> None:
    before = set(threading.enumerate())
    with RegistryServer() as registry:
        kept = [Peer(url=registry.url) for _ in range(5)]
        for peer in kept:
            peer.send("GET", "/v2/")
        silent = connect(registry)
        kept[0].send("GET", "/v2/")

    with silent:
        assert silent.recv(1) == b""
    assert set(threading.enumerate()) <= before


# Contents, past all checks


@pytest.mark.parametrize("reference", ["broken", digest_of(b"{not json")])
def test_anything_can_be_put_as_a_manifest(
    registry: RegistryServer, peer: Peer, reference: str
) -> None:
    digest = registry.put_manifest("ns/new", reference, b"{not json", OCI_INDEX)

    stored = registry.manifest("ns/new", reference)
    assert (stored.content, stored.media_type, stored.digest) == (b"{not json", OCI_INDEX, digest)
    assert registry.manifest("ns/new", digest) == stored
    assert registry.tags("ns/new") == (() if ":" in reference else ("broken",))
    assert peer.get("ns/new", reference, OCI_INDEX).content == b"{not json"


def test_a_blob_is_put_without_an_upload(registry: RegistryServer, peer: Peer) -> None:
    digest = registry.put_blob("ns/new", b"content")

    assert peer.send("GET", f"/v2/ns/new/blobs/{digest}").content == b"content"


@pytest.mark.parametrize("reference", ["missing", ABSENT])
def test_a_missing_manifest_is_a_key_error(registry: RegistryServer, reference: str) -> None:
    with pytest.raises(KeyError, match="ns/new"):
        registry.manifest("ns/new", reference)
    for ask in (registry.manifest, registry.delete_tag):
        with pytest.raises(KeyError, match=reference):
            ask(NAME, reference)
    assert registry.tags("ns/new") == ()


@pytest.mark.parametrize("by_http", [False, True])
def test_a_tag_is_deleted_and_its_manifest_and_history_stay(
    registry: RegistryServer, peer: Peer, *, by_http: bool
) -> None:
    """Version 2.8 of the real registry deletes by digest only."""
    registry.put_manifest(NAME, "a", INDEX.content, OCI_INDEX)

    if by_http:
        assert peer.delete(NAME, "latest").status_code == 202
    else:
        registry.delete_tag(NAME, "latest")

    assert registry.tags(NAME) == ("a",)
    assert registry.manifest(NAME, INDEX.digest).content == INDEX.content
    ((digest, start, end),) = registry.history(NAME, "latest")
    assert digest == INDEX.digest
    assert end is not None
    assert int(time.time()) - 5 <= start <= end <= int(time.time())


def test_an_immutable_tag_is_set_once() -> None:
    with RegistryServer(immutable_tags=["v*"]) as registry:
        peer = Peer(url=registry.url)
        first, again, other = (
            peer.put(NAME, tag, INDEX.content, OCI_INDEX) for tag in ("v1", "v1", "latest")
        )
        deleted = peer.delete(NAME, "v1")

    assert [r.status_code for r in (first, again, other, deleted)] == [201, 412, 201, 412]
    assert error_codes(again) == ["PRECONDITION"]


# The record of requests


def test_every_request_is_recorded_and_shows_no_headers(
    registry: RegistryServer, peer: Peer
) -> None:
    headers = {"Content-Type": OCI_INDEX, "Authorization": "Bearer secret"}
    peer.once("PUT", f"/v2/{NAME}/manifests/a%3Ab?x=1&y=%20", headers, INDEX.content)

    (request,) = registry.requests

    assert (request.method, request.path) == ("PUT", f"/v2/{NAME}/manifests/a%3Ab")
    assert (request.query, request.status) == ("x=1&y=%20", 404)
    assert request.headers["authorization"] == "Bearer secret"
    assert request.body_size == len(INDEX.content)
    assert "secret" not in repr(registry.requests)
    registry.forget_requests()
    assert registry.requests == ()


# HTTP


def test_a_body_may_come_in_chunks(registry: RegistryServer, peer: Peer) -> None:
    pieces = iter([INDEX.content[:10], INDEX.content[10:]])
    url, headers = f"{registry.url}/v2/{NAME}/manifests/new", {"Content-Type": OCI_INDEX}

    assert requests.put(url, data=pieces, headers=headers, timeout=20).status_code == 201
    assert registry.manifest(NAME, "new").content == INDEX.content


def test_a_client_may_wait_until_its_body_is_wanted(registry: RegistryServer) -> None:
    """As curl does, for a second, before it sends more than a megabyte."""
    head = f"PUT {PATH} HTTP/1.1\r\nContent-Type: {OCI_INDEX}\r\nExpect: 100-continue\r\n"
    with connect(registry) as raw:
        raw.sendall(f"{head}Content-Length: {len(INDEX.content)}\r\n\r\n".encode())
        assert raw.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        raw.sendall(INDEX.content)
        assert raw.recv(65536).startswith(b"HTTP/1.1 201 Created\r\n")


def test_a_client_that_tries_tls_is_not_kept_waiting(registry: RegistryServer) -> None:
    with connect(registry) as raw:
        raw.sendall(b"\x16\x03\x01\x00\xf8 a greeting without the end of a line")

        assert raw.recv(1) == b""


@pytest.mark.parametrize(
    ("request_", "is_reported"),
    [
        (b"PUT /v2/a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", False),
        (b"PUT /v2/a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", False),
        (b"GET /v2/\r\n\r\n", False),
        (b"GET /v2/ HTTP/1.1\r\nContent-Length: many\r\n\r\n", True),
    ],
)
def test_mistakes_of_the_registry_are_reported_and_clients_that_hang_up_are_not(
    registry: RegistryServer,
    peer: Peer,
    capfd: pytest.CaptureFixture[str],
    request_: bytes,
    is_reported: bool,
) -> None:
    talk(registry, request_)

    assert peer.send("GET", "/v2/").status_code == 200
    assert bool(capfd.readouterr().err) is is_reported


def test_a_body_that_breaks_off_is_no_request(registry: RegistryServer, peer: Peer) -> None:
    """So an upload goes on where it was, as in other registries."""
    place = peer.start_upload(NAME).headers["Location"]
    path = place.partition(registry.host)[2].encode()

    talk(registry, b"PUT %s HTTP/1.1\r\nContent-Length: 9\r\n\r\nshort" % path)

    assert peer.send("DELETE", place).status_code == 204


def test_an_answer_comes_in_one_piece(registry: RegistryServer) -> None:
    """In two, the second would wait for 40 ms on a connection that is kept."""
    with connect(registry) as raw:
        for _ in range(50):  # the kernel lets the first ones pass
            raw.sendall(f"GET {PATH} HTTP/1.1\r\nAccept: {OCI_INDEX}\r\n\r\n".encode())
            assert raw.recv(65536).endswith(INDEX.content)


def test_concurrent_uploads_of_one_tag_all_succeed(registry: RegistryServer) -> None:
    contents = [make_index([], annotations={"n": str(n)}).content for n in range(16)]

    def put(content: bytes) -> int:
        return Peer(url=registry.url).put(NAME, "new", content, OCI_INDEX).status_code

    with ThreadPoolExecutor(16) as pool:
        assert [*pool.map(put, contents)] == [201] * 16
    assert len(registry.history(NAME, "new")) == 16
    assert registry.manifest(NAME, "new").content in contents


def test_a_broken_tls_handshake_is_not_reported(
    capfd: pytest.CaptureFixture[str], docker_registry_tls: RealRegistry
) -> None:
    directory = docker_registry_tls.log.parent
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "server.pem", directory / "server.key")
    with RegistryServer(ssl_context=context) as registry:
        with pytest.raises(requests.exceptions.SSLError):
            Peer(url=registry.url).send("GET", "/v2/")
        trusting = Peer(url=registry.url, verify=docker_registry_tls.verify)
        assert trusting.send("GET", "/v2/").status_code == 200

    assert capfd.readouterr() == ("", "")


# Passwords and tokens


ALICE, BOB = "Basic YWxpY2U6d29uZGVyOmxhbmQ=", "Basic Ym9iOmJ1aWxkZXI="


@pytest.mark.parametrize(
    ("authorization", "request_", "status"),
    [
        (ALICE, "GET /v2/", 200),
        (ALICE, f"GET {PATH}", 200),
        (ALICE, f"POST {MOUNT}", 201),
        (BOB, "GET /v2/", 200),
        (BOB, f"GET {PATH}", 403),
        ("", "GET /v2/public/images/manifests/latest", 200),
        ("", "DELETE /v2/public/images/manifests/latest", 401),
        *[
            (wrong, request, 401)
            for wrong in ("", "Basic", "Basic ???", "Basic /w==", "Basic YWxpY2U6eA==", BOB[:-4])
            for request in ("GET /v2/", f"GET {PATH}")
        ],
    ],
)
def test_a_password_opens_what_its_user_owns(
    authorization: str, request_: str, status: int
) -> None:
    users = {"alice": "wonder:land", "bob": "builder"}
    with RegistryServer(
        auth="basic", users=users, grants={"alice": ["ns/*"]}, public=["public/*"]
    ) as registry:
        registry.put_blob("ns/source", b"content")
        for name in (NAME, "public/images"):
            registry.put_manifest(name, "latest", INDEX.content, OCI_INDEX)
        headers = {"Accept": OCI_INDEX, "Authorization": authorization}

        method, _, path = request_.partition(" ")
        response = Peer(url=registry.url).once(method, path, headers)

    assert response.status_code == status
    if status > 400:
        assert error_codes(response) == ["DENIED" if status == 403 else "UNAUTHORIZED"]
        assert ("WWW-Authenticate" in response.headers) is (status == 401)


def test_a_token_expires_when_its_reply_says() -> None:
    clock = Clock()
    with RegistryServer(auth="token", users={}, token_seconds=120, clock=clock) as registry:
        peer = Peer(url=registry.url)
        reply = peer.ask_token([]).json()
        token = {"Authorization": f"Bearer {reply['access_token']}"}

        clock.now += 119
        assert peer.once("GET", "/v2/", token).status_code == 200
        clock.now += 2
        late = peer.once("GET", "/v2/", token)

    assert reply["expires_in"] == 120
    assert reply["access_token"] == reply["token"]
    assert (late.status_code, challenge(late)["error"]) == (401, "invalid_token")


# Programs


@pytest.mark.parametrize("quay", [False, True], ids=["plain", "quay"])
@pytest.mark.parametrize("docker", [False, True], ids=["oci", "docker"])
def test_skopeo_copies_an_index_unchanged(quay: bool, docker: bool) -> None:
    skopeo, login = require("skopeo"), ("alice", "wonderland")
    dialect = QuayDialect() if quay else None
    with RegistryServer(dialect=dialect, auth="token", users=dict([login])) as registry:
        place, platforms = (registry.url, "ns/source", "latest"), ["linux/amd64", "linux/arm64"]
        index = upload_index(*place, platforms, docker=docker, credentials=login)
        subprocess.run(
            [
                *(skopeo, "--insecure-policy", "--tmpdir", tempfile.gettempdir(), "copy", "--all"),
                *("--src-tls-verify=false", "--dest-tls-verify=false"),
                *(f"--{side}-creds={':'.join(login)}" for side in ("src", "dest")),
                *(f"docker://{registry.host}/ns/{name}:latest" for name in ("source", "copy")),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )

        assert registry.manifest("ns/copy", "latest").content == index.content
