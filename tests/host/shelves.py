"""Images put where docker-registry keeps them: much faster than uploads, and not in its log."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pubtools_mlmerge.core.manifests import digest_of
from pubtools_mlmerge.testing import Image, ImageIndex
from tests.servers import RealRegistry


def root_of(registry: RealRegistry) -> Path:
    """Tell where a registry keeps everything."""
    return registry.log.parent / "storage"


def store(registry: RealRegistry, repository: str, item: Image | ImageIndex, tag: str) -> None:
    """Store an item with all that it needs, and let a tag name it."""
    blobs = item.blobs.values() if isinstance(item, Image) else ()
    for child in item.children if isinstance(item, ImageIndex) else ():
        store(registry, repository, child, child.digest)
    shelf = _shelf(registry)
    shelve(registry, repository, item.content, tag, [_keep(shelf, blob) for blob in blobs])


def shelve(
    registry: RealRegistry, repository: str, content: bytes, tag: str, blobs: Iterable[str]
) -> None:
    """Store a manifest under a tag or its digest; its blobs are kept already."""
    shelf = _shelf(registry)
    home = shelf / "repositories" / repository
    for blob in blobs:
        _link(home / "_layers" / _path(blob), blob)
    digest = _keep(shelf, content)
    _link(home / "_manifests" / "revisions" / _path(digest), digest)
    if ":" not in tag:
        _link(home / "_manifests" / "tags" / tag / "current", digest)
        _link(home / "_manifests" / "tags" / tag / "index" / _path(digest), digest)


def _shelf(registry: RealRegistry) -> Path:
    return root_of(registry) / "docker" / "registry" / "v2"


def _keep(shelf: Path, content: bytes) -> str:
    digest = digest_of(content)
    hexadecimal = digest.partition(":")[2]
    place = shelf / "blobs" / "sha256" / hexadecimal[:2] / hexadecimal / "data"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    return digest


def _path(digest: str) -> Path:
    return Path(*digest.split(":"))


def _link(place: Path, digest: str) -> None:
    place.mkdir(parents=True, exist_ok=True)
    (place / "link").write_text(digest, encoding="utf-8")
