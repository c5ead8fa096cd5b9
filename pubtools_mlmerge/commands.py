"""What the console scripts do, once their arguments are parsed.

Each command is prepared first, where wrong arguments come to light as ValueError, and then run.
"""

from __future__ import annotations

import logging
import traceback
from argparse import Namespace
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import urllib3
from attrs import frozen

from pubtools_mlmerge.anchors import AnchorTag
from pubtools_mlmerge.children import Children
from pubtools_mlmerge.client import RegistryClient
from pubtools_mlmerge.errors import InvalidReference
from pubtools_mlmerge.exchange import Options
from pubtools_mlmerge.outcome import MergeReport
from pubtools_mlmerge.plan import Policy
from pubtools_mlmerge.planned import StepOptions
from pubtools_mlmerge.platforms import PlatformPattern
from pubtools_mlmerge.references import Reference
from pubtools_mlmerge.removal import remove_platforms
from pubtools_mlmerge.report import inspect_json, inspect_text, to_json, to_text
from pubtools_mlmerge.step import Step

LOG = logging.getLogger("pubtools.mlmerge")


@frozen
class _Login:
    """Where to connect, and as whom."""

    host: str | None
    username: str | None
    password: str | None

    def client(self, options: Options) -> RegistryClient:
        """Connect."""
        return RegistryClient(self.username, self.password, self.host, options)


def prepare_merge(arguments: Namespace) -> Callable[[], bool]:
    """Prepare the merge of one source into its destinations.

    Args:
        arguments (Namespace):
            Arguments as parsed.

    Returns:
        Callable[[], bool]: Runs it, and tells whether all went well.

    Raises:
        ValueError: When an argument is wrong.
    """
    options = _connection(arguments)
    from_login = _login(arguments, "source", arguments.source_quay_host or arguments.quay_host)
    to_login = _login(arguments, "dest", arguments.quay_host)
    source = _reference(arguments.source_ref, from_login)
    destinations = [_tag(text, to_login) for text in _split(arguments.dest_ref)]
    step_options = StepOptions(
        policy=Policy(
            match=arguments.match,
            eligible=None if arguments.arch is None else _split(arguments.arch),
            keep=_split(arguments.keep),
            drop=_split(arguments.drop),
            mixed_types=arguments.mixed_types,
            single_image=arguments.single_image,
        ),
        dry_run=arguments.dry_run,
        anchor_tag=AnchorTag.parse(arguments.anchor_tag) if arguments.anchor_tag else None,
    )
    reader = from_login.client(options)
    # One client for both sides asks for one token, and keeps one pool of connections.
    writer = reader if from_login == to_login else to_login.client(options)
    step = Step(reader, writer, step_options, Children(reader, writer, arguments.copy))
    write = _writer(arguments)
    jobs = [partial(_merge_one, step, source, destination, write) for destination in destinations]
    return partial(_all_succeed, jobs, debug=arguments.debug > 0)


def prepare_remove_archs(arguments: Namespace) -> Callable[[], bool]:
    """Prepare the removal of architectures from a tag.

    Args:
        arguments (Namespace):
            Arguments as parsed.

    Returns:
        Callable[[], bool]: Runs it, and tells whether all went well.

    Raises:
        ValueError: When an argument is wrong.
    """
    options = _connection(arguments)
    login = _login(arguments, "dest", arguments.quay_host)
    reference = _tag(arguments.ref, login)
    patterns = tuple(PlatformPattern.parse(text) for text in _split(arguments.arch))
    client, write = login.client(options), _writer(arguments)

    def run() -> None:
        report = remove_platforms(
            client,
            reference,
            patterns,
            allow_empty=arguments.allow_empty,
            dry_run=arguments.dry_run,
        )
        for name in report.missing:
            LOG.warning("%s has no %s", reference, name)
        write(report)

    return partial(_all_succeed, [run], debug=arguments.debug > 0)


def prepare_inspect(arguments: Namespace) -> Callable[[], bool]:
    """Prepare the display of an index.

    Args:
        arguments (Namespace):
            Arguments as parsed.

    Returns:
        Callable[[], bool]: Runs it, and tells whether all went well.

    Raises:
        ValueError: When an argument is wrong.
    """
    options = _connection(arguments)
    login = _login(arguments, "source", arguments.source_quay_host or arguments.quay_host)
    reference = _reference(arguments.reference, login)
    client = login.client(options)
    render = inspect_json if arguments.output == "json" else inspect_text

    def run() -> None:
        _print(render(str(reference), client.pull_index(reference)))

    return partial(_all_succeed, [run], debug=arguments.debug > 0)


def _merge_one(
    step: Step, source: Reference, destination: Reference, write: Callable[[MergeReport], None]
) -> None:
    write(step.merge(source, destination))


def _all_succeed(jobs: Iterable[Callable[[], None]], *, debug: bool) -> bool:
    """Do each job, whatever became of those before it."""
    succeeded = True
    for job in jobs:
        try:
            job()
        except Exception as error:  # noqa: BLE001 - the last line of defence of a program
            succeeded = False
            if debug:
                traceback.print_exc()
            LOG.error("%s", str(error) or type(error).__name__)  # noqa: TRY400 - unless asked for
    return succeeded


def _connection(arguments: Namespace) -> Options:
    bundle = arguments.ca_bundle
    if bundle is not None and not Path(bundle).is_file():
        raise ValueError(f"--ca-bundle: there is no file {bundle}")
    if arguments.insecure:
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    return Options(ca_bundle=bundle, insecure=arguments.insecure)


def _login(arguments: Namespace, side: str, host: str | None) -> _Login:
    username = getattr(arguments, f"{side}_quay_user")
    password = getattr(arguments, f"{side}_quay_password")
    if username and not password:
        variable = f"{side.upper()}_QUAY_PASSWORD"
        raise ValueError(f"--{side}-quay-user needs a password: set {variable}")
    # A password that only the environment offers, without a user, is for another program.
    return _Login(host, username, password if username else None)


def _split(values: Iterable[str]) -> list[str]:
    return [part for value in values for part in value.split(",") if part]


def _reference(text: str, login: _Login) -> Reference:
    reference = Reference.parse(text)
    if not reference.host and not login.host:
        raise InvalidReference(text, "it names no host; add it, or give --quay-host")
    return reference


def _tag(text: str, login: _Login) -> Reference:
    reference = _reference(text, login)
    if reference.digest:
        raise InvalidReference(text, "a destination must be a tag, not a digest")
    return reference


def _writer(arguments: Namespace) -> Callable[[MergeReport], None]:
    render = to_json if arguments.output == "json" else to_text

    def write(report: MergeReport) -> None:
        _print(render(report))

    return write


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - the output of a program
