"""An in-memory registry on the loopback interface."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import final

from pubtools_mlmerge.testing.http import RecordedRequest, Request, Response, Server
from pubtools_mlmerge.testing.registry import (
    AuthMode,
    Dialect,
    Guard,
    Registry,
    Storage,
    StoredManifest,
    TagPeriod,
)


@final
class RegistryServer:
    """An OCI registry for tests and demos, to be used as a context manager.

    It holds everything in memory and is gone when it stops. Over HTTP it refuses what
    docker-registry refuses, such as an index whose children are missing; its methods
    arrange and inspect the contents past all checks.

    Args:
        users (Mapping[str, str] | None): Passwords by user name.
        auth (AuthMode): ``none`` lets everyone do everything, ``token`` wants tokens from the
            registry's own token endpoint, ``basic`` wants a password each time.
        token_seconds (int): How long a token lasts.
        immutable_tags (Collection[str]): Patterns of tags that cannot be moved once they are set.
        ssl_context (ssl.SSLContext | None): Given, the registry speaks TLS.
        public (Collection[str]): Patterns of repositories that everyone may pull from.
        grants (Mapping[str, Collection[str]] | None):
            Patterns of the repositories that each user owns, such as
            ``{"alice": ["alice/*"]}``. By default every user owns all of them.
        clock (Callable[[], float]): Tells the time, as seconds since 1970.
        port (int): Where to listen; 0 is for any port that is free.
        dialect (Dialect | None): The rules of another registry, for the tests of this package.
    """

    def __init__(  # noqa: PLR0913 - independent options, each with a default
        self,
        *,
        users: Mapping[str, str] | None = None,
        auth: AuthMode = "none",
        token_seconds: int = 300,
        immutable_tags: Collection[str] = (),
        ssl_context: ssl.SSLContext | None = None,
        public: Collection[str] = (),
        grants: Mapping[str, Collection[str]] | None = None,
        clock: Callable[[], float] = time.time,
        port: int = 0,
        dialect: Dialect | None = None,
    ) -> None:
        self._dialect = dialect or Dialect()
        self._storage = Storage(clock, tuple(immutable_tags))
        guard = Guard(users or {}, public, grants, auth, self._dialect, token_seconds, clock)
        self._registry = Registry(self._storage, self._dialect, guard)
        self._lock = threading.Lock()
        self._requests: list[RecordedRequest] = []
        self._listen = partial(Server, self._answer, ssl_context, port)
        self._server: Server | None = None

    def __enter__(self) -> RegistryServer:
        self.start()
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to listen."""
        if self._server:
            raise RuntimeError("the registry is running already")
        self._server = self._listen()

    def stop(self) -> None:
        """Close the port and every connection; the contents stay readable."""
        if self._server:
            self._server.stop()
            self._server = None

    @property
    def url(self) -> str:
        """The root of the registry, such as ``http://127.0.0.1:5000``."""
        if not self._server:
            raise RuntimeError("the registry is not running")
        return self._server.url

    @property
    def host(self) -> str:
        """Host and port, as references begin."""
        return self.url.partition("://")[2]

    @property
    def requests(self) -> tuple[RecordedRequest, ...]:
        """Every request that was answered, in order."""
        return tuple(self._requests)

    def forget_requests(self) -> None:
        """Clear the record of requests."""
        self._requests.clear()

    def put_blob(self, repository: str, content: bytes) -> str:
        """Store a blob in a repository, which need not exist, and return its digest."""
        with self._lock:
            return self._storage.create(repository).add_blob(content)

    def put_manifest(self, repository: str, reference: str, content: bytes, media_type: str) -> str:
        """Store any content as a manifest without a check, and return its digest.

        A reference that is a tag is set; the media type is the one to answer with.
        """
        with self._lock:
            stored = self._storage.create(repository)
            digest = stored.add_manifest(reference, content, media_type)
            self._dialect.stored(stored, reference, digest)
            return digest

    def manifest(self, repository: str, reference: str) -> StoredManifest:
        """Return what a tag or digest names, reachable by HTTP or not; else raise KeyError."""
        with self._lock:
            found = self._storage.repositories[repository].find(reference)
        if found is None:
            raise KeyError(reference)
        return found

    def tags(self, repository: str) -> tuple[str, ...]:
        """Return the tags of a repository, sorted; none if it does not exist."""
        with self._lock:
            stored = self._storage.repositories.get(repository)
            return tuple(sorted(stored.tags)) if stored else ()

    def delete_tag(self, repository: str, tag: str) -> None:
        """Let a tag name nothing; raise KeyError where it does not exist."""
        with self._lock:
            stored = self._storage.repositories[repository]
            if tag not in stored.tags:
                raise KeyError(tag)
            stored.remove(tag)

    def history(self, repository: str, tag: str) -> tuple[TagPeriod, ...]:
        """Return what a tag named and when, newest first."""
        with self._lock:
            return self._storage.repositories[repository].history(tag)

    def _answer(self, request: Request) -> Response:
        with self._lock:
            response = self._registry.answer(request)
            sent = (request.method, request.raw_path, request.query, request.headers)
            self._requests.append(
                RecordedRequest(*sent, status=response.status, body_size=len(request.body))
            )
        return response
