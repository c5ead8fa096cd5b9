"""Writing: what another writer puts under a tag is not lost, as far as a registry allows."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterator
from datetime import datetime, timedelta, timezone
from functools import partial

import pytest
from attrs import evolve

from pubtools_mlmerge.concurrency import Stopped
from pubtools_mlmerge.core.manifests import Index, Manifest
from pubtools_mlmerge.core.merge import Side, merge
from pubtools_mlmerge.core.plan import Report
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import (
    AnchorTaken,
    ConflictError,
    DigestMismatch,
    ImmutableTag,
    LockLost,
    MergeError,
    MissingChild,
    OutOfTime,
    RecordFailed,
    RegistryError,
)
from pubtools_mlmerge.locks import no_lock
from pubtools_mlmerge.merging.audit import Change, Recorder
from pubtools_mlmerge.merging.decision import AnchorTag, Decision, StepOptions
from pubtools_mlmerge.merging.step import Step
from pubtools_mlmerge.merging.writer import Writer, push
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.registry.copying import Children
from pubtools_mlmerge.registry.quay_history import TagHistory
from pubtools_mlmerge.testing import (
    Image,
    ImageIndex,
    RegistryServer,
    make_attestation,
    make_image,
    make_index,
)
from tests.factories import digest, index, platforms
from tests.memory import MemoryRegistry
from tests.programs import put
from tests.quay import QuayDialect

SOURCE = Reference.parse("quay.io/ns/app:new")
TAG = Reference.parse("quay.io/ns/app:1")
NEW = index("linux/amd64@new")
OLD = index("linux/amd64@old", "linux/s390x@old")
THEIRS = index("linux/amd64@old", "linux/s390x@old", "linux/arm64@theirs")
MERGED = merge(NEW, OLD).result
ALL = ["linux/amd64", "linux/s390x", "linux/arm64"]
FULL = RecordFailed(str(TAG.tagged("kept")), "/full", "no space left")
PASSING = RegistryError(str(TAG), 500, "sorry")


class Busy(MemoryRegistry):
    """A registry that others write to, and whose writes may fail or show late."""

    def __init__(self) -> None:
        super().__init__()
        # What somebody else does once, between our look and our write, or after our write.
        self.before_write: Callable[[], None] | None = None
        self.after_write: Callable[[], None] | None = None
        self.failures: list[MergeError] = []  # of the next writes
        self.stores = True  # whether a write is done, also one that fails
        self.looks = 0  # how often a digest was asked for
        self.repeated: list[bool] = []  # whether each write would be sent again
        self.lag = 0  # how many reads after a write show what was there before
        self._before: str | None = None
        self.put(TAG, OLD)

    def digest(self, reference: Reference) -> str | None:
        self.looks += 1
        if self.lag and self.pushed:
            self.lag -= 1
            return self._before
        return super().digest(reference)

    def pull(self, reference: Reference) -> Manifest:
        found = super().pull(reference)
        if self.before_write is not None and self.pulled.count(str(TAG)) == 1:
            act, self.before_write = self.before_write, None
            act()
        return found

    def push(self, reference: Reference, manifest: Manifest, *, repeat: bool = True) -> str:
        self._before = self.digest_at(reference)
        failure = self.failures.pop(0) if self.failures else None
        if self.stores:
            self.put(reference, manifest)
        self.pushed.append(str(reference))
        self.repeated.append(repeat)
        if self.after_write is not None:
            act, self.after_write = self.after_write, None
            act()
        if failure is not None:
            raise failure
        return manifest.digest


class Records:
    """Keeps changes; may fail."""

    def __init__(self, registry: MemoryRegistry, failure: MergeError | None = None) -> None:
        self.changes: list[Change] = []
        self.seen: list[str | None] = []
        self._registry = registry
        self.failure = failure

    def __call__(self, change: Change) -> None:
        if self.failure is not None:
            raise self.failure
        self.seen.append(self._registry.digest_at(change.destination))
        self.changes.append(change)


class Lost(TagHistory):
    """A history that names once what a write replaced."""

    def __init__(self, *lost: Reference, failure: BaseException | None = None) -> None:
        self._lost = lost
        self._too_late = failure  # after a write
        self.asked: list[tuple[str, str | None]] = []
        self.cleaned: list[Reference] = []

    def lost(self, tag: Reference, written: str, seen: str | None) -> list[tuple[Reference, bool]]:
        self.asked.append((written, seen))
        lost, self._lost = self._lost, ()
        return [(reference, True) for reference in lost]

    def expiration(self, tag: Reference) -> int:
        return 2_000_000_000

    def expire_at(self, reference: Reference, moment: int) -> None:
        self.forget(reference)

    def forget(self, reference: Reference) -> None:
        self.cleaned.append(reference)
        if self._too_late is not None:
            raise self._too_late


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Note how long each wait would be, without waiting."""
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    return waited


@pytest.fixture
def registry() -> Busy:
    return Busy()


def decided(registry: MemoryRegistry) -> Decision:
    """Decide on the merge of NEW into the tag, on what it holds now."""

    def decide(old: Manifest | None) -> Decision:
        assert old is None or isinstance(old, Index)
        return Decision(Side(SOURCE, NEW, NEW), TAG, old, merge(NEW, old), decide)

    return decide(registry.pull_if_present(TAG))


def write(
    registry: Busy,
    recorder: Recorder | None = None,
    history: TagHistory | None = None,
    check: Callable[[], None] = no_lock,
    *,
    anchor: str = "",
    tries: int = 5,
    verify: bool = True,
    dry_run: bool = False,
) -> Report:
    template = AnchorTag.parse(anchor) if anchor else None
    options = StepOptions(anchor_tag=template, tries=tries, verify=verify, dry_run=dry_run)
    return Writer(registry, options, recorder, history).carry_out(decided(registry), check)


def held(registry: MemoryRegistry) -> list[str]:
    found = registry.pull(TAG)
    assert isinstance(found, Index)
    return sorted(platforms(found))


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_quiet_tag_is_written_once_unless_in_a_dry_run(registry: Busy, *, dry_run: bool) -> None:
    report = write(registry, dry_run=dry_run)

    assert registry.digest_at(TAG) == (OLD if dry_run else MERGED).digest
    assert registry.pushed == ([] if dry_run else [str(TAG)])
    assert (report.digest, report.dry_run) == (MERGED.digest, dry_run)
    assert (report.attempts, report.previous_digest, report.changed) == (1, OLD.digest, True)


@pytest.mark.parametrize(
    ("when", "writes", "looks"), [("before_write", 1, 3), ("after_write", 2, 4)]
)
def test_what_others_write_meanwhile_is_merged_as_well(
    registry: Busy, when: str, writes: int, looks: int
) -> None:
    """Once another writer's index is seen, there is no reason to look for ours again."""
    setattr(registry, when, partial(registry.put, TAG, THEIRS))
    history = Lost()

    report = write(registry, history=history)

    assert held(registry) == sorted(ALL)
    assert (report.attempts, report.previous_digest) == (2, OLD.digest)
    assert (report.digest, len(registry.pushed)) == (registry.digest_at(TAG), writes)
    assert (registry.looks, len(history.asked)) == (looks, writes)


def test_a_tag_may_vanish_or_hold_the_result_meanwhile() -> None:
    vanishing, done = Busy(), Busy()
    vanishing.before_write = vanishing._tags.clear
    done.before_write = partial(done.put, TAG, MERGED)

    anew, same = write(vanishing), write(done)

    assert vanishing.digest_at(TAG) == anew.digest == NEW.digest
    assert (same.digest, same.changed, same.attempts) == (MERGED.digest, True, 2)
    assert done.pushed == []


def test_a_registry_may_lag_behind(registry: Busy, waits: list[float]) -> None:
    registry.lag = 3

    report = write(registry)

    assert (report.attempts, len(waits)) == (1, 3)
    assert registry.pushed == [str(TAG)]


@pytest.mark.parametrize(
    "failure",
    [
        PASSING,
        RegistryError(str(TAG), None, "connection broken"),
        DigestMismatch(str(TAG), digest("stated"), MERGED.digest),
    ],
    ids=["500", "broken", "digest"],
)
def test_a_write_that_failed_may_be_done(registry: Busy, failure: MergeError) -> None:
    registry.failures = [failure]

    report = write(registry)

    assert (registry.digest_at(TAG), report.attempts) == (MERGED.digest, 1)
    assert registry.pushed == [str(TAG)]


@pytest.mark.parametrize("status", [408, 429, 500, 503, None])
def test_a_write_that_failed_in_passing_is_done_again(registry: Busy, status: int | None) -> None:
    registry.failures, registry.stores = [RegistryError(str(TAG), status, "later")], False
    registry.after_write = lambda: setattr(registry, "stores", True)

    report = write(registry)

    assert (registry.digest_at(TAG), report.attempts) == (MERGED.digest, 2)


def test_a_write_that_is_refused_is_not_done_again(registry: Busy) -> None:
    registry.failures = [MissingChild(str(TAG), 400, "no child")]
    registry.stores = False

    with pytest.raises(MissingChild):
        write(registry)

    assert registry.pushed == [str(TAG)]


@pytest.mark.parametrize("tries", [2, 5])
@pytest.mark.parametrize(
    ("held", "result", "cause"),
    [
        (OLD.digest, MERGED.digest, "accepts writes and ignores them"),
        (None, NEW.digest, "whether the registry ignores writes"),
    ],
)
def test_a_registry_that_ignores_writes_is_named_after_the_second(
    registry: Busy, held: str | None, result: str, cause: str, tries: int
) -> None:
    registry.stores = False
    if held is None:
        registry._tags.pop((TAG.name, TAG.tag))

    with pytest.raises(ConflictError, match=cause) as caught:
        write(registry, tries=tries)

    error = caught.value
    assert (error.ignored, error.tries, len(registry.pushed)) == (True, 2, 2)
    assert registry.looks == 2 * (1 + 4)
    assert (error.expected, error.found) == (result, held)


def test_a_write_that_always_fails_raises_its_error(registry: Busy, waits: list[float]) -> None:
    registry.failures, registry.stores = [PASSING] * 9, False

    with pytest.raises(RegistryError, match="HTTP 500"):
        write(registry, tries=9)

    assert registry.digest_at(TAG) == OLD.digest
    assert all(0.05 <= wait <= 2.0 for wait in waits)
    assert max(waits) > 1.0 > min(waits)


def test_a_tag_that_never_rests_is_a_conflict(registry: Busy) -> None:
    def write_again(number: int = 0) -> None:
        registry.put(TAG, index("linux/amd64@old", f"linux/arm64@{number}"))
        registry.after_write = partial(write_again, number + 1)

    registry.after_write = write_again

    with pytest.raises(ConflictError, match="after 3 tries"):
        write(registry, tries=3)


def test_without_verifying_nothing_is_read_or_done_again(registry: Busy) -> None:
    registry.failures = [PASSING]

    with pytest.raises(RegistryError):
        write(registry, verify=False)

    assert (registry.pulled, registry.pushed) == ([str(TAG)], [str(TAG)])


def test_a_lock_or_a_record_that_fails_prevents_the_write(registry: Busy) -> None:
    def check() -> None:
        raise LockLost(str(TAG), "expired")

    records = Records(registry)
    with pytest.raises(LockLost):
        write(registry, records, check=check)
    assert records.changes == []
    with pytest.raises(RecordFailed):
        write(registry, Records(registry, FULL))

    assert registry.pushed == []


def test_a_change_is_recorded_before_it_is_made(registry: Busy) -> None:
    records = Records(registry)

    write(registry, records)

    (change,) = records.changes
    assert records.seen == [OLD.digest]
    assert (change.previous, change.new.content) == (OLD, MERGED.content)
    assert (change.source, change.source_digest, change.destination) == (SOURCE, NEW.digest, TAG)
    assert [entry.fate for entry in change.entries] == ["replaced", "kept"]
    assert change.time.tzinfo is not None


@pytest.mark.parametrize("dry_run", [False, True])
def test_an_anchor_tag_replaces_no_other_tag(registry: Busy, *, dry_run: bool) -> None:
    registry.put(TAG.tagged("latest"), THEIRS)
    words = f"latest: the anchor tag exists and holds {THEIRS.digest}"

    with pytest.raises(AnchorTaken, match=words):
        write(registry, anchor="latest", dry_run=dry_run)

    assert registry.pushed == []


@pytest.mark.parametrize("is_freed", [True, False])
def test_an_anchor_tag_with_the_time_waits_for_one_that_is_free(
    registry: Busy, monkeypatch: pytest.MonkeyPatch, *, is_freed: bool
) -> None:
    now = datetime.now(timezone.utc)
    taken = [TAG.tagged(f"{now + timedelta(seconds=n):%Y%m%d%H%M%S}") for n in range(60)]

    for each in taken:
        registry.put(each, THEIRS)

    def wait(_seconds: float) -> None:
        for each in taken if is_freed else ():
            registry._tags.pop((each.name, each.tag), None)

    monkeypatch.setattr(time, "sleep", wait)
    report = write(registry, anchor="{timestamp}")

    assert registry.digest_at(TAG) == report.digest == MERGED.digest
    written = [each for each in taken if registry.digest_at(each) == MERGED.digest]
    if is_freed:
        assert [each.tag for each in written] == [report.anchor_tag]
    else:
        assert isinstance(report.error, AnchorTaken)
        assert written == []


@pytest.mark.parametrize("name", ["{tag}-kept", "{digest}"])
def test_an_anchor_tag_that_holds_the_result_already_is_left_alone(
    registry: Busy, name: str
) -> None:
    """The same result for another tag may have set it, and it may be immutable since."""
    records, anchor = Records(registry), AnchorTag(name).apply(TAG, MERGED.digest)
    registry.put(anchor, MERGED)

    report = write(registry, records, anchor=name)

    assert [change.destination for change in records.changes] == [TAG]
    assert registry.pushed == [str(TAG)]
    assert (report.anchor_tag, report.error) == (anchor.tag, None)


@pytest.mark.parametrize("failure", [ImmutableTag(str(TAG.tagged("kept")), 409, "no"), FULL])
def test_an_anchor_tag_that_cannot_be_set_is_in_the_report(
    registry: Busy, failure: MergeError
) -> None:
    def break_the_next() -> None:
        if isinstance(failure, RecordFailed):
            records.failure = failure
        else:
            registry.failures = [failure]

    records = Records(registry)
    registry.after_write = break_the_next

    report = write(registry, records, anchor="kept")

    assert (report.error, report.anchor_tag, report.changed) == (failure, None, True)
    assert registry.digest_at(TAG) == report.digest == MERGED.digest


def test_an_anchor_tag_is_written_once_and_read_back(registry: Busy) -> None:
    """Its write may be done although it failed, and to repeat it may replace what came since."""
    registry.after_write = lambda: registry.failures.append(PASSING)

    report = write(registry, anchor="kept")

    assert (report.error, report.anchor_tag) == (None, "kept")
    assert registry.pushed == [str(TAG), str(TAG.tagged("kept"))]
    assert registry.repeated == [False, False]


@pytest.mark.parametrize("theirs", [None, THEIRS])
def test_an_anchor_tag_is_written_again_only_if_nothing_was_stored(
    registry: Busy, theirs: Index | None
) -> None:
    anchor = TAG.tagged("kept")

    def fail_once() -> None:
        registry.failures, registry.stores = [PASSING], False
        registry.after_write = recover

    def recover() -> None:
        registry.stores = True
        if theirs is not None:
            registry.put(anchor, theirs)

    registry.after_write = fail_once

    report = write(registry, anchor="kept")

    assert registry.digest_at(anchor) == (theirs or MERGED).digest
    assert report.error == (None if theirs is None else PASSING)
    assert registry.pushed[1:] == [str(anchor)] * (2 if theirs is None else 1)


@pytest.mark.parametrize(
    ("failure", "problem"),
    [(LockLost(str(TAG), "expired"), "expired"), (OSError("no answer"), "OSError: no answer")],
)
def test_an_anchor_tag_is_not_set_without_its_lock(
    registry: Busy, failure: Exception, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The check of a site's lock may raise anything, and the tag is written by then."""

    def check() -> None:
        if registry.pushed:
            raise failure

    records = Records(registry)
    report = write(registry, records, check=check, anchor="kept")

    assert [change.destination for change in records.changes] == [TAG]
    assert str(report.error) == str(LockLost(str(TAG.tagged("kept")), problem))
    assert registry.pushed == [str(TAG)]
    assert caplog.messages[-1] == (
        f"{TAG} is written and holds {report.digest}, but perhaps not its anchor tag"
    )


def test_what_was_replaced_unseen_is_merged_back_in(registry: Busy) -> None:
    lost, records = TAG.tagged("recovered"), Records(registry)
    registry.put(lost, index("linux/arm64@theirs"))
    history = Lost(lost)

    report = write(registry, records, history)

    assert held(registry) == sorted(ALL)
    assert (report.attempts, report.counts) == (2, {"replaced": 1, "kept": 2})
    assert history.asked == [(MERGED.digest, OLD.digest), (report.digest, MERGED.digest)]
    assert history.cleaned == [TAG, lost]
    previous = [change.previous for change in records.changes]  # what the tag really held
    assert [each.digest if each else None for each in previous] == [OLD.digest, MERGED.digest]


def test_what_was_replaced_unseen_may_add_nothing(registry: Busy) -> None:
    lost = TAG.tagged("recovered")
    registry.put(lost, index("linux/amd64@other"))
    history = Lost(lost)

    report = write(registry, history=history)

    assert (report.digest, report.attempts) == (MERGED.digest, 2)
    assert (registry.pushed, history.cleaned) == ([str(TAG)], [TAG, lost])


@pytest.mark.parametrize("failure", [OutOfTime(str(TAG), 60), Stopped()])
def test_who_has_no_time_left_after_a_write_still_gets_the_report(
    registry: Busy, failure: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    lost = TAG.tagged("recovered")
    registry.put(lost, THEIRS)

    report = write(registry, history=Lost(lost, failure=failure))

    assert report.digest == registry.digest_at(TAG)
    assert caplog.messages[-2:] == [
        f"{TAG} does not expire: no time was left to set that again",
        f"A temporary tag could not be deleted: {lost}: no time was left",
    ]


def test_losses_without_end_are_a_conflict(registry: Busy) -> None:
    lost = TAG.tagged("recovered")
    registry.put(lost, THEIRS)

    with pytest.raises(ConflictError):
        write(registry, tries=1, history=Lost(lost))


def test_what_is_needed_is_brought_for_each_try(registry: Busy) -> None:
    brought: list[str | None] = []
    plan = decided(registry)

    def decide(old: Manifest | None) -> Decision:
        return evolve(plan.decide(old), decide=decide, prepare=prepare)

    def prepare(decision: Decision) -> None:
        brought.append(decision.seen)

    registry.after_write = partial(registry.put, TAG, THEIRS)
    Writer(registry, StepOptions()).carry_out(decide(registry.pull(TAG)))

    assert brought == [OLD.digest, THEIRS.digest]


# Uploads in the log


def test_what_is_refused_is_not_logged_as_written(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "pubtools.mlmerge")
    registry = MemoryRegistry()
    registry.refusals[str(TAG)] = ImmutableTag(str(TAG), 409, "no")

    with pytest.raises(ImmutableTag):
        push(registry, TAG, index())

    assert caplog.messages == []


# On Quay, what was replaced unread is found in the history, also behind another write


TOKEN = "0auth+t0ken"


def listing(*architectures: str) -> ImageIndex:
    return make_index([make_image(f"linux/{a}", docker=True) for a in architectures], docker=True)


BASE, OURS = listing("loong64"), listing("s390x")
EARLIER, LATER = listing("amd64", "loong64"), listing("arm64", "loong64")


class Quay:
    """A Quay on which others write at the worst of times."""

    def __init__(self, immutable: Collection[str] = ()) -> None:
        self.now = 1_700_000_000.0
        self.server = RegistryServer(
            dialect=QuayDialect(TOKEN), clock=lambda: self.now, immutable_tags=immutable
        )

    def write(self, item: Image | ImageIndex, seconds: float = 60) -> None:
        self.now += seconds
        put(self.server, "1", item)

    def merge(
        self,
        before: Callable[[], None] | None = None,
        after: Callable[[], None] | None = None,
        later: Callable[[], None] | None = None,
        *,
        dry_run: bool = False,
        verify: bool = True,
    ) -> Report:
        """Merge our source, with something done before or after the first write, or later."""
        client = Interrupted(self.server.url, before, after, later)
        options = StepOptions(dry_run=dry_run, verify=verify)
        writer = Writer(client, options, history=TagHistory(client, TOKEN))
        step = Step(client, writer, Children(client, client))
        name = Reference(self.server.host, "app", tag="1")
        self.now += 60
        return step.merge([name.tagged("ours")], name)

    @property
    def held(self) -> set[str]:
        index = RegistryClient(host=self.server.url).pull_index(Reference("", "app", tag="1"))
        return {str(entry.slot) for entry in index.manifests}


class Interrupted(RegistryClient):
    """A client that others come before and after; later is before the second write."""

    def __init__(self, host: str, *others: Callable[[], None] | None) -> None:
        super().__init__(host=host)
        self.before, self.after, self.later = others
        self.pushed = 0

    def push(self, reference: Reference, manifest: Manifest, *, repeat: bool = True) -> str:
        before, self.before, self.later = self.before, self.later, None
        if before is not None:
            before()
        self.pushed += 1
        digest = super().push(reference, manifest, repeat=repeat)
        after, self.after = self.after, None
        if after is not None:
            after()
        return digest


@pytest.fixture
def quay() -> Iterator[Quay]:
    made = Quay()
    with made.server:
        put(made.server, "ours", OURS)
        for item in (EARLIER, LATER):
            put(made.server, "others", item)
        made.write(BASE)
        yield made


def all_of(*architectures: str) -> set[str]:
    return {f"linux/{each}" for each in architectures}


SINGLES = {name: make_image(f"linux/{name}", docker=True) for name in ("amd64", "arm64")}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ((EARLIER, 10), None, ["amd64"]),
        ((EARLIER, 0), None, ["amd64"]),
        ((SINGLES["amd64"], 10), None, ["amd64"]),
        # Another one over our write, which is merged with what that replaced.
        ((EARLIER, 0), (SINGLES["arm64"], 1), ["amd64", "arm64"]),
        ((EARLIER, 0), (LATER, 1), ["amd64", "arm64"]),
    ],
)
def test_who_comes_between_the_look_and_the_write_is_merged_back_in(
    quay: Quay,
    before: tuple[Image | ImageIndex, float],
    after: tuple[Image | ImageIndex, float] | None,
    expected: list[str],
) -> None:
    others = [partial(quay.write, *each) for each in (before, after) if each is not None]

    report = quay.merge(*others)

    assert quay.held == all_of("s390x", "loong64", *expected)
    assert report.attempts == 2
    assert quay.server.tags("app") == ("1", "others", "ours")
    known, tag = history(quay)
    assert known.expiration(tag) is None  # as before


AMD64 = [make_image("linux/amd64", docker=True, seed=str(number)) for number in range(3)]
TURNS = [make_index([image], docker=True) for image in AMD64]


@pytest.mark.parametrize(
    ("before", "after"),
    [([(TURNS[0], 10), (TURNS[1], 5)], None), ([(TURNS[1], 10)], (TURNS[2], 1))],
)
def test_of_what_others_wrote_for_a_platform_the_newest_is_merged_back_in(
    quay: Quay, before: list[tuple[ImageIndex, float]], after: tuple[ImageIndex, float] | None
) -> None:
    """The first of two was replaced by the second, in the second of our write."""

    def write_all(*each: tuple[ImageIndex, float]) -> None:
        for item, seconds in each:
            quay.write(item, seconds)

    def write_later() -> None:
        if after is not None:
            write_all(after)
            quay.now += 5

    quay.merge(partial(write_all, *before), write_later)

    newest, _ = after or before[-1]
    assert held_for_amd64(quay) == [newest.children[0].digest]


def test_what_was_seen_is_newer_than_what_it_replaced(quay: Quay) -> None:
    """All in one second, so that the history may show either as replaced by our write."""
    quay.write(TURNS[0])
    quay.write(TURNS[1], 0)
    quay.now -= 60

    quay.merge()

    assert held_for_amd64(quay) == [AMD64[1].digest]


def test_the_newest_stays_first_when_an_older_one_is_found_again(quay: Quay) -> None:
    """Without a look before the write, which would find both."""

    def write_both() -> None:
        quay.write(TURNS[0], 0)
        quay.write(TURNS[1], 0)

    quay.merge(after=write_both, verify=False)

    assert held_for_amd64(quay) == [AMD64[1].digest]


def test_what_was_seen_before_is_merged_back_in_if_it_was_written_again(quay: Quay) -> None:
    quay.write(EARLIER)

    quay.merge(after=partial(quay.write, BASE), later=partial(quay.write, EARLIER))

    assert quay.held == all_of("s390x", "loong64", "amd64")


def held_for_amd64(quay: Quay) -> list[str]:
    listed = json.loads(quay.server.manifest("app", "1").content)["manifests"]
    return [each["digest"] for each in listed if each["platform"]["architecture"] == "amd64"]


def test_what_the_tag_held_at_first_is_not_merged_back_in(quay: Quay) -> None:
    """All writes are in one second, in which the history shows it as well."""
    quay.write(TURNS[0])

    quay.merge(before=lambda: quay.write(TURNS[1], 10))

    assert held_for_amd64(quay) == [AMD64[1].digest]


def test_a_nested_index_that_was_replaced_unseen_covers_what_it_lists(quay: Quay) -> None:
    quay.write(EARLIER)

    quay.merge(before=lambda: quay.write(make_index([make_index(AMD64[:1])]), 10))

    assert quay.held == {*all_of("s390x", "loong64"), "None"}


def test_an_artifact_that_was_replaced_unseen_is_named(
    quay: Quay, caplog: pytest.LogCaptureFixture
) -> None:
    artifact = make_attestation(make_image(), artifact=True)

    quay.merge(before=lambda: quay.write(artifact, 10))

    assert quay.held == all_of("s390x", "loong64")
    assert any("which no index can list" in message for message in caplog.messages)


def test_another_order_is_no_reason_to_write_again(quay: Quay) -> None:
    everything = listing("loong64", "s390x")
    put(quay.server, "everything", everything)

    report = quay.merge(after=lambda: quay.write(everything, 0))

    assert (report.digest, report.attempts) == (everything.digest, 2)
    assert quay.server.manifest("app", "1").digest == everything.digest


def history(quay: Quay) -> tuple[TagHistory, Reference]:
    client = RegistryClient(host=quay.server.url)
    return TagHistory(client, TOKEN), Reference(quay.server.host, "app", tag="1")


def test_a_tag_that_expires_does_so_after_a_merge(
    quay: Quay, caplog: pytest.LogCaptureFixture
) -> None:
    known, tag = history(quay)
    known.expire_at(tag, 2_000_000_000)

    quay.merge(dry_run=True)
    quay.merge(before=lambda: quay.write(EARLIER, 10))

    assert known.expiration(tag) == 2_000_000_000
    assert quay.held == all_of("s390x", "amd64", "loong64")
    said = [message for message in caplog.messages if "expires" in message]
    assert said == [f"{tag} expires at 2033-05-18T03:33:20+00:00; a merge sets that again"]


def test_a_tag_that_has_expired_is_absent(quay: Quay, caplog: pytest.LogCaptureFixture) -> None:
    known, tag = history(quay)
    known.expire_at(tag, int(quay.now) + 30)

    assert quay.merge(dry_run=True).previous_digest is None
    assert quay.merge().previous_digest is None

    assert (quay.held, known.expiration(tag)) == (all_of("s390x"), None)
    assert [message for message in caplog.messages if "expire" in message] == []


def test_a_dry_run_warns_of_an_immutable_tag(caplog: pytest.LogCaptureFixture) -> None:
    quay = Quay(immutable=["1"])
    with quay.server:
        put(quay.server, "ours", OURS)
        quay.write(BASE)

        quay.merge(dry_run=True)

        assert caplog.messages == [
            f"{history(quay)[1]} is immutable: Quay would refuse to write it"
        ]
        with pytest.raises(ImmutableTag):
            quay.merge()
