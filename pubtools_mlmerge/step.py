"""The step: one source, one destination tag."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from attrs import evolve, frozen

from pubtools_mlmerge.concurrency import Sources
from pubtools_mlmerge.core.manifests import Image, Index, Manifest
from pubtools_mlmerge.core.merge import check_shrink, replace_by_image, replace_image
from pubtools_mlmerge.core.plan import AnyPlan, Policy, Report
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.dating import Ages
from pubtools_mlmerge.errors import NotAnIndex, NotFound, NothingEligible
from pubtools_mlmerge.observe import Meter, observed, span
from pubtools_mlmerge.planned import BringsChildren, Job, Planned, StepOptions, unlocked
from pubtools_mlmerge.pulling import are_quicker_at_once, both, intend, recorded
from pubtools_mlmerge.registry.base import Registry
from pubtools_mlmerge.writing import Writer

LOG = logging.getLogger("pubtools.mlmerge")


class Step:
    """Merges sources into destinations; a source is pulled once, however many there are.

    Args:
        source (Registry):
            Reads the source.
        destination (Registry):
            Reads and writes the destinations; may be the same object.
        options (StepOptions):
            How to do it.
        children (BringsChildren):
            Brings manifests into the destination repositories.
        writer (Writer | None):
            Writes the destinations; none for one that keeps no records.
        ages (Ages | None):
            Merges by the ages of kept images; none to read them from the destination.
    """

    def __init__(  # noqa: PLR0913 - the two sides, and what does each part of the work
        self,
        source: Registry,
        destination: Registry,
        options: StepOptions,
        children: BringsChildren,
        writer: Writer | None = None,
        *,
        ages: Ages | None = None,
    ) -> None:
        self._source = source
        self._destination = destination
        self._options = options
        self._children = children
        self._writer = writer or Writer(destination, options)
        self._ages = ages or Ages(destination, options.ages)
        self._sources = Sources()

    def merge(
        self,
        source: Reference,
        destination: Reference,
        check: Callable[[], None] = unlocked,
        policy: Policy | None = None,
    ) -> Report:
        """Merge a source into a tag.

        Args:
            source (Reference):
                The newer image.
            destination (Reference):
                The tag; one that does not exist yet gets a copy of the source.
            check (Callable[[], None]):
                Called just before each write of the tag; raises if its lock was lost.
            policy (Policy | None):
                What to decide differently; none for the policy of the options.

        Returns:
            MergeReport: What was done.

        Raises:
            MergeError: When that cannot be done; the tag then holds what it held before.
        """

        def act() -> Report:
            return self.carry_out(self.plan(source, destination, policy), check)

        return observed("merge", source, destination, act, dry_run=self._options.dry_run)

    def plan(
        self, source: Reference, destination: Reference, policy: Policy | None = None
    ) -> Planned:
        """Read both sides and decide; nothing is written.

        Args:
            source (Reference):
                The newer image.
            destination (Reference):
                The tag.
            policy (Policy | None):
                What to decide differently; none for the policy of the options.

        Returns:
            Planned: What was found and what is to be done.

        Raises:
            MergeError: When it cannot be decided.
        """
        meter = Meter()
        with meter.running():
            new, old = self._pull(source, destination)
            asked = _Asked(source, new, destination, policy or self._options.policy, meter)
            return self._decide(asked, old)

    def _pull(self, source: Reference, destination: Reference) -> tuple[Manifest, Manifest | None]:
        writes = not self._options.dry_run
        intend(self._source, source, self._destination, destination, writes=writes)
        pull_source = partial(self._sources.get, source, partial(recorded, self._source.pull))
        pull_old = partial(recorded, self._destination.pull_if_present, destination)
        if source in self._sources:  # perhaps another thread is about to read it
            old = pull_old()
            return pull_source(), old
        at_once = are_quicker_at_once(self._source, source, self._destination, destination)
        return both(pull_source, pull_old, at_once=at_once)

    def carry_out(self, planned: Planned, check: Callable[[], None] = unlocked) -> Report:
        """Do what was decided: children first, then the tag, then its anchor.

        Args:
            planned (Planned):
                The decision.
            check (Callable[[], None]):
                Called just before each write of the tag; raises if its lock was lost.

        Returns:
            MergeReport: What was done.

        Raises:
            MergeError: When that cannot be done; the tag then holds what it held before, or all
                of the result.
        """
        return self._writer.carry_out(planned, check)

    def is_index(self, source: Reference) -> bool:
        """Tell whether a source is an index; if so, it is not pulled again to be merged.

        Args:
            source (Reference):
                The source.

        Returns:
            bool: False if it is something else or does not exist.

        Raises:
            MergeError: When it cannot be read.
        """
        try:
            return isinstance(self._sources.get(source, self._source.pull_index), Index)
        except (NotAnIndex, NotFound):
            return False

    def _decide(self, asked: _Asked, old: Manifest | None) -> Planned:
        source, destination = asked.source, asked.destination
        plan = self._merge(asked, old)
        if isinstance(plan.result, Index) and not plan.result.manifests and plan.entries:
            raise NothingEligible(str(source), plan.missing)
        check_shrink(destination, old, plan, asked.policy)
        if isinstance(plan.result, Image):
            LOG.warning("%s is a single image and replaces %s", source, destination)
        for name in plan.missing:
            LOG.warning("%s: the source has no %s", source, name)
        job = Job(partial(self._decide, asked), partial(self._bring, source))
        return Planned(source, destination, asked.new, old, plan, asked.meter, job)

    def _bring(self, source: Reference, planned: Planned) -> None:
        needed, destination = planned.needed, planned.destination
        with span("children", source=str(source), destination=str(destination)) as current:
            current.note(manifests=len(needed))
            self._children.ensure(source, destination, needed)

    def _merge(self, asked: _Asked, old: Manifest | None) -> AnyPlan:
        source, destination, new = asked.source, asked.destination, asked.new
        policy = asked.policy
        if policy.single_image == "wrap":
            index = self._wrap(self._source, source, new)
            before = None if old is None else self._wrap(self._destination, destination, old)
            plan = self._ages.merge(destination, index, before, policy)
            # A tag that holds a bare image does not hold the index that it was wrapped into.
            return evolve(plan, changed=plan.changed or isinstance(old, Image))
        if isinstance(new, Image):
            if policy.single_image == "fail" or policy.eligible is not None:
                raise NotAnIndex(str(source), new.media_type)
            return replace_by_image(new, old)
        if not isinstance(old, Image):
            return self._ages.merge(destination, new, old, policy)
        if policy.single_image == "fail":
            raise NotAnIndex(str(destination), old.media_type)
        LOG.warning("%s is a single image and is replaced by %s", destination, source)
        return replace_image(new, old, policy)

    @staticmethod
    def _wrap(registry: Registry, reference: Reference, manifest: Manifest) -> Index:
        if isinstance(manifest, Index):
            return manifest
        return manifest.wrap(registry.pull_config(reference, manifest))


@frozen(eq=False, repr=False)
class _Asked:
    """One merge that a step is asked for, with its source read."""

    source: Reference
    new: Manifest
    destination: Reference
    policy: Policy
    meter: Meter
