"""Index, image and descriptor: read strictly, kept byte for byte."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Union

from attrs import evolve, field, frozen

from pubtools_mlmerge.core.platforms import Platform
from pubtools_mlmerge.core.references import Reference, is_digest, is_registered_digest
from pubtools_mlmerge.core.strict_json import LARGEST, check_names, decode, encode, folded
from pubtools_mlmerge.errors import (
    DigestMismatch,
    InvalidIndex,
    InvalidPlatform,
    InvalidReference,
    NotAnIndex,
)

DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPES = (DOCKER_LIST, OCI_INDEX)
MANIFEST_TYPES = (DOCKER_LIST, OCI_INDEX, DOCKER_MANIFEST, OCI_MANIFEST)
_SCHEMA_1_TYPES = frozenset(
    f"application/vnd.docker.distribution.manifest.v1+{form}" for form in ("json", "prettyjws")
)
DOCKER_MANIFESTS = frozenset({DOCKER_MANIFEST, *_SCHEMA_1_TYPES})
"""What a Docker manifest list may list."""

_IMAGE_CONFIGS = frozenset(
    {
        "application/vnd.docker.container.image.v1+json",
        "application/vnd.oci.image.config.v1+json",
    }
)
_HELM_CONFIG = "application/vnd.cncf.helm.config.v1+json"

# BuildKit, "Image attestation storage": the two annotations that tie an entry to its image.
_REFERENCE_TYPE = "vnd.docker.reference.type"
_REFERENCE_DIGEST = "vnd.docker.reference.digest"
_UNKNOWN = "unknown"
# Keys that are used, at the top of a document, in an entry or blob, and in a platform.
_TOP_LEVEL = folded(
    *("schemaVersion", "mediaType", "artifactType", "manifests", "config", "layers"),
    *("subject", "annotations"),
)
_LARGEST_SIZE = 2**63 - 1  # image-spec, "Content Descriptors": an int64
_PROPERTIES = folded(
    *("mediaType", "digest", "size", "platform", "annotations", "urls", "data", "artifactType")
)
_PLATFORM = folded("os", "architecture", "variant", "os.version", "os.features", "features")
# A document that has these as well as `manifests` could be read as either (CVE-2021-41190).
_IMAGE_FIELDS = frozenset({"config", "layers", "fslayers"})
_SCHEMA_VERSION = 2


@frozen
class Descriptor:
    """One entry of an index (image-spec, "Content Descriptors").

    Attributes:
        media_type (str): Media type of the manifest.
        digest (str): Its digest.
        size (int): Its size in bytes.
        platform (Platform | None): Its platform as written there; none for an entry without one.
        is_attestation (bool): Whether it says something about an image, such as where it was built.
        attested (str | None): Digest of the image that an attestation belongs to; none if it names
            none.
        slot (Platform | None): The normalised platform, by which entries replace each other; none
            for an attestation, a nested index, an unknown platform or none at all.
        fields (Mapping[str, object]): The whole entry as received, unknown fields included.
        listed (frozenset[tuple[str, Platform | None]] | None): Digests and normalised platforms of
            what a nested index lists, at all levels; none until it is read.
    """

    media_type: str
    digest: str
    size: int
    platform: Platform | None
    is_attestation: bool
    attested: str | None
    slot: Platform | None = field(repr=False)
    fields: Mapping[str, object] = field(repr=False)
    listed: frozenset[tuple[str, Platform | None]] | None = field(default=None, repr=False)

    @classmethod
    def from_json(cls, value: object, path: str) -> Descriptor:
        """Read an entry of ``manifests``; `path` is its place in the document, for errors.

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
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= _LARGEST_SIZE:
            raise InvalidIndex(f"{path}.size", "expected a number of bytes, of at most 63 bits")
        platform = _platform(value.get("platform"), f"{path}.platform")
        is_attestation, attested = _attestation(value.get("annotations"), f"{path}.annotations")
        is_image = not is_attestation and media_type not in INDEX_TYPES
        slot = platform.normalized() if platform is not None and is_image else None
        if slot is not None and slot.os == slot.architecture == _UNKNOWN:
            slot = None
        return cls(media_type, digest, size, platform, is_attestation, attested, slot, value)

    @property
    def is_index(self) -> bool:
        """Whether the entry is a nested index, which is known by what it lists."""
        return self.media_type in INDEX_TYPES and not self.is_attestation

    @property
    def slots(self) -> frozenset[Platform]:
        """The normalised platforms that the entry covers, or that a nested index lists."""
        listed = self.listed or ((self.digest, self.slot),)
        return frozenset(slot for _, slot in listed if slot is not None)

    @property
    def digests(self) -> frozenset[str]:
        """The digest of the entry, and of all that a nested index lists."""
        return frozenset((self.digest, *(digest for digest, _ in self.listed or ())))

    @property
    def lacks_platform(self) -> bool:
        """Whether the entry is for no platform, and says nothing about an image."""
        return self.slot is None and not self.is_attestation and not self.is_index


def _platform(value: object, path: str) -> Platform | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise InvalidIndex(path, "expected an object")
    check_names(value, _PLATFORM, path)
    if all(value.get(name) in (None, "") for name in ("os", "architecture")):
        return None  # buildah writes this for an artifact
    try:
        return Platform.from_json(value)
    except InvalidPlatform as error:
        raise InvalidIndex(f"{path}.{error.text}", error.problem) from error


def _attestation(annotations: object, path: str) -> tuple[bool, str | None]:
    """Read whether an entry is an attestation, and of which image."""
    if annotations is None:
        return False, None
    if not isinstance(annotations, dict):
        raise InvalidIndex(path, "expected an object")
    for name in (_REFERENCE_TYPE, _REFERENCE_DIGEST):
        if not isinstance(annotations.get(name, ""), str):
            raise InvalidIndex(f"{path}.{name}", "expected a string")
    if _REFERENCE_TYPE not in annotations:
        return False, None
    return True, annotations.get(_REFERENCE_DIGEST) or None


def digest_of(content: bytes) -> str:
    """Compute the digest of content: ``sha256:`` and 64 hexadecimal digits."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def content_type_name(header: str | None) -> str | None:
    """Return the media type of a Content-Type header in lower case; empty if absent."""
    return (header or "").partition(";")[0].strip().lower() or None


@frozen(eq=False)
class Index:
    """An OCI image index or a Docker manifest list, with the bytes it came in.

    Attributes:
        media_type (str): Media type, stated or inferred.
        manifests (tuple[Descriptor, ...]): The entries, in order.
        fields (Mapping[str, object]): The whole document as decoded.
    """

    media_type: str
    manifests: tuple[Descriptor, ...] = field(converter=tuple[Descriptor, ...], repr=False)
    fields: Mapping[str, object] = field(repr=False)
    _received: bytes | None = field(default=None, repr=False)

    @cached_property
    def content(self) -> bytes:
        """The exact bytes: as received, or else encoded as the host does.

        Raises:
            InvalidIndex: When a new index is larger than registries accept.
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
        if not isinstance(other, Index):
            return NotImplemented
        return (
            self.media_type == other.media_type
            and self.content == other.content
            # What nested indexes list is known for one, and perhaps not for the other.
            and [e.listed for e in self.manifests] == [e.listed for e in other.manifests]
        )

    def __hash__(self) -> int:
        return hash(self.content)

    @classmethod
    def from_bytes(cls, content: bytes, media_type: str | None = None) -> Index:
        """Read an index: strict on what a merge uses, tolerant on what it carries.

        Args:
            content (bytes): The document as received.
            media_type (str | None): The Content-Type header, if there was one.

        Raises:
            InvalidIndex: When the document breaks a rule; the error names the place.
            NotAnIndex: When it is something else, such as a single image.
        """
        return _read_index(decode(content), media_type, content)

    @classmethod
    def from_fields(cls, fields: Mapping[str, object]) -> Index:
        """Read an index that is already decoded; its content is encoded as the host encodes.

        Raises:
            InvalidIndex: When the document breaks a rule.
            NotAnIndex: When it is something else.
        """
        return _read_index(fields)

    def with_manifests(self, manifests: Iterable[Descriptor], media_type: str) -> Index:
        """Make a new index with these entries and everything else of this one.

        ``subject`` is left out, as the new index is not a referrer of that manifest.
        ``mediaType`` is always written, as some clients assume schema 1 without it.
        """
        entries = tuple(manifests)
        kept = {name: value for name, value in self.fields.items() if name != "subject"}
        listed = [entry.fields for entry in entries]
        return Index(media_type, entries, {**kept, "mediaType": media_type, "manifests": listed})

    def with_media_type(self) -> Index:
        """Write the media type into an index that does not state it."""
        if self.states_media_type:
            return self
        fields = {**self.fields, "mediaType": self.media_type}
        return Index(self.media_type, self.manifests, fields)

    @property
    def states_media_type(self) -> bool:
        """Whether the document has a ``mediaType``, which is optional in an OCI index."""
        return self.fields.get("mediaType") is not None


def _read_index(
    fields: Mapping[str, object], content_type: str | None = None, content: bytes | None = None
) -> Index:
    image_like = sorted(name for name in fields if name.casefold() in _IMAGE_FIELDS)
    if "manifests" not in fields:
        check_names(fields, _TOP_LEVEL)
        if fields.get("schemaVersion") == 1:
            raise NotAnIndex("document", "a schema 1 manifest")
        found = fields.get("mediaType") or ("an image manifest" if image_like else "")
        raise NotAnIndex("document", str(found))
    if image_like:
        raise InvalidIndex(image_like[0], "an index must not be an image as well")
    check_names(fields, _TOP_LEVEL)
    version, entries = fields.get("schemaVersion"), fields["manifests"]
    if version != _SCHEMA_VERSION or not isinstance(version, int):
        raise InvalidIndex("schemaVersion", f"expected {_SCHEMA_VERSION}")
    media_type = _media_type(fields, content_type, OCI_INDEX, DOCKER_LIST)
    if not isinstance(entries, list):
        raise InvalidIndex("manifests", "expected an array")
    manifests = (
        Descriptor.from_json(entry, f"manifests[{number}]") for number, entry in enumerate(entries)
    )
    return Index(media_type, manifests, fields, content)


def _media_type(
    fields: Mapping[str, object], content_type: str | None, oci: str, docker: str
) -> str:
    """Agree on one type between document and header (distribution-spec, "Pull")."""
    stated, header = fields.get("mediaType"), content_type_name(content_type)
    if stated is not None and not isinstance(stated, str):
        raise InvalidIndex("mediaType", "expected a string")
    if header is not None and header not in (oci, docker):
        raise InvalidIndex("mediaType", f"came with content type {header!r}")
    if stated is not None and stated not in (oci, docker):
        raise InvalidIndex("mediaType", f"expected {oci} or {docker}")
    if stated and header and stated != header:
        raise InvalidIndex("mediaType", f"contradicts the content type {header}")
    return stated or header or oci


_PLATFORM_PROPERTIES = ("os", "architecture", "variant", "os.version", "os.features")
_LIST_OF = {DOCKER_MANIFEST: DOCKER_LIST, OCI_MANIFEST: OCI_INDEX}


@frozen
class Image:
    """An image manifest with the bytes it came in (image-spec, "Image Manifest").

    Attributes:
        content (bytes): The exact bytes.
        media_type (str): Media type of the manifest.
        digest (str): Digest of the content.
        config (str): Digest of the config blob.
        blobs (tuple[str, ...]): Digests of the config and the layers, each once.
        fields (Mapping[str, object]): The whole document as decoded.
    """

    content: bytes = field(repr=False)
    media_type: str
    digest: str
    config: str
    blobs: tuple[str, ...] = field(converter=tuple[str, ...], repr=False)
    fields: Mapping[str, object] = field(factory=dict, eq=False, repr=False)

    @classmethod
    def from_bytes(cls, content: bytes, media_type: str | None = None) -> Image:
        """Read an image manifest.

        Args:
            content (bytes): The document as received.
            media_type (str | None): The Content-Type header, if there was one.

        Raises:
            InvalidIndex: When the document breaks a rule; the error names the place.
            NotAnIndex: When it is something else, such as schema 1.
        """
        return _read_image(decode(content), media_type, content)

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """The size of each blob, as the document states it.

        Raises:
            InvalidIndex: When it states none.
        """
        sizes, held, layers = {}, frozenset(self.blobs), self.fields.get("layers")
        for blob in (self.fields.get("config"), *(layers if isinstance(layers, list) else ())):
            if not isinstance(blob, dict) or blob.get("digest") not in held:
                continue  # stored elsewhere
            size = blob.get("size")
            if type(size) is not int or not 0 <= size <= _LARGEST_SIZE:
                problem = f"expected the number of bytes of {blob['digest']}, of at most 63 bits"
                raise InvalidIndex("size", problem)
            sizes[str(blob["digest"])] = size
        return sizes

    @property
    def kind(self) -> str:
        """The type of an artifact, or the media type, for messages."""
        config_type = _text(self.fields.get("config"), "mediaType")
        if config_type is None or config_type in _IMAGE_CONFIGS:
            return self.media_type
        if config_type == _HELM_CONFIG:
            return f"a Helm chart ({config_type})"
        return f"an artifact of type {self.fields.get('artifactType') or config_type}"

    def wrap(self, config: Mapping[str, object] | None) -> Index:
        """Make an index that lists this image alone.

        Args:
            config (Mapping[str, object] | None): The config blob, which states the platform
                (image-spec, "Image Configuration"); none for an entry without platform.

        Returns:
            Index: A Docker manifest list for a Docker image, else an OCI index.

        Raises:
            InvalidIndex: When the config states no platform.
        """
        entry: dict[str, object] = {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": len(self.content),
        }
        if config is not None:
            platform = {name: config[name] for name in _PLATFORM_PROPERTIES if config.get(name)}
            try:
                Platform.from_json(platform)
            except InvalidPlatform as error:
                raise InvalidIndex(f"config.{error.text}", error.problem) from error
            entry["platform"] = {"os": "linux", **platform}
        media_type = _LIST_OF[self.media_type]
        fields = {"schemaVersion": 2, "mediaType": media_type, "manifests": [entry]}
        return Index.from_fields(fields)


def _read_image(fields: Mapping[str, object], content_type: str | None, content: bytes) -> Image:
    check_names(fields, _TOP_LEVEL)
    stated = fields.get("mediaType")
    found = content_type_name(content_type) or (stated if isinstance(stated, str) else OCI_MANIFEST)
    if found in INDEX_TYPES:
        raise InvalidIndex("manifests", f"is missing in a document of type {found}")
    if found not in _LIST_OF or "config" not in fields:
        is_schema_1 = fields.get("schemaVersion") == 1
        raise NotAnIndex("document", "a schema 1 manifest" if is_schema_1 else found)
    media_type = _media_type(fields, content_type, OCI_MANIFEST, DOCKER_MANIFEST)
    if "manifests" in fields:
        raise InvalidIndex("manifests", "an image must not be an index as well")
    config, layers = _digest(fields["config"], "config"), fields.get("layers")
    layers = [] if layers is None else layers
    if not isinstance(layers, list):
        raise InvalidIndex("layers", "expected an array")
    # Layers with urls are stored elsewhere, not in the registry (image-spec, "urls").
    held = [
        _digest(layer, f"layers[{number}]")
        for number, layer in enumerate(layers)
        if not (isinstance(layer, dict) and layer.get("urls"))
    ]
    blobs = dict.fromkeys([config, *held])
    return Image(content, media_type, digest_of(content), config, blobs, fields)


def _digest(value: object, path: str) -> str:
    if isinstance(value, dict):
        check_names(value, _PROPERTIES, path)
    digest = _text(value, "digest")
    if digest is None or not is_digest(digest):
        raise InvalidIndex(f"{path}.digest", "expected algorithm:encoded")
    return digest


Manifest = Union[Index, Image]
"""What a reference can hold."""


def subject_of(manifest: Manifest) -> str | None:
    """Read which manifest this one refers to, if any (image-spec, "subject")."""
    return _text(manifest.fields.get("subject"), "digest")


def _text(fields: object, name: str) -> str | None:
    value = fields.get(name) if isinstance(fields, dict) else None
    return value if isinstance(value, str) else None


@frozen
class Referrer:
    """A manifest that refers to another one; cosign's have a tag that says so."""

    subject: str
    digest: str
    kind: str  # the type of an artifact, or what cosign calls it
    tag: str = ""
    fields: Mapping[str, object] = field(factory=dict, eq=False, repr=False)  # as it was listed


_HASHES = {"sha256": hashlib.sha256, "sha512": hashlib.sha512}


def read_manifest(reference: Reference, content: bytes, content_type: str | None) -> Manifest:
    """Read a pulled document; errors name the reference."""
    try:
        fields = decode(content)
        if "manifests" in fields:
            return _read_index(fields, content_type, content)
        return _read_image(fields, content_type, content)
    except (InvalidIndex, NotAnIndex) as error:
        raise evolve(error, reference=str(reference)) from error


def read_partial(document: Mapping[str, object]) -> Index:
    """Read a document of a Python program, whose entries may state no more than a platform."""
    fields, entries = {"schemaVersion": _SCHEMA_VERSION, **document}, document.get("manifests")
    if not isinstance(entries, list):
        return Index.from_fields(fields)
    child_type = DOCKER_MANIFEST if fields.get("mediaType") == DOCKER_LIST else OCI_MANIFEST
    index = Index.from_fields({**fields, "manifests": [_complete(e, child_type) for e in entries]})
    manifests = [evolve(d, fields=entry) for d, entry in zip(index.manifests, entries)]
    return evolve(index, manifests=manifests, fields=document)


def _complete(entry: object, media_type: str) -> object:
    """Fill in what an entry lacks; without a digest it is identified by all of its content."""
    if not isinstance(entry, dict):
        return entry
    digest = entry.get("digest")
    if not isinstance(digest, str) or not is_digest(digest):
        digest = digest_of(encode(entry))
    return {"mediaType": media_type, "size": 0, **entry, "digest": digest}


def check_digest(
    reference: Reference, content: bytes, announced: str | None, content_type: str | None = None
) -> None:
    """Check content against the digest in the reference and the one the registry announced."""
    if content_type_name(content_type) in _SCHEMA_1_TYPES:
        # Schema 1 is signed anew for each answer; its digest is that of the payload.
        raise NotAnIndex(str(reference), "a schema 1 manifest")
    expected = [reference.digest] if reference.digest else []
    if announced and announced.startswith("sha256:") and is_registered_digest(announced):
        expected.append(announced)
    for digest in expected:
        check = DigestCheck(reference, digest)
        check.update(content)
        check.finish()


class DigestCheck:
    """Compares content, which may come in parts, with a digest."""

    def __init__(self, reference: Reference, expected: str) -> None:
        self._reference, self._expected = str(reference), expected
        self._algorithm = expected.partition(":")[0]
        if self._algorithm not in _HASHES:
            problem = f"digest: expected {' or '.join(_HASHES)}, not {self._algorithm}"
            raise InvalidReference(self._reference, problem)
        self._hash = _HASHES[self._algorithm]()
        self.update = self._hash.update

    def finish(self) -> None:
        """Raise DigestMismatch if it is another one."""
        actual = f"{self._algorithm}:{self._hash.hexdigest()}"
        if self._expected != actual:
            raise DigestMismatch(self._reference, self._expected, actual)


def platform_name(descriptor: Descriptor) -> str | None:
    """Write the normalised platform of an entry with its version; none if it has none."""
    return None if descriptor.slot is None else descriptor.slot.name


def platforms_of(index: Index) -> tuple[str, ...]:
    """List the platforms of an index by name."""
    return tuple(sorted({slot.name for entry in index.manifests for slot in entry.slots}))
