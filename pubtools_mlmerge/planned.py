"""Planned: what a step is told, what it found, and what it decided."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, Union

from attrs import field, frozen

from pubtools_mlmerge.anchors import AnchorTag
from pubtools_mlmerge.image import Image
from pubtools_mlmerge.index import Index
from pubtools_mlmerge.manifests import Manifest
from pubtools_mlmerge.plan import MergePlan, Policy
from pubtools_mlmerge.references import Reference

Plan = Union[MergePlan[Index], MergePlan[Image]]


@frozen(kw_only=True)
class StepOptions:
    """How a step is carried out.

    Attributes:
        policy (Policy):
            What the merge decides differently.
        dry_run (bool):
            Whether nothing is written, and no right to write asked for.
        anchor_tag (AnchorTag | None):
            A second tag for what is written; none for none.
    """

    policy: Policy = field(factory=Policy)
    dry_run: bool = False
    anchor_tag: AnchorTag | None = None


@frozen
class Planned:
    """What a step found and decided.

    Attributes:
        source (Reference):
            The newer image.
        destination (Reference):
            The tag.
        new (Manifest):
            What the source holds.
        old (Manifest | None):
            What the tag holds; none if it does not exist.
        plan (Plan):
            What is to be done.
        began (float):
            When the step began, on the monotonic clock in seconds.
        counted (int):
            How many requests there were before.
    """

    source: Reference
    destination: Reference
    new: Manifest
    old: Manifest | None
    plan: Plan
    began: float
    counted: int

    @property
    def needed(self) -> tuple[str, ...]:
        """The manifests that the destination repository must have before the result."""
        if isinstance(self.plan.result, Image):
            return (self.plan.result.digest,)
        return tuple(entry.digest for entry in self.plan.taken)


class BringsChildren(Protocol):
    """Brings manifests into a repository, such as `Children`."""

    def ensure(self, source: Reference, destination: Reference, digests: Iterable[str]) -> None:
        """Make sure that manifests are in the destination repository."""
