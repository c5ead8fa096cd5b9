"""The bytes of a merged index, its type, and whether they say anything new."""

from __future__ import annotations

import json

import pytest

from pubtools_mlmerge.core.manifests import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, Index
from pubtools_mlmerge.core.merge import assemble, is_unchanged
from pubtools_mlmerge.core.plan import Policy
from pubtools_mlmerge.errors import MixedTypes
from tests.factories import content_of, digests, document, entry, index

DOCKER = index("linux/amd64", docker=True)
DOCKER_TOO = index("linux/arm64", docker=True)
OCI = index("linux/s390x")
BARE = entry(None, media_type=DOCKER_MANIFEST)
NO_OS = entry(None, media_type=DOCKER_MANIFEST, platform={"architecture": "s390x"})


def joined(first: Index, second: Index | None, policy: Policy | None = None) -> Index:
    entries = [*first.manifests, *(second.manifests if second else ())]
    return assemble(first, second, entries, policy or Policy())


@pytest.mark.parametrize(
    ("source", "destination", "expected"),
    [
        (DOCKER, DOCKER_TOO, DOCKER_LIST),
        (DOCKER, None, DOCKER_LIST),
        (OCI, index("linux/arm64"), OCI_INDEX),
        (OCI, None, OCI_INDEX),
        (DOCKER, OCI, OCI_INDEX),
        (OCI, DOCKER, OCI_INDEX),
        (index(), DOCKER, DOCKER_LIST),
        (DOCKER, index(BARE), OCI_INDEX),
        (DOCKER, index(NO_OS), OCI_INDEX),
        (index("linux/amd64", docker=True, annotations={"a": "b"}), DOCKER_TOO, OCI_INDEX),
        (DOCKER_TOO, index("linux/amd64", docker=True, annotations={"a": "b"}), DOCKER_LIST),
        (index(entry("linux/arm64", media_type=DOCKER_MANIFEST)), None, OCI_INDEX),
    ],
)
def test_the_type_is_the_narrowest_that_fits(
    source: Index, destination: Index | None, expected: str
) -> None:
    result = joined(source, destination)

    assert (result.media_type, json.loads(result.content)["mediaType"]) == (expected, expected)


def test_a_mix_can_be_refused() -> None:
    with pytest.raises(MixedTypes) as caught:
        joined(DOCKER, OCI, Policy(mixed_types="fail"))

    assert caught.value.docker == tuple(digests(DOCKER))
    assert caught.value.oci == tuple(digests(OCI))


@pytest.mark.parametrize("pair", [(DOCKER, DOCKER_TOO), (OCI, index("linux/arm64"))])
def test_what_is_no_mix_is_not_refused(pair: tuple[Index, Index]) -> None:
    assert len(joined(*pair, Policy(mixed_types="fail")).manifests) == 2


def test_it_is_encoded_as_the_host_does() -> None:
    source = index("linux/amd64", annotations={"note": "é"}, subject={"digest": "sha256:1"})

    result = joined(source, OCI)

    expected = document(
        *(e.fields for e in (*source.manifests, *OCI.manifests)), annotations={"note": "é"}
    )
    assert result.content == json.dumps(expected, sort_keys=True, indent=4).encode()


def test_nothing_there_is_always_changed() -> None:
    assert not is_unchanged(OCI, OCI, None)


def test_the_same_digest_is_unchanged() -> None:
    assert is_unchanged(OCI, OCI, index("linux/s390x"))


def test_the_same_meaning_in_other_bytes_is_unchanged() -> None:
    destination = index("linux/amd64", "linux/s390x", media_type_field=False)
    source = index("linux/amd64")

    assert is_unchanged(joined(source, OCI), source, destination)


def test_an_untouched_source_brings_its_own_digest() -> None:
    source = index("linux/amd64")
    same = Index.from_bytes(json.dumps(dict(source.fields)).encode(), OCI_INDEX)

    assert same.content != source.content
    assert not is_unchanged(source, source, same)


@pytest.mark.parametrize("other", [1.0, True, "1"])
def test_values_that_python_holds_equal_are_told_apart(other: object) -> None:
    kept = [e.fields for e in index("linux/amd64", "linux/s390x").manifests]
    made = document(*kept, annotations={"count": other})
    destination = Index.from_bytes(content_of(made), OCI_INDEX)
    source = index("linux/amd64", annotations={"count": 1})

    assert not is_unchanged(joined(source, OCI), source, destination)
