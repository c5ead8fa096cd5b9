"""Locks in Redis; needs the library redis."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Mapping

from redis import Redis, exceptions
from redis.backoff import NoBackoff
from redis.exceptions import LockError, RedisError
from redis.lock import Lock
from redis.retry import Retry

from pubtools_mlmerge.errors import LockFailed, LockLost, brief

LOG = logging.getLogger("pubtools.mlmerge")
PREFIX = "pubtools-mlmerge:lock:"
_LONGEST_SILENCE = 5.0
_FAILURES = (RedisError, OSError)


class RedisLock:
    """A key that holds a random token, expires, and is renewed before that.

    The library's lock renews and deletes the key in scripts, and only while it holds the token.
    """

    def __init__(
        self, name: str, key: str, url: str, expiry: float, tls: Mapping[str, str]
    ) -> None:
        self._name = name
        client = _connect(url, min(_LONGEST_SILENCE, expiry / 3), tls)
        self._connections = client.connection_pool
        at = self._connections.connection_kwargs
        self._server = f"Redis at {at['host']}:{at.get('port', 6379)}"
        self._pause = expiry / 3
        self._taken = False
        # Two threads need the token: this one and the one that renews.
        self._lock = Lock(client, PREFIX + key, timeout=expiry, thread_local=False)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name=f"lock of {name}", daemon=True)

    def take(self) -> bool:
        """Try to acquire it; false if somebody else holds it."""
        token = secrets.token_hex(16)  # the library's tokens reveal address and time
        try:
            self._taken = bool(self._lock.acquire(blocking=False, token=token))
        except _FAILURES as error:  # if only the answer was lost, the key expires
            raise LockFailed(self._name, f"{self._server}: {error}") from error
        if self._taken:
            self._thread.start()
        return self._taken

    def check(self) -> None:
        """Make sure that it is still held, and will be for the whole of its expiry."""
        try:
            self._lock.reacquire()
        except LockError as error:
            raise LockLost(self._name, "it expired, or somebody took it away") from error
        except _FAILURES as error:
            raise LockLost(self._name, f"{self._server}: {error}") from error

    def release(self) -> None:
        """Release it if it was acquired; log a failure, as the tag is written by then."""
        try:
            if self._taken:
                self._give_back()
        finally:
            self._connections.disconnect()

    def _give_back(self) -> None:
        self._ended.set()
        try:
            self._lock.release()
        except LockError:
            LOG.warning("%s: the lock of this tag was lost before it was released", self._name)
        except _FAILURES as error:
            LOG.warning(
                "%s: the lock of this tag was not released and will expire: %s",
                self._name,
                brief(str(error)),
            )
        self._thread.join(_LONGEST_SILENCE)

    def _renew(self) -> None:
        while not self._ended.wait(self._pause):
            try:
                self._lock.reacquire()
            except LockError:  # check() raises, where it matters
                return
            except _FAILURES as error:
                LOG.warning(
                    "%s: the lock of this tag could not be renewed: %s",
                    self._name,
                    brief(str(error)),
                )


def _connect(url: str, longest_silence: float, tls: Mapping[str, str]) -> Redis:
    """Make a client with a limit on each request, and the same retries in all versions."""
    # Old versions take a certificate for any name.
    secure = {**tls, "ssl_check_hostname": True} if url.startswith("rediss:") else {}
    return Redis.from_url(
        url,
        socket_timeout=longest_silence,
        socket_connect_timeout=longest_silence,
        retry=Retry(NoBackoff(), 1),
        retry_on_error=[exceptions.ConnectionError, exceptions.TimeoutError],
        **secure,
    )
