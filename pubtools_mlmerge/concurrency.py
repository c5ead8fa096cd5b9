"""Threads: jobs side by side, their progress, and values that are computed once."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from contextvars import copy_context
from typing import Generic, Optional, TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)
ValueT = TypeVar("ValueT")

_AHEAD = 4  # jobs per thread that may begin before the result of an earlier one is taken

Watch = Callable[[str, Optional[int]], AbstractContextManager[Callable[[], None]]]
"""Shows progress: called with a name and a total, it gives a function that counts one more."""


@contextmanager
def unwatched(_name: str, _total: int | None) -> Iterator[Callable[[], None]]:
    """Show nothing."""
    yield lambda: None


class Memo(Generic[KeyT, ValueT]):
    """Computes the value of each key once, while other threads that want it wait.

    Failures are not remembered, nor are values that are false. Of the rest, the least recently
    used values are forgotten first. Computing one value must not need another of the same memo.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._values: OrderedDict[KeyT, Future[ValueT]] = OrderedDict()

    def __contains__(self, key: KeyT) -> bool:
        """Whether the value is known, or a thread is computing it."""
        with self._lock:
            return key in self._values

    def get(self, key: KeyT, compute: Callable[[], ValueT]) -> ValueT:
        """Return the value of a key; compute it unless that is done or under way."""
        with self._lock:
            known = self._values.get(key)
            if known is None:
                mine = self._values[key] = Future[ValueT]()
                while len(self._values) > self._most:
                    self._values.popitem(last=False)
            else:
                self._values.move_to_end(key)
        if known is not None:
            return known.result()
        try:
            value = compute()
        except BaseException as error:
            self._forget(key, mine)
            mine.set_exception(error)
            raise
        if not value:
            self._forget(key, mine)
        mine.set_result(value)
        return value

    def _forget(self, key: KeyT, mine: Future[ValueT]) -> None:
        with self._lock:
            if self._values.get(key) is mine:
                del self._values[key]


def run_all(pool: Executor, jobs: Iterable[Callable[[], ValueT]]) -> list[ValueT]:
    """Run all jobs in a pool, even where one fails; return their results in order."""
    begun = [pool.submit(copy_context().run, job) for job in jobs]
    wait(begun)
    return [future.result() for future in begun]


def map_in_order(jobs: Iterable[Callable[[], ValueT]], threads: int) -> Iterator[ValueT]:
    """Run jobs in threads and yield their results in order.

    Only a few jobs are taken ahead of the results, so that there may be any number of them. After
    a failure, or once the caller stops, no further job begins, and those under way are awaited.
    """
    if threads == 1:
        yield from (job() for job in jobs)
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="mlmerge") as pool:
        yield from map_in_order_by(pool, jobs, threads * _AHEAD)


def map_in_order_by(
    pool: Executor, jobs: Iterable[Callable[[], ValueT]], ahead: int
) -> Iterator[ValueT]:
    """Run jobs in a pool that may serve others too; otherwise like `map_in_order`."""
    begun: deque[Future[ValueT]] = deque()
    failures: list[BaseException] = []

    def attempt(job: Callable[[], ValueT]) -> ValueT:
        if failures:
            raise failures[0]
        try:
            return job()
        except BaseException as error:
            failures.append(error)
            raise

    try:
        for job in jobs:
            begun.append(pool.submit(copy_context().run, attempt, job))
            if len(begun) == ahead:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        for future in begun:
            future.cancel()
        wait(begun)
