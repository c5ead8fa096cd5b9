"""What the console scripts do, once their arguments are parsed.

Each command is prepared first, where wrong arguments come to light as ValueError, and then run.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from argparse import Namespace
from collections.abc import Callable, Iterable
from functools import partial

from pubtools_mlmerge.arguments import (
    anchor_tag_of,
    connection_of,
    login_of,
    policy_of,
    reference_of,
    split,
    tag_of,
)
from pubtools_mlmerge.calls import announce, lock_tag
from pubtools_mlmerge.children import Children
from pubtools_mlmerge.outcome import MergeReport
from pubtools_mlmerge.planned import StepOptions
from pubtools_mlmerge.platforms import PlatformPattern
from pubtools_mlmerge.references import Reference
from pubtools_mlmerge.removal import remove_platforms
from pubtools_mlmerge.report import inspect_json, inspect_text, to_json, to_text
from pubtools_mlmerge.settings import Settings
from pubtools_mlmerge.step import Step

LOG = logging.getLogger("pubtools.mlmerge")


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
    options = connection_of(arguments)
    from_login = login_of(arguments, "source", arguments.source_quay_host or arguments.quay_host)
    to_login = login_of(arguments, "dest", arguments.quay_host)
    source = reference_of(arguments.source_ref, from_login)
    destinations = [tag_of(text, to_login) for text in split("--dest-ref", arguments.dest_ref)]
    settings = Settings.from_task({}, os.environ)
    step_options = StepOptions(
        policy=policy_of(arguments, settings.policy),
        dry_run=arguments.dry_run,
        anchor_tag=anchor_tag_of(arguments, settings, destinations),
    )
    reader = from_login.client(options)
    # One client for both sides asks for one token, and keeps one pool of connections.
    writer = reader if from_login == to_login else to_login.client(options)
    children = Children(reader, writer, arguments.copy or settings.copy)
    step = Step(reader, writer, step_options, children)
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
    options = connection_of(arguments)
    login = login_of(arguments, "dest", arguments.quay_host)
    reference = tag_of(arguments.ref, login)
    patterns = tuple(PlatformPattern.parse(text) for text in split("--arch", arguments.arch))
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
    options = connection_of(arguments)
    login = login_of(arguments, "source", arguments.source_quay_host or arguments.quay_host)
    reference = reference_of(arguments.reference, login)
    client = login.client(options)
    render = inspect_json if arguments.output == "json" else inspect_text

    def run() -> None:
        _print(render(str(reference), client.pull_index(reference)))

    return partial(_all_succeed, [run], debug=arguments.debug > 0)


def _merge_one(
    step: Step, source: Reference, destination: Reference, write: Callable[[MergeReport], None]
) -> None:
    with lock_tag(str(destination)):
        report = step.merge(source, destination)
    write(report)
    if report.changed and not report.dry_run:
        announce(report)


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


def _writer(arguments: Namespace) -> Callable[[MergeReport], None]:
    render = to_json if arguments.output == "json" else to_text

    def write(report: MergeReport) -> None:
        _print(render(report))

    return write


def _print(text: str) -> None:
    try:
        print(text, flush=True)  # noqa: T201 - the output of a program
    except BrokenPipeError:
        # The reader has seen enough. What is left to do is done, and not told to anyone.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
