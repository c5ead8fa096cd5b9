"""Write a tag: read it, write, read it back, and decide again if another program wrote it."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timezone

from attrs import evolve, frozen

from pubtools_mlmerge.concurrency import STOP, Stopped
from pubtools_mlmerge.core.manifests import Image, Index, Manifest
from pubtools_mlmerge.core.merge import serve_the_same, union
from pubtools_mlmerge.core.plan import Plan, Report
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import (
    AnchorTaken,
    ConflictError,
    DigestMismatch,
    InvalidIndex,
    LockLost,
    MergeError,
    OutOfTime,
    RegistryError,
    Unauthorized,
    brief,
)
from pubtools_mlmerge.locks import no_lock
from pubtools_mlmerge.merging.audit import Change, Recorder
from pubtools_mlmerge.merging.decision import Decision, StepOptions
from pubtools_mlmerge.observe import span
from pubtools_mlmerge.registry.base import Registry
from pubtools_mlmerge.registry.http import TRANSIENT
from pubtools_mlmerge.registry.quay_history import TagHistory

LOG = logging.getLogger("pubtools.mlmerge")

_LOOKS = 4  # how often a tag is read back while the registry still serves what it held before
_FIRST_WAIT = 0.1  # seconds; doubles each time
_LONGEST_WAIT = 2.0
_IGNORED = 2  # writes in a row that were accepted and not done
_SERVER_FAILED = 500


def push(
    registry: Registry,
    destination: Reference,
    manifest: Manifest,
    *,
    repeat: bool = True,
    level: int = logging.INFO,
) -> str:
    """Write a manifest under a tag, traced and logged."""
    with span("push", destination=str(destination), digest=manifest.digest):
        digest = registry.push(destination, manifest, repeat=repeat)
    event = {"type": "mlmerge-upload", "destination": str(destination), "digest": digest}
    LOG.log(level, "Uploaded %s to %s", digest, destination, extra={"event": event})
    return digest


@contextmanager
def expiration_kept(history: TagHistory | None, tag: Reference) -> Iterator[None]:
    """Set a tag's expiration again: Quay clears it when the tag is written."""
    moment = None if history is None else history.expiration(tag)
    yield
    if history is not None and moment is not None:
        try:
            with STOP.finishing(cleans=True):
                history.expire_at(tag, moment)
        except (OutOfTime, Stopped):  # the tag is written, so its report must appear
            LOG.warning("%s does not expire: no time was left to set that again", tag)


class Writer:
    """Writes tags of one registry; safe from several threads."""

    def __init__(
        self,
        registry: Registry,
        options: StepOptions,
        recorder: Recorder | None = None,
        history: TagHistory | None = None,
    ) -> None:
        self.registry = registry
        self.options = options
        self._recorder = recorder
        self._history = history

    def carry_out(self, decision: Decision, check: Callable[[], None] = no_lock) -> Report:
        """Write the result; if another program writes the tag, decide again and write that."""
        tag, is_due, dry_run = decision.destination, decision.is_due, self.options.dry_run
        if dry_run and is_due and self._history is not None:
            self._history.warn(tag)
        if is_due:
            self._anchor_of(decision, is_early=True)  # fails before the first write
        if dry_run or not is_due:
            return decision.report(dry_run=dry_run)
        decision.prepare(decision)
        overwritten = _Overwritten(self.registry, self._history)
        history = self._history if decision.seen is not None else None
        try:
            with closing(overwritten), expiration_kept(history, tag):
                return self._write_until_held(decision, check, overwritten)
        except Stopped as stopped:
            words = "interrupted during the write, it holds its old content or the result"
            raise Stopped(f"{tag}: {words}") from stopped

    def _write_until_held(
        self, first: Decision, check: Callable[[], None], overwritten: _Overwritten
    ) -> Report:
        decision, conflict, ignored = first, None, 0
        for attempt in range(1, self.options.tries + 1):
            if attempt > 1:
                decision.prepare(decision)
            conflict = self._write(decision, check)
            ignored = ignored + 1 if conflict and conflict.is_ignored(decision.seen) else 0
            if conflict and ignored == _IGNORED:
                tag, expected = str(first.destination), conflict.expected
                raise ConflictError(tag, expected, conflict.found, attempt, ignored=True)
            # Even a write that somebody else replaced since may itself have replaced something.
            is_written = conflict is None or conflict.is_written
            has_replaced = is_written and overwritten.look(decision)
            if conflict is None and not has_replaced:
                return self._finish(first, decision, attempt, check)
            if conflict is None:
                decision = overwritten.decide(decision, decision.plan.result, is_ours=True)
            else:
                found = conflict.found or "nothing"
                LOG.info("%s: it holds %s now", decision.destination, found)
                _wait(attempt)
                held, is_hidden = self.registry.look(decision.destination)
                decision = overwritten.decide(decision, held, is_ours=False)
                decision = evolve(decision, is_hidden=is_hidden)
            if not decision.is_due:
                return self._finish(first, decision, attempt + 1, check)
        conflict = conflict or _Conflict(decision.plan.result.digest, decision.seen)
        raise conflict.as_error(first.destination, self.options.tries)

    @STOP.finishing()
    def _finish(
        self, first: Decision, final: Decision, attempts: int, check: Callable[[], None]
    ) -> Report:
        anchor, is_new, failure = None, False, None
        try:
            anchor, is_new = self._set_anchor(final, check)
        except (MergeError, Stopped) as error:  # the tag is written, so its report must appear
            failure = error if isinstance(error, MergeError) else None
            words = "%s is written and holds %s, but perhaps not its anchor tag"
            level = logging.WARNING if failure else logging.ERROR  # nothing else says so
            LOG.log(level, words, final.destination, final.plan.result.digest)
        report = first.report(final, attempts=attempts, anchor=anchor, error=failure)
        return evolve(report, anchor_is_new=is_new)

    @STOP.finishing()
    def _write(self, decision: Decision, check: Callable[[], None]) -> _Conflict | None:
        """Write the tag once, unless it moved; None if it then holds the result."""
        tag = decision.destination
        if self.options.verify:
            with span("verify", destination=str(tag), expected=decision.seen) as current:
                found = self.registry.digest(tag)
                current.note(found=found)
            if found != decision.seen:
                return _Conflict(decision.seen, found)
        # The images are there by now, so the repository exists, and who may read it sees the tag.
        if decision.is_hidden and decision.needed and self.registry.look(tag)[1]:
            problem = "this login may write the tag and not read it, so it may hold other images"
            raise Unauthorized(str(tag), message=problem, logged_in=True)
        check()
        STOP.check(begins=True)
        return self._put(decision, tag, decision.seen)

    def _put(self, decision: Decision, tag: Reference, before: str | None) -> _Conflict | None:
        """Write the result under a tag that held something before; None if it holds it then."""
        self._record(decision, tag)
        result, verify = decision.plan.result, self.options.verify
        expected, failure = result.digest, None
        try:
            expected = push(
                self.registry, tag, result, repeat=not verify, level=self.options.upload_level
            )
        except (RegistryError, DigestMismatch) as error:
            if not verify or not _may_be_stored(error):
                raise
            LOG.info("%s", error)
            failure = error
        try:
            found = self._read_back(tag, expected, before) if verify else expected
        except RegistryError as error:
            outcome = "may have been written" if failure else "was written"
            words = f"{expected} {outcome}, but the tag cannot be read back"
            message = f"{brief(error.message, 300)}; {words}" if error.message else words
            raise evolve(error, message=message) from error
        if found == expected:
            return None
        return _Conflict(expected, found, failure, is_written=True)

    def _read_back(self, tag: Reference, expected: str, before: str | None) -> str | None:
        """Read a tag, again while it has the old digest, as some registries lag behind."""
        with span("verify", destination=str(tag), expected=expected) as current:
            found = self.registry.digest(tag)
            for look in range(1, _LOOKS):
                if found == expected or found != before:
                    break
                _wait(look)
                found = self.registry.digest(tag)
            current.note(found=found)
        return found

    def _record(self, decision: Decision, tag: Reference) -> None:
        if self._recorder is None:
            return
        previous = decision.old
        holds_old = decision.seen == (None if previous is None else previous.digest)
        if tag != decision.destination or not holds_old:
            previous = self.registry.pull_if_present(tag)
        sources = tuple(side.reference for side in decision.sources)
        change = Change(
            time=datetime.now(timezone.utc),
            source=next(iter(sources), None),
            destination=tag,
            source_digest=None if decision.new is None else decision.new.digest,
            previous=previous,
            new=decision.plan.result,
            entries=decision.plan.entries,
            missing=decision.plan.missing,
            sources=sources,
        )
        self._recorder(change)

    def _anchor_of(
        self, decision: Decision, *, is_early: bool = False
    ) -> tuple[Reference | None, bool]:
        """Name the anchor tag, and say whether it holds the result already; it may be new."""
        template, digest = self.options.anchor_tag, decision.plan.result.digest
        if template is None:
            return None, False
        for _ in range(self.options.tries):
            anchor = template.apply(decision.destination, digest)
            found = None if is_early and template.is_new else self.registry.digest(anchor)
            if found is None or found == digest:
                return anchor, found == digest
            taken = AnchorTaken(str(anchor), found)
            if not template.has_time:
                break
            STOP.sleep(1.0)  # then it has another name
        raise taken

    def _set_anchor(
        self, decision: Decision, check: Callable[[], None]
    ) -> tuple[Reference | None, bool]:
        """Set the anchor tag, if there is to be one; return whether it had to be written."""
        anchor, is_set = self._anchor_of(decision)
        if anchor is None or is_set:  # an immutable one cannot be written again
            return anchor, False
        for attempt in range(1, self.options.tries + 1):
            try:
                check()
            except LockLost as error:
                raise evolve(error, reference=str(anchor)) from error
            except Exception as error:  # a site's lock may raise anything
                raise LockLost(str(anchor), f"{type(error).__name__}: {error}") from error
            conflict = self._put(decision, anchor, None)
            if conflict is None:
                break
            # Once more only if nothing was stored: else that of somebody else may be lost.
            is_stored = conflict.error is None or conflict.found is not None
            if is_stored or attempt == self.options.tries:
                raise conflict.as_error(anchor, attempt)
            _wait(attempt)
        return anchor, True


@frozen(eq=False)
class _Conflict:
    """A tag did not hold the expected digest."""

    expected: str | None
    found: str | None
    error: RegistryError | DigestMismatch | None = None  # of the write, if that failed
    is_written: bool = False  # whether the tag may have held the result, if only for a moment

    def as_error(self, tag: Reference, tries: int) -> MergeError:
        return self.error or ConflictError(str(tag), self.expected, self.found, tries)

    def is_ignored(self, before: str | None) -> bool:
        """Whether the write was accepted and the tag still holds what it held before."""
        return self.is_written and not self.error and self.found == before


class _Overwritten:
    """Manifests that our writes replaced unread; kept readable until this is closed."""

    def __init__(self, registry: Registry, history: TagHistory | None) -> None:
        self._registry = registry
        self._history = history
        self._readable: list[Reference] = []
        # Digests of what was merged or seen: the history may show it again, within one second.
        self._known: set[str | None] = set()
        # What is merged back in, the newest first; newer or older than what the last write saw.
        self._newer: list[Index] = []
        self._older: list[Index] = []

    @STOP.finishing(cleans=True)
    def close(self) -> None:
        """Delete the temporary tags."""
        if self._history is not None:
            for reference in self._readable:
                try:
                    self._history.forget(reference)
                except (OutOfTime, Stopped):  # as above
                    words = "A temporary tag could not be deleted: %s: no time was left"
                    LOG.warning(words, reference)

    @STOP.finishing()
    def look(self, decision: Decision) -> bool:
        """Look for what the write of a decision replaced; return whether there was more."""
        if self._history is None:
            return False
        tag, result = decision.destination, decision.plan.result
        self._older[:0], self._newer = self._newer, []
        listed = _digests(result)
        older: list[Index] = []
        has_more = False
        self._known |= {decision.seen, result.digest}
        for reference, is_newer in self._history.lost(tag, result.digest, decision.seen):
            self._readable.append(reference)
            manifest = self._registry.pull(reference)
            if not is_newer and manifest.digest in self._known:
                continue
            self._known.add(manifest.digest)
            index = listing(self._registry, reference, manifest)
            if index is None:
                continue
            (self._newer if is_newer else older).append(index)
            if not _digests(index) <= listed:
                LOG.info("%s: another writer was replaced, merging it back in", tag)
                has_more = True
        self._older[:0] = older
        return has_more

    def decide(self, decision: Decision, held: Manifest | None, *, is_ours: bool) -> Decision:
        """Decide again, on what the tag holds and on what was replaced."""
        base: Manifest | None = held
        if self._newer or self._older:
            other = decision.old if is_ours else held
            index = other and listing(self._registry, decision.destination, other)
            sides = [*self._newer, index] if is_ours else [index, *self._newer]
            sides += self._older
            base = union(side for side in sides if side is not None)
        again = decision.decide(base)
        plan = again.plan
        if (
            decision.merged is not None  # else nothing is merged, and the exact bytes may matter
            and isinstance(held, Index)
            and isinstance(plan.result, Index)
            and serve_the_same(plan.result, held)
        ):
            plan = Plan(held, plan.entries, changed=False, missing=plan.missing)
        return evolve(again, plan=plan, seen=None if held is None else held.digest)


def listing(registry: Registry, reference: Reference, manifest: Manifest) -> Index | None:
    """Return an index, or for a single image one that lists it (law 11); none for the rest."""
    if isinstance(manifest, Index):
        return registry.read_nested(reference, manifest)
    index = wrap(registry, reference, manifest)
    if index.manifests[0].slot is None:
        LOG.warning("%s: %s, which no index can list", reference, manifest.kind)
        return None
    return index


def wrap(registry: Registry, reference: Reference, image: Image) -> Index:
    """Make an index that lists a single image, with the platform that its config states."""
    try:
        return image.wrap(registry.pull_config(reference, image))
    except InvalidIndex:  # the config of an artifact states no platform
        return image.wrap(None)


def _digests(manifest: Manifest) -> frozenset[str]:
    listed = manifest.manifests if isinstance(manifest, Index) else ()
    return frozenset(entry.digest for entry in listed)


def _may_be_stored(error: RegistryError | DigestMismatch) -> bool:
    """Whether a write may have been done although it failed, or may be done later."""
    if isinstance(error, DigestMismatch) or error.status is None:
        return True
    return error.status in TRANSIENT or error.status >= _SERVER_FAILED


def _wait(attempt: int) -> None:
    longest = min(_LONGEST_WAIT, _FIRST_WAIT * float(2**attempt))
    STOP.sleep(random.uniform(longest / 2, longest))  # noqa: S311 - keeps writers apart
