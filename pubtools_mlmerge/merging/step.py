"""The step: sources into one destination tag."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Optional, TypeVar

from attrs import evolve

from pubtools_mlmerge.concurrency import Memo, map_in_order
from pubtools_mlmerge.core.manifests import Image, Index, Manifest
from pubtools_mlmerge.core.merge import (
    Side,
    annotate,
    check_removal,
    combine,
    merge_manifests,
    named_in,
    remove,
    review,
)
from pubtools_mlmerge.core.plan import Plan, Policy, Report
from pubtools_mlmerge.core.platforms import PlatformPattern
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import (
    EmptyIndex,
    MixedTypes,
    NestedIndex,
    NotAnIndex,
    NotFound,
    NothingEligible,
)
from pubtools_mlmerge.locks import no_lock
from pubtools_mlmerge.merging.decision import Decision
from pubtools_mlmerge.merging.image_ages import Ages
from pubtools_mlmerge.merging.writer import Writer, wrap
from pubtools_mlmerge.observe import observed, span
from pubtools_mlmerge.registry.base import Registry
from pubtools_mlmerge.registry.copying import Children
from pubtools_mlmerge.registry.referrers import Referrers

LOG = logging.getLogger("pubtools.mlmerge")

_SOURCES, _FRESH = 64, 30.0  # how many are remembered, and for how many seconds
_THREADS = 8  # sources that are read at a time
_DEFAULT = Policy()

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
    source: Registry,
    of: Sequence[Reference],
    destination: Registry,
    into: Reference,
    *,
    writes: bool = True,
) -> None:
    """Announce all rights that a merge needs, so that one token is fetched instead of several."""
    push = (into,) if writes else ()
    if source is destination:
        source.intend(pull=(*of, into), push=push)
    else:
        source.intend(pull=of)
        destination.intend(pull=(into,), push=push)


def pull_both(
    source: Registry,
    pull_source: Callable[[], _First],
    destination: Registry,
    pull_destination: Callable[[], _Second],
) -> tuple[_First, _Second]:
    """Pull both sides, in parallel if they share no connection."""
    # The host's client logs in anew in each thread, which takes longer than one answer.
    if source is destination or source.logs_in_per_thread or destination.logs_in_per_thread:
        return pull_source(), pull_destination()
    with ThreadPoolExecutor(1, thread_name_prefix="mlmerge") as pool:
        other = pool.submit(copy_context().run, pull_destination)
        return pull_source(), other.result()


def judge(tag: Reference, plan: Plan[Manifest], policy: Policy) -> None:
    """Refuse a plan that loses a platform nobody named, and log its warnings."""
    for warning in review(tag, plan, policy):
        LOG.warning("%s", warning)


def remove_platforms(  # noqa: PLR0913 - independent options, each with a default
    writer: Writer,
    reference: Reference,
    patterns: tuple[PlatformPattern, ...],
    *,
    allow_empty: bool = False,
    prune: bool = False,
    strict: bool = False,
    annotations: Mapping[str, str] | None = None,
    check: Callable[[], None] = no_lock,
) -> Report:
    """Take platforms out of what a tag holds, their attestations with them."""
    registry = writer.registry
    dry_run = writer.options.dry_run
    began, tried = time.monotonic(), list[Index]()

    def decide(old: Manifest | None) -> Decision:
        if old is None:
            raise NotFound(str(reference))
        if not isinstance(old, Index):
            raise NotAnIndex(str(reference), old.kind)
        try:
            known = registry.read_nested(reference, old)
            named = named_in(known, patterns)
            removal = remove(known, named, allow_empty=allow_empty, prune=prune)
        except (EmptyIndex, NestedIndex) as error:
            raise evolve(error, reference=str(reference)) from error
        plan = annotate(removal, annotations or {})
        # Later on, somebody else may have removed them.
        is_slip = not plan.changed and not tried
        check_removal(reference, known, plan, named, strict=strict or is_slip)
        tried.append(old)
        return Decision(None, reference, old, plan, decide, began=began)

    with observed("remove", None, reference, dry_run=dry_run) as seen:
        registry.intend(pull=(reference,), push=() if dry_run else (reference,))
        decision = decide(recorded(registry.pull_index, reference))
        seen.report = report = writer.carry_out(decision, check)
    return report


class Step:
    """Merges sources into tags; a source for many tags is pulled once."""

    def __init__(
        self,
        source: Registry,
        writer: Writer,
        children: Children,
        *,
        ages: Ages | None = None,
        referrers: Referrers | None = None,
    ) -> None:
        self._source = source
        self._destination = writer.registry
        self._options = writer.options
        self._children = children
        self._writer = writer
        self._ages = ages or Ages(writer.registry, writer.options.ages)
        self._referrers = referrers
        self._sources: Memo[Reference, Manifest] = Memo(_SOURCES, _FRESH)
        self._wrapped: Memo[Reference, Index] = Memo(_SOURCES)  # by digest

    def merge(
        self,
        sources: Sequence[Reference],
        destination: Reference,
        policy: Policy = _DEFAULT,
        check: Callable[[], None] = no_lock,
    ) -> Report:
        """Merge sources into a tag."""
        names = ", ".join(map(str, sources))
        with observed("merge", names, destination, dry_run=self._options.dry_run) as seen:
            decision = self.plan(sources, destination, policy)
            seen.report = report = self.carry_out(decision, check)
        return report

    def plan(
        self, sources: Sequence[Reference], destination: Reference, policy: Policy = _DEFAULT
    ) -> Decision:
        """Read both sides and decide; nothing is written."""
        began = time.monotonic()
        sides, (old, is_hidden) = self._pull(sources, destination)
        if is_hidden and self._options.dry_run:
            words = "%s: it does not exist, or this login may not read it: what it holds is unknown"
            LOG.warning(words, destination)
        try:
            new = combine(sides, policy)
        except (MixedTypes, NestedIndex) as error:
            raise evolve(error, reference=str(destination)) from error

        def decide(held: Manifest | None) -> Decision:
            plan = self._merge(new, destination, held, policy)
            for name in plan.missing:
                LOG.warning("%s: the source has no %s", ", ".join(map(str, sources)), name)
            bring = partial(self._bring, new)
            return Decision(new, destination, held, plan, decide, bring, began=began)

        return evolve(decide(old), is_hidden=is_hidden)

    def _pull(
        self, sources: Sequence[Reference], destination: Reference
    ) -> tuple[list[Side], tuple[Manifest | None, bool]]:
        """Read the first source and the destination, which log in, and then the other sources."""
        writes = not self._options.dry_run
        intend(self._source, sources, self._destination, destination, writes=writes)
        first, old = pull_both(
            *(self._source, partial(self._read_source, sources[0])),
            *(self._destination, partial(self._look, destination)),
        )
        others = (partial(self._read_source, source) for source in sources[1:])
        return [first, *(map_in_order(others, _THREADS) if len(sources) > 1 else ())], old

    def _look(self, destination: Reference) -> tuple[Manifest | None, bool]:
        with span("pull", reference=str(destination)) as current:
            found, is_hidden = self._destination.look(destination)
            current.note(digest=None if found is None else found.digest)
        return found, is_hidden

    def _read_source(self, source: Reference) -> Side:
        def pull() -> Manifest:
            found = recorded(self._source.pull, source)
            if isinstance(found, Index):
                return self._source.read_nested(source, found, is_source=True)
            return found

        def still_holds(found: Manifest) -> bool:
            return bool(source.digest) or self._source.digest(source) == found.digest

        found = self._sources.get(source, pull, still_holds)
        return self._side(self._source, source, found)

    def carry_out(self, decision: Decision, check: Callable[[], None] = no_lock) -> Report:
        """Do what was decided: children first, then the tag, then its anchor."""
        try:
            if self._options.dry_run or not decision.is_due:
                self._tend(decision)
            return self._writer.carry_out(decision, check)
        finally:
            self._sources.forget(partial(self._is_written, decision.destination))

    @staticmethod
    def _is_written(tag: Reference, source: Reference) -> bool:
        """Whether a source may be a tag that was just written, under any name of its registry."""
        names = [each.repository.removeprefix("library/") for each in (source, tag)]
        return source.tag == tag.tag and names[0] == names[1]

    def _bring(self, new: Side, decision: Decision) -> None:
        for source, needed in new.by_origin(decision.needed).items():
            names = {"source": str(source.reference), "destination": str(decision.destination)}
            with span("children", **names) as current:
                current.note(manifests=len(needed))
                self._children.ensure(source.reference, decision.destination, needed)
        self._tend(decision)

    def _tend(self, decision: Decision) -> None:
        """Copy or warn of the referrers of the sources' images, before the tag is written."""
        if self._referrers is None or decision.merged is None:
            return
        images = [digest for entry in decision.plan.taken for digest in sorted(entry.digests)]
        groups = decision.merged.by_origin(images)
        for source in decision.sources:
            new = source.manifest
            is_whole = new.digest == decision.plan.result.digest
            self._referrers.tend(
                source.reference,
                decision.destination,
                [*groups.get(source, ()), *([new.digest] if is_whole else ())],
                new.digest if isinstance(new, Index) and not is_whole else None,
                dry_run=self._options.dry_run,
                writes=decision.is_due,
            )

    def _merge(
        self, source: Side, destination: Reference, old: Manifest | None, policy: Policy
    ) -> Plan[Manifest]:
        held = None if old is None else self._side(self._destination, destination, old)
        try:
            plan = merge_manifests(source, held, policy, partial(self._ages.merge, destination))
        except (MixedTypes, NestedIndex) as error:
            raise evolve(error, reference=str(destination)) from error
        if isinstance(plan.result, Index) and not plan.result.manifests and plan.entries:
            raise NothingEligible(str(source.reference), plan.missing)
        judge(destination, plan, policy)
        is_single = isinstance(source.manifest, Image) or isinstance(old, Image)
        if policy.single_image == "replace" and is_single and plan.changed and old is not None:
            LOG.warning(
                "%s replaces %s, as one of them is a single image", source.reference, destination
            )
        return plan

    def _side(self, registry: Registry, reference: Reference, manifest: Manifest) -> Side:
        """Read the platform of a single image, so that it can be an entry of an index."""
        if isinstance(manifest, Index):
            index = registry.read_nested(reference, manifest)
            return Side(reference, index, index)
        place, job = reference.at(manifest.digest), partial(wrap, registry, reference, manifest)
        return Side(reference, manifest, self._wrapped.get(place, job))
