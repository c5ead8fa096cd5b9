"""Manifests: checked against what they were announced as; errors name the reference."""

from __future__ import annotations

import pytest

from pubtools_mlmerge.core.manifests import (
    DOCKER_LIST,
    OCI_INDEX,
    OCI_MANIFEST,
    Image,
    Index,
    check_digest,
    digest_of,
    read_manifest,
)
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import DigestMismatch, InvalidIndex, NotAnIndex
from pubtools_mlmerge.testing import make_image
from tests.factories import content_of, digest, document

REFERENCE = Reference.parse("quay.io/org/app:1")
CONTENT = b"{}"
OTHER = digest("something else")


def test_an_index_is_read_as_one() -> None:
    content = content_of(document("linux/amd64"))

    found = read_manifest(REFERENCE, content, OCI_INDEX)

    assert isinstance(found, Index)
    assert found.content == content


def test_an_image_is_read_as_one() -> None:
    made = make_image(docker=True)

    found = read_manifest(REFERENCE, made.content, made.media_type)

    assert isinstance(found, Image)
    assert found.content == made.content


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


def test_another_digest_than_announced_is_refused() -> None:
    with pytest.raises(DigestMismatch) as caught:
        check_digest(REFERENCE, CONTENT, OTHER)

    assert (caught.value.expected, caught.value.actual) == (OTHER, digest_of(CONTENT))


@pytest.mark.parametrize("announced", [None, digest_of(CONTENT), OTHER])
def test_another_digest_than_asked_for_is_refused(announced: str | None) -> None:
    with pytest.raises(DigestMismatch, match=OTHER):
        check_digest(REFERENCE.at(OTHER), CONTENT, announced)


def test_the_digest_asked_for_passes() -> None:
    check_digest(REFERENCE.at(digest_of(CONTENT)), CONTENT, digest_of(CONTENT))
