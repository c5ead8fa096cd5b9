"""Once: what several ask for is done once, side by side with the rest."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count

import pytest

from pubtools_mlmerge.concurrency import Once, Sources, map_in_order
from pubtools_mlmerge.core.manifests import Index, Manifest
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import NotFound
from tests.factories import index

# Once: what several ask for is done once, side by side with the rest


class Counted:
    """Counts how often each thing is done, and answers as it is told."""

    def __init__(self, *answers: bool) -> None:
        self.done: list[str] = []
        self._answers = list(answers)

    def __call__(self, name: str) -> Callable[[], bool]:
        def act() -> bool:
            self.done.append(name)
            return self._answers.pop(0) if self._answers else True

        return act


def test_each_thing_is_done_once() -> None:
    once, counted = Once(2), Counted()

    assert once.each({name: counted(name) for name in "abc"})
    assert once.each({name: counted(name) for name in "cd"})

    assert sorted(counted.done) == ["a", "b", "c", "d"]


def test_several_wait_for_the_same_thing() -> None:
    once, counted, begun, go = Once(2), Counted(), threading.Event(), threading.Event()

    def slowly() -> bool:
        begun.set()
        return go.wait(5) and counted("a")()

    with ThreadPoolExecutor(2) as callers:
        first = callers.submit(once.each, {"a": slowly})
        assert begun.wait(5)
        second = callers.submit(once.each, {"a": slowly})
        go.set()

        assert first.result(5)
        assert second.result(5)
    assert counted.done == ["a"]


def test_things_are_done_side_by_side() -> None:
    meeting = threading.Barrier(3, timeout=5)

    assert Once(3).each({number: lambda: meeting.wait() >= 0 for number in range(3)})


def test_what_did_not_succeed_is_done_again() -> None:
    once, counted = Once(1), Counted(False, True)

    assert not once.each({"a": counted("a")})
    assert once.each({"a": counted("a")})

    assert counted.done == ["a", "a"]


def test_the_first_failure_comes_out_once_all_is_quiet() -> None:
    once, counted = Once(2), Counted()

    def fail() -> bool:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        once.each({"a": fail, "b": counted("b")})

    assert counted.done == ["b"]
    assert once.each({"a": counted("a")})


def test_there_may_be_nothing_to_do() -> None:
    assert Once(1).each({})


# Sources: read once, by whichever thread comes first


FOUND = index("linux/amd64")


def reference(tag: object) -> Reference:
    return Reference.parse(f"quay.io/ns/app:{tag}")


class Shelf:
    """Counts what is read; may fail, or wait until everybody asked."""

    def __init__(self, failures: int = 0) -> None:
        self.read: list[Reference] = []
        self.failures = failures
        self.go = threading.Event()
        self.go.set()

    def __call__(self, asked: Reference) -> Manifest:
        self.read.append(asked)
        assert self.go.wait(5)
        if self.failures:
            self.failures -= 1
            raise NotFound(str(asked))
        return FOUND


def test_a_source_is_read_once() -> None:
    sources, shelf = Sources(), Shelf()

    assert [sources.get(reference(1), shelf) for _ in range(3)] == [FOUND] * 3
    assert shelf.read == [reference(1)]
    assert reference(1) in sources
    assert reference(2) not in sources


def test_threads_wait_for_the_one_that_reads() -> None:
    sources, shelf = Sources(), Shelf()
    shelf.go.clear()

    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(sources.get, reference(1), shelf) for _ in range(4)]
        shelf.go.set()

        assert [each.result(5) for each in asked] == [FOUND] * 4
    assert len(shelf.read) == 1


def test_a_failure_is_told_and_not_remembered() -> None:
    sources, shelf = Sources(), Shelf(failures=1)

    with pytest.raises(NotFound):
        sources.get(reference(1), shelf)

    assert isinstance(sources.get(reference(1), shelf), Index)


def test_only_so_many_are_remembered() -> None:
    sources, shelf = Sources(most=2), Shelf()
    for tag in (1, 2, 1, 3, 1):
        sources.get(reference(tag), shelf)

    assert shelf.read == [reference(1), reference(2), reference(3)]
    assert reference(2) not in sources


# Side by side: the order stays, and memory does not grow with the number of jobs


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
