"""The push step: judge each tag of each push item, and merge where the copy would take away."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from typing import Literal, Protocol, TypeVar

from attrs import frozen
from pubtools.pluggy import pm

from pubtools_mlmerge.concurrency import map_in_order_by
from pubtools_mlmerge.core.manifests import (
    DOCKER_LIST,
    DOCKER_MANIFESTS,
    OCI_INDEX,
    Descriptor,
    Index,
    Manifest,
)
from pubtools_mlmerge.core.plan import Report
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import (
    ConflictError,
    MergeError,
    NotAnIndex,
    StepNotDone,
)
from pubtools_mlmerge.hooks import announce, lock_tag
from pubtools_mlmerge.host.clients import Sides, make_sides
from pubtools_mlmerge.host.requests import MergeRequest
from pubtools_mlmerge.host.task import TaskReports
from pubtools_mlmerge.host.types import Pusher, PushItem
from pubtools_mlmerge.merging.audit import task_records
from pubtools_mlmerge.merging.decision import Decision, StepOptions
from pubtools_mlmerge.merging.image_ages import Ages
from pubtools_mlmerge.merging.step import Step
from pubtools_mlmerge.merging.writer import Writer, push
from pubtools_mlmerge.registry.copying import Children
from pubtools_mlmerge.reports.report import to_text
from pubtools_mlmerge.settings import ItemSettings, Settings

LOG = logging.getLogger("pubtools.mlmerge")

_Outcome = TypeVar("_Outcome")


@frozen
class Tag:
    """One destination of a push item."""

    repository: str  # its external name
    reference: Reference  # by its internal name
    signing_key: str | None

    @property
    def name(self) -> str:
        """Repository and tag, as the public names them."""
        return f"{self.repository}:{self.reference.tag}"


def tags_of(quay_host: str, target_settings: Mapping[str, object], item: PushItem) -> list[Tag]:
    """List the destinations of a push item."""
    namespace = target_settings["quay_namespace"]
    references = {
        f"{quay_host}/{namespace}/{repository.replace('/', '----')}:{tag}": repository
        for repository, names in item.metadata["tags"].items()
        for tag in names
    }
    return [
        Tag(repository, Reference.parse(reference), item.claims_signing_key)
        for reference, repository in references.items()
    ]


def is_source_container(item: PushItem) -> bool:
    """Whether an item brings the sources of an image, which are never merged."""
    build = item.metadata.get("build")
    extra = build.get("extra") if isinstance(build, Mapping) else None
    image = extra.get("image") if isinstance(extra, Mapping) else None
    return isinstance(image, Mapping) and bool(image.get("sources_for_nvr"))


class SignEntry(Protocol):
    """One claim, as the host hands it to signers."""

    pub_reference: str
    digest: str


@frozen(eq=False)
class Held:
    """A tag that holds a merged index, or an OCI index that was copied."""

    tag: Tag
    digest: str
    to_sign: tuple[tuple[str, str], ...]  # digests with architectures that the host does not sign
    listed: frozenset[str]
    is_oci: bool


def hold(tag: Tag, report: Report, new: Manifest | None) -> Held:
    """Note what a merged tag holds now."""
    entries = [entry for entry in report.entries if entry.fate not in ("dropped", "excluded")]
    # The host signs the images of a Docker list that it pushes, whatever became of the list.
    is_docker_list = isinstance(new, Index) and new.media_type == DOCKER_LIST
    left = [
        entry.descriptor
        for entry in entries
        if entry.fate == "kept"
        or not is_docker_list
        or entry.descriptor.media_type not in DOCKER_MANIFESTS
    ]
    is_oci = report.media_type == OCI_INDEX
    listed = frozenset(entry.descriptor.digest for entry in entries)
    return Held(tag, report.digest, _to_sign(report.digest, left), listed, is_oci)


def hold_copy(tag: Tag, index: Index) -> Held:
    """Note an OCI index that was copied: the host knows none, and signs none of its images."""
    listed = frozenset(entry.digest for entry in index.manifests)
    return Held(tag, index.digest, _to_sign(index.digest, index.manifests), listed, is_oci=True)


def _to_sign(digest: str, entries: Iterable[Descriptor]) -> tuple[tuple[str, str], ...]:
    images = {e.digest: e.platform.architecture if e.platform else "" for e in entries}
    return ((digest, ""), *images.items())


@frozen(eq=False)
class _Judged:
    """A tag that was looked at, and is locked until it is written."""

    tag: Tag
    check: Callable[[], None]
    found: Decision | MergeError | None  # None where the source cannot be read, and need not be

    @property
    def decision(self) -> Decision | None:
        """What was decided, if the tag can be merged."""
        return self.found if isinstance(self.found, Decision) else None


class PushStep:
    """Merges the tags of one push; safe from several threads."""

    def __init__(self, settings: Settings, push_items: Iterable[PushItem] = ()) -> None:
        self.settings = settings
        self._settings = ItemSettings(settings, push_items)
        self._reports = TaskReports()
        self._lock = threading.Lock()
        self._sides: Sides | None = None
        self._children: Children | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._steps: dict[Settings, Step] = {}
        self._expected: list[Tag] = []
        self._judged: set[Reference] = set()
        self._before: dict[Reference, Manifest | None] = {}
        self._merged: list[Report] = []
        self._held: dict[Reference, Held] = {}
        self._never_held: set[tuple[str, str]] = set()  # repository:tag, and digest of a source
        self._signed: set[tuple[str, Reference]] = set()  # by the label of the signer

    @property
    def held(self) -> tuple[Held, ...]:
        """The tags that hold a merged index, or an OCI index that was copied."""
        with self._lock:
            return tuple(self._held.values())

    @property
    def merged(self) -> tuple[Report, ...]:
        """The merges so far, in that order; a tag may have several."""
        with self._lock:
            return tuple(self._merged)

    @property
    def before(self) -> Mapping[Reference, Manifest | None]:
        """What the judged tags held when they were first looked at."""
        with self._lock:
            return dict(self._before)

    # One push, from start to end

    @contextmanager
    def running(self) -> Iterator[None]:
        """Bracket a push; if it fails, name what was merged before."""
        with self._reports.summed_up(), closing(self):
            try:
                yield
            except Exception:
                self._name_merged()
                raise

    def close(self) -> None:
        """End the threads and connections."""
        with self._lock:
            pool, children, sides = self._pool, self._children, self._sides
            self._pool = self._children = self._sides = None
            self._steps.clear()
        if pool is not None:
            pool.shutdown()
        if children is not None:
            children.close()
        if sides is not None:
            sides.close()

    def _name_merged(self) -> None:
        for report in self.merged:
            if report.changed:
                LOG.error(
                    "%s was merged before the push failed, it held %s; to put that back: %s",
                    report.destination,
                    report.previous_digest or "nothing",
                    _restore_command(report, self.settings.audit),
                )

    def expect(self, quay_host: str, target: dict[str, object], items: Iterable[PushItem]) -> None:
        """Note the tags that have to be judged until the end."""
        for item in items:
            if not is_source_container(item):
                self._expected += tags_of(quay_host, target, item)

    def note_signed(self, label: str, tags: Iterable[Tag]) -> None:
        """Note that claims about tags were handed to a signer."""
        with self._lock:
            self._signed.update((label, tag.reference) for tag in tags)

    def check_done(self, labels: Iterable[str]) -> None:
        """Raise for tags that were not judged, or not handed to a signer of these labels."""
        missed = {str(t.reference) for t in self._expected if t.reference not in self._judged}
        if missed:
            problem = "pubtools-quay copied these tags without the step, so they may lack images"
            raise StepNotDone(problem, tuple(sorted(missed)))
        for report in self.merged:
            if report.error is not None:
                raise report.error
        for label in labels:
            unsigned = {
                str(held.tag.reference)
                for held in self.held
                if held.tag.signing_key and (label, held.tag.reference) not in self._signed
            }
            if unsigned and self.settings.sign:
                problem = f"not handed to the signer {label}, which a retry of the push does"
                raise StepNotDone(problem, tuple(sorted(unsigned)))

    # One push item

    def push_item(self, pusher: Pusher, item: PushItem, copy_all: Callable[[], None]) -> None:
        """Push an item; `copy_all` is the host's plain copy of it."""
        settings = self._settings.of(item)
        tags = tags_of(pusher.quay_host, pusher.target_settings, item)
        with self._lock:
            if self._sides is None:
                self._sides = make_sides(pusher, self.settings)
            sides = self._sides
        self.push(sides, item.metadata["pull_url"], tags, copy_all, settings)

    def push(
        self,
        sides: Sides,
        source: str,
        tags: Sequence[Tag],
        copy_all: Callable[[], None],
        settings: Settings | None = None,
    ) -> None:
        """Push a source to tags: merged where something is kept, and copied where not."""
        settings = settings or self.settings
        covered = [tag for tag in tags if settings.covers(tag.repository)]
        excluded = [tag for tag in tags if not settings.covers(tag.repository)]
        for tag in excluded:
            LOG.debug("%s is copied plainly: its repository is excluded", tag.reference)
        with self._lock:
            self._judged.update(tag.reference for tag in tags)
        if not covered:
            copy_all()
            return
        reference, step = Reference.parse(source), self._step(sides, settings)
        if settings.report_only:
            self._report(sides, step, reference, covered)
            copy_all()
            return
        with ExitStack() as locks:
            # In one order everywhere, so that two items with the same tags do not await each other.
            covered.sort(key=lambda tag: str(tag.reference))
            held = [
                (tag, locks.enter_context(lock_tag(str(tag.reference), settings.lock)))
                for tag in covered
            ]
            # All tags of the item are judged before the first of them is written.
            judge = partial(self._judge, sides, step, reference, settings)
            jobs = [partial(judge, tag, check) for tag, check in held]
            judged = list(self._in_order(sides, jobs))
            plain = self._merge_all(sides, step, reference, judged, settings)
            for each in plain:
                each.check()
            if len(plain) + len(excluded) == len(tags):
                copy_all()
            elif plain or excluded:
                references = [each.tag.reference for each in plain]
                references += [tag.reference for tag in excluded]
                sides.copy(source, [str(reference) for reference in references])
            for each in plain:
                self._note_copied(each)

    def _step(self, sides: Sides, settings: Settings) -> Step:
        """Make a step for settings; all of them share what was brought."""
        with self._lock:
            if self._children is None:
                self._children = Children(
                    sides.source,
                    sides.destination,
                    self.settings.copy,
                    lambda source, destination: sides.copy(str(source), [str(destination)]),
                )
            if settings not in self._steps:
                options = StepOptions(
                    policy=settings.policy,
                    anchor_tag=settings.anchor_tag,
                    dry_run=settings.report_only,
                    verify=settings.verify,
                    tries=settings.tries,
                    ages=settings.ages,
                )
                records = task_records(settings.audit)
                writer = Writer(sides.destination, options, records, sides.history)
                ages = Ages(sides.destination, options.ages)
                self._steps[settings] = Step(
                    sides.source, sides.destination, options, self._children, writer, ages=ages
                )
            return self._steps[settings]

    def _judge(  # noqa: PLR0913, PLR0917 - what all tags of an item share, and a tag
        self,
        sides: Sides,
        step: Step,
        source: Reference,
        settings: Settings,
        tag: Tag,
        check: Callable[[], None],
    ) -> _Judged:
        """Look at a tag and decide; nothing is written."""
        try:
            decision = step.plan(source, tag.reference)
        except NotAnIndex as error:
            may_copy = settings.policy.single_image != "fail"
            if may_copy and _has_nothing(sides, error, source, tag.reference):
                return _Judged(tag, check, None)
            return _Judged(tag, check, error)
        except MergeError as error:
            return _Judged(tag, check, error)
        _warn_of_type(decision)
        with self._lock:
            self._before.setdefault(tag.reference, decision.old)
        return _Judged(tag, check, decision)

    def _merge_all(
        self,
        sides: Sides,
        step: Step,
        source: Reference,
        judged: Sequence[_Judged],
        settings: Settings,
    ) -> list[_Judged]:
        """Merge what is to be merged, and return the rest, none of which moved until now."""
        # What must not be merged comes first and fails, unless a site's own step can do it.
        refused = [each for each in judged if isinstance(each.found, MergeError)]
        pending = [each for each in judged if not isinstance(each.found, MergeError)]
        plain = [e for e in refused if not self._merge(sides, step, source, e, settings)]
        _bring_to_all(sides, settings, pending)
        for _ in range(settings.tries):
            jobs = [partial(self._merge, sides, step, source, each, settings) for each in pending]
            merged = list(self._in_order(sides, jobs))
            plain += [each for each, is_merged in zip(pending, merged) if not is_merged]
            if not settings.verify:
                return plain
            looks = [partial(_has_moved, sides, each) for each in plain]
            moved = list(self._in_order(sides, looks))
            again = [each for each, has_moved in zip(plain, moved) if has_moved]
            if not again:
                return plain
            plain = [each for each, has_moved in zip(plain, moved) if not has_moved]
            LOG.info("Judging again what moved: %s", ", ".join(str(a.tag.reference) for a in again))
            judge = partial(self._judge, sides, step, source, settings)
            pending = [judge(each.tag, each.check) for each in again]
        raise ConflictError(str(pending[0].tag.reference), _seen(pending[0]), None, settings.tries)

    def _merge(
        self, sides: Sides, step: Step, source: Reference, judged: _Judged, settings: Settings
    ) -> bool:
        """Merge one tag; false where the host is to copy it."""
        tag = judged.tag
        request = MergeRequest(
            source, tag.reference, tag.repository, settings, step, judged.found, judged.check
        )
        answer: Report | Literal[False] | None = pm.hook.mlmerge_merge(request=request)
        report = answer or None
        with self._lock:
            self._held.pop(tag.reference, None)
            if report is None:
                return False
            new = None if judged.decision is None else judged.decision.new
            self._held[tag.reference] = hold(tag, report, new)
            self._merged.append(report)
            if report.source_digest is not None and report.source_digest != report.digest:
                self._never_held.add((tag.name, report.source_digest))
        if report.changed:
            self._reports.add(report)
            _expire_anchor(sides, report, settings)
            announce(report)
        return True

    def _note_copied(self, judged: _Judged) -> None:
        new = None if judged.decision is None else judged.decision.new
        with self._lock:
            self._held.pop(judged.tag.reference, None)
            if new is not None:
                self._never_held.discard((judged.tag.name, new.digest))
            if isinstance(new, Index) and new.media_type != DOCKER_LIST:
                self._held[judged.tag.reference] = hold_copy(judged.tag, new)

    def _report(self, sides: Sides, step: Step, source: Reference, tags: Sequence[Tag]) -> None:
        jobs = [partial(_attempt, step, source, tag.reference) for tag in tags]
        for outcome in self._in_order(sides, jobs):
            if isinstance(outcome, MergeError):
                LOG.warning("Would fail, were it not to report only: %s", outcome)
            else:
                LOG.info("Would merge, were it not to report only:\n%s", to_text(outcome))

    def _in_order(self, sides: Sides, jobs: Sequence[Callable[[], _Outcome]]) -> Iterator[_Outcome]:
        """Run jobs in threads that all items share."""
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(sides.threads, thread_name_prefix="mlmerge")
        return map_in_order_by(self._pool, jobs, max(1, len(jobs)))

    # After the push

    def true_claims(self, claims: Iterable[SignEntry]) -> list[SignEntry]:
        """Leave out claims about the list of a source that a merged tag never held."""
        with self._lock:
            wrong = self._never_held.copy()
        return [
            claim
            for claim in claims
            if (claim.pub_reference.partition("/")[2], claim.digest) not in wrong
        ]

    def docker_tags(
        self, quay_host: str, target: dict[str, object], item: PushItem
    ) -> dict[str, list[str]]:
        """List the tags of an item that do not hold an OCI index; warn of those that do."""
        oci = {held.tag.reference for held in self.held if held.is_oci}
        tags: dict[str, list[str]] = {}
        for tag in tags_of(quay_host, target, item):
            if tag.reference in oci:
                LOG.warning("%s is an OCI index and gets no security manifests", tag.reference)
            else:
                tags.setdefault(tag.repository, []).append(tag.reference.tag)
        return tags

    def restore(self) -> None:
        """Put the judged tags back to the very bytes that they held before the push."""
        if self._sides is None:
            return
        registry = self._sides.destination
        for reference, previous in self.before.items():
            if previous is not None and registry.digest(reference) != previous.digest:
                push(registry, reference, previous)


def _has_nothing(sides: Sides, error: NotAnIndex, source: Reference, tag: Reference) -> bool:
    """Whether a tag has nothing that could be kept beside a source that cannot be read.

    A tag that is of a kind that cannot be read either is one of those: schema 1 over schema 1.
    """
    if error.reference != str(source):
        return False
    try:
        return sides.destination.pull_if_present(tag) is None
    except NotAnIndex:
        return True


def _expire_anchor(sides: Sides, report: Report, settings: Settings) -> None:
    if settings.anchor_days and report.anchor_tag and sides.history is not None:
        anchor = report.destination.tagged(report.anchor_tag)
        sides.history.expire(anchor, settings.anchor_days)


def _has_moved(sides: Sides, judged: _Judged) -> bool:
    decision = judged.decision
    return decision is not None and sides.destination.digest(judged.tag.reference) != decision.seen


def _seen(judged: _Judged) -> str | None:
    return None if judged.decision is None else judged.decision.seen


def _warn_of_type(decision: Decision) -> None:
    """Warn where a copy changes the type of a tag; that is how products move to OCI."""
    new, old = decision.new, decision.old
    if not isinstance(new, Index) or not isinstance(old, Index):
        return
    if decision.plan.result == new and old.media_type != new.media_type:
        LOG.warning("%s: %s replaces %s", decision.destination, new.media_type, old.media_type)


def _bring_to_all(sides: Sides, settings: Settings, judged: Sequence[_Judged]) -> None:
    """Bring the source into all repositories by one run of the host's copy, between registries."""
    decisions = [each.decision for each in judged if each.decision is not None]
    merging = [d for d in decisions if d.plan.result != d.new and d.is_due and d.source]
    if not merging or settings.copy == "never":
        return
    source, new = merging[0].source, merging[0].new
    assert source is not None  # noqa: S101 - the tags of an item have one source
    places = (sides.source.session(source), sides.destination.session(merging[0].destination))
    if not isinstance(new, Index) or places[0].host == places[1].host:
        return
    wanted = {d.destination.at(new.digest): None for d in merging}
    lacking = [str(each) for each in wanted if not sides.destination.has_manifest(each)]
    if lacking:
        sides.copy(str(source), lacking)


def _attempt(step: Step, source: Reference, tag: Reference) -> Report | MergeError:
    try:
        return step.merge(source, tag)
    except MergeError as error:  # does not concern what the host does
        return error


def _restore_command(report: Report, audit: str | None) -> str:
    if audit is not None:
        return f"pubtools-mlmerge-restore {audit}/RECORD"
    if report.previous_digest is None:
        return "delete the tag"
    previous = report.destination.at(report.previous_digest)
    return f"skopeo copy --all docker://{previous} docker://{report.destination}"
