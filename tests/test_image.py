"""The image manifest: strict on what is used, and its index of one."""

from __future__ import annotations

import json
import re

import pytest

from pubtools_mlmerge.core.manifests import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    Image,
    digest_of,
)
from pubtools_mlmerge.errors import InvalidIndex, NotAnIndex
from pubtools_mlmerge.testing import make_image
from tests.factories import Json, content_of, digest

KINDS = [(False, OCI_MANIFEST), (True, DOCKER_MANIFEST)]


def manifest(*layers: object, **fields: object) -> Json:
    """Make an image manifest as a document."""
    held = list(layers) or [{"digest": digest("layer")}]
    return {"schemaVersion": 2, "config": {"digest": digest("config")}, "layers": held, **fields}


def image(platform: str = "linux/arm64", *, docker: bool = False) -> Image:
    made = make_image(platform, docker=docker)
    return Image.from_bytes(made.content, made.media_type)


@pytest.mark.parametrize(("docker", "media_type"), KINDS)
def test_an_image_keeps_the_bytes_it_came_in(docker: bool, media_type: str) -> None:
    made = make_image(docker=docker)

    read = Image.from_bytes(made.content, f"{media_type}; charset=utf-8")

    assert (read.content, read.media_type) == (made.content, media_type)
    assert read.digest == digest_of(made.content)
    assert set(read.blobs) == set(made.blobs)
    assert read.blobs[0] == read.config


def test_a_blob_that_is_used_twice_is_named_once() -> None:
    twice = manifest(*[{"digest": digest("config")}, {"digest": digest("layer")}] * 2)

    assert Image.from_bytes(content_of(twice)).blobs == (digest("config"), digest("layer"))


def test_layers_with_urls_are_not_held_by_the_registry() -> None:
    foreign = {"digest": digest("foreign"), "urls": ["https://example.com/layer"]}
    empty = {"digest": digest("own"), "urls": []}

    assert Image.from_bytes(content_of(manifest(foreign, empty))).blobs[1:] == (digest("own"),)


def test_an_image_may_have_no_layers() -> None:
    assert Image.from_bytes(content_of(manifest(layers=[]))).blobs == (digest("config"),)


def test_the_document_tells_the_type_where_the_header_does_not() -> None:
    docker = manifest(mediaType=DOCKER_MANIFEST)

    assert Image.from_bytes(content_of(docker)).media_type == DOCKER_MANIFEST
    assert Image.from_bytes(content_of(manifest())).media_type == OCI_MANIFEST


def test_the_header_tells_the_type_where_the_document_does_not() -> None:
    assert Image.from_bytes(content_of(manifest()), OCI_MANIFEST).media_type == OCI_MANIFEST


def test_a_header_that_contradicts_the_document_is_refused() -> None:
    docker = manifest(mediaType=DOCKER_MANIFEST)

    with pytest.raises(InvalidIndex, match="mediaType: contradicts") as caught:
        Image.from_bytes(content_of(docker), OCI_MANIFEST)

    assert OCI_MANIFEST in str(caught.value)


def test_a_schema_1_manifest_is_called_by_its_name() -> None:
    with pytest.raises(NotAnIndex, match="holds a schema 1 manifest"):
        Image.from_bytes(b'{"schemaVersion": 1, "fsLayers": []}', "application/json")


@pytest.mark.parametrize("found", ["text/html", "application/vnd.unknown+json"])
def test_another_type_is_named(found: str) -> None:
    with pytest.raises(NotAnIndex) as caught:
        Image.from_bytes(content_of(manifest()), found)

    assert caught.value.media_type == found


def test_a_manifest_without_config_is_no_image() -> None:
    with pytest.raises(NotAnIndex) as caught:
        Image.from_bytes(b'{"schemaVersion": 2, "layers": []}')

    assert caught.value.media_type == OCI_MANIFEST


@pytest.mark.parametrize("found", [OCI_INDEX, DOCKER_LIST])
def test_an_image_announced_as_an_index_is_a_contradiction(found: str) -> None:
    with pytest.raises(InvalidIndex, match=f"manifests: is missing .* {re.escape(found)}"):
        Image.from_bytes(content_of(manifest()), found)


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"config": None}, "config.digest"),
        ({"config": {"digest": 5}}, "config.digest"),
        ({"config": {"digest": "../../etc/passwd"}}, "config.digest"),
        ({"layers": None}, "layers"),
        ({"layers": {}}, "layers"),
        ({"layers": [{"digest": digest("layer")}, "layer"]}, "layers[1].digest"),
        ({"layers": [{"size": 1}]}, "layers[0].digest"),
        ({"mediaType": 5}, "mediaType"),
        ({"manifests": []}, "manifests"),
    ],
)
def test_a_malformed_part_is_named(fields: Json, path: str) -> None:
    with pytest.raises(InvalidIndex) as caught:
        Image.from_bytes(content_of({**manifest(), **fields}))

    assert caught.value.path == path


@pytest.mark.parametrize(("docker", "listed_as"), [(False, OCI_INDEX), (True, DOCKER_LIST)])
def test_a_wrapped_image_is_listed_with_its_platform(docker: bool, listed_as: str) -> None:
    wrapped = image("linux/arm64", docker=docker)
    config = {"os": "linux", "architecture": "arm64", "variant": "v8", "rootfs": {}}

    found = wrapped.wrap(config)

    assert (found.media_type, len(found.manifests)) == (listed_as, 1)
    entry = found.manifests[0]
    assert (entry.digest, entry.size) == (wrapped.digest, len(wrapped.content))
    assert str(entry.platform) == "linux/arm64/v8"


def test_a_windows_version_goes_into_the_platform() -> None:
    config = {"os": "windows", "architecture": "amd64", "os.version": "10.0.1", "os.features": []}

    fields = image().wrap(config).manifests[0].fields

    assert fields["platform"] == {
        "os": "windows",
        "architecture": "amd64",
        "os.version": "10.0.1",
    }


def test_a_config_without_os_means_linux() -> None:
    found = image().wrap({"architecture": "s390x"})

    assert json.loads(found.content)["manifests"][0]["platform"]["os"] == "linux"


@pytest.mark.parametrize("config", [{}, {"os": "linux"}, {"architecture": ["amd64"]}])
def test_a_config_that_tells_no_platform_is_refused(config: Json) -> None:
    with pytest.raises(InvalidIndex, match=r"config\.architecture"):
        image().wrap(config)


def test_an_image_that_is_also_an_index_is_refused() -> None:
    with pytest.raises(InvalidIndex, match="manifests: an image must not"):
        Image.from_bytes(content_of(manifest(manifests=[])), OCI_MANIFEST)
