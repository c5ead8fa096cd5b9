"""Assembly: the bytes of a merged index, and whether they say anything new."""

from __future__ import annotations

from collections.abc import Sequence

from pubtools_mlmerge.descriptors import DOCKER_LIST, DOCKER_MANIFESTS, OCI_INDEX, Descriptor
from pubtools_mlmerge.documents import encode
from pubtools_mlmerge.errors import MixedTypes
from pubtools_mlmerge.index import Index
from pubtools_mlmerge.plan import Policy

# What an OCI index may state at its top and a Docker list does not define.
_OCI_ONLY = frozenset({"annotations", "artifactType"})


def assemble(
    source: Index,
    destination: Index | None,
    manifests: Sequence[Descriptor],
    policy: Policy,
) -> Index:
    """Make an index of entries from two sides; its type and the rest follow the laws.

    Args:
        source (Index):
            Gives everything but the entries.
        destination (Index | None):
            The other side, if there is one.
        manifests (Sequence[Descriptor]):
            The entries.
        policy (Policy):
            Whether Docker and OCI manifests may be listed together.

    Returns:
        Index: A Docker manifest list if either side is one and nothing in it needs more, else an
        OCI index.

    Raises:
        MixedTypes: When they may not.
    """
    types = {entry.media_type for entry in manifests}
    if policy.mixed_types == "fail" and types & DOCKER_MANIFESTS and types - DOCKER_MANIFESTS:
        docker = [e.digest for e in manifests if e.media_type in DOCKER_MANIFESTS]
        oci = [e.digest for e in manifests if e.media_type not in DOCKER_MANIFESTS]
        raise MixedTypes(tuple(docker), tuple(oci))
    sides = (source, destination) if destination is not None else (source,)
    has_docker_list = any(side.media_type == DOCKER_LIST for side in sides)
    fits = (
        has_docker_list
        and types <= DOCKER_MANIFESTS
        and _OCI_ONLY.isdisjoint(source.fields)
        and all(map(_states_platform, manifests))
    )
    return source.with_manifests(manifests, DOCKER_LIST if fits else OCI_INDEX)


def _states_platform(entry: Descriptor) -> bool:
    """Tell whether an entry has the platform that a Docker list asks for, os and architecture."""
    platform = entry.fields.get("platform")
    return isinstance(platform, dict) and bool(platform.get("os"))


def is_unchanged(result: Index, source: Index, destination: Index | None) -> bool:
    """Compare by digest, or by meaning where the result was encoded here.

    A source that goes up untouched brings its own digest, and the signatures made for it.

    Args:
        result (Index):
            What the destination is to hold.
        source (Index):
            The source.
        destination (Index | None):
            What the destination holds; none if it does not exist.

    Returns:
        bool: True if nothing is to be written.
    """
    if destination is None:
        return False
    if result is source:
        return result.digest == destination.digest
    meaning = {**destination.fields, "mediaType": destination.media_type}
    # Python holds 1, 1.0 and true to be equal, so equal documents are compared as encoded, too.
    return result.fields == meaning and result.content == encode(meaning)
