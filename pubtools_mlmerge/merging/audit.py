"""Records of changes, kept before each is made."""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Protocol, TypeVar

from attrs import fields_dict, frozen

from pubtools_mlmerge.core.manifests import Manifest, digest_of, read_manifest
from pubtools_mlmerge.core.plan import Entry
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.core.strict_json import LARGEST, decode, encode
from pubtools_mlmerge.errors import DigestMismatch, InvalidRecord, MergeError, RecordFailed, brief
from pubtools_mlmerge.reports.report import entry_document, short

LOG = logging.getLogger("pubtools.mlmerge")

_FORMAT = 1
# Two manifests, each at most three times as long as JSON text, and the entries of both.
_LARGEST_RECORD = 16 * LARGEST
_HELD = frozenset({"digest", "media_type", "content"})
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_Value = TypeVar("_Value")
_LONGEST_PART = 80  # characters of a file name for the repository, and as many for the tag


@frozen(kw_only=True, eq=False)
class Change:
    """A change of a tag that is about to be made, or was."""

    time: datetime  # with its time zone
    source: Reference | None  # None in removals and restores
    destination: Reference
    source_digest: str | None
    previous: Manifest | None  # what the tag held before; None if it did not exist
    new: Manifest
    # These are recorded for people, and not read back.
    entries: tuple[Entry, ...] = ()
    missing: tuple[str, ...] = ()
    sources: tuple[Reference, ...] = ()

    @property
    def file_name(self) -> str:
        """A name that sorts by time, that people understand, and that no other record has."""
        time = self.time.astimezone(timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")
        middle = _readable(self.destination, self.new.digest)
        return f"{time}-{middle}-{secrets.token_hex(4)}.json"

    def to_document(self) -> dict[str, object]:
        """Return the change as a JSON document."""
        document: dict[str, object] = {
            "format": _FORMAT,
            "time": self.time.astimezone(timezone.utc).isoformat(timespec="microseconds"),
            "source": None if self.source is None else str(self.source),
            "destination": str(self.destination),
            "source_digest": self.source_digest,
            "previous": None if self.previous is None else _manifest_document(self.previous),
            "new": _manifest_document(self.new),
            "entries": [entry_document(entry) for entry in self.entries],
            "missing": list(self.missing),
            "sources": [str(source) for source in self.sources],
        }
        return {**document, "digest": digest_of(encode(document))}

    def to_json(self) -> bytes:
        """Return the content of a record."""
        return json.dumps(self.to_document(), indent=2).encode("ascii") + b"\n"


def _readable(destination: Reference, digest: str) -> str:
    names = (destination.repository, destination.tag)
    parts = (_UNSAFE.sub("-", name)[:_LONGEST_PART] for name in names)
    return "-".join((*parts, short(digest)))


def find_record(directory: str, destination: Reference, digest: str) -> Path | None:
    """Find the newest record of a change that gave a tag a digest."""
    # Other tags may have the same name in file names, such as those of another registry.
    for file in sorted(Path(directory).glob(f"*-{_readable(destination, digest)}-*"), reverse=True):
        with suppress(InvalidRecord):
            change = read_change(str(file))
            if (change.destination, change.new.digest) == (destination, digest):
                return file
    return None


def _manifest_document(manifest: Manifest) -> dict[str, object]:
    # Every manifest was decoded as UTF-8, so the text keeps the exact bytes.
    content = manifest.content.decode("utf-8")
    return {"digest": manifest.digest, "media_type": manifest.media_type, "content": content}


def read_change(file: str) -> Change:
    """Read a record, and make sure that it and its manifests are what their digests say."""
    try:
        return _read(_content(file))
    except OSError as error:
        raise InvalidRecord(file, error.strerror or str(error)) from error
    except (MergeError, ValueError) as error:
        raise InvalidRecord(file, str(error)) from error


def _content(file: str) -> bytes:
    # Without waiting for the other end of a pipe.
    with os.fdopen(os.open(file, os.O_RDONLY | os.O_NONBLOCK), "rb") as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise ValueError("is not a regular file")
        return stream.read(_LARGEST_RECORD + 1)


def _read(content: bytes) -> Change:
    fields = decode(content, _LARGEST_RECORD)
    if type(fields.get("format")) is not int or fields["format"] != _FORMAT:
        raise ValueError(f"format: expected {_FORMAT}")
    rest = {name: value for name, value in fields.items() if name != "digest"}
    if fields.get("digest") != digest_of(encode(rest)):
        raise ValueError("digest: does not match, the record was edited")
    _require_known(fields, {"format", "digest", *fields_dict(Change)})
    destination = Reference.parse(_get(fields, "destination", str))
    if not destination.tag or destination.digest:
        raise ValueError("destination: expected a tag")
    if "previous" not in fields:  # null would say that the tag did not exist
        raise ValueError("previous: expected an object or null")
    source = _optional(fields, "source")
    time = datetime.fromisoformat(_get(fields, "time", str))
    if time.tzinfo is None:
        raise ValueError("time: expected one with its zone")
    return Change(
        time=time,
        source=None if source is None else Reference.parse(source),
        destination=destination,
        source_digest=_optional(fields, "source_digest"),
        previous=None if fields["previous"] is None else _manifest(fields, "previous", destination),
        new=_manifest(fields, "new", destination),
    )


def _get(
    fields: Mapping[str, object], name: str, kind: type[_Value], expected: str = "text"
) -> _Value:
    value = fields.get(name)
    if not isinstance(value, kind):
        raise ValueError(f"{name}: expected {expected}")  # noqa: TRY004 - the file is wrong
    return value


def _optional(fields: Mapping[str, object], name: str) -> str | None:
    return None if fields.get(name) is None else _get(fields, name, str)


def _require_known(fields: Mapping[str, object], known: Iterable[str]) -> None:
    for name in sorted(fields.keys() - known):
        raise ValueError(f"{name}: is not a field of a record")


def _manifest(fields: Mapping[str, object], name: str, reference: Reference) -> Manifest:
    held = _get(fields, name, dict, "an object")
    _require_known(held, _HELD)
    content = _get(held, "content", str).encode("utf-8")
    manifest = read_manifest(reference, content, _get(held, "media_type", str))
    expected = _get(held, "digest", str)
    if manifest.digest != expected:
        raise DigestMismatch(name, expected, manifest.digest)
    return manifest


def warn_of_writers(*paths: Path) -> None:
    """Warn of files and directories that others may write to, as records may be forged there."""
    words = "%s: others may write to it, so look at what a record from there would restore"
    for path in dict.fromkeys(paths):
        with suppress(OSError):
            found = path.stat()
            shared = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            if shared or found.st_uid not in (0, os.geteuid()):
                LOG.warning(words, path)


Recorder = Callable[[Change], None]
"""Keeps a change that is about to be made, or raises RecordFailed."""


class AuditDirectory:
    """A directory with one file for each change, readable by its owner alone."""

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory)
        warn_of_writers(self._directory)

    def record(self, change: Change) -> None:
        """Write a file, whole or not at all."""
        path = self._directory / change.file_name
        try:
            with suppress(FileExistsError):  # if it is no directory, the next line says so
                self._directory.mkdir(mode=0o700, parents=True)
            _write(path, change.to_json())
        except OSError as error:
            problem = error.strerror or str(error)
            raise RecordFailed(str(change.destination), str(self._directory), problem) from error
        LOG.info("Recorded the change of %s in %s", change.destination, path)


def _write(path: Path, content: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")  # mode 0600
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # the name, too, outlasts a loss of power
    finally:
        os.close(directory)


def collect_change(change: Change) -> None:
    """Hand a record to the host's collector, see `collect`."""
    collect(change.file_name, change.to_json(), f"change of {change.destination}")


def collect(name: str, content: bytes, title: str, patience: float = 60) -> None:
    """Hand a file to the collector of the host, if there is one; a failure is a warning."""
    try:
        collector = _collector()
        if collector is not None:
            collector.attach_file(name, content).result(timeout=patience)
    except Exception as error:  # noqa: BLE001 - a collector may raise anything
        problem = brief(str(error)) or type(error).__name__
        LOG.warning("The %s is not collected: %s", title, problem)


class _Collector(Protocol):
    """What we use of pushcollector."""

    def attach_file(self, filename: str, content: bytes) -> Future[None]:
        """Keep a file."""


def _collector() -> _Collector | None:
    """Find the host's collector, without loading the library for it."""
    factory = getattr(sys.modules.get("pushcollector"), "Collector", None)
    if factory is None:
        return None
    collector: _Collector = factory.get()
    # Without a backend of the host the default is one of the library's own, which writes below the
    # current directory. Only the module of its class tells them apart.
    backend = getattr(collector, "_delegate", None)
    library = type(backend).__module__.partition(".")[0]
    return None if backend is None or library == "pushcollector" else collector


def task_records(directory: str | None) -> Recorder | None:
    """Return what keeps the changes in a task of the host, if anything does."""
    recorders: list[Recorder] = [AuditDirectory(directory).record] if directory else []
    if _collector() is not None:
        recorders.append(collect_change)

    def record(change: Change) -> None:
        for recorder in recorders:
            recorder(change)

    return record if recorders else None
