"""Calls of the hooks that others may implement."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from pubtools.pluggy import pm

import pubtools_mlmerge.hookspecs  # noqa: F401 - without the plugin, this alone adds our hooks
from pubtools_mlmerge.core.plan import Report
from pubtools_mlmerge.locks import tag_lock


def _hold_on() -> None:
    """Check a lock that cannot be lost."""


@contextmanager
def lock_tag(
    reference: str, url: str | None = None, wait: float = math.inf
) -> Iterator[Callable[[], None]]:
    """Keep other writers away from a tag; yields the check to make before it is written."""
    site: AbstractContextManager[object] | None = pm.hook.mlmerge_lock(reference=reference)
    with tag_lock(reference, url, wait) if site is None else site as held:
        check: Callable[[], None] = getattr(held, "check", _hold_on)
        yield check


def announce(report: Report) -> None:
    """Announce that a merged index was uploaded, by our hook and by the host's."""
    pm.hook.mlmerge_merged(report=report)
    tagged = getattr(pm.hook, "quay_images_tagged", None)  # there is none without the host
    if tagged is not None:
        for source in report.sources:
            tagged(source_ref=str(source), dest_refs=[str(report.destination)])
