"""Fates as signs, and ages in words, as pages and pictures have them."""

from __future__ import annotations

from pubtools_mlmerge.core.ages import OLD_DAYS
from pubtools_mlmerge.core.plan import Fate
from pubtools_mlmerge.phrases import count_text

SIGNS: dict[Fate, str] = {
    "added": "+",
    "replaced": "\u21c4",
    "same": "=",
    "kept": "\u2022",
    "dropped": "\u00d7",
    "excluded": "\u2013",
}
"""What becomes of an entry, each with a sign, as colours are not for all eyes."""


def age_words(days: int) -> str:
    """Write an age for people.

    Args:
        days (int):
            The age in days.

    Returns:
        str: In years, where it is one or more.
    """
    if days < OLD_DAYS:
        return count_text(days, "day")
    years = f"{days / OLD_DAYS:.1f}".removesuffix(".0")
    return "1 year" if years == "1" else f"{years} years"
