"""The commands: what each prepares, does and prints."""

from __future__ import annotations

import logging
import math
import os
import sys
import threading
import time
from argparse import Namespace
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import NoReturn, TextIO, TypeVar

import urllib3
from attrs import evolve, field, frozen

from pubtools_mlmerge.concurrency import STOP, Stopped, Watch, map_in_order, unwatched
from pubtools_mlmerge.core.manifests import Index
from pubtools_mlmerge.core.plan import MOST_DAYS, AgeRule, Policy, Report
from pubtools_mlmerge.core.platforms import PlatformPattern
from pubtools_mlmerge.core.references import Address, Reference, lacks_host, one_name
from pubtools_mlmerge.core.strict_json import decode
from pubtools_mlmerge.errors import InvalidRecord, InvalidReference, LockFailed, OutOfTime
from pubtools_mlmerge.hooks import announce, lock_tags
from pubtools_mlmerge.locks import check_url, lock_name
from pubtools_mlmerge.merging.audit import AuditDirectory, Change, read_change, warn_of_writers
from pubtools_mlmerge.merging.decision import AnchorTag, StepOptions
from pubtools_mlmerge.merging.image_ages import Ages
from pubtools_mlmerge.merging.restore import restore
from pubtools_mlmerge.merging.step import Step, remove_platforms
from pubtools_mlmerge.merging.writer import Writer
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.registry.copying import Children
from pubtools_mlmerge.registry.http import ConnectOptions
from pubtools_mlmerge.registry.quay_history import TagHistory
from pubtools_mlmerge.registry.referrers import ReferrerLists, Referrers
from pubtools_mlmerge.reports.html import Failure, PageInfo, check_html, write_page
from pubtools_mlmerge.reports.inspection import (
    Comparison,
    Inspection,
    compare,
    inspect,
    inspection_to_json,
)
from pubtools_mlmerge.reports.report import summary_of, to_json
from pubtools_mlmerge.reports.terminal import Display, comparison_text, inspection_text, report_text
from pubtools_mlmerge.settings import MOST_TRIES, PREFIX, Settings

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
            info = PageInfo(datetime.now(timezone.utc), complete=complete)
            write_page(self._path, self._results, info)
        except Exception as error:  # noqa: BLE001 - it must not hide what became of the tags
            problem = error.strerror if isinstance(error, OSError) else None
            LOG.error("The page cannot be written: %s", problem or _message(error))  # noqa: TRY400 - no defect
            return False
        return True


def _message(error: Exception) -> str:
    return str(error) or type(error).__name__


class _Output:
    """Standard output; once it fails, each result says that it cannot be printed."""

    def __init__(self) -> None:
        self._failure: OSError | None = None

    def print(self, text: str) -> None:
        """Print a text, in escapes where the encoding lacks its characters."""
        if self._failure is not None:
            raise self._failure
        encoding = sys.stdout.encoding or "utf-8"
        try:
            text = text.encode(encoding, "backslashreplace").decode(encoding)
            print(text, flush=True)  # noqa: T201 - the output of a program
        except OSError as error:
            self._failure = error
            # What is left in its buffer would fail at the end.
            if sys.__stdout__ is not None and sys.stdout is sys.__stdout__:
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())
            raise


_Job = tuple[str, Callable[[], Report]]  # with the name to show


@frozen(kw_only=True)
class RunOptions:
    """How jobs are run and shown; the total is none where it is unknown."""

    debug: bool
    page: Page = field(factory=Page)
    threads: int = 1
    fail_fast: bool = False
    total: int | None = 1
    watch: Watch = unwatched


def run_jobs(
    jobs: Iterable[tuple[str, Callable[[], Item]] | None],
    show: Callable[[Item], None],
    options: RunOptions,
) -> bool:
    """Run jobs, each with a name, and show their results in order; return whether all succeeded.

    None among the jobs lets all before it end, before one after it begins.
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
    try:
        with options.watch("", options.total) as advance:
            for number in map_in_order(numbered, options.threads):
                advance()
                show_of(number)
        complete = STOP.signal is None
    except Stopped:  # a job hangs, and others after it may be done
        for number in sorted(outcomes):
            show_of(number)
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
    try:
        if isinstance(outcome, Exception):
            raise outcome  # noqa: TRY301 - a result that cannot be printed is a failure as well
        show(outcome)
    except Exception as error:
        LOG.error("%s", _message(error), exc_info=options.debug)  # noqa: TRY400 - as asked for
        options.page.note(Failure(name, _message(error)))
        return False
    return True


def _printer(render: Callable[[Item], str]) -> Callable[[Item], None]:
    output = _Output()

    def show(item: Item) -> None:
        with suppress(BrokenPipeError):  # the reader has seen enough
            output.print(render(item))

    return show


def _changes(
    arguments: Namespace, jobs: Iterable[_Job | None], options: RunOptions
) -> Callable[[], bool]:
    """Prepare to run jobs that change tags, with their reports printed and on the page."""
    render, output = to_json if arguments.output == "json" else report_text, _Output()

    def show(report: Report) -> None:
        options.page.note(report)
        try:
            output.print(render(report))
        except BrokenPipeError:  # the reader has seen enough
            LOG.warning("%s; nobody reads what is printed", summary_of(report))
        except Exception as error:
            LOG.error("%s; its report cannot be printed", summary_of(report))  # noqa: TRY400
            raise report.error or error from error
        if report.error is not None:
            raise report.error

    return partial(run_jobs, jobs, show, options)


@frozen
class Login:
    """Where to connect, and as whom."""

    host: str | None
    username: str | None
    password: str | None = field(repr=False)
    place: str = field(default="", eq=False)

    @classmethod
    def of(cls, arguments: Namespace, side: str) -> Login:
        """Read the options of the source or the destination."""
        host = (arguments.source_quay_host if side == "source" else None) or arguments.quay_host
        username = getattr(arguments, f"{side}_quay_user")
        password = getattr(arguments, f"{side}_quay_password")
        variable = f"{side.upper()}_QUAY_PASSWORD"
        if username and not password:
            raise ValueError(f"--{side}-quay-user needs a password: set {variable}")
        if host:
            Address.parse(host)  # so that a malformed one is wrong usage
        is_exported = password == os.environ.get(variable)
        place = variable if is_exported else f"--{side}-quay-password"
        # A password in the environment without a user is for another program.
        return cls(
            host, username, password if username else None, f"--{side}-quay-user and {place}"
        )

    def client(self, options: ConnectOptions) -> RegistryClient:
        """Make a client."""
        return RegistryClient(
            self.username, self.password, self.host, options, login_from=self.place
        )

    def reference(self, text: str) -> Reference:
        """Parse a reference, whose host may be left out with --quay-host."""
        reference = Reference.parse(text)
        if not reference.host and not self.host:
            raise lacks_host(reference, ", or give --quay-host")
        return reference

    def tag(self, text: str) -> Reference:
        """Parse the reference of a destination."""
        reference = self.reference(text)
        if reference.digest:
            raise InvalidReference(text, "a destination must be a tag, not a digest")
        return reference


def connection_of(arguments: Namespace) -> ConnectOptions:
    """Read how to connect."""
    bundle, cert, key = arguments.ca_bundle, arguments.cert, arguments.key
    for option, file in (("--ca-bundle", bundle), ("--cert", cert), ("--key", key)):
        if file is not None and not Path(file).is_file():
            raise ValueError(f"{option}: there is no file {file}")
    if key is not None and cert is None:
        raise ValueError("--key needs --cert")
    if arguments.insecure:
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    rate, limit = arguments.max_rate, arguments.timeout
    for option, number in (("--max-rate", rate), ("--timeout", limit)):
        if number is not None and not 0 < number < math.inf:
            raise ValueError(f"{option}: expected a number above 0")
    return ConnectOptions(
        ca_bundle=bundle,
        client=(cert, key or cert) if cert else None,
        insecure=arguments.insecure,
        max_rate=rate,
        time_limit=limit,
    )


def policy_of(arguments: Namespace, default: Policy) -> Policy:
    """Read the policy."""
    return Policy(
        match=arguments.match or default.match,
        eligible=None if arguments.arch is None else split("--arch", arguments.arch),
        keep=split("--keep", arguments.keep) or default.keep,
        drop=split("--drop", arguments.drop) or default.drop,
        mixed_types=arguments.mixed_types or default.mixed_types,
        single_image=arguments.single_image or default.single_image,
        strict=arguments.strict,
    )


def ages_of(arguments: Namespace, settings: Settings) -> AgeRule:
    """Read what to do about the ages of images."""
    if "max_age_days" not in arguments:  # a command that keeps nothing for its age
        return AgeRule()
    days = _number("--max-age-days", arguments.max_age_days, MOST_DAYS) or settings.max_age_days
    if days is None and arguments.stale:
        raise ValueError("--stale needs --max-age-days")
    stale = arguments.stale or settings.stale
    return AgeRule(max_age_days=days, stale=stale, shown=arguments.ages)


def _number(option: str, value: int | None, most: int) -> int | None:
    if value is not None and not 1 <= value <= most:
        raise ValueError(f"{option}: expected a number from 1 to {most}")
    return value


def anchor_tag_of(
    arguments: Namespace, settings: Settings, destinations: Iterable[Reference]
) -> AnchorTag | None:
    """Read the template, and make sure that it gives a valid tag for each destination."""
    anchor = None
    if arguments.anchor_tag:
        anchor = AnchorTag.parse(arguments.anchor_tag)
    elif f"{PREFIX}ANCHOR_TAG" in os.environ:  # the default of tasks is not that of commands
        anchor = settings.anchor_tag
    if anchor is not None:
        for destination in destinations:
            anchor.apply(destination, f"sha256:{'0' * 64}")
    return anchor


def locks_of(arguments: Namespace, settings: Settings) -> TagLocks:
    """Read where tags are locked."""
    if arguments.lock:
        check_url(arguments.lock)
    return TagLocks.of(settings, arguments.lock)


@frozen
class TagLocks:
    """Where tags are locked, and the host names that are one registry."""

    url: str | None = field(repr=False)
    aliases: tuple[str, ...]

    @classmethod
    def of(cls, settings: Settings, url: str | None = None) -> TagLocks:
        """Read the settings; an empty URL turns their lock off."""
        return cls(settings.lock if url is None else url or None, settings.lock_aliases)

    @contextmanager
    def held(self, client: RegistryClient, *tags: Reference) -> Iterator[Callable[[], None]]:
        """Lock tags, named by where the client connects, not by the host in the reference."""
        names, ends = [_where(client, tag) for tag in tags], client.options.ends
        with ExitStack() as stack:
            locks = lock_tags([names], self.url, self.aliases, max(0.0, ends - time.monotonic()))
            try:
                (check,) = stack.enter_context(locks)
            except LockFailed as error:
                if time.monotonic() < ends:
                    raise
                raise OutOfTime(str(tags[0]), client.options.time_limit or 0.0) from error
            yield check

    def name(self, client: RegistryClient, reference: Reference) -> str:
        """Name a tag or digest in one way, however its host is spelled."""
        return lock_name(_where(client, reference), self.aliases)


def _where(client: RegistryClient, reference: Reference) -> str:
    return str(client.place(reference))


def writer_of(
    arguments: Namespace,
    settings: Settings,
    client: RegistryClient,
    policy: Policy | None = None,
    anchor_tag: AnchorTag | None = None,
) -> Writer:
    """Make what writes tags, with records and the history where these are wanted."""
    options = StepOptions(
        policy=policy or Policy(),
        dry_run=arguments.dry_run,
        anchor_tag=anchor_tag,
        verify=settings.verify if arguments.verify is None else arguments.verify,
        tries=_number("--tries", arguments.tries, MOST_TRIES) or settings.tries,
        ages=ages_of(arguments, settings),
    )
    audit, token = arguments.audit or settings.audit, arguments.quay_api_token
    recorder = AuditDirectory(audit) if audit else None
    history = TagHistory(client, token, arguments.quay_api_token_host) if token else None
    return Writer(client, options, recorder, history)


def split(option: str, values: Sequence[str]) -> list[str]:
    """Split values at commas."""
    parts = [part.strip() for value in values for part in value.split(",") if part.strip()]
    if values and not parts:  # perhaps a variable of a script that is empty by mistake
        raise ValueError(f"{option} names nothing")
    return parts


_LINE_KEYS = ("source_ref", "dest_ref", "archs")


@frozen
class BatchLine:
    """A line of a batch; without architectures, all of the source is merged."""

    source: str
    destination: str
    archs: tuple[str, ...] | None = None

    @classmethod
    def parse(cls, text: str) -> BatchLine:
        """Parse a line."""
        fields = decode(text.encode("utf-8", "surrogateescape"))
        unknown = sorted(fields.keys() - set(_LINE_KEYS))
        if unknown:
            raise ValueError(f"{unknown[0]}: unknown, there are {', '.join(_LINE_KEYS)}")
        source, destination = fields.get("source_ref"), fields.get("dest_ref")
        if not (isinstance(source, str) and isinstance(destination, str)):
            raise ValueError("source_ref, dest_ref: expected texts")  # noqa: TRY004 - a wrong line
        archs = fields.get("archs")
        if archs is None:
            return cls(source, destination)
        if not isinstance(archs, list) or not archs or not all(isinstance(a, str) for a in archs):
            raise ValueError("archs: expected a list of texts")
        return cls(source, destination, tuple(archs))


def prepare_merge(arguments: Namespace) -> Callable[[], bool]:
    """Prepare the merge of one source into its destinations, or of a batch."""
    logins = Login.of(arguments, "source"), Login.of(arguments, "dest")
    settings = Settings.for_commands(os.environ)
    policy = policy_of(arguments, settings.policy)
    threads = _number("--threads", arguments.threads, _MOST_THREADS) or 1
    page = Page(arguments.html)
    options = RunOptions(
        debug=arguments.debug > 0, page=page, threads=threads, fail_fast=arguments.fail_fast
    )
    if arguments.batch is not None:
        if arguments.source_ref or arguments.dest_ref or arguments.arch:
            raise ValueError("--batch: its lines name sources, destinations and architectures")
        merges = _Merges(arguments, settings, policy, logins)
        jobs = merges.of_batch(arguments.batch, _open_batch(arguments.batch))
        options = evolve(options, total=None, watch=merges.display.counted)
    else:
        if not arguments.source_ref or not arguments.dest_ref:
            raise ValueError("--source-ref and --dest-ref are needed, or --batch")
        source = logins[0].reference(arguments.source_ref)
        tags = [logins[1].tag(text) for text in split("--dest-ref", arguments.dest_ref)]
        merges = _Merges(arguments, settings, policy, logins, tags)
        jobs = merges.of_tags(source, tags)
        watch = unwatched if len(tags) == 1 else merges.display.counted
        options = evolve(options, threads=min(threads, len(tags)), total=len(tags), watch=watch)
    return _changes(arguments, jobs, options)


def _open_batch(name: str) -> TextIO:
    try:
        # Not sys.stdin itself, which cannot be closed while a thread waits for what it reads.
        file = os.dup(sys.stdin.fileno()) if name == "-" else name
        return open(file, encoding="utf-8", errors="surrogateescape")  # noqa: PTH123 - see above
    except OSError as error:
        raise ValueError(f"--batch: {name}: {error.strerror}") from error


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
        self._locks = locks_of(arguments, settings)
        self._anchor = anchor_tag_of(arguments, settings, tags)
        options = connection_of(arguments)
        self._reader = reader = logins[0].client(options)
        # One client for both sides needs one token and one pool of connections.
        self._client = reader if logins[0] == logins[1] else logins[1].client(options)
        writer = writer_of(arguments, settings, self._client, policy, self._anchor)
        copy = arguments.copy or settings.copy
        watch, threads = self.display.counted, arguments.threads
        children = Children(reader, self._client, copy, watch=watch, threads=threads)
        ends, mode = (reader, self._client), arguments.referrers or settings.referrers
        referrers = Referrers(*ends, children, mode)
        self._step = Step(*ends, writer.options, children, writer, referrers=referrers)

    def merge(self, source: Reference, destination: Reference, policy: Policy) -> Report:
        """Merge a source into a tag."""
        with self._locks.held(self._client, *self._written(destination)) as check:
            report = self._step.merge(source, destination, check, policy)
        if report.changed and not report.dry_run:
            announce(report)
        return report

    def of_tags(self, source: Reference, tags: Iterable[Reference]) -> Iterator[_Job | None]:
        """Make a job of each destination."""
        return self._in_order(self._job(str(tag), source, tag, self._policy) for tag in tags)

    def of_batch(self, name: str, batch: TextIO) -> Iterator[_Job | None]:
        """Make a job of each line that is not empty; for an invalid line, one that fails."""
        return self._in_order(self._of_lines(name, batch))

    def _of_lines(self, name: str, batch: TextIO) -> Iterator[_Ordered]:
        is_empty = True
        with batch:
            for number, text in enumerate(batch, start=1):
                if text.strip():
                    is_empty = False
                    yield self._of_line(f"line {number}", text)
        if is_empty:
            LOG.warning("--batch: %s has no lines, so nothing is merged", name)

    def _of_line(self, place: str, text: str) -> _Ordered:
        name = place
        try:
            line = BatchLine.parse(text)
            name = f"{place}: {line.destination}"
            source = self._logins[0].reference(line.source)
            tag = self._logins[1].tag(line.destination)
            return self._job(name, source, tag, evolve(self._policy, eligible=line.archs))
        except ValueError as error:
            return _Ordered((name, partial(_refuse, place, error)))

    def _job(self, name: str, source: Reference, tag: Reference, policy: Policy) -> _Ordered:
        writes = frozenset(self._locks.name(self._client, each) for each in self._written(tag))
        reads = self._locks.name(self._reader, source)
        return _Ordered((name, partial(self.merge, source, tag, policy)), reads, writes)

    def _written(self, tag: Reference) -> tuple[Reference, ...]:
        return (tag, *(self._anchor.known_for(tag) if self._anchor else ()))

    def _in_order(self, jobs: Iterable[_Ordered]) -> Iterator[_Job | None]:
        """Put None before a job that writes what one under way reads or writes, or the reverse."""
        under_way: deque[_Ordered] = deque(maxlen=self._threads)
        for job in jobs:
            if any(
                other.writes & {*job.writes, job.reads} or other.reads in job.writes
                for other in under_way
            ):
                under_way.clear()
                yield None
            under_way.append(job)
            yield job.job


@frozen
class _Ordered:
    """A job with the names of what it reads and writes."""

    job: _Job
    reads: str = ""
    writes: frozenset[str] = frozenset()


def _refuse(name: str, error: ValueError) -> NoReturn:
    raise ValueError(f"{name}: {error}") from error


def prepare_remove_archs(arguments: Namespace) -> Callable[[], bool]:
    """Prepare the removal of architectures from a tag."""
    login, settings = Login.of(arguments, "dest"), Settings.for_commands(os.environ)
    options = RunOptions(debug=arguments.debug > 0, page=Page(arguments.html))
    client = login.client(connection_of(arguments))
    reference = login.tag(arguments.ref)
    patterns = tuple(PlatformPattern.named(text) for text in split("--arch", arguments.arch))
    if not patterns and not arguments.prune:
        raise ValueError("--arch or --prune is needed")
    writer = writer_of(arguments, settings, client)
    locks = locks_of(arguments, settings)

    def remove() -> Report:
        with locks.held(client, reference) as check:
            report = remove_platforms(
                writer,
                reference,
                patterns,
                allow_empty=arguments.allow_empty,
                prune=arguments.prune,
                strict=arguments.strict,
                check=check,
            )
        for name in report.missing:
            LOG.warning("%s has no %s", reference, name)
        return report

    return _changes(arguments, [(str(reference), remove)], options)


def prepare_restore(arguments: Namespace) -> Callable[[], bool]:
    """Prepare to restore tags; every record is read before the first tag is written."""
    login, settings = Login.of(arguments, "dest"), Settings.for_commands(os.environ)
    options = RunOptions(debug=arguments.debug > 0, page=Page(arguments.html))
    client = login.client(connection_of(arguments))
    files = [Path(file) for file in arguments.records]
    warn_of_writers(*files, *(file.parent for file in files))
    changes = [_read_change(file, login) for file in arguments.records]
    if not arguments.yes and not _is_confirmed(login, [change.destination for change in changes]):
        LOG.error("Nothing is restored")
        return lambda: False
    recorder = AuditDirectory(settings.audit) if settings.audit else None
    locks = TagLocks.of(settings)

    how = partial(restore, client, force=arguments.force, dry_run=arguments.dry_run)

    def restore_tag(change: Change) -> Report:
        with locks.held(client, change.destination) as check:
            return how(change, recorder=recorder, check=check)

    jobs = [(str(change.destination), partial(restore_tag, change)) for change in changes]
    return _changes(arguments, jobs, options)


def _is_confirmed(login: Login, tags: Iterable[Reference]) -> bool:
    """Ask where a record could make the login of the options go where it does not belong."""
    host = Address.parse(login.host).host if login.host else ""
    here = one_name(f"{host}/")
    odd = ", ".join(str(tag) for tag in tags if tag.host and one_name(f"{tag.host}/") != here)
    if not login.password or not odd:
        return True
    facts = f"the login of --dest-quay-user would be used for {odd}, as the record says, and "
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
    """Prepare to show an index, or how two of them compare."""
    login, options = Login.of(arguments, "source"), RunOptions(debug=arguments.debug > 0)
    client = login.client(connection_of(arguments))
    reference = login.reference(arguments.reference)

    def pull(one: Reference) -> Index:
        return client.read_nested(one, client.pull_index(one))

    if arguments.other is not None:
        if arguments.ages or arguments.check or arguments.referrers or arguments.output == "json":
            raise ValueError("--ages, --check, --referrers and --output json are for one reference")
        other = login.reference(arguments.other)

        def compare_both() -> Comparison:
            return compare((str(reference), str(other)), (pull(reference), pull(other)))

        return partial(
            run_jobs, [(str(reference), compare_both)], _printer(comparison_text), options
        )

    def look() -> Inspection:
        index = pull(reference)
        ages = missing = None
        if arguments.ages:
            ages = Ages(client, AgeRule(shown=True)).read(reference, index.manifests)
        if arguments.check:
            missing = _missing(client, reference, index)
        found = inspect(str(reference), index, ages, missing)
        if arguments.referrers:
            subjects = (index.digest, *(entry.digest for entry in index.manifests))
            found = evolve(
                found, referrers=tuple(ReferrerLists(client).of_all(reference, subjects))
            )
        if found.lacks_something:
            LOG.error("%s lists what is not in the repository", reference)
            incomplete.append(found)
        return found

    incomplete: list[Inspection] = []
    show = _printer(inspection_to_json if arguments.output == "json" else inspection_text)
    return lambda: run_jobs([(str(reference), look)], show, options) and not incomplete


def _missing(client: RegistryClient, reference: Reference, index: Index) -> frozenset[str]:
    """Find out by HEAD requests which manifests are missing, attestations included."""
    digests = tuple(dict.fromkeys(entry.digest for entry in index.manifests))
    jobs = (partial(client.has_manifest, reference.at(digest)) for digest in digests)
    held = map_in_order(jobs, _CHECK_THREADS)
    return frozenset(digest for digest, is_there in zip(digests, held) if not is_there)


COMMANDS: dict[str, Callable[[Namespace], Callable[[], bool]]] = {
    "merge": prepare_merge,
    "remove-archs": prepare_remove_archs,
    "restore": prepare_restore,
    "inspect": prepare_inspect,
}
