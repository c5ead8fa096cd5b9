"""Threads: values that are computed once, and jobs whose results come in order."""

from __future__ import annotations

import os
import signal
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from pubtools_mlmerge.concurrency import (
    Memo,
    Stop,
    Stopped,
    map_in_order,
    map_in_order_by,
    run_all,
)


class Counted:
    """Counts how often each value is computed; may fail, or wait."""

    def __init__(self, *values: int) -> None:
        self.computed: list[str] = []
        self.begun, self.go = threading.Event(), threading.Event()
        self.go.set()
        self._values = list(values)

    def __call__(self, name: str) -> Callable[[], int]:
        def compute() -> int:
            self.computed.append(name)
            self.begun.set()
            assert self.go.wait(5)
            value = self._values.pop(0) if self._values else 1
            if value < 0:
                raise RuntimeError("no")
            return value

        return compute


def test_each_value_is_computed_once() -> None:
    memo, counted = Memo[str, int](9), Counted(5, 6)

    assert [memo.get(name, counted(name)) for name in "aabab"] == [5, 5, 6, 5, 6]
    assert counted.computed == ["a", "b"]


def test_threads_wait_for_the_one_that_computes() -> None:
    memo, counted = Memo[str, int](9), Counted(7)
    counted.go.clear()

    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(memo.get, "a", counted("a")) for _ in range(4)]
        assert counted.begun.wait(5)
        counted.go.set()

        assert [each.result(5) for each in asked] == [7] * 4
    assert counted.computed == ["a"]


def test_a_failure_is_raised_to_all_who_wait_and_not_remembered() -> None:
    memo, counted = Memo[str, int](9), Counted(-1, 2)
    counted.go.clear()

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(memo.get, "a", counted("a"))
        assert counted.begun.wait(5)
        second = pool.submit(memo.get, "a", counted("a"))
        time.sleep(0.05)
        counted.go.set()

        assert [str(each.exception(5)) for each in (first, second)] == ["no", "no"]
    assert memo.get("a", counted("a")) == 2
    assert counted.computed == ["a", "a"]


def test_a_value_that_is_false_is_not_remembered() -> None:
    memo, counted = Memo[str, int](9), Counted(0, 3)

    assert [memo.get("a", counted("a")) for _ in range(3)] == [0, 3, 3]
    assert counted.computed == ["a", "a"]


def test_the_values_used_last_are_remembered() -> None:
    memo, counted = Memo[str, int](2), Counted()
    for name in "abacab":
        memo.get(name, counted(name))

    assert counted.computed == ["a", "b", "c", "b"]


def test_a_value_that_is_known_takes_little_memory() -> None:
    memo = Memo[int, bool](10_000)
    tracemalloc.start()

    for number in range(1000, 2000):
        memo.get(number, lambda: True)

    each = tracemalloc.get_traced_memory()[0] / 1000
    tracemalloc.stop()
    assert each < 400  # bytes; what threads wait for takes a thousand


@pytest.mark.parametrize(
    ("seconds", "holds", "values"),
    [(60.0, None, [5, 5]), (0.0, None, [5, 6]), (0.0, 5, [5, 5]), (0.0, 7, [5, 6])],
)
def test_a_value_is_computed_anew_after_some_seconds_unless_it_still_holds(
    seconds: float, holds: int | None, values: list[int]
) -> None:
    memo, counted = Memo[str, int](9, seconds), Counted(5, 6)
    still_holds = None if holds is None else holds.__eq__

    assert [memo.get("key", counted(name), still_holds) for name in "ab"] == values


def test_a_value_that_is_forgotten_is_computed_anew() -> None:
    memo, counted = Memo[str, int](9), Counted(5, 6)
    memo.get("key", counted("a"))

    memo.get("another", counted("b"))
    memo.forget("key".__eq__)

    assert memo.get("another", counted("c")) == 6
    assert memo.get("key", counted("d")) == 1


def test_a_value_that_is_forgotten_while_it_is_computed_is_computed_anew() -> None:
    memo, old, new = Memo[str, int](9), Counted(5), Counted(6)
    old.go.clear()
    new.go.clear()

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(memo.get, "key", old("a"))
        assert old.begun.wait(5)
        memo.forget("key".__eq__)
        second = pool.submit(memo.get, "key", new("b"))
        assert new.begun.wait(5)
        old.go.set()
        assert first.result(5) == 5
        new.go.set()
        assert second.result(5) == 6

    assert memo.get("key", old("c")) == 6


# All jobs of a pool


VARIABLE: ContextVar[str] = ContextVar("test_variable", default="")


def test_all_jobs_run_side_by_side_in_the_context_of_the_caller() -> None:
    meeting = threading.Barrier(3, timeout=5)

    def job(number: int) -> tuple[int, str]:
        meeting.wait()
        return number, VARIABLE.get()

    token = VARIABLE.set("caller")
    with ThreadPoolExecutor(3) as pool:
        results = run_all(pool, [partial(job, number) for number in range(3)])
        assert run_all(pool, list[Callable[[], int]]()) == []
    VARIABLE.reset(token)

    assert results == [(0, "caller"), (1, "caller"), (2, "caller")]


def test_the_first_failure_is_raised_once_all_have_ended() -> None:
    counted, failing = Counted(), Counted(-1)

    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(RuntimeError, match="no"):
            run_all(pool, [failing("a"), counted("b")])

        assert counted.computed == ["b"]


# In order, while memory does not grow with the number of jobs


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_results_come_in_the_order_of_the_jobs(threads: int) -> None:
    def job(number: int) -> int:
        time.sleep(0.003 * (number % 3))
        return number

    assert list(map_in_order((partial(job, n) for n in range(50)), threads)) == list(range(50))


def test_what_comes_before_none_ends_before_what_comes_after() -> None:
    ended: list[str] = []

    def slow() -> str:
        time.sleep(0.05)
        ended.append("slow")
        return "slow"

    results = map_in_order([slow, None, lambda: " ".join(ended)], 2)

    assert list(results) == ["slow", "slow"]


def test_jobs_are_done_side_by_side() -> None:
    meeting = threading.Barrier(4, timeout=5)

    assert sorted(map_in_order([meeting.wait] * 4, 4)) == [0, 1, 2, 3]


@pytest.mark.parametrize(("threads", "ahead"), [(1, 0), (3, 2)])
def test_only_a_few_jobs_are_taken_ahead(threads: int, ahead: int) -> None:
    taken: list[int] = []

    def jobs() -> Iterator[Callable[[], int]]:
        for number in count():
            taken.append(number)
            yield lambda: 0

    results = map_in_order(jobs(), threads)
    for _ in range(10):
        next(results)

    assert len(taken) <= 10 + ahead
    results.close()


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_a_result_comes_before_the_next_job_is_made(threads: int) -> None:
    """Whoever makes the jobs may wait for the result of each."""
    seen = threading.Semaphore(0)

    def jobs() -> Iterator[Callable[[], int]]:
        for number in range(5):
            yield partial(int, number)
            assert seen.acquire(timeout=10)

    for number, result in enumerate(map_in_order(jobs(), threads)):
        assert result == number
        seen.release()


@pytest.mark.parametrize("in_job", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_failure_of_a_job_or_to_make_one_takes_the_place_of_its_result(
    threads: int, *, in_job: bool
) -> None:
    def fail() -> int:
        raise OSError("no")

    def jobs() -> Iterator[Callable[[], int]]:
        yield lambda: 1
        yield fail if in_job else partial(int, fail())
        yield lambda: 3

    results = map_in_order(jobs(), threads)

    assert next(results) == 1
    with pytest.raises(OSError, match="no"):
        next(results)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """A pool that serves others, too: it goes on after the results."""
    with ThreadPoolExecutor(2) as pool:
        yield pool


def test_no_job_begins_after_a_failure_and_those_under_way_end(pool: ThreadPoolExecutor) -> None:
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
        list(map_in_order_by(pool, [wait, fail, *rest], 22))

    assert done == ["first"]


def test_no_job_begins_once_the_caller_stops_and_those_under_way_end(
    pool: ThreadPoolExecutor,
) -> None:
    done: list[int] = []

    def work(number: int) -> None:
        time.sleep(0.02 if number else 0.0)
        done.append(number)

    results = map_in_order_by(pool, (partial(work, n) for n in count()), 2)

    next(results)
    time.sleep(0.01)
    results.close()
    before = len(done)
    time.sleep(0.05)

    assert len(done) == before < 10
    assert "mlmerge-jobs" not in {thread.name for thread in threading.enumerate()}


def test_no_program_is_started_after_a_signal(tmp_path: Path) -> None:
    stop, file = Stop(), tmp_path / "started"
    assert stop.run(["touch", str(file)], {}).returncode == 0
    file.unlink()
    stop.on_signal(signal.SIGTERM)

    with pytest.raises(Stopped):
        stop.run(["touch", str(file)], {})
    assert not file.exists()


def test_a_program_that_fails_by_a_signal_for_us_all_has_not_failed() -> None:
    """Ctrl-C reaches both, and the other program may end first."""
    stop = Stop()
    before = signal.signal(signal.SIGUSR1, stop.on_signal)

    with pytest.raises(Stopped):
        stop.run(["sh", "-c", "kill -USR1 $PPID; exit 1"], dict(os.environ))

    signal.signal(signal.SIGUSR1, before)
