"""Locks: one writer per tag within this process."""

from __future__ import annotations

import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pubtools_mlmerge import lock
from pubtools_mlmerge.lock import process_lock

TAG, OTHER = "quay.io/ns/app:1", "quay.io/ns/app:2"


def test_one_thread_at_a_time_holds_a_tag() -> None:
    inside, most = [0], [0]
    guard, pause = threading.Lock(), threading.Event()

    def work() -> None:
        with process_lock(TAG):
            with guard:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            pause.wait(0.005)
            with guard:
                inside[0] -= 1

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(work) for _ in range(16)]:
            done.result()

    assert (most, inside) == ([1], [0])


def test_other_tags_do_not_wait() -> None:
    with process_lock(TAG), ThreadPoolExecutor(1) as pool:

        def hold_other() -> bool:
            with process_lock(OTHER):
                return True

        assert pool.submit(hold_other).result(timeout=5)


def test_a_lock_is_released_after_an_error() -> None:
    with pytest.raises(RuntimeError), process_lock(TAG):
        raise RuntimeError

    with process_lock(TAG):
        pass


def test_locks_that_nobody_needs_are_forgotten() -> None:
    with process_lock(TAG):
        assert TAG in lock._LOCKS

    gc.collect()
    assert TAG not in lock._LOCKS
