"""Batches: their lines, and the record of those that are done."""

from __future__ import annotations

import fcntl
import logging
import math
import os
import re
import stat
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256

from attrs import frozen

from pubtools_mlmerge.core.strict_json import decode

LOG = logging.getLogger("pubtools.mlmerge")

_LINE_KEYS = ("source_ref", "dest_ref", "archs")


@frozen
class BatchLine:
    """A line of a batch; without architectures, the sources are merged whole."""

    sources: tuple[str, ...]
    destination: str
    archs: tuple[str, ...] | None = None

    @classmethod
    def parse(cls, text: str) -> BatchLine:
        """Parse a line."""
        fields = decode(text.encode("utf-8", "surrogateescape"))
        unknown = sorted(fields.keys() - set(_LINE_KEYS))
        if unknown:
            raise ValueError(f"{unknown[0]}: unknown, expected one of {', '.join(_LINE_KEYS)}")
        sources = _texts(fields, "source_ref", [fields.get("source_ref")])
        destination = fields.get("dest_ref")
        if not isinstance(destination, str):
            raise ValueError("dest_ref: expected a text")  # noqa: TRY004 - a wrong line
        archs = None if fields.get("archs") is None else _texts(fields, "archs")
        return cls(sources, destination, archs)


def _texts(fields: Mapping[str, object], name: str, otherwise: object = None) -> tuple[str, ...]:
    """Read a list of texts that is not empty."""
    found = fields.get(name)
    listed = found if isinstance(found, list) else otherwise
    if not isinstance(listed, list) or not listed or not all(isinstance(x, str) for x in listed):
        expected = "a list of texts" if otherwise is None else "a text, or a list of texts"
        raise ValueError(f"{name}: expected {expected}")
    return tuple(listed)


def open_batch(name: str) -> int:
    """Open a file that a thread may still wait for when the program ends, unlike sys.stdin."""
    try:
        file = sys.stdin.fileno() if name == "-" else name
        with open(file, "rb", closefd=name != "-") as batch:
            return os.dup(batch.fileno())
    except OSError as error:
        raise ValueError(f"--batch: {name}: {error.strerror or error}") from error


_HEAD = b"pubtools-mlmerge: lines of a batch that are done\n"
_DONE = re.compile(rb"([0-9a-f]{32}) ([0-9]+) [^ ]*")


class DoneLines:
    """A file with a line for each line of a batch that is done, added when it is.

    It has a hash of what was done, the number of the line that it replaces (0 for none), and the
    tag. So lines of the batch may be added, removed and moved. If one depends on another that was
    done later, it is done again. The last line may be cut off.
    """

    def __init__(self, path: str, file: int | None = None) -> None:
        self.count, self.is_whole = 0, True
        self._path, self._file = path, file
        # Numbers of lines: by the hash, and of the last one before that writes a tag.
        self._places: dict[bytes, list[int]] = {}
        self._written: dict[int, float] = {}

    @classmethod
    def of(cls, path: str | None, *, dry_run: bool) -> DoneLines:
        """Open the file, if any, for no other process meanwhile; a dry run only reads it."""
        if path is None or (dry_run and not os.path.exists(path)):  # noqa: PTH110 - it makes no file
            return cls(path or "")
        flags = os.O_RDONLY if dry_run else os.O_RDWR | os.O_CREAT | os.O_APPEND
        try:
            file = os.open(path, flags | os.O_NONBLOCK, 0o666)
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise ValueError(f"--resume: {path}: expected a file")
            if not dry_run:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            done = cls(path, None if dry_run else file)
            with open(file, "rb", closefd=dry_run) as lines:
                last = done._read(lines)
            if not dry_run and not last.endswith(b"\n"):
                os.write(file, _HEAD[len(last) :] if _HEAD.startswith(last) else b"\n")
        except BlockingIOError as error:
            raise ValueError(f"--resume: {path}: another process uses it") from error
        except OSError as error:
            raise ValueError(f"--resume: {path}: {error.strerror or error}") from error
        return done

    def _read(self, lines: Iterable[bytes]) -> bytes:
        """Read the file, and return its last line, which may be cut off."""
        line = b""
        for number, line in enumerate(lines):
            if number == 0 and not _HEAD.startswith(line):
                problem = "not written by --resume, give a new file"
                raise ValueError(f"--resume: {self._path}: {problem}")
            found = _DONE.fullmatch(line)
            if found is not None:
                places = self._places.setdefault(bytes.fromhex(found[1].decode()), [])
                replaced = int(found[2])
                if replaced in places:
                    places[places.index(replaced)] = number
                else:
                    places.append(number)
        return line

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the file until the end of the run."""
        try:
            yield
        finally:
            if self.count:
                LOG.info("%s: %d lines were done before", self._path, self.count)
            file, self._file = self._file, None
            if file is not None:
                os.close(file)

    def begin(self, work: str, reads: Collection[str], writes: Collection[str]) -> str | None:
        """Return what to record once some work is done; none where it is done already.

        Lines of the batch begin in their order.
        """
        name = sha256(work.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        place = self._place(bytes.fromhex(name))
        last = max(self._written.get(hash(tag), 0) for tag in (*reads, *writes, ""))
        if self._places:
            mine = place if place > last else math.inf
            self._written.update((hash(tag), mine) for tag in writes)
        if place > last:
            self.count += 1
            return None
        return f"{name} {place}"

    def _place(self, key: bytes) -> int:
        """Take the number of the line that says that this is done; 0 where there is none."""
        places = self._places.get(key, [0])
        place = places.pop(0)
        if not places:
            self._places.pop(key, None)
        return place

    def add(self, begun: str, tag: str) -> None:
        """Record what is done."""
        file, text = self._file, f"{begun} {tag}\n".encode()
        try:
            while file is not None and text:
                text = text[os.write(file, text) :]
        except OSError as error:
            if self.is_whole:
                LOG.error("--resume: %s: %s", self._path, error.strerror)  # noqa: TRY400 - no defect
            self.is_whole = False
