"""What a merge asks of a registry."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from attrs import frozen

from pubtools_mlmerge.core.manifests import Image, Index, Manifest
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import NotAnIndex, NotFound, RegistryError, Unauthorized

LOG = logging.getLogger("pubtools.mlmerge")


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


@frozen(eq=False, repr=False)
class Link:
    """The way to a registry.

    Attributes:
        url (str):
            Scheme and host.
        is_wide (bool):
            Whether two answers are there as soon as one: no connection was made yet, so that both
            can be made at the same time, or the second one needs no handshake.
    """

    url: str
    is_wide: bool


class Registry(ABC):
    """What a merge asks of a registry."""

    # Whether each thread connects and logs in anew, as with the host's client.
    logs_in_per_thread = False

    @property
    def request_count(self) -> int:
        """How many requests were made, as far as that is known."""
        return 0

    def intend(  # noqa: B027 - only some registries care
        self, *, pull: Iterable[Reference] = (), push: Iterable[Reference] = ()
    ) -> None:
        """Tell what will be done, so that each registry is asked for one login.

        Args:
            pull (Iterable[Reference]):
                What will be read.
            push (Iterable[Reference]):
                What will be written.
        """

    def link(self, reference: Reference) -> Link | None:  # noqa: ARG002 - for those who know
        """Tell where a reference is read from, if all threads share the connections to there.

        Args:
            reference (Reference):
                The reference.

        Returns:
            Link | None: The way there; none where each thread has connections of its own.
        """
        return None

    @abstractmethod
    def pull(self, reference: Reference) -> Manifest:
        """Read what a reference holds.

        Args:
            reference (Reference):
                Tag or digest.

        Returns:
            Manifest: An index or a single image, checked against its digest and content type.

        Raises:
            NotFound: When there is nothing.
            NotAnIndex: When it is of a type that nothing can be made of, such as schema 1.
            InvalidIndex: When the document breaks a rule.
            DigestMismatch: When the content is not what it was announced as.
            RegistryError: When the registry refuses or cannot be asked.
        """

    def pull_index(self, reference: Reference) -> Index:
        """Read an index.

        Args:
            reference (Reference):
                Tag or digest.

        Returns:
            Index: What the reference holds.

        Raises:
            NotAnIndex: When it holds something else.
            MergeError: As `pull` does.
        """
        found = self.pull(reference)
        if isinstance(found, Index):
            return found
        raise NotAnIndex(str(reference), found.media_type)

    def pull_if_present(self, reference: Reference) -> Manifest | None:
        """Read what a reference holds, if it holds anything.

        Args:
            reference (Reference):
                Tag or digest.

        Returns:
            Manifest | None: None if there is nothing.

        Raises:
            MergeError: As `pull` does, save for `NotFound`.
        """
        with suppress_absence(reference):
            return self.pull(reference)
        return None

    def digest(self, reference: Reference) -> str | None:
        """Tell what a reference holds now, as cheaply as the registry allows.

        Args:
            reference (Reference):
                Tag or digest.

        Returns:
            str | None: The digest; none if there is nothing.

        Raises:
            RegistryError: When the registry refuses or cannot be asked.
        """
        found = self.pull_if_present(reference)
        return None if found is None else found.digest

    @abstractmethod
    def push(self, reference: Reference, manifest: Manifest, *, repeat: bool = True) -> str:
        """Write a manifest under a tag or its digest.

        Args:
            reference (Reference):
                Where to.
            manifest (Manifest):
                What; its content goes up byte for byte.
            repeat (bool):
                Whether to send it again after a passing failure. In the meantime somebody else
                may have written the tag.

        Returns:
            str: The digest that the registry keeps it under.

        Raises:
            ImmutableTag: When the registry does not let the tag be moved.
            MissingChild: When the repository lacks something that the manifest lists.
            RegistryError: When the registry refuses otherwise or cannot be asked.
        """

    def pull_config(self, reference: Reference, image: Image) -> Mapping[str, object]:
        """Read the config blob of an image.

        Args:
            reference (Reference):
                Any reference in the image's repository.
            image (Image):
                The image.

        Returns:
            Mapping[str, object]: The config as decoded.

        Raises:
            RegistryError: When the registry refuses, or its client cannot read blobs.
        """
        raise RegistryError(str(reference), None, f"this client cannot read blob {image.config}")


@contextmanager
def suppress_absence(reference: Reference) -> Iterator[None]:
    """Take the answers that mean that there is nothing for what they are."""
    try:
        yield
    except NotFound:
        return
    except Unauthorized as error:
        # Quay hides repositories that do not exist behind the status of a refused login.
        if not error.logged_in:
            raise
        LOG.debug("%s: taken as absent: %s", reference, error)
