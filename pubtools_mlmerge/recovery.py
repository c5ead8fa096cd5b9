"""Recovery: what a write replaced on a Quay is found in the history of the tag, and read again."""

from __future__ import annotations

import logging

from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import NotFound, RegistryError
from pubtools_mlmerge.quay_api import QuayTags, replaced

LOG = logging.getLogger("pubtools.mlmerge")


class Recovery:
    """Finds what a write replaced though nobody had read it.

    A tag that was written well is not called a failure for want of its history: where that cannot
    be read, a warning says so.

    Args:
        tags (QuayTags):
            The history of the tags.
    """

    def __init__(self, tags: QuayTags) -> None:
        self._tags = tags

    def lost(self, tag: Reference, written: str, seen: str | None) -> tuple[Reference, ...]:
        """Make readable again what was replaced by a write and was not seen before it.

        Args:
            tag (Reference):
                The tag.
            written (str):
                Digest that was written.
            seen (str | None):
                Digest that the tag had before; none if it did not exist.

        Returns:
            tuple[Reference, ...]: What can be pulled again, newest first; each is to be given to
            `forget`.
        """
        try:
            rows = self._tags.history(tag)
        except NotFound as error:
            LOG.debug("%s: no Quay, or no history: %s", tag, error)
            return ()
        except RegistryError as error:
            LOG.warning("%s: cannot tell whether another writer was replaced: %s", tag, error)
            return ()
        if all(row.digest != written for row in rows):
            LOG.warning("%s: its history does not have %s yet", tag, written)
        found = []
        for digest in replaced(rows, written, seen):
            LOG.warning("%s: %s was replaced by %s", tag, digest, written)
            try:
                found.append(self._tags.recover(tag, digest))
            except RegistryError as error:
                LOG.warning("%s: it is lost: %s", tag, error)
        return tuple(found)

    def forget(self, reference: Reference) -> None:
        """Give up what was made readable.

        Args:
            reference (Reference):
                One of what `lost` returned.
        """
        self._tags.forget(reference)
