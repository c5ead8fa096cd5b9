"""The image manifest: what a tag of a single platform holds, and what an index points at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from attrs import field, frozen

from pubtools_mlmerge.descriptors import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    INDEX_TYPES,
    OCI_INDEX,
    OCI_MANIFEST,
)
from pubtools_mlmerge.documents import check_names, decode, folded
from pubtools_mlmerge.errors import InvalidIndex, InvalidPlatform, NotAnIndex
from pubtools_mlmerge.index import Index, content_type_name, digest_of
from pubtools_mlmerge.platforms import Platform
from pubtools_mlmerge.references import is_digest

_PLATFORM_PROPERTIES = ("os", "architecture", "variant", "os.version", "os.features")
_OF_AN_IMAGE = folded("schemaVersion", "mediaType", "config", "layers", "manifests")
_OF_A_BLOB = folded("mediaType", "digest", "size", "urls", "data")
_LIST_OF = {DOCKER_MANIFEST: DOCKER_LIST, OCI_MANIFEST: OCI_INDEX}


def _digests(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(values)


@frozen
class Image:
    """An image manifest with the bytes it came in (image-spec, "Image Manifest").

    Attributes:
        content (bytes):
            The exact bytes.
        media_type (str):
            Media type of the manifest.
        digest (str):
            Digest of the content.
        config (str):
            Digest of the config blob.
        blobs (tuple[str, ...]):
            Digests of the config and the layers, each once.
    """

    content: bytes = field(repr=False)
    media_type: str
    digest: str
    config: str
    blobs: tuple[str, ...] = field(converter=_digests, repr=False)

    @classmethod
    def from_bytes(cls, content: bytes, media_type: str | None = None) -> Image:
        """Read an image manifest.

        Args:
            content (bytes):
                The document as received.
            media_type (str | None):
                The Content-Type it came with, parameters allowed; none if nothing was stated.

        Returns:
            Image: The manifest, which keeps the content.

        Raises:
            InvalidIndex: When the document is malformed or contradicts its content type.
            NotAnIndex: When it is neither a Docker (schema 2) nor an OCI image manifest.
        """
        fields = decode(content)
        check_names(fields, _OF_AN_IMAGE)
        stated, header = fields.get("mediaType"), content_type_name(media_type)
        found = header or (stated if isinstance(stated, str) else OCI_MANIFEST)
        if found in INDEX_TYPES:
            raise InvalidIndex("manifests", f"is missing in a document of type {found}")
        if found not in _LIST_OF or "config" not in fields:
            what = "a schema 1 manifest" if fields.get("schemaVersion") == 1 else found
            raise NotAnIndex("document", what)
        if stated not in (None, found):
            raise InvalidIndex("mediaType", f"contradicts the content type {header}")
        if "manifests" in fields:
            raise InvalidIndex("manifests", "an image must not be an index as well")
        config = _digest(fields["config"], "config")
        layers = fields.get("layers")
        if not isinstance(layers, list):
            raise InvalidIndex("layers", "expected an array")
        # Layers with urls live elsewhere; registries do not hold them (image-spec, "urls").
        held = [
            _digest(layer, f"layers[{number}]")
            for number, layer in enumerate(layers)
            if not (isinstance(layer, dict) and layer.get("urls"))
        ]
        return cls(content, found, digest_of(content), config, dict.fromkeys([config, *held]))

    def wrap(self, config: Mapping[str, object]) -> Index:
        """Make an index that lists this image alone.

        Args:
            config (Mapping[str, object]):
                The config blob, which tells the platform (image-spec, "Image Configuration").

        Returns:
            Index: A Docker manifest list for a Docker image, else an OCI index.

        Raises:
            InvalidIndex: When the config tells no platform.
        """
        platform = {name: config[name] for name in _PLATFORM_PROPERTIES if config.get(name)}
        try:
            Platform.from_json(platform)
        except InvalidPlatform as error:
            raise InvalidIndex(f"config.{error.text}", error.problem) from error
        entry = {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": len(self.content),
            "platform": {"os": "linux", **platform},
        }
        media_type = _LIST_OF[self.media_type]
        fields = {"schemaVersion": 2, "mediaType": media_type, "manifests": [entry]}
        return Index.from_fields(fields)


def _digest(value: object, path: str) -> str:
    digest = None
    if isinstance(value, dict):
        check_names(value, _OF_A_BLOB, path)
        digest = value.get("digest")
    if not isinstance(digest, str) or not is_digest(digest):
        raise InvalidIndex(f"{path}.digest", "expected algorithm:encoded")
    return digest
