"""The commands: what each prepares, does and prints."""

from __future__ import annotations

import logging
import math
import os
import sys
import threading
import traceback
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Generic, NoReturn, TextIO, TypeVar

import urllib3
from attrs import evolve, field, frozen

from pubtools_mlmerge.concurrency import Watch, map_in_order, unwatched
from pubtools_mlmerge.core.ages import MOST_DAYS, AgeRule
from pubtools_mlmerge.core.manifests import Index
from pubtools_mlmerge.core.plan import Policy, Report
from pubtools_mlmerge.core.platforms import PlatformPattern
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.core.strict_json import decode
from pubtools_mlmerge.errors import InvalidRecord, InvalidReference
from pubtools_mlmerge.hooks import announce, lock_tag
from pubtools_mlmerge.locks import check_url
from pubtools_mlmerge.merging.audit import AuditDirectory, Change, read_change
from pubtools_mlmerge.merging.decision import AnchorTag, StepOptions
from pubtools_mlmerge.merging.image_ages import Ages
from pubtools_mlmerge.merging.restore import restore
from pubtools_mlmerge.merging.step import Step, remove_platforms
from pubtools_mlmerge.merging.writer import Writer
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.registry.copying import Children
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


class Output(Generic[Item]):
    """Prints results."""

    def __init__(self, render: Callable[[Item], str]) -> None:
        self._render = render

    def show(self, item: Item) -> None:
        """Print a result."""
        _print(self._render(item))

    def fail(self, name: str, error: Exception) -> None:
        """Note a failure, which is logged as well."""

    def close(self, *, complete: bool) -> bool:  # noqa: ARG002 - pages say so
        """Finish, and return whether that succeeded; complete unless the run was interrupted."""
        return True


class ReportOutput(Output[Report]):
    """Prints reports, and in the end writes an HTML page of all of them, if there is a path."""

    def __init__(self, render: Callable[[Report], str], page: Path | None) -> None:
        super().__init__(render)
        self._page = page
        self._results: list[Report | Failure] = []

    def show(self, item: Report) -> None:
        """Print a report and note it for the page."""
        self._note(item)
        super().show(item)

    def fail(self, name: str, error: Exception) -> None:
        """Note a failure for the page."""
        self._note(Failure(name, _message(error)))

    def _note(self, result: Report | Failure) -> None:
        if self._page is not None:
            self._results.append(result)

    def close(self, *, complete: bool) -> bool:
        """Write the page."""
        if self._page is None:
            return True
        try:
            info = PageInfo(datetime.now(timezone.utc), complete=complete)
            write_page(self._page, self._results, info)
        except Exception as error:  # noqa: BLE001 - it must not hide what became of the tags
            problem = error.strerror if isinstance(error, OSError) else None
            LOG.error("The page cannot be written: %s", problem or _message(error))  # noqa: TRY400 - no defect
            return False
        return True


def report_output(arguments: Namespace) -> ReportOutput:
    """Choose how reports are printed, and whether there is a page."""
    page = None if arguments.html is None else Path(arguments.html)
    if page is not None:
        check_html(page)
    return ReportOutput(to_json if arguments.output == "json" else report_text, page)


def _message(error: Exception) -> str:
    return str(error) or type(error).__name__


def _print(text: str) -> None:
    try:
        print(text, flush=True)  # noqa: T201 - the output of a program
    except BrokenPipeError:
        # The reader has seen enough. The rest is done without output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@frozen(kw_only=True)
class RunOptions:
    """How jobs are run; the total is none where it is unknown."""

    debug: bool
    threads: int = 1
    fail_fast: bool = False
    total: int | None = 1
    watch: Watch = unwatched


def run_jobs(
    jobs: Iterable[tuple[str, Callable[[], Item]]], output: Output[Item], options: RunOptions
) -> bool:
    """Run jobs, each with a name, and show their results in order; return whether all succeeded."""
    failed = threading.Event()

    def attempt(name: str, job: Callable[[], Item]) -> tuple[str, Item | Exception] | None:
        if options.fail_fast and failed.is_set():
            return None
        try:
            return name, job()
        except Exception as error:  # noqa: BLE001 - the last line of defence of a program
            failed.set()
            return name, error

    outcomes = map_in_order((partial(attempt, *job) for job in jobs), options.threads)
    complete = False
    try:
        with options.watch("", options.total) as advance:
            for outcome in outcomes:
                advance()
                if outcome is not None and not _show(output, *outcome, debug=options.debug):
                    failed.set()
        complete = True
    finally:  # also after Ctrl-C
        if not output.close(complete=complete):
            failed.set()
    return not failed.is_set()


def _show(output: Output[Item], name: str, outcome: Item | Exception, *, debug: bool) -> bool:
    try:
        if isinstance(outcome, Exception):
            raise outcome  # noqa: TRY301 - a result that cannot be printed is a failure as well
        output.show(outcome)
    except Exception as error:  # noqa: BLE001 - as above
        if debug:
            traceback.print_exception(type(error), error, error.__traceback__)
        LOG.error("%s", _message(error))  # noqa: TRY400 - as asked for
        output.fail(name, error)
        return False
    return True


@frozen
class Login:
    """Where to connect, and as whom."""

    host: str | None
    username: str | None
    password: str | None = field(repr=False)
    place: str = field(default="", eq=False)

    def client(self, options: ConnectOptions) -> RegistryClient:
        """Make a client."""
        return RegistryClient(
            self.username, self.password, self.host, options, login_from=self.place
        )


def login_of(arguments: Namespace, side: str) -> Login:
    """Read where to connect for the source or the destination, and as whom."""
    host = arguments.quay_host
    if side == "source":
        host = arguments.source_quay_host or host
    username = getattr(arguments, f"{side}_quay_user")
    password = getattr(arguments, f"{side}_quay_password")
    variable = f"{side.upper()}_QUAY_PASSWORD"
    if username and not password:
        raise ValueError(f"--{side}-quay-user needs a password: set {variable}")
    if host:
        Address.parse(host)  # so that a malformed one is wrong usage
    is_exported = password == os.environ.get(variable)
    origin = f"the environment variable {variable}" if is_exported else f"--{side}-quay-password"
    # A password in the environment without a user is for another program.
    return Login(host, username, password if username else None, f"--{side}-quay-user and {origin}")


def connection_of(arguments: Namespace) -> ConnectOptions:
    """Read how to connect."""
    bundle = arguments.ca_bundle
    if bundle is not None and not Path(bundle).is_file():
        raise ValueError(f"--ca-bundle: there is no file {bundle}")
    if arguments.insecure:
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    rate = arguments.max_rate
    if rate is not None and not 0 < rate < math.inf:
        raise ValueError("--max-rate: expected a number above 0")
    return ConnectOptions(ca_bundle=bundle, insecure=arguments.insecure, max_rate=rate)


def settings_of_environment() -> Settings:
    """Read the settings, which are the defaults of options."""
    return Settings.for_commands(os.environ)


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


def step_options_of(
    arguments: Namespace,
    settings: Settings,
    policy: Policy | None = None,
    anchor_tag: AnchorTag | None = None,
) -> StepOptions:
    """Read how to write."""
    return StepOptions(
        policy=policy or Policy(),
        dry_run=arguments.dry_run,
        anchor_tag=anchor_tag,
        verify=settings.verify if arguments.verify is None else arguments.verify,
        tries=_number("--tries", arguments.tries, MOST_TRIES) or settings.tries,
        ages=ages_of(arguments, settings),
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


def lock_name(client: RegistryClient, tag: Reference) -> str:
    """Name the lock of a tag by where the client connects, not by the host in the reference."""
    return str(evolve(tag, host=client.session(tag).host))


def writer_of(
    arguments: Namespace, settings: Settings, client: RegistryClient, options: StepOptions
) -> Writer:
    """Make what writes tags, with records and the history where these are wanted."""
    audit = arguments.audit or settings.audit
    return Writer(
        client,
        options,
        AuditDirectory(audit) if audit else None,
        TagHistory(client, arguments.quay_api_token) if arguments.quay_api_token else None,
    )


def split(option: str, values: Sequence[str]) -> list[str]:
    """Split values at commas."""
    parts = [part.strip() for value in values for part in value.split(",") if part.strip()]
    if values and not parts:  # perhaps a variable of a script that is empty by mistake
        raise ValueError(f"{option} names nothing")
    return parts


def reference_of(text: str, login: Login) -> Reference:
    """Parse a reference, whose host may be left out with --quay-host."""
    reference = Reference.parse(text)
    if not reference.host and not login.host:
        raise InvalidReference(text, "it names no host; add it, or give --quay-host")
    return reference


def tag_of(text: str, login: Login) -> Reference:
    """Parse the reference of a destination."""
    reference = reference_of(text, login)
    if reference.digest:
        raise InvalidReference(text, "a destination must be a tag, not a digest")
    return reference


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
    logins = login_of(arguments, "source"), login_of(arguments, "dest")
    settings = settings_of_environment()
    policy = policy_of(arguments, settings.policy)
    threads = _number("--threads", arguments.threads, _MOST_THREADS) or 1
    output = report_output(arguments)
    if arguments.batch is not None:
        if arguments.source_ref or arguments.dest_ref or arguments.arch:
            raise ValueError("--batch: its lines name sources, destinations and architectures")
        merges = _Merges.of(arguments, settings, policy, logins)
        jobs, total = merges.jobs_of(_open_batch(arguments.batch)), None
    else:
        if not arguments.source_ref or not arguments.dest_ref:
            raise ValueError("--source-ref and --dest-ref are needed, or --batch")
        source = reference_of(arguments.source_ref, logins[0])
        tags = [tag_of(text, logins[1]) for text in split("--dest-ref", arguments.dest_ref)]
        merges = _Merges.of(arguments, settings, policy, logins, tags)
        jobs = ((str(tag), partial(merges.merge, source, tag, policy)) for tag in tags)
        total = len(tags)
        threads = min(threads, total)
    options = RunOptions(
        debug=arguments.debug > 0,
        threads=threads,
        fail_fast=arguments.fail_fast,
        total=total,
        watch=unwatched if total == 1 else merges.display.counted,
    )
    return partial(run_jobs, jobs, output, options)


def _open_batch(name: str) -> TextIO:
    if name == "-":
        return sys.stdin
    try:
        return Path(name).open(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise ValueError(f"--batch: {name}: {error.strerror}") from error


@frozen(kw_only=True)
class _Merges:
    """The merges of one call of the program."""

    step: Step
    writer: RegistryClient
    policy: Policy
    logins: tuple[Login, Login]
    lock: str | None
    display: Display

    @classmethod
    def of(
        cls,
        arguments: Namespace,
        settings: Settings,
        policy: Policy,
        logins: tuple[Login, Login],
        tags: Iterable[Reference] = (),
    ) -> _Merges:
        """Connect; one client for both sides needs one token and one pool of connections."""
        anchor = anchor_tag_of(arguments, settings, tags)
        step_options = step_options_of(arguments, settings, policy, anchor)
        options = connection_of(arguments)
        reader = logins[0].client(options)
        writer = reader if logins[0] == logins[1] else logins[1].client(options)
        display = Display()
        children = Children(reader, writer, arguments.copy or settings.copy, watch=display.counted)
        tag_writer = writer_of(arguments, settings, writer, step_options)
        return cls(
            step=Step(reader, writer, step_options, children, tag_writer),
            writer=writer,
            policy=policy,
            logins=logins,
            lock=lock_of(arguments, settings),
            display=display,
        )

    def merge(self, source: Reference, destination: Reference, policy: Policy) -> Report:
        with lock_tag(lock_name(self.writer, destination), self.lock) as check:
            report = self.step.merge(source, destination, check, policy)
        if report.changed and not report.dry_run:
            announce(report)
        return report

    def jobs_of(self, batch: TextIO) -> Iterator[tuple[str, Callable[[], Report]]]:
        """Make a job of each line that is not empty; for an invalid line, one that fails."""
        with batch:
            for number, text in enumerate(batch, start=1):
                if text.strip():
                    yield self._job_of(f"line {number}", text)

    def _job_of(self, name: str, text: str) -> tuple[str, Callable[[], Report]]:
        try:
            line = BatchLine.parse(text)
        except ValueError as error:
            return name, partial(_refuse, name, error)
        return f"{name}: {line.destination}", partial(self._merge_line, name, line)

    def _merge_line(self, name: str, line: BatchLine) -> Report:
        try:
            source = reference_of(line.source, self.logins[0])
            destination = tag_of(line.destination, self.logins[1])
            policy = evolve(self.policy, eligible=line.archs)
        except ValueError as error:
            _refuse(name, error)
        return self.merge(source, destination, policy)


def _refuse(name: str, error: ValueError) -> NoReturn:
    raise ValueError(f"{name}: {error}") from error


def prepare_remove_archs(arguments: Namespace) -> Callable[[], bool]:
    """Prepare the removal of architectures from a tag."""
    connection = connection_of(arguments)
    login = login_of(arguments, "dest")
    reference = tag_of(arguments.ref, login)
    patterns = tuple(PlatformPattern.named(text) for text in split("--arch", arguments.arch))
    if not patterns and not arguments.prune:
        raise ValueError("--arch or --prune is needed")
    settings = settings_of_environment()
    step_options = step_options_of(arguments, settings)
    client = login.client(connection)
    writer = writer_of(arguments, settings, client, step_options)
    url = lock_of(arguments, settings)

    def remove() -> Report:
        with lock_tag(lock_name(client, reference), url) as check:
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

    options = RunOptions(debug=arguments.debug > 0)
    return partial(run_jobs, [(str(reference), remove)], report_output(arguments), options)


def prepare_restore(arguments: Namespace) -> Callable[[], bool]:
    """Prepare to restore tags; every record is read before the first tag is written."""
    connection = connection_of(arguments)
    login = login_of(arguments, "dest")
    changes = [_read_change(file, login) for file in arguments.records]
    settings = settings_of_environment()
    client = login.client(connection)
    recorder = AuditDirectory(settings.audit) if settings.audit else None

    def restore_tag(change: Change) -> Report:
        with lock_tag(lock_name(client, change.destination), settings.lock) as check:
            return restore(
                client,
                change,
                force=arguments.force,
                dry_run=arguments.dry_run,
                recorder=recorder,
                check=check,
            )

    jobs = [(str(change.destination), partial(restore_tag, change)) for change in changes]
    options = RunOptions(debug=arguments.debug > 0)
    return partial(run_jobs, jobs, report_output(arguments), options)


def _read_change(file: str, login: Login) -> Change:
    change = read_change(file)
    if not change.destination.host and not login.host:
        raise InvalidRecord(file, "its tag names no host; give --quay-host")
    return change


def prepare_inspect(arguments: Namespace) -> Callable[[], bool]:
    """Prepare to show an index, or how two of them compare."""
    connection = connection_of(arguments)
    login = login_of(arguments, "source")
    reference = reference_of(arguments.reference, login)
    client = login.client(connection)
    options = RunOptions(debug=arguments.debug > 0)
    if arguments.other is not None:
        if arguments.ages or arguments.check or arguments.output == "json":
            raise ValueError("--ages, --check and --output json are for one reference")
        references = reference, reference_of(arguments.other, login)
        job = partial(_compare, client, *references)
        return partial(run_jobs, [(str(reference), job)], Output(comparison_text), options)
    incomplete: list[Inspection] = []

    def look() -> Inspection:
        index = client.pull_index(reference)
        ages, missing = None, None
        if arguments.ages:
            ages = Ages(client, AgeRule(shown=True)).read(reference, index.manifests)
        if arguments.check:
            missing = _missing(client, reference, index)
        found = inspect(str(reference), index, ages, missing)
        if found.lacks_something:
            LOG.error("%s lists what is not in the repository", reference)
            incomplete.append(found)
        return found

    output = Output(inspection_to_json if arguments.output == "json" else inspection_text)
    return lambda: run_jobs([(str(reference), look)], output, options) and not incomplete


def _compare(client: RegistryClient, a: Reference, b: Reference) -> Comparison:
    return compare((str(a), str(b)), (client.pull_index(a), client.pull_index(b)))


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
