"""Once: what several ask for is done once, side by side with the rest."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from pubtools_mlmerge.concurrency import Once


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
