"""Unions: what a tag held at different times, taken together and compared."""

from __future__ import annotations

from collections.abc import Iterable

from pubtools_mlmerge.image import Image
from pubtools_mlmerge.index import Index
from pubtools_mlmerge.merge import merge


def is_reordered(result: Index, held: Index) -> bool:
    """Compare two indexes; the order counts among the entries of one architecture only.

    Args:
        result (Index):
            One of them.
        held (Index):
            The other.

    Returns:
        bool: Whether every puller gets the same from both.
    """
    return result.media_type == held.media_type and _unordered(result) == _unordered(held)


def _unordered(index: Index) -> dict[str, object]:
    entries: dict[object, list[object]] = {}
    for entry in index.manifests:
        slot = entry.slot
        key = None if slot is None else (slot.os, slot.architecture)
        entries.setdefault(key, []).append(entry.fields)
    return {**index.fields, "mediaType": index.media_type, "manifests": entries}


def union(manifests: Iterable[Index | Image]) -> Index | None:
    """Merge what a tag held at one time or another.

    Args:
        manifests (Iterable[Index | Image]):
            The newest first; single images add nothing.

    Returns:
        Index | None: All that they list; none if there is no index.
    """
    merged: Index | None = None
    for manifest in manifests:
        if isinstance(manifest, Index):
            merged = manifest if merged is None else merge(merged, manifest).result
    return merged
