"""Side by side: jobs are done in threads, and their outcomes come in the order of the jobs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from typing import TypeVar

_Outcome = TypeVar("_Outcome")
_AHEAD = 4  # jobs for each thread that are begun before the outcome of an earlier one is taken


def in_order(jobs: Iterable[Callable[[], _Outcome]], threads: int) -> Iterator[_Outcome]:
    """Do jobs side by side.

    Only a few jobs are taken ahead of the outcomes, so it makes no difference how many there are.
    Where nobody asks for more outcomes, or a job fails, no further job is begun, and those that are
    under way come to their end.

    Args:
        jobs (Iterable[Callable[[], object]]):
            The jobs.
        threads (int):
            How many are done at a time; with 1, each is done when its outcome is asked for.

    Yields:
        object: What each job returns, in the order of the jobs.

    Raises:
        Exception: What a job raises, in the place of its outcome, or of one that was not begun for
            it.
    """
    if threads == 1:
        yield from (job() for job in jobs)
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="mlmerge") as pool:
        yield from in_order_by(pool, jobs, threads * _AHEAD)


def in_order_by(
    pool: Executor, jobs: Iterable[Callable[[], _Outcome]], ahead: int
) -> Iterator[_Outcome]:
    """Do jobs in the threads of a pool that may serve others too, see `in_order`.

    Args:
        pool (Executor):
            The threads.
        jobs (Iterable[Callable[[], object]]):
            The jobs.
        ahead (int):
            How many are begun before the outcome of the first of them is taken.

    Yields:
        object: What each job returns, in the order of the jobs.

    Raises:
        Exception: As `in_order` does.
    """
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
