"""What a step found and decided about one tag."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from typing import Protocol

from attrs import Factory, field, frozen

from pubtools_mlmerge.core.ages import AgeRule
from pubtools_mlmerge.core.manifests import Image, Manifest
from pubtools_mlmerge.core.plan import Plan, Policy, Report
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import InvalidReference
from pubtools_mlmerge.observe import Meter

_FIELD = r"\{([^{}]*)\}"
_DIGEST_LENGTH = 12  # hexadecimal digits of the digest that go into a tag
_OWN_TAG = "this is the destination's own tag"


@frozen
class AnchorTag:
    """A template such as ``{tag}-{timestamp}``.

    Attributes:
        template (str):
            Text with the fields ``{tag}``, ``{timestamp}`` (UTC) and ``{digest}`` (its beginning).
    """

    template: str

    @classmethod
    def parse(cls, text: str) -> AnchorTag:
        """Read a template.

        Args:
            text (str):
                The template.

        Returns:
            AnchorTag: A template that makes valid tags.

        Raises:
            InvalidReference: When a field is unknown, or what comes out is no tag, or is the
                destination's own tag.
        """
        unknown = set(re.findall(_FIELD, text)) - {"tag", "timestamp", "digest"}
        if unknown:
            raise InvalidReference(text, "the fields are {tag}, {timestamp} and {digest}")
        if text == "{tag}":
            raise InvalidReference(text, _OWN_TAG)
        template = cls(text)
        template._fill(Reference("", "repository", tag="tag"), "sha256:" + "0" * 64)
        return template

    def apply(self, destination: Reference, digest: str) -> Reference:
        """Make the anchor tag of a destination.

        Args:
            destination (Reference):
                The tag that was merged.
            digest (str):
                What it holds.

        Returns:
            Reference: The anchor tag, in the same repository.

        Raises:
            InvalidReference: When the text is no valid tag, or is the destination's own.
        """
        anchor = self._fill(destination, digest)
        if anchor == destination:
            raise InvalidReference(str(anchor), _OWN_TAG)
        return anchor

    def _fill(self, destination: Reference, digest: str) -> Reference:
        values = {
            "tag": destination.tag,
            "timestamp": datetime.now(timezone.utc).strftime("%Y%m%d%H%M%S"),
            "digest": digest.partition(":")[2][:_DIGEST_LENGTH],
        }
        return destination.tagged(re.sub(_FIELD, lambda found: values[found[1]], self.template))


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


def _bring_nothing(_planned: Decision) -> None:
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

    decide: Callable[[Manifest | None], Decision]
    prepare: Callable[[Decision], None] = _bring_nothing


@frozen(eq=False, repr=False)
class Decision:
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
    plan: Plan[Manifest]
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
    """Tell the digest of a manifest that may not exist."""
    return None if manifest is None else manifest.digest


def report_of(
    first: Decision,
    final: Decision,
    options: StepOptions,
    attempts: int = 1,
    anchor: Reference | None = None,
) -> Report:
    """Report what became of a tag."""
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
    plan: Plan[Manifest],
    meter: Meter,
    *,
    dry_run: bool = False,
) -> Report:
    """Report a plan that is carried out as it is, once."""
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


def no_lock() -> None:
    """Find nothing against a write; for where no lock is held."""
