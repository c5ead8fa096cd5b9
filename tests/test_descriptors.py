"""Descriptors: strict on what a merge relies on, tolerant on what it carries."""

from __future__ import annotations

import copy

import pytest

from pubtools_mlmerge.core.manifests import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, Descriptor
from pubtools_mlmerge.core.platforms import Platform
from pubtools_mlmerge.errors import InvalidIndex, InvalidPlatform
from tests.factories import REFERENCE_DIGEST, REFERENCE_TYPE, attestation, digest, entry

PATH = "manifests[3]"


def each(name: str, *values: object) -> list[tuple[str, object]]:
    """Pair a property with each of the values."""
    return [(name, value) for value in values]


def refusal(value: object) -> InvalidIndex:
    """Read what must be refused and give the error."""
    with pytest.raises(InvalidIndex) as caught:
        Descriptor.from_json(value, PATH)
    return caught.value


def test_an_entry_is_read() -> None:
    read = Descriptor.from_json(entry("linux/arm/v6", media_type=DOCKER_MANIFEST, size=7), PATH)

    assert (read.media_type, read.size) == (DOCKER_MANIFEST, 7)
    assert read.digest == digest("linux/arm/v6")
    assert read.platform == Platform("linux", "arm", "v6")
    assert read.attests is None


def test_an_entry_is_carried_as_received() -> None:
    value = entry("linux/amd64", annotations={"ключ": "значение"}, urls=["x"], data="e30=", new=[1])
    before = copy.deepcopy(value)

    read = Descriptor.from_json(value, PATH)

    assert read.fields is value
    assert value == before


def test_the_platform_is_as_written_and_the_slot_is_normalised() -> None:
    read = Descriptor.from_json(entry("Linux/aarch64/v8"), PATH)

    assert read.platform == Platform("Linux", "aarch64", "v8")
    assert read.slot == Platform("linux", "arm64")


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
    ],
)
def test_a_property_of_a_wrong_type_is_named(name: str, value: object) -> None:
    error = refusal({**entry(), name: value})

    assert error.path == f"{PATH}.{name}"
    assert error.problem.startswith("expected ")


@pytest.mark.parametrize("name", ["mediaType", "digest", "size"])
def test_a_missing_property_is_named(name: str) -> None:
    value = entry()
    del value[name]

    assert refusal(value).path == f"{PATH}.{name}"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("architecture", None),
        ("architecture", ""),
        ("architecture", 1),
        ("os", 1),
        ("variant", []),
        ("os.version", {}),
        ("os.features", "win32k"),
        ("os.features", {}),
        ("os.features", [1]),
    ],
)
def test_a_property_of_the_platform_of_a_wrong_type_is_named(name: str, value: object) -> None:
    error = refusal(entry(platform={"os": "linux", "architecture": "amd64", name: value}))

    assert error.path == f"{PATH}.platform.{name}"
    assert isinstance(error.__cause__, InvalidPlatform)


@pytest.mark.parametrize("name", [REFERENCE_TYPE, REFERENCE_DIGEST])
@pytest.mark.parametrize("value", [None, 1, [], {}])
def test_an_annotation_that_ties_must_be_text(name: str, value: object) -> None:
    error = refusal(entry(annotations={name: value}))

    assert error.path == f"{PATH}.annotations.{name}"
    assert error.problem == "expected a string"


@pytest.mark.parametrize("name", ["platform", "annotations"])
def test_null_counts_as_absent(name: str) -> None:
    read = Descriptor.from_json({**entry(None), name: None}, PATH)

    assert (read.platform, read.attests, read.slot) == (None, None, None)


def test_other_annotations_may_be_anything() -> None:
    assert Descriptor.from_json(entry(annotations={"a": 1, "b": None}), PATH).attests is None


def test_unknown_media_types_and_algorithms_are_taken() -> None:
    read = Descriptor.from_json(entry(media_type="x/y", digest="new+kind:aZ0=_-", size=0), PATH)

    assert (read.media_type, read.digest, read.size) == ("x/y", "new+kind:aZ0=_-", 0)


IMAGE = digest("image")


@pytest.mark.parametrize(
    "value",
    [
        attestation(IMAGE),
        attestation(IMAGE, artifactType="application/vnd.docker.attestation.manifest.v1+json"),
        attestation(IMAGE, platform=None),
        attestation(IMAGE, platform={"os": "linux", "architecture": "amd64"}),
        entry(annotations={REFERENCE_TYPE: "another kind", REFERENCE_DIGEST: IMAGE}),
    ],
    ids=["dummy config", "artifact", "no platform", "real platform", "unknown kind"],
)
def test_an_attestation_is_told_by_its_annotations(value: dict[str, object]) -> None:
    read = Descriptor.from_json(value, PATH)

    assert read.attests == IMAGE
    assert read.slot is None


@pytest.mark.parametrize(
    "value",
    [
        entry(annotations={REFERENCE_DIGEST: IMAGE}),
        entry("unknown/unknown"),
        entry(None, artifactType="application/vnd.docker.attestation.manifest.v1+json"),
    ],
)
def test_without_the_annotation_it_is_no_attestation(value: dict[str, object]) -> None:
    assert Descriptor.from_json(value, PATH).attests is None


def test_an_attestation_may_name_no_image() -> None:
    read = Descriptor.from_json(entry(annotations={REFERENCE_TYPE: "attestation-manifest"}), PATH)

    assert read.attests == ""


@pytest.mark.parametrize("text", ["unknown/unknown", "Unknown/UNKNOWN", "unknown/unknown/v1"])
def test_an_unknown_platform_is_no_slot(text: str) -> None:
    assert Descriptor.from_json(entry(text), PATH).slot is None


@pytest.mark.parametrize("text", ["linux/unknown", "unknown/amd64"])
def test_a_half_known_platform_is_a_slot(text: str) -> None:
    assert Descriptor.from_json(entry(text), PATH).slot is not None


@pytest.mark.parametrize(
    ("media_type", "expected"), [(OCI_INDEX, True), (DOCKER_LIST, True), (DOCKER_MANIFEST, False)]
)
def test_an_index_within_an_index_is_told(media_type: str, *, expected: bool) -> None:
    read = Descriptor.from_json(entry(None, media_type=media_type), PATH)

    assert read.is_index is expected
