"""Targets: what is to be reached, and whether it is."""

from __future__ import annotations

import math
from collections.abc import Iterator

from attrs import frozen

from benchmarks import copies, lists, many_tags, one_merge, sides, starts
from benchmarks.figures import Case, Detail
from benchmarks.results import Results

_LONGEST = 12000
_FROM = 400  # below this length, the growth of a list hides behind what each merge takes
_USUAL = 20
_MIB = 2**20


@frozen
class Target:
    """Something to be reached.

    Attributes:
        text (str):
            What it is about.
        wanted (str):
            What is wanted.
        measured (str):
            What was measured.
        reached (bool | None):
            Whether that is enough; none if it was not measured.
    """

    text: str
    wanted: str
    measured: str
    reached: bool | None


def targets(results: Results) -> Iterator[Target]:
    """Judge results."""
    yield from _one_merge(results)
    yield from _many_tags(results)
    yield from _copies(results)
    yield from _lists(results)
    yield from _starts(results)


def _one_merge(results: Results) -> Iterator[Target]:
    for registry, more in (("open", 0), ("token", 2)):
        case = results.find(one_merge.NAME, registry=registry)
        for side, wanted in ((sides.FACADE, 3), (sides.STEP, 3), (sides.STEP_VERIFIED, 5)):
            yield _requests(f"one merge, {registry}, {side}", case, side, wanted + more)
    for registry, ms, least in (("open", _USUAL, 1.4), ("open", 0, 1.0), ("token", _USUAL, 1.8)):
        case = results.find(one_merge.NAME, registry=registry, ms=ms)
        yield _speed(f"one merge, {registry}, {ms} ms", case, sides.FACADE, sides.HOST, least)


def _many_tags(results: Results) -> Iterator[Target]:
    for threads in (8, 16):
        for registry, against, least in (
            ("open", sides.HOST_LOOP, 10),
            ("open", sides.HOST_POOL, 1.5),
            ("token", sides.HOST_POOL, 3),
        ):
            where: dict[str, Detail] = {"registry": registry, "ms": _USUAL, "threads": threads}
            case = results.find(many_tags.NAME, tags=100, repositories=1, **where)
            text = f"100 tags, {registry}, {_USUAL} ms, {threads} threads"
            yield _speed(text, case, sides.STEP, against, least)
    grown = results.find(many_tags.MEMORY, tags=1000)
    most = max(grown.sides[sides.STEP].values) / _MIB if grown else None
    yield _at_most("growth over 1000 tags", most, 20, "MiB")


def _copies(results: Results) -> Iterator[Target]:
    case = results.find(copies.NAME, registry="open", ms=_USUAL)
    text = f"another repository, {_USUAL} ms"
    yield _speed(text, case, sides.STEP_VERIFIED, copies.SKOPEO, 4)
    yield _requests("another repository", case, sides.STEP_VERIFIED, 30)


def _lists(results: Results) -> Iterator[Target]:
    for length, least in ((_LONGEST, 20), (4, 1 / 1.5)):
        case = results.find(lists.TIME, entries=length)
        yield _speed(f"merge() of {length} entries", case, lists.OURS, lists.HOSTS, least)
    short, long = (results.find(lists.TIME, entries=length) for length in (_FROM, _LONGEST))
    grown = _exponent(short, long, lists.OURS) if short and long else None
    text = f"growth of merge() from {_FROM} to {_LONGEST} entries"
    yield _at_most(text, grown, 1.2, "as exponent")


def _starts(results: Results) -> Iterator[Target]:
    case = results.find(starts.IMPORTS)
    took = case.sides[starts.PLUGIN].median * 1000 if case else None
    yield _at_most("import of the plugin, beyond the host's own", took, 15, "ms")
    case = results.find(starts.START)
    ratio = case.ratio(starts.BASE, starts.MERGE_HELP) if case else None
    middle = ratio.middle if ratio else None
    yield _at_most(f"{starts.MERGE_HELP}, beside bare imports", middle, 1.5, "times as long")


def growth_of(results: Results, side: str) -> list[tuple[int, int, float]]:
    """Tell how time grows with the length of a list.

    Args:
        results (Results):
            What was measured.
        side (str):
            Of which side.

    Returns:
        list[tuple[int, int, float]]: Two lengths that follow each other, and the exponent between
        them; 1 is linear and 2 is quadratic.
    """
    cases = [case for case in results.all_of(lists.TIME) if side in case.sides]
    return [
        (_entries(short), _entries(long), _exponent(short, long, side))
        for short, long in zip(cases, cases[1:])
    ]


def _entries(case: Case) -> int:
    return int(case.details["entries"])


def _exponent(short: Case, long: Case, side: str) -> float:
    times = long.sides[side].median / short.sides[side].median
    return math.log(times) / math.log(_entries(long) / _entries(short))


def _speed(text: str, case: Case | None, side: str, against: str, least: float) -> Target:
    wanted = f"{least:.2g} times as fast as {against}"
    ratio = case.ratio(side, against) if case else None
    if ratio is None:
        return Target(text, wanted, "not measured", None)
    measured = f"{ratio.middle:.2f} ({ratio.least:.2f} to {ratio.most:.2f})"
    return Target(text, wanted, measured, ratio.middle >= least)


def _requests(text: str, case: Case | None, side: str, most: int) -> Target:
    found = case.sides.get(side) if case else None
    return _at_most(text, found.requests if found else None, most, "requests")


def _at_most(text: str, value: float | None, most: float, unit: str) -> Target:
    wanted = f"at most {most} {unit}"
    if value is None:
        return Target(text, wanted, "not measured", None)
    return Target(text, wanted, f"{value:.3g}", value <= most)
