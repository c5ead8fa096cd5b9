"""The registry for tests: what it offers beyond the protocol."""

from __future__ import annotations

import http.client
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator

import pytest
import requests

from pubtools_mlmerge.core.manifests import digest_of
from pubtools_mlmerge.testing import RegistryServer, make_image, make_index, upload_index
from tests.peers import DOCKER_MANIFEST, OCI_INDEX, Peer, challenge, error_codes
from tests.quay import QuayDialect
from tests.servers import RealRegistry, require

NAME = "ns/images"
ABSENT = "sha256:" + "a" * 64
INDEX = make_index([make_image()])


@pytest.fixture
def registry(registry_server: RegistryServer) -> RegistryServer:
    return registry_server


@pytest.fixture
def peer(registry: RegistryServer) -> Peer:
    return Peer(url=registry.url)


@pytest.fixture
def connection(registry: RegistryServer) -> Iterator[http.client.HTTPConnection]:
    opened = http.client.HTTPConnection(registry.host, timeout=10)
    yield opened
    opened.close()


def talk(registry: RegistryServer, *parts: bytes) -> bytes:
    """Send raw bytes, then return everything that comes back until the end."""
    host, _, port = registry.host.partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as raw:
        for part in parts:
            raw.sendall(part)
        raw.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: raw.recv(65536), b""))


# Start and stop


def test_a_registry_has_an_address_while_it_runs() -> None:
    registry = RegistryServer()
    with registry:
        assert registry.url == f"http://{registry.host}"
        assert registry.host.startswith("127.0.0.1:")
        with pytest.raises(RuntimeError, match="running already"):
            registry.start()

    registry.stop()
    with pytest.raises(RuntimeError, match="not running"):
        _ = registry.url


def test_the_contents_outlive_a_stop() -> None:
    registry = RegistryServer()
    with registry:
        registry.put_manifest(NAME, "latest", INDEX.content, OCI_INDEX)
        url = registry.url

    assert registry.manifest(NAME, "latest").content == INDEX.content
    with pytest.raises(requests.ConnectionError):
        Peer(url=url).get(NAME, "latest", OCI_INDEX)
    with registry:
        assert Peer(url=registry.url).get(NAME, "latest", OCI_INDEX).content == INDEX.content


def test_a_stop_ends_every_connection_and_thread() -> None:
    before = set(threading.enumerate())
    with RegistryServer() as registry:
        kept = [Peer(url=registry.url) for _ in range(5)]
        for peer in kept:
            peer.send("GET", "/v2/")
        host, _, port = registry.host.partition(":")
        silent = socket.create_connection((host, int(port)), timeout=10)
        kept[0].send("GET", "/v2/")

    with silent:
        assert silent.recv(1) == b""
    assert set(threading.enumerate()) <= before


# Contents, past all checks


def test_anything_can_be_put_as_a_manifest(registry: RegistryServer, peer: Peer) -> None:
    digest = registry.put_manifest(NAME, "broken", b"{not json", OCI_INDEX)

    stored = registry.manifest(NAME, "broken")
    assert (stored.content, stored.media_type, stored.digest) == (b"{not json", OCI_INDEX, digest)
    assert registry.manifest(NAME, digest) == stored
    assert peer.get(NAME, "broken", OCI_INDEX).content == b"{not json"


def test_a_manifest_put_by_digest_has_no_tag(registry: RegistryServer, peer: Peer) -> None:
    digest = registry.put_manifest(NAME, INDEX.digest, INDEX.content, OCI_INDEX)

    assert registry.tags(NAME) == ()
    assert peer.get(NAME, digest, OCI_INDEX).status_code == 200


def test_a_blob_is_put_without_an_upload(registry: RegistryServer, peer: Peer) -> None:
    digest = registry.put_blob(NAME, b"content")

    assert digest == digest_of(b"content")
    assert peer.send("GET", f"/v2/{NAME}/blobs/{digest}").content == b"content"


@pytest.mark.parametrize("reference", ["missing", ABSENT])
def test_a_missing_manifest_is_a_key_error(registry: RegistryServer, reference: str) -> None:
    with pytest.raises(KeyError):
        registry.manifest(NAME, reference)
    registry.put_manifest(NAME, "latest", INDEX.content, OCI_INDEX)
    for ask in (registry.manifest, registry.delete_tag):
        with pytest.raises(KeyError, match=reference):
            ask(NAME, reference)


def test_a_tag_is_deleted_and_its_manifest_stays(registry: RegistryServer) -> None:
    for tag in ("b", "a"):
        registry.put_manifest(NAME, tag, INDEX.content, OCI_INDEX)

    registry.delete_tag(NAME, "b")

    assert registry.tags(NAME) == ("a",)
    assert registry.manifest(NAME, INDEX.digest).content == INDEX.content


def test_the_history_of_a_tag_is_kept(registry: RegistryServer, peer: Peer) -> None:
    peer.upload(NAME, INDEX, "latest")
    registry.delete_tag(NAME, "latest")

    ((digest, start, end),) = registry.history(NAME, "latest")

    assert digest == INDEX.digest
    assert end is not None
    assert int(time.time()) - 5 <= start <= end <= int(time.time())


# The record of requests


def test_every_request_is_recorded(registry: RegistryServer, peer: Peer) -> None:
    headers = {"Content-Type": OCI_INDEX, "X-Test": "Value"}
    peer.once("PUT", f"/v2/{NAME}/manifests/a%3Ab?x=1&y=%20", headers, INDEX.content)

    (request,) = registry.requests

    assert (request.method, request.path) == ("PUT", f"/v2/{NAME}/manifests/a%3Ab")
    assert (request.query, request.status) == ("x=1&y=%20", 404)
    assert (request.headers["x-test"], request.body_size) == ("Value", len(INDEX.content))
    registry.forget_requests()
    assert registry.requests == ()


def test_a_recorded_request_shows_no_headers(registry: RegistryServer, peer: Peer) -> None:
    peer.once("GET", "/v2/", {"Authorization": "Bearer secret"})

    assert "secret" not in repr(registry.requests)


# HTTP


def test_a_body_may_come_in_chunks(
    registry: RegistryServer, connection: http.client.HTTPConnection
) -> None:
    path = f"/v2/{NAME}/manifests/latest"
    empty = make_index([]).content
    connection.request("PUT", path, iter([empty[:10], empty[10:]]), {"Content-Type": OCI_INDEX})
    assert connection.getresponse().status == 201

    assert registry.manifest(NAME, "latest").content == empty


def test_a_client_that_tries_tls_is_not_kept_waiting(registry: RegistryServer) -> None:
    host, _, port = registry.host.partition(":")
    with socket.create_connection((host, int(port)), timeout=5) as raw:
        raw.sendall(b"\x16\x03\x01\x00\xf8 a greeting without the end of a line")

        assert raw.recv(1) == b""


@pytest.mark.parametrize("chunks", [b"5\r\nabc", b""], ids=["inside a chunk", "before a chunk"])
def test_a_client_that_hangs_up_does_no_harm(
    registry: RegistryServer, capfd: pytest.CaptureFixture[str], chunks: bytes
) -> None:
    head = b"PUT /v2/a/manifests/b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    talk(registry, head + chunks)
    talk(registry, b"GET /v2/\r\n\r\n")

    assert Peer(url=registry.url).send("GET", "/v2/").status_code == 200
    assert capfd.readouterr() == ("", "")


def test_headers_of_one_name_are_joined(registry: RegistryServer) -> None:
    registry.put_manifest(NAME, "latest", INDEX.content, OCI_INDEX)
    accept = f"Accept: {DOCKER_MANIFEST}\r\nAccept: {OCI_INDEX}\r\n"

    answer = talk(registry, f"GET /v2/{NAME}/manifests/latest HTTP/1.1\r\n{accept}\r\n".encode())

    assert answer.endswith(b"\r\n\r\n" + INDEX.content)


def test_an_answer_comes_in_one_piece(registry: RegistryServer) -> None:
    """In two, the second would wait for 40 ms on a connection that is kept."""
    registry.put_manifest(NAME, "latest", INDEX.content, OCI_INDEX)
    request = f"GET /v2/{NAME}/manifests/latest HTTP/1.1\r\nAccept: {OCI_INDEX}\r\n\r\n".encode()
    host, _, port = registry.host.partition(":")

    with socket.create_connection((host, int(port)), timeout=10) as raw:
        for _ in range(50):  # the kernel lets the first ones pass
            raw.sendall(request)
            assert raw.recv(65536).endswith(INDEX.content)


def test_concurrent_uploads_of_one_tag_all_succeed(registry: RegistryServer) -> None:
    contents = [make_index([], annotations={"n": str(n)}).content for n in range(16)]
    statuses: list[int] = []

    def put(content: bytes) -> None:
        response = Peer(url=registry.url).put(NAME, "latest", content, OCI_INDEX)
        statuses.append(response.status_code)

    threads = [threading.Thread(target=put, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert statuses == [201] * 16
    assert len(registry.history(NAME, "latest")) == 16
    assert registry.manifest(NAME, "latest").content in contents


def test_a_body_that_breaks_off_is_no_request(registry: RegistryServer) -> None:
    """So an upload goes on where it was, as in other registries."""
    place = requests.post(f"{registry.url}/v2/{NAME}/blobs/uploads/", timeout=60).headers[
        "Location"
    ]
    path = place.partition(registry.host)[2].encode()

    talk(registry, b"PUT %s HTTP/1.1\r\nContent-Length: 9\r\n\r\nshort" % path)

    assert requests.delete(place, timeout=60).status_code == 204


def test_a_mistake_in_the_registry_is_reported(
    registry: RegistryServer, capfd: pytest.CaptureFixture[str]
) -> None:
    talk(registry, b"GET /v2/ HTTP/1.1\r\nContent-Length: many\r\n\r\n")

    assert "ValueError" in capfd.readouterr().err


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


@pytest.fixture
def basic() -> Iterator[RegistryServer]:
    with RegistryServer(
        auth="basic",
        users={"alice": "wonder:land", "bob": "builder"},
        grants={"alice": ["ns/*"]},
        public=["public/*"],
    ) as registry:
        registry.put_manifest(NAME, "latest", INDEX.content, OCI_INDEX)
        registry.put_manifest("public/images", "latest", INDEX.content, OCI_INDEX)
        yield registry


def by_password(
    registry: RegistryServer,
    user: tuple[str, str] | None,
    path: str = f"/v2/{NAME}/manifests/latest",
) -> requests.Response:
    headers = {"Accept": OCI_INDEX}
    return requests.get(registry.url + path, auth=user, headers=headers, timeout=10)


@pytest.mark.parametrize("path", ["/v2/", f"/v2/{NAME}/manifests/latest"])
def test_a_password_opens_what_the_user_owns(basic: RegistryServer, path: str) -> None:
    assert by_password(basic, ("alice", "wonder:land"), path).status_code == 200


@pytest.mark.parametrize("user", [None, ("alice", "guess"), ("mallory", "wonder:land")])
@pytest.mark.parametrize("path", ["/v2/", f"/v2/{NAME}/manifests/latest"])
def test_a_wrong_password_is_challenged(
    basic: RegistryServer, user: tuple[str, str] | None, path: str
) -> None:
    response = by_password(basic, user, path)

    assert (response.status_code, error_codes(response)) == (401, ["UNAUTHORIZED"])
    assert response.headers["WWW-Authenticate"].startswith("Basic ")


@pytest.mark.parametrize("credentials", ["Basic ???", "Basic /w==", "Basic"])
def test_malformed_credentials_are_no_password(basic: RegistryServer, credentials: str) -> None:
    response = Peer(url=basic.url).once("GET", "/v2/", {"Authorization": credentials})

    assert response.status_code == 401


def test_a_user_without_rights_is_denied(basic: RegistryServer) -> None:
    response = by_password(basic, ("bob", "builder"))

    assert (response.status_code, error_codes(response)) == (403, ["DENIED"])


def test_public_repositories_need_no_password(basic: RegistryServer) -> None:
    path = "/v2/public/images/manifests/latest"

    assert by_password(basic, None, path).status_code == 200
    assert requests.delete(basic.url + path, timeout=10).status_code == 401


def test_a_mount_looks_at_the_rights_of_the_user(basic: RegistryServer) -> None:
    digest = basic.put_blob("ns/source", b"content")
    url = f"{basic.url}/v2/{NAME}/blobs/uploads/?mount={digest}&from=ns/source"

    response = requests.post(url, auth=("alice", "wonder:land"), timeout=10)

    assert response.status_code == 201


@pytest.fixture
def now() -> list[float]:
    return [1_700_000_000.0]


@pytest.fixture
def tokens(now: list[float]) -> Iterator[Peer]:
    with RegistryServer(
        auth="token", users={"alice": "wonderland"}, token_seconds=120, clock=lambda: now[0]
    ) as registry:
        yield Peer(url=registry.url, credentials=("alice", "wonderland"))


def test_a_token_reply_states_when_it_expires(tokens: Peer) -> None:
    reply = tokens.ask_token([], ("alice", "wonderland")).json()

    assert reply["token"] == reply["access_token"]
    assert reply["expires_in"] == 120


def test_a_token_expires(tokens: Peer, now: list[float]) -> None:
    token = tokens.token([])

    now[0] += 119
    assert tokens.once("GET", "/v2/", token).status_code == 200
    now[0] += 2
    response = tokens.once("GET", "/v2/", token)
    assert (response.status_code, challenge(response)["error"]) == (401, "invalid_token")


# Tags


def test_an_immutable_tag_is_set_once() -> None:
    with RegistryServer(immutable_tags=["v*"]) as registry:
        peer = Peer(url=registry.url)
        peer.upload(NAME, INDEX, "v1")

        again = peer.put(NAME, "v1", INDEX.content, OCI_INDEX)
        other = peer.put(NAME, "latest", INDEX.content, OCI_INDEX)

        deleted = peer.delete(NAME, "v1")

    assert (again.status_code, error_codes(again)) == (412, ["PRECONDITION"])
    assert (other.status_code, deleted.status_code) == (201, 412)


def test_a_tag_is_deleted_by_name(registry: RegistryServer, peer: Peer) -> None:
    """Version 2.8 of the real registry knows digests only."""
    registry.put_manifest(NAME, "latest", INDEX.content, OCI_INDEX)

    assert peer.delete(NAME, "latest").status_code == 202
    assert registry.tags(NAME) == ()
    assert peer.get(NAME, INDEX.digest, OCI_INDEX).status_code == 200


# Programs


@pytest.mark.parametrize("quay", [False, True], ids=["plain", "quay"])
@pytest.mark.parametrize("docker", [False, True], ids=["oci", "docker"])
def test_skopeo_copies_an_index_unchanged(quay: bool, docker: bool) -> None:
    skopeo = require("skopeo")
    dialect = QuayDialect() if quay else None
    with RegistryServer(dialect=dialect, auth="token", users={"alice": "wonderland"}) as registry:
        index = upload_index(
            registry.url,
            "ns/source",
            "latest",
            ["linux/amd64", "linux/arm64"],
            docker=docker,
            credentials=("alice", "wonderland"),
        )
        images = [f"docker://{registry.host}/ns/{name}:latest" for name in ("source", "copy")]
        options = ["--insecure-policy", "--tmpdir", tempfile.gettempdir()]
        insecure = ["--src-tls-verify=false", "--dest-tls-verify=false"]
        login = ["--src-creds=alice:wonderland", "--dest-creds=alice:wonderland"]

        subprocess.run(
            [skopeo, *options, "copy", "--all", *insecure, *login, *images],
            check=True,
            stdout=subprocess.DEVNULL,
        )

        assert registry.manifest("ns/copy", "latest").content == index.content
