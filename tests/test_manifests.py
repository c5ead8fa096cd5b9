"""Descriptors, indexes and images: strict on what a merge uses, tolerant on what it carries."""

from __future__ import annotations

import copy
import hashlib
import json
import re

import pytest
from attrs import evolve

from pubtools_mlmerge.core.manifests import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    INDEX_TYPES,
    MANIFEST_TYPES,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    Image,
    Index,
    check_digest,
    digest_of,
    read_manifest,
)
from pubtools_mlmerge.core.platforms import Platform
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.core.strict_json import LARGEST
from pubtools_mlmerge.errors import (
    DigestMismatch,
    InvalidIndex,
    NotAnIndex,
)
from pubtools_mlmerge.testing import make_image
from tests.factories import (
    REFERENCE_DIGEST,
    REFERENCE_TYPE,
    Json,
    attestation,
    content_of,
    digest,
    document,
    each,
    entry,
    index,
    platform,
)

# Descriptors


PATH = "manifests[3]"


def refusal(value: object) -> InvalidIndex:
    """Read what must be refused and give the error."""
    with pytest.raises(InvalidIndex) as caught:
        Descriptor.from_json(value, PATH)
    return caught.value


def test_an_entry_is_read_and_carried_as_received() -> None:
    value = entry("Linux/aarch64/v8", annotations={"ключ": "значение"}, urls=["x"], new=[1], size=7)
    before = copy.deepcopy(value)

    read = Descriptor.from_json(value, PATH)

    assert (read.media_type, read.digest, read.size) == (OCI_MANIFEST, value["digest"], 7)
    assert read.platform == Platform("Linux", "aarch64", "v8")  # as written
    assert read.slot == Platform("linux", "arm64")  # normalised
    assert read.fields is value
    assert value == before


@pytest.mark.parametrize("value", [None, [], "text", 1, True])
def test_an_entry_is_an_object(value: object) -> None:
    assert str(refusal(value)) == f"{PATH}: expected an object"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *each("mediaType", None, "", 1, True, [], {}),
        *each("digest", None, "", "sha256", "sha256:", "sha256:a b", 1, True, [], {}),
        *each("digest", "../x", "sha256:a\n", "SHA256:aa", "sha256:a/b"),
        *each("size", None, "1", -1, 1.0, 1.5, True, False, [], {}),
        *each("platform", "linux/amd64", "", 0, 1, True, False, [], ["linux"]),
        *each("annotations", "text", "", 0, 1, False, [], ["x"]),
        *each(f"annotations.{REFERENCE_TYPE}", None, 1, [], {}),
        *each(f"annotations.{REFERENCE_DIGEST}", None, 1, [], {}),
        *[(f"platform.{name}", 1) for name in ("architecture", "os", "os.features")],
    ],
)
def test_a_property_that_is_missing_or_of_a_wrong_type_is_named(name: str, value: object) -> None:
    outer, _, inner = name.partition(".")
    found = {**entry(), outer: {**platform("linux/amd64"), inner: value} if inner else value}

    error = refusal(found)

    assert error.path == f"{PATH}.{name}"
    assert error.problem.startswith("expected ")
    if not inner and value is None:
        assert refusal({k: v for k, v in found.items() if k != name}).path == f"{PATH}.{name}"


NOTHING: Json = {"architecture": "", "os": ""}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("annotations", None),
        *each("platform", None, {}, NOTHING, {"os": None, "variant": "v8"}),
    ],
)
def test_null_and_empty_count_as_absent(name: str, value: object) -> None:
    read = Descriptor.from_json({**entry(None), name: value}, PATH)

    assert (read.platform, read.is_attestation, read.slot) == (None, False, None)


def test_unknown_media_types_and_algorithms_are_taken() -> None:
    read = Descriptor.from_json(entry(media_type="x/y", digest="new+kind:aZ0=_-", size=0), PATH)

    assert (read.media_type, read.digest, read.size) == ("x/y", "new+kind:aZ0=_-", 0)


IMAGE = digest("image")
BUILDKIT = "application/vnd.docker.attestation.manifest.v1+json"


@pytest.mark.parametrize(
    ("value", "is_attestation", "attested"),
    [
        (attestation(IMAGE), True, IMAGE),
        (attestation(IMAGE, artifactType="x/y", platform=None), True, IMAGE),
        (attestation(IMAGE, platform=platform("linux/amd64")), True, IMAGE),
        (entry(annotations={REFERENCE_TYPE: "x", REFERENCE_DIGEST: IMAGE}), True, IMAGE),
        (entry(annotations={REFERENCE_TYPE: "attestation-manifest"}), True, None),
        (entry(annotations={REFERENCE_DIGEST: IMAGE}), False, None),
        (
            entry(None, artifactType="application/vnd.docker.attestation.manifest.v1+json"),
            False,
            None,
        ),
        (entry(annotations={"a": 1, "b": None}), False, None),
    ],
)
def test_an_attestation_is_told_by_one_annotation(
    value: Json, *, is_attestation: bool, attested: str | None
) -> None:
    read = Descriptor.from_json(value, PATH)

    assert (read.is_attestation, read.attested) == (is_attestation, attested)
    assert not (read.is_attestation and read.slot)


@pytest.mark.parametrize(
    ("text", "media_type", "has_slot"),
    [
        *[(text, OCI_MANIFEST, False) for text in ("Unknown/UNKNOWN", "unknown/unknown/v1")],
        *[(text, OCI_MANIFEST, True) for text in ("linux/unknown", "unknown/amd64")],
        *[("linux/amd64", kind, kind not in INDEX_TYPES) for kind in (*MANIFEST_TYPES, "x/y")],
    ],
)
def test_no_unknown_platform_and_no_nested_index_has_a_slot(
    text: str, media_type: str, *, has_slot: bool
) -> None:
    read = Descriptor.from_json(entry(text, media_type=media_type), PATH)

    assert (read.slot is not None, read.is_index) == (has_slot, media_type in INDEX_TYPES)


# Indexes: exact bytes in, exact bytes out


def refusal_of_index(document: object, media_type: str | None = None) -> InvalidIndex:
    """Read what must be refused and give the error."""
    with pytest.raises(InvalidIndex) as caught:
        Index.from_bytes(content_of(document), media_type)
    return caught.value


def test_an_index_keeps_its_exact_bytes() -> None:
    content = b'\n{ "schemaVersion" : 2,"manifests":[ ],\t"x":"\\u0061\xc3\xa9"}  '

    read = Index.from_bytes(content)

    assert read.content is content
    assert read.digest == f"sha256:{hashlib.sha256(content).hexdigest()}"


@pytest.mark.parametrize("header", [None, "", " ", ";", OCI_INDEX, DOCKER_LIST])
@pytest.mark.parametrize("stated", [None, OCI_INDEX, DOCKER_LIST])
def test_document_and_header_agree_on_one_type(stated: str | None, header: str | None) -> None:
    content = content_of({**document(media_type_field=False), "mediaType": stated})
    types = {kind for kind in (stated, header) if kind in INDEX_TYPES}

    if len(types) == 2:
        with pytest.raises(InvalidIndex, match="mediaType: contradicts the content type"):
            Index.from_bytes(content, header)
    else:
        assert Index.from_bytes(content, header).media_type == (types or {OCI_INDEX}).pop()


@pytest.mark.parametrize("suffix", ["; charset=utf-8", ";charset=utf-8", " ", ";"])
def test_parameters_of_the_content_type_do_not_matter(suffix: str) -> None:
    content = content_of(document(docker=True))

    assert Index.from_bytes(content, DOCKER_LIST.upper() + suffix).media_type == DOCKER_LIST


@pytest.mark.parametrize("fields", [document(media_type_field=False), document(mediaType=None)])
def test_a_type_can_be_written_into_an_index_that_states_none(fields: Json) -> None:
    old = Index.from_bytes(content_of({**fields, "subject": entry(None)}), DOCKER_LIST)

    made = old.with_media_type()

    assert (old.states_media_type, made.states_media_type) == (False, True)
    assert made.fields == {**old.fields, "mediaType": DOCKER_LIST}
    assert Index.from_bytes(made.content) == made
    assert made.with_media_type() is made


NOT_TEXT = each("mediaType", 1, True, [], {}, [OCI_INDEX])
NOT_TWO = each("schemaVersion", None, 1, 3, 2.0, "2", True, [2], {})
NO_LIST = each("manifests", None, {}, "text", 0, True)
AS_TEXT = "mediaType: expected a string"
EXPECTED = f"mediaType: expected {OCI_INDEX} or {DOCKER_LIST}"


@pytest.mark.parametrize(
    ("found", "text"),
    [
        *[({**document(), name: value}, AS_TEXT) for name, value in NOT_TEXT],
        *[(document(mediaType=k), EXPECTED) for k in ("", "x/y", OCI_MANIFEST, OCI_INDEX.upper())],
        *[({**document(), name: value}, "schemaVersion: expected 2") for name, value in NOT_TWO],
        ({"mediaType": OCI_INDEX, "manifests": []}, "schemaVersion: expected 2"),
        *[({**document(), name: value}, "manifests: expected an array") for name, value in NO_LIST],
        (
            document("linux/amd64", "linux/arm64", entry(digest=7)),
            "manifests[2].digest: expected algorithm:encoded",
        ),
    ],
)
def test_a_malformed_part_of_an_index_is_named(found: Json, text: str) -> None:
    assert str(refusal_of_index(found)) == text


@pytest.mark.parametrize(
    "header", ["application/json", "text/html", OCI_MANIFEST, DOCKER_MANIFEST, "*/*"]
)
def test_another_content_type_is_refused(header: str) -> None:
    error = refusal_of_index(document(), header)

    assert str(error) == f"mediaType: came with content type {header!r}"


@pytest.mark.parametrize(
    "name", ["config", "layers", "fsLayers", "Config", "LAYERS", "layer\u017f"]
)
@pytest.mark.parametrize("value", [None, {}, []])
def test_an_index_must_not_be_an_image_as_well(name: str, value: object) -> None:
    error = refusal_of_index(document(**{name: value}))  # type: ignore[arg-type]  # any field at all

    assert error.path == name
    assert "must not be an image as well" in error.problem


@pytest.mark.parametrize(
    "name",
    [
        "Manifests",
        "MANIFESTS",
        "manife\u017fts",
        "MediaType",
        "mediatype",
        "schemaversion",
        "\u017fchemaVersion",
    ],
)
def test_a_name_that_readers_in_go_take_for_another_is_refused(name: str) -> None:
    """Go matches names whatever their case, and the long s is one of its cases of s."""
    error = refusal_of_index({**document(), name: []})

    assert error.path == name
    assert "is easily taken for" in error.problem


@pytest.mark.parametrize(
    ("found", "media_type"),
    [
        ({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": {}, "layers": []}, OCI_MANIFEST),
        ({"schemaVersion": 2, "config": {}, "layers": []}, "an image manifest"),
        ({"schemaVersion": 2, "mediaType": DOCKER_MANIFEST}, DOCKER_MANIFEST),
        ({"schemaVersion": 1, "fsLayers": [], "history": []}, "a schema 1 manifest"),
        ({"schemaVersion": 2, "mediaType": OCI_INDEX}, OCI_INDEX),
        ({"errors": []}, ""),
        ({}, ""),
    ],
)
def test_another_document_is_no_index(found: dict[str, object], media_type: str) -> None:
    with pytest.raises(NotAnIndex) as caught:
        Index.from_bytes(content_of(found))

    assert caught.value.media_type == media_type


def test_an_index_is_read_from_decoded_fields() -> None:
    fields = document("linux/amd64", annotations={"é": "ü"})
    before = copy.deepcopy(fields)

    read = Index.from_fields(fields)

    assert read.fields is fields
    assert fields == before
    assert read.content == json.dumps(fields, sort_keys=True, indent=4).encode()
    assert Index.from_bytes(read.content) == read


def test_a_new_index_is_not_larger_than_registries_take() -> None:
    old = index("linux/amd64", pad="")
    room = LARGEST - len(old.with_manifests(old.manifests, OCI_INDEX).content)
    fits = index("linux/amd64", pad="x" * room)
    too_large = index("linux/amd64", pad="x" * (room + 1))
    made = too_large.with_manifests(too_large.manifests, OCI_INDEX)

    assert len(fits.with_manifests(fits.manifests, OCI_INDEX).content) == LARGEST
    with pytest.raises(InvalidIndex, match=f"would have {LARGEST + 1} bytes"):
        _ = made.content


def test_equal_indexes_have_equal_bytes_and_types() -> None:
    one = index("linux/amd64")
    other = Index.from_bytes(one.content + b" ")

    assert one == Index.from_bytes(one.content)
    assert hash(one) == hash(Index.from_bytes(one.content))
    assert one != other
    assert one != one.content


def test_an_index_whose_nested_indexes_were_read_is_another_one() -> None:
    """A merge of one must not be taken for a merge of the other."""
    unread = index(entry(None, media_type=OCI_INDEX))
    (nested,) = unread.manifests
    listed = frozenset({(digest("child"), Platform("linux", "amd64"))})

    assert evolve(unread, manifests=[evolve(nested, listed=listed)]) != unread


def test_a_representation_does_not_spill_the_document() -> None:
    assert len(repr(index(*["linux/amd64"] * 50))) < 300


# Images, and the index that lists one alone


KINDS = [(False, OCI_MANIFEST), (True, DOCKER_MANIFEST)]


def manifest(**fields: object) -> Json:
    """Make an image manifest as a document."""
    layers = [{"digest": digest("layer")}]
    return {"schemaVersion": 2, "config": {"digest": digest("config")}, "layers": layers, **fields}


def image(*, docker: bool = False) -> Image:
    made = make_image("linux/arm64", docker=docker)
    return Image.from_bytes(made.content, made.media_type)


@pytest.mark.parametrize(("docker", "media_type"), KINDS)
def test_an_image_keeps_the_bytes_it_came_in(docker: bool, media_type: str) -> None:
    made = make_image(docker=docker)

    read = Image.from_bytes(made.content, f"{media_type}; charset=utf-8")

    assert (read.content, read.media_type) == (made.content, media_type)
    assert read.digest == digest_of(made.content)
    assert set(read.blobs) == set(made.blobs)
    assert read.blobs[0] == read.config


@pytest.mark.parametrize(
    ("fields", "held"),
    [
        ({"layers": [{"digest": digest("config")}, {"digest": digest("a")}] * 2}, ["a"]),
        # Layers with urls are stored elsewhere.
        ({"layers": [{"digest": digest("a"), "urls": ["https://example.com/layer"]}]}, []),
        ({"layers": [{"digest": digest("a"), "urls": []}]}, ["a"]),
        ({"layers": []}, []),
        ({"layers": None}, []),
        ({}, []),
    ],
)
def test_the_blobs_of_an_image_are_named_once(fields: Json, held: list[str]) -> None:
    content = content_of({"schemaVersion": 2, "config": {"digest": digest("config")}, **fields})

    assert Image.from_bytes(content).blobs == (digest("config"), *map(digest, held))


@pytest.mark.parametrize(
    ("stated", "header", "expected"),
    [
        (DOCKER_MANIFEST, None, DOCKER_MANIFEST),
        (None, None, OCI_MANIFEST),
        (None, f"{OCI_MANIFEST}; charset=utf-8", OCI_MANIFEST),
        (None, DOCKER_MANIFEST, DOCKER_MANIFEST),
    ],
)
def test_document_or_header_tells_the_type_of_an_image(
    stated: str | None, header: str | None, expected: str
) -> None:
    content = content_of(manifest(mediaType=stated))

    assert Image.from_bytes(content, header).media_type == expected


@pytest.mark.parametrize(
    ("content", "header", "found"),
    [
        (b'{"schemaVersion": 1, "fsLayers": []}', "application/json", "a schema 1 manifest"),
        (content_of(manifest()), "text/html", "text/html"),
        (content_of(manifest()), "application/vnd.unknown+json", "application/vnd.unknown+json"),
        (b'{"schemaVersion": 2, "layers": []}', None, OCI_MANIFEST),
    ],
)
def test_what_is_no_image_is_named(content: bytes, header: str | None, found: str) -> None:
    with pytest.raises(NotAnIndex, match=f"holds {re.escape(found)}"):
        Image.from_bytes(content, header)


@pytest.mark.parametrize(
    ("fields", "header", "path"),
    [
        ({"config": None}, None, "config.digest"),
        ({"config": {"digest": 5}}, None, "config.digest"),
        ({"config": {"digest": "../../etc/passwd"}}, None, "config.digest"),
        ({"layers": {}}, None, "layers"),
        ({"layers": [{"digest": digest("layer")}, "layer"]}, None, "layers[1].digest"),
        ({"layers": [{"size": 1}]}, None, "layers[0].digest"),
        ({"mediaType": 5}, None, "mediaType"),
        ({"mediaType": DOCKER_MANIFEST}, OCI_MANIFEST, "mediaType"),
        ({"manifests": []}, None, "manifests"),
        ({}, OCI_INDEX, "manifests"),
        ({}, DOCKER_LIST, "manifests"),
    ],
)
def test_a_malformed_part_is_named(fields: Json, header: str | None, path: str) -> None:
    with pytest.raises(InvalidIndex) as caught:
        Image.from_bytes(content_of({**manifest(), **fields}), header)

    assert caught.value.path == path


WINDOWS = {"os": "windows", "architecture": "amd64", "os.version": "10.0.1"}
S390X = {"os": "linux", "architecture": "s390x"}


@pytest.mark.parametrize(("docker", "listed_as"), [(False, OCI_INDEX), (True, DOCKER_LIST)])
@pytest.mark.parametrize(
    ("config", "platform"),
    [
        ({**WINDOWS, "os.features": []}, WINDOWS),
        ({"architecture": "s390x", "rootfs": {}}, S390X),
        ({**S390X, "variant": "v8"}, {**S390X, "variant": "v8"}),
        (None, None),
    ],
)
def test_a_wrapped_image_is_listed_with_the_platform_of_its_config(
    config: Json | None, platform: Json | None, docker: bool, listed_as: str
) -> None:
    wrapped = image(docker=docker)

    found = wrapped.wrap(config)

    (listed,) = found.manifests
    assert (found.media_type, listed.digest) == (listed_as, wrapped.digest)
    assert (listed.size, listed.fields.get("platform")) == (len(wrapped.content), platform)


@pytest.mark.parametrize("config", [{}, {"os": "linux"}, {"architecture": ["amd64"]}])
def test_a_config_that_tells_no_platform_is_refused(config: Json) -> None:
    with pytest.raises(InvalidIndex, match=r"config\.architecture"):
        image().wrap(config)


# Pulled documents# Pulled documents: checked against what was announced; errors name the reference


REFERENCE = Reference.parse("quay.io/org/app:1")
CONTENT = b"{}"
OTHER = digest("something else")


@pytest.mark.parametrize(
    ("content", "media_type", "kind"),
    [
        (content_of(document("linux/amd64")), OCI_INDEX, Index),
        (make_image(docker=True).content, DOCKER_MANIFEST, Image),
    ],
)
def test_an_index_or_an_image_is_read_as_one(content: bytes, media_type: str, kind: type) -> None:
    found = read_manifest(REFERENCE, content, media_type)

    assert isinstance(found, kind)
    assert found.content == content


@pytest.mark.parametrize(
    ("content", "content_type", "kind"),
    [
        (b'{"schemaVersion": 1}', None, NotAnIndex),
        (make_image().content, OCI_INDEX, InvalidIndex),
        (content_of(document("linux/amd64")), OCI_MANIFEST, InvalidIndex),
        (content_of(document("linux/amd64")), DOCKER_LIST, InvalidIndex),
        (content_of(document("linux/amd64")), "application/json", InvalidIndex),
        (content_of(document("linux/amd64", layers=[])), OCI_INDEX, InvalidIndex),
        (b"<html>", "text/html", InvalidIndex),
    ],
)
def test_errors_name_the_reference(
    content: bytes, content_type: str | None, kind: type[Exception]
) -> None:
    with pytest.raises(kind, match=f"^{REFERENCE}") as caught:
        read_manifest(REFERENCE, content, content_type)

    assert isinstance(caught.value.__cause__, kind)


@pytest.mark.parametrize(
    "announced",
    [
        None,
        "",
        digest_of(CONTENT),
        "sha256:short",
        "sha256:" + "A" * 64,
        "sha512:" + "0" * 128,
        "rubbish",
        digest_of(CONTENT) + ", " + OTHER,
    ],
)
def test_what_proves_nothing_is_ignored(announced: str | None) -> None:
    check_digest(REFERENCE, CONTENT, announced)


@pytest.mark.parametrize(
    ("reference", "announced"),
    [(REFERENCE, OTHER), *[(REFERENCE.at(OTHER), n) for n in (None, digest_of(CONTENT), OTHER)]],
)
def test_another_digest_than_asked_for_or_announced_is_refused(
    reference: Reference, announced: str | None
) -> None:
    with pytest.raises(DigestMismatch) as caught:
        check_digest(reference, CONTENT, announced)

    assert (caught.value.expected, caught.value.actual) == (OTHER, digest_of(CONTENT))
    check_digest(REFERENCE.at(digest_of(CONTENT)), CONTENT, digest_of(CONTENT))
