"""The index: exact bytes in, exact bytes out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import cached_property

from attrs import field, frozen

from pubtools_mlmerge.descriptors import DOCKER_LIST, INDEX_TYPES, OCI_INDEX, Descriptor
from pubtools_mlmerge.documents import LARGEST, check_names, decode, encode, folded
from pubtools_mlmerge.errors import InvalidIndex, NotAnIndex

_SCHEMA_VERSION = 2
# Properties of an image manifest: a document that has them too could be read as either.
_OF_AN_IMAGE = frozenset({"config", "layers", "fslayers"})
_OF_AN_INDEX = folded(
    *("schemaVersion", "mediaType", "manifests", "subject", "annotations", "artifactType")
)


def digest_of(content: bytes) -> str:
    """Compute the digest that a registry keeps content under.

    Args:
        content (bytes):
            The content.

    Returns:
        str: ``sha256:`` and 64 hexadecimal digits.
    """
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def content_type_name(header: str | None) -> str | None:
    """Take the media type out of a Content-Type header.

    Args:
        header (str | None):
            The header, if there was one.

    Returns:
        str | None: Lower case and without parameters; none if nothing was stated.
    """
    return (header or "").partition(";")[0].strip().lower() or None


def _descriptors(values: Iterable[Descriptor]) -> tuple[Descriptor, ...]:
    return tuple(values)


@frozen(eq=False)
class Index:
    """An OCI image index or a Docker manifest list, with the bytes it came in.

    Attributes:
        media_type (str):
            Media type, stated or inferred.
        manifests (tuple[Descriptor, ...]):
            The entries, in order.
        fields (Mapping[str, object]):
            The whole document as decoded.
    """

    media_type: str
    manifests: tuple[Descriptor, ...] = field(converter=_descriptors, repr=False)
    fields: Mapping[str, object] = field(repr=False)
    _received: bytes | None = field(default=None, repr=False)

    @cached_property
    def content(self) -> bytes:
        """The exact bytes: as received, or encoded as the host does, once they are asked for.

        Raises:
            InvalidIndex: When an index that was made here is larger than registries take.
        """
        if self._received is not None:
            return self._received
        content = encode(self.fields)
        if len(content) > LARGEST:
            problem = f"would have {len(content)} bytes, at most {LARGEST} are allowed"
            raise InvalidIndex("", problem)
        return content

    @cached_property
    def digest(self) -> str:
        """Digest of the content."""
        return digest_of(self.content)

    def __eq__(self, other: object) -> bool:
        """Compare types and bytes."""
        if not isinstance(other, Index):
            return NotImplemented
        return self.media_type == other.media_type and self.content == other.content

    def __hash__(self) -> int:
        """Hash the bytes."""
        return hash(self.content)

    @classmethod
    def from_bytes(cls, content: bytes, media_type: str | None = None) -> Index:
        """Read an index, strict on what a merge relies on, tolerant on what it carries.

        Args:
            content (bytes):
                The document as received.
            media_type (str | None):
                The Content-Type it came with, parameters allowed; none if nothing was stated.

        Returns:
            Index: The index, which keeps the content.

        Raises:
            InvalidIndex: When the document breaks a rule; the error names the place.
            NotAnIndex: When it is something else, such as a single image or schema 1.
        """
        return cls._from_fields(decode(content), media_type, content)

    @classmethod
    def from_fields(cls, fields: Mapping[str, object]) -> Index:
        """Read an index that was decoded already.

        Args:
            fields (Mapping[str, object]):
                The document. It is kept, not changed.

        Returns:
            Index: The index, its content encoded as the host encodes.

        Raises:
            InvalidIndex: When the document breaks a rule.
            NotAnIndex: When it is something else.
        """
        return cls._from_fields(fields, None, None)

    @classmethod
    def _from_fields(
        cls, fields: Mapping[str, object], content_type: str | None, content: bytes | None
    ) -> Index:
        _check_shape(fields)
        media_type = _media_type(fields, content_type)
        entries = fields["manifests"]
        if not isinstance(entries, list):
            raise InvalidIndex("manifests", "expected an array")
        manifests = (
            Descriptor.from_json(entry, f"manifests[{number}]")
            for number, entry in enumerate(entries)
        )
        return cls(media_type, manifests, fields, content)

    def with_manifests(self, manifests: Iterable[Descriptor], media_type: str) -> Index:
        """Make a new index that has these entries and the rest of this one.

        ``subject`` stays behind: the new index would become a referrer of its target.
        ``mediaType`` is always written, as clients that find none assume schema 1.

        Args:
            manifests (Iterable[Descriptor]):
                The entries.
            media_type (str):
                Media type of the new index.

        Returns:
            Index: The new index.
        """
        entries = tuple(manifests)
        kept = {name: value for name, value in self.fields.items() if name != "subject"}
        listed = [entry.fields for entry in entries]
        return Index(media_type, entries, {**kept, "mediaType": media_type, "manifests": listed})

    def with_media_type(self) -> Index:
        """Write the media type into an index that does not state it.

        Returns:
            Index: The same index in other bytes; itself if the type is there already.
        """
        if self.states_media_type:
            return self
        fields = {**self.fields, "mediaType": self.media_type}
        return Index(self.media_type, self.manifests, fields)

    @property
    def states_media_type(self) -> bool:
        """Whether the document itself says what it is (an OCI index need not)."""
        return self.fields.get("mediaType") is not None


def _check_shape(fields: Mapping[str, object]) -> None:
    """Refuse what could be taken for something else (image-spec, CVE-2021-41190)."""
    check_names(fields, _OF_AN_INDEX)
    version = fields.get("schemaVersion")
    if version == 1 and "manifests" not in fields:
        raise NotAnIndex("document", "a schema 1 manifest")
    image_like = sorted(name for name in fields if name.casefold() in _OF_AN_IMAGE)
    if "manifests" not in fields:
        found = str(fields.get("mediaType") or ("an image manifest" if image_like else ""))
        raise NotAnIndex("document", found)
    if image_like:
        raise InvalidIndex(image_like[0], "an index must not be an image as well")
    if version != _SCHEMA_VERSION or not isinstance(version, int):
        raise InvalidIndex("schemaVersion", f"expected {_SCHEMA_VERSION}")


def _media_type(fields: Mapping[str, object], content_type: str | None) -> str:
    """Agree on one type between the document and the header (distribution-spec, "Pull")."""
    stated = fields.get("mediaType")
    header = content_type_name(content_type)
    if stated is not None and not isinstance(stated, str):
        raise InvalidIndex("mediaType", "expected a string")
    if header is not None and header not in INDEX_TYPES:
        raise InvalidIndex("mediaType", f"came with content type {header!r}")
    if stated is None:
        return header or OCI_INDEX
    if stated not in INDEX_TYPES:
        raise InvalidIndex("mediaType", f"expected {OCI_INDEX} or {DOCKER_LIST}")
    if header not in (None, stated):
        raise InvalidIndex("mediaType", f"contradicts the content type {header}")
    return stated
