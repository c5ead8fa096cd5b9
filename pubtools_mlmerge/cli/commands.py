"""The commands: what each prepares, does and prints."""

from __future__ import annotations

import fcntl
import logging
import math
import os
import re
import stat
import sys
from argparse import Namespace
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from datetime import datetime, timezone
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import NoReturn, Union

from attrs import evolve, frozen

from pubtools_mlmerge.cli.options import (
    Login,
    annotations_of,
    connection_of,
    merge_settings_of,
    number,
    read_password,
    references_of,
    settings_of,
    split,
    writer_of,
)
from pubtools_mlmerge.concurrency import STOP, Stopped, Watch, map_in_order, unwatched
from pubtools_mlmerge.core.manifests import Image, Index, Manifest
from pubtools_mlmerge.core.plan import Age, AgeRule, Policy, Report
from pubtools_mlmerge.core.platforms import PlatformPattern
from pubtools_mlmerge.core.references import Address, Reference, one_name
from pubtools_mlmerge.core.strict_json import decode
from pubtools_mlmerge.errors import InvalidRecord
from pubtools_mlmerge.hooks import TagLocks
from pubtools_mlmerge.merging.api import Ordered, TagMerger, in_order, merge_tags
from pubtools_mlmerge.merging.audit import AuditDirectory, Change, read_change, warn_of_writers
from pubtools_mlmerge.merging.image_ages import Ages
from pubtools_mlmerge.merging.restore import restore
from pubtools_mlmerge.merging.step import remove_platforms
from pubtools_mlmerge.merging.writer import wrap
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.registry.referrers import ReferrerLists
from pubtools_mlmerge.reports.html import Failure, check_html, write_page
from pubtools_mlmerge.reports.inspection import (
    Inspection,
    compare,
    inspection_sheet,
    inspection_to_json,
)
from pubtools_mlmerge.reports.report import failure_to_json, summary_of, to_json
from pubtools_mlmerge.reports.terminal import Display, report_text, shown
from pubtools_mlmerge.settings import Settings

LOG = logging.getLogger("pubtools.mlmerge")

_MOST_THREADS = 100
_CHECK_THREADS = 8

_Result = Union[Report, str, bytes]  # what is no report is printed as it is
_Merge = tuple[str, Callable[[], Report]]  # with the name to show


class Run:
    """Runs jobs, each with a name, and shows their results in order, on a page as well if asked to.

    A None among the jobs is a barrier: all before it end before any after it begins.
    """

    def __init__(  # noqa: PLR0913 - independent options, each with a default
        self,
        arguments: Namespace,
        jobs: Iterable[tuple[str, Callable[[], _Result]] | None],
        *,
        total: int | None = 1,
        threads: int = 1,
        watch: Watch = unwatched,
        failed_key: str = "destination",
    ) -> None:
        if arguments.output == "raw" and not (arguments.dry_run and total == 1):
            raise ValueError("--output raw is for a dry run of one destination")
        self._arguments, self._jobs, self._failed_key = arguments, jobs, failed_key
        self._total, self._threads, self._watch = total, threads, watch
        self._fails_fast: bool = getattr(arguments, "fail_fast", False)
        html: str | None = getattr(arguments, "html", None)
        self._page = None if html is None else Path(html)
        if self._page is not None:
            check_html(self._page)
        self._on_page: list[Report | Failure] = []
        self._outcomes: dict[int, tuple[str, _Result | Exception]] = {}
        self._has_failed = False
        self._print_failure: OSError | None = None

    def __call__(self) -> bool:
        """Run all jobs, and return whether they succeeded."""
        complete = False
        numbered = (job and partial(self._do, n, *job) for n, job in enumerate(self._jobs))
        numbers = map_in_order(numbered, self._threads)
        try:
            with suppress(Stopped), self._watch("", self._total) as advance, closing(numbers):
                for number in numbers:
                    advance()
                    self._show(number)
                    if self._fails_fast and self._has_failed:
                        break
            for number in sorted(self._outcomes):  # finished beside one that hangs, or failed fast
                self._show(number)
            complete = STOP.signal is None
        finally:
            self._write_page(complete=complete)
        return not self._has_failed

    def _do(self, number: int, name: str, job: Callable[[], _Result]) -> int:
        if STOP.signal is not None or (self._fails_fast and self._has_failed):
            return number
        try:
            self._outcomes[number] = name, job()
        except Exception as error:  # noqa: BLE001 - the last line of defence of a program
            self._has_failed = True
            self._outcomes[number] = name, error
        except Stopped:
            self._outcomes[number] = (
                name,
                InterruptedError(f"{name}: interrupted before it was done"),
            )
        return number

    def _show(self, number: int) -> None:
        if number not in self._outcomes:
            return
        name, outcome = self._outcomes.pop(number)
        try:
            if isinstance(outcome, Exception):
                raise outcome  # noqa: TRY301 - a result that cannot be printed is a failure as well
            if isinstance(outcome, Report):
                self._show_report(outcome)
            else:
                with suppress(BrokenPipeError):  # the reader has seen enough
                    self._print(outcome)
        except Exception as error:
            self._has_failed = True
            message, tag = _message(error), re.sub(r"^line \d+(: )?", "", name)
            # A line of a batch names its tag as well.
            text = message if name in message or message.startswith(tag) else f"{name}: {message}"
            LOG.error("%s", text, exc_info=self._arguments.debug > 0)  # noqa: TRY400 - as asked for
            self._note(Failure(name, message))
            if self._arguments.output == "json" and not isinstance(error, _Reported):
                with suppress(OSError):
                    self._print(failure_to_json(error, {self._failed_key: tag or None}, message))

    def _show_report(self, report: Report) -> None:
        self._note(report)
        arguments = self._arguments
        try:
            if arguments.output == "raw" and report.manifest is not None:
                self._print(report.manifest.content)
            elif arguments.output == "json":
                self._print(to_json(report))
            elif not arguments.quiet:
                text = report_text(report, every=arguments.all, titled=self._total != 1)
                self._print(text)
        except BrokenPipeError:  # the reader has seen enough
            LOG.warning("%s; standard output is closed", summary_of(report))
        except Exception as error:
            LOG.error("%s; its report cannot be printed", summary_of(report))  # noqa: TRY400
            raise report.error or error from error
        if report.error is not None:
            raise _Reported(str(report.error)) from report.error

    def _print(self, text: str | bytes) -> None:
        """Print a text, escaping characters that the encoding lacks, or exact bytes.

        After a failed write, every later result fails to print as well.
        """
        if self._print_failure is not None:
            raise self._print_failure
        try:
            if isinstance(text, bytes):
                sys.stdout.buffer.write(text)
                sys.stdout.flush()
            elif text:
                encoding = sys.stdout.encoding or "utf-8"
                text = text.encode(encoding, "backslashreplace").decode(encoding)
                print(text, flush=True)  # noqa: T201 - the output of a program
        except OSError as error:
            self._print_failure = error
            # The rest of its buffer would fail when the program exits.
            if sys.__stdout__ is not None and sys.stdout is sys.__stdout__:
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())
            raise

    def _note(self, result: Report | Failure) -> None:
        if self._page is not None:
            self._on_page.append(result)

    def _write_page(self, *, complete: bool) -> None:
        if self._page is None:
            return
        try:
            now = datetime.now(timezone.utc)
            write_page(self._page, self._on_page, now, complete=complete)
        except Exception as error:  # noqa: BLE001 - it must not hide what became of the tags
            self._has_failed = True
            problem = getattr(error, "strerror", None) or _message(error)
            LOG.error("The page cannot be written: %s", problem)  # noqa: TRY400 - no defect


class _Reported(Exception):
    """What failed is in the report that was printed."""


def _message(error: Exception) -> str:
    return str(error) or type(error).__name__


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
        source = fields.get("source_ref")
        listed = source if isinstance(source, list) else [source]
        sources = _texts("source_ref", listed, "a text, or a list of texts")
        destination = fields.get("dest_ref")
        if not isinstance(destination, str):
            raise ValueError("dest_ref: expected a text")  # noqa: TRY004 - a wrong line
        archs = fields.get("archs")
        platforms = None if archs is None else _texts("archs", archs, "a list of texts")
        return cls(sources, destination, platforms)


def _texts(name: str, listed: object, expected: str) -> tuple[str, ...]:
    """Read a list of texts that is not empty."""
    if not isinstance(listed, list) or not listed or not all(isinstance(x, str) for x in listed):
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
        for place, line in enumerate(lines):
            if place == 0 and not _HEAD.startswith(line):
                problem = "not written by --resume, give a new file"
                raise ValueError(f"--resume: {self._path}: {problem}")
            found = _DONE.fullmatch(line)
            if found is not None:
                places = self._places.setdefault(bytes.fromhex(found[1].decode()), [])
                replaced = int(found[2])
                if replaced in places:
                    places[places.index(replaced)] = place
                else:
                    places.append(place)
        return line

    def close(self) -> None:
        """Log how many lines were done before, and close the file."""
        if self.count:
            LOG.info("%s: %d lines were done before", self._path, self.count)
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def begin(self, work: str, reads: Collection[str], writes: Collection[str]) -> str | None:
        """Return what to record once some work is done; none where it is done already.

        Lines of the batch begin in their order.
        """
        key = sha256(work.encode("utf-8", "surrogateescape")).digest()[:16]
        places = self._places.get(key, [0])
        place = places.pop(0)  # of the line that says that this is done; 0 where there is none
        if not places:
            self._places.pop(key, None)
        last = max(self._written.get(hash(tag), 0) for tag in (*reads, *writes, ""))
        if self._places:
            mine = place if place > last else math.inf
            self._written.update((hash(tag), mine) for tag in writes)
        if place > last:
            self.count += 1
            return None
        return f"{key.hex()} {place}"

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


def prepare_merge(arguments: Namespace) -> Callable[[], bool]:
    """Prepare the merge of sources into their destinations, or of a batch."""
    merges = _Merges(arguments)
    threads = number("--threads", arguments.threads, _MOST_THREADS) or 1
    if arguments.batch is None:
        if arguments.resume is not None:
            raise ValueError("--resume needs --batch")
        named_sources, named_tags = references_of(arguments)
        sources = [merges.logins[0].reference(text) for text in named_sources]
        tags = [merges.logins[1].tag(text) for text in named_tags]
        if merges.anchor is not None:
            for tag in tags:  # so that an invalid anchor tag is wrong usage
                merges.anchor.apply(tag, f"sha256:{'0' * 64}")
        ordered = (merges.of_tag(str(tag), sources, tag, merges.policy) for tag in tags)
        threads = min(threads, len(tags))
        watch = unwatched if len(tags) == 1 else merges.watch
        jobs = in_order(ordered, threads)
        return Run(arguments, jobs, total=len(tags), threads=threads, watch=watch)
    if arguments.references or arguments.source_ref or arguments.dest_ref or arguments.arch:
        raise ValueError("--batch: give sources, destinations and architectures in its lines")
    done = DoneLines.of(arguments.resume, dry_run=arguments.dry_run)
    lines = merges.of_lines(arguments.batch, open_batch(arguments.batch))
    jobs = in_order(_left(lines, done), threads)
    run = Run(arguments, jobs, total=None, threads=threads, watch=merges.watch)
    return partial(_resumed, run, done)


def _left(merges: Iterable[Ordered[_Merge]], done: DoneLines) -> Iterator[Ordered[_Merge]]:
    """Leave out what is done, and let the other merges record that they are."""
    for merge in merges:
        begun = done.begin(merge.work, merge.reads, merge.writes)
        if begun is not None:
            name, job = merge.job
            yield evolve(merge, job=(name, partial(_record, done, begun, job)))


def _record(done: DoneLines, begun: str, job: Callable[[], Report]) -> Report:
    report = job()
    if report.error is None:
        done.add(begun, str(report.destination))
    return report


def _resumed(run: Run, done: DoneLines) -> bool:
    with closing(done):
        return run() and done.is_whole


class _Merges:
    """The merges of one call of the program."""

    def __init__(self, arguments: Namespace) -> None:
        logins = self.logins = Login.of(arguments, "source"), Login.of(arguments, "dest")
        settings = merge_settings_of(arguments)
        self.policy, self.anchor = settings.policy, settings.anchor_tag
        self.watch = Display().counted
        options = connection_of(arguments)
        reader = logins[0].client(options)
        # One client for both sides needs one token and one pool of connections.
        client = reader if logins[0] == logins[1] else logins[1].client(options)
        self._merger = TagMerger(
            reader,
            client,
            writer_of(arguments, settings, client),
            TagLocks(settings.lock, settings.lock_aliases),
            copy=settings.copy,
            referrers=settings.referrers,
            threads=arguments.threads,
            watch=self.watch,
        )

    def of_tag(
        self, name: str, sources: Sequence[Reference], tag: Reference, policy: Policy
    ) -> Ordered[_Merge]:
        """Make a job that merges sources into a tag."""

        def merge() -> Report:
            (report,) = merge_tags(sources, tag, policy=policy, merger=self._merger)
            return report

        return self._merger.ordered((name, merge), sources, tag, policy)

    def of_lines(self, name: str, file: int) -> Iterator[Ordered[_Merge]]:
        """Make a job of each non-empty line of a batch; an invalid line becomes one that fails."""
        is_empty = True
        with os.fdopen(file, encoding="utf-8", errors="surrogateescape") as batch:
            for number, text in enumerate(batch, start=1):
                if text.strip():
                    is_empty = False
                    yield self._of_line(f"line {number}", text)
        if is_empty:
            LOG.warning("--batch: %s has no lines, so nothing is merged", name)

    def _of_line(self, place: str, text: str) -> Ordered[_Merge]:
        name = place
        try:
            line = BatchLine.parse(text)
            name = f"{place}: {line.destination}"
            sources = [self.logins[0].reference(text) for text in line.sources]
            tag = self.logins[1].tag(line.destination)
            return self.of_tag(name, sources, tag, evolve(self.policy, eligible=line.archs))
        except ValueError as error:
            return Ordered((name, partial(_refuse, place, error)))


def _refuse(name: str, error: ValueError) -> NoReturn:
    raise ValueError(f"{name}: {error}") from error


def prepare_remove_archs(arguments: Namespace) -> Callable[[], bool]:
    """Prepare the removal of architectures from tags."""
    login, settings = Login.of(arguments, "dest"), settings_of(arguments)
    client = login.client(connection_of(arguments))
    tags = [login.tag(text) for text in split("--ref", arguments.ref)]
    patterns = tuple(PlatformPattern.removed(text) for text in split("--arch", arguments.arch))
    annotations = annotations_of(arguments)
    if not patterns and not arguments.prune and not annotations:
        raise ValueError("--arch, --prune or --annotation is needed")
    writer = writer_of(arguments, evolve(settings, anchor_tag=None), client)
    locks = TagLocks(settings.lock, settings.lock_aliases)

    def remove(reference: Reference) -> Report:
        with locks.held(client, reference) as check:
            report = remove_platforms(
                writer,
                reference,
                patterns,
                allow_empty=arguments.allow_empty,
                prune=arguments.prune,
                strict=arguments.strict,
                annotations=annotations,
                check=check,
            )
        for name in report.missing:
            LOG.warning("%s has no %s", reference, name)
        return report

    return Run(arguments, [(str(tag), partial(remove, tag)) for tag in tags], total=len(tags))


def prepare_restore(arguments: Namespace) -> Callable[[], bool]:
    """Prepare to restore tags; every record is read before the first tag is written."""
    login, settings = Login.of(arguments, "dest"), Settings.for_commands(os.environ)
    client = login.client(connection_of(arguments))
    files = [Path(file) for file in arguments.records]
    warn_of_writers(*files, *(file.parent for file in files))
    changes = [_read_change(file, login) for file in arguments.records]
    changes.sort(key=lambda change: change.time, reverse=True)  # a tag goes back step by step
    if not arguments.yes and not _is_confirmed(login, [change.destination for change in changes]):
        LOG.error("Nothing is restored")
        return lambda: False
    recorder = AuditDirectory(settings.audit).record if settings.audit else None
    locks = TagLocks(settings.lock, settings.lock_aliases)

    how = partial(restore, client, force=arguments.force, dry_run=arguments.dry_run)
    would_hold = dict[str, Manifest]()  # after a dry run of newer records

    def restore_tag(change: Change) -> Report:
        name = locks.name(client, change.destination)
        with locks.held(client, change.destination) as check:
            report = how(change, recorder=recorder, check=check, held=would_hold.get(name))
        if report.dry_run and change.previous is not None:
            would_hold[name] = change.previous
        return report

    jobs = [(str(change.destination), partial(restore_tag, change)) for change in changes]
    return Run(arguments, jobs, total=len(jobs))


def _is_confirmed(login: Login, tags: Iterable[Reference]) -> bool:
    """Ask before a given login is sent to a host that only the record names."""
    host = Address.parse(login.host).host if login.host else ""
    here = one_name(f"{host}/")
    odd = ", ".join(str(tag) for tag in tags if tag.host and one_name(f"{tag.host}/") != here)
    if not login.password or not odd:
        return True
    facts = f"the login of {login.place} would be used for {odd}, as the record says, and "
    facts += f"--quay-host is {host or 'not given'}"
    if sys.stdin is None or not sys.stdin.isatty():
        raise ValueError(f"{facts}; there is no terminal to ask at: give --yes, or --quay-host")
    sys.stderr.write(f"{facts}.\nGo on? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _read_change(file: str, login: Login) -> Change:
    change = read_change(file)
    if not change.destination.host and not login.host:
        raise InvalidRecord(file, "its tag names no host; give --quay-host")
    return change


def prepare_inspect(arguments: Namespace) -> Callable[[], bool]:
    """Prepare to show an image, or how two of them compare."""
    login = Login.of(arguments, "source")
    client = login.client(connection_of(arguments))
    reference = login.reference(arguments.reference)
    other = None if arguments.other is None else login.reference(arguments.other)
    facts = arguments.ages or arguments.check or arguments.referrers
    incomplete: list[Inspection] = []

    def look() -> str | bytes:
        if arguments.raw:
            return client.pull(reference).content
        if other is not None:
            sides = (_listing(client, reference)[1], _listing(client, other)[1])
            compared = compare((str(reference), str(other)), sides, every=arguments.all)
            return "" if arguments.quiet else shown(compared)
        found = _inspect(arguments, client, reference)
        if found.lacks_something:
            LOG.error("%s lists manifests that the repository lacks", reference)
            incomplete.append(found)
        if arguments.output == "json":
            return inspection_to_json(found)
        return "" if arguments.quiet else shown(inspection_sheet(found))

    if arguments.raw and (other or facts):
        raise ValueError("--raw is for the bytes of one reference")
    if other and (facts or arguments.output == "json"):
        raise ValueError("--ages, --check, --referrers and --output json are for one reference")
    run = Run(arguments, [(str(reference), look)], failed_key="reference")
    return lambda: run() and not incomplete


def _inspect(arguments: Namespace, client: RegistryClient, reference: Reference) -> Inspection:
    held, index = _listing(client, reference)
    ages, missing, referrers = dict[str, Age](), None, None
    if arguments.ages:
        ages = Ages(client, AgeRule(shown=True)).read(reference, index.manifests)
    if arguments.check:
        missing = _missing(client, reference, index)
    if arguments.referrers:
        subjects = (held.digest, *(entry.digest for entry in index.manifests))
        referrers = tuple(ReferrerLists(client).of_all(reference, subjects))
    return Inspection(str(reference), index, ages, missing, referrers, held=held)


def _listing(client: RegistryClient, reference: Reference) -> tuple[Manifest, Index]:
    """Read a reference; return its manifest and an index, made for a single image if need be."""
    held = client.pull(reference)
    if isinstance(held, Image):
        return held, wrap(client, reference, held)
    index = client.read_nested(reference, held)
    return index, index


def _missing(client: RegistryClient, reference: Reference, index: Index) -> frozenset[str]:
    """Find out by HEAD requests which manifests are missing, attestations included."""
    digests = tuple(dict.fromkeys(entry.digest for entry in index.manifests))
    jobs = (partial(client.has_manifest, reference.at(digest)) for digest in digests)
    held = map_in_order(jobs, _CHECK_THREADS)
    return frozenset(digest for digest, is_there in zip(digests, held) if not is_there)


def prepare(command: str, arguments: Namespace) -> Callable[[], bool]:
    """Prepare a command; an error here is wrong usage."""
    read_password(arguments)
    return _COMMANDS[command](arguments)


_COMMANDS: dict[str, Callable[[Namespace], Callable[[], bool]]] = {
    "merge": prepare_merge,
    "remove-archs": prepare_remove_archs,
    "restore": prepare_restore,
    "inspect": prepare_inspect,
}
