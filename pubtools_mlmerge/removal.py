"""Removal: platforms taken out of what a tag holds."""

from __future__ import annotations

import time

from pubtools_mlmerge.merge import remove
from pubtools_mlmerge.outcome import MergeReport
from pubtools_mlmerge.platforms import PlatformPattern
from pubtools_mlmerge.references import Reference
from pubtools_mlmerge.registry import Registry
from pubtools_mlmerge.step import push


def remove_platforms(
    registry: Registry,
    reference: Reference,
    patterns: tuple[PlatformPattern, ...],
    *,
    allow_empty: bool = False,
    dry_run: bool = False,
) -> MergeReport:
    """Take platforms out of what a tag holds, their attestations with them.

    Args:
        registry (Registry):
            Reads and writes the tag.
        reference (Reference):
            The tag.
        patterns (tuple[PlatformPattern, ...]):
            The platforms.
        allow_empty (bool):
            Whether an empty index may be left.
        dry_run (bool):
            Whether nothing is written.

    Returns:
        MergeReport: What was done.

    Raises:
        EmptyIndex: When nothing would be left and that is not allowed.
        MergeError: When the tag holds no index or the registry refuses.
    """
    began, counted = time.monotonic(), registry.request_count
    registry.intend(pull=(reference,), push=() if dry_run else (reference,))
    index = registry.pull_index(reference)
    plan = remove(index, patterns, allow_empty=allow_empty)
    if plan.changed and not dry_run:
        push(registry, reference, plan.result)
    return MergeReport(
        source=None,
        destination=reference,
        source_digest=None,
        previous_digest=index.digest,
        digest=plan.result.digest,
        media_type=plan.result.media_type,
        changed=plan.changed,
        dry_run=dry_run,
        entries=plan.entries,
        missing=plan.missing,
        requests=registry.request_count - counted,
        seconds=time.monotonic() - began,
    )
