from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

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
    upload,
    upload_index,
)
from pubtools_mlmerge.testing.registry import AuthMode
from tests.servers import RealRegistry

OCI = "application/vnd.oci.image"
DOCKER = "application/vnd.docker"


def manifest(image: Image) -> dict[str, dict[str, object]]:
    decoded: dict[str, dict[str, object]] = json.loads(image.content)
    return decoded


def config(image: Image) -> dict[str, object]:
    decoded: dict[str, object] = json.loads(image.blobs[str(manifest(image)["config"]["digest"])])
    return decoded


def layer(image: Image) -> tuple[dict[str, object], bytes]:
    (described,) = json.loads(image.content)["layers"]
    return described, image.blobs[described["digest"]]


def described(item: Image | ImageIndex) -> dict[str, object]:
    return {"mediaType": item.media_type, "size": len(item.content), "digest": item.digest}


# Images


@pytest.mark.parametrize(
    ("docker", "types"),
    [
        (
            False,
            [f"{OCI}.manifest.v1+json", f"{OCI}.config.v1+json", f"{OCI}.layer.v1.tar+gzip"],
        ),
        (
            True,
            [
                f"{DOCKER}.distribution.manifest.v2+json",
                f"{DOCKER}.container.image.v1+json",
                f"{DOCKER}.image.rootfs.diff.tar.gzip",
            ],
        ),
    ],
)
def test_a_manifest_describes_its_blobs_with_types_of_one_family(
    docker: bool, types: list[str]
) -> None:
    image = make_image(docker=docker)

    parts = (manifest(image)["config"], layer(image)[0])
    assert [image.media_type, *(part["mediaType"] for part in parts)] == types
    assert json.loads(image.content)["mediaType"] == image.media_type
    for part in parts:
        blob = image.blobs[str(part["digest"])]
        assert (part["digest"], part["size"]) == (digest_of(blob), len(blob))


@pytest.mark.parametrize(
    ("platform", "expected"),
    [
        ("linux/arm/v7", {"os": "linux", "architecture": "arm", "variant": "v7"}),
        ("windows/amd64", {"os": "windows", "architecture": "amd64"}),
    ],
)
def test_config_and_entry_tell_the_platform(platform: str, expected: dict[str, str]) -> None:
    image = make_image(platform, created="2020-02-02T02:02:02Z")

    stated = config(image)
    assert {k: stated[k] for k in ("os", "architecture", "variant") if k in stated} == expected
    assert stated["created"] == "2020-02-02T02:02:02Z"
    assert image.descriptor == {**described(image), "platform": expected}


def test_the_layer_is_a_real_archive() -> None:
    image = make_image("linux/s390x", seed="salt")

    archive = gzip.decompress(layer(image)[1])

    assert config(image)["rootfs"] == {"type": "layers", "diff_ids": [digest_of(archive)]}
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        file = members.extractfile("content.txt")
        assert file
        assert file.read() == b"linux/s390x salt\n"


def test_an_image_is_the_same_on_every_machine_and_encoded_as_nowhere_else() -> None:
    image = make_image()

    digest = "sha256:e1505f0d68081354b18a281f8ea4c492b700db2605787bd828485343f3f33013"
    assert image.digest == digest
    for indent in (None, 2, 4):
        assert json.dumps(json.loads(image.content), indent=indent).encode() != image.content


def test_every_argument_changes_the_digest() -> None:
    images = [
        make_image(),
        make_image("linux/arm64"),
        make_image(docker=True),
        make_image(created="2025-01-01T00:00:00Z"),
        make_image(seed="salt"),
    ]

    assert len({image.digest for image in images}) == len(images)


# Attestations


@pytest.mark.parametrize("artifact", [False, True])
def test_an_attestation_holds_a_statement_about_its_image(artifact: bool) -> None:
    image = make_image()
    attestation = make_attestation(image, artifact=artifact)

    assert attestation.descriptor == {
        **described(attestation),
        "platform": {"architecture": "unknown", "os": "unknown"},
        "annotations": {
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": image.digest,
        },
    }
    about, statement = layer(attestation)
    (subject,) = json.loads(statement)["subject"]
    assert f"sha256:{subject['digest']['sha256']}" == image.digest
    predicate = json.loads(statement)["predicateType"]
    assert about["annotations"] == {"in-toto.io/predicate-type": predicate}
    assert about["mediaType"] == "application/vnd.in-toto+json"


def test_the_older_attestation_looks_like_an_image() -> None:
    attestation = make_attestation(make_image())

    assert config(attestation)["os"] == "unknown"
    assert manifest(attestation)["config"]["mediaType"] == f"{OCI}.config.v1+json"
    assert not {"subject", "artifactType"} & set(manifest(attestation))


def test_the_newer_attestation_is_an_artifact_with_a_subject() -> None:
    image = make_image(docker=True)
    attestation = make_attestation(image, artifact=True)

    assert manifest(attestation)["subject"] == described(image)
    expected = "application/vnd.docker.attestation.manifest.v1+json"
    assert json.loads(attestation.content)["artifactType"] == expected
    assert config(attestation) == {}
    assert manifest(attestation)["config"]["mediaType"] == "application/vnd.oci.empty.v1+json"


# Indexes


@pytest.mark.parametrize(
    ("docker", "media_type"),
    [(False, f"{OCI}.index.v1+json"), (True, f"{DOCKER}.distribution.manifest.list.v2+json")],
)
def test_an_index_lists_its_children_in_order(docker: bool, media_type: str) -> None:
    children = [make_image(name, docker=docker) for name in ("linux/s390x", "linux/amd64")]
    inner = make_index(children, docker=docker)

    index = make_index([*children, inner], docker=docker)

    document = json.loads(index.content)
    assert document["manifests"] == [*(child.descriptor for child in children), described(inner)]
    assert document["mediaType"] == index.media_type == media_type
    assert index.digest == digest_of(index.content)


def test_an_index_may_leave_out_its_type_and_have_annotations() -> None:
    index = make_index([], media_type_field=False, annotations={"key": "value"})

    expected = {"schemaVersion": 2, "manifests": [], "annotations": {"key": "value"}}
    assert json.loads(index.content) == expected


# Uploads


def test_an_item_is_uploaded_with_everything_below_it(registry_server: RegistryServer) -> None:
    image = make_image()
    outer = make_index([make_index([image])])

    digest = upload(registry_server.url, "ns/images", outer)

    assert digest == outer.digest
    for item in (outer, image):
        assert registry_server.manifest("ns/images", item.digest).content == item.content
    assert registry_server.tags("ns/images") == ()
    upload(registry_server.url, "ns/images", outer, reference="latest")
    assert registry_server.manifest("ns/images", "latest").digest == digest


def test_an_index_is_made_of_platforms_and_images(registry_server: RegistryServer) -> None:
    image = make_image("linux/arm64", docker=True, seed="salt")

    index = upload_index(
        registry_server.url, "ns/images", "latest", ["linux/amd64", image], docker=True
    )

    assert index.children == (make_image(docker=True), image)
    stored = registry_server.manifest("ns/images", "latest")
    assert (stored.content, stored.media_type) == (index.content, index.media_type)


@pytest.mark.parametrize("auth", ["token", "basic"])
def test_an_upload_logs_in_where_that_is_wanted(auth: AuthMode) -> None:
    login = ("alice", "wonderland")
    with RegistryServer(auth=auth, users=dict([login])) as registry:
        index = upload_index(
            registry.url, "ns/images", "latest", ["linux/amd64"], credentials=login
        )

        assert registry.manifest("ns/images", "latest").digest == index.digest
        asked = [request.path for request in registry.requests]
        assert asked.count("/token") == (auth == "token")


@pytest.mark.parametrize("credentials", [None, ("alice", "guess"), ("mallory", "")])
def test_a_refused_upload_is_an_http_error(
    quay_server: RegistryServer, credentials: tuple[str, str] | None
) -> None:
    with pytest.raises(requests.HTTPError, match="401"):
        upload(quay_server.url, "alice/images", make_image(), credentials=credentials)


def test_an_upload_by_itself_looks_at_no_environment(
    registry_server: RegistryServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login alice password wonderland\n", encoding="utf-8")
    monkeypatch.setenv("NETRC", str(netrc))

    upload(registry_server.url, "ns/images", make_image())

    assert not any("authorization" in request.headers for request in registry_server.requests)


@pytest.mark.parametrize("flavour", ["plain", "tls", "token"])
def test_an_upload_works_on_a_real_registry(request: pytest.FixtureRequest, flavour: str) -> None:
    registry = request.getfixturevalue(f"docker_registry_{flavour}")
    assert isinstance(registry, RealRegistry)

    index = upload_index(
        registry.url,
        "images/uploaded",
        "latest",
        ["linux/amd64", make_attestation(make_image(), artifact=True)],
        credentials=registry.credentials,
        verify=registry.verify,
    )

    assert len(index.children) == 2
