"""Bring images into a repository: mounted within a registry, streamed or copied between two."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Literal

from attrs import evolve, field, frozen
from requests.exceptions import HTTPError

from pubtools_mlmerge.concurrency import STOP, Memo, Watch, run_all, unwatched
from pubtools_mlmerge.core.manifests import Image, Index, Manifest, subject_of
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import (
    CopyFailed,
    Forbidden,
    InvalidIndex,
    MissingChild,
    NotAnIndex,
    OutOfTime,
    RegistryError,
    Unauthorized,
)
from pubtools_mlmerge.observe import span
from pubtools_mlmerge.registry.auth import redact
from pubtools_mlmerge.registry.base import NESTED_INDEXES, NESTED_LEVELS, TOO_NESTED
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.registry.connections import proxy_secrets, read_authorities
from pubtools_mlmerge.registry.credentials import environment_without
from pubtools_mlmerge.registry.http import PIECE, Stream, may_heal

LOG = logging.getLogger("pubtools.mlmerge")

Copy = Literal["auto", "skopeo", "never"]
_Way = Literal["mount", "stream", "copy"]

_THREADS = 8  # requests for manifests at a time, and for blobs
_COPIES = 4  # programs at a time
_REMEMBERED = 10_000  # manifests that are there, and blobs
_SUBJECTS = 16  # of subjects, each brought before what refers to it
_EXPIRED = (404, 416)  # how an upload is refused that the registry has given up


class _OnlyByProgram(Exception):
    """A blob can neither be mounted nor streamed."""


@frozen
class _Family:
    """Manifests that are brought together: all that an index lists, or that a caller needs."""

    source: Reference
    destination: Reference
    digests: Collection[str]
    is_one_registry: bool
    level: int = 0  # of indexes around them
    indexes: set[str] = field(factory=set)  # that were read, at all levels
    waiting: int = 0  # of them, each until its subject is there


class Children:
    """Copies manifests from one repository into another; safe from several threads.

    Each manifest and blob is checked and copied once, however many callers need it. With `auto`,
    blobs are mounted or streamed; where `copy_one` is given, that copies what cannot be mounted.
    """

    def __init__(  # noqa: PLR0913 - the two sides, and independent options
        self,
        source: RegistryClient,
        destination: RegistryClient,
        copy: Copy = "auto",
        copy_one: Callable[[Reference, Reference], None] | None = None,
        watch: Watch = unwatched,
        *,
        threads: int = _THREADS,
    ) -> None:
        self._source = source
        self._destination = destination
        self._copy = copy
        self._copy_one = copy_one or partial(copy_by_skopeo, source, destination)
        self._streams = copy == "auto" and copy_one is None
        self._watch = watch
        # Two pools, as threads of the first wait for those of the second.
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="mlmerge")
        self._blob_threads = ThreadPoolExecutor(threads, thread_name_prefix="mlmerge")
        self._manifests: Memo[Reference, bool] = Memo(_REMEMBERED)
        self._blobs: Memo[Reference, _Way] = Memo(_REMEMBERED)
        self._holders: dict[tuple[str, str], str] = {}  # a repository by its host and a blob
        self._writable: Memo[str, bool] = Memo(_REMEMBERED)
        self._copying = threading.BoundedSemaphore(_COPIES)

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown()
        self._blob_threads.shutdown()

    def ensure(self, source: Reference, destination: Reference, digests: Iterable[str]) -> None:
        """Make sure that manifests, with all that they need, are in the destination repository."""
        digests = dict.fromkeys(digests)
        sides = self._source.session(source), self._destination.session(destination)
        family = _Family(source, destination, digests, sides[0].host == sides[1].host)
        if family.is_one_registry and source.repository == destination.repository:
            return

        def ensure_one(digest: str) -> bool:
            is_there = self._ensure_one(digest, evolve(family, indexes=set()))
            if is_there:
                advance()
            return is_there

        with self._watch(f"images for {destination}", len(digests)) as advance:
            is_there = run_all(self._threads, [partial(ensure_one, digest) for digest in digests])
        if not all(is_there):
            lacking = tuple(digest for digest, there in zip(digests, is_there) if not there)
            raise MissingChild(str(destination), None, "copying is disabled", lacking)

    def _ensure_one(self, digest: str, family: _Family) -> bool:
        place = family.destination.at(digest)
        return self._manifests.get(place, partial(self._provide, digest, family))

    def _provide(self, digest: str, family: _Family) -> bool:
        """Bring a manifest unless it is there; false if copying is disabled."""
        source, destination = family.source.at(digest), family.destination.at(digest)
        if self._destination.has_manifest(destination):
            return True
        if self._copy == "never":
            return False
        by_blobs = self._copy == "auto" and (self._streams or family.is_one_registry)
        manifest = None
        if by_blobs or len(family.digests) > 1:
            manifest = self._read(source, family)
        names = {"source": str(source), "destination": str(destination)}
        with span("child", **names) as current:
            way: _Way = "copy"
            if by_blobs and manifest is not None:
                with suppress(_OnlyByProgram):
                    way = self._write(manifest, destination, family)
            if way == "copy":
                # Without the right to write the program would fail as well, with a worse message.
                self._writable.get(destination.name, partial(self._require_push, destination))
                with self._copying:
                    self._copy_one(source, destination)
            current.note(by=way)
        event = {"type": "mlmerge-child", **names, "by": way}
        LOG.info("Brought %s to %s by %s", source, destination.name, way, extra={"event": event})
        return True

    def _read(self, source: Reference, family: _Family) -> Manifest | None:
        """Read a manifest; if its subject is among its siblings, bring that first."""
        try:
            manifest = self._source.pull(source)
        except NotAnIndex:  # nor an image: its blobs are not known here
            return None
        # A registry may refuse what names a subject that it lacks.
        subject = subject_of(manifest)
        if subject is not None and subject in family.digests and family.waiting < _SUBJECTS:
            self._ensure_one(subject, evolve(family, waiting=family.waiting + 1))
        return manifest

    def _write(self, manifest: Manifest, destination: Reference, family: _Family) -> _Way:
        """Write a manifest after its blobs, or after all that it lists."""
        ways: list[_Way] = []
        if isinstance(manifest, Image):
            bring = partial(self._bring_blob, manifest, family)
            jobs = [
                partial(self._blobs.get, destination.at(blob), partial(bring, blob))
                for blob in manifest.blobs
            ]
            ways = run_all(self._blob_threads, jobs)
        else:
            self._bring_listed(manifest, family)
        self._destination.push(destination, manifest)
        return "stream" if "stream" in ways else "mount"

    def _bring_listed(self, index: Index, family: _Family) -> None:
        """Bring all that an index lists, in turn; no more indexes are read than for a merge."""
        family.indexes.add(index.digest)
        if family.level == NESTED_LEVELS or len(family.indexes) > NESTED_INDEXES:
            source = family.source.at(index.digest)
            raise InvalidIndex("manifests", TOO_NESTED, str(source))
        digests = dict.fromkeys(entry.digest for entry in index.manifests)
        listed = evolve(family, digests=digests, level=family.level + 1)
        for digest in digests:
            self._ensure_one(digest, listed)

    def _bring_blob(self, image: Image, family: _Family, digest: str) -> _Way:
        """Mount a blob, or leave it if it is there, or else stream it."""
        source, place = family.source.at(digest), family.destination.at(digest)
        held = self._destination.session(place).host, digest
        holder = source.repository if family.is_one_registry else self._holders.get(held)
        try:
            if holder and self._destination.mount_blob(place, digest, holder):
                return "mount"
        except RegistryError as error:
            LOG.debug("Cannot mount %s: %s", digest, error)
        if not self._streams:
            raise _OnlyByProgram
        way: _Way = "mount"
        if not self._destination.has_blob(place):
            try:
                size = image.sizes[digest]
            except InvalidIndex as error:
                raise evolve(error, reference=str(source.at(image.digest))) from None
            stream_blob(
                self._source, source, self._destination, place, size=size, watch=self._watch
            )
            way = "stream"
        if len(self._holders) < _REMEMBERED:
            self._holders[held] = place.repository
        return way

    def _require_push(self, destination: Reference) -> bool:
        try:
            self._destination.require_push(destination)
        except (Unauthorized, Forbidden):
            raise
        except RegistryError as error:
            LOG.debug("Cannot tell whether %s may be written: %s", destination.name, error)
        return True


# The program skopeo


def copy_by_skopeo(
    source_client: RegistryClient,
    destination_client: RegistryClient,
    source: Reference,
    destination: Reference,
) -> None:
    """Copy one manifest, all that it lists and all its blobs, under the same digest, by skopeo."""
    options = destination_client.options
    failed = partial(CopyFailed, str(source), str(destination))
    with ExitStack() as stack:
        passed: list[int] = []
        sides = (("src", source_client, source), ("dest", destination_client, destination))
        command = [
            *("skopeo", "copy", "--quiet", "--all", "--preserve-digests"),
            *(option for side in sides for option in _options(*side, stack, passed)),
            *(f"docker://{client.place(each).name}@{each.digest}" for _, client, each in sides),
        ]
        try:
            done = STOP.run(
                command,
                environment_without(client.login(each) for _, client, each in sides),
                end=options.ends,
                silence=options.silence,
                stderr=subprocess.STDOUT,
                passed=passed,
            )
        except subprocess.TimeoutExpired:
            if time.monotonic() >= options.ends:
                raise OutOfTime(str(destination), options.time_limit or 0.0) from None
            problem = f"skopeo made no progress for {options.silence:g} seconds"
            raise failed(problem) from None
        except OSError as error:
            raise failed("skopeo is not installed, or cannot be run") from error
    if done.returncode:
        # It repeats what registries say, and they may repeat what it sent.
        said = redact(done.stdout.strip(), proxy_secrets())
        said = destination_client.withhold(source_client.withhold(said))
        raise failed(said or "skopeo failed")


def _options(
    side: str, client: RegistryClient, reference: Reference, stack: ExitStack, passed: list[int]
) -> Iterator[str]:
    """Give the options of one side; a login is in a file without a name, which is inherited."""
    session = client.session(reference)
    if session.is_plain or client.options.insecure:
        yield f"--{side}-tls-verify=false"
    named = (os.environ.get(name) for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"))
    bundle = next(filter(None, (client.options.ca_bundle, *named)), None)
    own = client.certificates(session.host)
    if (bundle or own) and not session.is_plain:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mlmerge-")))
        if bundle:
            (directory / "authorities.crt").write_bytes(read_authorities(Path(bundle)))
        if own:
            own.link(directory)
        yield f"--{side}-cert-dir={directory}"
    if (login := client.login(reference)) is not None:
        file = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack closes it
        file.write(json.dumps({"auths": {session.host: login.entry}}).encode())
        file.flush()
        passed.append(file.fileno())
        yield f"--{side}-authfile=/dev/fd/{file.fileno()}"


def stream_blob(  # noqa: PLR0913 - the two sides, and two options
    source_client: RegistryClient,
    source: Reference,
    destination_client: RegistryClient,
    destination: Reference,
    *,
    size: int,
    watch: Watch,
) -> None:
    """Copy the blob of a digest; a few megabytes of it are in memory at a time.

    After a break all of it is sent again. Content of another digest or size never arrives whole,
    and an upload that is given up is cancelled.
    """
    options, shown = destination_client.options, 0

    def read() -> Generator[bytes, None, None]:
        nonlocal shown
        sent = 0
        for part in _read_ahead(source_client.read_blob(source, size)):
            if time.monotonic() > options.ends:  # without the grace that cleaning up has
                raise OutOfTime(str(destination), options.time_limit or 0.0)
            yield part
            sent += len(part)
            while shown < sent // PIECE:
                advance()
                shown += 1

    with watch(f"{destination.name} {source.digest[:19]}, MiB", -(-size // PIECE)) as advance:
        for attempt in count():
            upload = destination_client.begin_upload(destination)
            try:
                with ExitStack() as begun:  # a failed request may hold on to what it was sending
                    content = Stream(size, lambda: begun.enter_context(closing(read())))
                    destination_client.finish_upload(destination, upload, content)
            except BaseException as error:
                with STOP.finishing(cleans=True):
                    destination_client.cancel_upload(destination, upload)
                if attempt == options.retries.most or not isinstance(error, RegistryError):
                    raise
                is_ours = error.reference == str(destination)  # where an upload may expire
                if not may_heal(error) and not (is_ours and error.status in _EXPIRED):
                    raise
                wait = options.retries.wait(attempt, _headers_of(error))
                problem = error.message or f"HTTP {error.status}"
                LOG.info("%s: %s, sending it again in %.1f s", error.reference, problem, wait)
            else:
                return
            STOP.sleep(min(wait, max(0.0, options.ends - time.monotonic())))


def _read_ahead(parts: Iterator[bytes]) -> Iterator[bytes]:
    """Read and hash the next part in another thread, while this one is sent."""
    with ThreadPoolExecutor(1, thread_name_prefix="mlmerge") as pool:
        coming = pool.submit(next, parts, b"")
        while part := coming.result():
            coming = pool.submit(next, parts, b"")
            yield part


def _headers_of(error: BaseException) -> Mapping[str, str]:
    cause = error.__cause__
    response = cause.response if isinstance(cause, HTTPError) else None
    return {} if response is None else response.headers
