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


def said(response: requests.Response) -> tuple[int, str]:
    """Return the status of an answer, and the code of its one error."""
    (code,) = error_codes(response)
    return response.status_code, code


def message(response: requests.Response) -> str:
    """Return why a manifest is invalid."""
    assert said(response) == (400, "MANIFEST_INVALID")
    return str(response.json()["errors"][0]["detail"]["message"])


# Tokens


@pytest.mark.parametrize(
    ("scope", "status"),
    [
        (f"repository:{NAME}:pull", 200),
        (f"repository:{NAME}:pull repository:alice/other:pull", 400),
        (f"repository:{NAME}:delete", 400),
        (f"repository:{NAME}:pull,unheard-of", 400),
    ],
)
def test_a_token_reply_has_nothing_but_the_token_and_an_unusual_scope_gets_none(
    peer: Peer, scope: str, status: int
) -> None:
    reply = peer.ask_token([scope], CREDENTIALS)

    assert reply.status_code == status
    assert list(reply.json()) == ["token" if status == 200 else "errors"]


@pytest.mark.parametrize(
    ("scope", "code"),
    [
        (f"repository:{NAME}:pull", "NAME_UNKNOWN"),
        (f"repository:{NAME}:pull,push", "MANIFEST_UNKNOWN"),
        ("repository:bob/images:pull,push", "NAME_UNKNOWN"),
    ],
)
def test_asking_for_the_right_to_push_makes_the_repository_where_one_has_it(
    peer: Peer, quay: RegistryServer, scope: str, code: str
) -> None:
    """Missing rights show only when the token is used."""
    token = peer.token([scope])

    assert said(peer.get(NAME, "latest", EVERY_TYPE)) == (404, code)
    assert peer.once("PUT", "/v2/bob/images/manifests/latest", token).status_code == 401
    with pytest.raises(KeyError):
        quay.history("bob/images", "latest")


def test_a_challenge_names_both_rights_and_no_error(peer: Peer) -> None:
    token = peer.token([f"repository:{NAME}:pull"])

    response = peer.once("PUT", f"/v2/{NAME}/manifests/latest", token)

    assert wanted_rights(response) == {(NAME, "pull"), (NAME, "push")}
    assert "error" not in challenge(response)
    assert peer.ask_token([]).status_code == 401


# Reading


STOCK = {"oci": OCI, "docker": DOCKER, "oci-arm": make_index(OCI.children[1:])}


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


@pytest.mark.parametrize("tag", STOCK)
def test_a_tag_is_there_for_clients_that_accept_its_type(stocked: Peer, tag: str) -> None:
    index = STOCK[tag]
    answers = [stocked.get(NAME, tag, f"text/plain, {index.media_type}")]
    answers += [stocked.get(NAME, index.digest, accept) for accept in ("", "*/*", DOCKER_MANIFEST)]

    for response in answers:
        assert response.content == index.content
        assert response.headers["Content-Type"] == index.media_type
        assert response.headers["Docker-Content-Digest"] == index.digest
    for accept in ("", "*/*", "application/json", DOCKER_MANIFEST, OCI_MANIFEST):
        assert said(stocked.get(NAME, tag, accept)) == (404, "MANIFEST_UNKNOWN")


@pytest.mark.parametrize("exists", [False, True], ids=["missing", "private"])
def test_a_foreign_repository_is_unauthorized_with_a_scoped_challenge(
    peer: Peer, quay: RegistryServer, exists: bool
) -> None:
    if exists:
        quay.put_manifest("bob/images", "latest", OCI.content, OCI_INDEX)

    response = peer.get("bob/images", "latest", EVERY_TYPE)

    assert said(response) == (401, "UNAUTHORIZED")
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

    assert message(response) == f"Could not find child manifest with digest `{child.digest}`"
    assert said(stocked.get(NAME, "latest", EVERY_TYPE)) == (404, "MANIFEST_UNKNOWN")


AMD64, OCI_AMD64 = DOCKER.children[0], OCI.children[0]
WITHOUT_OS = {"architecture": "amd64"}
AS_DOCKER = entry(OCI_AMD64, mediaType=DOCKER_MANIFEST)
NESTED = entry(DOCKER, platform={**WITHOUT_OS, "os": "linux"})
OTHER_SUBJECT = {**OCI_AMD64.descriptor, "digest": ABSENT}
NO_ENTRIES = content_of({**json.loads(OCI.content), "manifests": None})
DOCUMENTS = {
    "list": (document(DOCKER, entry(AMD64)), DOCKER_LIST, 201),
    "list, no platform": (document(DOCKER, entry(AMD64, platform=None)), DOCKER_LIST, 400),
    "list, no os": (document(DOCKER, entry(AMD64, platform=WITHOUT_OS)), DOCKER_LIST, 400),
    "list, oci child": (document(DOCKER, entry(OCI_AMD64)), DOCKER_LIST, 400),
    "list, oci child as docker": (document(DOCKER, AS_DOCKER), DOCKER_LIST, 400),
    "list, wrong size": (document(DOCKER, entry(AMD64, size=1)), DOCKER_LIST, 400),
    "list, nested": (document(DOCKER, NESTED), DOCKER_LIST, 400),
    "list, no type": (document(DOCKER, entry(AMD64), mediaType=None), DOCKER_LIST, 400),
    "list, other type": (document(DOCKER, entry(AMD64), mediaType=OCI_INDEX), DOCKER_LIST, 400),
    "list, not json": (b"{not json", DOCKER_LIST, 400),
    "wrong size": (document(OCI, entry(OCI_AMD64, size=1)), OCI_INDEX, 400),
    "child of another type": (document(OCI, AS_DOCKER), OCI_INDEX, 400),
    "null for entries": (NO_ENTRIES, OCI_INDEX, 400),
    "no platform": (document(OCI, entry(OCI_AMD64, platform=None)), OCI_INDEX, 201),
    "mixed children": (document(OCI, entry(AMD64), entry(OCI_AMD64)), OCI_INDEX, 201),
    "nested": (document(OCI, entry(OCI)), OCI_INDEX, 201),
    "annotations": (document(OCI, entry(OCI_AMD64), annotations={"a": "b"}), OCI_INDEX, 201),
    "other subject": (document(OCI, entry(OCI_AMD64), subject=OTHER_SUBJECT), OCI_INDEX, 201),
    "no type": (document(OCI, entry(OCI_AMD64), mediaType=None), OCI_INDEX, 201),
    "no entries": (document(OCI), OCI_INDEX, 201),
    "entries twice": (document(OCI, entry(OCI_AMD64), entry(OCI_AMD64)), OCI_INDEX, 201),
    "unstated": (OCI.content, "", 400),
    "stated as json": (OCI.content, "application/json", 400),
    "stated as list": (OCI.content, DOCKER_LIST, 400),
    "stated as image": (OCI.content, OCI_MANIFEST, 400),
    "stated with parameter": (OCI.content, f"{OCI_INDEX}; charset=utf-8", 415),
    "stated as text": (OCI.content, "text/plain", 415),
}


@pytest.mark.parametrize(
    ("content", "content_type", "status"), DOCUMENTS.values(), ids=list(DOCUMENTS)
)
def test_a_document_is_taken_if_quay_would_take_it(
    stocked: Peer, content: bytes, content_type: str, status: int
) -> None:
    response = stocked.put(NAME, "latest", content, content_type)

    assert response.status_code == status
    if status == 201:
        assert stocked.get(NAME, "latest", content_type).content == content
    else:
        assert said(response) == (status, "MANIFEST_INVALID")
        assert response.json()["errors"][0]["detail"]["message"]


def test_an_immutable_tag_is_set_once(peer: Peer) -> None:
    peer.upload(NAME, OCI, "v1")

    again, deleted = peer.put(NAME, "v1", OCI.content, OCI_INDEX), peer.delete(NAME, "v1")
    by_api = (api(peer, "v1", "DELETE"), restore(peer, "v1", OCI.digest))

    assert said(again) == said(deleted) == (409, "TAG_IMMUTABLE")
    for response in by_api:
        assert (response.status_code, response.json()["error_type"]) == (409, "tag_immutable")
    (row,) = history(peer, "?specificTag=v1")["tags"]
    assert row["immutable"] is True


# What else a running Quay does


def test_a_tag_expires_until_it_is_written_again(stocked: Peer, clock: Clock) -> None:
    body = {"expiration": int(clock.now) + 60}
    for tag in ("oci", "docker"):
        assert api(stocked, tag, "PUT", body).status_code == 201
    (row,) = history(stocked, "?specificTag=oci")["tags"]
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


@pytest.mark.parametrize("by_digest", [False, True])
def test_an_overwritten_index_is_gone_unless_it_was_put_by_digest_within_the_hour(
    stocked: Peer, clock: Clock, by_digest: bool
) -> None:
    digest = digest_of(lonely("latest"))
    for reference in [digest, "latest"] if by_digest else ["latest"]:
        stocked.put(NAME, reference, lonely("latest"), OCI_INDEX)
    assert stocked.head(NAME, digest).status_code == 200
    stocked.put(NAME, "latest", OCI.content, OCI_INDEX)

    if by_digest:
        clock.now += 3599
        assert stocked.head(NAME, digest).status_code == 200
        clock.now += 2
    assert said(stocked.get(NAME, digest, EVERY_TYPE)) == (404, "MANIFEST_UNKNOWN")


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


def api(peer: Peer, path: str, method: str = "GET", document: object = None) -> requests.Response:
    """Send a request to Quay's own API."""
    content = b"" if document is None else content_of(document)
    return peer.once(method, f"/api/v1/repository/{NAME}/tag/{path}", API, content)


def history(peer: Peer, query: str = "") -> dict[str, list[dict[str, object]]]:
    found: dict[str, list[dict[str, object]]] = api(peer, query).json()
    return found


def restore(peer: Peer, tag: str, digest: str) -> requests.Response:
    return api(peer, f"{tag}/restore", "POST", {"manifest_digest": digest})


def test_the_newest_row_of_a_history_comes_first_within_a_second_too(stocked: Peer) -> None:
    for index in (OCI, DOCKER):
        stocked.put(NAME, "latest", index.content, index.media_type)

    rows = history(stocked, "?specificTag=latest")["tags"]
    first = history(stocked, "?specificTag=latest&limit=1")

    assert [row["manifest_digest"] for row in rows] == [DOCKER.digest, OCI.digest]
    assert first == {"tags": rows[:1], "page": 1, "has_additional": True}


def test_the_history_is_for_holders_of_the_api_token(stocked: Peer) -> None:
    path = f"/api/v1/repository/{NAME}/tag/"
    basic = {"Authorization": "Basic YWxpY2U6d29uZGVybGFuZA=="}

    for headers in ({}, basic, stocked.token([f"repository:{NAME}:pull"])):
        refused = 403 if "Bearer" in str(headers) else 401  # for what it takes for a forgery
        assert stocked.once("GET", path, headers).status_code == 401
        assert stocked.once("POST", f"{path}oci/restore", headers).status_code == refused
        assert stocked.once("DELETE", f"{path}oci", headers).status_code == refused
    assert stocked.head(NAME, "oci", OCI_INDEX).status_code == 200


@pytest.mark.parametrize("by_api", [False, True])
def test_a_deleted_tag_has_expired(
    stocked: Peer, quay: RegistryServer, clock: Clock, *, by_api: bool
) -> None:
    clock.now += 10

    response = api(stocked, "oci", "DELETE") if by_api else stocked.delete(NAME, "oci")

    assert (response.status_code, response.content) == (204 if by_api else 202, b"")
    assert said(stocked.get(NAME, "oci", EVERY_TYPE)) == (404, "TAG_EXPIRED")
    assert [period.end for period in quay.history(NAME, "oci")] == [int(clock.now)]
    assert api(stocked, "oci", "DELETE").status_code == 404
