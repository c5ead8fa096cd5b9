"""Manifests: what a reference can hold, checked against what it was announced as."""

from __future__ import annotations

from typing import Union

from attrs import evolve

from pubtools_mlmerge.errors import DigestMismatch, InvalidIndex, NotAnIndex
from pubtools_mlmerge.image import Image
from pubtools_mlmerge.index import Index, digest_of
from pubtools_mlmerge.references import Reference, is_registered_digest

Manifest = Union[Index, Image]
"""What a reference can hold."""


def read_manifest(reference: Reference, content: bytes, content_type: str | None) -> Manifest:
    """Read a document that was pulled; errors name the reference.

    Args:
        reference (Reference):
            What was asked for.
        content (bytes):
            The document as received.
        content_type (str | None):
            Its Content-Type; none if nothing reliable was stated.

    Returns:
        Manifest: An index or a single image.

    Raises:
        InvalidIndex: When the document breaks a rule.
        NotAnIndex: When it is neither.
    """
    try:
        try:
            return Index.from_bytes(content, content_type)
        except NotAnIndex:
            return Image.from_bytes(content, content_type)
    except (InvalidIndex, NotAnIndex) as error:
        raise evolve(error, reference=str(reference)) from error


def check_digest(reference: Reference, content: bytes, announced: str | None) -> None:
    """Compare content with the digest asked for and the one the registry announced.

    Args:
        reference (Reference):
            What was asked for.
        content (bytes):
            What came.
        announced (str | None):
            The header Docker-Content-Digest, if there was one.

    Raises:
        DigestMismatch: When they differ. Only sha256 can be told (image-spec, "Digests": the one
            algorithm that must be supported); a malformed header proves nothing.
    """
    actual = digest_of(content)
    for expected in (reference.digest, announced or ""):
        is_sha256 = expected.startswith("sha256:") and is_registered_digest(expected)
        if is_sha256 and expected != actual:
            raise DigestMismatch(str(reference), expected, actual)
