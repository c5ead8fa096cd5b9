"""Calls of the hooks that others may implement."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial

from pubtools.pluggy import pm

import pubtools_mlmerge.hookspecs  # noqa: F401 - without the plugin, this alone adds our hooks
from pubtools_mlmerge.core.plan import Report
from pubtools_mlmerge.locks import lock_name, tag_lock


@contextmanager
def lock_tags(
    groups: Sequence[Sequence[str]],
    url: str | None = None,
    aliases: Iterable[str] = (),
    wait: float = math.inf,
) -> Iterator[list[Callable[[], None]]]:
    """Keep other writers away from tags; yields what to check before each group is written.

    They are locked in one order everywhere, so that no two who want the same await each other.
    """
    end, aliases = time.monotonic() + wait, tuple(aliases)
    tags = {lock_name(tag, aliases): tag for group in reversed(groups) for tag in reversed(group)}
    checks: dict[str, Callable[[], None]] = {}
    with ExitStack() as locks:
        for name, tag in sorted(tags.items()):
            site: AbstractContextManager[object] | None = pm.hook.mlmerge_lock(reference=name)
            left = max(0.0, end - time.monotonic())
            held = locks.enter_context(tag_lock(tag, url, left, aliases) if site is None else site)
            checks[name] = getattr(held, "check", _hold_on)
        yield [
            partial(_check_all, [checks[lock_name(tag, aliases)] for tag in group])
            for group in groups
        ]


def _hold_on() -> None:
    """Check a lock that cannot be lost."""


def _check_all(checks: Iterable[Callable[[], None]]) -> None:
    for check in checks:
        check()


def announce(report: Report) -> None:
    """Announce that a merged index was uploaded, by our hook and by the host's."""
    pm.hook.mlmerge_merged(report=report)
    tagged = getattr(pm.hook, "quay_images_tagged", None)  # there is none without the host
    if tagged is not None:
        for source in report.sources:
            tagged(source_ref=str(source), dest_refs=[str(report.destination)])
