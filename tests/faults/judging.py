"""Judging what the program left behind."""

from __future__ import annotations

from collections.abc import Iterator

from tests.faults.running import merge
from tests.faults.scenarios import Bench, Held
from tests.programs import Done


def judge(bench: Bench, done: Done) -> Iterator[str]:
    """Yield what is wrong after a run with a fault."""
    held = bench.held()
    yield from flaws(bench, done, held)
    yield from damage(bench, held)


def judge_second_run(bench: Bench) -> Iterator[str]:
    """Run the program without a fault; yield what is wrong then."""
    done = merge(bench, bench.scenario.registry.host)
    yield from unless(not done.code, f"the second run does not complete the work: {done.err}")
    yield from (f"second run: {problem}" for problem in judge(bench, done))


def damage(bench: Bench, held: Held) -> Iterator[str]:
    """Yield what must never happen: a half-merged tag, or an absent child."""
    scenario = bench.scenario
    if held.tag in (scenario.old.content, scenario.merged) and held.tag is not None:
        yield from (f"cannot be pulled: {digest}" for digest in bench.lacking(held.tag))
    else:
        yield f"the tag holds neither what it held nor all of the result: {held.tag!r}"
    is_right = held.anchor in (None, scenario.merged)
    yield from unless(is_right, f"the anchor tag holds something else: {held.anchor!r}")


def flaws(bench: Bench, done: Done, held: Held) -> Iterator[str]:
    """Judge how the program ended: by its code, and by what it says."""
    lines = done.err.splitlines()
    errors = [line for line in lines if line.startswith("ERROR: ")]
    stray = [line for line in lines if not line.startswith(("INFO: ", "WARNING: ", "ERROR: "))]
    yield from unless(not stray, f"it says more than a line: {stray}")
    if done.code == 0:
        yield from unless(not errors, f"it ends well, with an error: {errors}")
        yield from unless(len(done.reports) == 1, f"it makes {len(done.reports)} reports")
        for report in done.reports:
            yield from _false_reports(bench, report, held)
    else:
        yield from unless(done.code == 1, f"it ends with {done.code}")
        yield from unless(len(errors) == 1, f"it shows {len(errors)} errors: {errors}")
        # Only an anchor tag may fail after the work is done; then the report says so.
        for report in done.reports:
            is_told = "error" in report and bool(bench.scenario.anchor)
            yield from unless(is_told, f"it fails and reports: {done.out}")
            yield from _false_reports(bench, report, held)
        names = (bench.repository, bench.scenario.source or bench.repository)
        is_named = all(any(name in error for name in names) for error in errors)
        yield from unless(is_named, f"it names no reference: {errors}")


def _false_reports(bench: Bench, report: dict[str, object], held: Held) -> Iterator[str]:
    """Hold what is reported against what is."""
    scenario, anchor = bench.scenario, report.get("anchor_tag") or ""
    yield from unless(held.tag == scenario.merged, "it reports success, and the tag is not merged")
    yield from unless(report.get("digest") == scenario.digest, "it reports another digest")
    is_due = report.get("changed") and scenario.anchor and "error" not in report
    yield from unless(not is_due or bool(anchor), "it reports no anchor tag")
    is_there = held.anchor == scenario.merged and anchor == scenario.anchor
    yield from unless(not anchor or is_there, f"it reports {anchor}, which is not there")


def unless(is_right: bool, problem: str) -> Iterator[str]:
    """Yield a problem, unless all is right."""
    if not is_right:
        yield problem
