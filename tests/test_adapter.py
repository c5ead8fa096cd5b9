"""ClientRegistry: any client of the host's shape, whatever it answers with."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Union

import pytest
import requests
from requests.structures import CaseInsensitiveDict

from pubtools_mlmerge.core.manifests import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    INDEX_TYPES,
    MANIFEST_TYPES,
    OCI_INDEX,
    Image,
    Manifest,
    digest_of,
)
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.core.strict_json import encode
from pubtools_mlmerge.errors import (
    DigestMismatch,
    Forbidden,
    ImmutableTag,
    InvalidIndex,
    MissingChild,
    NotAnIndex,
    NotFound,
    RegistryError,
    Unauthorized,
)
from pubtools_mlmerge.registry.adapter import ClientRegistry
from pubtools_mlmerge.registry.http import Answer
from pubtools_mlmerge.testing import make_image
from tests.factories import content_of, digest, document, index

REFERENCE = Reference.parse("quay.io/org/app:1")
DOCKER = content_of(document("linux/amd64", "linux/arm64", docker=True))
OCI = content_of(document("linux/amd64", "linux/arm64"))
SCHEMA_1 = b'{"schemaVersion": 1, "fsLayers": [], "history": []}'

Answers = Union[object, Exception]


class FakeClient:
    """Answers by media type, and keeps a record of questions and uploads."""

    def __init__(self, answers: Mapping[str, Answers] | None = None) -> None:
        self.asked: list[str | None] = []
        self.uploads: list[tuple[object, str, bool]] = []
        self._answers = answers or {}

    def get_manifest(
        self,
        image: str,
        raw: bool = False,
        media_type: str | None = None,
        return_headers: bool = False,
    ) -> object:
        assert (image, raw, return_headers) == (str(REFERENCE), True, True)
        self.asked.append(media_type)
        answer = self._answers.get(media_type or "", http_error(404))
        if isinstance(answer, Exception):
            raise answer
        return answer

    def upload_manifest(self, manifest: object, image: str, raw: bool = False) -> object:
        for answer in self._answers.values():
            if isinstance(answer, Exception):
                raise answer
        self.uploads.append((manifest, image, raw))
        return requests.Response()


def http_error(status: int, body: bytes = b"") -> requests.exceptions.HTTPError:
    return Answer(status, {}, body, "https://quay.io/v2/").as_http_error()


def text(content: bytes, content_type: str = "", **headers: str) -> tuple[str, object]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    stated = {"Content-Type": content_type} if content_type else {}
    return content.decode(), CaseInsensitiveDict({**stated, **named})


def client_with(answer: Answers, media_type: str = DOCKER_LIST) -> FakeClient:
    return FakeClient({media_type: answer})


def pull(client: FakeClient) -> Manifest:
    return ClientRegistry(client).pull(REFERENCE)


def pull_index(client: FakeClient) -> Manifest:
    return ClientRegistry(client).pull_index(REFERENCE)


# Asking


IMAGE = make_image(docker=True)


@pytest.mark.parametrize(
    ("content", "media_type", "requests_needed"),
    [(DOCKER, DOCKER_LIST, 1), (OCI, OCI_INDEX, 2), (IMAGE.content, DOCKER_MANIFEST, 3)],
)
def test_types_are_asked_for_one_by_one(
    content: bytes, media_type: str, requests_needed: int
) -> None:
    client = client_with(text(content, media_type), media_type)

    assert pull(client).content == content
    assert client.asked == list(MANIFEST_TYPES[:requests_needed])


def test_an_index_is_not_looked_for_among_images() -> None:
    client = FakeClient()

    for read, asked in ((pull_index, INDEX_TYPES), (pull, MANIFEST_TYPES)):
        client.asked.clear()
        with pytest.raises(NotFound) as caught:
            read(client)
        assert (caught.value.status, client.asked) == (404, list(asked))


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, "UNAUTHORIZED", Unauthorized),
        (403, "DENIED", Forbidden),
        (500, "", RegistryError),
        (400, "MANIFEST_BLOB_UNKNOWN", MissingChild),
        (409, "TAG_IMMUTABLE", ImmutableTag),
    ],
)
def test_any_other_refusal_has_its_kind_and_ends_the_asking(
    status: int, code: str, kind: type[RegistryError]
) -> None:
    errors = {"errors": [{"code": code, "message": "sorry"}]}
    refusal = http_error(status, json.dumps(errors).encode())
    client = client_with(refusal)

    with pytest.raises(kind, match=f"^{REFERENCE}.*sorry") as reading:
        pull(client)
    with pytest.raises(kind, match=f"^{REFERENCE}.*sorry") as writing:
        ClientRegistry(client).push(REFERENCE, index("linux/amd64"))

    assert client.asked == [DOCKER_LIST]
    assert reading.value.__cause__ is writing.value.__cause__ is refusal


def test_schema_1_instead_of_a_list_means_another_type() -> None:
    schema_1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    client = FakeClient({DOCKER_LIST: text(SCHEMA_1, schema_1), OCI_INDEX: text(OCI, OCI_INDEX)})

    assert pull_index(client).content == OCI


@pytest.mark.parametrize("answers", [INDEX_TYPES[:1], INDEX_TYPES[1:], INDEX_TYPES])
def test_schema_1_is_no_index_whatever_else_is_not_found(answers: tuple[str, ...]) -> None:
    client = FakeClient(dict.fromkeys(answers, text(SCHEMA_1, "application/json")))

    with pytest.raises(NotAnIndex, match="schema 1"):
        pull_index(client)


# Shapes


DECODED = json.loads(DOCKER)
WRONG_DIGEST = {"Docker-Content-Digest": digest("as sent")}


@pytest.mark.parametrize(
    ("answer", "content"),
    [
        ((DOCKER.decode(), {"Content-Type": DOCKER_LIST}), DOCKER),
        ((DOCKER, {"content-type": DOCKER_LIST}), DOCKER),
        ((DOCKER.decode(), []), DOCKER),
        (DOCKER.decode(), DOCKER),
        (DOCKER, DOCKER),
        (text(DOCKER, "text/plain"), DOCKER),
        (text(DOCKER, "text/plain; charset=utf-8"), DOCKER),
        (text(DOCKER, docker_content_digest=digest_of(DOCKER)), DOCKER),
        (DECODED, encode(DECODED)),
        ((DECODED, WRONG_DIGEST), encode(DECODED)),
    ],
)
def test_text_and_bytes_are_kept_and_a_dict_is_encoded_as_the_host_does(
    answer: object, content: bytes
) -> None:
    found = pull_index(client_with(answer))

    assert (found.content, found.media_type) == (content, DOCKER_LIST)


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (None, TypeError, "gave a manifest as NoneType"),
        (5, TypeError, "gave a manifest as int"),
        ([DOCKER], TypeError, "gave a manifest as list"),
        ((None, {}), TypeError, "gave a manifest as NoneType"),
        (text(DOCKER, OCI_INDEX), InvalidIndex, f"^{REFERENCE}: mediaType"),
        ((DOCKER, WRONG_DIGEST), DigestMismatch, digest("as sent")),
        (text(IMAGE.content, DOCKER_MANIFEST), NotAnIndex, "distribution.manifest.v2"),
        (ZeroDivisionError(), ZeroDivisionError, "^$"),  # of the client, and left alone
    ],
)
def test_any_other_answer_is_an_error(answer: object, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        pull_index(client_with(answer))


# Errors of clients


@pytest.mark.parametrize(
    "error",
    [
        requests.exceptions.ConnectionError("refused"),
        requests.exceptions.RetryError("too many 502 error responses"),
        requests.exceptions.ReadTimeout(),
        requests.exceptions.HTTPError("without a response"),
    ],
)
def test_an_answer_that_did_not_come_is_a_registry_error(error: Exception) -> None:
    with pytest.raises(RegistryError) as caught:
        pull_index(client_with(error))

    assert (caught.value.status, caught.value.message) == (None, str(error))
    assert caught.value.__cause__ is error


def test_a_response_of_a_caller_s_tests_needs_no_body() -> None:
    response = requests.Response()
    response.status_code = 403

    with pytest.raises(Forbidden):
        pull_index(client_with(requests.exceptions.HTTPError(response=response)))


class ManifestTypeError(Exception):
    """What the host raises for a manifest of another type."""


def test_the_hosts_error_for_another_type_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    host = ModuleType("pubtools._quay.exceptions")
    vars(host)["ManifestTypeError"] = ManifestTypeError
    monkeypatch.setitem(sys.modules, host.__name__, host)
    refusal = ManifestTypeError("Image doesn't have a manifest list")
    client = FakeClient({DOCKER_LIST: refusal, OCI_INDEX: text(OCI, OCI_INDEX)})

    assert pull_index(client).content == OCI
    with pytest.raises(NotAnIndex) as caught:
        pull_index(client_with(refusal))
    assert caught.value.__cause__ is refusal


@pytest.mark.parametrize("host", [None, ModuleType("pubtools._quay.exceptions")])
def test_without_the_host_there_is_no_such_error(
    monkeypatch: pytest.MonkeyPatch, host: ModuleType | None
) -> None:
    monkeypatch.setitem(sys.modules, "pubtools._quay.exceptions", host)

    with pytest.raises(ManifestTypeError):
        pull_index(client_with(ManifestTypeError()))


# Writing


@pytest.mark.parametrize(
    "pushed",
    [
        index("linux/amd64", docker=True),
        Image.from_bytes(IMAGE.content),
        index("linux/amd64", annotations={"author": "Åsa"}),
    ],
)
def test_the_exact_bytes_go_up_and_what_is_not_ascii_as_bytes(pushed: Manifest) -> None:
    client, content = FakeClient(), pushed.content

    assert ClientRegistry(client).push(REFERENCE, pushed) == pushed.digest
    sent = content.decode() if content.isascii() else content
    assert client.uploads == [(sent, str(REFERENCE), True)]
