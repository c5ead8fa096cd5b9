"""The Quay dialect: what a running Quay answered, where this project relies on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from pubtools_mlmerge.core.manifests import digest_of
from pubtools_mlmerge.testing import Image, ImageIndex, RegistryServer, make_image, make_index
from tests.factories import content_of
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
from tests.quay import QuayDialect
from tests.scripted import Clock

NAME = "alice/images"
CREDENTIALS = ("alice", "wonderland")
API = {"Authorization": "Bearer api-token"}
ABSENT = "sha256:" + "a" * 64
ROOT, BIN = Path(__file__).parents[1], Path(sys.executable).parent

OCI = make_index([make_image(), make_image("linux/arm64")])
DOCKER = make_index([make_image(docker=True), make_image("linux/arm64", docker=True)], docker=True)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def quay(clock: Clock) -> Iterator[RegistryServer]:
    with RegistryServer(
        dialect=QuayDialect("api-token"),
        auth="token",
        users={"alice": "wonderland", "bob": "builder"},
        grants={"alice": ["alice/*"], "bob": ["bob/*"]},
        public=["public/*"],
        token_seconds=24 * 3600,
        immutable_tags=["v*"],
        clock=clock,
    ) as registry:
        yield registry


@pytest.fixture
def peer(quay: RegistryServer) -> Peer:
    return Peer(url=quay.url, credentials=CREDENTIALS)


def entry(item: Image | ImageIndex, **members: object) -> dict[str, object]:
    """Return the entry for an item with other members; None removes one."""
    changed = {**item.descriptor, **members}
    return {name: value for name, value in changed.items() if value is not None}


def document(item: ImageIndex, *entries: dict[str, object], **members: object) -> bytes:
    """Return the document of an index with other entries and members."""
    changed = {**json.loads(item.content), "manifests": list(entries), **members}
    return content_of({name: value for name, value in changed.items() if value is not None})


def message(response: requests.Response) -> str:
    """Return why a manifest is invalid."""
    (error,) = response.json()["errors"]
    assert error["code"] == "MANIFEST_INVALID"
    return str(error["detail"]["message"])


# Tokens


def test_a_token_reply_has_nothing_but_the_token(peer: Peer) -> None:
    reply = peer.ask_token([f"repository:{NAME}:pull"], CREDENTIALS)

    assert list(reply.json()) == ["token"]


@pytest.mark.parametrize(
    "scope",
    [
        f"repository:{NAME}:pull repository:alice/other:pull",
        f"repository:{NAME}:delete",
        f"repository:{NAME}:pull,unheard-of",
    ],
    ids=["two scopes in one value", "delete", "an unknown action"],
)
def test_an_unusual_scope_is_a_bad_request(peer: Peer, scope: str) -> None:
    assert peer.ask_token([scope], CREDENTIALS).status_code == 400


def test_missing_rights_show_only_when_the_token_is_used(peer: Peer) -> None:
    reply = peer.ask_token(["repository:bob/images:pull,push"], CREDENTIALS)
    token = {"Authorization": f"Bearer {reply.json()['token']}"}

    response = peer.once("PUT", "/v2/bob/images/manifests/latest", token)

    assert (reply.status_code, response.status_code) == (200, 401)


def test_asking_for_the_right_to_push_makes_the_repository(peer: Peer) -> None:
    before = peer.get(NAME, "latest", EVERY_TYPE)
    peer.token([f"repository:{NAME}:pull,push"])
    after = peer.get(NAME, "latest", EVERY_TYPE)

    assert (before.status_code, error_codes(before)) == (404, ["NAME_UNKNOWN"])
    assert (after.status_code, error_codes(after)) == (404, ["MANIFEST_UNKNOWN"])


@pytest.mark.parametrize("scope", [f"repository:{NAME}:pull", "repository:bob/images:pull,push"])
def test_other_tokens_make_no_repository(peer: Peer, quay: RegistryServer, scope: str) -> None:
    peer.token([scope])

    for name in (NAME, "bob/images"):
        with pytest.raises(KeyError):
            quay.history(name, "latest")


# Reading


STOCK = {
    "oci": OCI,
    "docker": DOCKER,
    "oci-arm": make_index(OCI.children[1:]),
    "docker-arm": make_index(DOCKER.children[1:], docker=True),
}


@pytest.fixture
def stocked(peer: Peer, quay: RegistryServer, clock: Clock) -> Peer:
    """A registry with a tag for each kind of index, pushed long ago."""
    now, clock.now = clock.now, clock.now - 24 * 3600
    for image in (*OCI.children, *DOCKER.children):
        assert isinstance(image, Image)
        for blob in image.blobs.values():
            quay.put_blob(NAME, blob)
        quay.put_manifest(NAME, image.digest, image.content, image.media_type)
    for tag, index in STOCK.items():
        quay.put_manifest(NAME, tag, index.content, index.media_type)
    clock.now = now
    return peer


@pytest.mark.parametrize("tag", ["oci", "docker"])
def test_an_index_comes_back_byte_for_byte(stocked: Peer, tag: str) -> None:
    index = STOCK[tag]

    get = stocked.get(NAME, tag, f"text/plain, {index.media_type}")
    head = stocked.head(NAME, tag, index.media_type)

    assert get.content == index.content
    for response in (get, head):
        assert response.headers["Docker-Content-Digest"] == index.digest
        assert response.headers["Content-Type"] == index.media_type


def test_a_client_of_images_gets_the_amd64_child_of_a_docker_list(stocked: Peer) -> None:
    response = stocked.get(NAME, "docker", DOCKER_MANIFEST)

    assert response.content == DOCKER.children[0].content
    assert response.headers["Docker-Content-Digest"] == DOCKER.children[0].digest


@pytest.mark.parametrize(
    ("tag", "accept"),
    [
        *(("docker", accept) for accept in ("", "*/*", "application/json", OCI_INDEX)),
        *(("oci", accept) for accept in ("", "*/*", DOCKER_LIST, DOCKER_MANIFEST)),
    ],
)
def test_old_clients_get_schema_1_under_a_digest_that_does_not_exist(
    stocked: Peer, tag: str, accept: str
) -> None:
    response = stocked.get(NAME, tag, accept)

    assert (response.status_code, response.headers["Content-Type"]) == (200, SCHEMA_1)
    digest = response.headers["Docker-Content-Digest"]
    assert stocked.get(NAME, digest, EVERY_TYPE).status_code == 404
    assert stocked.head(NAME, tag, accept).headers["Docker-Content-Digest"] == digest


@pytest.mark.parametrize("accept", ["", "*/*", DOCKER_MANIFEST, OCI_MANIFEST, "other"])
@pytest.mark.parametrize("tag", ["oci-arm", "docker-arm"])
def test_a_tag_without_amd64_does_not_exist_for_old_clients(
    stocked: Peer, tag: str, accept: str
) -> None:
    other_list = DOCKER_LIST if tag == "oci-arm" else OCI_INDEX
    response = stocked.get(NAME, tag, other_list if accept == "other" else accept)

    assert (response.status_code, error_codes(response)) == (404, ["MANIFEST_UNKNOWN"])
    assert stocked.get(NAME, tag, EVERY_TYPE).status_code == 200


@pytest.mark.parametrize("accept", ["", "*/*", DOCKER_MANIFEST])
@pytest.mark.parametrize("index", [OCI, DOCKER], ids=["oci", "docker"])
def test_by_digest_the_accept_header_does_not_matter(
    stocked: Peer, index: ImageIndex, accept: str
) -> None:
    assert stocked.get(NAME, index.digest, accept).content == index.content


def test_a_deleted_tag_has_expired(stocked: Peer) -> None:
    assert stocked.delete(NAME, "oci").status_code == 202

    response = stocked.get(NAME, "oci", EVERY_TYPE)

    assert (response.status_code, error_codes(response)) == (404, ["TAG_EXPIRED"])


@pytest.mark.parametrize("exists", [False, True], ids=["missing", "private"])
def test_a_foreign_repository_is_unauthorized_with_a_scoped_challenge(
    peer: Peer, quay: RegistryServer, exists: bool
) -> None:
    if exists:
        quay.put_manifest("bob/images", "latest", OCI.content, OCI_INDEX)

    response = peer.get("bob/images", "latest", EVERY_TYPE)

    assert (response.status_code, error_codes(response)) == (401, ["UNAUTHORIZED"])
    assert wanted_rights(response) == {("bob/images", "pull")}


def test_a_public_repository_needs_no_token(peer: Peer, quay: RegistryServer) -> None:
    quay.put_manifest("public/images", "latest", OCI.content, OCI_INDEX)
    path = "/v2/public/images/manifests/latest"

    assert peer.once("GET", path, {"Accept": OCI_INDEX}).status_code == 200
    assert peer.once("PUT", path, {"Content-Type": OCI_INDEX}).status_code == 401


# Writing


@pytest.mark.parametrize("elsewhere", [False, True], ids=["nowhere", "in another repository"])
def test_an_absent_child_is_named_and_no_tag_is_made(stocked: Peer, elsewhere: bool) -> None:
    child = make_image("linux/s390x")
    if elsewhere:
        stocked.upload("alice/other", child, "latest")

    response = stocked.put(NAME, "latest", make_index([child]).content, OCI_INDEX)

    assert response.status_code == 400
    assert message(response) == f"Could not find child manifest with digest `{child.digest}`"
    assert error_codes(stocked.get(NAME, "latest", EVERY_TYPE)) == ["MANIFEST_UNKNOWN"]


@pytest.mark.parametrize("index", [OCI, DOCKER], ids=["oci", "docker"])
def test_the_size_of_a_child_must_be_right(stocked: Peer, index: ImageIndex) -> None:
    child = index.children[0]
    content = document(index, entry(child, size=1))

    response = stocked.put(NAME, "latest", content, index.media_type)

    assert response.status_code == 400
    sizes = f"{len(child.content)} vs 1"
    assert message(response) == f"Size of manifest does not match that retrieved: {sizes}"


AMD64, OCI_AMD64 = DOCKER.children[0], OCI.children[0]
WITHOUT_OS = {"architecture": "amd64"}


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(document(DOCKER, entry(AMD64, platform=None)), id="no platform"),
        pytest.param(document(DOCKER, entry(AMD64, platform=WITHOUT_OS)), id="no os"),
        pytest.param(document(DOCKER, entry(OCI_AMD64)), id="oci child"),
        pytest.param(
            document(DOCKER, entry(OCI_AMD64, mediaType=DOCKER_MANIFEST)), id="oci child as docker"
        ),
        pytest.param(
            document(DOCKER, entry(DOCKER, platform={**WITHOUT_OS, "os": "linux"})), id="nested"
        ),
        pytest.param(document(DOCKER, entry(AMD64), mediaType=None), id="no mediaType"),
        pytest.param(document(DOCKER, entry(AMD64), mediaType=OCI_INDEX), id="other mediaType"),
        pytest.param(b"{not json", id="not json"),
    ],
)
def test_a_docker_list_is_refused_with(stocked: Peer, content: bytes) -> None:
    response = stocked.put(NAME, "latest", content, DOCKER_LIST)

    assert response.status_code == 400
    assert message(response)


@pytest.mark.parametrize(
    "content",
    [
        document(OCI, entry(OCI_AMD64, mediaType=DOCKER_MANIFEST)),
        content_of({**json.loads(OCI.content), "manifests": None}),
    ],
)
def test_an_oci_index_is_refused_with_an_entry_of_another_type_and_without_entries(
    stocked: Peer, content: bytes
) -> None:
    assert stocked.put(NAME, "latest", content, OCI_INDEX).status_code == 400


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(document(OCI, entry(OCI_AMD64, platform=None)), id="no platform"),
        pytest.param(document(OCI, entry(AMD64), entry(OCI_AMD64)), id="mixed children"),
        pytest.param(document(OCI, entry(OCI)), id="nested"),
        pytest.param(document(OCI, entry(OCI_AMD64), annotations={"a": "b"}), id="annotations"),
        pytest.param(
            document(OCI, entry(OCI_AMD64), subject={**OCI_AMD64.descriptor, "digest": ABSENT}),
            id="absent subject",
        ),
        pytest.param(document(OCI, entry(OCI_AMD64), mediaType=None), id="no mediaType"),
        pytest.param(document(OCI), id="no entries"),
        pytest.param(document(OCI, entry(OCI_AMD64), entry(OCI_AMD64)), id="entries twice"),
    ],
)
def test_an_oci_index_is_taken_with(stocked: Peer, content: bytes) -> None:
    assert stocked.put(NAME, "latest", content, OCI_INDEX).status_code == 201
    assert stocked.get(NAME, "latest", OCI_INDEX).content == content


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("", 400),
        ("application/json", 400),
        (DOCKER_LIST, 400),
        (OCI_MANIFEST, 400),
        (f"{OCI_INDEX}; charset=utf-8", 415),
        ("text/plain", 415),
    ],
)
def test_the_content_type_must_be_that_of_the_body(
    stocked: Peer, content_type: str, status: int
) -> None:
    response = stocked.put(NAME, "latest", OCI.content, content_type)

    assert (response.status_code, error_codes(response)) == (status, ["MANIFEST_INVALID"])


def test_an_immutable_tag_is_set_once(peer: Peer) -> None:
    peer.upload(NAME, OCI, "v1")

    again = peer.put(NAME, "v1", OCI.content, OCI_INDEX)
    deleted = peer.delete(NAME, "v1")
    by_api = delete_by_api(peer, "v1")
    restored = restore(peer, "v1", OCI.digest)

    for response in (again, deleted):
        assert (response.status_code, error_codes(response)) == (409, ["TAG_IMMUTABLE"])
    for response in (by_api, restored):
        assert (response.status_code, response.json()["error_type"]) == (409, "tag_immutable")
    (row,) = history(peer, "?specificTag=v1").json()["tags"]
    assert row["immutable"] is True


# What else a running Quay does


def test_a_tag_expires_until_it_is_written_again(stocked: Peer, clock: Clock) -> None:
    body = {"expiration": int(clock.now) + 60}
    for tag in ("oci", "docker"):
        path = f"/api/v1/repository/{NAME}/tag/{tag}"
        assert stocked.once("PUT", path, API, content_of(body)).status_code == 201
    (row,) = history(stocked, "?specificTag=oci").json()["tags"]
    assert row["end_ts"] == body["expiration"]

    stocked.put(NAME, "docker", DOCKER.content, DOCKER_LIST)
    clock.now += 61

    assert error_codes(stocked.get(NAME, "oci", EVERY_TYPE)) == ["TAG_EXPIRED"]
    assert stocked.get(NAME, "docker", EVERY_TYPE).status_code == 200


def test_failed_logins_lock_an_account_but_no_robot() -> None:
    users = {"alice": "wonderland", "alice+robot": "token"}
    with RegistryServer(dialect=QuayDialect(), auth="token", users=users) as server:
        peer, scope = Peer(url=server.url), f"repository:{NAME}:pull"
        answers = [
            peer.ask_token([scope], (user, password))
            for user, right in users.items()
            for password in ("wrong", right)
        ]

    assert [each.status_code for each in answers] == [401, 429, 401, 200]
    assert answers[1].headers["Content-Type"].startswith("text/html")
    assert answers[1].headers["Retry-After"].isdigit()


def test_a_challenge_names_both_rights_and_no_error(peer: Peer) -> None:
    token = peer.token([f"repository:{NAME}:pull"])

    response = peer.once("PUT", f"/v2/{NAME}/manifests/latest", token)

    assert wanted_rights(response) == {(NAME, "pull"), (NAME, "push")}
    assert "error" not in challenge(response)
    assert peer.ask_token([]).status_code == 401


@pytest.mark.parametrize("kind", ["caches", "read_only"])
def test_some_repositories_are_not_written(kind: str) -> None:
    dialect = QuayDialect(caches=NAME) if kind == "caches" else QuayDialect(read_only=NAME)
    with RegistryServer(dialect=dialect, auth="token", users=dict([CREDENTIALS])) as server:
        server.put_manifest(NAME, "latest", OCI.content, OCI_INDEX)
        for child in OCI.children:
            server.put_manifest(NAME, child.digest, child.content, child.media_type)
        peer = Peer(url=server.url, credentials=CREDENTIALS)
        other = document(OCI, entry(OCI_AMD64))

        response = peer.put(NAME, "latest", other, OCI_INDEX)

        assert response.status_code == (201 if kind == "caches" else 401)
        assert server.manifest(NAME, "latest").content == OCI.content


def test_nginx_lets_no_more_pass_than_its_rate() -> None:
    with RegistryServer(dialect=QuayDialect(rate=0.01)) as server:
        answers = [Peer(url=server.url).get(NAME, "latest") for _ in range(13)]

    assert [each.status_code for each in answers] == [404] * 11 + [429] * 2
    assert "Retry-After" not in answers[-1].headers
    assert answers[-1].content.startswith(b"<html>")


def test_make_runs_the_contract_and_the_laws_on_a_quay() -> None:
    """The dialect stands for one that runs elsewhere."""
    users, grants = {"robin": "hood"}, {"robin": ["forest/*"]}
    with RegistryServer(
        dialect=QuayDialect("api-token"), auth="token", users=users, grants=grants
    ) as server:
        login = {"QUAY_USER": "robin", "QUAY_PASSWORD": "hood", "QUAY_ORGANISATION": "forest"}
        done = subprocess.run(
            ["make", "quay", f"QUAY_URL={server.url}", f"BIN={BIN}", "-o", ".venv/.dev"],
            env={**os.environ, **login, "QUAY_API_TOKEN": "api-token", "CI": ""},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        assert len([r for r in server.requests if "/v2/forest/mlmerge-" in r.path]) > 100


# Blobs


@pytest.mark.parametrize(
    ("source", "scopes", "status"),
    [
        ("alice/source", ["alice/source"], 201),
        ("alice/source", [], 202),
        ("bob/source", ["bob/source"], 202),
        ("public/source", [], 202),
        ("public/source", ["public/source"], 201),
    ],
)
def test_a_mount_takes_a_token_for_its_source(
    peer: Peer, quay: RegistryServer, source: str, scopes: list[str], status: int
) -> None:
    digest = quay.put_blob(source, b"content")
    asked = [f"repository:{NAME}:pull,push", *(f"repository:{name}:pull" for name in scopes)]

    path = f"/v2/{NAME}/blobs/uploads/?mount={digest}&from={source}"
    response = peer.once("POST", path, peer.token(asked))

    assert response.status_code == status


# Reachability


def lonely(tag: str) -> bytes:
    """Return an index that nothing else refers to."""
    return document(OCI, entry(OCI_AMD64), annotations={"for": tag})


@pytest.mark.parametrize(("by_digest", "seconds"), [(False, 0), (True, 3600)])
def test_an_overwritten_index_is_gone_unless_it_was_put_by_digest_within_the_hour(
    stocked: Peer, clock: Clock, by_digest: bool, seconds: int
) -> None:
    digest = digest_of(lonely("latest"))
    for reference in [digest, "latest"] if by_digest else ["latest"]:
        stocked.put(NAME, reference, lonely("latest"), OCI_INDEX)
    assert stocked.head(NAME, digest).status_code == 200
    stocked.put(NAME, "latest", OCI.content, OCI_INDEX)

    if by_digest:
        clock.now += seconds - 1
        assert stocked.head(NAME, digest).status_code == 200
        clock.now += 2
    response = stocked.get(NAME, digest, EVERY_TYPE)
    assert (response.status_code, error_codes(response)) == (404, ["MANIFEST_UNKNOWN"])


def test_a_child_is_reachable_through_its_index(stocked: Peer) -> None:
    assert stocked.head(NAME, OCI.children[1].digest).status_code == 200

    for tag in ("oci", "oci-arm"):
        stocked.delete(NAME, tag)

    assert stocked.head(NAME, OCI.children[1].digest).status_code == 404


def test_a_child_that_seems_gone_is_revived_by_a_put_of_its_list(peer: Peer, clock: Clock) -> None:
    child = OCI.children[0]
    peer.upload(NAME, child, "child")
    peer.delete(NAME, "child")
    for method in ("GET", "HEAD"):
        path = f"/v2/{NAME}/manifests/{child.digest}"
        assert peer.send(method, path).status_code == 404

    assert peer.put(NAME, "latest", lonely("latest"), OCI_INDEX).status_code == 201

    assert peer.head(NAME, child.digest).status_code == 200
    peer.delete(NAME, "latest")
    clock.now += 299
    assert peer.head(NAME, child.digest).status_code == 200
    clock.now += 2
    assert peer.head(NAME, child.digest).status_code == 404


# Tags and their history


def history(peer: Peer, query: str = "") -> requests.Response:
    return peer.once("GET", f"/api/v1/repository/{NAME}/tag/{query}", API)


def test_every_put_adds_to_the_history_in_whole_seconds(
    stocked: Peer, quay: RegistryServer, clock: Clock
) -> None:
    start = int(clock.now)
    for index in (OCI, OCI, DOCKER):
        stocked.put(NAME, "latest", index.content, index.media_type)
        clock.now += 10

    page = history(stocked, "?specificTag=latest&onlyActiveTags=false").json()
    first = history(stocked, "?specificTag=latest&onlyActiveTags=false&limit=1").json()

    rows = [(row["manifest_digest"], row["start_ts"], row.get("end_ts")) for row in page["tags"]]
    assert first == {"tags": page["tags"][:1], "page": 1, "has_additional": True}
    assert rows == [
        (DOCKER.digest, start + 20, None),
        (OCI.digest, start + 10, start + 20),
        (OCI.digest, start, start + 10),
    ]
    assert list(quay.history(NAME, "latest")) == rows
    assert {row["name"] for row in history(stocked).json()["tags"]} == {*STOCK, "latest"}


def test_the_history_is_for_holders_of_the_api_token(stocked: Peer) -> None:
    path = f"/api/v1/repository/{NAME}/tag/"
    basic = {"Authorization": "Basic YWxpY2U6d29uZGVybGFuZA=="}

    for headers in ({}, basic, stocked.token([f"repository:{NAME}:pull"])):
        refused = 403 if "Bearer" in str(headers) else 401  # for what it takes for a forgery
        assert stocked.once("GET", path, headers).status_code == 401
        assert stocked.once("POST", f"{path}oci/restore", headers).status_code == refused
        assert stocked.once("DELETE", f"{path}oci", headers).status_code == refused
    assert stocked.head(NAME, "oci", OCI_INDEX).status_code == 200


def restore(peer: Peer, tag: str, digest: str) -> requests.Response:
    body = content_of({"manifest_digest": digest})
    return peer.once("POST", f"/api/v1/repository/{NAME}/tag/{tag}/restore", API, body)


def test_a_tag_is_restored_to_an_earlier_digest(stocked: Peer, quay: RegistryServer) -> None:
    stocked.put(NAME, "oci", DOCKER.content, DOCKER_LIST)

    response = restore(stocked, "oci", OCI.digest)

    assert response.status_code == 200
    assert stocked.get(NAME, "oci", OCI_INDEX).content == OCI.content
    named = [period.digest for period in quay.history(NAME, "oci")]
    assert named == [OCI.digest, DOCKER.digest, OCI.digest]


def test_a_manifest_that_is_gone_is_restored_under_a_new_tag(stocked: Peer, clock: Clock) -> None:
    stocked.put(NAME, "latest", lonely("latest"), OCI_INDEX)
    digest = digest_of(lonely("latest"))
    stocked.put(NAME, "latest", OCI.content, OCI_INDEX)
    clock.now += 3601
    assert stocked.head(NAME, digest).status_code == 404

    assert restore(stocked, "found", digest).status_code == 200
    assert restore(stocked, "found", ABSENT).status_code == 404

    assert stocked.get(NAME, "found", OCI_INDEX).content == lonely("latest")
    assert stocked.head(NAME, digest).status_code == 200
    (row,) = history(stocked, "?specificTag=found").json()["tags"]
    assert row["manifest_digest"] == digest


def delete_by_api(peer: Peer, tag: str) -> requests.Response:
    return peer.once("DELETE", f"/api/v1/repository/{NAME}/tag/{tag}", API)


def test_a_tag_is_deleted_by_the_api(stocked: Peer, quay: RegistryServer, clock: Clock) -> None:
    clock.now += 10

    response = delete_by_api(stocked, "oci")

    assert (response.status_code, response.content) == (204, b"")
    assert error_codes(stocked.get(NAME, "oci", EVERY_TYPE)) == ["TAG_EXPIRED"]
    assert [period.end for period in quay.history(NAME, "oci")] == [int(clock.now)]
    assert delete_by_api(stocked, "oci").status_code == 404
    assert delete_by_api(stocked, "missing").status_code == 404
