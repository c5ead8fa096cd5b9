"""Manifests: what a reference can hold, checked against what it was announced as."""

from __future__ import annotations

import hashlib
from typing import Union

from attrs import evolve

from pubtools_mlmerge.errors import DigestMismatch, InvalidIndex, InvalidReference, NotAnIndex
from pubtools_mlmerge.image import Image
from pubtools_mlmerge.index import Index
from pubtools_mlmerge.references import Reference, is_registered_digest

Manifest = Union[Index, Image]
"""What a reference can hold."""
_HASHES = {"sha256": hashlib.sha256, "sha512": hashlib.sha512}


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
        DigestMismatch: When they differ. A header is compared if it is sha256 (image-spec,
            "Digests": the one algorithm that must be supported); a malformed one proves nothing.
        InvalidReference: When nobody here can compute the digest that was asked for: whoever names
            one relies on it.
    """
    if reference.digest:
        _check(reference, content, reference.digest)
    if announced and announced.startswith("sha256:") and is_registered_digest(announced):
        _check(reference, content, announced)


def _check(reference: Reference, content: bytes, expected: str) -> None:
    algorithm = expected.partition(":")[0]
    if algorithm not in _HASHES:
        problem = f"content is checked by {' and '.join(_HASHES)} only, not by {algorithm}"
        raise InvalidReference(str(reference), problem)
    actual = f"{algorithm}:{_HASHES[algorithm](content).hexdigest()}"
    if expected != actual:
        raise DigestMismatch(str(reference), expected, actual)
