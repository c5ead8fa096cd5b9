"""Batches: many merges, one JSON object a line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from attrs import field, frozen

from pubtools_mlmerge.core.strict_json import decode

_KEYS = ("source_ref", "dest_ref", "archs")


def _texts(values: Iterable[str] | None) -> tuple[str, ...] | None:
    return None if values is None else tuple(values)


@frozen
class BatchLine:
    """What a line asks for.

    Attributes:
        source (str):
            Reference of the source.
        destination (str):
            Reference of the tag.
        archs (tuple[str, ...] | None):
            What to take of the source; none for all of it.
    """

    source: str
    destination: str
    archs: tuple[str, ...] | None = field(default=None, converter=_texts)

    @classmethod
    def parse(cls, text: str) -> BatchLine:
        """Read a line.

        Args:
            text (str):
                A JSON object with ``source_ref``, ``dest_ref`` and perhaps ``archs``.

        Returns:
            BatchLine: What it asks for; references are not looked into yet.

        Raises:
            ValueError: When it is no such object.
        """
        fields = decode(text.encode("utf-8", "surrogateescape"))
        unknown = sorted(fields.keys() - set(_KEYS))
        if unknown:
            raise ValueError(f"{unknown[0]}: unknown, there are {', '.join(_KEYS)}")
        source, destination = fields.get("source_ref"), fields.get("dest_ref")
        if not (isinstance(source, str) and isinstance(destination, str)):
            raise ValueError("source_ref, dest_ref: expected texts")  # noqa: TRY004 - a wrong line
        archs = fields.get("archs")
        if archs is None:
            return cls(source, destination)
        if not isinstance(archs, list) or not archs or not all(isinstance(a, str) for a in archs):
            raise ValueError("archs: expected a list of texts")
        return cls(source, destination, archs)


def numbered(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Number the lines that hold anything.

    Args:
        lines (Iterable[str]):
            The lines.

    Yields:
        tuple[int, str]: Number, from 1, and text.
    """
    for number, text in enumerate(lines, start=1):
        if text.strip():
            yield number, text
