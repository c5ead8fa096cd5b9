"""Writing: a tag is written so that nothing that somebody else writes there is lost.

Registries have no compare-and-swap: what they offer is to look before and after.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timezone

from attrs import frozen

from pubtools_mlmerge.changes import Change
from pubtools_mlmerge.core.manifests import Manifest
from pubtools_mlmerge.core.plan import Report
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import ConflictError, DigestMismatch, RegistryError
from pubtools_mlmerge.losses import Losses
from pubtools_mlmerge.observe import span
from pubtools_mlmerge.planned import (
    History,
    Planned,
    Recorder,
    StepOptions,
    digest_if_any,
    report_of,
    unlocked,
)
from pubtools_mlmerge.registry.base import Registry
from pubtools_mlmerge.uploading import push

LOG = logging.getLogger("pubtools.mlmerge")

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
    """Writes tags of one registry; safe from several threads.

    Args:
        registry (Registry):
            Reads and writes the tags.
        options (StepOptions):
            Whether to verify, how often to try, and which anchor tag to set.
        recorder (Recorder | None):
            Keeps each change before it is made; none to keep nothing.
        history (History | None):
            Knows what a write replaced; none where the registry does not tell.
    """

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

    def carry_out(self, planned: Planned, check: Callable[[], None] = unlocked) -> Report:
        """Write what was decided, and decide again as long as somebody else writes the tag.

        Args:
            planned (Planned):
                The decision.
            check (Callable[[], None]):
                Called just before each write; raises if the tag must not be written any more.

        Returns:
            MergeReport: What was done.

        Raises:
            ConflictError: When the tag never held what it should.
            RecordFailed: When the change cannot be recorded; the tag is not written then.
            MergeError: When it cannot be done otherwise; the tag then holds what it held before,
                or all of the result.
        """
        if self.options.dry_run or not planned.is_due:
            return report_of(planned, planned, self.options)
        self._anchor_of(planned)  # a template that does not fit comes to light before any write
        losses = Losses(self.registry, self._history)
        with planned.meter.running(), closing(losses):
            return self._insist(planned, check, losses)

    def _insist(self, first: Planned, check: Callable[[], None], losses: Losses) -> Report:
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

    def _finish(self, first: Planned, final: Planned, attempts: int) -> Report:
        return report_of(first, final, self.options, attempts, self._set_anchor(final))

    def _write(self, planned: Planned, check: Callable[[], None]) -> _Conflict | None:
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

    def _record(self, planned: Planned, tag: Reference) -> None:
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

    def _anchor_of(self, planned: Planned) -> Reference | None:
        template = self.options.anchor_tag
        if template is None:
            return None
        return template.apply(planned.destination, planned.plan.result.digest)

    def _set_anchor(self, planned: Planned) -> Reference | None:
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
