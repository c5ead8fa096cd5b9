"""Unions: what a tag held at different times, taken together and compared."""

from __future__ import annotations

import pytest

from pubtools_mlmerge.core.manifests import Image, Index
from pubtools_mlmerge.core.merge import serve_the_same, union
from pubtools_mlmerge.testing import make_image
from tests.factories import attestation, digest, index, platforms

MADE = make_image("linux/amd64")
IMAGE = Image.from_bytes(MADE.content, MADE.media_type)


def test_the_newest_wins_and_nothing_is_lost() -> None:
    newest, older = index("linux/amd64@2", "linux/arm64@2"), index("linux/amd64@1", "linux/s390x@1")

    merged = union([newest, older])

    assert merged is not None
    assert platforms(merged) == ["linux/amd64", "linux/arm64", "linux/s390x"]
    assert merged.manifests[0].digest == digest("linux/amd64@2")


def test_single_images_add_nothing() -> None:
    assert union([IMAGE]) is None
    assert union([]) is None
    only = index("linux/amd64")
    assert union([IMAGE, only]) is only


def test_the_order_of_architectures_does_not_matter() -> None:
    one = index("linux/amd64", "linux/arm64", attestation(digest("linux/arm64")))
    other = index("linux/arm64", attestation(digest("linux/arm64")), "linux/amd64")

    assert serve_the_same(one, other)


@pytest.mark.parametrize(
    "other",
    [
        index("linux/arm/v7", "linux/arm/v6", "linux/amd64"),
        index("linux/arm/v6", "linux/arm/v7"),
        index("linux/arm/v6", "linux/arm/v7", "linux/amd64@other"),
        index("linux/arm/v6", "linux/arm/v7", "linux/amd64", docker=True),
        index("linux/arm/v6", "linux/arm/v7", "linux/amd64", annotations={"a": "b"}),
    ],
    ids=["variants", "fewer", "digest", "type", "annotations"],
)
def test_what_pullers_notice_matters(other: Index) -> None:
    assert not serve_the_same(index("linux/arm/v6", "linux/arm/v7", "linux/amd64"), other)
