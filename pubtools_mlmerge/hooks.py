"""Calls of the hooks that others may implement."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import copy_context
from functools import partial

from attrs import field, frozen
from pubtools.pluggy import pm

import pubtools_mlmerge.hookspecs  # noqa: F401 - without the plugin, this alone adds our hooks
from pubtools_mlmerge.concurrency import SLICE, STOP
from pubtools_mlmerge.core.plan import Report
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import LockFailed, OutOfTime
from pubtools_mlmerge.locks import lock_name, no_lock, tag_lock
from pubtools_mlmerge.registry.client import RegistryClient


@contextmanager
def lock_tags(
    groups: Sequence[Sequence[str]],
    url: str | None = None,
    aliases: Iterable[str] = (),
    wait: float = math.inf,
) -> Iterator[list[Callable[[], None]]]:
    """Keep other writers away from tags; yields what to check before each group is written.

    They are locked in the same order everywhere, so that two programs cannot deadlock.
    """
    end, aliases = time.monotonic() + wait, tuple(aliases)
    tags = {lock_name(tag, aliases): tag for group in reversed(groups) for tag in reversed(group)}
    checks: dict[str, Callable[[], None]] = {}
    with ExitStack() as locks:
        for name, tag in sorted(tags.items()):
            site: AbstractContextManager[object] | None = pm.hook.mlmerge_lock(reference=name)
            left = max(0.0, end - time.monotonic())
            if site is None:
                lock: AbstractContextManager[object] = tag_lock(tag, url, left, aliases)
            else:
                lock = site if wait == math.inf else _in_time(site, name, left)
            held = locks.enter_context(lock)
            locks.enter_context(STOP.releasing(partial(lock.__exit__, None, None, None)))
            checks[name] = getattr(held, "check", no_lock)
        yield [
            partial(_check_all, [checks[lock_name(tag, aliases)] for tag in group])
            for group in groups
        ]


def _check_all(checks: Iterable[Callable[[], None]]) -> None:
    for check in checks:
        check()


@contextmanager
def _in_time(site: AbstractContextManager[object], reference: str, wait: float) -> Iterator[object]:
    """Hold a site's lock in a thread, as its wait cannot be interrupted.

    A lock that is acquired too late is released at once.
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


@frozen
class TagLocks:
    """Where tags are locked, and the host names that are one registry."""

    url: str | None = field(default=None, repr=False)
    aliases: tuple[str, ...] = ()

    @contextmanager
    def held(self, client: RegistryClient, *tags: Reference) -> Iterator[Callable[[], None]]:
        """Lock tags, named by where the client connects, not by the host in the reference."""
        names, ends = [str(client.place(tag)) for tag in tags], client.options.ends
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
        """Name a tag or digest the same way, however its host is spelled."""
        return lock_name(str(client.place(reference)), self.aliases)


def announce(report: Report) -> None:
    """Announce that a merged index was uploaded, by our hook and by the host's."""
    pm.hook.mlmerge_merged(report=report)
    tagged = getattr(pm.hook, "quay_images_tagged", None)  # there is none without the host
    if tagged is not None:
        for source in report.sources:
            tagged(source_ref=str(source), dest_refs=[str(report.destination)])
