"""RegistryClient: against a real registry, embedded ones, and servers that misbehave."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, unquote_plus

import pytest

from pubtools_mlmerge.core.manifests import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    MANIFEST_TYPES,
    OCI_INDEX,
    OCI_MANIFEST,
    Image,
    digest_of,
)
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.core.strict_json import encode
from pubtools_mlmerge.errors import (
    DigestMismatch,
    Forbidden,
    ImmutableTag,
    InvalidIndex,
    InvalidReference,
    MissingChild,
    NotAnIndex,
    NotFound,
    RegistryError,
    Unauthorized,
)
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.registry.http import ConnectOptions
from pubtools_mlmerge.testing import (
    RegistryServer,
    images,
    make_image,
    make_index,
    upload,
)
from tests.factories import content_of, digest, document, index
from tests.scripted import (
    HANG_UP,
    HURRIED,
    QUICK,
    Received,
    Reply,
    ScriptedServer,
    bearer,
    json_reply,
    manifest_reply,
    refusal,
    write_client,
)

pytestmark = pytest.mark.usefixtures("nobody")
ALICE = ("alice", "wonderland")
OCI = make_index([make_image(), make_image("linux/arm64")])
DOCKER = make_index([make_image(docker=True)], docker=True)
ARM = make_image("linux/arm64", docker=True)
PULLED = content_of(document("linux/amd64", docker=True))


def client_of(
    host: str | None, login: tuple[str, str] | None = None, options: ConnectOptions = HURRIED
) -> RegistryClient:
    user, password = login or (None, None)
    return RegistryClient(host, username=user, password=password, options=options)


def parsed(text: str, host: str = "registry.test") -> Reference:
    return Reference.parse(f"{host}/{text}")


def put(
    server: RegistryServer,
    reference: Reference,
    item: images.Child,
    login: tuple[str, str] | None = None,
) -> None:
    upload(server.url, reference.repository, item, reference=reference.target, credentials=login)


@pytest.fixture
def guarded() -> Iterator[RegistryServer]:
    """An embedded registry that wants tokens."""
    with RegistryServer(auth="token", users=dict([ALICE])) as server:
        yield server


def token_scopes(server: RegistryServer) -> list[str]:
    return [request.query for request in server.requests if request.path == "/token"]


# Requests of a merge


def test_without_writing_only_the_right_to_pull_is_asked_for(quay_server: RegistryServer) -> None:
    """On Quay, asking for the right to push makes the repository."""
    client = client_of(quay_server.host, ALICE)
    client.intend(pull=[parsed("alice/new:1")])

    with pytest.raises((NotFound, Unauthorized)):
        client.pull(parsed("alice/new:1"))

    assert not any("push" in request.query for request in quay_server.requests)
    with pytest.raises(KeyError):
        quay_server.history("alice/new", "1")


# Logins


@pytest.mark.parametrize("login", [("alice", ""), ("", "wonderland")])
def test_half_a_login_is_none(guarded: RegistryServer, login: tuple[str, str]) -> None:
    with pytest.raises(Unauthorized):
        client_of(guarded.host, login).pull(parsed("alice/app:1"))

    assert not any("authorization" in r.headers for r in guarded.requests if r.path == "/token")


# Where to connect


@pytest.mark.parametrize("teams", ["ab", "ba"])
def test_each_namespace_has_its_login(
    teams: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever is asked for first."""
    wants = refusal(401, WWW_Authenticate='Basic realm="x"')
    with ScriptedServer(
        lambda got: manifest_reply(PULLED) if got.authorization else wants
    ) as server:
        logins = {team: b64encode(f"{team}:s3cr3t".encode()).decode() for team in "ab"}
        auths = {f"{server.host}/team-{team}": {"auth": logins[team]} for team in "ab"}
        (tmp_path / "auth.json").write_text(json.dumps({"auths": auths}))
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))
        client = client_of(server.url)
        for team in teams:
            client.pull(parsed(f"team-{team}/app:1"))

    sent = {(got.target[4:10], got.authorization) for got in server.received if got.authorization}
    assert sent == {(f"team-{team}", f"Basic {logins[team]}") for team in "ab"}


def test_a_wrong_password_is_given_once_to_a_token_server_of_two_registries(tmp_path: Path) -> None:
    """Also where each registry has connections of its own, for the sake of certificates."""
    write_client(tmp_path, "client.pem", "key.pem")
    pair = (str(tmp_path / "client.pem"), str(tmp_path / "key.pem"))
    options = ConnectOptions(client=pair, retries=QUICK)
    client = RegistryClient(username="alice", password="wrong", options=options)
    with ScriptedServer(refusal(401)) as tokens:
        challenge = bearer(f"{tokens.url}/token")
        with ScriptedServer(challenge) as one, ScriptedServer(challenge) as other:
            for server in (one, other):
                with pytest.raises(Unauthorized):
                    client.pull(Reference.parse(f"{server.host}/app:1"))

    assert len(tokens.received) == 1


def test_a_reference_without_host_needs_another_one() -> None:
    with pytest.raises(InvalidReference, match=r"write HOST/app:1, such as docker\.io/app:1"):
        client_of(None).pull(Reference.parse("app:1"))


@pytest.mark.parametrize("host", ["docker.io", "https://index.docker.io", None])
def test_docker_hub_is_asked_at_its_registry(host: str | None) -> None:
    place = client_of(host).place(Reference.parse("app:1" if host else "docker.io/app:1"))

    assert str(place) == "registry-1.docker.io/library/app:1"


def test_an_image_of_docker_hub_is_asked_for_in_full_and_shown_as_given() -> None:
    """Also of what stands in for it, such as a mirror."""
    short, other = parsed("app:1", "docker.io"), parsed("other:1", "docker.io")
    with ScriptedServer(refusal(404)) as server:
        token = json_reply({"token": "t0ken"})
        server.then(bearer(f"{server.url}/token"), token, Reply(201), refusal(404))
        client = client_of(server.url)
        client.intend(pull=[other], push=[short])
        client.mount_blob(short, f"sha256:{'0' * 64}", "other")
        with pytest.raises(NotFound, match=r"^docker\.io/app:1: not found"):
            client.pull(short)

    targets = [unquote_plus(request.target) for request in server.received]
    assert "repository:library/app:pull,push&scope=repository:library/other:pull" in targets[1]
    assert targets[2].startswith("/v2/library/app/blobs/uploads/?mount=sha256:0")
    assert targets[2].endswith("&from=library/other")
    assert targets[3:] == ["/v2/library/app/manifests/1"]


# The shape of the host's client


@pytest.fixture
def stocked(registry_server: RegistryServer) -> RegistryServer:
    put(registry_server, parsed("app:1"), DOCKER)
    return registry_server


def test_a_manifest_comes_in_the_shapes_of_the_hosts_client(stocked: RegistryServer) -> None:
    client, text = client_of(stocked.host), DOCKER.content.decode()

    assert client.get_manifest("quay.io/app:1") == json.loads(text)
    assert client.get_manifest("quay.io/app:1", raw=True) == text
    assert client.get_manifest("quay.io/app:1", return_headers=True) == json.loads(text)
    answer = client.get_manifest("quay.io/app:1", True, DOCKER_LIST, return_headers=True)
    assert isinstance(answer, tuple)
    assert answer[0] == text
    assert answer[1]["docker-content-digest"] == DOCKER.digest


def test_a_manifest_of_another_type_than_asked_for_is_refused(stocked: RegistryServer) -> None:
    client = client_of(stocked.host)

    assert client.get_manifest_digest("quay.io/app:1", media_type=DOCKER_LIST) == DOCKER.digest
    for read in (client.get_manifest, client.get_manifest_digest):
        with pytest.raises(NotAnIndex) as caught:
            read("quay.io/app:1", media_type=OCI_INDEX)
        assert caught.value.media_type == DOCKER_LIST


DECODED = json.loads(DOCKER.content)


@pytest.mark.parametrize(
    ("manifest", "content"),
    [
        (DOCKER.content, DOCKER.content),
        (DOCKER.content.decode(), DOCKER.content),
        (DECODED, encode(DECODED)),
    ],
)
def test_raw_text_goes_up_as_it_is_and_a_dict_as_the_host_encodes_it(
    stocked: RegistryServer, manifest: object, content: bytes
) -> None:
    raw = not isinstance(manifest, dict)
    client_of(stocked.host).upload_manifest(manifest, "quay.io/app:2", raw=raw)

    stored = stocked.manifest("app", "2")
    assert (stored.content, stored.media_type) == (content, DOCKER_LIST)


@pytest.mark.parametrize("manifest", ["text", {}, None, {"schemaVersion": 1}])
def test_what_is_no_manifest_does_not_go_up(stocked: RegistryServer, manifest: object) -> None:
    stocked.forget_requests()

    with pytest.raises((NotAnIndex, InvalidIndex), match=r"quay\.io/app:2"):
        client_of(stocked.host).upload_manifest(manifest, "quay.io/app:2")

    assert stocked.requests == ()


# Manifests and blobs


@pytest.mark.parametrize(
    ("location", "cancelled"),
    [
        ("/v2/app/blobs/uploads/7?s=1", ["DELETE /v2/app/blobs/uploads/7?s=1"]),
        ("{url}/v2/app/blobs/uploads/7?s=1", ["DELETE /v2/app/blobs/uploads/7?s=1"]),
        ("", []),
        ("http://[::1", []),
        ("http://127.0.0.1:1/", []),
    ],
)
def test_an_upload_that_was_opened_instead_of_a_mount_is_cancelled_if_possible(
    location: str, cancelled: list[str]
) -> None:
    with ScriptedServer(Reply(202)) as server:
        headers = {"Location": location.format(url=server.url)} if location else {}
        server.then(Reply(202, headers), Reply(404))
        mounted = client_of(server.url).mount_blob(parsed("app:1"), digest("x"), "org/base")

    mount = f"POST /v2/app/blobs/uploads/?mount={quote(digest('x'))}&from=org%2Fbase"
    assert not mounted
    assert server.lines == [mount, *cancelled]


@pytest.mark.parametrize(
    ("source", "rights"),
    [("alice/base", "pull%2Cpush&scope=repository%3Aalice%2Fbase%3Apull"), ("alice/app", "push")],
)
def test_a_mount_asks_for_the_right_to_read_another_repository(
    guarded: RegistryServer, source: str, rights: str
) -> None:
    put(guarded, parsed(f"{source}:1"), ARM, ALICE)
    guarded.forget_requests()
    blob = next(iter(ARM.blobs))

    assert client_of(guarded.host, ALICE).mount_blob(parsed("alice/app:1"), blob, source)

    (scopes,) = token_scopes(guarded)
    assert scopes.endswith(rights)
    assert scopes.count("scope=") == len({source, "alice/app"})


def test_a_malformed_config_names_its_blob() -> None:
    image = Image(b"", OCI_MANIFEST, digest("image"), digest_of(b"[]"), ())
    with ScriptedServer(Reply(200, {}, b"[]")) as server, pytest.raises(InvalidIndex) as caught:
        client_of(server.url).pull_config(parsed("app:1"), image)

    assert str(caught.value).startswith(f"registry.test/app@{digest_of(b'[]')}: ")


# Errors


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (refusal(404, "MANIFEST_UNKNOWN", "sorry"), NotFound),
        (refusal(403, "DENIED", "sorry"), Forbidden),
        (refusal(412, "PRECONDITION", "sorry"), ImmutableTag),
        (refusal(400, "MANIFEST_BLOB_UNKNOWN", "sorry"), MissingChild),
        (refusal(500, "UNKNOWN", "sorry"), RegistryError),
        (refusal(302, "", "sorry", Location="/elsewhere"), RegistryError),
    ],
)
def test_a_refusal_has_its_kind_and_its_cause(reply: Reply, kind: type[RegistryError]) -> None:
    with ScriptedServer(reply) as server, pytest.raises(RegistryError) as caught:
        client_of(server.url).push(parsed("app:1"), index("linux/amd64"))

    response = getattr(caught.value.__cause__, "response")  # noqa: B009 - typed as any
    assert type(caught.value) is kind
    assert str(caught.value).startswith("registry.test/app:1: ")
    assert (response.status_code, response.content) == (reply.status, reply.body)
    assert len(server.received) == 1


# What must not be taken for an index


NOT_JSON = "; expected a manifest, found {}: check the host"


@pytest.mark.parametrize(
    ("content", "content_type", "words"),
    [
        (PULLED, OCI_INDEX, "mediaType"),
        (make_image().content, DOCKER_MANIFEST, "mediaType"),
        (b'{"schemaVersion": 1}', "application/json", "holds a schema 1 manifest"),
        # As when a login page or the filter of a proxy answers 200.
        (
            b"<html>Sign in\x1b[31m</html>",
            "text/html",
            NOT_JSON.format("text/html '<html>Sign in?[31m</html>'"),
        ),
        (b"[1, 2]", "application/json", NOT_JSON.format("application/json '[1, 2]'")),
        (b"", "", NOT_JSON.format("an answer without content type ''")),
    ],
)
def test_what_is_no_manifest_or_contradicts_itself_is_refused(
    content: bytes, content_type: str, words: str
) -> None:
    reply, refused = manifest_reply(content, content_type), (InvalidIndex, NotAnIndex)
    with ScriptedServer(reply) as server, pytest.raises(refused) as caught:
        client_of(server.url).pull(parsed("app:1"))

    assert str(caught.value).startswith("registry.test/app:1")
    assert words in str(caught.value)


@pytest.mark.parametrize("header", ["", "rubbish", "sha256:abc", f"sha512:{'0' * 128}"])
def test_a_digest_that_no_header_tells_is_that_of_the_content(header: str) -> None:
    stated = {"Docker-Content-Digest": header} if header else {}
    with ScriptedServer(Reply(200, stated), Reply(200, stated, PULLED)) as server:
        found = client_of(server.url).digest(parsed("app:1"))

    assert found == digest_of(PULLED)
    assert [request.method for request in server.received] == ["HEAD", "GET"]
    for request in server.received:
        assert request.headers["accept"].split(", ") == list(MANIFEST_TYPES)


def without_head(status: int, *, has: bytes = PULLED) -> Callable[[Received], Reply]:
    """Refuse HEAD, and answer GET with a manifest, but for tag `absent`."""

    def answer(request: Received) -> Reply:
        if request.method == "HEAD":
            return Reply(status)
        return refusal(404) if request.target.endswith("/absent") else manifest_reply(has)

    return answer


@pytest.mark.parametrize("status", [400, 403, 404, 405, 501])
def test_where_head_is_refused_get_is_used_from_then_on(status: int) -> None:
    with ScriptedServer(without_head(status)) as server:
        client = client_of(server.url)

        assert client.digest(parsed("app:1")) == digest_of(PULLED)
        assert client.has_manifest(parsed("app:1").at(digest_of(PULLED)))
        assert client.digest(parsed("app:absent")) is None

    assert [request.method for request in server.received] == ["HEAD", "GET", "GET", "GET"]


def test_a_404_to_head_is_believed_once_a_head_was_answered(stocked: RegistryServer) -> None:
    client = client_of(stocked.host)

    found = [client.digest(parsed(f"app:{tag}")) for tag in ("absent", "1", "absent")]

    assert found == [None, DOCKER.digest, None]
    assert [request.method for request in stocked.requests[-4:]] == ["HEAD", "GET", "HEAD", "HEAD"]


@pytest.mark.parametrize("status", [403, 404])
def test_get_has_the_last_word_where_head_is_refused(status: int) -> None:
    with ScriptedServer(refusal(status, "", "said to GET")) as server:
        client = client_of(server.url)
        for _ in range(2):
            if status == 404:
                assert client.digest(parsed("app:1")) is None
            else:
                with pytest.raises(Forbidden, match="said to GET"):
                    client.digest(parsed("app:1"))

    assert [request.method for request in server.received] == ["HEAD", "GET"] * 2


def test_what_get_answers_has_to_fit_the_digest() -> None:
    with ScriptedServer(without_head(405)) as server, pytest.raises(DigestMismatch):
        client_of(server.url).has_manifest(parsed("app:1").at(digest("another")))


@pytest.mark.parametrize("look", [RegistryClient.digest, RegistryClient.pull_if_present])
def test_a_hidden_repository_is_absent_and_behind_a_refused_login_unknown(
    quay_server: RegistryServer, look: Callable[[RegistryClient, Reference], object]
) -> None:
    assert look(client_of(quay_server.host, ALICE), parsed("bob/app:1")) is None
    with pytest.raises(Unauthorized):
        look(client_of(quay_server.host, ("alice", "wrong")), parsed("alice/app:1"))


# Trying again


@pytest.mark.parametrize("trouble", [Reply(503), HANG_UP])
def test_a_push_that_must_not_be_repeated_is_not(trouble: Reply) -> None:
    with ScriptedServer(trouble) as server, pytest.raises(RegistryError):
        client_of(server.url).push(parsed("app:1"), index("linux/amd64"), repeat=False)

    assert len(server.received) == 1
