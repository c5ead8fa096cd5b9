"""What is decided about one tag, and how the decision is carried out."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from datetime import datetime, timezone

from attrs import evolve, field, frozen

from pubtools_mlmerge.core.manifests import Image, Manifest
from pubtools_mlmerge.core.merge import Side
from pubtools_mlmerge.core.plan import AgeRule, Plan, Report
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import InvalidReference, MergeError

_FIELD = r"\{([^{}]*)\}"
_DIGEST_LENGTH = 12  # hexadecimal digits of the digest that go into a tag
_OWN_TAG = "this is the destination's own tag"


@frozen
class AnchorTag:
    """A template for a second tag, such as ``{tag}-{timestamp}``.

    The fields are ``{tag}``, ``{timestamp}`` (UTC) and ``{digest}`` (its start).
    """

    template: str

    @classmethod
    def parse(cls, text: str) -> AnchorTag:
        """Read a template.

        Raises:
            InvalidReference: When a field is unknown, or the result is no tag or the
                destination's own.
        """
        unknown = set(re.findall(_FIELD, text)) - {"tag", "timestamp", "digest"}
        if unknown:
            raise InvalidReference(text, "the fields are {tag}, {timestamp} and {digest}")
        if text == "{tag}":
            raise InvalidReference(text, _OWN_TAG)
        template = cls(text)
        template._fill(Reference("", "repository", tag="tag"), "sha256:" + "0" * 64)
        return template

    @property
    def has_time(self) -> bool:
        """Whether it names another tag a second later."""
        return "{timestamp}" in self.template

    @property
    def is_new(self) -> bool:
        """Whether each result gets another tag."""
        return self.has_time or "{digest}" in self.template

    def to_lock(self, destination: Reference) -> tuple[Reference, ...]:
        """Name the tag to lock for the anchor tag, if the lock of its destination is not enough.

        All anchor tags with only the time in their names share one lock.
        """
        if "{digest}" in self.template or (self.has_time and "{tag}" in self.template):
            return ()
        return (self._fill(destination, "", "time"),)

    def apply(self, destination: Reference, digest: str) -> Reference:
        """Make the anchor tag of a destination that holds a digest.

        Raises:
            InvalidReference: When the text is no valid tag, or is the destination's own.
        """
        anchor = self._fill(destination, digest)
        if anchor == destination:
            raise InvalidReference(str(anchor), _OWN_TAG)
        return anchor

    def _fill(self, destination: Reference, digest: str, now: str = "") -> Reference:
        values = {
            "tag": destination.tag,
            "timestamp": now or datetime.now(timezone.utc).strftime("%Y%m%d%H%M%S"),
            "digest": digest.partition(":")[2][:_DIGEST_LENGTH],
        }
        return destination.tagged(re.sub(_FIELD, lambda found: values[found[1]], self.template))


@frozen(kw_only=True)
class StepOptions:
    """How a step carries out its decisions."""

    dry_run: bool = False
    anchor_tag: AnchorTag | None = None
    verify: bool = True  # read the tag again before and after it is written
    tries: int = 5  # how often to decide at most, where somebody else writes the tag
    ages: AgeRule = field(factory=AgeRule)
    upload_level: int = logging.INFO  # of the line of an upload; lower where its end has one


@frozen(eq=False)
class Decision:
    """Both sides as they were read, the plan, and how to decide again."""

    merged: Side | None  # the sources; None where platforms are removed or a tag is restored
    destination: Reference
    old: Manifest | None  # what the tag holds; None if it does not exist
    plan: Plan[Manifest]
    decide: Callable[[Manifest | None], Decision] = field(repr=False)
    """Decides again, on what the tag holds by then."""
    prepare: Callable[[Decision], None] = field(default=lambda _decision: None, repr=False)
    """Brings what the result needs into the repository of the tag; by default it is there."""
    # Where a lost write of somebody else is merged back in, `old` is more than the tag holds.
    seen: str | None = field(kw_only=True)
    """The digest of what the tag holds."""
    began: float = field(factory=time.monotonic, kw_only=True)
    is_hidden: bool = field(default=False, kw_only=True)
    """Whether the registry refused to show the tag, which is taken as absent."""

    @seen.default
    def _digest_of_old(self) -> str | None:
        return None if self.old is None else self.old.digest

    @property
    def sources(self) -> tuple[Side, ...]:
        """What was merged, each with its place."""
        return () if self.merged is None else self.merged.parts or (self.merged,)

    @property
    def new(self) -> Manifest | None:
        """What the first source holds."""
        return self.sources[0].manifest if self.sources else None

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

    def report(
        self,
        final: Decision | None = None,
        *,
        dry_run: bool = False,
        attempts: int = 1,
        anchor: Reference | None = None,
        error: MergeError | None = None,
    ) -> Report:
        """Report what became of the tag; `final` is the last decision, if there were several."""
        plan, sources = (final or self).plan, [side.reference for side in self.sources]
        return evolve(
            Report.of(plan, next(iter(sources), None), self.destination, dry_run=dry_run),
            sources=sources,
            source_digest=None if self.new is None else self.new.digest,
            previous_digest=self.seen,
            changed=plan.result.digest != self.seen,
            anchor_tag=None if anchor is None else anchor.tag,
            attempts=attempts,
            seconds=time.monotonic() - self.began,
            is_hidden=self.is_hidden,
            error=error,
        )
