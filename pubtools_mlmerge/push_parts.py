"""What a push consists of: its tags, what became of them, and what the host brings."""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen

from pubtools_mlmerge.core.manifests import DOCKER_MANIFESTS, Manifest
from pubtools_mlmerge.core.plan import Report
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.merging.writer import History
from pubtools_mlmerge.registry.base import Registry
from pubtools_mlmerge.registry.client import RegistryClient


@frozen(eq=False, repr=False)
class Tag:
    """One destination of a push item.

    Attributes:
        repository (str):
            External name of the repository.
        reference (Reference):
            The tag, by the internal name.
        signing_key (str | None):
            Key that claims about it are signed with.
    """

    repository: str
    reference: Reference
    signing_key: str | None


@frozen(eq=False, repr=False)
class Merged:
    """A tag that was merged, with what is needed to sign it and to take it back.

    Attributes:
        tag (Tag):
            The tag.
        previous (Manifest | None):
            What it held before the push; none if nothing, or nothing that is known.
        report (MergeReport):
            What was done.
    """

    tag: Tag
    previous: Manifest | None
    report: Report

    @property
    def digests(self) -> frozenset[str]:
        """What the tag lists now."""
        left_out = ("dropped", "excluded")
        return frozenset(e.descriptor.digest for e in self.report.entries if e.fate not in left_out)

    @property
    def unsigned(self) -> tuple[tuple[str, str], ...]:
        """Digest and architecture of what the host does not sign: it knows no OCI index."""
        new = [e.descriptor for e in self.report.entries if e.fate in ("added", "replaced")]
        oci = [entry for entry in new if entry.media_type not in DOCKER_MANIFESTS]
        named = [(e.digest, e.platform.architecture if e.platform else "") for e in oci]
        return (self.report.digest, ""), *named


@frozen(eq=False, repr=False)
class Sides:
    """What the host brings to a push.

    Attributes:
        source (Registry):
            Reads the sources.
        destination (Registry):
            Reads and writes the destinations.
        source_client (RegistryClient):
            Reads blobs and children of the sources.
        destination_client (RegistryClient):
            Mounts blobs and writes children.
        copy (Callable[[str, list[str]], None]):
            The host's plain copy of a reference to others.
        history (History | None):
            The history of the destination tags; none where the registry does not tell.
        threads (int):
            How many tags may be merged at a time, of all items together.
    """

    source: Registry
    destination: Registry
    source_client: RegistryClient
    destination_client: RegistryClient
    copy: Callable[[str, list[str]], None]
    history: History | None = None
    threads: int = 1
