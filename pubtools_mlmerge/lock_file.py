"""Locks in a directory: one writer per tag on one machine."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

from pubtools_mlmerge.errors import LockFailed, LockLost

_READABLE = 80


class _FileLock:
    """The lock of one tag: the kernel's lock on a file, which ends with the process at the latest.

    The file is left behind. Whoever removes it, or its directory, takes the lock away: the next one
    makes a file of its own. So a lock counts only while its file is the one that has the name.
    """

    def __init__(self, name: str, path: Path) -> None:
        self._name = name
        self._path = path
        self._file = -1

    def take(self) -> bool:
        """Try to get it; false where another process holds it."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if self._has_the_name():
                return True
        except BlockingIOError:
            pass
        except OSError as error:
            raise LockFailed(self._name, f"{self._path}: {error.strerror}") from error
        self.release()
        return False

    def check(self) -> None:
        """Make sure that it is still held."""
        if not self._has_the_name():
            raise LockLost(self._name, f"{self._path} was removed")

    def release(self) -> None:
        """Let it go, also where a child of this process has the file open as well."""
        if self._file >= 0:
            with suppress(OSError):  # a file system without locks, where there was none to get
                fcntl.flock(self._file, fcntl.LOCK_UN)
            os.close(self._file)
            self._file = -1

    def _has_the_name(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._file), self._path.lstat())
        except OSError:
            return False


@contextmanager
def file_lock(
    name: str, directory: str, wait: Callable[[Callable[[], bool]], None]
) -> Iterator[_FileLock]:
    """Keep other processes of this machine away from a tag.

    Args:
        name (str):
            The tag's reference.
        directory (str):
            Where the files are; made if it is missing.
        wait (Callable[[Callable[[], bool]], None]):
            Calls a function until it returns true, and raises after too long.

    Yields:
        Held: While it is held.

    Raises:
        LockFailed: When it cannot be had.
    """
    lock = _FileLock(name, Path(directory, _file_name(name)))
    try:
        wait(lock.take)
        yield lock
    finally:
        lock.release()


def _file_name(name: str) -> str:
    """Make a name that nothing in the reference can lead elsewhere; the hash tells tags apart."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "_", name)[-_READABLE:].lstrip(".")
    return f"{readable}-{sha256(name.encode()).hexdigest()}.lock"
