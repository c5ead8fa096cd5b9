"""Names and small values that the registry and the test images share."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import tarfile
import zlib

from attrs import frozen

DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"

SCHEMA_VERSION = 2

INDEX_TYPES = frozenset({DOCKER_LIST, OCI_INDEX})
MANIFEST_TYPES = INDEX_TYPES | {DOCKER_MANIFEST, OCI_MANIFEST}


def digest_of(content: bytes) -> str:
    """Compute the digest that names this content.

    Args:
        content (bytes):
            The exact bytes.

    Returns:
        str: ``sha256:`` and 64 hexadecimal digits.
    """
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def encode(document: object) -> bytes:
    """Encode a document with the indentation that Docker uses.

    No encoder in this package writes this form, so a test that compares bytes
    notices when a document was decoded and encoded again on its way.

    Args:
        document (object):
            Anything that JSON can hold.

    Returns:
        bytes: UTF-8 encoded JSON.
    """
    return json.dumps(document, indent=3).encode()


def make_archive(content: bytes) -> bytes:
    """Make a tar archive with one file.

    Args:
        content (bytes):
            What the file holds.

    Returns:
        bytes: The archive, the same for the same content.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        member = tarfile.TarInfo("content.txt")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def wrap_gzip(content: bytes) -> bytes:
    """Wrap content as gzip without compressing it.

    Versions of zlib differ in what they make of the same content; this does not.

    Args:
        content (bytes):
            Less than 64 KiB.

    Returns:
        bytes: What every gzip decompresses to the content.
    """
    header = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
    size = len(content)
    block = struct.pack("<BHH", 1, size, size ^ 0xFFFF) + content
    return header + block + struct.pack("<II", zlib.crc32(content), size)


@frozen(kw_only=True)
class StoredManifest:
    """A manifest as the registry holds it, byte for byte.

    Attributes:
        content (bytes):
            The bytes that were uploaded.
        media_type (str):
            The type that they were uploaded under.
        digest (str):
            The digest that names them.
    """

    content: bytes
    media_type: str
    digest: str
