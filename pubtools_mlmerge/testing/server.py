"""An in-memory registry on the loopback interface."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import final

from pubtools_mlmerge.testing.dialects import Dialect
from pubtools_mlmerge.testing.endpoints import AuthMode, Guard, Router
from pubtools_mlmerge.testing.http import RecordedRequest, Request, Response, Server
from pubtools_mlmerge.testing.storage import Storage, StoredManifest, TagPeriod


@final
class RegistryServer:
    """An OCI registry for tests and demos, to be used as a context manager.

    It holds everything in memory and is gone when it stops. Over HTTP it refuses what
    docker-registry refuses, such as an index whose children are missing; its methods
    arrange and inspect the contents past all checks.

    Args:
        users (Mapping[str, str] | None):
            Passwords by user name.
        auth (AuthMode):
            ``none`` lets everyone do everything, ``token`` wants tokens from the
            registry's own token endpoint, ``basic`` wants a password each time.
        token_seconds (int):
            How long a token lasts.
        immutable_tags (Iterable[str]):
            Patterns of tags that cannot be moved once they are set.
        ssl_context (ssl.SSLContext | None):
            Given, the registry speaks TLS.
        public (Iterable[str]):
            Patterns of repositories that everyone may pull from.
        grants (Mapping[str, Iterable[str]] | None):
            Patterns of the repositories that each user owns, such as
            ``{"alice": ["alice/*"]}``. By default every user owns all of them.
        clock (Callable[[], float]):
            Tells the time, as seconds since 1970.
        port (int):
            Where to listen; 0 is for any port that is free.
        dialect (Dialect | None):
            The rules of another registry, for the tests of this package.
    """

    def __init__(  # noqa: PLR0913 - independent options, each with a default
        self,
        *,
        users: Mapping[str, str] | None = None,
        auth: AuthMode = "none",
        token_seconds: int = 300,
        immutable_tags: Iterable[str] = (),
        ssl_context: ssl.SSLContext | None = None,
        public: Iterable[str] = (),
        grants: Mapping[str, Iterable[str]] | None = None,
        clock: Callable[[], float] = time.time,
        port: int = 0,
        dialect: Dialect | None = None,
    ) -> None:
        owned = None
        if grants is not None:
            owned = {user: tuple(patterns) for user, patterns in grants.items()}
        self._dialect = dialect or Dialect()
        self._storage = Storage(clock, tuple(immutable_tags))
        guard = Guard(
            users=users or {},
            public=tuple(public),
            grants=owned,
            mode=auth,
            dialect=self._dialect,
            token_seconds=token_seconds,
            clock=clock,
        )
        self._router = Router(self._storage, self._dialect, guard)
        self._lock = threading.Lock()
        self._requests: list[RecordedRequest] = []
        self._ssl_context = ssl_context
        self._port = port
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
        self._server = Server(self._answer, self._ssl_context, self._port)

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
        """Begin the record of requests anew."""
        self._requests.clear()

    def put_blob(self, repository: str, content: bytes) -> str:
        """Store a blob.

        Args:
            repository (str):
                Where; it is made if it does not exist.
            content (bytes):
                The blob.

        Returns:
            str: Its digest.
        """
        with self._lock:
            return self._storage.create(repository).add_blob(content)

    def put_manifest(self, repository: str, reference: str, content: bytes, media_type: str) -> str:
        """Store any content as a manifest, without a check.

        Args:
            repository (str):
                Where; it is made if it does not exist.
            reference (str):
                The tag to set. A digest sets none.
            content (bytes):
                The manifest.
            media_type (str):
                The type to answer with.

        Returns:
            str: Its digest.
        """
        with self._lock:
            stored = self._storage.create(repository)
            digest = stored.add_manifest(reference, content, media_type)
            self._dialect.stored(stored, reference, digest)
            return digest

    def manifest(self, repository: str, reference: str) -> StoredManifest:
        """Return what the registry holds, reachable by HTTP or not.

        Args:
            repository (str):
                Where.
            reference (str):
                A tag or a digest.

        Returns:
            StoredManifest: The exact bytes, their type and digest.

        Raises:
            KeyError: There is no such manifest.
        """
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
            stored.remove_tag(tag)

    def history(self, repository: str, tag: str) -> tuple[TagPeriod, ...]:
        """Return what a tag named and when, newest first."""
        with self._lock:
            return self._storage.repositories[repository].history(tag)

    def _answer(self, request: Request) -> Response:
        with self._lock:
            response = self._router.answer(request)
            self._requests.append(
                RecordedRequest(
                    method=request.method,
                    path=request.raw_path,
                    query=request.query,
                    headers=request.headers,
                    status=response.status,
                    body_size=len(request.body),
                )
            )
        return response
