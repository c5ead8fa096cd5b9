"""Anchor tags: a second tag on a merged index, so that garbage collection spares it."""

from __future__ import annotations

import re
from datetime import datetime, timezone

from attrs import frozen

from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import InvalidReference

_FIELD = r"\{([^{}]*)\}"
_DIGEST_LENGTH = 12  # hexadecimal digits of the digest that go into a tag
_OWN_TAG = "this is the destination's own tag"


@frozen
class AnchorTag:
    """A template such as ``{tag}-{timestamp}``.

    Attributes:
        template (str):
            Text with the fields ``{tag}``, ``{timestamp}`` (UTC) and ``{digest}`` (its beginning).
    """

    template: str

    @classmethod
    def parse(cls, text: str) -> AnchorTag:
        """Read a template.

        Args:
            text (str):
                The template.

        Returns:
            AnchorTag: A template that makes valid tags.

        Raises:
            InvalidReference: When a field is unknown, or what comes out is no tag, or is the
                destination's own tag.
        """
        unknown = set(re.findall(_FIELD, text)) - {"tag", "timestamp", "digest"}
        if unknown:
            raise InvalidReference(text, "the fields are {tag}, {timestamp} and {digest}")
        if text == "{tag}":
            raise InvalidReference(text, _OWN_TAG)
        template = cls(text)
        template._fill(Reference("", "repository", tag="tag"), "sha256:" + "0" * 64)
        return template

    def apply(self, destination: Reference, digest: str) -> Reference:
        """Make the anchor tag of a destination.

        Args:
            destination (Reference):
                The tag that was merged.
            digest (str):
                What it holds.

        Returns:
            Reference: The anchor tag, in the same repository.

        Raises:
            InvalidReference: When the text is no valid tag, or is the destination's own.
        """
        anchor = self._fill(destination, digest)
        if anchor == destination:
            raise InvalidReference(str(anchor), _OWN_TAG)
        return anchor

    def _fill(self, destination: Reference, digest: str) -> Reference:
        values = {
            "tag": destination.tag,
            "timestamp": datetime.now(timezone.utc).strftime("%Y%m%d%H%M%S"),
            "digest": digest.partition(":")[2][:_DIGEST_LENGTH],
        }
        return destination.tagged(re.sub(_FIELD, lambda found: values[found[1]], self.template))
