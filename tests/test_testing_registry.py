"""The embedded registry and the real one, held to the same contract."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

import pytest
import requests

from pubtools_mlmerge.core.manifests import digest_of
from pubtools_mlmerge.testing import (
    Image,
    ImageIndex,
    RegistryServer,
    make_attestation,
    make_image,
    make_index,
)
from tests.factories import content_of
from tests.peers import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    EVERY_TYPE,
    OCI_INDEX,
    OCI_MANIFEST,
    Peer,
    challenge,
    error_codes,
    wanted_rights,
)
from tests.servers import TOKEN_PASSWORD, TOKEN_USER, RealRegistry

CREDENTIALS = (TOKEN_USER, TOKEN_PASSWORD)
ABSENT = "sha256:" + "a" * 64
REGISTRIES = ("embedded", "embedded-token", "plain", "token")
with_tokens = pytest.mark.parametrize("peer", ["embedded-token", "token"], indirect=True)

OCI = make_index([make_image(), make_image("linux/arm64")])
DOCKER = make_index([make_image(docker=True), make_image("linux/arm64", docker=True)], docker=True)
EMPTY = make_index([])
STOCK = {"oci": OCI, "docker": DOCKER, "oci-image": OCI.children[0]}

numbers = itertools.count()


@pytest.fixture(scope="session")
def embedded() -> Iterator[Peer]:
    with RegistryServer() as registry:
        yield Peer(url=registry.url)


@pytest.fixture(scope="session")
def embedded_token() -> Iterator[Peer]:
    users = {TOKEN_USER: TOKEN_PASSWORD}
    with RegistryServer(auth="token", users=users, public=["public/*"]) as registry:
        yield Peer(url=registry.url, credentials=CREDENTIALS)


@pytest.fixture(scope="session", params=REGISTRIES)
def peer(request: pytest.FixtureRequest) -> Peer:
    name = str(request.param).replace("-", "_")
    if name.startswith("embedded"):
        found = request.getfixturevalue(name)
        assert isinstance(found, Peer)
        return found
    real = request.getfixturevalue(f"docker_registry_{name}")
    assert isinstance(real, RealRegistry)
    return Peer(url=real.url, verify=real.verify, credentials=real.credentials)


@pytest.fixture(scope="session")
def stocked(peer: Peer) -> str:
    """A repository with a tag for each of the items above, which no test changes."""
    for tag, item in STOCK.items():
        peer.upload("tests/stocked", item, tag)
    return "tests/stocked"


@pytest.fixture
def repository() -> str:
    """A repository that no other test uses."""
    return f"tests/number-{next(numbers)}"


@pytest.fixture
def tag() -> str:
    """A tag that no other test uses."""
    return f"tag-{next(numbers)}"


def changed(item: Image | ImageIndex, **members: object) -> bytes:
    """Return the document with other members; None removes one."""
    document = {**json.loads(item.content), **members}
    return content_of({name: value for name, value in document.items() if value is not None})


def entries(item: Image | ImageIndex) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(item.content)["manifests"]
    return found


def is_refused(response: requests.Response, status: int, *codes: str) -> None:
    """Require a status and the codes of its error list, each of which may come several times."""
    assert (response.status_code, set(error_codes(response))) == (status, set(codes))


# Reading


def test_the_root_names_the_version_of_the_api(peer: Peer) -> None:
    response = peer.send("GET", "/v2/")

    assert response.status_code == 200
    assert response.headers["Docker-Distribution-Api-Version"] == "registry/2.0"


@pytest.mark.parametrize("tag", ["oci", "docker"])
def test_an_index_comes_back_byte_for_byte(peer: Peer, stocked: str, tag: str) -> None:
    index = STOCK[tag]

    by_tag = peer.get(stocked, tag, EVERY_TYPE)
    by_digest = peer.get(stocked, index.digest, EVERY_TYPE)

    assert by_tag.content == by_digest.content == index.content
    assert by_tag.headers["Content-Type"] == index.media_type
    assert by_tag.headers["Docker-Content-Digest"] == index.digest


def test_unusual_but_valid_bytes_are_kept(peer: Peer, stocked: str, tag: str) -> None:
    document = {"x-vendor": "\u00e9", **json.loads(OCI.content)}
    content = json.dumps(document, ensure_ascii=False).encode() + b"\n\n"

    assert peer.put(stocked, tag, content, OCI_INDEX).status_code == 201
    assert peer.get(stocked, tag, OCI_INDEX).content == content


def test_head_has_the_headers_of_get_and_no_body(peer: Peer, stocked: str) -> None:
    head = peer.head(stocked, "oci", OCI_INDEX)
    get = peer.get(stocked, "oci", OCI_INDEX)

    names = ("Content-Type", "Content-Length", "Docker-Content-Digest")
    assert [head.headers[name] for name in names] == [get.headers[name] for name in names]
    assert head.content == b""


@pytest.mark.parametrize(
    ("reference", "detail"),
    [("missing", {"Tag": "missing"}), (ABSENT, {"Name": "tests/stocked", "Revision": ABSENT})],
)
def test_a_missing_manifest_is_unknown(
    peer: Peer, stocked: str, repository: str, reference: str, detail: object
) -> None:
    is_refused(peer.get(repository, reference, EVERY_TYPE), 404, "MANIFEST_UNKNOWN")

    response = peer.get(stocked, reference, EVERY_TYPE)

    assert response.status_code == 404
    assert response.json()["errors"] == [
        {"code": "MANIFEST_UNKNOWN", "message": "manifest unknown", "detail": detail}
    ]


@pytest.mark.parametrize("reference", ["oci", OCI.digest])
@pytest.mark.parametrize("accept", ["", "*/*", "application/json", DOCKER_LIST, OCI_MANIFEST])
def test_an_oci_index_is_hidden_from_clients_that_do_not_name_it(
    peer: Peer, stocked: str, accept: str, reference: str
) -> None:
    is_refused(peer.get(stocked, reference, accept), 404, "MANIFEST_UNKNOWN")


@pytest.mark.parametrize(
    "accept", [f"{OCI_INDEX};q=0.5", f"{DOCKER_LIST}, {OCI_INDEX}", f"{DOCKER_LIST},{OCI_INDEX}"]
)
def test_the_type_counts_anywhere_in_the_accept_header(
    peer: Peer, stocked: str, accept: str
) -> None:
    assert peer.get(stocked, "oci", accept).content == OCI.content


@pytest.mark.parametrize(("accept", "status"), [(DOCKER_MANIFEST, 404), (OCI_MANIFEST, 200)])
def test_an_oci_image_is_hidden_from_clients_of_docker_images(
    peer: Peer, stocked: str, accept: str, status: int
) -> None:
    assert peer.get(stocked, "oci-image", accept).status_code == status


# Writing


def test_a_put_answers_with_digest_and_location(peer: Peer, stocked: str, tag: str) -> None:
    response = peer.put(stocked, tag, OCI.content, OCI_INDEX)

    assert response.status_code == 201
    assert response.headers["Docker-Content-Digest"] == OCI.digest
    assert response.headers["Location"] == f"{peer.url}/v2/{stocked}/manifests/{OCI.digest}"


def test_every_missing_child_is_named_and_no_tag_is_made(
    peer: Peer, stocked: str, tag: str
) -> None:
    index = make_index([OCI.children[0], make_image("linux/s390x"), make_image("linux/ppc64le")])

    response = peer.put(stocked, tag, index.content, OCI_INDEX)

    assert response.status_code == 400
    assert response.json()["errors"] == [
        {
            "code": "MANIFEST_BLOB_UNKNOWN",
            "message": "blob unknown to registry",
            "detail": child.digest,
        }
        for child in index.children[1:]
    ]
    assert peer.get(stocked, tag, OCI_INDEX).status_code == 404


def test_a_child_in_another_repository_does_not_count(
    peer: Peer, repository: str, stocked: str
) -> None:
    assert peer.head(stocked, OCI.children[0].digest, OCI_MANIFEST).status_code == 200

    is_refused(peer.put(repository, "latest", OCI.content, OCI_INDEX), 400, "MANIFEST_BLOB_UNKNOWN")


def test_an_image_needs_its_blobs(peer: Peer, repository: str) -> None:
    image = make_image(seed=repository)

    response = peer.put(repository, "latest", image.content, image.media_type)

    assert response.status_code == 400
    assert [error["detail"] for error in response.json()["errors"]] == list(image.blobs)


def test_a_put_by_another_digest_is_refused(peer: Peer, stocked: str) -> None:
    is_refused(peer.put(stocked, ABSENT, OCI.content, OCI_INDEX), 400, "DIGEST_INVALID")


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        pytest.param(OCI.content, "", id="no type"),
        pytest.param(OCI.content, "application/json", id="type json"),
        pytest.param(OCI.content, DOCKER_LIST, id="index as list"),
        pytest.param(OCI.content, OCI_MANIFEST, id="index as image"),
        pytest.param(DOCKER.content, OCI_INDEX, id="list as index"),
        pytest.param(OCI.children[0].content, OCI_INDEX, id="image as index"),
        pytest.param(OCI.children[0].content, DOCKER_MANIFEST, id="oci as docker image"),
        pytest.param(changed(DOCKER, mediaType=None), DOCKER_LIST, id="list without mediaType"),
        pytest.param(changed(OCI, config={}, layers=[]), OCI_INDEX, id="index with image parts"),
        pytest.param(changed(OCI, manifests=5), OCI_INDEX, id="number of manifests"),
        pytest.param(b"{not json", OCI_INDEX, id="not json"),
        pytest.param(b"[]", OCI_INDEX, id="array"),
        pytest.param(b"", OCI_INDEX, id="nothing"),
        pytest.param(b" " * (4 * 1024 * 1024 + 1), OCI_INDEX, id="over 4 MiB"),
    ],
)
def test_a_document_that_does_not_fit_its_type_is_invalid(
    peer: Peer, stocked: str, tag: str, content: bytes, content_type: str
) -> None:
    is_refused(peer.put(stocked, tag, content, content_type), 400, "MANIFEST_INVALID")


WITHOUT_PLATFORM = [{k: v for k, v in one.items() if k != "platform"} for one in entries(DOCKER)]


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        pytest.param(OCI.content, f"{OCI_INDEX}; charset=utf-8", id="type with parameter"),
        pytest.param(changed(OCI, manifests=[]), OCI_INDEX, id="no entries"),
        pytest.param(changed(OCI, manifests=entries(OCI) * 2), OCI_INDEX, id="entries twice"),
        pytest.param(
            changed(OCI, manifests=[{**entries(OCI)[0], "size": 1}]), OCI_INDEX, id="wrong size"
        ),
        pytest.param(
            changed(OCI, manifests=entries(OCI) + entries(DOCKER)), OCI_INDEX, id="mixed entries"
        ),
        pytest.param(changed(OCI, subject=OCI.children[0].descriptor), OCI_INDEX, id="subject"),
        pytest.param(changed(OCI, annotations={"a": "b"}), OCI_INDEX, id="annotations"),
        pytest.param(changed(OCI, manifests=[OCI.descriptor]), OCI_INDEX, id="nested index"),
        pytest.param(changed(DOCKER, manifests=entries(OCI)), DOCKER_LIST, id="list of oci images"),
        pytest.param(
            changed(DOCKER, manifests=WITHOUT_PLATFORM), DOCKER_LIST, id="list without platforms"
        ),
    ],
)
def test_an_index_is_taken_if_its_children_are_there(
    peer: Peer, stocked: str, tag: str, content: bytes, content_type: str
) -> None:
    response = peer.put(stocked, tag, content, content_type)

    assert response.status_code == 201
    assert peer.get(stocked, tag, EVERY_TYPE).content == content


@pytest.mark.parametrize("artifact", [False, True], ids=["image", "artifact"])
def test_attestations_are_taken_in_both_forms(
    peer: Peer, stocked: str, tag: str, artifact: bool
) -> None:
    image = make_image()
    index = make_index([image, make_attestation(image, artifact=artifact)])

    peer.upload(stocked, index, tag)

    assert peer.get(stocked, tag, OCI_INDEX).content == index.content


def test_an_overwritten_index_stays_readable_by_digest(peer: Peer, stocked: str, tag: str) -> None:
    lonely = changed(OCI, annotations={"lonely": tag})
    peer.put(stocked, tag, lonely, OCI_INDEX)
    peer.put(stocked, tag, DOCKER.content, DOCKER_LIST)

    assert peer.get(stocked, tag, EVERY_TYPE).content == DOCKER.content
    assert peer.get(stocked, digest_of(lonely), EVERY_TYPE).content == lonely


# Tags and deletion


def test_all_tags_are_listed(peer: Peer, repository: str) -> None:
    for tag in ("b", "a", "C"):
        peer.put(repository, tag, EMPTY.content, OCI_INDEX)

    response = peer.send("GET", f"/v2/{repository}/tags/list")

    assert response.json()["name"] == repository
    assert sorted(response.json()["tags"]) == ["C", "a", "b"]


def test_deleting_a_digest_takes_its_tags_along(peer: Peer, repository: str) -> None:
    peer.upload(repository, EMPTY, "latest")
    peer.upload(repository, make_image(), "other")

    assert peer.delete(repository, EMPTY.digest).status_code == 202
    assert peer.get(repository, EMPTY.digest, OCI_INDEX).status_code == 404
    assert peer.get(repository, "latest", OCI_INDEX).status_code == 404
    assert peer.send("GET", f"/v2/{repository}/tags/list").json()["tags"] == ["other"]


def test_an_index_outlives_its_child_but_cannot_be_put_again(peer: Peer, repository: str) -> None:
    peer.upload(repository, OCI, "latest")
    peer.delete(repository, OCI.children[0].digest)

    assert peer.get(repository, "latest", OCI_INDEX).content == OCI.content
    response = peer.put(repository, "latest", OCI.content, OCI_INDEX)
    assert (response.status_code, error_codes(response)) == (400, ["MANIFEST_BLOB_UNKNOWN"])


def test_a_missing_digest_cannot_be_deleted(peer: Peer, repository: str) -> None:
    is_refused(peer.delete(repository, ABSENT), 404, "MANIFEST_UNKNOWN")


# Blobs


def test_a_blob_is_kept_byte_for_byte(peer: Peer, repository: str) -> None:
    digest = digest_of(b"content")

    created = peer.put_blob(repository, b"content")
    read = peer.send("GET", f"/v2/{repository}/blobs/{digest}")

    assert created.status_code == 201
    assert created.headers["Docker-Content-Digest"] == digest
    assert created.headers["Location"] == f"{peer.url}/v2/{repository}/blobs/{digest}"
    assert read.content == b"content"
    assert read.headers["Docker-Content-Digest"] == digest
    assert read.headers["Content-Type"] == "application/octet-stream"


def test_head_tells_the_size_of_a_blob(peer: Peer, repository: str) -> None:
    peer.put_blob(repository, b"content")

    response = peer.send("HEAD", f"/v2/{repository}/blobs/{digest_of(b'content')}")

    assert (response.status_code, response.headers["Content-Length"]) == (200, "7")


def test_an_absent_blob_is_unknown(peer: Peer, repository: str) -> None:
    is_refused(peer.send("GET", f"/v2/{repository}/blobs/{ABSENT}"), 404, "BLOB_UNKNOWN")


@pytest.mark.parametrize("digest", [ABSENT, "junk"])
def test_a_blob_of_another_digest_is_refused(peer: Peer, repository: str, digest: str) -> None:
    response = peer.put_blob(repository, b"content", digest)

    assert (response.status_code, error_codes(response)) == (400, ["DIGEST_INVALID"])
    path = f"/v2/{repository}/blobs/{digest_of(b'content')}"
    assert peer.send("HEAD", path).status_code == 404


def test_a_wrong_digest_ends_the_upload(peer: Peer, repository: str) -> None:
    location = peer.start_upload(repository).headers["Location"]

    wrong = peer.finish_upload(location, b"content", ABSENT)
    right = peer.finish_upload(location, b"content", digest_of(b"content"))

    assert (wrong.status_code, right.status_code) == (400, 404)


def test_a_blob_can_come_in_pieces(peer: Peer, repository: str) -> None:
    octets = {"Content-Type": "application/octet-stream"}
    location = peer.start_upload(repository).headers["Location"]
    for piece, end in ((b"first,", 5), (b"second", 11)):
        response = peer.send("PATCH", location, octets, piece)
        assert (response.status_code, response.headers["Range"]) == (202, f"0-{end}")
        location = response.headers["Location"]

    response = peer.finish_upload(location, b"", digest_of(b"first,second"))

    assert response.status_code == 201
    digest = digest_of(b"first,second")
    assert peer.send("GET", f"/v2/{repository}/blobs/{digest}").content == b"first,second"


def test_a_cancelled_upload_cannot_be_finished(peer: Peer, repository: str) -> None:
    location = peer.start_upload(repository).headers["Location"]

    assert peer.send("DELETE", location).status_code == 204
    response = peer.finish_upload(location, b"content", digest_of(b"content"))

    assert response.status_code == 404
    assert error_codes(response)[0].startswith("BLOB_UPLOAD_")


def test_a_mounted_blob_is_there_at_once(peer: Peer, repository: str) -> None:
    digest = digest_of(b"content")
    peer.put_blob(f"{repository}/source", b"content")

    response = peer.start_upload(repository, f"?mount={digest}&from={repository}/source")

    assert response.status_code == 201
    assert response.headers["Location"] == f"{peer.url}/v2/{repository}/blobs/{digest}"
    assert peer.send("GET", f"/v2/{repository}/blobs/{digest}").content == b"content"


@pytest.mark.parametrize("source", ["/source", "/elsewhere", None])
def test_a_mount_of_an_absent_blob_begins_an_upload(
    peer: Peer, repository: str, source: str | None
) -> None:
    peer.put_blob(f"{repository}/source", b"another")
    digest = digest_of(b"content")
    origin = "" if source is None else f"&from={repository}{source}"

    response = peer.start_upload(repository, f"?mount={digest}{origin}")
    finished = peer.finish_upload(response.headers["Location"], b"content", digest)

    assert (response.status_code, finished.status_code) == (202, 201)


# Paths and methods


@pytest.mark.parametrize(
    "path",
    ["/v2/a/manifests/bad+tag", f"/v2/a/manifests/{'t' * 129}", "/v2/a/referrers/x", "/nothing"],
)
def test_a_path_that_nothing_serves_is_not_found(peer: Peer, path: str) -> None:
    response = peer.send("GET", path)

    assert response.status_code == 404
    assert response.headers["Content-Type"].startswith("text/plain")


def test_a_method_that_nothing_serves_is_not_allowed(peer: Peer, repository: str) -> None:
    response = peer.send("POST", f"/v2/{repository}/manifests/latest")

    assert response.status_code == 405
    assert response.headers["Allow"] == "DELETE, GET, HEAD, PUT"


# Tokens


@with_tokens
def test_the_root_names_realm_and_service(peer: Peer) -> None:
    response = peer.once("GET", "/v2/")

    assert (response.status_code, error_codes(response)) == (401, ["UNAUTHORIZED"])
    assert set(challenge(response)) == {"realm", "service"}


@with_tokens
@pytest.mark.parametrize(
    ("method", "actions"),
    [("GET", {"pull"}), ("HEAD", {"pull"}), ("PUT", {"pull", "push"}), ("DELETE", {"delete"})],
)
def test_the_challenge_names_the_rights_that_are_missing(
    peer: Peer, repository: str, method: str, actions: set[str]
) -> None:
    response = peer.once(method, f"/v2/{repository}/manifests/latest")

    assert response.status_code == 401
    assert wanted_rights(response) == {(repository, action) for action in actions}
    assert "error" not in challenge(response)


@with_tokens
def test_a_token_with_too_few_rights_is_insufficient(peer: Peer, stocked: str) -> None:
    token = peer.token([f"repository:{stocked}:pull"])
    path = f"/v2/{stocked}/manifests/oci"

    read = peer.once("GET", path, {**token, "Accept": OCI_INDEX})
    write = peer.once("PUT", path, {**token, "Content-Type": OCI_INDEX}, OCI.content)

    assert (read.status_code, write.status_code) == (200, 401)
    assert challenge(write)["error"] == "insufficient_scope"
    assert wanted_rights(write) == {(stocked, "pull"), (stocked, "push")}


@with_tokens
def test_a_token_for_pushing_alone_cannot_push(peer: Peer, repository: str) -> None:
    token = peer.token([f"repository:{repository}:push"])

    assert peer.once("POST", f"/v2/{repository}/blobs/uploads/", token).status_code == 401


@with_tokens
def test_a_token_for_everything_can_delete(peer: Peer, repository: str) -> None:
    peer.upload(repository, EMPTY)
    token = peer.token([f"repository:{repository}:*"])

    response = peer.once("DELETE", f"/v2/{repository}/manifests/{EMPTY.digest}", token)

    assert response.status_code == 202


@with_tokens
@pytest.mark.parametrize("joint", [None, " "], ids=["repeated", "in one value"])
def test_one_token_serves_two_repositories(peer: Peer, repository: str, joint: str | None) -> None:
    names = [repository, f"{repository}/other"]
    scopes = [f"repository:{name}:pull" for name in names]

    token = peer.token([joint.join(scopes)] if joint else scopes)

    for name in names:
        assert peer.once("GET", f"/v2/{name}/manifests/latest", token).status_code == 404
    elsewhere = peer.once("GET", f"/v2/{repository}/third/manifests/latest", token)
    assert elsewhere.status_code == 401


@with_tokens
def test_a_token_that_the_registry_did_not_issue_is_invalid(peer: Peer, repository: str) -> None:
    headers = {"Authorization": "Bearer made-up"}

    response = peer.once("GET", f"/v2/{repository}/manifests/latest", headers)

    assert (response.status_code, challenge(response)["error"]) == (401, "invalid_token")


@with_tokens
def test_a_password_is_no_token(peer: Peer, repository: str) -> None:
    headers = {"Authorization": "Basic YWxpY2U6d29uZGVybGFuZA=="}

    response = peer.once("GET", f"/v2/{repository}/manifests/latest", headers)

    assert response.status_code == 401
    assert "error" not in challenge(response)


@with_tokens
def test_a_token_without_scopes_opens_the_root_only(peer: Peer, repository: str) -> None:
    token = peer.token([])

    assert peer.once("GET", "/v2/", token).status_code == 200
    assert peer.once("GET", f"/v2/{repository}/manifests/latest", token).status_code == 401


@with_tokens
def test_a_wrong_password_gets_no_token(peer: Peer) -> None:
    assert peer.ask_token([], (TOKEN_USER, "guess")).status_code == 401
    assert peer.ask_token([], ("mallory", TOKEN_PASSWORD)).status_code == 401


@with_tokens
def test_public_repositories_can_be_read_anonymously(peer: Peer, repository: str) -> None:
    for name, status in ((f"public/{repository}", 404), (repository, 401)):
        reply = peer.ask_token([f"repository:{name}:pull,push"]).json()
        token = {"Authorization": f"Bearer {reply['token']}"}

        assert peer.once("GET", f"/v2/{name}/manifests/x", token).status_code == status
        assert peer.once("PUT", f"/v2/{name}/manifests/x", token).status_code == 401


@with_tokens
def test_a_mount_needs_the_right_to_read_its_source(peer: Peer, repository: str) -> None:
    source = f"{repository}/source"
    digest = digest_of(b"content")
    peer.put_blob(source, b"content")
    token = peer.token([f"repository:{repository}:pull,push"])
    query = f"?mount={digest}&from={source}"

    refused = peer.once("POST", f"/v2/{repository}/blobs/uploads/{query}", token)

    assert refused.status_code == 401
    wanted = {(repository, "pull"), (repository, "push"), (source, "pull")}
    assert wanted_rights(refused) == wanted
    assert peer.start_upload(repository, query).status_code == 201
