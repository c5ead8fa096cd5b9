"""Descriptors: the entries of an index, and the media types they have."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen

from pubtools_mlmerge.documents import check_names, folded
from pubtools_mlmerge.errors import InvalidIndex, InvalidPlatform
from pubtools_mlmerge.platforms import Platform
from pubtools_mlmerge.references import is_digest

DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPES = (DOCKER_LIST, OCI_INDEX)
MANIFEST_TYPES = (DOCKER_LIST, OCI_INDEX, DOCKER_MANIFEST, OCI_MANIFEST)
DOCKER_MANIFESTS = frozenset(
    {
        DOCKER_MANIFEST,
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    }
)
"""What a Docker manifest list may list."""

# BuildKit, "Image attestation storage": the two annotations that tie an entry to its image.
_REFERENCE_TYPE = "vnd.docker.reference.type"
_REFERENCE_DIGEST = "vnd.docker.reference.digest"
_UNKNOWN = "unknown"
_PROPERTIES = folded(
    *("mediaType", "digest", "size", "platform", "annotations", "urls", "data", "artifactType")
)
_PLATFORM = folded("os", "architecture", "variant", "os.version", "os.features", "features")


@frozen
class Descriptor:
    """One entry of an index (image-spec, "Content Descriptors").

    Attributes:
        media_type (str):
            Media type of the manifest.
        digest (str):
            Its digest.
        size (int):
            Its size in bytes.
        platform (Platform | None):
            What it runs on, as written there; none for an entry that states none.
        attests (str | None):
            For an attestation, the digest of the image it belongs to (empty if it names none);
            none for any other entry.
        slot (Platform | None):
            The normalised platform; none where entries are not told apart by platform.
        fields (Mapping[str, object]):
            The whole entry as received, unknown fields included.
    """

    media_type: str
    digest: str
    size: int
    platform: Platform | None
    attests: str | None
    slot: Platform | None = field(repr=False)
    fields: Mapping[str, object] = field(repr=False)

    @classmethod
    def from_json(cls, value: object, path: str) -> Descriptor:
        """Read an entry of ``manifests``.

        Args:
            value (object):
                The entry as decoded.
            path (str):
                Its place in the document, for errors.

        Returns:
            Descriptor: The entry; its fields are carried unchanged.

        Raises:
            InvalidIndex: When a property that a merge relies on is missing or has a wrong type.
        """
        if not isinstance(value, dict):
            raise InvalidIndex(path, "expected an object")
        check_names(value, _PROPERTIES, path)
        media_type, digest, size = value.get("mediaType"), value.get("digest"), value.get("size")
        if not isinstance(media_type, str) or not media_type:
            raise InvalidIndex(f"{path}.mediaType", "expected a media type")
        if not isinstance(digest, str) or not is_digest(digest):
            raise InvalidIndex(f"{path}.digest", "expected algorithm:encoded")
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise InvalidIndex(f"{path}.size", "expected a number of bytes, zero or more")
        platform = _platform(value.get("platform"), f"{path}.platform")
        attests = _attests(value.get("annotations"), f"{path}.annotations")
        slot = None if platform is None or attests is not None else _slot(platform)
        return cls(media_type, digest, size, platform, attests, slot, value)

    @property
    def is_index(self) -> bool:
        """Whether the entry is an index within the index."""
        return self.media_type in INDEX_TYPES


def _platform(value: object, path: str) -> Platform | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise InvalidIndex(path, "expected an object")
    check_names(value, _PLATFORM, path)
    try:
        return Platform.from_json(value)
    except InvalidPlatform as error:
        raise InvalidIndex(f"{path}.{error.text}", error.problem) from error


def _slot(platform: Platform) -> Platform | None:
    slot = platform.normalized()
    return None if slot.os == slot.architecture == _UNKNOWN else slot


def _attests(annotations: object, path: str) -> str | None:
    if annotations is None:
        return None
    if not isinstance(annotations, dict):
        raise InvalidIndex(path, "expected an object")
    for name in (_REFERENCE_TYPE, _REFERENCE_DIGEST):
        if not isinstance(annotations.get(name, ""), str):
            raise InvalidIndex(f"{path}.{name}", "expected a string")
    if _REFERENCE_TYPE not in annotations:
        return None
    return str(annotations.get(_REFERENCE_DIGEST, ""))
