"""Just enough reading of manifests to check what they refer to."""

from __future__ import annotations

import json
from collections.abc import Mapping

from attrs import frozen

from pubtools_mlmerge.testing.content import INDEX_TYPES


@frozen
class UnreadableDocumentError(ValueError):
    """A document has something else in a place than belongs there."""

    expected: str
    found: str

    def __str__(self) -> str:
        return f"expected {self.expected}, found {self.found}"


@frozen(kw_only=True)
class Entry:
    """A descriptor in a manifest or an index; absent parts are empty."""

    digest: str
    media_type: str
    size: int
    platform: Mapping[str, object]

    @classmethod
    def parse(cls, document: object) -> Entry:
        """Read a descriptor; raise ValueError where it has no digest."""
        members = _object(document)
        size = members.get("size")
        platform = members.get("platform")
        return cls(
            digest=_text(members.get("digest")),
            media_type=str(members.get("mediaType", "")),
            size=size if isinstance(size, int) else -1,
            platform=platform if isinstance(platform, dict) else {},
        )

    @property
    def is_linux_amd64(self) -> bool:
        """Whether old clients get this entry instead of the list."""
        platform = self.platform
        return platform.get("os") == "linux" and platform.get("architecture") == "amd64"


@frozen(kw_only=True)
class Document:
    """A manifest or an index, decoded.

    Attributes:
        media_type (str):
            What the document says it is; empty if it does not.
        schema_version (object):
            Whatever stands there.
        keys (frozenset[str]):
            The names at the top level.
        children (tuple[Entry, ...]):
            The entries of an index.
        blobs (tuple[str, ...]):
            Digests of an image's layers and config.
    """

    media_type: str
    schema_version: object
    keys: frozenset[str]
    children: tuple[Entry, ...]
    blobs: tuple[str, ...]

    @classmethod
    def parse(cls, content: bytes) -> Document:
        """Read a document; raise ValueError where that cannot be done."""
        try:
            members = _object(json.loads(content))
        except ValueError as error:
            raise UnreadableDocumentError("JSON", str(error)) from error
        except RecursionError as error:
            raise UnreadableDocumentError("JSON", "endless nesting") from error
        layers = [Entry.parse(layer).digest for layer in _array(members.get("layers"))]
        config = members.get("config")
        return cls(
            media_type=str(members.get("mediaType", "")),
            schema_version=members.get("schemaVersion"),
            keys=frozenset(members),
            children=tuple(map(Entry.parse, _array(members.get("manifests")))),
            blobs=tuple(layers if config is None else [Entry.parse(config).digest, *layers]),
        )

    def fits(self, media_type: str) -> bool:
        """Tell whether the document has the parts of this type and not the others'."""
        image_parts = self.keys & {"config", "layers"}
        is_index = media_type in INDEX_TYPES
        return ("manifests" in self.keys) == is_index and bool(image_parts) != is_index

    @property
    def linux_amd64(self) -> Entry | None:
        """The entry that old clients get instead of the list."""
        return next((child for child in self.children if child.is_linux_amd64), None)


def _object(value: object) -> dict[str, object]:
    if isinstance(value, dict):
        return value
    raise UnreadableDocumentError("object", type(value).__name__)


def _array(value: object) -> list[object]:
    if isinstance(value, list):
        return value
    if value is None:
        return []
    raise UnreadableDocumentError("array", type(value).__name__)


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    raise UnreadableDocumentError("string", type(value).__name__)
