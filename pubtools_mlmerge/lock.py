"""Locks: one writer per tag within this process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakValueDictionary


class _Lock:
    """A lock that goes away when nobody holds or awaits it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


_GUARD = threading.Lock()
_LOCKS: WeakValueDictionary[str, _Lock] = WeakValueDictionary()


@contextmanager
def process_lock(name: str) -> Iterator[None]:
    """Keep other threads of this process away from a tag.

    Args:
        name (str):
            The tag's reference.

    Yields:
        None: While it is held.
    """
    with _GUARD:
        lock = _LOCKS.get(name)
        if lock is None:
            lock = _LOCKS[name] = _Lock()
    with lock.lock:
        yield
