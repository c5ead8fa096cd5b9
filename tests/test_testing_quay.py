"""The embedded registry as Quay: one test for each row of what a running Quay answered."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import requests
from attrs import define

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

NAME = "alice/images"
CREDENTIALS = ("alice", "wonderland")
API = {"Authorization": "Bearer api-token"}
ABSENT = "sha256:" + "a" * 64

OCI = make_index([make_image(), make_image("linux/arm64")])
DOCKER = make_index(
    [make_image(docker=True), make_image("linux/arm64", docker=True)],
    docker=True,
)


@define
class Clock:
    """A clock that stands still until it is told otherwise."""

    now: float = 1_700_000_000.9

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def quay(clock: Clock) -> Iterator[RegistryServer]:
    with RegistryServer(
        dialect="quay",
        auth="token",
        users={"alice": "wonderland", "bob": "builder"},
        grants={"alice": ["alice/*"], "bob": ["bob/*"]},
        public=["public/*"],
        api_token="api-token",
        token_seconds=30 * 24 * 3600,
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
    return encode({name: value for name, value in changed.items() if value is not None})


def message(response: requests.Response) -> str:
    """Return why a manifest is invalid."""
    (error,) = response.json()["errors"]
    assert error["code"] == "MANIFEST_INVALID"
    return str(error["detail"]["message"])


def is_html(response: requests.Response) -> bool:
    return response.headers["Content-Type"].startswith("text/html")


# Tokens


def test_the_root_answers_a_stranger_with_a_bare_true(peer: Peer) -> None:
    response = peer.once("GET", "/v2/")

    assert (response.status_code, response.content) == (401, b"true")
    assert challenge(response) == {"realm": f"{peer.url}/v2/auth", "service": peer.host}


def test_the_root_sends_a_challenge_even_when_it_lets_in(peer: Peer) -> None:
    response = peer.send("GET", "/v2/")

    assert response.status_code == 200
    assert challenge(response)["realm"] == f"{peer.url}/v2/auth"


def test_a_token_reply_has_nothing_but_the_token(peer: Peer) -> None:
    reply = peer.ask_token([f"repository:{NAME}:pull"], CREDENTIALS)

    assert list(reply.json()) == ["token"]


def test_tokens_are_not_given_to_posts(peer: Peer) -> None:
    assert peer.once("POST", "/v2/auth").status_code == 405


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


def test_one_token_serves_repeated_scopes(peer: Peer, quay: RegistryServer) -> None:
    for name in (NAME, "alice/other"):
        quay.put_manifest(name, "latest", OCI.content, OCI_INDEX)
    token = peer.token([f"repository:{NAME}:pull", "repository:alice/other:pull"])

    for name in (NAME, "alice/other"):
        path = f"/v2/{name}/manifests/latest"
        assert peer.once("GET", path, {**token, "Accept": OCI_INDEX}).status_code == 200


def test_missing_rights_show_only_when_the_token_is_used(peer: Peer) -> None:
    reply = peer.ask_token(["repository:bob/images:pull,push"], CREDENTIALS)
    token = {"Authorization": f"Bearer {reply.json()['token']}"}

    response = peer.once("PUT", "/v2/bob/images/manifests/latest", token)

    assert (reply.status_code, response.status_code) == (200, 401)


def test_a_wrong_password_gets_no_token(peer: Peer) -> None:
    assert peer.ask_token([], ("alice", "guess")).status_code == 401


def test_asking_for_the_right_to_push_makes_the_repository(peer: Peer) -> None:
    before = peer.get(NAME, "latest", EVERY_TYPE)
    peer.token([f"repository:{NAME}:pull,push"])
    after = peer.get(NAME, "latest", EVERY_TYPE)

    assert (before.status_code, error_codes(before)) == (404, ["NAME_UNKNOWN"])
    assert (after.status_code, error_codes(after)) == (404, ["MANIFEST_UNKNOWN"])


@pytest.mark.parametrize("scope", [f"repository:{NAME}:pull", "repository:bob/images:pull,push"])
def test_asking_for_less_makes_nothing(peer: Peer, quay: RegistryServer, scope: str) -> None:
    peer.token([scope])

    for name in (NAME, "bob/images"):
        with pytest.raises(KeyError):
            quay.history(name, "latest")


def test_a_token_expires_unannounced(peer: Peer, clock: Clock) -> None:
    token = peer.token([f"repository:{NAME}:pull"])
    clock.now += 30 * 24 * 3600

    response = peer.once("GET", f"/v2/{NAME}/manifests/latest", token)

    assert (response.status_code, challenge(response)["error"]) == (401, "invalid_token")


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
        assert "ETag" not in response.headers


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
def test_others_get_schema_1_under_a_digest_that_does_not_exist(
    stocked: Peer,
    tag: str,
    accept: str,
) -> None:
    response = stocked.get(NAME, tag, accept)

    assert (response.status_code, response.headers["Content-Type"]) == (200, SCHEMA_1)
    digest = response.headers["Docker-Content-Digest"]
    assert stocked.get(NAME, digest, EVERY_TYPE).status_code == 404
    assert stocked.head(NAME, tag, accept).headers["Docker-Content-Digest"] == digest


@pytest.mark.parametrize("accept", ["", "*/*", DOCKER_MANIFEST, OCI_MANIFEST, "other"])
@pytest.mark.parametrize("tag", ["oci-arm", "docker-arm"])
def test_a_tag_without_amd64_does_not_exist_for_others(
    stocked: Peer,
    tag: str,
    accept: str,
) -> None:
    other_list = DOCKER_LIST if tag == "oci-arm" else OCI_INDEX
    response = stocked.get(NAME, tag, other_list if accept == "other" else accept)

    assert (response.status_code, error_codes(response)) == (404, ["MANIFEST_UNKNOWN"])
    assert stocked.get(NAME, tag, EVERY_TYPE).status_code == 200


@pytest.mark.parametrize("accept", ["", "*/*", DOCKER_MANIFEST])
@pytest.mark.parametrize("index", [OCI, DOCKER], ids=["oci", "docker"])
def test_by_digest_the_accept_header_does_not_matter(
    stocked: Peer,
    index: ImageIndex,
    accept: str,
) -> None:
    assert stocked.get(NAME, index.digest, accept).content == index.content


def test_a_tag_that_never_was_is_unknown(stocked: Peer) -> None:
    response = stocked.get(NAME, "missing", EVERY_TYPE)

    assert (response.status_code, error_codes(response)) == (404, ["MANIFEST_UNKNOWN"])


def test_a_deleted_tag_has_expired(stocked: Peer) -> None:
    assert stocked.delete(NAME, "oci").status_code == 202

    response = stocked.get(NAME, "oci", EVERY_TYPE)

    assert (response.status_code, error_codes(response)) == (404, ["TAG_EXPIRED"])


@pytest.mark.parametrize("reference", ["bad+tag", "t" * 129, "sha256:12", "-"])
def test_a_malformed_reference_leads_to_a_page(peer: Peer, reference: str) -> None:
    response = peer.get(NAME, reference, EVERY_TYPE)

    assert (response.status_code, is_html(response)) == (404, True)


@pytest.mark.parametrize("exists", [False, True], ids=["missing", "private"])
def test_a_foreign_repository_is_unauthorized_with_a_scoped_challenge(
    peer: Peer,
    quay: RegistryServer,
    exists: bool,
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


def test_a_put_answers_with_a_relative_location(stocked: Peer) -> None:
    response = stocked.put(NAME, "latest", OCI.content, OCI_INDEX)

    assert response.status_code == 201
    assert response.headers["Location"] == f"/v2/{NAME}/manifests/{OCI.digest}"
    assert response.headers["Docker-Content-Digest"] == OCI.digest


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
        document(DOCKER, entry(AMD64, platform=None)),
        document(DOCKER, entry(AMD64, platform=WITHOUT_OS)),
        document(DOCKER, entry(OCI_AMD64)),
        document(DOCKER, entry(OCI_AMD64, mediaType=DOCKER_MANIFEST)),
        document(DOCKER, entry(DOCKER, platform={**WITHOUT_OS, "os": "linux"})),
        document(DOCKER, entry(AMD64), mediaType=None),
        document(DOCKER, entry(AMD64), schemaVersion=1),
        document(DOCKER, entry(AMD64), manifests=None),
        document(DOCKER, entry(AMD64), mediaType=OCI_INDEX),
        b"{not json",
        b"[" * 100_000,
    ],
    ids=[
        "no platform",
        "no os",
        "oci child",
        "oci child called docker",
        "nested list",
        "no mediaType",
        "schemaVersion",
        "no manifests",
        "another mediaType",
        "not json",
        "deep nesting",
    ],
)
def test_a_docker_list_may_not_be(stocked: Peer, content: bytes) -> None:
    response = stocked.put(NAME, "latest", content, DOCKER_LIST)

    assert response.status_code == 400
    assert message(response)


def test_the_answer_to_a_wrong_shape_quotes_the_whole_document(stocked: Peer) -> None:
    content = document(DOCKER, *[entry(AMD64, platform=None)] * 60)

    response = stocked.put(NAME, "latest", content, DOCKER_LIST)

    assert len(message(response)) > len(content) > 10_000


@pytest.mark.parametrize(
    "content",
    [
        document(OCI, entry(OCI_AMD64, platform=None)),
        document(OCI, entry(AMD64)),
        document(OCI, entry(AMD64), entry(OCI_AMD64)),
        document(OCI, entry(OCI)),
        document(OCI, entry(OCI_AMD64), annotations={"a": "b"}),
        document(OCI, entry(OCI_AMD64), subject={**OCI_AMD64.descriptor, "digest": ABSENT}),
        document(OCI, entry(OCI_AMD64), mediaType=None),
        document(OCI),
        document(OCI, entry(OCI_AMD64), entry(OCI_AMD64)),
    ],
    ids=[
        "no platform",
        "docker child",
        "mixed children",
        "nested",
        "annotations",
        "absent subject",
        "no mediaType",
        "no entries",
        "duplicate platforms",
    ],
)
def test_an_oci_index_may_be(stocked: Peer, content: bytes) -> None:
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
    stocked: Peer,
    content_type: str,
    status: int,
) -> None:
    response = stocked.put(NAME, "latest", OCI.content, content_type)

    assert (response.status_code, error_codes(response)) == (status, ["MANIFEST_INVALID"])


def test_an_image_needs_its_blobs(peer: Peer) -> None:
    image = make_image()

    response = peer.put(NAME, "latest", image.content, image.media_type)

    assert response.status_code == 400
    assert next(iter(image.blobs)) in message(response)


def test_an_upload_with_attestations_is_taken(peer: Peer) -> None:
    image = make_image()
    attested = make_index([image, make_attestation(image), make_attestation(image, artifact=True)])

    peer.upload(NAME, attested, "latest")

    assert peer.get(NAME, "latest", OCI_INDEX).content == attested.content


def test_a_put_by_another_digest_is_refused(stocked: Peer) -> None:
    response = stocked.put(NAME, ABSENT, OCI.content, OCI_INDEX)

    assert (response.status_code, error_codes(response)) == (400, ["DIGEST_INVALID"])


@pytest.mark.parametrize("header", ["If-Match", "If-None-Match"])
def test_preconditions_are_ignored(stocked: Peer, header: str) -> None:
    path = f"/v2/{NAME}/manifests/oci"
    headers = {"Content-Type": OCI_INDEX, header: f'"{ABSENT}"'}
    assert stocked.send("PUT", path, headers, OCI.content).status_code == 201

    headers = {"Accept": OCI_INDEX, header: f'"{OCI.digest}"'}
    assert stocked.send("GET", path, headers).status_code == 200


def test_an_immutable_tag_is_set_once(peer: Peer) -> None:
    peer.upload(NAME, OCI, "v1")

    again = peer.put(NAME, "v1", OCI.content, OCI_INDEX)
    deleted = peer.delete(NAME, "v1")

    assert (again.status_code, error_codes(again)) == (409, ["TAG_IMMUTABLE"])
    assert (deleted.status_code, error_codes(deleted)) == (409, ["TAG_IMMUTABLE"])


# Blobs


def test_a_blob_can_be_sent_with_the_post(peer: Peer) -> None:
    digest = digest_of(b"content")

    path = f"/v2/{NAME}/blobs/uploads/?digest={digest}"
    assert peer.send("POST", path, {}, b"content").status_code == 201
    assert peer.send("GET", f"/v2/{NAME}/blobs/{digest}").content == b"content"


def test_upload_locations_are_absolute(peer: Peer) -> None:
    location = peer.start_upload(NAME).headers["Location"]

    assert location.startswith(f"{peer.url}/v2/{NAME}/blobs/uploads/")


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
    peer: Peer,
    quay: RegistryServer,
    source: str,
    scopes: list[str],
    status: int,
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


def test_an_overwritten_index_is_gone_at_once(stocked: Peer) -> None:
    stocked.put(NAME, "latest", lonely("latest"), OCI_INDEX)
    digest = digest_of(lonely("latest"))
    assert stocked.head(NAME, digest).status_code == 200

    stocked.put(NAME, "latest", OCI.content, OCI_INDEX)

    response = stocked.get(NAME, digest, EVERY_TYPE)
    assert (response.status_code, error_codes(response)) == (404, ["MANIFEST_UNKNOWN"])


def test_an_overwritten_index_stays_for_an_hour_if_it_was_put_by_digest(
    stocked: Peer,
    clock: Clock,
) -> None:
    digest = digest_of(lonely("latest"))
    for reference in (digest, "latest"):
        stocked.put(NAME, reference, lonely("latest"), OCI_INDEX)
    stocked.put(NAME, "latest", OCI.content, OCI_INDEX)

    clock.now += 3599
    assert stocked.head(NAME, digest).status_code == 200
    clock.now += 2
    assert stocked.head(NAME, digest).status_code == 404


def test_an_overwritten_index_stays_under_another_tag(stocked: Peer) -> None:
    for tag in ("latest", "anchor"):
        stocked.put(NAME, tag, lonely("latest"), OCI_INDEX)
    stocked.put(NAME, "latest", OCI.content, OCI_INDEX)

    assert stocked.head(NAME, digest_of(lonely("latest"))).status_code == 200


def test_a_child_is_reachable_through_its_index(stocked: Peer) -> None:
    assert stocked.head(NAME, OCI.children[1].digest).status_code == 200

    for tag in ("oci", "oci-arm"):
        stocked.delete(NAME, tag)

    assert stocked.head(NAME, OCI.children[1].digest).status_code == 404


def test_a_child_that_seems_gone_is_revived_by_a_put_of_its_list(
    peer: Peer,
    clock: Clock,
) -> None:
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


def test_deleting_a_digest_takes_its_tags_along(stocked: Peer) -> None:
    assert stocked.delete(NAME, OCI.digest).status_code == 202

    assert error_codes(stocked.get(NAME, "oci", EVERY_TYPE)) == ["TAG_EXPIRED"]


# Tags and their history


def tag_list(peer: Peer, query: str = "") -> requests.Response:
    return peer.send("GET", f"/v2/{NAME}/tags/list{query}")


def test_tags_come_in_pages(peer: Peer, quay: RegistryServer) -> None:
    for number in range(60):
        quay.put_manifest(NAME, f"t{number:02}", OCI.content, OCI_INDEX)

    first = tag_list(peer)
    second = peer.send("GET", first.links["next"]["url"])

    assert first.json()["tags"] == [f"t{number:02}" for number in range(50)]
    assert second.json()["tags"] == [f"t{number}" for number in range(50, 60)]
    assert "Link" not in second.headers


@pytest.mark.parametrize(
    ("query", "tags", "following"),
    [
        ("?n=2", ["a", "b"], f"/v2/{NAME}/tags/list?n=2&last=b"),
        ("?n=2&last=a", ["b", "c"], None),
        ("?n=junk", ["a", "b", "c"], None),
        ("?last=c", [], None),
    ],
)
def test_a_page_of_tags_is_as_long_as_asked_for(
    peer: Peer,
    quay: RegistryServer,
    query: str,
    tags: list[str],
    following: str | None,
) -> None:
    for tag in "abc":
        quay.put_manifest(NAME, tag, OCI.content, OCI_INDEX)

    response = tag_list(peer, query)

    assert response.json() == {"name": NAME, "tags": tags}
    assert response.links.get("next", {}).get("url") == following


def test_tags_that_were_all_deleted_are_an_empty_list(
    peer: Peer,
    quay: RegistryServer,
) -> None:
    quay.put_manifest(NAME, "latest", OCI.content, OCI_INDEX)
    quay.delete_tag(NAME, "latest")

    assert tag_list(peer).json() == {"name": NAME, "tags": []}


def history(peer: Peer, query: str = "") -> requests.Response:
    return peer.once("GET", f"/api/v1/repository/{NAME}/tag/{query}", API)


def test_every_put_adds_to_the_history_in_whole_seconds(
    stocked: Peer,
    quay: RegistryServer,
    clock: Clock,
) -> None:
    start = int(clock.now)
    for index in (OCI, OCI, DOCKER):
        stocked.put(NAME, "latest", index.content, index.media_type)
        clock.now += 10

    page = history(stocked, "?specificTag=latest&onlyActiveTags=false").json()

    rows = [(row["manifest_digest"], row["start_ts"], row.get("end_ts")) for row in page["tags"]]
    assert rows == [
        (DOCKER.digest, start + 20, None),
        (OCI.digest, start + 10, start + 20),
        (OCI.digest, start, start + 10),
    ]
    assert list(quay.history(NAME, "latest")) == rows
    assert (page["page"], page["has_additional"]) == (1, False)


def test_a_row_of_the_history_says_what_it_is_about(stocked: Peer) -> None:
    stocked.upload(NAME, OCI_AMD64, "image")

    rows = {row["name"]: row for row in history(stocked).json()["tags"]}

    assert rows["oci"]["is_manifest_list"] is True
    assert rows["image"]["is_manifest_list"] is False
    assert rows["image"]["reversion"] is False
    assert rows["image"]["last_modified"] == "Tue, 14 Nov 2023 22:13:20 -0000"
    assert "expiration" not in rows["image"]


def test_only_active_tags_may_be_asked_for(stocked: Peer, clock: Clock) -> None:
    stocked.delete(NAME, "oci")

    active = history(stocked, "?onlyActiveTags=true").json()["tags"]
    (deleted,) = history(stocked, "?specificTag=oci").json()["tags"]

    assert {row["name"] for row in active} == {"docker", "oci-arm", "docker-arm"}
    assert deleted["end_ts"] == int(clock.now)
    assert deleted["expiration"] == "Tue, 14 Nov 2023 22:13:20 -0000"


@pytest.mark.parametrize(
    ("query", "tags"),
    [
        ("?filter_tag_name=eq:oci", {"oci"}),
        ("?filter_tag_name=like:arm", {"oci-arm", "docker-arm"}),
        ("?filter_tag_name=like:arm&specificTag=oci-arm", {"oci-arm"}),
        ("?filter_tag_name=odd:oci&onlyActiveTags=1", {"docker", "oci-arm", "docker-arm"}),
        ("?specificTag=oc", set()),
    ],
)
def test_the_history_of_some_tags_may_be_asked_for(
    stocked: Peer, query: str, tags: set[str]
) -> None:
    stocked.delete(NAME, "oci")

    assert {row["name"] for row in history(stocked, query).json()["tags"]} == tags


def test_a_filter_of_another_form_is_refused(stocked: Peer) -> None:
    response = history(stocked, "?filter_tag_name=oci")

    assert response.status_code == 400
    assert "filter_tag_name" in response.json()["error_message"]


@pytest.mark.parametrize(
    ("query", "count", "more"),
    [
        ("", 50, True),
        ("?limit=7", 7, True),
        ("?limit=0", 1, True),
        ("?limit=1000", 100, True),
        ("?limit=100&page=2", 20, False),
        ("?limit=60&page=2", 60, False),
        ("?page=4", 0, False),
    ],
)
def test_the_history_comes_in_pages(
    peer: Peer,
    quay: RegistryServer,
    query: str,
    count: int,
    more: bool,
) -> None:
    for _ in range(120):
        quay.put_manifest(NAME, "latest", OCI.content, OCI_INDEX)

    page = history(peer, query).json()

    assert (len(page["tags"]), page["has_additional"]) == (count, more)


def test_the_history_is_for_holders_of_the_api_token(stocked: Peer) -> None:
    path = f"/api/v1/repository/{NAME}/tag/"
    basic = {"Authorization": "Basic YWxpY2U6d29uZGVybGFuZA=="}

    for headers in ({}, basic, stocked.token([f"repository:{NAME}:pull"])):
        assert stocked.once("GET", path, headers).status_code == 401
        assert stocked.once("POST", f"{path}oci/restore", headers).status_code == 401
        assert stocked.once("DELETE", f"{path}oci", headers).status_code == 401
    assert stocked.head(NAME, "oci", OCI_INDEX).status_code == 200


def test_without_an_api_token_nobody_gets_the_history() -> None:
    with RegistryServer(dialect="quay") as registry:
        registry.put_manifest(NAME, "latest", OCI.content, OCI_INDEX)
        headers = {"Authorization": "Bearer None"}

        path = f"/api/v1/repository/{NAME}/tag/"
        assert Peer(url=registry.url).once("GET", path, headers).status_code == 401


def test_a_missing_repository_has_no_history(peer: Peer) -> None:
    assert history(peer).status_code == 404
    assert restore(peer, "latest", encode({"manifest_digest": OCI.digest})).status_code == 404
    assert delete_by_api(peer, "latest").status_code == 404


def restore(peer: Peer, tag: str, body: bytes) -> requests.Response:
    return peer.once("POST", f"/api/v1/repository/{NAME}/tag/{tag}/restore", API, body)


def test_a_tag_is_restored_to_what_it_named(stocked: Peer, quay: RegistryServer) -> None:
    stocked.put(NAME, "oci", DOCKER.content, DOCKER_LIST)

    response = restore(stocked, "oci", encode({"manifest_digest": OCI.digest}))

    assert response.status_code == 200
    assert stocked.get(NAME, "oci", OCI_INDEX).content == OCI.content
    named = [period.digest for period in quay.history(NAME, "oci")]
    assert named == [OCI.digest, DOCKER.digest, OCI.digest]


def test_the_history_tells_what_was_restored(stocked: Peer) -> None:
    stocked.put(NAME, "oci", DOCKER.content, DOCKER_LIST)
    restore(stocked, "oci", encode({"manifest_digest": OCI.digest}))
    stocked.put(NAME, "oci", DOCKER.content, DOCKER_LIST)

    rows = history(stocked, "?specificTag=oci").json()["tags"]

    told = [(row["manifest_digest"], row["reversion"]) for row in rows]
    assert told == [
        (DOCKER.digest, False),
        (OCI.digest, True),
        (DOCKER.digest, False),
        (OCI.digest, False),
    ]


def test_a_manifest_that_is_gone_is_restored_under_a_new_tag(
    stocked: Peer,
    clock: Clock,
) -> None:
    stocked.put(NAME, "latest", lonely("latest"), OCI_INDEX)
    digest = digest_of(lonely("latest"))
    stocked.put(NAME, "latest", OCI.content, OCI_INDEX)
    clock.now += 3601
    assert stocked.head(NAME, digest).status_code == 404

    assert restore(stocked, "found", encode({"manifest_digest": digest})).status_code == 200

    assert stocked.get(NAME, "found", OCI_INDEX).content == lonely("latest")
    assert stocked.head(NAME, digest).status_code == 200
    (row,) = history(stocked, "?specificTag=found").json()["tags"]
    assert (row["manifest_digest"], row["reversion"]) == (digest, True)


def test_a_manifest_of_another_repository_is_not_restored(stocked: Peer) -> None:
    stocked.upload("alice/other", OCI_AMD64, "image")
    stocked.upload("alice/other", make_index([OCI_AMD64]), "latest")
    digest = make_index([OCI_AMD64]).digest

    assert restore(stocked, "latest", encode({"manifest_digest": digest})).status_code == 404


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (encode({"manifest_digest": ABSENT}), 404),
        (encode({"manifest_digest": "latest"}), 404),
        (encode({"manifest_digest": 5}), 400),
        (b"[]", 400),
        (b"{not json", 400),
    ],
)
def test_a_tag_is_not_restored_to_anything_else(
    stocked: Peer,
    quay: RegistryServer,
    body: bytes,
    status: int,
) -> None:
    assert restore(stocked, "oci", body).status_code == status
    assert quay.manifest(NAME, "oci").digest == OCI.digest


def test_an_immutable_tag_is_not_restored(peer: Peer) -> None:
    peer.upload(NAME, OCI, "v1")

    response = restore(peer, "v1", encode({"manifest_digest": OCI.digest}))

    assert response.status_code == 409


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


def test_an_immutable_tag_is_not_deleted_by_the_api(peer: Peer) -> None:
    peer.upload(NAME, OCI, "v1")

    assert delete_by_api(peer, "v1").status_code == 409
    assert peer.head(NAME, "v1", OCI_INDEX).status_code == 200
