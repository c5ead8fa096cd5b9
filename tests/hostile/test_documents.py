"""Documents that lie, confuse or weigh too much: refused by name, and nothing is written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping

import pytest

from pubtools_mlmerge.cli.parsers import inspect_main, merge_main
from pubtools_mlmerge.core.manifests import (
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    Image,
    digest_of,
)
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import DigestMismatch, InvalidIndex
from pubtools_mlmerge.registry.adapter import ClientRegistry
from pubtools_mlmerge.registry.copying import Children
from pubtools_mlmerge.testing import RegistryServer, make_image, make_index
from tests.factories import content_of, digest, document, entry
from tests.hostile.helpers import (
    GOOD,
    REFERENCE,
    TOO_LARGE,
    client_of,
    good,
    pull,
    refused,
    with_field,
)
from tests.programs import call, put
from tests.scripted import Received, Reply, ScriptedServer, manifest_reply

OLD = make_index([make_image("linux/amd64"), make_image("linux/s390x")])
SCHEMA_1 = b'{"schemaVersion": 1, "name": "app", "tag": "1", "fsLayers": [], "signatures": []}'


@pytest.fixture
def destination(registry_server: RegistryServer) -> Iterator[RegistryServer]:
    """A registry with a tag to merge into, which must not be written."""
    put(registry_server, "1", OLD)
    registry_server.forget_requests()
    yield registry_server
    assert registry_server.manifest("app", "1").content == OLD.content
    assert {request.method for request in registry_server.requests} <= {"GET", "HEAD"}


def merge_from(reply: Reply, destination: RegistryServer, reference: str = "app:1") -> int:
    """Merge what a hostile registry serves into a tag of a good one."""
    with ScriptedServer(reply) as source:
        return call(
            merge_main,
            *("--source-ref", f"registry.test/{reference}", "--dest-ref", "registry.test/app:1"),
            *("--source-quay-host", source.url, "--quay-host", destination.url),
        )


DOCUMENTS: dict[str, tuple[bytes, str]] = {
    "beyond 4 MiB": (TOO_LARGE, "the answer has more than 4194304 bytes"),
    "33 levels": (with_field("x", "[" * 32 + "]" * 32), "nests deeper than 32 levels"),
    "100000 levels": (with_field("x", "[" * 99_999 + "]" * 99_999), "nests deeper than 32 levels"),
    "an entry deep down": (
        content_of(document(entry(annotations={"x": json.loads("[" * 32 + "]" * 32)}))),
        "manifests[0].annotations.x[0][0]",
    ),
    "a key twice": (with_field("manifests", "[]"), "has the key 'manifests' more than once"),
    "a key twice in an entry": (
        GOOD.replace(b'"digest"', b'"digest": "sha256:0", "digest"', 1),
        "manifests[0]: has the key 'digest' more than once",
    ),
    "a key twice, once escaped": (
        with_field("x", '{"a": 1, "\\u0061": 2}'),
        "x: has the key 'a' more than once",
    ),
    "NaN": (with_field("x", "NaN"), "x: NaN is no JSON number"),
    "-Infinity": (with_field("x", "[-Infinity]"), "x[0]: -Infinity is no JSON number"),
    "1e999": (with_field("x", "1e999"), "x: 1e999 is out of range"),
    "400 digits": (with_field("x", "9" * 400), "is out of range"),
    "5000 digits": (with_field("x", "9" * 5000), "is out of range"),
    "half a character": (with_field("x", '"\\ud800"'), "x: has half of a surrogate pair"),
    "not UTF-8": (GOOD.replace(b"linux", b"lin\xffux"), "is not UTF-8 at byte"),
    "UTF-16": (GOOD.decode().encode("utf-16"), "is not UTF-8 at byte 0"),
    "negative size": (GOOD.replace(b"1234", b"-1234"), "manifests[0].size"),
    "true as size": (GOOD.replace(b"1234", b"true"), "manifests[0].size"),
    "version 2.0": (GOOD.replace(b'"schemaVersion": 2', b'"schemaVersion": 2.0'), "expected 2"),
    "an image as well": (with_field("layers", "[]"), "must not be an image as well"),
    "an image by its config": (with_field("config", "{}"), "must not be an image as well"),
    "schema 1 as well": (with_field("fsLayers", "[]"), "must not be an image as well"),
    "an image in capitals": (with_field("Layers", "[]"), "must not be an image as well"),
    "other manifests": (with_field("Manifests", "[]"), "is easily taken for 'manifests'"),
    "other manifests, long s": (with_field("manife\u017fts", "[]"), "easily taken for 'manifests'"),
    "another type": (with_field("MediaType", f'"{OCI_MANIFEST}"'), "easily taken for 'mediaType'"),
    "another subject": (with_field("Subject", "{}"), "easily taken for 'subject'"),
    "another digest": (
        GOOD.replace(b'"digest"', b'"Digest": "sha256:0", "digest"', 1),
        "manifests[0].Digest: is easily taken for 'digest'",
    ),
    "another platform": (
        GOOD.replace(b'"platform"', b'"Platform"', 1),
        "manifests[0].Platform: is easily taken for 'platform'",
    ),
    "another architecture": (
        GOOD.replace(b'"os"', b'"ARCHITECTURE": "s390x", "os"', 1),
        "manifests[0].platform.ARCHITECTURE: is easily taken for 'architecture'",
    ),
    "another version": (with_field("SCHEMAVERSION", "1"), "easily taken for 'schemaVersion'"),
}


@pytest.mark.parametrize(("content", "words"), DOCUMENTS.values(), ids=list(DOCUMENTS))
def test_a_hostile_document_is_named_and_nothing_is_written(
    content: bytes, words: str, destination: RegistryServer, caplog: pytest.LogCaptureFixture
) -> None:
    assert merge_from(good(content), destination) == 1

    assert caplog.records[-1].getMessage().startswith("registry.test/app:1: ")
    assert words in caplog.text


@pytest.mark.parametrize("name", ["Config", "LAYERS", "MediaType"])
def test_an_image_has_one_meaning_too(name: str) -> None:
    fields = {**json.loads(make_image().content), name: []}

    error = refused(manifest_reply(content_of(fields), OCI_MANIFEST))

    assert f"{name}: is easily taken for" in str(error)


def test_a_client_without_limits_does_not_bring_in_a_large_document() -> None:
    """The host's client reads bodies of any size; its answers are checked all the same."""

    class Client:
        def get_manifest(self, *_: object, **__: object) -> object:
            return TOO_LARGE.decode(), {"Content-Type": OCI_INDEX}

        def upload_manifest(self, *_: object, **__: object) -> object:
            raise AssertionError

    with pytest.raises(InvalidIndex, match="at most 4194304 are allowed"):
        ClientRegistry(Client()).pull(REFERENCE)


# Digests


def test_what_is_pulled_by_digest_has_that_digest(
    destination: RegistryServer, caplog: pytest.LogCaptureFixture
) -> None:
    assert merge_from(good(), destination, f"app@{digest('another')}") == 1

    assert f"content has digest {digest_of(GOOD)}, expected {digest('another')}" in caplog.text


def test_what_is_pulled_by_tag_has_the_digest_of_its_header(destination: RegistryServer) -> None:
    reply = manifest_reply(GOOD, OCI_INDEX, Docker_Content_Digest=digest("another"))

    assert merge_from(reply, destination) == 1


def test_a_config_has_the_digest_that_the_image_states() -> None:
    image = Image.from_bytes(make_image().content, OCI_MANIFEST)
    other = Reply(200, {}, b'{"architecture": "s390x"}')

    with ScriptedServer(other) as server, pytest.raises(DigestMismatch):
        client_of(server).pull_config(REFERENCE, image)


def test_a_registry_that_keeps_other_bytes_than_it_was_given_is_found_out() -> None:
    index = pull(good())
    other = Reply(201, {"Docker-Content-Digest": digest("another")})

    with ScriptedServer(other) as server, pytest.raises(DigestMismatch):
        client_of(server).push(REFERENCE, index)


def test_a_child_that_is_another_one_is_not_brought() -> None:
    """Nor is anything of it mounted."""
    to, other = Reference.parse("registry.test/other:1"), make_image(seed="served")
    served = manifest_reply(other.content, other.media_type)

    with ScriptedServer(Reply(404), served) as server:
        client = client_of(server)
        with pytest.raises(DigestMismatch):
            Children(client, client).ensure(REFERENCE, to, [digest("listed")])

    assert [line.split()[0] for line in server.lines] == ["HEAD", "GET"]


def test_what_is_pulled_by_another_algorithm_has_that_digest_too() -> None:
    sha512 = f"sha512:{hashlib.sha512(GOOD).hexdigest()}"
    with ScriptedServer(good()) as server:
        client = client_of(server)
        assert client.pull(REFERENCE.at(sha512)).content == GOOD
        with pytest.raises(DigestMismatch):
            client.pull(REFERENCE.at(f"sha512:{'0' * 128}"))


@pytest.mark.parametrize("name", ["blake3:" + "0" * 64, "md5:abc", "x:1"])
def test_what_cannot_be_checked_is_not_believed(name: str) -> None:
    error = refused(good(), REFERENCE.at(name))

    assert "expected sha256 or sha512, not" in str(error)


# Indexes of indexes


def nested(depth: int, width: int) -> tuple[str, dict[str, Reply]]:
    """Make an index that lists the same index many times, which does so itself, and so on."""
    image = make_image()
    held = {image.digest: manifest_reply(image.content, image.media_type)}
    child = dict(image.descriptor)
    for _ in range(depth):
        content = content_of(document(*[child] * width))
        own = digest_of(content)
        child = {**child, "mediaType": OCI_INDEX, "digest": own, "size": len(content)}
        held[own] = good(content)
    return str(child["digest"]), held


def bring(top: str, held: Mapping[str, Reply]) -> list[str]:
    """Bring an index from one repository of a registry to another one."""

    def answer(request: Received) -> Reply:
        if request.method == "HEAD" or request.target.startswith("/v2/to/manifests/"):
            return Reply(201 if request.method == "PUT" else 404)
        is_there = request.method in ("PUT", "POST")
        return Reply(201) if is_there else held[request.target.rpartition("/")[2]]

    with ScriptedServer(answer) as server:
        client = client_of(server)
        Children(client, client).ensure(REFERENCE, Reference.parse("registry.test/to:1"), [top])
        return server.lines


def test_an_index_that_is_listed_a_million_times_is_brought_once() -> None:
    lines = bring(*nested(depth=4, width=10))

    assert [line.split()[0] for line in lines].count("PUT") == 5
    assert len(lines) < 30


def test_indexes_within_indexes_come_to_an_end() -> None:
    with pytest.raises(InvalidIndex, match="at most 4 levels and 64 nested indexes are read"):
        bring(*nested(depth=5, width=1))


# Something else than an index

CONFIG = "content has digest"  # an image is shown by its config, and this is none
DOWNGRADES = {
    "the amd64 child": (OLD.children[0].content, OLD.children[0].media_type, CONFIG),
    "a Docker image": (make_image(docker=True).content, DOCKER_MANIFEST, CONFIG),
    "schema 1": (
        SCHEMA_1,
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
        "app:1 holds a schema 1 manifest, expected an image index",
    ),
}


@pytest.mark.parametrize("reply", DOWNGRADES.values(), ids=list(DOWNGRADES))
def test_what_is_no_index_does_not_pass_for_one(
    reply: tuple[bytes, str, str], destination: RegistryServer, caplog: pytest.LogCaptureFixture
) -> None:
    content, content_type, found = reply
    with ScriptedServer(manifest_reply(content, content_type)) as server:
        assert call(inspect_main, "registry.test/app:1", "--quay-host", server.url) == 1

    assert found in caplog.text
    assert merge_from(manifest_reply(content, content_type), destination) == 1
