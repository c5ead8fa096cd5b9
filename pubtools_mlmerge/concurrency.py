"""Threads: jobs in order, and each of many things done once."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from typing import TypeVar

from pubtools_mlmerge.core.manifests import Manifest
from pubtools_mlmerge.core.references import Reference


class Once:
    """Does things side by side, and remembers those that succeeded; safe from several threads.

    What is done must not wait for anything else that the same object does.
    """

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="mlmerge")
        self._lock = threading.Lock()
        self._under_way: dict[Hashable, Future[bool]] = {}
        self._done: set[Hashable] = set()

    def each(self, things: Mapping[Hashable, Callable[[], bool]]) -> bool:
        """Do what is neither done nor under way, and wait for all of it."""
        with self._lock:
            futures = [self._start(n, act) for n, act in things.items() if n not in self._done]
        wait(futures)
        results = [future.result() for future in futures]
        return all(results)

    def _start(self, name: Hashable, act: Callable[[], bool]) -> Future[bool]:
        future = self._under_way.get(name)
        if future is None:
            future = self._under_way[name] = self._pool.submit(
                copy_context().run, self._do, name, act
            )
        return future

    def _do(self, name: Hashable, act: Callable[[], bool]) -> bool:
        succeeded = False
        try:
            succeeded = act()
        finally:
            with self._lock:
                del self._under_way[name]
                if succeeded:
                    self._done.add(name)
        return succeeded


_MOST = 64


class Sources:
    """Remembers what sources hold; safe from several threads."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._known: OrderedDict[Reference, Future[Manifest]] = OrderedDict()

    def __contains__(self, reference: Reference) -> bool:
        with self._lock:
            return reference in self._known

    def get(self, reference: Reference, pull: Callable[[Reference], Manifest]) -> Manifest:
        """Tell what a source holds."""
        with self._lock:
            known = self._known.get(reference)
            if known is None:
                mine = self._known[reference] = Future[Manifest]()
                while len(self._known) > self._most:
                    self._known.popitem(last=False)
            else:
                self._known.move_to_end(reference)
        if known is not None:
            return known.result()
        try:
            mine.set_result(pull(reference))
        except BaseException as error:
            mine.set_exception(error)
            with self._lock:
                self._known.pop(reference, None)
            raise
        return mine.result()


_Outcome = TypeVar("_Outcome")
_AHEAD = 4  # jobs for each thread that are begun before the outcome of an earlier one is taken


def map_in_order(jobs: Iterable[Callable[[], _Outcome]], threads: int) -> Iterator[_Outcome]:
    """Do jobs side by side.

    Only a few jobs are taken ahead of the outcomes, so it makes no difference how many there are.
    Where nobody asks for more outcomes, or a job fails, no further job is begun, and those that are
    under way come to their end.
    """
    if threads == 1:
        yield from (job() for job in jobs)
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="mlmerge") as pool:
        yield from map_in_order_by(pool, jobs, threads * _AHEAD)


def map_in_order_by(
    pool: Executor, jobs: Iterable[Callable[[], _Outcome]], ahead: int
) -> Iterator[_Outcome]:
    """Do jobs in the threads of a pool that may serve others too, see `map_in_order`."""
    begun: deque[Future[_Outcome]] = deque()
    failures: list[BaseException] = []

    def attempt(job: Callable[[], _Outcome]) -> _Outcome:
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
