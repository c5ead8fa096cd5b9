"""Once: each of many things is done once, in threads, however many ask for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context


class Once:
    """Does things side by side, and remembers those that succeeded; safe from several threads.

    What is done must not wait for anything else that the same object does.

    Args:
        threads (int):
            How many things are done at a time.
    """

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="mlmerge")
        self._lock = threading.Lock()
        self._under_way: dict[Hashable, Future[bool]] = {}
        self._done: set[Hashable] = set()

    def each(self, things: Mapping[Hashable, Callable[[], bool]]) -> bool:
        """Do what is neither done nor under way, and wait for all of it.

        Args:
            things (Mapping[Hashable, Callable[[], bool]]):
                What to do, by what it is remembered as.

        Returns:
            bool: Whether all succeeded.

        Raises:
            Exception: The first failure, once nothing is under way any more.
        """
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
