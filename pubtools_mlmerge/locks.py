"""Locks: one writer per tag, in this process, on this machine, or in Redis."""

from __future__ import annotations

import fcntl
import logging
import math
import os
import random
import re
import secrets
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Protocol
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit, urlunsplit
from weakref import WeakValueDictionary

from attrs import field, frozen

from pubtools_mlmerge.concurrency import STOP
from pubtools_mlmerge.core.references import one_name
from pubtools_mlmerge.errors import LockFailed, LockLost, brief

LOG = logging.getLogger("pubtools.mlmerge")
PREFIX = "pubtools-mlmerge:lock:"  # of keys in Redis
_FORMS = "file:///DIRECTORY, redis://HOST:PORT/NUMBER or rediss://HOST:PORT/NUMBER"
_SECONDS = {"wait": (600.0, 0.0, 86400.0), "expiry": (30.0, 1.0, 3600.0)}  # default, least, most
_TLS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_OPTIONS = {
    "file": ("wait",),
    "redis": ("wait", "expiry"),
    "rediss": ("wait", "expiry", *_TLS),
}
_READABLE = 80  # characters of a reference in the name of a file
_LONGEST_SILENCE = 5.0  # seconds that Redis may take for an answer


class Held(Protocol):
    """A lock that is held."""

    def check(self) -> None:
        """Make sure that the lock is still held.

        Raises:
            LockLost: When it is not, or when that cannot be determined.
        """


def no_lock() -> None:
    """Do nothing: there is no lock, or it cannot be lost."""


def check_url(url: str) -> str:
    """Return a text that says where locks are kept, else raise ValueError; nothing is opened."""
    _Place.parse(url)
    return url


@contextmanager
def tag_lock(
    name: str, url: str | None = None, wait: float = math.inf, aliases: Iterable[str] = ()
) -> Iterator[Held]:
    """Keep other writers away from a tag.

    Args:
        name (str):
            The tag's reference.
        url (str | None):
            Where locks are kept; none or an empty text for this process alone.
        wait (float):
            Seconds to wait for it at most; the URL may say fewer.
        aliases (Iterable[str]):
            Host names that are one registry, beside those that are known to be.

    Yields:
        Held: While it is held.

    Raises:
        LockFailed: When it cannot be acquired in time.
        ValueError: When the URL is wrong.
    """
    key, place = lock_name(name, aliases), _Place.parse(url) if url else None
    wait = min(wait, place.wait) if place else wait
    deadline = time.monotonic() + wait
    # Threads first, so that only one thread of each process waits for other processes.
    with _process_lock(name, key, wait) as threads:
        if place is None:
            yield threads
            return
        lock = place.lock(name, key)
        try:
            while not lock.take():
                left = deadline - time.monotonic()
                if left <= 0:
                    problem = f"somebody else holds it, given up after {wait:g} seconds"
                    raise LockFailed(name, problem)
                # At random intervals, so that all waiting programs have the same chance.
                STOP.sleep(min(left, random.uniform(0.02, 0.2)))  # noqa: S311 - guards nothing
            yield lock
        finally:
            lock.release()


def lock_name(name: str, aliases: Iterable[str] = ()) -> str:
    """Name the lock of a tag: the same name for every alias of its registry."""
    name = one_name(name)
    host, _, rest = name.partition("/")
    hosts = {one_name(f"{alias}/")[:-1] for alias in aliases}
    return f"{min(hosts)}/{rest}" if host in hosts else name


class _ThreadLock:
    """A lock that is deleted once no thread holds it or waits for it."""

    check = staticmethod(no_lock)  # within a process, nobody takes it away

    def __init__(self) -> None:
        self.lock = threading.Lock()


_GUARD = threading.Lock()
_LOCKS: WeakValueDictionary[str, _ThreadLock] = WeakValueDictionary()


@contextmanager
def _process_lock(name: str, key: str, wait: float) -> Iterator[Held]:
    """Keep other threads of this process away from a tag."""
    with _GUARD:
        lock = _LOCKS.setdefault(key, _ThreadLock())
    # Threads of one program never await each other here, so that no signal has to end this.
    if not lock.lock.acquire(timeout=min(wait, threading.TIMEOUT_MAX)):
        raise LockFailed(name, f"another thread holds it, given up after {wait:g} seconds")
    try:
        yield lock
    finally:
        lock.lock.release()


@frozen(kw_only=True)
class _Place:
    """Where locks are kept, and how long to wait for one."""

    scheme: str
    address: str = field(repr=False)  # a directory, or the URL of Redis, perhaps with a password
    wait: float
    expiry: float
    tls: Mapping[str, str]

    @classmethod
    def parse(cls, text: str) -> _Place:
        """Read a URL; no error repeats any of it, not even as the cause of another."""
        url = _split(text)
        if url is None:
            raise ValueError(f"expected {_FORMS}; in a password, write / ? # % and such as %XX")
        pairs = parse_qsl(url.query, keep_blank_values=True)
        options, known = dict(pairs), _OPTIONS[url.scheme]
        if len(options) != len(pairs) or not options.keys() <= set(known):
            raise ValueError(f"expected only the options {', '.join(known)}, each once at most")
        is_file = url.scheme == "file"
        address = unquote(url.path) if is_file else urlunsplit(url._replace(query=""))
        wait, expiry = (_seconds(options, name) for name in ("wait", "expiry"))
        tls = {option: options[option] for option in _TLS if option in options}
        return cls(scheme=url.scheme, address=address, wait=wait, expiry=expiry, tls=tls)

    def lock(self, name: str, key: str) -> _FileLock | _RedisLock:
        """Prepare the lock of a tag."""
        if self.scheme == "file":
            return _FileLock(name, Path(self.address, _file_name(key)))
        return _RedisLock(name, key, self)


def _split(text: str) -> SplitResult | None:
    """Take a URL apart.

    The library for Redis takes a URL without a host for localhost, and ignores the rest. Such URLs
    come from passwords with an unescaped ``/``, ``?`` or ``#``, and must not lock elsewhere.
    """
    try:
        url = urlsplit(text)
        is_place = url.port != 0 and not url.fragment
    except ValueError:
        return None
    if url.scheme == "file":
        path = unquote(url.path)
        is_place = is_place and path.startswith("/") and "\0" not in path and not url.netloc
    else:
        is_place = is_place and url.scheme in _OPTIONS and bool(url.hostname)
        is_number = re.fullmatch("(/[0-9]*)?", url.path) is not None
        is_place = is_place and url.netloc.isascii() and is_number
    return url if is_place else None


def _seconds(options: Mapping[str, str], name: str) -> float:
    default, least, most = _SECONDS[name]
    try:
        seconds = float(options.get(name, default))
    except ValueError:
        seconds = math.nan
    if not least <= seconds <= most:
        raise ValueError(f"{name}: expected seconds, {least:g} to {most:g}")
    return seconds


def _file_name(name: str) -> str:
    """Make a name that stays within the directory; the hash keeps similar tags apart."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "_", name)[-_READABLE:].lstrip(".")
    return f"{readable}-{sha256(name.encode()).hexdigest()}.lock"


class _FileLock:
    """The kernel's lock on a file, which ends with the process at the latest.

    The file is left behind. Whoever removes it, or its directory, takes the lock away, as the next
    process makes a new file. So a lock counts only while its file is the one at the path.
    """

    def __init__(self, name: str, path: Path) -> None:
        self._name = name
        self._path = path
        self._file = -1

    def take(self) -> bool:
        """Try to acquire it; false if another process holds it."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if self._is_at_path():
                return True
        except BlockingIOError:
            pass
        except OSError as error:
            raise LockFailed(self._name, f"{self._path}: {error.strerror}") from error
        self.release()
        return False

    def check(self) -> None:
        """Make sure that it is still held."""
        if not self._is_at_path():
            raise LockLost(self._name, f"{self._path} was removed")

    def release(self) -> None:
        """Release it, even if a child process has the file open as well."""
        if self._file >= 0:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(self._file, fcntl.LOCK_UN)
            os.close(self._file)
            self._file = -1

    def _is_at_path(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._file), self._path.lstat())
        except OSError:
            return False


class _RedisLock:
    """A key that holds a random token, expires, and is renewed before that.

    The library's lock renews and deletes the key in scripts, and only while it holds the token.
    """

    def __init__(self, name: str, key: str, place: _Place) -> None:
        try:
            from redis import Redis, exceptions  # noqa: PLC0415 - an optional library
            from redis.backoff import NoBackoff  # noqa: PLC0415
            from redis.lock import Lock  # noqa: PLC0415
            from redis.retry import Retry  # noqa: PLC0415
        except ImportError as error:
            problem = "a lock in Redis needs the library redis; install pubtools-mlmerge[lock]"
            raise LockFailed(name, problem) from error
        self._name = name
        self._pause = place.expiry / 3
        silence = min(_LONGEST_SILENCE, self._pause)
        # Old versions take a certificate for any name.
        secure = {**place.tls, "ssl_check_hostname": True} if place.scheme == "rediss" else {}
        client = Redis.from_url(
            place.address,
            socket_timeout=silence,
            socket_connect_timeout=silence,
            retry=Retry(NoBackoff(), 1),  # the same in all versions
            retry_on_error=[exceptions.ConnectionError, exceptions.TimeoutError],
            **secure,
        )
        self._connections = client.connection_pool
        at = self._connections.connection_kwargs
        self._server = f"Redis at {at['host']}:{at.get('port', 6379)}"
        self._not_ours, self._failures = exceptions.LockError, (exceptions.RedisError, OSError)
        # Two threads need the token: this one and the one that renews.
        self._lock = Lock(client, PREFIX + key, timeout=place.expiry, thread_local=False)
        self._taken = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name=f"lock of {name}", daemon=True)

    def take(self) -> bool:
        """Try to acquire it; false if somebody else holds it."""
        token = secrets.token_hex(16)  # the library's tokens reveal address and time
        try:
            self._taken = bool(self._lock.acquire(blocking=False, token=token))
        except self._failures as error:  # if only the answer was lost, the key expires
            raise LockFailed(self._name, f"{self._server}: {error}") from error
        if self._taken:
            self._thread.start()
        return self._taken

    def check(self) -> None:
        """Make sure that it is still held, and will be for the whole of its expiry."""
        try:
            self._lock.reacquire()
        except self._not_ours as error:
            raise LockLost(self._name, "it expired, or somebody took it away") from error
        except self._failures as error:
            raise LockLost(self._name, f"{self._server}: {error}") from error

    def release(self) -> None:
        """Release it if it was acquired; log a failure, as the tag is written by then."""
        try:
            if self._taken:
                self._ended.set()
                self._lock.release()
        except self._not_ours:
            LOG.warning("%s: the lock of this tag was lost before it was released", self._name)
        except self._failures as error:
            self._warn("was not released and will expire", error)
        finally:
            if self._taken:
                self._thread.join(_LONGEST_SILENCE)
            self._connections.disconnect()

    def _renew(self) -> None:
        while not self._ended.wait(self._pause):
            try:
                self._lock.reacquire()
            except self._not_ours:  # check() raises, where it matters
                return
            except self._failures as error:
                self._warn("could not be renewed", error)

    def _warn(self, problem: str, error: BaseException) -> None:
        LOG.warning("%s: the lock of this tag %s: %s", self._name, problem, brief(str(error)))
