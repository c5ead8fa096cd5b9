"""Ages: how old the images are that a merge keeps, and which of them are too old to stay."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Literal

from attrs import evolve, frozen

from pubtools_mlmerge.core.manifests import Index
from pubtools_mlmerge.core.plan import Age, Entry, Plan
from pubtools_mlmerge.errors import MergeError, brief

Stale = Literal["warn", "drop", "fail"]
MOST_DAYS = 36500
OLD_DAYS = 365
"""Age from which on an image catches the eye, whatever the rule."""

# RFC 3339, "Internet Date/Time Format"; the fraction has up to nine digits, which no age needs.
_TIME = (
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.\d+)?"
    r"(?:[Zz]|([+-])([01]\d|2[0-3]):([0-5]\d))"
)
_LAST_SECOND = 59
# Older than all such images. Builds that are to be reproducible state 1970, or the year 1.
_EARLIEST = datetime(2013, 1, 1, tzinfo=timezone.utc)
_AHEAD = timedelta(days=1)  # how far clocks may differ


@frozen(slots=False, repr=False)
class StaleImages(MergeError):
    """Images that would stay in a tag are older than they may be."""

    reference: str
    images: tuple[str, ...]
    """Platform, digest and age of each."""

    def __str__(self) -> str:
        """Name the tag and the images."""
        return f"{self.reference} would keep what is too old: {'; '.join(self.images)}"


@frozen(kw_only=True)
class AgeRule:
    """What is asked about the ages of kept images.

    Attributes:
        max_age_days (int | None):
            How old they may be; none for any age.
        stale (str):
            What becomes of older ones: ``warn`` keeps them, ``drop`` does not, ``fail`` refuses to
            merge. One whose age is unknown stays.
        shown (bool):
            Whether ages are read even if they may be any.
    """

    max_age_days: int | None = None
    stale: Stale = "warn"
    shown: bool = False

    @property
    def is_asked(self) -> bool:
        """Whether ages are to be read at all."""
        return self.shown or self.max_age_days is not None


def parse_time(text: str) -> datetime | None:
    """Read a date as images state it."""
    found = re.fullmatch(_TIME, text, re.ASCII)
    if found is None:
        return None
    year, month, day, hour, minute, second = map(int, found.group(1, 2, 3, 4, 5, 6))
    zone = timezone.utc
    if found[7]:
        offset = timedelta(hours=int(found[8]), minutes=int(found[9]))
        zone = timezone(-offset if found[7] == "-" else offset)
    if second == _LAST_SECOND + 1:  # a leap second
        second = _LAST_SECOND
    try:
        return datetime(year, month, day, hour, minute, second, tzinfo=zone)
    except ValueError:
        return None


def age_of(stated: str | None, now: datetime) -> Age:
    """Tell an age from a date, unless that cannot be true."""
    if stated is None:
        return Age(problem="no date is stated")
    created = parse_time(stated)
    if created is None:
        return Age(problem=f"{brief(stated, 40)!r} is no date")
    if created < _EARLIEST:
        return Age(problem=f"{brief(stated, 40)} is before there were such images")
    if created > now + _AHEAD:
        return Age(problem=f"{brief(stated, 40)} is in the future")
    return Age(created.astimezone(timezone.utc), max(0, (now - created).days))


def find_stale(ages: Mapping[str, Age], rule: AgeRule) -> dict[str, str]:
    """Find what is older than a rule allows."""
    most = rule.max_age_days
    return {
        digest: f"{age.days} days old, more than {most}"
        for digest, age in ages.items()
        if most is not None and age.days is not None and age.days > most
    }


def is_noteworthy(entry: Entry) -> bool:
    """Tell whether an image stays that people should know of."""
    return entry.fate == "kept" and (entry.is_stale or is_old(entry.age_days))


def is_old(days: int | None) -> bool:
    """Tell whether an age catches the eye, whatever the rule."""
    return days is not None and days > OLD_DAYS


def platform_of(entry: Entry) -> str:
    """Name the platform of an entry."""
    return brief(str(entry.descriptor.slot or "no platform"), 100)


def name_stale(plan: Plan[Index], stale: Mapping[str, str]) -> tuple[str, ...]:
    """Name what a plan keeps although it is too old."""
    return tuple(
        f"{platform_of(entry)} ({entry.descriptor.digest}) is {stale[entry.descriptor.digest]}"
        for entry in plan.entries
        if entry.fate == "kept" and entry.descriptor.digest in stale
    )


def with_ages(plan: Plan[Index], ages: Mapping[str, Age], stale: Mapping[str, str]) -> Plan[Index]:
    """Write ages into a plan, and into its reasons where they matter."""
    return evolve(plan, entries=tuple(_dated(entry, ages, stale) for entry in plan.entries))


def _dated(entry: Entry, ages: Mapping[str, Age], stale: Mapping[str, str]) -> Entry:
    age, too_old = ages.get(entry.descriptor.digest), stale.get(entry.descriptor.digest)
    if age is None or (entry.fate != "kept" and entry.reason != too_old):
        return entry
    reason = entry.reason
    if entry.fate == "kept" and (too_old or age.problem):
        reason = f"{reason}; {too_old or f'age unknown: {age.problem}'}"
    return evolve(entry, reason=reason, age=age, is_stale=too_old is not None)
