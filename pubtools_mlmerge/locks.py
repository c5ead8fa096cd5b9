"""Locks: one writer per tag, in this process, on this machine, or in Redis."""

from __future__ import annotations

import fcntl
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Protocol
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit, urlunsplit
from weakref import WeakValueDictionary

from attrs import frozen

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
    """Keep other processes of this machine away from a tag."""
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


_FORMS = "file:///DIRECTORY, redis://HOST:PORT/NUMBER or rediss://HOST:PORT/NUMBER"
_SECONDS = {"wait": (600.0, 0.0, 86400.0), "expiry": (30.0, 1.0, 3600.0)}  # default, least, most
_TLS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_OPTIONS = {
    "file": ("wait",),
    "redis": ("wait", "expiry"),
    "rediss": ("wait", "expiry", *_TLS),
}


class Held(Protocol):
    """A lock that is held."""

    def check(self) -> None:
        """Make sure that the lock is still held.

        Raises:
            LockLost: When it is not, or nobody can tell.
        """


class _Lock:
    """A lock that goes away when nobody holds or awaits it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def check(self) -> None:
        """Do nothing: within a process, nobody takes it away."""


_GUARD = threading.Lock()
_LOCKS: WeakValueDictionary[str, _Lock] = WeakValueDictionary()


def check_url(url: str) -> None:
    """Make sure that a text says where locks are kept; nothing is opened or asked."""
    _Place.parse(url)


@contextmanager
def tag_lock(name: str, url: str | None = None) -> Iterator[Held]:
    """Keep other writers away from a tag.

    Args:
        name (str):
            The tag's reference.
        url (str | None):
            Where locks are kept; none or an empty text for this process alone.

    Yields:
        Held: While it is held.

    Raises:
        LockFailed: When it cannot be had, or not in time.
        ValueError: When there is no such place.
    """
    if not url:
        with process_lock(name) as lock:
            yield lock
        return
    place = _Place.parse(url)
    deadline = time.monotonic() + place.wait
    # Threads first, so that of each process only one asks outside.
    with process_lock(name, place.wait), place.lock(name, deadline) as held:
        yield held


@contextmanager
def process_lock(name: str, wait: float | None = None) -> Iterator[Held]:
    """Keep other threads of this process away from a tag."""
    with _GUARD:
        lock = _LOCKS.get(name)
        if lock is None:
            lock = _LOCKS[name] = _Lock()
    seconds = -1 if wait is None else wait
    if not lock.lock.acquire(timeout=seconds):
        raise LockFailed(name, f"another thread holds it, given up after {seconds:g} seconds")
    try:
        yield lock
    finally:
        lock.lock.release()


@frozen(kw_only=True, eq=False, repr=False)
class _Place:
    """Where locks are kept, and how long they are waited for."""

    scheme: str
    address: str  # may hold a password, which no representation shows
    wait: float
    expiry: float
    tls: Mapping[str, str]

    @classmethod
    def parse(cls, text: str) -> _Place:
        """Read a URL; no error repeats any of it."""
        url = _split(text)
        address = url and _address(url)
        if not url or not address:
            raise ValueError(f"expected {_FORMS}; in a password, write / ? # % and such as %XX")
        options = _options(url)
        return cls(
            scheme=url.scheme,
            address=address,
            wait=_seconds(options, "wait"),
            expiry=_seconds(options, "expiry"),
            tls={option: options[option] for option in _TLS if option in options},
        )

    def lock(self, name: str, deadline: float) -> AbstractContextManager[Held]:
        """Prepare the lock of a tag."""
        wait = partial(_wait, name, self.wait, deadline)
        if self.scheme == "file":
            return file_lock(name, self.address, wait)
        try:
            from pubtools_mlmerge.redis_lock import redis_lock  # noqa: PLC0415 - may be absent
        except ImportError as error:
            problem = "a lock in Redis needs the library redis; install pubtools-mlmerge[lock]"
            raise LockFailed(name, problem) from error
        return redis_lock(name, self.address, wait, expiry=self.expiry, tls=self.tls)


def _split(text: str) -> SplitResult | None:
    """Take a URL apart; where that fails, the reason is dropped, as it repeats parts of it."""
    try:
        url = urlsplit(text)
        usable = url.port != 0 and not url.fragment
    except ValueError:
        return None
    return url if usable else None


def _address(url: SplitResult) -> str | None:
    """Return the directory, or the URL of Redis without options; none where it is neither."""
    path = unquote(url.path)
    if url.scheme == "file":
        return path if path.startswith("/") and "\0" not in path and not url.netloc else None
    address = urlunsplit(url._replace(query=""))
    usable = url.scheme in _OPTIONS and url.hostname and address.isascii()
    return address if usable and re.fullmatch("(/[0-9]{0,9})?", path) else None


def _options(url: SplitResult) -> dict[str, str]:
    pairs = parse_qsl(url.query, keep_blank_values=True)
    options, known = dict(pairs), _OPTIONS[url.scheme]
    if len(options) != len(pairs) or not options.keys() <= set(known):
        raise ValueError(f"expected no options but {', '.join(known)}, each once at most")
    return options


def _seconds(options: Mapping[str, str], name: str) -> float:
    default, least, most = _SECONDS[name]
    text = options.get(name)
    if text is None:
        return default
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text) and least <= float(text) <= most:
        return float(text)
    raise ValueError(f"{name}: expected seconds, {least:g} to {most:g}")


def _wait(name: str, seconds: float, deadline: float, attempt: Callable[[], bool]) -> None:
    """Try again and again, at random moments so that everybody who waits has the same chance."""
    while not attempt():
        left = deadline - time.monotonic()
        if left <= 0:
            raise LockFailed(name, f"somebody else holds it, given up after {seconds:g} seconds")
        pause = random.uniform(0.02, 0.2)  # noqa: S311 - spreads load, guards nothing
        time.sleep(min(pause, left))
