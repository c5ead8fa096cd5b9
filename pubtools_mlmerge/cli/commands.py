"""The commands: what each prepares, does and prints."""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import NoReturn, TypeVar

from attrs import evolve, field, frozen

from pubtools_mlmerge.cli.batch import BatchLine, DoneLines, open_batch
from pubtools_mlmerge.cli.options import (
    Login,
    anchor_tag_of,
    annotations_of,
    connection_of,
    locks_of,
    number,
    policy_of,
    read_password,
    references_of,
    split,
    writer_of,
)
from pubtools_mlmerge.concurrency import STOP, Stopped, Watch, map_in_order, unwatched
from pubtools_mlmerge.core.manifests import Image, Index, Manifest
from pubtools_mlmerge.core.plan import AgeRule, Policy, Report
from pubtools_mlmerge.core.platforms import PlatformPattern
from pubtools_mlmerge.core.references import Address, Reference, one_name
from pubtools_mlmerge.errors import InvalidRecord
from pubtools_mlmerge.merging.api import Ordered, TagMerger, in_order, merge_tags
from pubtools_mlmerge.merging.audit import AuditDirectory, Change, read_change, warn_of_writers
from pubtools_mlmerge.merging.image_ages import Ages
from pubtools_mlmerge.merging.restore import restore
from pubtools_mlmerge.merging.step import remove_platforms, wrap
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.registry.referrers import ReferrerLists
from pubtools_mlmerge.reports.html import Failure, check_html, write_page
from pubtools_mlmerge.reports.inspection import (
    Inspection,
    compare,
    inspect,
    inspection_sheet,
    inspection_to_json,
)
from pubtools_mlmerge.reports.report import Sheet, failure_to_json, summary_of, to_json
from pubtools_mlmerge.reports.terminal import Display, report_text, shown
from pubtools_mlmerge.settings import Settings

LOG = logging.getLogger("pubtools.mlmerge")

_MOST_THREADS = 100
_CHECK_THREADS = 8

Item = TypeVar("Item")


class Page:
    """Collects what goes into the HTML page of a run, if there is to be one."""

    def __init__(self, path: str | None = None) -> None:
        self._path = None if path is None else Path(path)
        self._results: list[Report | Failure] = []
        if self._path is not None:
            check_html(self._path)

    def note(self, result: Report | Failure) -> None:
        """Keep a result for the page."""
        if self._path is not None:
            self._results.append(result)

    def write(self, *, complete: bool) -> bool:
        """Write the page, and return whether that succeeded."""
        if self._path is None:
            return True
        try:
            now = datetime.now(timezone.utc)
            write_page(self._path, self._results, now, complete=complete)
        except Exception as error:  # noqa: BLE001 - it must not hide what became of the tags
            problem = error.strerror if isinstance(error, OSError) else None
            LOG.error("The page cannot be written: %s", problem or _message(error))  # noqa: TRY400 - no defect
            return False
        return True


def _message(error: Exception) -> str:
    return str(error) or type(error).__name__


class _Output:
    """Standard output; after a failed write, every later result fails to print as well."""

    def __init__(self) -> None:
        self._failure: OSError | None = None

    def print(self, text: str | bytes) -> None:
        """Print a text, escaping characters that the encoding lacks, or exact bytes."""
        if self._failure is not None:
            raise self._failure
        try:
            if isinstance(text, bytes):
                sys.stdout.buffer.write(text)
                sys.stdout.flush()
            else:
                encoding = sys.stdout.encoding or "utf-8"
                text = text.encode(encoding, "backslashreplace").decode(encoding)
                print(text, flush=True)  # noqa: T201 - the output of a program
        except OSError as error:
            self._failure = error
            # The rest of its buffer would fail when the program exits.
            if sys.__stdout__ is not None and sys.stdout is sys.__stdout__:
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())
            raise


_Job = tuple[str, Callable[[], Report]]  # with the name to show
_Ordered = Ordered[_Job]


@frozen(kw_only=True)
class RunOptions:
    """How jobs are run and shown; the total is None if unknown."""

    debug: bool
    page: Page = field(factory=Page)
    threads: int = 1
    fail_fast: bool = False
    total: int | None = 1
    watch: Watch = unwatched
    output: _Output = field(factory=_Output)
    failed_key: str | None = None
    """What a failure is a JSON object about; none where it is not."""

    @classmethod
    def of(cls, arguments: Namespace, *, failed_key: str = "destination") -> RunOptions:
        """Read the options that all commands have."""
        return cls(
            debug=arguments.debug > 0,
            page=Page(getattr(arguments, "html", None)),
            failed_key=failed_key if arguments.output == "json" else None,
        )


def run_jobs(
    jobs: Iterable[tuple[str, Callable[[], Item]] | None],
    show: Callable[[Item], None],
    options: RunOptions,
) -> bool:
    """Run jobs, each with a name, and show their results in order; return whether all succeeded.

    A None among the jobs is a barrier: all before it end before any after it begins.
    """
    failed, complete = threading.Event(), False
    outcomes: dict[int, tuple[str, Item | Exception]] = {}

    def attempt(number: int, name: str, job: Callable[[], Item]) -> int:
        if STOP.signal is None and not (options.fail_fast and failed.is_set()):
            outcomes[number] = name, _outcome(name, job, failed)
        return number

    def show_of(number: int) -> None:
        if number in outcomes and not _show(show, *outcomes.pop(number), options):
            failed.set()

    numbered = (job and partial(attempt, number, *job) for number, job in enumerate(jobs))
    numbers = map_in_order(numbered, options.threads)
    try:
        with suppress(Stopped), options.watch("", options.total) as advance, closing(numbers):
            for number in numbers:
                advance()
                show_of(number)
                if options.fail_fast and failed.is_set():
                    break
        for number in sorted(outcomes):  # finished beside one that hangs, or failed fast
            show_of(number)
        complete = STOP.signal is None
    finally:
        if not options.page.write(complete=complete):
            failed.set()
    return not failed.is_set()


def _outcome(name: str, job: Callable[[], Item], failed: threading.Event) -> Item | Exception:
    try:
        return job()
    except Exception as error:  # noqa: BLE001 - the last line of defence of a program
        failed.set()
        return error
    except Stopped:
        return InterruptedError(f"{name}: interrupted before it was done")


def _show(
    show: Callable[[Item], None], name: str, outcome: Item | Exception, options: RunOptions
) -> bool:
    tag = re.sub(r"^line \d+(: )?", "", name)
    try:
        if isinstance(outcome, Exception):
            raise outcome  # noqa: TRY301 - a result that cannot be printed is a failure as well
        show(outcome)
    except Exception as error:
        message = _message(error)
        # A line of a batch names its tag as well.
        text = message if name in message or message.startswith(tag) else f"{name}: {message}"
        LOG.error("%s", text, exc_info=options.debug)  # noqa: TRY400 - as asked for
        options.page.note(Failure(name, message))
        if options.failed_key is not None and not isinstance(error, _Reported):
            with suppress(OSError):
                text = failure_to_json(error, {options.failed_key: tag or None}, message)
                options.output.print(text)
        return False
    return True


class _Reported(Exception):
    """What failed is in the report that was printed."""


def _printer(render: Callable[[Item], str | bytes | None]) -> Callable[[Item], None]:
    output = _Output()

    def show(item: Item) -> None:
        text = render(item)
        if text is not None:
            with suppress(BrokenPipeError):  # the reader has seen enough
                output.print(text)

    return show


def _renderer(
    arguments: Namespace, to_text: Callable[[Item], str], to_json: Callable[[Item], str]
) -> Callable[[Item], str | bytes | None]:
    """Choose the output format."""
    if arguments.output == "json":
        return to_json
    return (lambda _: None) if arguments.quiet else to_text


def _changes(
    arguments: Namespace, jobs: Iterable[_Job | None], options: RunOptions
) -> Callable[[], bool]:
    """Prepare to run jobs that change tags, with their reports printed and on the page."""
    if arguments.output == "raw" and not (arguments.dry_run and options.total == 1):
        raise ValueError("--output raw is for a dry run of one destination")
    to_text = partial(report_text, every=arguments.all, titled=options.total != 1)
    render = _renderer(arguments, to_text, to_json)
    output = options.output

    def show(report: Report) -> None:
        options.page.note(report)
        is_raw = arguments.output == "raw" and report.manifest is not None
        try:
            text = report.manifest.content if is_raw and report.manifest else render(report)
            if text is not None:
                output.print(text)
        except BrokenPipeError:  # the reader has seen enough
            LOG.warning("%s; standard output is closed", summary_of(report))
        except Exception as error:
            LOG.error("%s; its report cannot be printed", summary_of(report))  # noqa: TRY400
            raise report.error or error from error
        if report.error is not None:
            raise _Reported(str(report.error)) from report.error

    return partial(run_jobs, jobs, show, options)


def prepare_merge(arguments: Namespace) -> Callable[[], bool]:
    """Prepare the merge of sources into their destinations, or of a batch."""
    logins = Login.of(arguments, "source"), Login.of(arguments, "dest")
    settings = Settings.for_commands(os.environ)
    policy = policy_of(arguments, settings.policy)
    threads = number("--threads", arguments.threads, _MOST_THREADS) or 1
    options = evolve(RunOptions.of(arguments), threads=threads, fail_fast=arguments.fail_fast)
    if arguments.batch is not None:
        named = arguments.references or arguments.source_ref or arguments.dest_ref
        if named or arguments.arch:
            raise ValueError("--batch: give sources, destinations and architectures in its lines")
        merges = _Merges(arguments, settings, policy, logins)
        done = DoneLines.of(arguments.resume, dry_run=arguments.dry_run)
        jobs = merges.of_batch(arguments.batch, open_batch(arguments.batch), done)
        options = evolve(options, total=None, watch=merges.display.counted)
    else:
        if arguments.resume is not None:
            raise ValueError("--resume needs --batch")
        done = None
        named_sources, named_tags = references_of(arguments)
        sources = [logins[0].reference(text) for text in named_sources]
        tags = [logins[1].tag(text) for text in named_tags]
        merges = _Merges(arguments, settings, policy, logins, tags)
        jobs = merges.of_tags(sources, tags)
        watch = unwatched if len(tags) == 1 else merges.display.counted
        options = evolve(options, threads=min(threads, len(tags)), total=len(tags), watch=watch)
    run = _changes(arguments, jobs, options)
    return run if done is None else partial(_resumed, run, done)


def _resumed(run: Callable[[], bool], done: DoneLines) -> bool:
    with done.held():
        return run() and done.is_whole


class _Merges:
    """The merges of one call of the program."""

    def __init__(
        self,
        arguments: Namespace,
        settings: Settings,
        policy: Policy,
        logins: tuple[Login, Login],
        tags: Iterable[Reference] = (),
    ) -> None:
        self.display = Display()
        self._logins, self._policy, self._threads = logins, policy, arguments.threads
        locks, anchor = locks_of(arguments, settings), anchor_tag_of(arguments, settings, tags)
        options = connection_of(arguments)
        reader = logins[0].client(options)
        # One client for both sides needs one token and one pool of connections.
        client = reader if logins[0] == logins[1] else logins[1].client(options)
        self._merger = TagMerger(
            reader,
            client,
            writer_of(arguments, settings, client, policy, anchor),
            locks,
            copy=arguments.copy or settings.copy,
            referrers=arguments.referrers or settings.referrers,
            threads=arguments.threads,
            watch=self.display.counted,
        )

    def of_tags(
        self, sources: Sequence[Reference], tags: Iterable[Reference]
    ) -> Iterator[_Job | None]:
        """Make a job of each destination."""
        jobs = (self._job(str(tag), sources, tag, self._policy) for tag in tags)
        return in_order(jobs, self._threads)

    def of_batch(self, name: str, file: int, done: DoneLines | None) -> Iterator[_Job | None]:
        """Make a job of each non-empty line; an invalid line becomes a job that fails."""
        jobs = self._of_lines(name, file)
        return in_order(jobs if done is None else _left(jobs, done), self._threads)

    def _of_lines(self, name: str, file: int) -> Iterator[_Ordered]:
        is_empty = True
        try:
            with os.fdopen(
                file, encoding="utf-8", errors="surrogateescape", closefd=False
            ) as batch:
                for number, text in enumerate(batch, start=1):
                    if text.strip():
                        is_empty = False
                        yield self._of_line(f"line {number}", text)
        finally:
            os.close(file)
        if is_empty:
            LOG.warning("--batch: %s has no lines, so nothing is merged", name)

    def _of_line(self, place: str, text: str) -> _Ordered:
        name = place
        try:
            line = BatchLine.parse(text)
            name = f"{place}: {line.destination}"
            sources = [self._logins[0].reference(text) for text in line.sources]
            tag = self._logins[1].tag(line.destination)
            return self._job(name, sources, tag, evolve(self._policy, eligible=line.archs))
        except ValueError as error:
            return Ordered((name, partial(_refuse, place, error)))

    def _job(
        self, name: str, sources: Sequence[Reference], tag: Reference, policy: Policy
    ) -> _Ordered:
        job = name, partial(self.merge, sources, tag, policy)
        return self._merger.ordered(job, sources, tag, policy)

    def merge(self, sources: Sequence[Reference], tag: Reference, policy: Policy) -> Report:
        """Merge sources into one tag."""
        (report,) = merge_tags(sources, tag, policy=policy, merger=self._merger)
        return report


def _left(jobs: Iterable[_Ordered], done: DoneLines) -> Iterator[_Ordered]:
    """Leave out what is done, and let the other jobs record that they are."""
    for job in jobs:
        begun = done.begin(job.work, job.reads, job.writes)
        if begun is not None:
            yield evolve(job, job=(job.job[0], partial(_record, done, begun, job.job[1])))


def _record(done: DoneLines, begun: str, job: Callable[[], Report]) -> Report:
    report = job()
    if report.error is None:
        done.add(begun, str(report.destination))
    return report


def _refuse(name: str, error: ValueError) -> NoReturn:
    raise ValueError(f"{name}: {error}") from error


def prepare_remove_archs(arguments: Namespace) -> Callable[[], bool]:
    """Prepare the removal of architectures from tags."""
    login, settings = Login.of(arguments, "dest"), Settings.for_commands(os.environ)
    client = login.client(connection_of(arguments))
    tags = [login.tag(text) for text in split("--ref", arguments.ref)]
    options = evolve(RunOptions.of(arguments), total=len(tags))
    patterns = tuple(PlatformPattern.removed(text) for text in split("--arch", arguments.arch))
    annotations = annotations_of(arguments)
    if not patterns and not arguments.prune and not annotations:
        raise ValueError("--arch, --prune or --annotation is needed")
    writer = writer_of(arguments, settings, client)
    locks = locks_of(arguments, settings)

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

    return _changes(arguments, [(str(tag), partial(remove, tag)) for tag in tags], options)


def prepare_restore(arguments: Namespace) -> Callable[[], bool]:
    """Prepare to restore tags; every record is read before the first tag is written."""
    login, settings = Login.of(arguments, "dest"), Settings.for_commands(os.environ)
    options = evolve(RunOptions.of(arguments), total=len(arguments.records))
    client = login.client(connection_of(arguments))
    files = [Path(file) for file in arguments.records]
    warn_of_writers(*files, *(file.parent for file in files))
    changes = [_read_change(file, login) for file in arguments.records]
    changes.sort(key=lambda change: change.time, reverse=True)  # a tag goes back step by step
    if not arguments.yes and not _is_confirmed(login, [change.destination for change in changes]):
        LOG.error("Nothing is restored")
        return lambda: False
    recorder = AuditDirectory(settings.audit) if settings.audit else None
    locks = locks_of(arguments, settings)

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
    return _changes(arguments, jobs, options)


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


def prepare_inspect(arguments: Namespace) -> Callable[[], bool]:  # noqa: C901 - three ways to look
    """Prepare to show an image, or how two of them compare."""
    login, options = Login.of(arguments, "source"), RunOptions.of(arguments, failed_key="reference")
    client = login.client(connection_of(arguments))
    reference = login.reference(arguments.reference)
    facts = arguments.ages or arguments.check or arguments.referrers
    if arguments.raw and (arguments.other or facts):
        raise ValueError("--raw is for the bytes of one reference")
    if arguments.raw:
        jobs = [(str(reference), partial(client.pull, reference))]
        return partial(run_jobs, jobs, _printer(lambda found: found.content), options)
    if arguments.other is not None:
        if facts or arguments.output == "json":
            raise ValueError("--ages, --check, --referrers and --output json are for one reference")
        other = login.reference(arguments.other)

        def compare_both() -> Sheet:
            sides = (_listing(client, reference)[1], _listing(client, other)[1])
            return compare((str(reference), str(other)), sides, every=arguments.all)

        show_both = _printer(_renderer(arguments, shown, shown))
        return partial(run_jobs, [(str(reference), compare_both)], show_both, options)

    def look() -> Inspection:
        held, index = _listing(client, reference)
        ages = missing = None
        if arguments.ages:
            ages = Ages(client, AgeRule(shown=True)).read(reference, index.manifests)
        if arguments.check:
            missing = _missing(client, reference, index)
        found = inspect(str(reference), index, ages, missing, held=held)
        if arguments.referrers:
            subjects = (held.digest, *(entry.digest for entry in index.manifests))
            referrers = ReferrerLists(client).of_all(reference, subjects)
            found = evolve(found, referrers=tuple(referrers))
        if found.lacks_something:
            LOG.error("%s lists manifests that the repository lacks", reference)
            incomplete.append(found)
        return found

    incomplete: list[Inspection] = []
    write = _renderer(arguments, lambda found: shown(inspection_sheet(found)), inspection_to_json)
    show = _printer(write)
    return lambda: run_jobs([(str(reference), look)], show, options) and not incomplete


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
