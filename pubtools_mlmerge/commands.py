"""What the console scripts do, once their arguments are parsed.

Each command is prepared first, where wrong arguments come to light as ValueError, and then run.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import traceback
from argparse import Namespace
from collections.abc import Callable, Iterable
from functools import partial

from pubtools_mlmerge.arguments import (
    connection_of,
    lock_name,
    lock_of,
    login_of,
    reference_of,
    split,
    step_options_of,
    tag_of,
    writer_of,
)
from pubtools_mlmerge.calls import lock_tag
from pubtools_mlmerge.outcome import MergeReport
from pubtools_mlmerge.platforms import PlatformPattern
from pubtools_mlmerge.progress import watched
from pubtools_mlmerge.removal import remove_platforms
from pubtools_mlmerge.report import inspect_json, inspect_text, to_json, to_text
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
    url, render = lock_of(arguments, settings), renderer_of(arguments.output)

    def run() -> str:
        with lock_tag(lock_name(client, reference), url) as check:
            report = remove_platforms(
                writer, reference, patterns, allow_empty=arguments.allow_empty, check=check
            )
        for name in report.missing:
            LOG.warning("%s has no %s", reference, name)
        return render(report)

    return partial(all_succeed, [run], debug=arguments.debug > 0)


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

    def run() -> str:
        return render(str(reference), client.pull_index(reference))

    return partial(all_succeed, [run], debug=arguments.debug > 0)


def all_succeed(
    jobs: Iterable[Callable[[], str]],
    *,
    debug: bool,
    threads: int = 1,
    fail_fast: bool = False,
    total: int | None = 1,
) -> bool:
    """Do jobs, and print what they return in their order.

    Args:
        jobs (Iterable[Callable[[], str]]):
            The jobs.
        debug (bool):
            Whether a failure is logged with its traceback.
        threads (int):
            How many are done at a time.
        fail_fast (bool):
            Whether none is begun any more once one failed.
        total (int | None):
            How many jobs there are; none if nobody knows.

    Returns:
        bool: False if one failed.
    """
    failed = threading.Event()

    def attempt(job: Callable[[], str]) -> str | Exception | None:
        if fail_fast and failed.is_set():
            return None
        try:
            return job()
        except Exception as error:  # noqa: BLE001 - the last line of defence of a program
            failed.set()
            return error

    outcomes = in_order((partial(attempt, job) for job in jobs), threads)
    for outcome in outcomes if total == 1 else watched(outcomes, total):
        failure = outcome if isinstance(outcome, Exception) else None
        if isinstance(outcome, str):
            try:
                _print(outcome)
            except Exception as error:  # noqa: BLE001 - as above
                failure = error
        if failure is not None:
            failed.set()
            if debug:
                traceback.print_exception(type(failure), failure, failure.__traceback__)
            LOG.error("%s", str(failure) or type(failure).__name__)
    return not failed.is_set()


def renderer_of(output: str) -> Callable[[MergeReport], str]:
    """Choose how reports are written.

    Args:
        output (str):
            ``json`` or ``text``.

    Returns:
        Callable[[MergeReport], str]: Writes a report.
    """
    return to_json if output == "json" else to_text


def _print(text: str) -> None:
    try:
        print(text, flush=True)  # noqa: T201 - the output of a program
    except BrokenPipeError:
        # The reader has seen enough. What is left to do is done, and not told to anyone.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
