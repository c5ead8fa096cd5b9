"""The index: exact bytes in, exact bytes out."""

from __future__ import annotations

import copy
import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pubtools_mlmerge.core.manifests import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    INDEX_TYPES,
    OCI_INDEX,
    OCI_MANIFEST,
    Index,
    digest_of,
)
from pubtools_mlmerge.core.strict_json import LARGEST
from pubtools_mlmerge.errors import InvalidIndex, MergeError, NotAnIndex
from tests.factories import content_of, digest, document, entry, index
from tests.laws.strategies import JSON


def refusal(document: object, media_type: str | None = None) -> InvalidIndex:
    """Read what must be refused and give the error."""
    with pytest.raises(InvalidIndex) as caught:
        Index.from_bytes(content_of(document), media_type)
    return caught.value


def test_an_index_keeps_its_exact_bytes() -> None:
    content = b'\n{ "schemaVersion" : 2,"manifests":[ ],\t"x":"\\u0061\xc3\xa9"}  '

    read = Index.from_bytes(content)

    assert read.content is content
    assert read.digest == f"sha256:{hashlib.sha256(content).hexdigest()}"


def test_entries_keep_their_order() -> None:
    read = index("linux/s390x", "linux/amd64", "linux/arm64")

    seeds = ("linux/s390x", "linux/amd64", "linux/arm64")
    assert [e.digest for e in read.manifests] == [digest(seed) for seed in seeds]


def test_an_index_may_be_empty() -> None:
    assert index().manifests == ()


def test_unknown_fields_are_carried() -> None:
    read = index(annotations={"é": "ü"}, artifactType="x/y", subject=entry(None), new=[None])

    assert read.fields["annotations"] == {"é": "ü"}
    assert (read.fields["artifactType"], read.fields["new"]) == ("x/y", [None])


def test_a_null_media_type_counts_as_not_stated() -> None:
    read = Index.from_bytes(content_of(document(mediaType=None)), DOCKER_LIST)

    assert read.media_type == DOCKER_LIST


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


@pytest.mark.parametrize(
    "header", ["application/json", "text/html", OCI_MANIFEST, DOCKER_MANIFEST, "*/*"]
)
def test_another_content_type_is_refused(header: str) -> None:
    error = refusal(document(), header)

    assert str(error) == f"mediaType: came with content type {header!r}"


@pytest.mark.parametrize("stated", ["", "text/html", OCI_MANIFEST, OCI_INDEX.upper()])
def test_another_stated_type_is_refused(stated: str) -> None:
    assert refusal(document(mediaType=stated)).path == "mediaType"


@pytest.mark.parametrize("stated", [1, True, [], {}, [OCI_INDEX]])
def test_a_stated_type_is_text(stated: object) -> None:
    assert str(refusal(document(mediaType=stated))) == "mediaType: expected a string"


def test_an_index_tells_whether_it_states_its_type() -> None:
    assert index().states_media_type
    assert not index(media_type_field=False).states_media_type
    assert not index(mediaType=None).states_media_type


@pytest.mark.parametrize("fields", [document(media_type_field=False), document(mediaType=None)])
def test_a_type_can_be_written_into_an_index_that_states_none(fields: dict[str, object]) -> None:
    old = Index.from_bytes(content_of({**fields, "subject": entry(None)}), DOCKER_LIST)

    made = old.with_media_type()

    assert made.fields == {**old.fields, "mediaType": DOCKER_LIST}
    assert Index.from_bytes(made.content) == made


def test_an_index_that_states_its_type_keeps_its_bytes() -> None:
    old = index()

    assert old.with_media_type() is old


def test_writing_the_type_does_not_make_an_index_too_large() -> None:
    written = index(media_type_field=False, pad="x" * (LARGEST - 60)).with_media_type()

    with pytest.raises(InvalidIndex, match="would have"):
        _ = written.digest


@pytest.mark.parametrize("version", [None, 1, 3, 2.0, "2", True, [2], {}])
def test_the_schema_version_is_two(version: object) -> None:
    assert str(refusal(document(schemaVersion=version))) == "schemaVersion: expected 2"


def test_the_schema_version_must_be_there() -> None:
    assert refusal({"mediaType": OCI_INDEX, "manifests": []}).path == "schemaVersion"


@pytest.mark.parametrize("manifests", [None, {}, "text", 0, True])
def test_manifests_is_an_array(manifests: object) -> None:
    assert str(refusal(document(manifests=manifests))) == "manifests: expected an array"


def test_an_error_names_the_entry() -> None:
    error = refusal(document("linux/amd64", "linux/arm64", entry(digest=7)))

    assert str(error) == "manifests[2].digest: expected algorithm:encoded"


@pytest.mark.parametrize(
    "name", ["config", "layers", "fsLayers", "Config", "LAYERS", "layer\u017f"]
)
@pytest.mark.parametrize("value", [None, {}, []])
def test_an_index_must_not_be_an_image_as_well(name: str, value: object) -> None:
    error = refusal(document(**{name: value}))  # type: ignore[arg-type]  # any field at all

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
    error = refusal({**document(), name: []})

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


def test_decoded_fields_are_checked_too() -> None:
    with pytest.raises(InvalidIndex, match="schemaVersion"):
        Index.from_fields({"manifests": []})


def test_a_new_index_has_other_entries_and_the_rest_of_the_old() -> None:
    old = index("linux/amd64", annotations={"a": "b"}, new=1, subject=entry(None))
    other = index("linux/arm64").manifests

    made = old.with_manifests(other, DOCKER_LIST)

    listed = [entry("linux/arm64")]
    assert made.fields == document(*listed, mediaType=DOCKER_LIST, annotations={"a": "b"}, new=1)
    assert made.manifests == other
    assert made.media_type == DOCKER_LIST


def test_a_new_index_states_its_type_and_no_subject() -> None:
    old = index(media_type_field=False, subject=entry(None))

    made = old.with_manifests(old.manifests, OCI_INDEX)

    assert made.states_media_type
    assert "subject" not in made.fields


def test_a_new_index_is_encoded_once_and_hashed_as_encoded() -> None:
    made = index("linux/amd64").with_manifests(iter(()), OCI_INDEX)

    assert made.digest == digest_of(made.content)
    assert json.loads(made.content) == made.fields
    assert Index.from_bytes(made.content) == made


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


def test_a_representation_does_not_spill_the_document() -> None:
    assert len(repr(index(*["linux/amd64"] * 50))) < 300


def read(content: bytes, media_type: str | None) -> Index | MergeError:
    """Read an index, or give our error; no other may come."""
    try:
        return Index.from_bytes(content, media_type)
    except MergeError as error:
        return error


@given(st.binary(max_size=80), st.none() | st.text(max_size=20))
def test_any_bytes_are_an_index_or_our_error(content: bytes, media_type: str | None) -> None:
    found = read(content, media_type)

    assert str(found).isprintable()


NAMES = st.sampled_from(["mediaType", "digest", "size", "platform", "annotations", "os", "a"])
VALUES = st.sampled_from([OCI_INDEX, OCI_MANIFEST, digest("x"), "", 0, 2, None]) | JSON
LOOSE_ENTRIES = st.dictionaries(NAMES, VALUES | st.dictionaries(NAMES, VALUES, max_size=2))
LOOSE_DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "schemaVersion": st.just(2) | JSON,
        "mediaType": st.sampled_from([OCI_INDEX, DOCKER_LIST]) | JSON,
        "manifests": st.lists(st.builds(entry) | LOOSE_ENTRIES, max_size=3) | JSON,
        "subject": JSON,
        "config": JSON,
        "Manifests": JSON,
    },
)


@given(LOOSE_DOCUMENTS | JSON, st.sampled_from([None, OCI_INDEX, DOCKER_LIST, "text/html"]))
def test_any_json_is_an_index_or_our_error(document: object, media_type: str | None) -> None:
    found = read(content_of(document), media_type)

    if isinstance(found, MergeError):
        assert str(found).isprintable()
    else:
        assert found.content == content_of(document)
        assert found.with_manifests(found.manifests, OCI_INDEX).manifests == found.manifests


@given(st.lists(LOOSE_ENTRIES | st.builds(entry), max_size=3))
def test_any_entries_are_read_or_their_place_is_named(entries: list[object]) -> None:
    found = read(content_of(document(manifests=entries)), None)

    if isinstance(found, InvalidIndex):
        assert found.path.startswith("manifests[")
    else:
        assert isinstance(found, Index)
        assert [e.fields for e in found.manifests] == entries
