"""Bring images into a repository: mounted within a registry, copied by skopeo between two."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Literal

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
from pubtools_mlmerge.registry.base import NESTED_LEVELS
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.registry.refusals import proxy_secrets, read_authorities, redact

LOG = logging.getLogger("pubtools.mlmerge")

Copy = Literal["auto", "skopeo", "never"]

_PRIVATE = 0o600
_THREADS = 8  # requests for manifests at a time, and for blobs
_COPIES = 4  # programs at a time
_REMEMBERED = 10_000  # manifests that are there, and blobs


class Children:
    """Brings manifests from one repository into another one; safe from several threads.

    Each manifest and blob is checked and brought once, however many callers need it.
    """

    def __init__(
        self,
        source: RegistryClient,
        destination: RegistryClient,
        copy: Copy = "auto",
        copy_one: Callable[[Reference, Reference], None] | None = None,
        watch: Watch = unwatched,
    ) -> None:
        self._source = source
        self._destination = destination
        self._copy = copy
        self._copy_one = copy_one or self._use_skopeo
        self._watch = watch
        # Two pools, as threads of the first wait for those of the second.
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="mlmerge")
        self._blob_threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="mlmerge")
        self._manifests: Memo[Reference, bool] = Memo(_REMEMBERED)
        self._blobs: Memo[Reference, bool] = Memo(_REMEMBERED)
        self._nested: set[Reference] = set()
        self._writable: Memo[str, bool] = Memo(_REMEMBERED)
        self._copying = threading.BoundedSemaphore(_COPIES)

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown()
        self._blob_threads.shutdown()

    def ensure(self, source: Reference, destination: Reference, digests: Iterable[str]) -> None:
        """Make sure that manifests are in the destination repository."""
        digests = tuple(dict.fromkeys(digests))
        hosts = {self._source.session(source).host, self._destination.session(destination).host}
        is_one_registry = len(hosts) == 1
        if is_one_registry and source.repository == destination.repository:
            return
        may_mount = is_one_registry and self._copy == "auto"

        def provide(digest: str) -> bool:
            place = destination.at(digest)
            if not self._destination.has_manifest(place):
                if self._copy == "never":
                    return False
                is_read = may_mount or len(digests) > 1
                manifest = self._read(source.at(digest)) if is_read else None
                # A registry may refuse what names a subject that it lacks.
                subject = None if manifest is None else subject_of(manifest)
                if subject in digests and subject != digest:
                    ensure_one(subject)
                self._bring(manifest if may_mount else None, source.at(digest), place)
            advance()
            return True

        def ensure_one(digest: str) -> bool:
            return self._manifests.get(destination.at(digest), partial(provide, digest))

        with self._watch(f"images for {destination}", len(digests)) as advance:
            is_there = run_all(self._threads, [partial(ensure_one, digest) for digest in digests])
        if not all(is_there):
            lacking = tuple(digest for digest, there in zip(digests, is_there) if not there)
            raise MissingChild(str(destination), None, "copying is ruled out", lacking)

    def _read(self, source: Reference) -> Manifest | None:
        try:
            return self._source.pull(source)
        except NotAnIndex:  # nor an image: its blobs are not known here
            return None

    def _bring(self, manifest: Manifest | None, source: Reference, destination: Reference) -> None:
        """Mount a manifest, if there is one; else, or where that is refused, copy it."""
        with span("child", source=str(source), destination=str(destination)) as current:
            if manifest is not None and self._mount(manifest, source, destination):
                current.note(by="mount")
                return
            current.note(by="copy")
            # Without the right to write a copy would fail as well, in the words of a program.
            self._writable.get(destination.name, partial(self._require_push, destination))
            with self._copying:
                self._copy_one(source, destination)
        _log_brought(source, destination, "copy")

    def _use_skopeo(self, source: Reference, destination: Reference) -> None:
        copy(self._source, source, self._destination, destination)

    def _mount(
        self, manifest: Manifest, source: Reference, destination: Reference, depth: int = 0
    ) -> bool:
        """Mount blobs and write the manifest; false as soon as the registry refuses."""
        if isinstance(manifest, Image):
            mount = partial(self._mount_blob, destination, source.repository)
            jobs = [
                partial(self._blobs.get, destination.at(blob), partial(mount, blob))
                for blob in dict.fromkeys(manifest.blobs)
            ]
            is_whole = all(run_all(self._blob_threads, jobs))
        else:
            is_whole = self._mount_listed(manifest, source, destination, depth + 1)
        if is_whole:
            self._destination.push(destination, manifest)
            _log_brought(source, destination, "mount")
        return is_whole

    def _mount_listed(
        self, index: Index, source: Reference, destination: Reference, depth: int
    ) -> bool:
        """Mount all that an index lists, in turn.

        An index may list others, and these the same ones again and again: each is read once, and
        not beyond some depth, or a few kilobytes would keep us busy for ever.
        """
        if depth > NESTED_LEVELS:
            problem = f"at most {NESTED_LEVELS} levels of nested indexes are copied"
            raise InvalidIndex("manifests", problem, str(source))
        listed = dict.fromkeys(entry.digest for entry in index.manifests)

        def mount(digest: str) -> bool:
            place = destination.at(digest)
            if place in self._nested:
                return True
            manifest = self._read(source.at(digest))
            if manifest is None:
                return False
            subject = subject_of(manifest)
            if subject in listed and subject != digest and not mount(subject):
                return False
            is_there = self._mount(manifest, source.at(digest), place, depth)
            if is_there:
                self._nested.add(place)
            return is_there

        return all(map(mount, listed))

    def _mount_blob(self, destination: Reference, repository: str, blob: str) -> bool:
        try:
            return self._destination.mount_blob(destination, blob, repository)
        except RegistryError as error:
            LOG.debug("Cannot mount %s: %s", blob, error)
            return False

    def _require_push(self, destination: Reference) -> bool:
        try:
            self._destination.require_push(destination)
        except (Unauthorized, Forbidden):
            raise
        except RegistryError as error:
            LOG.debug("Cannot tell whether %s may be written: %s", destination.name, error)
        return True


def _log_brought(source: Reference, destination: Reference, by: Literal["mount", "copy"]) -> None:
    """Log that a manifest was written, with all that it needs."""
    names = {"source": str(source), "destination": str(destination)}
    event = {"type": "mlmerge-child", **names, "by": by}
    LOG.info("Brought %s to %s by %s", source, destination.name, by, extra={"event": event})


def copy(
    source_client: RegistryClient,
    source: Reference,
    destination_client: RegistryClient,
    destination: Reference,
) -> None:
    """Copy one manifest, all that it lists and all its blobs, under the same digest, by skopeo."""
    limits = destination_client.options
    with tempfile.TemporaryDirectory(prefix="mlmerge-") as directory:
        command = [
            *("skopeo", "copy", "--quiet", "--all", "--preserve-digests"),
            *_options("src", source_client, source, Path(directory)),
            *_options("dest", destination_client, destination, Path(directory)),
            _address(source_client, source),
            _address(destination_client, destination),
        ]
        try:
            with subprocess.Popen(  # noqa: S603 - every argument fits a grammar that we check
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            ) as program:
                said = STOP.errors_of(program, limits.ends)
        except subprocess.TimeoutExpired:
            raise OutOfTime(str(destination), limits.time_limit or 0.0) from None
        except OSError as error:
            problem = "skopeo is not installed, and the registry does not mount"
            raise CopyFailed(str(source), str(destination), problem) from error
    if program.returncode:
        # It repeats what registries say, and they may repeat what it sent.
        known = [*source_client.secrets(), *destination_client.secrets(), *proxy_secrets()]
        problem = redact(said.strip(), known) or "skopeo failed"
        raise CopyFailed(str(source), str(destination), problem)


def _address(client: RegistryClient, reference: Reference) -> str:
    return f"docker://{client.place(reference).name}@{reference.digest}"


def _options(
    side: str, client: RegistryClient, reference: Reference, directory: Path
) -> Iterator[str]:
    """Give the options of one side; secrets go into a file that only this user may read."""
    session = client.session(reference)
    if session.is_plain or client.options.insecure:
        yield f"--{side}-tls-verify=false"
    named = (os.environ.get(name) for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"))
    bundle = next(filter(None, (client.options.ca_bundle, *named)), None)
    own = client.certificates(session.host)
    if (bundle or own) and not session.is_plain:
        certificates = directory / f"{side}-certificates"
        certificates.mkdir()
        if bundle:
            (certificates / "authorities.crt").write_bytes(read_authorities(Path(bundle)))
        if own:
            own.link(certificates)
        yield f"--{side}-cert-dir={certificates}"
    if (login := client.login(reference)) is not None:
        path = directory / f"{side}-auth.json"
        path.touch(mode=_PRIVATE)
        path.write_text(json.dumps({"auths": {session.host: login.entry}}), encoding="utf-8")
        yield f"--{side}-authfile={path}"
