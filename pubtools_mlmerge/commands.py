"""What all console scripts have in common: jobs are done, and what comes of them is told.

Each command is prepared first, where wrong arguments come to light as ValueError, and then run.
"""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable, Iterable
from functools import partial

from attrs import frozen

from pubtools_mlmerge.concurrency import map_in_order
from pubtools_mlmerge.outputs import Item, Output
from pubtools_mlmerge.reports.terminal import Display

LOG = logging.getLogger("pubtools.mlmerge")


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
