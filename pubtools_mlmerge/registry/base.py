"""What a merge asks of a registry."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol, TypeVar

from attrs import evolve

from pubtools_mlmerge.core.manifests import Descriptor, Image, Index, Manifest
from pubtools_mlmerge.core.platforms import Platform
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import InvalidIndex, NotAnIndex, NotFound, RegistryError, Unauthorized

LOG = logging.getLogger("pubtools.mlmerge")

FoundT = TypeVar("FoundT")

NESTED_LEVELS = 4  # of indexes within an index
NESTED_INDEXES = 64  # nested indexes that are read for one index
TOO_NESTED = f"at most {NESTED_LEVELS} levels and {NESTED_INDEXES} nested indexes are read"


class ManifestClient(Protocol):
    """The public calls of the host's Quay client that we rely on."""

    def get_manifest(
        self,
        image: str,
        raw: bool = False,  # noqa: FBT001, FBT002 - the host's signature
        media_type: str | None = None,
        return_headers: bool = False,  # noqa: FBT001, FBT002 - the host's signature
    ) -> object:
        """Read a manifest as dict, as text, or as text with its headers."""

    def upload_manifest(
        self,
        manifest: object,
        image: str,
        raw: bool = False,  # noqa: FBT001, FBT002 - the host's signature
    ) -> object:
        """Write a manifest given as dict or as text."""


class Registry(ABC):
    """What a merge asks of a registry."""

    # Whether each thread connects and logs in anew, as with the host's client.
    logs_in_per_thread = False

    def intend(  # noqa: B027 - only some registries care
        self, *, pull: Iterable[Reference] = (), push: Iterable[Reference] = ()
    ) -> None:
        """Announce what will be read and written, so that one token per registry is enough."""

    @abstractmethod
    def pull(self, reference: Reference) -> Manifest:
        """Read the index or image of a tag or a digest, checked against digest and content type.

        Raises:
            NotFound: When there is none.
            NotAnIndex: When it is neither an index nor an image, such as schema 1.
            InvalidIndex: When the document breaks a rule.
            DigestMismatch: When the content has another digest than announced.
            RegistryError: When the registry refuses or cannot be asked.
        """

    def pull_index(self, reference: Reference) -> Index:
        """Read an index; anything else raises NotAnIndex. See `pull`."""
        found = self.pull(reference)
        if isinstance(found, Index):
            return found
        raise NotAnIndex(str(reference), found.kind)

    def pull_if_present(self, reference: Reference) -> Manifest | None:
        """Read a manifest, see `pull`; None if it does not exist."""
        return self.look(reference)[0]

    def look(self, reference: Reference) -> tuple[Manifest | None, bool]:
        """Read a manifest if there is one, and say whether the registry hides that."""
        return unless_absent(reference, self.pull)

    def read_nested(self, reference: Reference, index: Index, *, is_source: bool = False) -> Index:
        """Note at each nested index what it lists; those that a source lists must exist.

        Raises:
            NotFound: When a nested index of a source does not exist.
        """
        if all(entry.listed is not None for entry in index.manifests if entry.is_index):
            return index
        known: dict[str, frozenset[tuple[str, Platform | None]]] = {}

        def list_all(digest: str, level: int) -> frozenset[tuple[str, Platform | None]]:
            if digest not in known:
                if level > NESTED_LEVELS or len(known) == NESTED_INDEXES:
                    raise InvalidIndex("manifests", TOO_NESTED, str(reference))
                known[digest] = frozenset()
                listed = self._list_nested(reference.at(digest), is_source=is_source)
                within = (list_all(e.digest, level + 1) for e in listed if e.is_index)
                known[digest] = frozenset((e.digest, e.slot) for e in listed).union(*within)
            return known[digest]

        return evolve(
            index,
            manifests=[
                evolve(entry, listed=list_all(entry.digest, 1)) if entry.is_index else entry
                for entry in index.manifests
            ],
        )

    def _list_nested(self, reference: Reference, *, is_source: bool) -> tuple[Descriptor, ...]:
        try:
            return self.pull_index(reference).manifests
        except NotAnIndex:
            pass
        except NotFound:
            if is_source:
                raise
        LOG.warning("%s: no index there, so its platforms are unknown", reference)
        return ()

    def digest(self, reference: Reference) -> str | None:
        """Look up the digest of a reference; None if it does not exist."""
        found = self.pull_if_present(reference)
        return None if found is None else found.digest

    @abstractmethod
    def push(self, reference: Reference, manifest: Manifest, *, repeat: bool = True) -> str:
        """Write a manifest under a tag or its digest, byte for byte; return its digest there.

        With `repeat` it is sent again after a transient failure. In the meantime somebody else may
        have written the tag.

        Raises:
            ImmutableTag: When the registry does not let the tag be moved.
            MissingChild: When the repository lacks something that the manifest lists.
            RegistryError: When the registry refuses otherwise or cannot be asked.
        """

    def pull_config(self, reference: Reference, image: Image) -> Mapping[str, object]:
        """Read the config blob of an image in the repository of a reference."""
        raise RegistryError(str(reference), None, f"this client cannot read blob {image.config}")


def unless_absent(
    reference: Reference, read: Callable[[Reference], FoundT]
) -> tuple[FoundT | None, bool]:
    """Read something of a tag if it exists, and say whether the registry may hide that it does."""
    try:
        return read(reference), False
    except NotFound:
        return None, False
    except Unauthorized as error:
        # Quay hides repositories that do not exist behind the status of a refused login.
        if not error.logged_in:
            raise
        LOG.debug("%s: taken as absent: %s", reference, error)
        return None, True
