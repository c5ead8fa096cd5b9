"""The judges see what they are there to see."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import pytest

from pubtools_mlmerge.testing import make_image, make_index
from tests.faults.conftest import Recording
from tests.faults.judging import damage, flaws
from tests.faults.scenarios import Bench, Held
from tests.programs import Done
from tests.stress.counts import Counts

REPORT = {"anchor_tag": None, "changed": True, "digest": "sha256:0"}
WELL, TOLD = json.dumps(REPORT), json.dumps({**REPORT, "error": "x"})


@pytest.fixture
def bench(recordings: Mapping[str, Recording]) -> Iterator[Bench]:
    with recordings["across"].scenario.fresh() as bench:
        yield bench


def test_a_tag_as_before_is_no_damage(bench: Bench) -> None:
    assert [*damage(bench, bench.held())] == []


@pytest.mark.parametrize("tag", [None, b"{}", make_index([make_image()]).content])
def test_a_tag_in_between_is_damage(bench: Bench, tag: bytes | None) -> None:
    (problem,) = damage(bench, Held(tag, None))

    assert "neither what it held nor all of the result" in problem


def test_another_anchor_is_damage(bench: Bench) -> None:
    (problem,) = damage(bench, Held(bench.scenario.old.content, b"{}"))

    assert "the anchor tag holds something else" in problem


def test_children_that_were_not_brought_are_damage(bench: Bench) -> None:
    problems = [*damage(bench, Held(bench.scenario.merged, None))]

    brought = bench.scenario.new.children
    assert problems == [f"cannot be pulled: {child.digest}" for child in brought]


@pytest.mark.parametrize(
    ("done", "expected"),
    [
        (Done(0, WELL, ""), "it reports success, and the tag is not merged"),
        (Done(0, WELL, ""), "it reports another digest"),
        (Done(0, WELL, ""), "it reports no anchor tag"),
        (Done(0, "", ""), "it makes 0 reports"),
        (Done(0, WELL, "ERROR: x"), "it ends well, with an error"),
        (Done(0, json.dumps({**REPORT, "anchor_tag": "x"}), ""), "which is not there"),
        (Done(1, "", ""), "it shows 0 errors"),
        (Done(1, "", "ERROR: x\nERROR: y"), "it shows 2 errors"),
        (Done(1, "", "ERROR: something"), "it names no reference"),
        (Done(1, WELL, "ERROR: x"), "it fails and reports"),
        (Done(1, TOLD, "ERROR: x"), "it reports success, and the tag is not merged"),
        (Done(1, "", "ERROR: x\nTraceback (most recent call last):"), "more than a line"),
        (Done(2, "", "ERROR: x"), "it ends with 2"),
    ],
)
def test_a_wrong_end_is_seen(bench: Bench, done: Done, expected: str) -> None:
    problems = [*flaws(bench, done, bench.held())]

    assert any(expected in problem for problem in problems)


def test_a_failure_that_names_the_repository_is_no_flaw(bench: Bench) -> None:
    done = Done(1, "", f"INFO: trying again\nERROR: {bench.repository}: it failed\n")

    assert [*flaws(bench, done, bench.held())] == []


def test_attacks_are_counted_even_if_they_break_down() -> None:
    counts = Counts()

    assert [counts.judge("a", list), counts.judge("a", lambda: ["lost"])] == [[], ["lost"]]
    with pytest.raises(ZeroDivisionError):
        counts.judge("a", lambda: [str(1 / 0)])
    assert counts.attacks == {"a": (3, 1)}
