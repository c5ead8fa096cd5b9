"""Anchor tags: a second tag on a merged index, so that garbage collection spares it."""

from __future__ import annotations

import re
from datetime import datetime, timezone

from attrs import frozen

from pubtools_mlmerge.errors import InvalidReference
from pubtools_mlmerge.references import Reference

_FIELD = re.compile(r"\{([^{}]*)\}")
_DIGEST_LENGTH = 12  # hexadecimal digits of the digest that go into a tag


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
        unknown = set(_FIELD.findall(text)) - {"tag", "timestamp", "digest"}
        if unknown:
            raise InvalidReference(text, "the fields are {tag}, {timestamp} and {digest}")
        template = cls(text)
        example = Reference("", "repository", tag="tag")
        if template.apply(example, "sha256:" + "0" * 64) == example:
            raise InvalidReference(text, "this is the destination's own tag")
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
            InvalidReference: When the text is no valid tag.
        """
        values = {
            "tag": destination.tag,
            "timestamp": datetime.now(timezone.utc).strftime("%Y%m%d%H%M%S"),
            "digest": digest.partition(":")[2][:_DIGEST_LENGTH],
        }
        return destination.tagged(_FIELD.sub(lambda found: values[found[1]], self.template))
