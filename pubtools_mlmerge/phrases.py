"""Phrases: sizes, types, ages and counts for people."""

from __future__ import annotations

from pubtools_mlmerge.core.manifests import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from pubtools_mlmerge.core.plan import Age
from pubtools_mlmerge.report import printable

_TYPES = {
    DOCKER_LIST: "Docker list",
    DOCKER_MANIFEST: "Docker manifest",
    OCI_INDEX: "OCI index",
    OCI_MANIFEST: "OCI manifest",
}
_STEP = 1000
_LEAST_ROUNDED_UP = 999.95  # to one place


def size_text(size: int) -> str:
    """Write a number of bytes for people.

    Args:
        size (int):
            The number.

    Returns:
        str: Such as ``503 B`` or ``1.2 kB``, by powers of a thousand.
    """
    if size < _STEP:
        return f"{size} B"
    amount, unit = float(size), "B"
    for unit in ("kB", "MB", "GB", "TB", "PB"):  # noqa: B007 - the last one is used
        amount /= _STEP
        if amount < _LEAST_ROUNDED_UP:
            break
    return f"{amount:.1f} {unit}"


def type_name(media_type: str) -> str:
    """Write a media type for people.

    Args:
        media_type (str):
            The media type.

    Returns:
        str: A short name for those that are known.
    """
    return _TYPES.get(media_type) or printable(media_type)


def age_text(age: Age | None) -> str:
    """Write an age for people.

    Args:
        age (Age | None):
            The age; none if it was not asked.

    Returns:
        str: Days and date, or why they are unknown.
    """
    if age is None:
        return ""
    if age.created is None or age.days is None:
        return f"age unknown: {printable(age.problem)}"
    return f"{count_text(age.days, 'day')} old ({age.created:%Y-%m-%d})"


def count_text(number: int, thing: str) -> str:
    """Write how many there are of something.

    Args:
        number (int):
            How many.
        thing (str):
            What one of them is called.

    Returns:
        str: Such as ``1 day`` or ``3 days``.
    """
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
