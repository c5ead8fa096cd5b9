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
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Generic, NoReturn, TypeVar

import urllib3
from attrs import define, evolve, field, frozen

from pubtools_mlmerge.concurrency import map_in_order
from pubtools_mlmerge.core.ages import MOST_DAYS, AgeRule
from pubtools_mlmerge.core.manifests import Index
from pubtools_mlmerge.core.plan import Age, Policy, Report
from pubtools_mlmerge.core.platforms import PlatformPattern
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.core.strict_json import decode
from pubtools_mlmerge.errors import InvalidRecord, InvalidReference
from pubtools_mlmerge.hooks import announce, lock_tag
from pubtools_mlmerge.host.seams import PREFIX
from pubtools_mlmerge.locks import check_url
from pubtools_mlmerge.merging.audit import AuditDirectory, Change, Recorder, read_change
from pubtools_mlmerge.merging.decision import AnchorTag, StepOptions
from pubtools_mlmerge.merging.image_ages import Ages
from pubtools_mlmerge.merging.restore import restore
from pubtools_mlmerge.merging.step import Step, remove_platforms
from pubtools_mlmerge.merging.writer import Writer
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.registry.copying import Children
from pubtools_mlmerge.registry.http import Address, ConnectOptions
from pubtools_mlmerge.registry.quay_history import TagHistory
from pubtools_mlmerge.reports.html import Failure, PageInfo
from pubtools_mlmerge.reports.inspection import (
    Difference,
    Inspection,
    compare,
    difference_to_json,
    inspect,
    inspection_to_json,
)
from pubtools_mlmerge.reports.report import to_json
from pubtools_mlmerge.reports.terminal import Display, difference_text, inspection_text, text_of
from pubtools_mlmerge.settings import MOST_TRIES, Settings

if TYPE_CHECKING:
    from pubtools_mlmerge.reports.html import Failure, Page, PageInfo


@frozen
class Login:
    """Where to connect, and as whom."""

    host: str | None
    username: str | None
    password: str | None = field(repr=False)
    place: str = field(default="", eq=False)

    def client(self, options: ConnectOptions) -> RegistryClient:
        """Connect."""
        return RegistryClient(
            self.username, self.password, self.host, options, login_from=self.place
        )


def policy_of(arguments: Namespace, default: Policy) -> Policy:
    """Let arguments win over the environment."""
    return Policy(
        match=arguments.match or default.match,
        eligible=None if arguments.arch is None else split("--arch", arguments.arch),
        keep=split("--keep", arguments.keep) or default.keep,
        drop=split("--drop", arguments.drop) or default.drop,
        mixed_types=arguments.mixed_types or default.mixed_types,
        single_image=arguments.single_image or default.single_image,
    )


def anchor_tag_of(
    arguments: Namespace, settings: Settings, destinations: Iterable[Reference]
) -> AnchorTag | None:
    """Take the template that is given, and make sure now that it will fit each destination."""
    anchor = None
    if arguments.anchor_tag:
        anchor = AnchorTag.parse(arguments.anchor_tag)
    elif f"{PREFIX}ANCHOR_TAG" in os.environ:  # the default of the host's pushes is none here
        anchor = settings.anchor_tag
    if anchor is not None:
        for destination in destinations:
            anchor.apply(destination, f"sha256:{'0' * 64}")
    return anchor


def step_options_of(
    arguments: Namespace,
    settings: Settings,
    policy: Policy | None = None,
    anchor_tag: AnchorTag | None = None,
) -> StepOptions:
    """Take how to write, arguments before the environment."""
    tries = settings.tries if arguments.tries is None else arguments.tries
    if not 1 <= tries <= MOST_TRIES:
        raise ValueError(f"--tries: expected a number from 1 to {MOST_TRIES}")
    return StepOptions(
        policy=policy or Policy(),
        dry_run=arguments.dry_run,
        anchor_tag=anchor_tag,
        verify=settings.verify if arguments.verify is None else arguments.verify,
        tries=tries,
        ages=ages_of(arguments, settings),
    )


def ages_of(arguments: Namespace, settings: Settings) -> AgeRule:
    """Take what is asked about ages, arguments before the environment."""
    if "max_age_days" not in arguments:  # no merge, so nothing is kept for want of a newer one
        return AgeRule()
    days = settings.max_age_days if arguments.max_age_days is None else arguments.max_age_days
    if days is None and arguments.stale:
        raise ValueError("--stale needs --max-age-days")
    if days is not None and not 1 <= days <= MOST_DAYS:
        raise ValueError(f"--max-age-days: expected a number from 1 to {MOST_DAYS}")
    stale = arguments.stale or settings.stale
    return AgeRule(max_age_days=days, stale=stale, shown=arguments.ages)


def lock_name(client: RegistryClient, tag: Reference) -> str:
    """Name the lock of a tag by where it really is, however its reference says so."""
    return str(evolve(tag, host=client.session(tag).host))


def lock_of(arguments: Namespace, settings: Settings) -> str | None:
    """Take where tags are locked."""
    if arguments.lock is None:
        return settings.lock
    if arguments.lock:
        check_url(arguments.lock)
    return str(arguments.lock) or None


def writer_of(
    arguments: Namespace, settings: Settings, client: RegistryClient, options: StepOptions
) -> Writer:
    """Make what writes tags, with the records and the history that are asked for."""
    audit = arguments.audit or settings.audit
    return Writer(
        client,
        options,
        AuditDirectory(audit) if audit else None,
        TagHistory(client, arguments.quay_api_token) if arguments.quay_api_token else None,
    )


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


def login_of(arguments: Namespace, side: str, host: str | None) -> Login:
    """Read where to connect for one side, and as whom."""
    username = getattr(arguments, f"{side}_quay_user")
    password = getattr(arguments, f"{side}_quay_password")
    variable = f"{side.upper()}_QUAY_PASSWORD"
    if username and not password:
        raise ValueError(f"--{side}-quay-user needs a password: set {variable}")
    if host:
        Address.parse(host)  # a malformed one is wrong usage, not a failure of a request
    is_exported = password == os.environ.get(variable)
    origin = f"the environment variable {variable}" if is_exported else f"--{side}-quay-password"
    place = f"--{side}-quay-user and {origin}"
    # A password that only the environment offers, without a user, is for another program.
    return Login(host, username, password if username else None, place)


def split(option: str, values: Sequence[str]) -> list[str]:
    """Take values apart that are separated by commas."""
    parts = [part.strip() for value in values for part in value.split(",") if part.strip()]
    if values and not parts:  # a script may pass on a variable that is empty by mistake
        raise ValueError(f"{option} names nothing")
    return parts


def reference_of(text: str, login: Login) -> Reference:
    """Read a reference; its host may be left out where another one is given."""
    reference = Reference.parse(text)
    if not reference.host and not login.host:
        raise InvalidReference(text, "it names no host; add it, or give --quay-host")
    return reference


def tag_of(text: str, login: Login) -> Reference:
    """Read the reference of a destination."""
    reference = reference_of(text, login)
    if reference.digest:
        raise InvalidReference(text, "a destination must be a tag, not a digest")
    return reference


Item = TypeVar("Item")


@frozen(eq=False, repr=False)
class Output(Generic[Item]):
    """Prints results, and writes a page in the end if one is asked for.

    Attributes:
        render (Callable[[object], str]):
            Writes a result as text.
        page (Page | None):
            The page; none for none.
    """

    render: Callable[[Item], str]
    page: Page[Item] | None = None

    def tell(self, item: Item) -> None:
        """Print a result, unless the page goes there."""
        if self.page is not None:
            self.page.note(item)
        if self.page is None or self.page.file is not None:
            _print(self.render(item))

    def fail(self, name: str, error: Exception) -> None:
        """Note a failure for the page; the log has it, too."""
        if self.page is not None:
            self.page.note_failure(name, error)

    def close(self, *, complete: bool) -> None:
        """Write the page."""
        if self.page is None:
            return
        page = self.page.made(complete=complete)
        if self.page.file is None:
            _print(page)
        else:
            self.page.file.write(page)


def output_of_reports(arguments: Namespace) -> Output[Report]:
    """Choose how reports are written."""
    return Output(renderer_of(arguments.output), page_of(arguments, _merge_page))


def page_of(
    arguments: Namespace, make: Callable[[Sequence[Item | Failure], PageInfo], str]
) -> Page[Item] | None:
    """Tell where a page goes."""
    name = arguments.output_file
    if name is None:
        return None
    from pubtools_mlmerge.reports.html import Page, PageFile  # noqa: PLC0415 - see above

    return Page(None if name == "-" else PageFile.at(name), make)


def renderer_of(output: str) -> Callable[[Report], str]:
    """Choose how reports are printed."""
    return to_json if output == "json" else text_of


def _merge_page(told: Sequence[Report | Failure], making: PageInfo) -> str:
    # Many modules, for what is seldom asked for.
    from pubtools_mlmerge.reports.html import merge_page  # noqa: PLC0415

    return merge_page(told, making)


def _print(text: str) -> None:
    try:
        print(text, flush=True)  # noqa: T201 - the output of a program
    except BrokenPipeError:
        # The reader has seen enough. What is left to do is done, and not told to anyone.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


LOG = logging.getLogger("pubtools.mlmerge")


@frozen(kw_only=True, eq=False, repr=False)
class RunOptions:
    """How jobs are done.

    Attributes:
        debug (bool):
            Whether a failure is logged with its traceback.
        threads (int):
            How many are done at a time.
        fail_fast (bool):
            Whether none is begun any more once one failed.
        total (int | None):
            How many jobs there are; none if nobody knows.
        display (Display | None):
            Where it is shown how many are done; none for nowhere.
    """

    debug: bool
    threads: int = 1
    fail_fast: bool = False
    total: int | None = 1
    display: Display | None = None


def all_succeed(
    jobs: Iterable[tuple[str, Callable[[], Item]]], output: Output[Item], manner: RunOptions
) -> bool:
    """Do jobs, and tell what they return in their order."""
    failed = threading.Event()

    def attempt(name: str, job: Callable[[], Item]) -> tuple[str, Item | Exception] | None:
        if manner.fail_fast and failed.is_set():
            return None
        try:
            return name, job()
        except Exception as error:  # noqa: BLE001 - the last line of defence of a program
            failed.set()
            return name, error

    outcomes: Iterable[tuple[str, Item | Exception] | None]
    outcomes = map_in_order((partial(attempt, *job) for job in jobs), manner.threads)
    complete = False
    try:
        if manner.display is not None and manner.total != 1:
            outcomes = manner.display.watched(outcomes, manner.total)
        for outcome in outcomes:
            if outcome is not None and not _tell(output, *outcome, debug=manner.debug):
                failed.set()
        complete = True
    finally:  # after Ctrl-C as well, as what is done should be known
        if not _close(output, complete=complete):
            failed.set()
    return not failed.is_set()


def _tell(output: Output[Item], name: str, outcome: Item | Exception, *, debug: bool) -> bool:
    failure = outcome if isinstance(outcome, Exception) else _failure_of(output, outcome)
    if failure is None:
        return True
    if debug:
        traceback.print_exception(type(failure), failure, failure.__traceback__)
    LOG.error("%s", str(failure) or type(failure).__name__)
    output.fail(name, failure)
    return False


def _failure_of(output: Output[Item], item: Item) -> Exception | None:
    try:
        output.tell(item)
    except Exception as error:  # noqa: BLE001 - as above
        return error
    return None


def _close(output: Output[Item], *, complete: bool) -> bool:
    try:
        output.close(complete=complete)
    except OSError as error:
        LOG.error("The page cannot be written: %s", error.strerror or error)  # noqa: TRY400 - no defect
        return False
    return True


_KEYS = ("source_ref", "dest_ref", "archs")


@frozen
class BatchLine:
    """What a line asks for.

    Attributes:
        source (str):
            Reference of the source.
        destination (str):
            Reference of the tag.
        archs (tuple[str, ...] | None):
            What to take of the source; none for all of it.
    """

    source: str
    destination: str
    archs: tuple[str, ...] | None = None

    @classmethod
    def parse(cls, text: str) -> BatchLine:
        """Read a line."""
        fields = decode(text.encode("utf-8", "surrogateescape"))
        unknown = sorted(fields.keys() - set(_KEYS))
        if unknown:
            raise ValueError(f"{unknown[0]}: unknown, there are {', '.join(_KEYS)}")
        source, destination = fields.get("source_ref"), fields.get("dest_ref")
        if not (isinstance(source, str) and isinstance(destination, str)):
            raise ValueError("source_ref, dest_ref: expected texts")  # noqa: TRY004 - a wrong line
        archs = fields.get("archs")
        if archs is None:
            return cls(source, destination)
        if not isinstance(archs, list) or not archs or not all(isinstance(a, str) for a in archs):
            raise ValueError("archs: expected a list of texts")
        return cls(source, destination, tuple(archs))


def numbered(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Number the lines that hold anything."""
    for number, text in enumerate(lines, start=1):
        if text.strip():
            yield number, text


_MOST_THREADS = 100


def prepare_merge(arguments: Namespace) -> Callable[[], bool]:
    """Prepare the merge of one source into its destinations, or of a batch."""
    from_login = login_of(arguments, "source", arguments.source_quay_host or arguments.quay_host)
    to_login = login_of(arguments, "dest", arguments.quay_host)
    settings = Settings.from_task({}, os.environ)
    policy = policy_of(arguments, settings.policy)
    if not 1 <= arguments.threads <= _MOST_THREADS:
        raise ValueError(f"--threads: expected a number from 1 to {_MOST_THREADS}")
    output = output_of_reports(arguments)
    manner = RunOptions(
        debug=arguments.debug > 0, threads=arguments.threads, fail_fast=arguments.fail_fast
    )
    if arguments.batch is not None:
        if arguments.source_ref or arguments.dest_ref or arguments.arch:
            raise ValueError("--batch: source, destination and architectures stand in its lines")
        lines = _lines_of(arguments.batch)
        merging = _merging(arguments, settings, policy, (from_login, to_login), ())
        manner = evolve(manner, total=None, display=merging.display)
        return partial(all_succeed, merging.of_lines(lines), output, manner)
    if not arguments.source_ref or not arguments.dest_ref:
        raise ValueError("--source-ref and --dest-ref are needed, or --batch")
    source = reference_of(arguments.source_ref, from_login)
    tags = [tag_of(text, to_login) for text in split("--dest-ref", arguments.dest_ref)]
    merging = _merging(arguments, settings, policy, (from_login, to_login), tags)
    jobs = [(str(tag), partial(merging.merge, source, tag, policy)) for tag in tags]
    threads = min(arguments.threads, len(jobs))
    manner = evolve(manner, threads=threads, total=len(jobs), display=merging.display)
    return partial(all_succeed, jobs, output, manner)


@frozen(kw_only=True, eq=False, repr=False)
class _Merging:
    """All merges of one call of the program."""

    step: Step
    writer: RegistryClient
    policy: Policy
    logins: tuple[Login, Login]
    lock: str | None
    display: Display

    def merge(self, source: Reference, destination: Reference, policy: Policy) -> Report:
        with lock_tag(lock_name(self.writer, destination), self.lock) as check:
            report = self.step.merge(source, destination, check, policy)
        if report.changed and not report.dry_run:
            announce(report)
        return report

    def of_lines(self, lines: Iterable[str]) -> Iterator[tuple[str, Callable[[], Report]]]:
        for number, text in numbered(lines):
            name = f"line {number}"
            try:
                line = BatchLine.parse(text)
            except ValueError as error:
                yield name, partial(_refuse, name, error)
            else:
                yield f"{name}: {line.destination}", partial(self._merge_line, name, line)

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


def _merging(
    arguments: Namespace,
    settings: Settings,
    policy: Policy,
    logins: tuple[Login, Login],
    tags: Iterable[Reference],
) -> _Merging:
    """Connect; one client for both sides asks for one token, and keeps one pool of connections."""
    anchor = anchor_tag_of(arguments, settings, tags)
    step_options = step_options_of(arguments, settings, policy, anchor)
    options = connection_of(arguments)
    reader = logins[0].client(options)
    writer = reader if logins[0] == logins[1] else logins[1].client(options)
    display = Display()
    children = Children(reader, writer, arguments.copy or settings.copy, watch=display.counted)
    tag_writer = writer_of(arguments, settings, writer, step_options)
    return _Merging(
        step=Step(reader, writer, step_options, children, tag_writer),
        writer=writer,
        policy=policy,
        logins=logins,
        lock=lock_of(arguments, settings),
        display=display,
    )


def _lines_of(batch: str) -> Iterable[str]:
    """Open a batch now, so that one that is not there is wrong usage."""
    if batch == "-":
        return sys.stdin
    try:
        return Path(batch).open(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise ValueError(f"--batch: {batch}: {error.strerror}") from error


def prepare_remove_archs(arguments: Namespace) -> Callable[[], bool]:
    """Prepare the removal of architectures from a tag."""
    options = connection_of(arguments)
    login = login_of(arguments, "dest", arguments.quay_host)
    reference = tag_of(arguments.ref, login)
    patterns = tuple(PlatformPattern.parse(text) for text in split("--arch", arguments.arch))
    settings = Settings.from_task({}, os.environ)
    step_options = step_options_of(arguments, settings)
    client = login.client(options)
    writer = writer_of(arguments, settings, client, step_options)
    url = lock_of(arguments, settings)

    def run() -> Report:
        with lock_tag(lock_name(client, reference), url) as check:
            report = remove_platforms(
                writer, reference, patterns, allow_empty=arguments.allow_empty, check=check
            )
        for name in report.missing:
            LOG.warning("%s has no %s", reference, name)
        return report

    output = output_of_reports(arguments)
    manner = RunOptions(debug=arguments.debug > 0)
    return partial(all_succeed, [(str(reference), run)], output, manner)


def prepare_restore(arguments: Namespace) -> Callable[[], bool]:
    """Prepare to put tags back; every record is read before the first tag is written."""
    options = connection_of(arguments)
    login = login_of(arguments, "dest", arguments.quay_host)
    changes = [_change_in(file, login) for file in arguments.records]
    settings = Settings.from_task({}, os.environ)
    restorer = _Restorer(
        client=login.client(options),
        force=arguments.force,
        dry_run=arguments.dry_run,
        recorder=AuditDirectory(settings.audit) if settings.audit else None,
        lock=settings.lock,
    )
    jobs = [(str(c.destination), partial(restorer.restore, c)) for c in changes]
    output = output_of_reports(arguments)
    return partial(all_succeed, jobs, output, RunOptions(debug=arguments.debug > 0))


def _change_in(file: str, login: Login) -> Change:
    change = read_change(file)
    if not change.destination.host and not login.host:
        raise InvalidRecord(file, "its tag names no host; give --quay-host")
    return change


@frozen(kw_only=True, eq=False, repr=False)
class _Restorer:
    """Puts tags back, one after the other."""

    client: RegistryClient
    force: bool
    dry_run: bool
    recorder: Recorder | None
    lock: str | None

    def restore(self, change: Change) -> Report:
        with lock_tag(lock_name(self.client, change.destination), self.lock) as check:
            return restore(
                self.client,
                change,
                force=self.force,
                dry_run=self.dry_run,
                recorder=self.recorder,
                check=check,
            )


_THREADS = 8  # requests at a time


def prepare_inspect(arguments: Namespace) -> Callable[[], bool]:
    """Prepare the display of an index."""
    options = connection_of(arguments)
    login = login_of(arguments, "source", arguments.source_quay_host or arguments.quay_host)
    reference = reference_of(arguments.reference, login)
    look = _Look(login.client(options), ages=arguments.ages, check=arguments.check)
    manner, is_json = RunOptions(debug=arguments.debug > 0), arguments.output == "json"
    if arguments.other:
        other = reference_of(arguments.other, login)
        if arguments.ages or arguments.check or arguments.output == "html":
            raise ValueError("--ages, --check and --output html are for one reference")
        difference = (str(reference), partial(look.at_both, reference, other))
        told = Output(difference_to_json if is_json else difference_text)
        return partial(all_succeed, [difference], told, manner)
    inspection = (str(reference), partial(look.at, reference))
    render = inspection_to_json if is_json else inspection_text
    shown: Output[Inspection] = Output(render, page_of(arguments, _page))
    return lambda: all_succeed([inspection], shown, manner) and not look.found_a_gap


@define(eq=False, repr=False)
class _Look:
    """Looks at indexes, and remembers whether something was missing."""

    client: RegistryClient
    ages: bool
    check: bool
    found_a_gap: bool = False

    def at(self, reference: Reference) -> Inspection:
        index = self.client.pull_index(reference)
        found = inspect(
            str(reference),
            index,
            self._ages(reference, index) if self.ages else None,
            self._missing(reference, index) if self.check else None,
        )
        if found.lacks_something:
            self.found_a_gap = True
            LOG.error("%s lists what is not in the repository", reference)
        return found

    def at_both(self, a: Reference, b: Reference) -> Difference:
        indexes = self.client.pull_index(a), self.client.pull_index(b)
        return compare((str(a), str(b)), indexes)

    def _ages(self, reference: Reference, index: Index) -> dict[str, Age]:
        return Ages(self.client, AgeRule(shown=True)).read(reference, index.manifests)

    def _missing(self, reference: Reference, index: Index) -> frozenset[str]:
        """Ask for each manifest by a HEAD request, attestations too."""
        digests = tuple(dict.fromkeys(entry.digest for entry in index.manifests))
        jobs = (partial(self.client.has_manifest, reference.at(digest)) for digest in digests)
        held = map_in_order(jobs, _THREADS)
        return frozenset(digest for digest, is_there in zip(digests, held) if not is_there)


def _page(told: Sequence[Inspection | Failure], making: PageInfo) -> str:
    # Many modules, for what is seldom asked for.
    from pubtools_mlmerge.reports.html import inspection_page  # noqa: PLC0415

    return inspection_page(told, making)
