"""Replacement: what happens where one side is a single image and not an index."""

from __future__ import annotations

from attrs import evolve

from pubtools_mlmerge.descriptors import Descriptor
from pubtools_mlmerge.image import Image
from pubtools_mlmerge.index import Index
from pubtools_mlmerge.manifests import Manifest
from pubtools_mlmerge.merge import merge
from pubtools_mlmerge.plan import MergePlan, PlannedEntry, Policy


def replace_by_image(image: Image, destination: Manifest | None) -> MergePlan[Image]:
    """Copy a single image over whatever the destination holds.

    Args:
        image (Image):
            The source.
        destination (Manifest | None):
            What the destination holds; none if it does not exist.

    Returns:
        MergePlan[Image]: Its result is the image.
    """
    entry = _entry_of(image)
    if destination is None:
        return MergePlan(image, (PlannedEntry(entry, "added", "the tag is new"),), changed=True)
    if destination.digest == image.digest:
        same = PlannedEntry(entry, "same", "both have this digest", image.digest)
        return MergePlan(image, (same,), changed=False)
    reason = "a single image replaces what was there"
    replaced = PlannedEntry(entry, "replaced", reason, destination.digest)
    gone = destination.manifests if isinstance(destination, Index) else ()
    dropped = (PlannedEntry(e, "dropped", reason, e.digest) for e in gone)
    return MergePlan(image, (replaced, *dropped), changed=True)


def replace_image(source: Index, destination: Image, policy: Policy) -> MergePlan[Index]:
    """Put an index, or its eligible part, in the place of a single image.

    Args:
        source (Index):
            The source.
        destination (Image):
            What the destination holds.
        policy (Policy):
            What may be taken from the source.

    Returns:
        MergePlan[Index]: The image is among the entries, as dropped.
    """
    plan = merge(source, None, policy)
    dropped = PlannedEntry(
        _entry_of(destination), "dropped", "a single image is replaced", destination.digest
    )
    return evolve(plan, entries=(*plan.entries, dropped))


def _entry_of(image: Image) -> Descriptor:
    fields = {"mediaType": image.media_type, "digest": image.digest, "size": len(image.content)}
    return Descriptor.from_json(fields, "")
