"""Audit: a change of a tag is recorded before it is made."""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import sys
import tempfile
from concurrent.futures import Future
from contextlib import suppress
from datetime import timezone
from pathlib import Path
from typing import Protocol

from pubtools_mlmerge.changes import Change, to_document
from pubtools_mlmerge.errors import RecordFailed, brief
from pubtools_mlmerge.reports.report import short

LOG = logging.getLogger("pubtools.mlmerge")

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST_PART = 80  # characters of a file name for the repository, and as many for the tag


class AuditDirectory:
    """A directory with one file for each change, for the eyes of its owner.

    Args:
        directory (str):
            The directory; it is made when it is needed.
    """

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory)

    def record(self, change: Change) -> None:
        """Write a file, whole or not at all, see `Recorder.record`."""
        path = self._directory / _file_name(change)
        try:
            with suppress(FileExistsError):  # if it is no directory, the next line says so
                self._directory.mkdir(mode=0o700, parents=True)
            _write(path, _encode(change))
        except OSError as error:
            problem = error.strerror or str(error)
            raise RecordFailed(str(self._directory), problem) from error
        LOG.info("Recorded the change of %s in %s", change.destination, path)


class Collected:
    """The collector that the host set up for the files of its tasks, if it did.

    Args:
        patience (float):
            For how many seconds it is awaited.
    """

    def __init__(self, patience: float = 60) -> None:
        self._patience = patience

    @staticmethod
    def is_set_up() -> bool:
        """Tell whether the host did.

        Returns:
            bool: False where a record would reach nobody.
        """
        return _collector() is not None

    def record(self, change: Change) -> None:
        """Hand over a file; if that fails, the host lacks a file and its task goes on."""
        self.attach(_file_name(change), _encode(change), f"change of {change.destination}")

    def attach(self, name: str, content: bytes, title: str) -> None:
        """Hand over a file; if that fails, the host lacks it and a warning says so.

        Args:
            name (str):
                Its name.
            content (bytes):
                What is in it.
            title (str):
                What that is.
        """
        try:
            collector = _collector()
            if collector is not None:
                collector.attach_file(name, content).result(timeout=self._patience)
        except Exception as error:  # noqa: BLE001 - a collector may raise anything
            problem = brief(str(error)) or type(error).__name__
            LOG.warning("The %s is not collected: %s", title, problem)


def _encode(change: Change) -> bytes:
    return json.dumps(to_document(change), indent=2).encode("ascii") + b"\n"


def _file_name(change: Change) -> str:
    """Make a name that sorts by time, that people understand, and that no other record has."""
    time = change.time.astimezone(timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")
    names = (change.destination.repository, change.destination.tag)
    readable = (_UNSAFE.sub("-", name)[:_LONGEST_PART] for name in names)
    return "-".join((time, *readable, short(change.new.digest), secrets.token_hex(4))) + ".json"


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
    _sync(path.parent)


def _sync(directory: Path) -> None:
    """Make the names in a directory outlast a loss of power."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class _Collector(Protocol):
    """What we use of pushcollector."""

    def attach_file(self, filename: str, content: bytes) -> Future[None]:
        """Keep a file."""


def _collector() -> _Collector | None:
    """Find the host's collector, without loading the library for it.

    A host registers a backend of its own and makes it the default. Where it did not, the default
    is one of the library's own backends, made for trying out: it writes below the current
    directory, wherever that is. Nothing public tells them apart; the object behind the collector
    does, by the module that its class comes from.
    """
    factory = getattr(sys.modules.get("pushcollector"), "Collector", None)
    if factory is None:
        return None
    collector: _Collector = factory.get()
    backend = getattr(collector, "_delegate", None)
    library = type(backend).__module__.partition(".")[0]
    return None if backend is None or library == "pushcollector" else collector
