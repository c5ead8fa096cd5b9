"""Write a tag: look, write, look again, and plan again where somebody else wrote it."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timezone
from typing import Protocol

from attrs import evolve, frozen

from pubtools_mlmerge.core.manifests import Index, Manifest
from pubtools_mlmerge.core.merge import serve_the_same, union
from pubtools_mlmerge.core.plan import Plan, Report
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import ConflictError, DigestMismatch, RegistryError
from pubtools_mlmerge.merging.audit import Change, Recorder
from pubtools_mlmerge.merging.decision import (
    Decision,
    StepOptions,
    digest_if_any,
    no_lock,
    report_of,
)
from pubtools_mlmerge.observe import span
from pubtools_mlmerge.registry.base import Registry

LOG = logging.getLogger("pubtools.mlmerge")


def push(
    registry: Registry, destination: Reference, manifest: Manifest, *, repeat: bool = True
) -> str:
    """Write a manifest under a tag, and say so in the log."""
    with span("push", destination=str(destination), digest=manifest.digest):
        digest = registry.push(destination, manifest, repeat=repeat)
    event = {"type": "mlmerge-upload", "destination": str(destination), "digest": digest}
    LOG.info("Uploaded %s to %s", digest, destination, extra={"event": event})
    return digest


class Losses:
    """What was lost in the course of one merge, and can be read until this is closed."""

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

    def look(self, planned: Decision) -> bool:
        """Look for what a write replaced that nobody had read."""
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

    def plan_onto(self, planned: Decision, held: Manifest | None, *, is_ours: bool) -> Decision:
        """Plan again, on what a tag holds and what was lost."""
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


_LOOKS = 4  # how often a tag is read back while the registry still serves what it held before
_FIRST_WAIT = 0.1  # seconds; doubles each time
_LONGEST_WAIT = 2.0
_RATE_LIMIT = 429
_SERVER_FAILED = 500


@frozen(eq=False, repr=False)
class _Conflict:
    """A tag that did not hold what it should."""

    expected: str | None
    found: str | None
    failure: RegistryError | DigestMismatch | None = None
    is_written: bool = False
    """Whether the tag may have held what was written, if only for a moment."""

    def error(self, tag: Reference, tries: int) -> Exception:
        """Say what went wrong in the end: the registry's failure, or another writer."""
        if self.failure is not None:
            return self.failure
        return ConflictError(str(tag), self.expected, self.found, tries)


class Writer:
    """Writes tags of one registry; safe from several threads."""

    def __init__(
        self,
        registry: Registry,
        options: StepOptions,
        recorder: Recorder | None = None,
        history: History | None = None,
    ) -> None:
        self.registry = registry
        self.options = options
        self._recorder = recorder
        self._history = history

    def carry_out(self, planned: Decision, check: Callable[[], None] = no_lock) -> Report:
        """Write what was decided, and decide again as long as somebody else writes the tag."""
        if self.options.dry_run or not planned.is_due:
            return report_of(planned, planned, self.options)
        self._anchor_of(planned)  # a template that does not fit comes to light before any write
        losses = Losses(self.registry, self._history)
        with planned.meter.running(), closing(losses):
            return self._insist(planned, check, losses)

    def _insist(self, first: Decision, check: Callable[[], None], losses: Losses) -> Report:
        planned, conflict = first, None
        for attempt in range(1, self.options.tries + 1):
            planned.job.prepare(planned)
            conflict = self._write(planned, check)
            # Also what was replaced itself may have replaced something.
            has_lost = (conflict is None or conflict.is_written) and losses.look(planned)
            if conflict is None and not has_lost:
                return self._finish(first, planned, attempt)
            if conflict is None:
                held: Manifest | None = planned.plan.result
            else:
                LOG.info("%s: it holds %s now", planned.destination, conflict.found or "nothing")
                _wait(attempt)
                held = self.registry.pull_if_present(planned.destination)
            planned = losses.plan_onto(planned, held, is_ours=conflict is None)
            if not planned.is_due:
                return self._finish(first, planned, attempt + 1)
        conflict = conflict or _Conflict(planned.plan.result.digest, planned.seen)
        raise conflict.error(first.destination, self.options.tries)

    def _finish(self, first: Decision, final: Decision, attempts: int) -> Report:
        return report_of(first, final, self.options, attempts, self._set_anchor(final))

    def _write(self, planned: Decision, check: Callable[[], None]) -> _Conflict | None:
        """Write the tag once, unless it moved; tell if it does not hold the result afterwards."""
        tag, result, verify = planned.destination, planned.plan.result, self.options.verify
        if verify:
            with span("verify", destination=str(tag), expected=planned.seen) as current:
                found = self.registry.digest(tag)
                current.note(found=found)
            if found != planned.seen:
                return _Conflict(planned.seen, found)
        check()
        self._record(planned, tag)
        expected, failure = result.digest, None
        try:
            expected = push(self.registry, tag, result, repeat=not verify)
        except (RegistryError, DigestMismatch) as error:
            if not verify or not _may_be_stored(error):
                raise
            LOG.info("%s", error)
            failure = error
        found = self._read_back(tag, expected, planned.seen) if verify else expected
        if found == expected:
            return None
        return _Conflict(expected, found, failure, is_written=True)

    def _read_back(self, tag: Reference, expected: str, before: str | None) -> str | None:
        """Read what a tag holds, again while that is the old: some registries lag behind."""
        with span("verify", destination=str(tag), expected=expected) as current:
            found = self.registry.digest(tag)
            for look in range(1, _LOOKS):
                if found == expected or found != before:
                    break
                _wait(look)
                found = self.registry.digest(tag)
            current.note(found=found)
        return found

    def _record(self, planned: Decision, tag: Reference) -> None:
        if self._recorder is not None:
            previous, is_known = planned.old, digest_if_any(planned.old) == planned.seen
            if tag != planned.destination or not is_known:
                previous = self.registry.pull_if_present(tag)
            change = Change(
                time=datetime.now(timezone.utc),
                source=planned.source,
                destination=tag,
                source_digest=digest_if_any(planned.new),
                previous=previous,
                new=planned.plan.result,
                entries=planned.plan.entries,
                missing=planned.plan.missing,
            )
            self._recorder.record(change)

    def _anchor_of(self, planned: Decision) -> Reference | None:
        template = self.options.anchor_tag
        if template is None:
            return None
        return template.apply(planned.destination, planned.plan.result.digest)

    def _set_anchor(self, planned: Decision) -> Reference | None:
        anchor = self._anchor_of(planned)
        if anchor is not None:
            self._record(planned, anchor)  # a template may name a tag that is there already
            expected = push(self.registry, anchor, planned.plan.result)
            found = self._read_back(anchor, expected, None) if self.options.verify else expected
            if found != expected:
                raise ConflictError(str(anchor), expected, found, 1)
        return anchor


def _may_be_stored(error: RegistryError | DigestMismatch) -> bool:
    """Tell whether a write may have been done although it failed, or may be done later."""
    if isinstance(error, DigestMismatch) or error.status is None:
        return True
    return error.status == _RATE_LIMIT or error.status >= _SERVER_FAILED


def _wait(attempt: int) -> None:
    longest = min(_LONGEST_WAIT, _FIRST_WAIT * float(2**attempt))
    time.sleep(random.uniform(longest / 2, longest))  # noqa: S311 - keeps writers apart


class History(Protocol):
    """Knows what a write replaced, such as `TagHistory`."""

    def lost(self, tag: Reference, written: str, seen: str | None) -> tuple[Reference, ...]:
        """Make readable again what was replaced by `written` and was not `seen` before."""

    def forget(self, reference: Reference) -> None:
        """Give up what was made readable."""
