"""Calls of the hooks that others may implement."""

from __future__ import annotations

from contextlib import AbstractContextManager

from pubtools.pluggy import pm

from pubtools_mlmerge import hookspecs
from pubtools_mlmerge.lock import process_lock
from pubtools_mlmerge.outcome import MergeReport

__all__ = ["announce", "hookspecs", "lock_tag"]  # the hooks are there once hookspecs is imported


def lock_tag(reference: str) -> AbstractContextManager[object]:
    """Keep other writers away from a tag.

    Args:
        reference (str):
            The tag.

    Returns:
        AbstractContextManager[object]: Holds the lock; a site's own, or one of this process.
    """
    lock: AbstractContextManager[object] | None = pm.hook.mlmerge_lock(reference=reference)
    return process_lock(reference) if lock is None else lock


def announce(report: MergeReport) -> None:
    """Tell others that a merged index was uploaded, by our hook and by the host's.

    Args:
        report (MergeReport):
            What was done.
    """
    pm.hook.mlmerge_merged(report=report)
    tagged = getattr(pm.hook, "quay_images_tagged", None)  # there is none without the host
    if tagged is not None:
        tagged(source_ref=str(report.source), dest_refs=[str(report.destination)])
