"""The commands: what each prepares, does and prints."""

from __future__ import annotations

import logging
import math
import os
import sys
import threading
import traceback
from argparse import Namespace
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import NoReturn, TextIO, TypeVar

import urllib3
from attrs import evolve, field, frozen

from pubtools_mlmerge.concurrency import AHEAD, STOP, Stopped, Watch, map_in_order, unwatched
from pubtools_mlmerge.core.manifests import Index
from pubtools_mlmerge.core.plan import MOST_DAYS, AgeRule, Policy, Report
from pubtools_mlmerge.core.platforms import PlatformPattern
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.core.strict_json import decode
from pubtools_mlmerge.errors import InvalidRecord, InvalidReference
from pubtools_mlmerge.locks import check_url
from pubtools_mlmerge.merging.api import TagMerger, locked
from pubtools_mlmerge.merging.audit import AuditDirectory, Change, read_change
from pubtools_mlmerge.merging.decision import AnchorTag, StepOptions
from pubtools_mlmerge.merging.image_ages import Ages
from pubtools_mlmerge.merging.restore import restore
from pubtools_mlmerge.merging.step import remove_platforms
from pubtools_mlmerge.merging.writer import Writer
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.registry.http import Address, ConnectOptions
from pubtools_mlmerge.registry.quay_history import TagHistory
from pubtools_mlmerge.reports.html import Failure, PageInfo, check_html, write_page
from pubtools_mlmerge.reports.inspection import (
    Comparison,
    Inspection,
    compare,
    inspect,
    inspection_to_json,
)
from pubtools_mlmerge.reports.report import to_json
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


def _print(text: str) -> None:
    try:
        print(text, flush=True)  # noqa: T201 - the output of a program
    except BrokenPipeError:
        # The reader has seen enough. The rest is done without output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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
    except Exception as error:  # noqa: BLE001 - as above
        if options.debug:
            traceback.print_exception(type(error), error, error.__traceback__)
        LOG.error("%s", _message(error))  # noqa: TRY400 - as asked for
        options.page.note(Failure(name, _message(error)))
        return False
    return True


def _printer(render: Callable[[Item], str]) -> Callable[[Item], None]:
    return lambda item: _print(render(item))


def _changes(
    arguments: Namespace, jobs: Iterable[_Job | None], options: RunOptions
) -> Callable[[], bool]:
    """Prepare to run jobs that change tags, with their reports printed and on the page."""
    render = to_json if arguments.output == "json" else report_text

    def show(report: Report) -> None:
        options.page.note(report)
        _print(render(report))
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
            self.host,
            username=self.username,
            password=self.password,
            options=options,
            login_from=self.place,
        )

    def reference(self, text: str) -> Reference:
        """Parse a reference, whose host may be left out with --quay-host."""
        reference = Reference.parse(text)
        if not reference.host and not self.host:
            raise InvalidReference(text, "it names no host; add it, or give --quay-host")
        return reference

    def tag(self, text: str) -> Reference:
        """Parse the reference of a destination."""
        reference = self.reference(text)
        if reference.digest:
            raise InvalidReference(text, "a destination must be a tag, not a digest")
        return reference


def connection_of(arguments: Namespace) -> ConnectOptions:
    """Read how to connect."""
    bundle = arguments.ca_bundle
    if bundle is not None and not Path(bundle).is_file():
        raise ValueError(f"--ca-bundle: there is no file {bundle}")
    if arguments.insecure:
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    rate, limit = arguments.max_rate, arguments.timeout
    for option, number in (("--max-rate", rate), ("--timeout", limit)):
        if number is not None and not 0 < number < math.inf:
            raise ValueError(f"{option}: expected a number above 0")
    return ConnectOptions(
        ca_bundle=bundle, insecure=arguments.insecure, max_rate=rate, time_limit=limit
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


def lock_of(arguments: Namespace, settings: Settings) -> str | None:
    """Read where tags are locked."""
    if arguments.lock is None:
        return settings.lock
    if arguments.lock:
        check_url(arguments.lock)
    return str(arguments.lock) or None


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
    return Writer(client, options, recorder, TagHistory(client, token) if token else None)


def split(option: str, values: Sequence[str]) -> list[str]:
    """Split values at commas."""
    parts = [part.strip() for value in values for part in value.split(",") if part.strip()]
    if values and not parts:  # perhaps a variable of a script that is empty by mistake
        raise ValueError(f"{option} names nothing")
    return parts


_LINE_KEYS = ("source_ref", "dest_ref", "archs")


@frozen
class BatchLine:
    """A line of a batch; without architectures, all of the sources is merged."""

    sources: tuple[str, ...]
    destination: str
    archs: tuple[str, ...] | None = None

    @classmethod
    def parse(cls, text: str) -> BatchLine:
        """Parse a line."""
        fields = decode(text.encode("utf-8", "surrogateescape"))
        unknown = sorted(fields.keys() - set(_LINE_KEYS))
        if unknown:
            raise ValueError(f"{unknown[0]}: unknown, there are {', '.join(_LINE_KEYS)}")
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


def prepare_merge(arguments: Namespace) -> Callable[[], bool]:
    """Prepare the merge of sources into their destinations, or of a batch."""
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
        jobs = merges.jobs_of(_open_batch(arguments.batch), threads)
        options = evolve(options, total=None, watch=merges.display.counted)
    else:
        if not arguments.source_ref or not arguments.dest_ref:
            raise ValueError("--source-ref and --dest-ref are needed, or --batch")
        sources = [logins[0].reference(r) for r in split("--source-ref", arguments.source_ref)]
        tags = [logins[1].tag(text) for text in split("--dest-ref", arguments.dest_ref)]
        merges = _Merges(arguments, settings, policy, logins, tags)
        jobs = ((str(tag), partial(merges.merge, sources, tag, policy)) for tag in tags)
        watch = unwatched if len(tags) == 1 else merges.display.counted
        options = evolve(options, threads=min(threads, len(tags)), total=len(tags), watch=watch)
    return _changes(arguments, jobs, options)


def _open_batch(name: str) -> TextIO:
    if name == "-":
        return sys.stdin
    try:
        return Path(name).open(encoding="utf-8", errors="surrogateescape")
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
        self._logins, self._policy = logins, policy
        lock, copy = lock_of(arguments, settings), arguments.copy or settings.copy
        anchor, options = anchor_tag_of(arguments, settings, tags), connection_of(arguments)
        reader = logins[0].client(options)
        # One client for both sides needs one token and one pool of connections.
        client = reader if logins[0] == logins[1] else logins[1].client(options)
        writer = writer_of(arguments, settings, client, policy, anchor)
        watch = self.display.counted
        merger = TagMerger(reader, client, writer, lock=lock, copy=copy, watch=watch)
        self.merge = merger.merge

    def jobs_of(
        self, batch: TextIO, threads: int
    ) -> Iterator[tuple[str, Callable[[], Report]] | None]:
        """Make a job of each line that is not empty; for an invalid line, one that fails.

        Before a line that reads what one before it writes, or the reverse, comes None.
        """
        under_way: deque[tuple[list[Reference], Reference]] = deque(maxlen=threads * AHEAD)
        with batch:
            for number, text in enumerate(STOP.lines(batch), start=1):
                if not text.strip():
                    continue
                name = f"line {number}"
                try:
                    line = BatchLine.parse(text)
                    name = f"{name}: {line.destination}"
                    sources = [self._logins[0].reference(text) for text in line.sources]
                    destination = self._logins[1].tag(line.destination)
                    policy = evolve(self._policy, eligible=line.archs)
                except ValueError as error:
                    yield name, partial(_refuse, f"line {number}", error)
                    continue
                if any(destination in (*read, tag) or tag in sources for read, tag in under_way):
                    under_way.clear()
                    yield None
                under_way.append((sources, destination))
                yield name, partial(self.merge, sources, destination, policy)


def _refuse(name: str, error: ValueError) -> NoReturn:
    raise ValueError(f"{name}: {error}") from error


def prepare_remove_archs(arguments: Namespace) -> Callable[[], bool]:
    """Prepare the removal of architectures from tags."""
    login, settings = Login.of(arguments, "dest"), Settings.for_commands(os.environ)
    client = login.client(connection_of(arguments))
    tags = [login.tag(text) for text in split("--ref", arguments.ref)]
    options = RunOptions(debug=arguments.debug > 0, page=Page(arguments.html), total=len(tags))
    patterns = tuple(PlatformPattern.named(text) for text in split("--arch", arguments.arch))
    if not patterns and not arguments.prune:
        raise ValueError("--arch or --prune is needed")
    writer = writer_of(arguments, settings, client)
    url = lock_of(arguments, settings)

    def remove(reference: Reference) -> Report:
        with locked(client, reference, url) as check:
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

    return _changes(arguments, [(str(tag), partial(remove, tag)) for tag in tags], options)


def prepare_restore(arguments: Namespace) -> Callable[[], bool]:
    """Prepare to restore tags; every record is read before the first tag is written."""
    login, settings = Login.of(arguments, "dest"), Settings.for_commands(os.environ)
    options = RunOptions(debug=arguments.debug > 0, page=Page(arguments.html))
    client = login.client(connection_of(arguments))
    changes = [_read_change(file, login) for file in arguments.records]
    recorder = AuditDirectory(settings.audit) if settings.audit else None

    def restore_tag(change: Change) -> Report:
        with locked(client, change.destination, settings.lock) as check:
            return restore(
                client,
                change,
                force=arguments.force,
                dry_run=arguments.dry_run,
                recorder=recorder,
                check=check,
            )

    jobs = [(str(change.destination), partial(restore_tag, change)) for change in changes]
    return _changes(arguments, jobs, options)


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
        if arguments.ages or arguments.check or arguments.output == "json":
            raise ValueError("--ages, --check and --output json are for one reference")
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
