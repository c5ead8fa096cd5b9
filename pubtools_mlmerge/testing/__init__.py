"""A registry on the loopback interface and tiny images, for tests and demos."""

from __future__ import annotations

from pubtools_mlmerge.testing.http import RecordedRequest
from pubtools_mlmerge.testing.images import (
    Image,
    ImageIndex,
    make_attestation,
    make_image,
    make_index,
    upload,
    upload_index,
)
from pubtools_mlmerge.testing.registry import StoredManifest, TagPeriod
from pubtools_mlmerge.testing.server import RegistryServer

__all__ = [
    "Image",
    "ImageIndex",
    "RecordedRequest",
    "RegistryServer",
    "StoredManifest",
    "TagPeriod",
    "make_attestation",
    "make_image",
    "make_index",
    "upload",
    "upload_index",
]
