"""The step: sources into one destination tag."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Optional, TypeVar

from attrs import evolve, frozen

from pubtools_mlmerge.concurrency import Sources
from pubtools_mlmerge.core.manifests import Image, Index, Manifest
from pubtools_mlmerge.core.merge import Side, check_shrink, merge_manifests, remove
from pubtools_mlmerge.core.plan import Policy, Report
from pubtools_mlmerge.core.platforms import PlatformPattern
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import (
    EmptyIndex,
    InvalidIndex,
    MixedTypes,
    NotAnIndex,
    NotFound,
    NothingEligible,
)
from pubtools_mlmerge.merging.decision import BringsChildren, Decision, Job, StepOptions, no_lock
from pubtools_mlmerge.merging.image_ages import Ages
from pubtools_mlmerge.merging.writer import Writer
from pubtools_mlmerge.observe import Meter, observed, span
from pubtools_mlmerge.registry.base import Registry

_First = TypeVar("_First")
_Second = TypeVar("_Second")
_Found = TypeVar("_Found", bound=Optional[Manifest])


def recorded(pull: Callable[[Reference], _Found], reference: Reference) -> _Found:
    """Pull within a span."""
    with span("pull", reference=str(reference)) as current:
        found = pull(reference)
        current.note(digest=None if found is None else found.digest)
        return found


def intend(
    source: Registry, of: Reference, destination: Registry, into: Reference, *, writes: bool = True
) -> None:
    """Announce what a merge needs at once, so that one login is asked for instead of several."""
    push = (into,) if writes else ()
    if source is destination:
        source.intend(pull=(of, into), push=push)
    else:
        source.intend(pull=(of,))
        destination.intend(pull=(into,), push=push)


def are_quicker_at_once(
    source: Registry, of: Reference, destination: Registry, into: Reference
) -> bool:
    """Tell whether two references are read sooner at the same time than one after the other.

    Where a connection is there already, a second one costs a handshake, which with TLS takes longer
    than the other answer. Clients of which each thread has its own connection are never quicker.
    """
    one, other = source.link(of), destination.link(into)
    if one is None or other is None:
        return False
    return one.url != other.url or one.is_wide


def both(
    first: Callable[[], _First], second: Callable[[], _Second], *, at_once: bool
) -> tuple[_First, _Second]:
    """Do two things."""
    if not at_once:
        return first(), second()
    with ThreadPoolExecutor(1, thread_name_prefix="mlmerge") as pool:
        other = pool.submit(copy_context().run, second)
        return first(), other.result()


def remove_platforms(
    writer: Writer,
    reference: Reference,
    patterns: tuple[PlatformPattern, ...],
    *,
    allow_empty: bool = False,
    check: Callable[[], None] = no_lock,
) -> Report:
    """Take platforms out of what a tag holds, their attestations with them."""
    registry = writer.registry
    meter = Meter()
    dry_run = writer.options.dry_run

    def decide(old: Manifest | None) -> Decision:
        if old is None:
            raise NotFound(str(reference))
        if not isinstance(old, Index):
            raise NotAnIndex(str(reference), old.media_type)
        try:
            plan = remove(old, patterns, allow_empty=allow_empty)
        except EmptyIndex as error:
            raise evolve(error, reference=str(reference)) from error
        return Decision(None, reference, None, old, plan, meter, Job(decide))

    def act() -> Report:
        registry.intend(pull=(reference,), push=() if dry_run else (reference,))
        with meter.running():
            planned = decide(recorded(registry.pull_index, reference))
        return writer.carry_out(planned, check)

    return observed("remove", None, reference, act, dry_run=dry_run)


LOG = logging.getLogger("pubtools.mlmerge")


class Step:
    """Merges sources into destinations; a source is pulled once, however many there are."""

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
        check: Callable[[], None] = no_lock,
        policy: Policy | None = None,
    ) -> Report:
        """Merge a source into a tag."""

        def act() -> Report:
            return self.carry_out(self.plan(source, destination, policy), check)

        return observed("merge", source, destination, act, dry_run=self._options.dry_run)

    def plan(
        self, source: Reference, destination: Reference, policy: Policy | None = None
    ) -> Decision:
        """Read both sides and decide; nothing is written."""
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

    def carry_out(self, planned: Decision, check: Callable[[], None] = no_lock) -> Report:
        """Do what was decided: children first, then the tag, then its anchor."""
        return self._writer.carry_out(planned, check)

    def is_index(self, source: Reference) -> bool:
        """Tell whether a source is an index; if so, it is not pulled again to be merged."""
        try:
            return isinstance(self._sources.get(source, self._source.pull_index), Index)
        except (NotAnIndex, NotFound):
            return False

    def _decide(self, asked: _Asked, old: Manifest | None) -> Decision:
        source, destination = asked.source, asked.destination
        policy = asked.policy
        new = self._side(self._source, source, asked.new, policy)
        held = None if old is None else self._side(self._destination, destination, old, policy)
        try:
            plan = merge_manifests(new, held, policy, partial(self._ages.merge, destination))
        except MixedTypes as error:
            raise evolve(error, reference=str(destination)) from error
        if isinstance(plan.result, Index) and not plan.result.manifests and plan.entries:
            raise NothingEligible(str(source), plan.missing)
        check_shrink(destination, None if held is None else held.index, plan, policy)
        is_single = isinstance(asked.new, Image) or isinstance(old, Image)
        if policy.single_image == "replace" and is_single and plan.changed and old is not None:
            LOG.warning("%s replaces %s, as one of them is a single image", source, destination)
        for name in plan.missing:
            LOG.warning("%s: the source has no %s", source, name)
        job = Job(partial(self._decide, asked), partial(self._bring, source))
        return Decision(source, destination, asked.new, old, plan, asked.meter, job)

    def _bring(self, source: Reference, planned: Decision) -> None:
        needed, destination = planned.needed, planned.destination
        with span("children", source=str(source), destination=str(destination)) as current:
            current.note(manifests=len(needed))
            self._children.ensure(source, destination, needed)

    def _side(
        self, registry: Registry, reference: Reference, manifest: Manifest, policy: Policy
    ) -> Side:
        """Read the platform of a single image, so that it can be an entry of an index."""
        if isinstance(manifest, Index):
            return Side(reference, manifest, manifest)
        if policy.single_image == "fail":  # no platform is needed to refuse it
            return Side(reference, manifest, manifest.wrap(None))
        try:
            index = manifest.wrap(registry.pull_config(reference, manifest))
        except InvalidIndex:  # the config of an artifact states no platform
            index = manifest.wrap(None)
        return Side(reference, manifest, index)


@frozen(eq=False, repr=False)
class _Asked:
    """One merge that a step is asked for, with its source read."""

    source: Reference
    new: Manifest
    destination: Reference
    policy: Policy
    meter: Meter
