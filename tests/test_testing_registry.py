"""The embedded registry answers each request as docker-registry does, with and without tokens."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping

import pytest
import requests
from attrs import field, frozen

from pubtools_mlmerge.core.manifests import digest_of
from pubtools_mlmerge.testing import (
    Image,
    ImageIndex,
    RegistryServer,
    make_attestation,
    make_image,
    make_index,
)
from pubtools_mlmerge.testing.registry import AuthMode
from tests.factories import content_of
from tests.peers import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    EVERY_TYPE,
    OCI_INDEX,
    OCI_MANIFEST,
    Peer,
    challenge,
    wanted_rights,
)
from tests.servers import TOKEN_PASSWORD, TOKEN_USER, RealRegistry

CREDENTIALS = (TOKEN_USER, TOKEN_PASSWORD)
ABSENT = "sha256:" + "a" * 64
HEADERS = ("Content-Type", "Docker-Content-Digest", "Docker-Distribution-Api-Version", "Allow")
STOCKED = "tests/stocked"
with_tokens = pytest.mark.parametrize("both", ["token"], indirect=True)

OCI = make_index([make_image(), make_image("linux/arm64")])
DOCKER = make_index([make_image(docker=True), make_image("linux/arm64", docker=True)], docker=True)
EMPTY = make_index([])
STOCK = {"oci": OCI, "docker": DOCKER, "oci-image": OCI.children[0]}

numbers = itertools.count()


def facts(response: requests.Response) -> list[object]:
    """Return what clients may rely on in an answer."""
    found: list[object] = [response.status_code]
    headers, is_json = response.headers, "json" in response.headers.get("Content-Type", "")
    if response.status_code >= 400 and is_json and response.content:
        for error in response.json()["errors"]:
            is_detailed = error["message"] in ("manifest unknown", "blob unknown to registry")
            # The real one calls an upload that has ended now the one, now the other.
            code = error["code"].replace("UPLOAD_UNKNOWN", "UPLOAD_INVALID")
            found.append((code, error.get("detail") if is_detailed else None))
        found = [*dict.fromkeys(map(str, found))]
    elif response.request.method == "HEAD" and response.ok:
        found.append(headers["Content-Length"])
    elif response.url.endswith("/tags/list"):
        found.append({**response.json(), "tags": sorted(response.json()["tags"])})
    elif response.ok:
        found.append(response.content)
    if response.status_code == 401:
        parts = challenge(response)
        rights = wanted_rights(response) if "scope" in parts else ()
        found += [sorted(parts), parts.get("error"), sorted(rights)]
    else:
        found += [headers.get(name) for name in HEADERS]
    if "Location" in headers:
        place = headers["Location"].partition("/v2/")[2]
        found += [place.partition("/uploads/")[0], headers.get("Range")]
    return found


@frozen(kw_only=True)
class Both(Peer):
    """The embedded registry, which must answer each request as the real one does."""

    real: Peer
    places: dict[str, str] = field(factory=dict)

    def send(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        content: bytes = b"",
    ) -> requests.Response:
        response = super().send(method, path, headers, content)
        for place, real_place in self.places.items():
            path = path.replace(place, real_place)
        expected = self.real.send(method, path, headers, content)
        assert facts(response) == facts(expected)
        if "/uploads/" in response.headers.get("Location", ""):
            self.places[response.headers["Location"]] = expected.headers["Location"]
        return response

    def with_header(self, header: str, method: str, path: str) -> requests.Response:
        """Send a request once, as it is."""
        headers = {"Authorization": header} if header else {}
        response = self.once(method, path, headers)
        assert facts(response) == facts(self.real.once(method, path, headers))
        return response

    def with_token(
        self, scopes: list[str], method: str, path: str, headers: Mapping[str, str] | None = None
    ) -> int:
        """Send a request with a token for these scopes; return the status of the answer."""
        response, expected = (
            peer.once(method, path, {**peer.token(scopes), **(headers or {})})
            for peer in (Peer(url=self.url, credentials=self.credentials), self.real)
        )
        assert facts(response) == facts(expected)
        return response.status_code

    def upload(self, repository: str, item: Image | ImageIndex, tag: str | None = None) -> str:
        self.real.upload(repository, item, tag)
        return super().upload(repository, item, tag)


@pytest.fixture(scope="module", params=["plain", "token"])
def both(request: pytest.FixtureRequest) -> Iterator[Both]:
    found = request.getfixturevalue(f"docker_registry_{request.param}")
    assert isinstance(found, RealRegistry)
    real = Peer(url=found.url, verify=found.verify, credentials=found.credentials)
    mode: AuthMode = "token" if real.credentials else "none"
    users = {TOKEN_USER: TOKEN_PASSWORD}
    with RegistryServer(auth=mode, users=users, public=["public/*"]) as registry:
        both = Both(url=registry.url, credentials=real.credentials, real=real)
        for tag, item in STOCK.items():
            both.upload(STOCKED, item, tag)
        yield both


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


# Reading


def test_the_root_is_served(both: Both) -> None:
    assert both.send("GET", "/v2/").status_code == 200


@pytest.mark.parametrize("reference", ["oci", "docker", OCI.digest, DOCKER.digest, "oci-image"])
def test_a_manifest_comes_back_with_its_headers(both: Both, reference: str) -> None:
    assert both.get(STOCKED, reference, EVERY_TYPE).status_code == 200
    assert both.head(STOCKED, reference, EVERY_TYPE).status_code == 200


@pytest.mark.parametrize("name", [STOCKED, "tests/absent"])
@pytest.mark.parametrize("reference", ["missing", ABSENT])
def test_a_missing_manifest_is_unknown(both: Both, name: str, reference: str) -> None:
    assert both.get(name, reference, EVERY_TYPE).status_code == 404


@pytest.mark.parametrize("reference", ["oci", OCI.digest, "oci-image"])
@pytest.mark.parametrize(
    "accept",
    [
        *("", "*/*", "application/json", DOCKER_LIST, DOCKER_MANIFEST, OCI_MANIFEST, OCI_INDEX),
        *(f"{OCI_INDEX};q=0.5", f"{DOCKER_LIST}, {OCI_INDEX}", f"{DOCKER_LIST},{OCI_INDEX}"),
    ],
)
def test_what_the_accept_header_does_not_name_is_hidden(
    both: Both, accept: str, reference: str
) -> None:
    both.get(STOCKED, reference, accept)


# Writing


def test_every_missing_child_is_named_and_no_tag_is_made(both: Both, tag: str) -> None:
    index = make_index([OCI.children[0], make_image("linux/s390x"), make_image("linux/ppc64le")])

    assert both.put(STOCKED, tag, index.content, OCI_INDEX).status_code == 400
    assert both.get(STOCKED, tag, OCI_INDEX).status_code == 404


def test_a_child_or_blob_in_another_repository_does_not_count(both: Both, repository: str) -> None:
    assert both.put(repository, "latest", OCI.content, OCI_INDEX).status_code == 400
    assert both.put(repository, "latest", OCI.children[0].content, OCI_MANIFEST).status_code == 400


WITHOUT_PLATFORM = [{k: v for k, v in one.items() if k != "platform"} for one in entries(DOCKER)]


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
    both: Both, tag: str, content: bytes, content_type: str
) -> None:
    assert both.put(STOCKED, tag, content, content_type).status_code == 400


def test_a_put_by_another_digest_is_refused(both: Both) -> None:
    assert both.put(STOCKED, ABSENT, OCI.content, OCI_INDEX).status_code == 400


UNUSUAL = json.dumps({"x-vendor": "\u00e9", **json.loads(OCI.content)}, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        pytest.param(UNUSUAL + b"\n\n", OCI_INDEX, id="unusual bytes"),
        pytest.param(OCI.content, f"{OCI_INDEX}; charset=utf-8", id="type with parameter"),
        pytest.param(EMPTY.content, OCI_INDEX, id="no entries"),
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
    both: Both, tag: str, content: bytes, content_type: str
) -> None:
    assert both.put(STOCKED, tag, content, content_type).status_code == 201
    assert both.get(STOCKED, tag, EVERY_TYPE).content == content


@pytest.mark.parametrize("artifact", [False, True], ids=["image", "artifact"])
def test_attestations_are_taken_in_both_forms(both: Both, tag: str, artifact: bool) -> None:
    image = make_image()
    both.upload(STOCKED, make_index([image, make_attestation(image, artifact=artifact)]), tag)

    assert both.get(STOCKED, tag, OCI_INDEX).status_code == 200


def test_an_overwritten_index_stays_readable_by_digest(both: Both, tag: str) -> None:
    lonely = changed(OCI, annotations={"lonely": tag})
    both.put(STOCKED, tag, lonely, OCI_INDEX)
    both.put(STOCKED, tag, DOCKER.content, DOCKER_LIST)

    assert both.get(STOCKED, tag, EVERY_TYPE).content == DOCKER.content
    assert both.get(STOCKED, digest_of(lonely), EVERY_TYPE).content == lonely


# Tags and deletion


def test_deleting_a_digest_takes_its_tags_along(both: Both, repository: str) -> None:
    for name, item in (("latest", EMPTY), ("b", EMPTY), ("a", make_image()), ("C", make_image())):
        both.upload(repository, item, name)
    both.send("GET", f"/v2/{repository}/tags/list")

    assert both.delete(repository, EMPTY.digest).status_code == 202
    for reference in (EMPTY.digest, "latest"):
        assert both.get(repository, reference, OCI_INDEX).status_code == 404
    assert both.delete(repository, EMPTY.digest).status_code == 404
    assert both.send("GET", f"/v2/{repository}/tags/list").json()["tags"] == ["C", "a"]


def test_an_index_outlives_its_child_but_cannot_be_put_again(both: Both, repository: str) -> None:
    both.upload(repository, OCI, "latest")
    both.delete(repository, OCI.children[0].digest)

    assert both.get(repository, "latest", OCI_INDEX).content == OCI.content
    assert both.put(repository, "latest", OCI.content, OCI_INDEX).status_code == 400


# Blobs


def blob(repository: str, content: bytes = b"content") -> str:
    return f"/v2/{repository}/blobs/{digest_of(content)}"


def test_a_blob_is_kept_byte_for_byte(both: Both, repository: str) -> None:
    assert both.send("GET", blob(repository)).status_code == 404
    assert both.put_blob(repository, b"content").status_code == 201

    assert both.send("GET", blob(repository)).content == b"content"
    assert both.send("HEAD", blob(repository)).headers["Content-Length"] == "7"


@pytest.mark.parametrize("digest", [ABSENT, "junk"])
def test_a_wrong_digest_ends_the_upload(both: Both, repository: str, digest: str) -> None:
    location = both.start_upload(repository).headers["Location"]

    assert both.finish_upload(location, b"content", digest).status_code == 400
    assert both.send("HEAD", blob(repository)).status_code == 404
    if digest == ABSENT:
        assert both.finish_upload(location, b"content", digest_of(b"content")).status_code == 404


def test_a_blob_can_come_in_pieces(both: Both, repository: str) -> None:
    location = both.start_upload(repository).headers["Location"]
    for piece in (b"first,", b"second"):
        octets = {"Content-Type": "application/octet-stream"}
        location = both.send("PATCH", location, octets, piece).headers["Location"]

    assert both.finish_upload(location, b"", digest_of(b"first,second")).status_code == 201
    assert both.send("GET", blob(repository, b"first,second")).status_code == 200


def test_an_upload_goes_on_at_the_host_that_was_asked(both: Both, repository: str) -> None:
    """Clients send nothing to a host by another name."""
    for peer in (both, both.real):
        url = peer.url.replace("127.0.0.1", "localhost")
        location = Peer(url=url, credentials=peer.credentials).start_upload(repository).headers
        assert location["Location"].startswith(f"{url}/v2/{repository}/blobs/uploads/")


def test_a_cancelled_upload_cannot_be_finished(both: Both, repository: str) -> None:
    location = both.start_upload(repository).headers["Location"]

    assert both.send("DELETE", location).status_code == 204
    assert both.finish_upload(location, b"content", digest_of(b"content")).status_code == 404


@pytest.mark.parametrize(
    ("source", "stored", "status"),
    [("/source", b"content", 201), ("/source", b"another", 202), ("/elsewhere", b"content", 202)],
)
def test_a_blob_that_is_there_is_mounted_else_an_upload_begins(
    both: Both, repository: str, source: str, stored: bytes, status: int
) -> None:
    both.put_blob(f"{repository}/source", stored)
    digest = digest_of(b"content")

    response = both.start_upload(repository, f"?mount={digest}&from={repository}{source}")

    assert response.status_code == status
    if status == 202:
        both.finish_upload(response.headers["Location"], b"content", digest)
    assert both.send("GET", blob(repository)).content == b"content"


def test_a_mount_from_nowhere_begins_an_upload(both: Both, repository: str) -> None:
    assert both.start_upload(repository, f"?mount={ABSENT}").status_code == 202


# Paths and methods


@pytest.mark.parametrize(
    "path",
    ["/v2/a/manifests/bad+tag", f"/v2/a/manifests/{'t' * 129}", "/v2/a/referrers/x", "/nothing"],
)
def test_a_path_that_nothing_serves_is_not_found(both: Both, path: str) -> None:
    assert both.send("GET", path).status_code == 404


def test_a_method_that_nothing_serves_is_not_allowed(both: Both, repository: str) -> None:
    assert both.send("POST", f"/v2/{repository}/manifests/latest").status_code == 405


# Tokens


@with_tokens
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
@pytest.mark.parametrize(
    "header", ["", "Bearer made-up", "Basic YWxpY2U6d29uZGVybGFuZA=="], ids=["none", "own", "basic"]
)
def test_who_has_no_token_is_challenged(both: Both, method: str, header: str) -> None:
    path = "/v2/" if method == "GET" else f"/v2/{STOCKED}/manifests/oci"

    assert both.with_header(header, method, path).status_code == 401


@with_tokens
@pytest.mark.parametrize(
    ("actions", "get", "push", "delete"),
    [
        ("pull", 200, 401, 401),
        ("push", 401, 401, 401),
        ("pull,push", 200, 202, 401),
        ("delete", 401, 401, 404),
        ("*", 200, 202, 404),
        ("", 401, 401, 401),
    ],
)
def test_a_token_opens_what_it_is_for(
    both: Both, actions: str, get: int, push: int, delete: int
) -> None:
    scopes = [f"repository:{STOCKED}:{actions}"] if actions else []
    manifests, accept = f"/v2/{STOCKED}/manifests", {"Accept": OCI_INDEX}

    assert both.with_token(scopes, "GET", "/v2/") == 200
    assert both.with_token(scopes, "GET", f"{manifests}/oci", accept) == get
    assert both.with_token(scopes, "POST", f"/v2/{STOCKED}/blobs/uploads/") == push
    assert both.with_token(scopes, "DELETE", f"{manifests}/{ABSENT}") == delete
    assert both.with_token(scopes, "GET", "/v2/tests/other/manifests/oci") == 401


@with_tokens
@pytest.mark.parametrize("joint", [None, " "], ids=["repeated", "in one value"])
def test_one_token_serves_two_repositories(both: Both, repository: str, joint: str | None) -> None:
    names = [repository, f"{repository}/other"]
    scopes = [f"repository:{name}:pull" for name in names]
    scopes = [joint.join(scopes)] if joint else scopes

    for name, status in zip([*names, f"{repository}/third"], (404, 404, 401)):
        assert both.with_token(scopes, "GET", f"/v2/{name}/manifests/latest") == status


@with_tokens
def test_a_wrong_password_gets_no_token(both: Both) -> None:
    for login in ((TOKEN_USER, "guess"), ("mallory", TOKEN_PASSWORD)):
        for peer in (both, both.real):
            assert peer.ask_token([], login).status_code == 401


@with_tokens
def test_public_repositories_can_be_read_anonymously(both: Both, repository: str) -> None:
    nobody = Both(url=both.url, real=Peer(url=both.real.url))
    for name, status in ((f"public/{repository}", 404), (repository, 401)):
        scopes = [f"repository:{name}:pull,push"]
        assert nobody.with_token(scopes, "GET", f"/v2/{name}/manifests/x") == status
        assert nobody.with_token(scopes, "PUT", f"/v2/{name}/manifests/x") == 401


@with_tokens
def test_a_mount_needs_the_right_to_read_its_source(both: Both, repository: str) -> None:
    source = f"{repository}/source"
    both.put_blob(source, b"content")
    path = f"/v2/{repository}/blobs/uploads/?mount={digest_of(b'content')}&from={source}"
    scope = f"repository:{repository}:pull,push"

    assert both.with_token([scope], "POST", path) == 401
    assert both.with_token([scope, f"repository:{source}:pull"], "POST", path) == 201
