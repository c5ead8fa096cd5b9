"""Removal: platforms taken out of what a tag holds."""

from __future__ import annotations

from collections.abc import Callable

from pubtools_mlmerge.core.manifests import Index, Manifest
from pubtools_mlmerge.core.merge import remove
from pubtools_mlmerge.core.plan import Report
from pubtools_mlmerge.core.platforms import PlatformPattern
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import NotAnIndex, NotFound
from pubtools_mlmerge.observe import Meter, observed
from pubtools_mlmerge.planned import Job, Planned, unlocked
from pubtools_mlmerge.pulling import recorded
from pubtools_mlmerge.writing import Writer


def remove_platforms(
    writer: Writer,
    reference: Reference,
    patterns: tuple[PlatformPattern, ...],
    *,
    allow_empty: bool = False,
    check: Callable[[], None] = unlocked,
) -> Report:
    """Take platforms out of what a tag holds, their attestations with them.

    Args:
        writer (Writer):
            Writes the tag.
        reference (Reference):
            The tag.
        patterns (tuple[PlatformPattern, ...]):
            The platforms.
        allow_empty (bool):
            Whether an empty index may be left.
        check (Callable[[], None]):
            Called just before each write of the tag; raises if its lock was lost.

    Returns:
        MergeReport: What was done.

    Raises:
        EmptyIndex: When nothing would be left and that is not allowed.
        MergeError: When the tag holds no index or the registry refuses.
    """
    registry = writer.registry
    meter = Meter()
    dry_run = writer.options.dry_run

    def decide(old: Manifest | None) -> Planned:
        if old is None:
            raise NotFound(str(reference))
        if not isinstance(old, Index):
            raise NotAnIndex(str(reference), old.media_type)
        plan = remove(old, patterns, allow_empty=allow_empty)
        return Planned(None, reference, None, old, plan, meter, Job(decide))

    def act() -> Report:
        registry.intend(pull=(reference,), push=() if dry_run else (reference,))
        with meter.running():
            planned = decide(recorded(registry.pull_index, reference))
        return writer.carry_out(planned, check)

    return observed("remove", None, reference, act, dry_run=dry_run)
