"""How old the images are that a merge keeps, and which of them are too old to keep."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone

from attrs import evolve

from pubtools_mlmerge.core.manifests import Index
from pubtools_mlmerge.core.plan import Age, AgeRule, Entry, Plan
from pubtools_mlmerge.errors import brief

# RFC 3339, "Internet Date/Time Format"; the fraction has up to nine digits, which no age needs.
_HOUR = r"(?:[01]\d|2[0-3])"
_TIME = (
    rf"(\d{{4}}-\d\d-\d\d)[Tt ]({_HOUR}:\d\d:\d\d)(?:\.\d+)?"
    rf"(?:[Zz]|([+-]{_HOUR}:[0-5]\d))"
)
# Older than any container image. Reproducible builds state 1970, or the year 1.
_EARLIEST = datetime(2013, 1, 1, tzinfo=timezone.utc)
_CLOCK_SKEW = timedelta(days=1)


def parse_time(text: str) -> datetime | None:
    """Read a date as images state it; none if it is malformed."""
    found = re.fullmatch(_TIME, text, re.ASCII)
    if found is None:
        return None
    time = re.sub(":60$", ":59", found[2])  # a leap second
    try:
        return datetime.fromisoformat(f"{found[1]}T{time}{found[3] or '+00:00'}")
    except ValueError:
        return None


def age_of(stated: str | None, now: datetime) -> Age:
    """Compute an age from the date that an image states; unknown if that cannot be true."""
    if stated is None:
        return Age(problem="no date is stated")
    created = parse_time(stated)
    if created is None:
        return Age(problem=f"{brief(stated, 40)!r} is not a date")
    if created < _EARLIEST:
        return Age(problem=f"{brief(stated, 40)} is before 2013")
    if created > now + _CLOCK_SKEW:
        return Age(problem=f"{brief(stated, 40)} is in the future")
    return Age(created.astimezone(timezone.utc), max(0, (now - created).days))


def find_stale(ages: Mapping[str, Age], rule: AgeRule) -> dict[str, str]:
    """Find the images that are older than a rule allows, each with the reason to give."""
    most = rule.max_age_days
    return {
        digest: f"older than {most} {'day' if most == 1 else 'days'}"
        for digest, age in ages.items()
        if most is not None and age.days is not None and age.days > most
    }


def with_ages(plan: Plan[Index], ages: Mapping[str, Age], stale: Mapping[str, str]) -> Plan[Index]:
    """Add ages to the entries of a plan, and to their reasons where they matter."""
    return evolve(plan, entries=tuple(_with_age(entry, ages, stale) for entry in plan.entries))


def _with_age(entry: Entry, ages: Mapping[str, Age], stale: Mapping[str, str]) -> Entry:
    age, too_old = ages.get(entry.descriptor.digest), stale.get(entry.descriptor.digest)
    if age is None or (entry.fate != "kept" and entry.reason != too_old):
        return entry
    reason = entry.reason
    if entry.fate == "kept" and (too_old or age.problem):
        reason = f"{reason}; {too_old or f'age unknown: {age.problem}'}"
    return evolve(entry, reason=reason, age=age, is_stale=too_old is not None)
