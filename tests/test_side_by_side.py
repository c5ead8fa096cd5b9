"""Side by side: the order stays, and memory does not grow with the number of jobs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count

import pytest

from pubtools_mlmerge.concurrency import map_in_order


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_outcomes_come_in_the_order_of_the_jobs(threads: int) -> None:
    def job(number: int) -> int:
        time.sleep(0.003 * (number % 3))
        return number

    assert list(map_in_order((partial(job, n) for n in range(50)), threads)) == list(range(50))


def test_jobs_are_done_side_by_side() -> None:
    meeting = threading.Barrier(4, timeout=5)

    assert sorted(map_in_order([meeting.wait] * 4, 4)) == [0, 1, 2, 3]


def test_one_thread_is_the_caller_s_own() -> None:
    assert set(map_in_order([threading.get_ident] * 3, 1)) == {threading.get_ident()}


@pytest.mark.parametrize("threads", [1, 3])
def test_only_a_few_jobs_are_taken_ahead(threads: int) -> None:
    taken: list[int] = []

    def jobs() -> Iterator[Callable[[], int]]:
        for number in count():
            taken.append(number)
            yield lambda: 0

    outcomes = map_in_order(jobs(), threads)
    for _ in range(10):
        next(outcomes)

    assert len(taken) <= 10 + threads * 4
    outcomes.close()  # type: ignore[attr-defined]  # a generator in fact


@pytest.mark.parametrize("threads", [1, 2])
def test_a_failure_takes_the_place_of_its_outcome(threads: int) -> None:
    def fail() -> int:
        raise RuntimeError("no")

    outcomes = map_in_order([lambda: 1, fail, lambda: 3], threads)

    assert next(outcomes) == 1
    with pytest.raises(RuntimeError, match="no"):
        next(outcomes)


def test_nothing_is_begun_after_a_failure_and_what_was_begun_is_ended() -> None:
    failed = threading.Event()
    done: list[str] = []

    def wait() -> None:
        failed.wait(timeout=5)
        time.sleep(0.05)
        done.append("first")

    def fail() -> None:
        failed.set()
        raise RuntimeError("no")

    rest: list[Callable[[], None]] = [partial(done.append, "another")] * 20
    with pytest.raises(RuntimeError, match="no"):
        list(map_in_order([wait, fail, *rest], 2))

    assert done == ["first"]


def test_nothing_is_begun_once_nobody_asks() -> None:
    done: list[int] = []
    outcomes = map_in_order((partial(done.append, n) for n in range(1000)), 2)

    next(outcomes)
    outcomes.close()  # type: ignore[attr-defined]  # a generator in fact
    number = len(done)
    time.sleep(0.05)

    assert len(done) == number < 20
