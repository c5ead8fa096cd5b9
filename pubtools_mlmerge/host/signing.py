"""What a push signs beyond what the host signs, and which of the host's claims it leaves out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from attrs import frozen

from pubtools_mlmerge.core.manifests import (
    DOCKER_LIST,
    DOCKER_MANIFESTS,
    OCI_INDEX,
    Descriptor,
    Index,
    Manifest,
)
from pubtools_mlmerge.core.plan import Report
from pubtools_mlmerge.host.items import Tag


class SignEntry(Protocol):
    """One claim, as the host hands it to signers."""

    pub_reference: str
    digest: str


@frozen(eq=False)
class Held:
    """A tag that holds a merged index, or an OCI index that was copied."""

    tag: Tag
    digest: str
    to_sign: tuple[tuple[str, str], ...]  # digests with architectures that the host does not sign
    listed: frozenset[str]
    is_oci: bool


def hold(tag: Tag, report: Report, new: Manifest | None) -> Held:
    """Note what a merged tag holds now."""
    entries = [entry for entry in report.entries if entry.fate not in ("dropped", "excluded")]
    # The host signs the images of a Docker list that it pushes, whatever became of the list.
    is_docker_list = isinstance(new, Index) and new.media_type == DOCKER_LIST
    left = [
        entry.descriptor
        for entry in entries
        if entry.fate == "kept"
        or not is_docker_list
        or entry.descriptor.media_type not in DOCKER_MANIFESTS
    ]
    is_oci = report.media_type == OCI_INDEX
    listed = frozenset(entry.descriptor.digest for entry in entries)
    return Held(tag, report.digest, _to_sign(report.digest, left), listed, is_oci)


def hold_copy(tag: Tag, index: Index) -> Held:
    """Note an OCI index that was copied: the host knows none, and signs none of its images."""
    listed = frozenset(entry.digest for entry in index.manifests)
    return Held(tag, index.digest, _to_sign(index.digest, index.manifests), listed, is_oci=True)


def _to_sign(digest: str, entries: Iterable[Descriptor]) -> tuple[tuple[str, str], ...]:
    images = {e.digest: e.platform.architecture if e.platform else "" for e in entries}
    return ((digest, ""), *images.items())
