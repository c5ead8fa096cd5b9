"""Calls of the hooks that others may implement."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from contextvars import copy_context
from functools import partial
from traceback import walk_tb
from types import TracebackType

from attrs import field, frozen
from pubtools.pluggy import pm

import pubtools_mlmerge.hookspecs  # noqa: F401 - without the plugin, this alone adds our hooks
from pubtools_mlmerge.concurrency import SLICE, STOP
from pubtools_mlmerge.core.plan import Report
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import LockFailed, MergeError, OutOfTime, brief
from pubtools_mlmerge.locks import lock_name, no_lock, tag_lock
from pubtools_mlmerge.registry.client import RegistryClient

LOG = logging.getLogger("pubtools.mlmerge")


@contextmanager
def plugins_named(hook: str) -> Iterator[None]:
    """Log which plugin failed in a hook; the error goes on."""
    try:
        yield
    except MergeError:
        raise
    except Exception as error:
        plugin = _plugin_at_fault(hook, error)
        if plugin:
            LOG.error("%s of the plugin %s failed: %s", hook, plugin, _describe(error))  # noqa: TRY400 - who catches it shows the rest
        raise


def _plugin_at_fault(hook: str, error: Exception) -> str:
    """Name the plugin that raised; for a lock that was returned before, all that may have."""
    names = {
        getattr(each.function, "__code__", None): each.plugin_name
        for each in getattr(pm.hook, hook).get_hookimpls()
    }
    frames = [frame.f_code for frame, _ in walk_tb(error.__traceback__)]
    raised = [names[code] for code in frames if code in names]
    others = [name for name in names.values() if name != "pubtools_mlmerge.plugin"]
    found = raised[-1] if raised else ", ".join(others)
    return "" if found == "pubtools_mlmerge.plugin" else found


def _describe(error: Exception) -> str:
    return brief(f"{type(error).__name__}: {error}")


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
    tags = {lock_name(tag, aliases): tag for group in groups for tag in group}
    checks: dict[str, Callable[[], None]] = {}
    with ExitStack() as locks:
        for name, tag in sorted(tags.items()):
            with plugins_named("mlmerge_lock"):
                site: AbstractContextManager[object] | None = pm.hook.mlmerge_lock(reference=name)
            left = max(0.0, end - time.monotonic())
            if site is None:
                lock: AbstractContextManager[object] = tag_lock(tag, url, left, aliases)
            else:
                lock = site if wait == math.inf else _in_time(site, name, left)
            with nullcontext() if site is None else plugins_named("mlmerge_lock"):
                held = lock.__enter__()
            locks.push(partial(_release, tag, lock))
            locks.enter_context(STOP.releasing(partial(lock.__exit__, None, None, None)))
            checks[name] = getattr(held, "check", no_lock)
        yield [
            partial(_check_all, [checks[lock_name(tag, aliases)] for tag in group])
            for group in groups
        ]


def _release(
    tag: str,
    lock: AbstractContextManager[object],
    kind: type[BaseException] | None,
    failure: BaseException | None,
    trace: TracebackType | None,
) -> None:
    """Release a lock; what failed under it still failed, and what fails now is a warning."""
    try:
        lock.__exit__(kind, failure, trace)
    except Exception as error:  # noqa: BLE001 - a site's lock may raise anything
        if error is not failure:
            LOG.warning("%s: the lock of this tag was not released: %s", tag, _describe(error))


def _check_all(checks: Iterable[Callable[[], None]]) -> None:
    with plugins_named("mlmerge_lock"):
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


def announce(report: Report, *, in_host: bool = False) -> None:
    """Announce that a merged index was uploaded, by our hook and by the host's.

    What fails then is a warning, as the tag is written. But in the host a failure of the host's
    own hook fails the task, as it does without us.
    """
    _fire("mlmerge_merged", report=report)
    if not hasattr(pm.hook, "quay_images_tagged"):  # there is none without the host
        return
    for source in report.sources:
        names = {"source_ref": str(source), "dest_refs": [str(report.destination)]}
        if in_host:
            pm.hook.quay_images_tagged(**names)
        else:
            _fire("quay_images_tagged", **names)


def _fire(hook: str, **arguments: object) -> None:
    try:
        getattr(pm.hook, hook)(**arguments)
    except Exception as error:
        plugin = _plugin_at_fault(hook, error)
        LOG.warning(
            "%s of the plugin %s failed, after the tag was written: %s",
            *(hook, plugin, _describe(error)),
            exc_info=LOG.isEnabledFor(logging.DEBUG),
        )
