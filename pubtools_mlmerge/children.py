"""Children: what an index points at must be in its repository before the index is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Literal

from pubtools_mlmerge import skopeo
from pubtools_mlmerge.client import RegistryClient
from pubtools_mlmerge.errors import MissingChild, NotAnIndex, RegistryError
from pubtools_mlmerge.image import Image
from pubtools_mlmerge.references import Reference

LOG = logging.getLogger("pubtools.mlmerge")

Copy = Literal["auto", "skopeo", "never"]


class Children:
    """Brings manifests from one repository into another one.

    Args:
        source (RegistryClient):
            Reads the source.
        destination (RegistryClient):
            Reads and writes the destination.
        copy (str):
            ``auto`` to mount within a registry and use skopeo otherwise, ``skopeo`` to always use
            it, ``never`` to bring nothing.
        copy_one (Callable[[Reference, Reference], None] | None):
            Copies one manifest where it cannot be mounted; none for skopeo.
    """

    def __init__(
        self,
        source: RegistryClient,
        destination: RegistryClient,
        copy: Copy = "auto",
        copy_one: Callable[[Reference, Reference], None] | None = None,
    ) -> None:
        self._source = source
        self._destination = destination
        self._copy = copy
        self._copy_one = copy_one or self._use_skopeo
        self._present: set[Reference] = set()

    def ensure(self, source: Reference, destination: Reference, digests: Iterable[str]) -> None:
        """Make sure that manifests are in the destination repository.

        Args:
            source (Reference):
                Any reference in the repository that has them.
            destination (Reference):
                Any reference in the repository that is to have them.
            digests (Iterable[str]):
                The manifests. What they need (blobs, manifests of a nested index) comes along.

        Raises:
            MissingChild: When one is missing and nothing may be copied.
            CopyFailed: When skopeo fails or is missing.
            RegistryError: When a registry refuses.
        """
        is_one_registry = (
            self._source.place(source).host == self._destination.place(destination).host
        )
        if is_one_registry and source.repository == destination.repository:
            return
        wanted = [d for d in dict.fromkeys(digests) if destination.at(d) not in self._present]
        missing = [d for d in wanted if not self._destination.has_manifest(destination.at(d))]
        if missing and self._copy == "never":
            raise MissingChild(str(destination), None, "copying is ruled out", tuple(missing))
        may_mount = is_one_registry and self._copy == "auto"
        for digest in missing:
            self._bring(source.at(digest), destination.at(digest), may_mount=may_mount)
        self._present.update(destination.at(digest) for digest in wanted)

    def _bring(self, source: Reference, destination: Reference, *, may_mount: bool) -> None:
        if not (may_mount and self._mount(source, destination)):
            self._copy_one(source, destination)
        event = {"type": "mlmerge-child", "source": str(source), "destination": str(destination)}
        LOG.info("Brought %s to %s", source, destination.name, extra={"event": event})

    def _use_skopeo(self, source: Reference, destination: Reference) -> None:
        at, to = self._source.place(source), self._destination.place(destination)
        skopeo.copy(source, at, destination, to)

    def _mount(self, source: Reference, destination: Reference) -> bool:
        """Mount blobs and write the manifest; false as soon as the registry will not."""
        try:
            manifest = self._source.pull(source)
        except NotAnIndex:  # nor an image: its blobs are not known here
            return False
        if isinstance(manifest, Image):
            is_whole = all(
                self._mount_blob(destination, blob, source.repository) for blob in manifest.blobs
            )
        else:
            is_whole = all(
                self._mount(source.at(child.digest), destination.at(child.digest))
                for child in manifest.manifests
            )
        if is_whole:
            self._destination.push(destination, manifest)
        return is_whole

    def _mount_blob(self, destination: Reference, blob: str, repository: str) -> bool:
        place = destination.at(blob)
        if place in self._present:  # images of one build share layers
            return True
        try:
            is_mounted = self._destination.mount_blob(destination, blob, repository)
        except RegistryError as error:
            LOG.debug("Cannot mount %s: %s", blob, error)
            return False
        if is_mounted:
            self._present.add(place)
        return is_mounted
