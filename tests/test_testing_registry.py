"""The embedded registry and the real one, held to the same contract."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pubtools_mlmerge.testing import (
    Image,
    ImageIndex,
    RegistryServer,
    make_attestation,
    make_image,
    make_index,
)
from pubtools_mlmerge.testing.storage import digest_of, encode
from tests.peers import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    EVERY_TYPE,
    OCI_INDEX,
    OCI_MANIFEST,
    SCHEMA_1,
    Peer,
    challenge,
    error_codes,
    wanted_rights,
)
from tests.servers import TOKEN_PASSWORD, TOKEN_USER, RealRegistry

CREDENTIALS = (TOKEN_USER, TOKEN_PASSWORD)
ABSENT = "sha256:" + "a" * 64
REGISTRIES = ("embedded", "embedded-token", "plain", "tls", "token")
WITH_TOKENS = ("embedded-token", "token")

OCI = make_index([make_image(), make_image("linux/arm64")])
DOCKER = make_index(
    [make_image(docker=True), make_image("linux/arm64", docker=True)],
    docker=True,
)
NO_AMD64 = make_index([make_image("linux/arm64", docker=True)], docker=True)

EMPTY = make_index([])
UNTYPED = make_index(OCI.children, media_type_field=False)
STOCK = {
    "oci": OCI,
    "untyped": UNTYPED,
    "docker": DOCKER,
    "no-amd64": NO_AMD64,
    "oci-image": OCI.children[0],
    "docker-image": DOCKER.children[0],
}

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
    return encode({name: value for name, value in document.items() if value is not None})


def entries(item: Image | ImageIndex) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(item.content)["manifests"]
    return found


# Reading


def test_the_root_answers_whoever_is_let_in(peer: Peer) -> None:
    response = peer.send("GET", "/v2/")

    assert response.status_code == 200
    assert response.headers["Docker-Distribution-Api-Version"] == "registry/2.0"


@pytest.mark.parametrize("tag", ["oci", "docker"])
def test_an_index_comes_back_byte_for_byte(
    peer: Peer,
    stocked: str,
    tag: str,
) -> None:
    index = STOCK[tag]

    by_tag = peer.get(stocked, tag, EVERY_TYPE)
    by_digest = peer.get(stocked, index.digest, EVERY_TYPE)

    assert by_tag.content == by_digest.content == index.content
    assert by_tag.headers["Content-Type"] == index.media_type
    assert by_tag.headers["Docker-Content-Digest"] == index.digest
    assert by_tag.headers["ETag"] == f'"{index.digest}"'


def test_unusual_but_valid_bytes_are_kept(peer: Peer, stocked: str, tag: str) -> None:
    document = {"x-vendor": "\u00e9", **json.loads(OCI.content)}
    content = json.dumps(document, ensure_ascii=False).encode() + b"\n\n"

    assert peer.put(stocked, tag, content, OCI_INDEX).status_code == 201
    assert peer.get(stocked, tag, OCI_INDEX).content == content


def test_head_has_the_headers_of_get_and_no_body(peer: Peer, stocked: str) -> None:
    head = peer.head(stocked, "oci", OCI_INDEX)
    get = peer.get(stocked, "oci", OCI_INDEX)

    names = ("Content-Type", "Content-Length", "Docker-Content-Digest", "ETag")
    assert [head.headers[name] for name in names] == [get.headers[name] for name in names]
    assert head.content == b""


def test_get_of_a_known_digest_is_not_modified(peer: Peer, stocked: str) -> None:
    headers = {"Accept": OCI_INDEX, "If-None-Match": f'"{OCI.digest}"'}

    response = peer.send("GET", f"/v2/{stocked}/manifests/oci", headers)

    assert (response.status_code, response.content) == (304, b"")


def test_a_missing_tag_is_unknown(peer: Peer, stocked: str) -> None:
    response = peer.get(stocked, "missing", EVERY_TYPE)

    assert response.status_code == 404
    assert response.json()["errors"] == [
        {"code": "MANIFEST_UNKNOWN", "message": "manifest unknown", "detail": {"Tag": "missing"}},
    ]


def test_a_missing_digest_is_unknown(peer: Peer, stocked: str) -> None:
    response = peer.get(stocked, ABSENT, EVERY_TYPE)

    assert (response.status_code, error_codes(response)) == (404, ["MANIFEST_UNKNOWN"])
    assert response.json()["errors"][0]["detail"] == {"Name": stocked, "Revision": ABSENT}


def test_a_manifest_in_a_missing_repository_is_unknown(peer: Peer, repository: str) -> None:
    response = peer.get(repository, "latest", EVERY_TYPE)

    assert (response.status_code, error_codes(response)) == (404, ["MANIFEST_UNKNOWN"])


def test_head_of_something_missing_has_no_body(peer: Peer, repository: str) -> None:
    response = peer.head(repository, "latest", EVERY_TYPE)

    assert (response.status_code, response.content) == (404, b"")


@pytest.mark.parametrize("reference", ["oci", OCI.digest])
@pytest.mark.parametrize("accept", ["", "*/*", "application/json", DOCKER_LIST, OCI_MANIFEST])
def test_an_oci_index_is_hidden_from_clients_that_do_not_name_it(
    peer: Peer,
    stocked: str,
    accept: str,
    reference: str,
) -> None:
    response = peer.get(stocked, reference, accept)

    assert (response.status_code, error_codes(response)) == (404, ["MANIFEST_UNKNOWN"])


@pytest.mark.parametrize("accept", ["", DOCKER_LIST, OCI_INDEX])
def test_an_oci_index_without_its_type_is_shown_to_all(
    peer: Peer,
    stocked: str,
    accept: str,
) -> None:
    response = peer.get(stocked, "untyped", accept)

    assert (response.status_code, response.content) == (200, UNTYPED.content)
    assert response.headers["Content-Type"] == OCI_INDEX


@pytest.mark.parametrize(
    "accept",
    [f"{OCI_INDEX};q=0.5", f"{DOCKER_LIST}, {OCI_INDEX}", f"{DOCKER_LIST},{OCI_INDEX}"],
)
def test_the_type_counts_anywhere_in_the_accept_header(
    peer: Peer,
    stocked: str,
    accept: str,
) -> None:
    assert peer.get(stocked, "oci", accept).content == OCI.content


def test_a_client_of_images_gets_the_amd64_child_of_a_docker_list(
    peer: Peer,
    stocked: str,
) -> None:
    response = peer.get(stocked, "docker", DOCKER_MANIFEST)

    child = DOCKER.children[0]
    assert response.content == child.content
    assert response.headers["Docker-Content-Digest"] == child.digest


@pytest.mark.parametrize("accept", ["", "*/*", OCI_INDEX])
@pytest.mark.parametrize("tag", ["docker", "docker-image"])
def test_old_clients_get_a_docker_tag_as_schema_1(
    peer: Peer,
    stocked: str,
    accept: str,
    tag: str,
) -> None:
    response = peer.get(stocked, tag, accept)

    assert (response.status_code, response.headers["Content-Type"]) == (200, SCHEMA_1)
    assert response.headers["Docker-Content-Digest"] != STOCK[tag].digest
    assert response.json()["schemaVersion"] == 1


@pytest.mark.parametrize("accept", ["", "*/*", OCI_INDEX, DOCKER_MANIFEST])
def test_a_docker_list_without_amd64_is_hidden_from_others(
    peer: Peer,
    stocked: str,
    accept: str,
) -> None:
    response = peer.get(stocked, "no-amd64", accept)

    assert (response.status_code, error_codes(response)) == (404, ["MANIFEST_UNKNOWN"])


@pytest.mark.parametrize("accept", ["", "*/*", OCI_INDEX, DOCKER_MANIFEST])
@pytest.mark.parametrize("item", [DOCKER, DOCKER.children[0]], ids=["list", "image"])
def test_docker_documents_come_by_digest_whatever_the_accept_header(
    peer: Peer,
    stocked: str,
    accept: str,
    item: Image | ImageIndex,
) -> None:
    assert peer.get(stocked, item.digest, accept).content == item.content


def test_an_oci_image_is_hidden_from_clients_of_docker_images(
    peer: Peer,
    stocked: str,
) -> None:
    assert peer.get(stocked, "oci-image", DOCKER_MANIFEST).status_code == 404
    assert peer.get(stocked, "oci-image", OCI_MANIFEST).status_code == 200


@pytest.mark.parametrize("accept", ["", DOCKER_MANIFEST, OCI_MANIFEST])
def test_an_oci_child_of_a_docker_list_is_given_to_all(
    peer: Peer,
    stocked: str,
    tag: str,
    accept: str,
) -> None:
    odd = make_index([OCI.children[0]], docker=True)
    peer.put(stocked, tag, odd.content, DOCKER_LIST)

    assert peer.get(stocked, tag, accept).content == OCI.children[0].content


def test_a_docker_list_whose_amd64_child_was_deleted_hides_behind_it(
    peer: Peer,
    repository: str,
) -> None:
    image = make_image(docker=True)
    peer.upload(repository, make_index([image], docker=True), "latest")
    peer.delete(repository, image.digest)

    response = peer.get(repository, "latest", DOCKER_MANIFEST)

    assert (response.status_code, error_codes(response)) == (404, ["MANIFEST_UNKNOWN"])
    assert response.json()["errors"][0]["detail"]["Revision"] == image.digest


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

    response = peer.put(repository, "latest", OCI.content, OCI_INDEX)

    assert (response.status_code, set(error_codes(response))) == (400, {"MANIFEST_BLOB_UNKNOWN"})


def test_an_image_needs_its_blobs(peer: Peer, repository: str) -> None:
    image = make_image(seed=repository)

    response = peer.put(repository, "latest", image.content, image.media_type)

    assert response.status_code == 400
    assert [error["detail"] for error in response.json()["errors"]] == list(image.blobs)


def test_a_put_by_another_digest_is_refused(peer: Peer, stocked: str) -> None:
    response = peer.put(stocked, ABSENT, OCI.content, OCI_INDEX)

    assert (response.status_code, error_codes(response)) == (400, ["DIGEST_INVALID"])


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (OCI.content, ""),
        (OCI.content, "application/json"),
        (OCI.content, "text/plain"),
        (OCI.content, DOCKER_LIST),
        (OCI.content, OCI_MANIFEST),
        (DOCKER.content, OCI_INDEX),
        (OCI.children[0].content, OCI_INDEX),
        (OCI.children[0].content, DOCKER_MANIFEST),
        (changed(DOCKER, mediaType=None), DOCKER_LIST),
        (changed(OCI, layers=[]), OCI_INDEX),
        (changed(OCI, config={}, layers=[]), OCI_INDEX),
        (changed(OCI, manifests=5), OCI_INDEX),
        (b"{not json", OCI_INDEX),
        (b"[]", OCI_INDEX),
        (b"", OCI_INDEX),
        (b" " * (4 * 1024 * 1024 + 1), OCI_INDEX),
    ],
    ids=[
        "no type",
        "type json",
        "type text",
        "index as list",
        "index as image",
        "list as index",
        "image as index",
        "oci image as docker image",
        "list without mediaType",
        "index with layers",
        "index with image parts",
        "number of manifests",
        "not json",
        "array",
        "nothing",
        "over 4 MiB",
    ],
)
def test_a_put_of_something_else_than_its_type_is_invalid(
    peer: Peer,
    stocked: str,
    tag: str,
    content: bytes,
    content_type: str,
) -> None:
    response = peer.put(stocked, tag, content, content_type)

    assert (response.status_code, error_codes(response)) == (400, ["MANIFEST_INVALID"])


def test_a_put_of_another_schema_version_is_an_unknown_error(peer: Peer, repository: str) -> None:
    response = peer.put(repository, "latest", changed(OCI, schemaVersion=1), OCI_INDEX)

    assert (response.status_code, error_codes(response)) == (500, ["UNKNOWN"])


WITHOUT_PLATFORM = [{k: v for k, v in one.items() if k != "platform"} for one in entries(DOCKER)]


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (OCI.content, f"{OCI_INDEX}; charset=utf-8"),
        (changed(OCI, manifests=[]), OCI_INDEX),
        (changed(OCI, manifests=entries(OCI) * 2), OCI_INDEX),
        (changed(OCI, manifests=[{**entries(OCI)[0], "size": 1}]), OCI_INDEX),
        (changed(OCI, manifests=entries(OCI) + entries(DOCKER)), OCI_INDEX),
        (changed(OCI, subject=OCI.children[0].descriptor), OCI_INDEX),
        (changed(OCI, annotations={"a": "b"}), OCI_INDEX),
        (changed(OCI, manifests=[OCI.descriptor]), OCI_INDEX),
        (changed(DOCKER, manifests=entries(OCI)), DOCKER_LIST),
        (changed(DOCKER, manifests=WITHOUT_PLATFORM), DOCKER_LIST),
        (changed(DOCKER, layers=[]), DOCKER_LIST),
    ],
    ids=[
        "type with parameter",
        "no entries",
        "entries twice",
        "wrong size",
        "mixed entries",
        "subject",
        "annotations",
        "nested index",
        "list of oci images",
        "list without platforms",
        "list with layers",
    ],
)
def test_a_put_is_taken_as_long_as_its_children_are_there(
    peer: Peer,
    stocked: str,
    tag: str,
    content: bytes,
    content_type: str,
) -> None:
    response = peer.put(stocked, tag, content, content_type)

    assert response.status_code == 201
    assert peer.get(stocked, tag, EVERY_TYPE).content == content


@pytest.mark.parametrize("artifact", [False, True], ids=["image", "artifact"])
def test_attestations_are_taken_in_both_forms(
    peer: Peer,
    stocked: str,
    tag: str,
    artifact: bool,
) -> None:
    image = make_image()
    index = make_index([image, make_attestation(image, artifact=artifact)])

    peer.upload(stocked, index, tag)

    assert peer.get(stocked, tag, OCI_INDEX).content == index.content


@pytest.mark.parametrize("header", ["If-Match", "If-None-Match"])
def test_preconditions_of_a_put_are_ignored(
    peer: Peer, stocked: str, tag: str, header: str
) -> None:
    peer.put(stocked, tag, OCI.content, OCI_INDEX)
    headers = {"Content-Type": OCI_INDEX, header: f'"{OCI.digest[::-1]}"'}
    if header == "If-None-Match":
        headers[header] = "*"

    response = peer.send("PUT", f"/v2/{stocked}/manifests/{tag}", headers, OCI.content)

    assert response.status_code == 201


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


@pytest.mark.parametrize("holds", ["nothing", "a blob", "an untagged manifest"])
def test_tags_of_a_repository_that_never_had_any_are_unknown(
    peer: Peer,
    repository: str,
    holds: str,
) -> None:
    if holds == "a blob":
        peer.put_blob(repository, b"blob")
    elif holds == "an untagged manifest":
        peer.upload(repository, EMPTY)

    response = peer.send("GET", f"/v2/{repository}/tags/list")

    assert (response.status_code, error_codes(response)) == (404, ["NAME_UNKNOWN"])


def test_deleting_a_digest_takes_its_tags_along(peer: Peer, repository: str) -> None:
    peer.upload(repository, EMPTY, "latest")
    peer.upload(repository, make_image(), "other")

    assert peer.delete(repository, EMPTY.digest).status_code == 202
    assert peer.get(repository, EMPTY.digest, OCI_INDEX).status_code == 404
    assert peer.get(repository, "latest", OCI_INDEX).status_code == 404
    assert peer.send("GET", f"/v2/{repository}/tags/list").json()["tags"] == ["other"]


def test_tags_that_were_all_deleted_are_null(peer: Peer, repository: str) -> None:
    peer.upload(repository, EMPTY, "latest")
    peer.delete(repository, EMPTY.digest)

    response = peer.send("GET", f"/v2/{repository}/tags/list")

    assert (response.status_code, response.json()["tags"]) == (200, None)


def test_an_index_outlives_its_child_but_cannot_be_put_again(
    peer: Peer,
    repository: str,
) -> None:
    peer.upload(repository, OCI, "latest")
    peer.delete(repository, OCI.children[0].digest)

    assert peer.get(repository, "latest", OCI_INDEX).content == OCI.content
    response = peer.put(repository, "latest", OCI.content, OCI_INDEX)
    assert (response.status_code, error_codes(response)) == (400, ["MANIFEST_BLOB_UNKNOWN"])


def test_a_tag_cannot_be_deleted_by_name(peer: Peer, stocked: str) -> None:
    response = peer.delete(stocked, "oci")

    assert (response.status_code, error_codes(response)) == (400, ["DIGEST_INVALID"])
    assert peer.head(stocked, "oci", OCI_INDEX).status_code == 200


def test_a_missing_digest_cannot_be_deleted(peer: Peer, repository: str) -> None:
    response = peer.delete(repository, ABSENT)

    assert (response.status_code, error_codes(response)) == (404, ["MANIFEST_UNKNOWN"])


# Blobs


def test_a_blob_comes_back_as_it_went_up(peer: Peer, repository: str) -> None:
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
    response = peer.send("GET", f"/v2/{repository}/blobs/{ABSENT}")

    assert (response.status_code, error_codes(response)) == (404, ["BLOB_UNKNOWN"])


def test_a_manifest_is_not_a_blob(peer: Peer, stocked: str) -> None:
    assert peer.send("GET", f"/v2/{stocked}/blobs/{OCI.digest}").status_code == 404


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


def test_a_forgotten_digest_can_be_handed_in_later(peer: Peer, repository: str) -> None:
    location = peer.start_upload(repository).headers["Location"]

    forgotten = peer.send("PUT", location, {}, b"content")
    finished = peer.finish_upload(location, b"content", digest_of(b"content"))

    assert (forgotten.status_code, finished.status_code) == (400, 201)


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


def test_a_finished_upload_cannot_be_finished_again(peer: Peer, repository: str) -> None:
    location = peer.start_upload(repository).headers["Location"]

    first = peer.finish_upload(location, b"content", digest_of(b"content"))
    second = peer.finish_upload(location, b"content", digest_of(b"content"))

    assert (first.status_code, second.status_code) == (201, 404)


def test_a_blob_cannot_be_sent_with_the_post(peer: Peer, repository: str) -> None:
    digest = digest_of(b"content")
    path = f"/v2/{repository}/blobs/uploads/?digest={digest}"

    assert peer.send("POST", path, {}, b"content").status_code == 202
    assert peer.send("HEAD", f"/v2/{repository}/blobs/{digest}").status_code == 404


def test_a_mounted_blob_is_there_at_once(peer: Peer, repository: str) -> None:
    digest = digest_of(b"content")
    peer.put_blob(f"{repository}/source", b"content")

    response = peer.start_upload(repository, f"?mount={digest}&from={repository}/source")

    assert response.status_code == 201
    assert response.headers["Location"] == f"{peer.url}/v2/{repository}/blobs/{digest}"
    assert peer.send("GET", f"/v2/{repository}/blobs/{digest}").content == b"content"


@pytest.mark.parametrize("source", ["/source", "/elsewhere", None])
def test_a_mount_of_what_is_not_there_begins_an_upload(
    peer: Peer,
    repository: str,
    source: str | None,
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


@pytest.mark.parametrize("peer", WITH_TOKENS, indirect=True)
def test_the_root_names_realm_and_service(peer: Peer) -> None:
    response = peer.once("GET", "/v2/")

    assert (response.status_code, error_codes(response)) == (401, ["UNAUTHORIZED"])
    assert set(challenge(response)) == {"realm", "service"}


@pytest.mark.parametrize("peer", WITH_TOKENS, indirect=True)
@pytest.mark.parametrize(
    ("method", "actions"),
    [("GET", {"pull"}), ("HEAD", {"pull"}), ("PUT", {"pull", "push"}), ("DELETE", {"delete"})],
)
def test_the_challenge_names_the_rights_that_are_missing(
    peer: Peer,
    repository: str,
    method: str,
    actions: set[str],
) -> None:
    response = peer.once(method, f"/v2/{repository}/manifests/latest")

    assert response.status_code == 401
    assert wanted_rights(response) == {(repository, action) for action in actions}
    assert "error" not in challenge(response)


@pytest.mark.parametrize("peer", WITH_TOKENS, indirect=True)
def test_a_token_for_less_is_told_so(peer: Peer, stocked: str) -> None:
    token = peer.token([f"repository:{stocked}:pull"])
    path = f"/v2/{stocked}/manifests/oci"

    read = peer.once("GET", path, {**token, "Accept": OCI_INDEX})
    write = peer.once("PUT", path, {**token, "Content-Type": OCI_INDEX}, OCI.content)

    assert (read.status_code, write.status_code) == (200, 401)
    assert challenge(write)["error"] == "insufficient_scope"
    assert {detail["Action"] for detail in write.json()["errors"][0]["detail"]} == {"pull", "push"}


@pytest.mark.parametrize("peer", WITH_TOKENS, indirect=True)
def test_a_token_for_pushing_alone_cannot_push(peer: Peer, repository: str) -> None:
    token = peer.token([f"repository:{repository}:push"])

    assert peer.once("POST", f"/v2/{repository}/blobs/uploads/", token).status_code == 401


@pytest.mark.parametrize("peer", WITH_TOKENS, indirect=True)
def test_a_token_for_everything_can_delete(peer: Peer, repository: str) -> None:
    peer.upload(repository, EMPTY)
    token = peer.token([f"repository:{repository}:*"])

    response = peer.once("DELETE", f"/v2/{repository}/manifests/{EMPTY.digest}", token)

    assert response.status_code == 202


@pytest.mark.parametrize("peer", WITH_TOKENS, indirect=True)
@pytest.mark.parametrize("joint", [None, " "], ids=["repeated", "in one value"])
def test_one_token_serves_two_repositories(
    peer: Peer,
    repository: str,
    joint: str | None,
) -> None:
    names = [repository, f"{repository}/other"]
    scopes = [f"repository:{name}:pull" for name in names]

    token = peer.token([joint.join(scopes)] if joint else scopes)

    for name in names:
        assert peer.once("GET", f"/v2/{name}/manifests/latest", token).status_code == 404
    elsewhere = peer.once("GET", f"/v2/{repository}/third/manifests/latest", token)
    assert elsewhere.status_code == 401


@pytest.mark.parametrize("peer", WITH_TOKENS, indirect=True)
def test_a_token_that_the_registry_did_not_issue_is_invalid(peer: Peer, repository: str) -> None:
    headers = {"Authorization": "Bearer made-up"}

    response = peer.once("GET", f"/v2/{repository}/manifests/latest", headers)

    assert (response.status_code, challenge(response)["error"]) == (401, "invalid_token")


@pytest.mark.parametrize("peer", WITH_TOKENS, indirect=True)
def test_a_password_is_no_token(peer: Peer, repository: str) -> None:
    headers = {"Authorization": "Basic YWxpY2U6d29uZGVybGFuZA=="}

    response = peer.once("GET", f"/v2/{repository}/manifests/latest", headers)

    assert response.status_code == 401
    assert "error" not in challenge(response)


@pytest.mark.parametrize("peer", WITH_TOKENS, indirect=True)
def test_a_token_without_scopes_opens_the_root_only(peer: Peer, repository: str) -> None:
    token = peer.token([])

    assert peer.once("GET", "/v2/", token).status_code == 200
    assert peer.once("GET", f"/v2/{repository}/manifests/latest", token).status_code == 401


@pytest.mark.parametrize("peer", WITH_TOKENS, indirect=True)
def test_a_wrong_password_gets_no_token(peer: Peer) -> None:
    assert peer.ask_token([], (TOKEN_USER, "guess")).status_code == 401
    assert peer.ask_token([], ("mallory", TOKEN_PASSWORD)).status_code == 401


@pytest.mark.parametrize("peer", WITH_TOKENS, indirect=True)
def test_nobody_in_particular_may_read_what_is_public(peer: Peer, repository: str) -> None:
    for name, status in ((f"public/{repository}", 404), (repository, 401)):
        reply = peer.ask_token([f"repository:{name}:pull,push"]).json()
        token = {"Authorization": f"Bearer {reply['token']}"}

        assert peer.once("GET", f"/v2/{name}/manifests/x", token).status_code == status
        assert peer.once("PUT", f"/v2/{name}/manifests/x", token).status_code == 401


@pytest.mark.parametrize("peer", WITH_TOKENS, indirect=True)
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


def test_tokens_are_counted_with_their_scopes(docker_registry_token: RealRegistry) -> None:
    tokens = docker_registry_token.tokens
    assert tokens
    peer = Peer(url=docker_registry_token.url, credentials=docker_registry_token.credentials)
    before = tokens.count

    peer.token(["repository:a:pull", "repository:b:pull"])

    assert tokens.count == before + 1
    assert tokens.scopes[-1] == ("repository:a:pull", "repository:b:pull")


def test_a_registry_leaves_its_log(docker_registry_plain: RealRegistry) -> None:
    Peer(url=docker_registry_plain.url).get("some/repository", "latest")

    assert "some/repository" in Path(docker_registry_plain.log).read_text(encoding="utf-8")
