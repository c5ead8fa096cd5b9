"""Names and small values that the registry and the test images share."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import tarfile
import zlib
from collections.abc import Callable, Mapping
from typing import NamedTuple, Optional

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
    """Compute the digest that names this content."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def encode(document: object) -> bytes:
    """Encode a document with the indentation that Docker uses.

    No encoder in this package writes this form, so a test that compares bytes
    notices when a document was decoded and encoded again on its way.
    """
    return json.dumps(document, indent=3).encode()


def make_archive(content: bytes) -> bytes:
    """Make a tar archive with one file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        member = tarfile.TarInfo("content.txt")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def wrap_gzip(content: bytes) -> bytes:
    """Wrap content as gzip without compressing it.

    Versions of zlib differ in what they make of the same content; this does not.
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


PUSHED_BY_DIGEST_SECONDS = 3600


class TagPeriod(NamedTuple):
    """A time during which a tag named one digest, in whole seconds.

    Attributes:
        digest (str):
            What the tag named.
        start (int):
            When it began to, as a Unix time.
        end (int | None):
            When it ceased to; None while it still does.
    """

    digest: str
    start: int
    end: Optional[int]  # noqa: UP045 - read at run time, also by Python 3.9


class Repository:
    """Blobs, manifests and tags under one name."""

    def __init__(self, name: str, clock: Callable[[], float]) -> None:
        """Start out empty."""
        self.name = name
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, StoredManifest] = {}
        self._children: dict[str, tuple[str, ...]] = {}
        self._periods: dict[str, list[TagPeriod]] = {}
        self._pinned_until: dict[str, float] = {}
        self._clock = clock

    def add_blob(self, content: bytes) -> str:
        """Keep a blob and return its digest."""
        digest = digest_of(content)
        self.blobs[digest] = content
        return digest

    def add_manifest(self, content: bytes, media_type: str) -> str:
        """Keep a manifest and return its digest; no tag names it yet."""
        digest = digest_of(content)
        self.manifests[digest] = StoredManifest(
            content=content,
            media_type=media_type,
            digest=digest,
        )
        self._children[digest] = _children(content)
        return digest

    def children(self, digest: str) -> tuple[str, ...]:
        """Return the digests that a stored index lists."""
        return self._children[digest]

    def remove_manifest(self, digest: str) -> None:
        """Forget a manifest and every tag that names it."""
        del self.manifests[digest]
        for tag in [name for name, named in self.tags.items() if named == digest]:
            self.remove_tag(tag)

    @property
    def tags(self) -> dict[str, str]:
        """The digest that each tag names now."""
        return {
            tag: periods[-1].digest
            for tag, periods in self._periods.items()
            if periods[-1].end is None
        }

    @property
    def had_tags(self) -> bool:
        """Whether a tag was ever set."""
        return bool(self._periods)

    def set_tag(self, tag: str, digest: str) -> None:
        """Let the tag name this digest from now on; a new period each time."""
        self.remove_tag(tag)
        period = TagPeriod(digest, int(self._clock()), None)
        self._periods.setdefault(tag, []).append(period)

    def remove_tag(self, tag: str) -> None:
        """Let the tag name nothing from now on."""
        periods = self._periods.get(tag)
        if periods and periods[-1].end is None:
            periods[-1] = periods[-1]._replace(end=int(self._clock()))

    def history(self, tag: str) -> tuple[TagPeriod, ...]:
        """Return what the tag named, newest first."""
        return tuple(reversed(self._periods.get(tag, ())))

    def histories(self) -> dict[str, tuple[TagPeriod, ...]]:
        """Return the history of every tag that ever was."""
        return {tag: self.history(tag) for tag in self._periods}

    def find(self, reference: str) -> StoredManifest | None:
        """Return what a tag or digest names, reachable or not."""
        return self.manifests.get(self.tags.get(reference, reference))

    def pin(self, digest: str, seconds: float = PUSHED_BY_DIGEST_SECONDS) -> None:
        """Keep a manifest reachable by its digest for some time."""
        until = self._clock() + seconds
        self._pinned_until[digest] = max(until, self._pinned_until.get(digest, until))

    def is_reachable(self, digest: str) -> bool:
        """Tell whether a tag or a pin holds the manifest or an index with it."""
        now = self._clock()
        pinned = {held for held, until in self._pinned_until.items() if until > now}
        held = pinned.union(self.tags.values())
        return digest in held or any(digest in self._children.get(one, ()) for one in held)


class Storage:
    """All repositories of one registry."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Start out empty."""
        self._repositories: dict[str, Repository] = {}
        self._clock = clock

    def find(self, name: str) -> Repository | None:
        """Return a repository if it exists."""
        return self._repositories.get(name)

    def get(self, name: str) -> Repository:
        """Return a repository; raise KeyError where there is none."""
        return self._repositories[name]

    def create(self, name: str) -> Repository:
        """Return a repository, made now if it did not exist."""
        if name not in self._repositories:
            self._repositories[name] = Repository(name, self._clock)
        return self._repositories[name]


def _children(content: bytes) -> tuple[str, ...]:
    """Read what an index lists; what cannot be read lists nothing."""
    try:
        return tuple(child.digest for child in Document.parse(content).children)
    except ValueError:
        return ()
