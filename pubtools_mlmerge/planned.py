"""Planned: what a step is told, what it found, and what it decided."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from attrs import Factory, field, frozen

from pubtools_mlmerge.anchors import AnchorTag
from pubtools_mlmerge.changes import Change
from pubtools_mlmerge.core.ages import AgeRule
from pubtools_mlmerge.core.manifests import Image, Manifest
from pubtools_mlmerge.core.plan import AnyPlan, Policy, Report
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.observe import Meter


@frozen(kw_only=True, eq=False, repr=False)
class StepOptions:
    """How a step is carried out.

    Attributes:
        policy (Policy):
            What the merge decides differently.
        dry_run (bool):
            Whether nothing is written, and no right to write asked for.
        anchor_tag (AnchorTag | None):
            A second tag for what is written; none for none.
        verify (bool):
            Whether the tag is read again just before it is written, and after that.
        tries (int):
            How often the merge is planned at most, where somebody else writes the tag.
        ages (AgeRule):
            What is asked about the ages of kept images.
    """

    policy: Policy = field(factory=Policy)
    dry_run: bool = False
    anchor_tag: AnchorTag | None = None
    verify: bool = True
    tries: int = 5
    ages: AgeRule = field(factory=AgeRule)


def _bring_nothing(_planned: Planned) -> None:
    """Leave the repository as it is; what is left of an index is there."""


@frozen(eq=False, repr=False)
class Job:
    """How a decision about one tag is made again, and how its result is prepared.

    Attributes:
        decide (Callable[[Manifest | None], Planned]):
            Decides on what the tag holds.
        prepare (Callable[[Planned], None]):
            Brings what the result needs into the repository of the tag.
    """

    decide: Callable[[Manifest | None], Planned]
    prepare: Callable[[Planned], None] = _bring_nothing


@frozen(eq=False, repr=False)
class Planned:
    """What a step found and decided.

    Attributes:
        source (Reference | None):
            The newer image; none where platforms are removed.
        destination (Reference):
            The tag.
        new (Manifest | None):
            What the source holds.
        old (Manifest | None):
            What the tag holds; none if it does not exist.
        plan (Plan):
            What is to be done.
        meter (Meter):
            Counts from when the step began.
        job (Job):
            Decides again where somebody else writes the tag.
        seen (str | None):
            Digest that the tag had then; another one than that of `old` where what somebody else
            wrote was lost, and stands in for what the tag holds.
    """

    source: Reference | None
    destination: Reference
    new: Manifest | None
    old: Manifest | None
    plan: AnyPlan
    meter: Meter
    job: Job
    seen: str | None = field(
        default=Factory(lambda self: digest_if_any(self.old), takes_self=True), kw_only=True
    )

    @property
    def is_due(self) -> bool:
        """Whether the tag does not hold the result."""
        return self.plan.result.digest != self.seen

    @property
    def needed(self) -> tuple[str, ...]:
        """The manifests that the destination repository must have before the result."""
        if isinstance(self.plan.result, Image):
            return (self.plan.result.digest,)
        return tuple(entry.digest for entry in self.plan.taken)


def digest_if_any(manifest: Manifest | None) -> str | None:
    """Tell the digest of a manifest that may not exist.

    Args:
        manifest (Manifest | None):
            The manifest.

    Returns:
        str | None: Its digest; none if there is none.
    """
    return None if manifest is None else manifest.digest


def report_of(
    first: Planned,
    final: Planned,
    options: StepOptions,
    attempts: int = 1,
    anchor: Reference | None = None,
) -> Report:
    """Report what became of a tag.

    Args:
        first (Planned):
            What was decided first, on what the tag held before.
        final (Planned):
            What the tag holds now, or would hold.
        options (StepOptions):
            How it was done.
        attempts (int):
            How often it was planned.
        anchor (Reference | None):
            A second tag that was set.

    Returns:
        MergeReport: The report.
    """
    result = final.plan.result
    return Report(
        source=first.source,
        destination=first.destination,
        source_digest=digest_if_any(first.new),
        previous_digest=first.seen,
        digest=result.digest,
        media_type=result.media_type,
        changed=result.digest != first.seen,
        dry_run=options.dry_run,
        entries=final.plan.entries,
        missing=final.plan.missing,
        anchor_tag=anchor.tag if anchor is not None else None,
        attempts=attempts,
        requests=first.meter.requests,
        seconds=first.meter.seconds,
    )


def report_of_plan(
    source: Reference,
    destination: Reference,
    plan: AnyPlan,
    meter: Meter,
    *,
    dry_run: bool = False,
) -> Report:
    """Report a plan that is carried out as it is, once.

    Args:
        source (Reference):
            The newer image.
        destination (Reference):
            The tag.
        plan (MergePlan):
            The plan.
        meter (Meter):
            Counted meanwhile.
        dry_run (bool):
            Whether nothing is written.

    Returns:
        MergeReport: The report.
    """
    return Report(
        source=source,
        destination=destination,
        source_digest=plan.source_digest,
        previous_digest=plan.previous_digest,
        digest=plan.result.digest,
        media_type=plan.result.media_type,
        changed=plan.changed,
        dry_run=dry_run,
        entries=plan.entries,
        missing=plan.missing,
        requests=meter.requests,
        seconds=meter.seconds,
    )


class BringsChildren(Protocol):
    """Brings manifests into a repository, such as `Children`."""

    def ensure(self, source: Reference, destination: Reference, digests: Iterable[str]) -> None:
        """Make sure that manifests are in the destination repository."""


class Recorder(Protocol):
    """Keeps changes, such as `AuditDirectory`."""

    def record(self, change: Change) -> None:
        """Keep a change that is about to be made, or raise RecordFailed."""


class History(Protocol):
    """Knows what a write replaced, such as `Recovery`."""

    def lost(self, tag: Reference, written: str, seen: str | None) -> tuple[Reference, ...]:
        """Make readable again what was replaced by `written` and was not `seen` before."""

    def forget(self, reference: Reference) -> None:
        """Give up what was made readable."""


def unlocked() -> None:
    """Find nothing against a write; for where no lock is held."""
