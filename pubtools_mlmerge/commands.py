"""What the console scripts do, once their arguments are parsed.

Each command is prepared first, where wrong arguments come to light as ValueError, and then run.
"""

from __future__ import annotations

import logging
import os
import threading
import traceback
from argparse import Namespace
from collections.abc import Callable, Iterable
from functools import partial

from attrs import frozen

from pubtools_mlmerge.arguments import (
    connection_of,
    lock_name,
    lock_of,
    login_of,
    split,
    step_options_of,
    tag_of,
    writer_of,
)
from pubtools_mlmerge.calls import lock_tag
from pubtools_mlmerge.outcome import MergeReport
from pubtools_mlmerge.outputs import Item, Output, output_of_reports
from pubtools_mlmerge.platforms import PlatformPattern
from pubtools_mlmerge.progress import Display
from pubtools_mlmerge.removal import remove_platforms
from pubtools_mlmerge.settings import Settings
from pubtools_mlmerge.side_by_side import in_order

LOG = logging.getLogger("pubtools.mlmerge")


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
    settings = Settings.from_task({}, os.environ)
    step_options = step_options_of(arguments, settings)
    client = login.client(options)
    writer = writer_of(arguments, settings, client, step_options)
    url = lock_of(arguments, settings)

    def run() -> MergeReport:
        with lock_tag(lock_name(client, reference), url) as check:
            report = remove_platforms(
                writer, reference, patterns, allow_empty=arguments.allow_empty, check=check
            )
        for name in report.missing:
            LOG.warning("%s has no %s", reference, name)
        return report

    output = output_of_reports(arguments)
    manner = Manner(debug=arguments.debug > 0)
    return partial(all_succeed, [(str(reference), run)], output, manner)


@frozen(kw_only=True, eq=False, repr=False)
class Manner:
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
    jobs: Iterable[tuple[str, Callable[[], Item]]], output: Output[Item], manner: Manner
) -> bool:
    """Do jobs, and tell what they return in their order.

    Args:
        jobs (Iterable[tuple[str, Callable[[], object]]]):
            The jobs, each with its name.
        output (Output):
            Tells it.
        manner (Manner):
            How to do them.

    Returns:
        bool: False if one failed.
    """
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
    outcomes = in_order((partial(attempt, *job) for job in jobs), manner.threads)
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
