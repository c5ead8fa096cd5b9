"""The push step: judge each tag of each push item, and merge where the copy would take away."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from typing import Literal, Protocol, TypeVar

from attrs import evolve, field, frozen
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
from pubtools_mlmerge.errors import ConflictError, MergeError, NotAnIndex, PushFailed, StepNotDone
from pubtools_mlmerge.hooks import announce, lock_tags, plugins_named
from pubtools_mlmerge.host.clients import Sides, make_sides
from pubtools_mlmerge.host.requests import MergeRequest
from pubtools_mlmerge.host.task import TaskReports
from pubtools_mlmerge.host.types import Pusher, PushItem
from pubtools_mlmerge.locks import no_lock
from pubtools_mlmerge.merging.audit import find_record, task_records
from pubtools_mlmerge.merging.decision import Decision, StepOptions
from pubtools_mlmerge.merging.step import Step
from pubtools_mlmerge.merging.writer import Writer, push
from pubtools_mlmerge.registry.copying import Children
from pubtools_mlmerge.registry.referrers import Referrers
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
    """Whether an item is a source container, which is never merged."""
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

    @classmethod
    def of(
        cls,
        tag: Tag,
        digest: str,
        listed: Iterable[Descriptor],
        left: Iterable[Descriptor],
        *,
        is_oci: bool,
    ) -> Held:
        """Note what a tag holds; `left` are the entries that the host does not sign."""
        images = {e.digest: e.platform.architecture if e.platform else "" for e in left}
        to_sign = ((digest, ""), *images.items())
        return cls(tag, digest, to_sign, frozenset(e.digest for e in listed), is_oci)

    @classmethod
    def of_merged(cls, tag: Tag, report: Report, new: Manifest | None) -> Held:
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
        listed = [entry.descriptor for entry in entries]
        return cls.of(tag, report.digest, listed, left, is_oci=report.media_type == OCI_INDEX)


@frozen(eq=False)
class _Look:
    """A tag as it was looked at; nothing is written yet."""

    tag: Tag
    found: Decision | MergeError | None  # None where the source cannot be read, and need not be
    check: Callable[[], None] = no_lock

    @property
    def decision(self) -> Decision | None:
        """What was decided, if the tag can be merged."""
        return self.found if isinstance(self.found, Decision) else None

    @property
    def new(self) -> Manifest | None:
        """What the source holds, if that could be read."""
        return None if self.decision is None else self.decision.new


@frozen(eq=False)
class _Job:
    """One push item: where its tags are, and what merges into them."""

    source: Reference
    settings: Settings
    step: Step
    covered: Sequence[Tag]
    excluded: Sequence[Tag]
    looks: dict[Reference, _Look] = field(factory=dict)  # from before the first write of the push

    @property
    def tags(self) -> tuple[Tag, ...]:
        """All destinations of the item."""
        return (*self.covered, *self.excluded)


class PushStep:
    """Merges the tags of one push; safe from several threads."""

    def __init__(
        self,
        task: Pusher,
        settings: Settings,
        push_items: Iterable[PushItem] = (),
        connect: Callable[[Pusher, Settings], Sides] = make_sides,
    ) -> None:
        self.settings = settings
        self._settings = ItemSettings(settings, push_items)
        self._task = task
        self._sides = sides = connect(task, settings)
        self._pool = ThreadPoolExecutor(sides.threads, thread_name_prefix="mlmerge")
        self._children = Children(
            sides.source,
            sides.destination,
            settings.copy,
            lambda source, destination: sides.copy(str(source), [str(destination)]),
        )
        self._steps = {each: self._make_step(each) for each in self._settings.all}
        self._reports = TaskReports()
        self._jobs: dict[int, _Job] = {}  # by id of the push item, until it is pushed
        self._shared: frozenset[Reference] = frozenset()  # tags of several items
        self._expected: list[Tag] = []
        self._judged: set[Reference] = set()
        self._never_held: set[tuple[str, str]] = set()  # repository:tag, and digest of a source
        self._signed: set[tuple[str, Reference]] = set()  # by the label of the signer
        self.before: dict[Reference, Manifest | None] = {}  # what tags held at the first look
        self.merged: list[Report] = []  # a tag may have several
        self.held: dict[Reference, Held] = {}

    def _make_step(self, settings: Settings) -> Step:
        options = StepOptions(
            policy=settings.policy,
            anchor_tag=settings.anchor_tag,
            dry_run=settings.report_only,
            verify=settings.verify,
            tries=settings.tries,
            ages=settings.ages,
            upload_level=logging.DEBUG,
        )
        sides = self._sides
        writer = Writer(sides.destination, options, task_records(settings.audit), sides.history)
        referrers = Referrers(sides.source, sides.destination, self._children, settings.referrers)
        return Step(sides.source, writer, self._children, referrers=referrers)

    # One push, from start to end

    @contextmanager
    def running(self) -> Iterator[None]:
        """Bracket a push; if it fails, the error names what was merged before."""
        with self._reports.summed_up(), closing(self._sides), closing(self._children), self._pool:
            try:
                yield
            except StepNotDone:
                raise
            except Exception as error:
                merged = [_undo(each, self.settings.audit) for each in self.merged if each.changed]
                if not merged:
                    raise
                # Errors of others may quote signed URLs.
                problem = str(error) if isinstance(error, MergeError) else type(error).__name__
                raise PushFailed(problem, tuple(merged)) from error

    def look(self, items: Sequence[PushItem]) -> None:
        """Look at all tags of the push, and refuse it before the first of them is written.

        A tag that several items write is judged when it is their turn. So is all where a site has
        its own step, which may merge what ours refuses.
        """
        if not items:
            return
        times = Counter(tag.reference for item in items for tag in self._tags(item))
        self._shared = frozenset(reference for reference, number in times.items() if number > 1)
        self._jobs = {id(item): self._begin(item) for item in items}
        images = [self._jobs[id(item)] for item in items if not is_source_container(item)]
        self._expected = [tag for job in images for tag in job.tags]
        merging = [job for job in self._jobs.values() if not job.settings.report_only]
        judged = [(job, tag) for job in merging for tag in job.covered]
        refused = []
        looks = self._in_order([partial(self._judge, *each) for each in judged])
        for (job, tag), look in zip(judged, looks):
            job.looks[tag.reference] = look
            if isinstance(look.found, MergeError) and tag.reference not in self._shared:
                refused.append((job, look))
        if refused and not _site_merges():
            for _, look in refused[1:]:
                LOG.error("%s", look.found)
            self._request(*refused[0]).carry_out()
        rest = [tag for job in merging for tag in job.tags if tag.reference not in self.before]
        list(self._in_order([partial(self._note_before, tag) for tag in rest]))

    def _note_before(self, tag: Tag) -> None:
        try:
            self.before[tag.reference] = self._sides.destination.pull_if_present(tag.reference)
        except MergeError as error:
            LOG.warning("A rollback would be left to pubtools-quay: %s", error)

    def note_signed(self, label: str, tags: Iterable[Tag]) -> None:
        """Note that claims about tags were handed to a signer."""
        self._signed.update((label, tag.reference) for tag in tags)

    def check_done(self, labels: Iterable[str]) -> None:
        """Raise for tags that were not judged, or not handed to a signer of these labels."""
        missed = {str(t.reference) for t in self._expected if t.reference not in self._judged}
        if missed:
            problem = "pubtools-quay copied these tags without the step, so they may lack images"
            raise StepNotDone(problem, tuple(sorted(missed)))
        for label in labels:
            unsigned = {
                str(held.tag.reference)
                for held in self.held.values()
                if held.tag.signing_key and (label, held.tag.reference) not in self._signed
            }
            if unsigned and self.settings.sign:
                problem = f"not handed to the signer {label}, which a retry of the push does"
                raise StepNotDone(problem, tuple(sorted(unsigned)))
        for error in (report.error for report in self.merged):
            if error is not None:  # of an anchor tag, after its tag was merged
                raise error

    # One push item

    def push_item(self, item: PushItem, copy_all: Callable[[], None] | None = None) -> None:
        """Push an item: merged where something is kept, and copied where not.

        `copy_all` is the host's plain copy of it; without one, the item is copied here.
        """
        job = self._jobs.pop(id(item), None) or self._begin(item)
        everything = [str(tag.reference) for tag in job.tags]
        copy_all = copy_all or partial(self._sides.copy, str(job.source), everything)
        self._judged.update(tag.reference for tag in job.tags)
        for tag in job.excluded:
            LOG.debug("%s is copied plainly: its repository is excluded", tag.reference)
        if job.settings.report_only:
            self._report(job)
        if job.settings.report_only or not job.covered:
            copy_all()
            return
        anchor = job.settings.anchor_tag
        tags = [tag.reference for tag in job.covered]
        groups = [[str(tag), *map(str, anchor.to_lock(tag) if anchor else ())] for tag in tags]
        with lock_tags(groups, job.settings.lock, job.settings.lock_aliases) as checks:
            # All tags of the item are judged before the first of them is written.
            again = [partial(self._look_again, job, *each) for each in zip(job.covered, checks)]
            plain = self._merge_all(job, list(self._in_order(again)))
            for look in plain:
                look.check()
            left = [tag.reference for tag in (*(look.tag for look in plain), *job.excluded)]
            if len(left) == len(everything):
                copy_all()
            elif left:
                self._sides.copy(str(job.source), [str(reference) for reference in left])
            for look in plain:
                self._note_copied(look)

    def _tags(self, item: PushItem) -> list[Tag]:
        return tags_of(self._task.quay_host, self._task.target_settings, item)

    def _begin(self, item: PushItem) -> _Job:
        settings = self._settings.of(item)
        tags = sorted(self._tags(item), key=lambda tag: str(tag.reference))
        covers = {t: settings.covers(t.repository) and not is_source_container(item) for t in tags}
        covered = [tag for tag in tags if covers[tag]]
        excluded = [tag for tag in tags if not covers[tag]]
        source = Reference.parse(item.metadata["pull_url"])
        return _Job(source, settings, self._steps[settings], covered, excluded)

    def _judge(self, job: _Job, tag: Tag, check: Callable[[], None] = no_lock) -> _Look:
        """Look at a tag and decide; nothing is written."""
        try:
            decision = job.step.plan(job.source, tag.reference)
        except NotAnIndex as error:
            may_copy = job.settings.policy.single_image != "fail"
            is_nothing = may_copy and self._has_nothing(error, job.source, tag.reference)
            return _Look(tag, None if is_nothing else error, check)
        except MergeError as error:
            return _Look(tag, error, check)
        self.before.setdefault(tag.reference, decision.old)
        return _Look(tag, decision, check)

    def _has_nothing(self, error: NotAnIndex, source: Reference, tag: Reference) -> bool:
        """Whether a tag has nothing that could be kept beside a source that cannot be read.

        A tag that is of a kind that cannot be read either is one of those: schema 1 over schema 1.
        """
        if error.reference != str(source):
            return False
        try:
            return self._sides.destination.pull_if_present(tag) is None
        except NotAnIndex:
            return True

    def _look_again(self, job: _Job, tag: Tag, check: Callable[[], None]) -> _Look:
        """Judge a tag that is locked now; a look from before serves if another one follows."""
        look = job.looks.get(tag.reference)
        if (
            look is None
            or look.decision is None
            or not look.decision.is_due
            or not job.settings.verify
            or tag.reference in self._shared
        ):
            return self._judge(job, tag, check)
        return evolve(look, check=check)

    def _merge_all(self, job: _Job, looks: Sequence[_Look]) -> list[_Look]:
        """Merge what is to be merged, and return the rest, none of which moved until now."""
        # What must not be merged comes first and fails, unless a site's own step can do it.
        refused = [look for look in looks if isinstance(look.found, MergeError)]
        pending = [look for look in looks if not isinstance(look.found, MergeError)]
        plain = [look for look in refused if not self._merge(job, look)]
        self._bring_to_all(job, pending)
        for _ in range(job.settings.tries):
            merged = list(self._in_order([partial(self._merge, job, look) for look in pending]))
            plain += [look for look, is_merged in zip(pending, merged) if not is_merged]
            if not job.settings.verify:
                return plain
            moved = list(self._in_order([partial(self._has_moved, look) for look in plain]))
            again = [look for look, has_moved in zip(plain, moved) if has_moved]
            if not again:
                return plain
            plain = [look for look, has_moved in zip(plain, moved) if not has_moved]
            names = ", ".join(str(look.tag.reference) for look in again)
            LOG.info("Checking again tags that moved: %s", names)
            pending = [self._judge(job, look.tag, look.check) for look in again]
        first = pending[0]
        seen = None if first.decision is None else first.decision.seen
        raise ConflictError(str(first.tag.reference), seen, None, job.settings.tries)

    def _has_moved(self, look: _Look) -> bool:
        decision, tag = look.decision, look.tag.reference
        return decision is not None and self._sides.destination.digest(tag) != decision.seen

    def _request(self, job: _Job, look: _Look) -> MergeRequest:
        tag = look.tag
        return MergeRequest(
            job.source,
            tag.reference,
            tag.repository,
            job.settings,
            job.step,
            look.found,
            look.check,
        )

    def _merge(self, job: _Job, look: _Look) -> bool:
        """Merge one tag; false where the host is to copy it."""
        tag = look.tag
        request = self._request(job, look)
        with plugins_named("mlmerge_merge"):
            answer: Report | Literal[False] | None = pm.hook.mlmerge_merge(request=request)
        report = answer or None
        self.held.pop(tag.reference, None)
        if report is None:
            return False
        self.held[tag.reference] = Held.of_merged(tag, report, look.new)
        self.merged.append(report)
        if report.source_digest is not None and report.source_digest != report.digest:
            self._never_held.add((tag.name, report.source_digest))
        if report.changed:
            self._reports.add(report)
            history, days = self._sides.history, job.settings.anchor_days
            if days and report.anchor_tag and history is not None:
                history.expire(tag.reference.tagged(report.anchor_tag), days)
            announce(report, in_host=True)
        return True

    def _note_copied(self, look: _Look) -> None:
        tag, new = look.tag, look.new
        self.held.pop(tag.reference, None)
        if new is not None:
            self._never_held.discard((tag.name, new.digest))
        # The host knows no OCI index, and signs none of its images.
        if isinstance(new, Index) and new.media_type != DOCKER_LIST:
            listed = new.manifests
            self.held[tag.reference] = Held.of(tag, new.digest, listed, listed, is_oci=True)

    def _bring_to_all(self, job: _Job, looks: Sequence[_Look]) -> None:
        """Bring the source to another registry, into all repositories by one run of the copy."""
        sides = self._sides
        merging = [
            look
            for look in looks
            if look.decision and look.decision.is_due and look.decision.plan.result != look.new
        ]
        if not merging or job.settings.copy == "never":
            return
        new, tags = merging[0].new, [look.tag.reference for look in merging]
        hosts = (sides.source.session(job.source).host, sides.destination.session(tags[0]).host)
        if not isinstance(new, Index) or hosts[0] == hosts[1]:
            return
        wanted = dict.fromkeys(tag.at(new.digest) for tag in tags)
        lacking = [str(each) for each in wanted if not sides.destination.has_manifest(each)]
        if lacking:
            sides.copy(str(job.source), lacking)

    def _report(self, job: _Job) -> None:
        def attempt(tag: Tag) -> Report | MergeError:
            try:
                return job.step.merge(job.source, tag.reference)
            except MergeError as error:  # does not concern what the host does
                return error

        for outcome in self._in_order([partial(attempt, tag) for tag in job.covered]):
            if isinstance(outcome, MergeError):
                LOG.warning("Would fail, if not report_only: %s", outcome)
            else:
                words = "Would merge, if not report_only"
                LOG.info(f"{words}:\n{to_text(outcome)}")  # noqa: G004 - arguments are put on one line

    def _in_order(self, jobs: Sequence[Callable[[], _Outcome]]) -> Iterator[_Outcome]:
        """Run jobs in threads that all items share."""
        return map_in_order_by(self._pool, jobs, max(1, len(jobs)))

    # After the push

    def true_claims(self, claims: Iterable[SignEntry]) -> list[SignEntry]:
        """Leave out claims about the list of a source that a merged tag never held."""
        return [
            claim
            for claim in claims
            if (claim.pub_reference.partition("/")[2], claim.digest) not in self._never_held
        ]

    def docker_tags(self, item: PushItem) -> dict[str, list[str]]:
        """List the tags of an item that do not hold an OCI index; warn of those that do."""
        oci = {reference for reference, held in self.held.items() if held.is_oci}
        tags: dict[str, list[str]] = {}
        for tag in self._tags(item):
            if tag.reference in oci:
                LOG.warning("%s is an OCI index and gets no security manifests", tag.reference)
            else:
                tags.setdefault(tag.repository, []).append(tag.reference.tag)
        return tags

    def restore(self) -> None:
        """Restore the tags of the push to the exact bytes from before."""
        registry = self._sides.destination
        for reference, previous in self.before.items():
            if previous is not None and registry.digest(reference) != previous.digest:
                push(registry, reference, previous)


def _site_merges() -> bool:
    """Whether a site implements the step, and may merge what ours refuses."""
    steps = [each for each in pm.hook.mlmerge_merge.get_hookimpls() if not each.hookwrapper]
    return len(steps) > 1


def _undo(report: Report, audit: str | None) -> str:
    """Name the previous digest of a merged tag, and the command that restores it."""
    tag, previous = report.destination, report.previous_digest
    if previous is None:
        return f"{tag}, which did not exist: delete it"
    record = None if audit is None else find_record(audit, tag, report.digest)
    command = f"skopeo copy --all docker://{tag.at(previous)} docker://{tag}"
    if record is not None:
        command = f"pubtools-mlmerge-restore {record}"
    return f"{tag}, which held {previous}: {command}"
