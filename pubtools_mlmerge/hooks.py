"""Calls of the hooks that others may implement."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from contextlib import AbstractContextManager, contextmanager
from contextvars import copy_context
from functools import partial

from pubtools.pluggy import pm

import pubtools_mlmerge.hookspecs  # noqa: F401 - without the plugin, this alone adds our hooks
from pubtools_mlmerge.concurrency import SLICE, STOP
from pubtools_mlmerge.core.plan import Report
from pubtools_mlmerge.errors import LockFailed
from pubtools_mlmerge.locks import tag_lock
from pubtools_mlmerge.merging.decision import no_lock


@contextmanager
def lock_tag(
    reference: str, url: str | None = None, wait: float = math.inf
) -> Iterator[Callable[[], None]]:
    """Keep other writers away from a tag; yields the check to make before it is written."""
    lock: AbstractContextManager[object] | None = pm.hook.mlmerge_lock(reference=reference)
    if lock is None:
        lock = tag_lock(reference, url, wait)
    elif wait < math.inf:
        lock = _in_time(lock, reference, wait)
    with lock as held, STOP.releasing(partial(lock.__exit__, None, None, None)):
        check: Callable[[], None] = getattr(held, "check", no_lock)
        yield check


@contextmanager
def _in_time(site: AbstractContextManager[object], reference: str, wait: float) -> Iterator[object]:
    """Hold the lock of a site in a thread, as nothing else ends its wait.

    If it is had too late, it is let go at once.
    """
    entered, work, left = Future[object](), Future[None](), Future[None]()

    def hold() -> None:
        try:
            with site as held:
                entered.set_result(held)
                work.result()
        except BaseException as error:  # noqa: BLE001 - raised where the lock is wanted
            (left if entered.done() else entered).set_exception(error)
        else:
            left.set_result(None)

    name = f"lock of {reference}"
    threading.Thread(target=copy_context().run, args=[hold], name=name, daemon=True).start()
    try:
        held = _await(entered, reference, wait)
    except BaseException:
        work.set_result(None)
        raise
    try:
        yield held
    except BaseException as error:  # noqa: BLE001 - the lock may want to know
        work.set_exception(error)
    else:
        work.set_result(None)
    left.result()


def _await(entered: Future[object], reference: str, wait: float) -> object:
    end = time.monotonic() + wait
    while not entered.done():
        STOP.check()
        if time.monotonic() > end:
            raise LockFailed(reference, f"the site has not given it within {wait:g} seconds")
        wait_for([entered], SLICE)
    return entered.result()


def announce(report: Report) -> None:
    """Announce that a merged index was uploaded, by our hook and by the host's."""
    pm.hook.mlmerge_merged(report=report)
    tagged = getattr(pm.hook, "quay_images_tagged", None)  # there is none without the host
    if tagged is not None:
        tagged(source_ref=str(report.source), dest_refs=[str(report.destination)])
