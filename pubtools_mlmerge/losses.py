"""Losses: what other writers put under a tag, and was replaced before anybody had read it."""

from __future__ import annotations

import logging

from attrs import evolve

from pubtools_mlmerge.core.manifests import Index, Manifest
from pubtools_mlmerge.core.merge import serve_the_same, union
from pubtools_mlmerge.core.plan import Plan
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.planned import History, Planned, digest_if_any
from pubtools_mlmerge.registry.base import Registry

LOG = logging.getLogger("pubtools.mlmerge")


class Losses:
    """What was lost in the course of one merge, and can be read until this is closed.

    Args:
        registry (Registry):
            Reads it.
        history (History | None):
            Knows what a write replaced; none where the registry does not tell.
    """

    def __init__(self, registry: Registry, history: History | None) -> None:
        self._registry = registry
        self._history = history
        self._recovered: list[Reference] = []
        self._lost: list[Index] = []

    def close(self) -> None:
        """Give up what was made readable."""
        if self._history is not None:
            for reference in self._recovered:
                self._history.forget(reference)

    def look(self, planned: Planned) -> bool:
        """Look for what a write replaced that nobody had read.

        Args:
            planned (Planned):
                What was written.

        Returns:
            bool: Whether there is anything that adds to what is known.

        Raises:
            RegistryError: When it cannot be read.
        """
        if self._history is None:
            return False
        tag, result = planned.destination, planned.plan.result
        known = _digests(result).union(*map(_digests, self._lost))
        number = len(self._lost)
        for reference in self._history.lost(tag, result.digest, planned.seen):
            self._recovered.append(reference)
            manifest = self._registry.pull(reference)
            if isinstance(manifest, Index) and not _digests(manifest) <= known:
                LOG.info("%s: another writer was replaced, merging it back in", tag)
                self._lost.append(manifest)
        return len(self._lost) > number

    def plan_onto(self, planned: Planned, held: Manifest | None, *, is_ours: bool) -> Planned:
        """Plan again, on what a tag holds and what was lost.

        Args:
            planned (Planned):
                What was planned before.
            held (Manifest | None):
                What the tag holds; none if it does not exist.
            is_ours (bool):
                Whether that is the result of what was planned.

        Returns:
            Planned: Not due if it differs from what the tag holds by an order that nobody minds.
        """
        lost: list[Manifest | None] = [*reversed(self._lost)]
        sides = [*lost, planned.old] if is_ours else [held, *lost]
        base = union(side for side in sides if side is not None) if lost else None
        again = evolve(planned.job.decide(base or held), seen=digest_if_any(held))
        plan = again.plan
        if planned.source is None:  # nothing is merged, and the exact bytes may matter
            return again
        if not isinstance(held, Index) or not isinstance(plan.result, Index):
            return again
        if not serve_the_same(plan.result, held):
            return again
        done = Plan(held, plan.entries, changed=False, missing=plan.missing)
        return evolve(again, plan=done)


def _digests(manifest: Manifest) -> frozenset[str]:
    listed = manifest.manifests if isinstance(manifest, Index) else ()
    return frozenset(entry.digest for entry in listed)
