"""The push step: judge each tag of each push item, and merge where the copy would take away."""

from __future__ import annotations

import logging
import time
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
from pubtools_mlmerge.host.clients import Pusher, PushItem, Sides, internal_reference
from pubtools_mlmerge.host.requests import MergeRequest
from pubtools_mlmerge.host.task import log_plan, summed_up
from pubtools_mlmerge.locks import no_lock
from pubtools_mlmerge.merging.audit import find_record, task_records
from pubtools_mlmerge.merging.step import Step
from pubtools_mlmerge.merging.writer import Writer, expiration_kept, push
from pubtools_mlmerge.registry.copying import Children
from pubtools_mlmerge.registry.referrers import Referrers
from pubtools_mlmerge.settings import ItemSettings, Settings, step_options

LOG = logging.getLogger("pubtools.mlmerge")

_DAY = 86_400  # seconds

_Item = TypeVar("_Item")
_Outcome = TypeVar("_Outcome")


def is_source_container(item: PushItem) -> bool:
    """Whether an item is a source container, which is never merged."""
    found: object = item.metadata
    for key in ("build", "extra", "image", "sources_for_nvr"):
        found = found.get(key) if isinstance(found, Mapping) else None
    return bool(found)


class SignEntry(Protocol):
    """One claim, as the host hands it to signers."""

    pub_reference: str
    digest: str


@frozen(eq=False)
class Held:
    """A tag that holds a merged index, or an OCI index or image that was copied."""

    tag: Reference
    repositories: tuple[str, ...]  # its repository's external names
    signing_key: str | None
    digest: str
    to_sign: tuple[tuple[str, str], ...]  # digests with architectures that the host does not sign
    is_oci: bool


@frozen(eq=False)
class _Job:
    """One push item: where its tags are, and what merges into them."""

    source: Reference
    signing_key: str | None
    settings: Settings
    step: Step
    tags: dict[Reference, tuple[str, ...]]  # all, with the external names of their repositories
    covered: Sequence[Reference]
    looks: dict[Reference, MergeRequest] = field(factory=dict)  # before the push's first write


class PushStep:
    """Merges the tags of one push; safe from several threads."""

    def __init__(
        self, task: Pusher, settings: Settings, push_items: Iterable[PushItem], sides: Sides
    ) -> None:
        self.settings = settings
        self._settings = ItemSettings(settings, push_items)
        self._task = task
        self._sides = sides
        self._pool = ThreadPoolExecutor(sides.threads, thread_name_prefix="mlmerge")
        self._children = Children(
            sides.source,
            sides.destination,
            settings.copy,
            lambda source, destination: sides.copy(source, [destination]),
        )
        self._steps = {each: self._make_step(each) for each in self._settings.all}
        self._jobs: dict[int, _Job] = {}  # by id of the push item, until it is pushed
        self._shared: frozenset[Reference] = frozenset()  # tags of several items
        self._not_judged: set[Reference] = set()
        # Public name and digest: of a source that was merged, or copied and replaced since.
        self._not_held: set[tuple[str, str | None]] = set()
        self._signed: set[Reference] = set()
        self.before: dict[Reference, Manifest | None] = {}  # what tags held at the first look
        self.merged: list[Report] = []  # of tags that changed; one may have several
        self.held: dict[Reference, Held] = {}
        self.listed: dict[Reference, set[str]] = {}  # digests of what tags hold, copied ones too

    def _make_step(self, settings: Settings) -> Step:
        options = evolve(step_options(settings), upload_level=logging.DEBUG)
        sides = self._sides
        writer = Writer(sides.destination, options, task_records(settings.audit), sides.history)
        referrers = Referrers(sides.source, sides.destination, self._children, settings.referrers)
        return Step(sides.source, writer, self._children, referrers=referrers)

    # One push, from start to end

    @contextmanager
    def running(self) -> Iterator[None]:
        """Bracket a push; if it fails, the error names what was merged before."""
        with summed_up(self.merged), closing(self._sides), closing(self._children), self._pool:
            try:
                yield
            except StepNotDone:
                raise
            except Exception as error:
                if not self.merged:
                    raise
                # Errors of others may quote signed URLs.
                problem = str(error) if isinstance(error, MergeError) else type(error).__name__
                # The last first, as a tag of several items may have been merged several times.
                last_first = reversed(self.merged)
                ways_back = tuple(_undo(each, self.settings.audit) for each in last_first)
                raise PushFailed(problem, ways_back) from error

    def look(self, items: Sequence[PushItem]) -> None:
        """Look at all tags of the push, and refuse it before the first of them is written.

        A tag that several items write is judged when it is their turn. So is all where a site has
        its own step, which may merge what ours refuses.
        """
        self._jobs = {id(item): self._begin(item) for item in items}
        times = Counter(tag for job in self._jobs.values() for tag in job.tags)
        self._shared = frozenset(tag for tag, number in times.items() if number > 1)
        self._not_judged.update(tag for job in self._jobs.values() for tag in job.covered)
        merging = [job for job in self._jobs.values() if not job.settings.report_only]
        judged = [(job, tag) for job in merging for tag in job.covered]
        looks = self._each(lambda pair: self._judge(*pair), judged)
        for (job, tag), request in zip(judged, looks):
            job.looks[tag] = request
        refused = [
            each
            for each in looks
            if each.error is not None and each.destination not in self._shared
        ]
        if refused and not _site_merges():
            for each in refused[1:]:
                LOG.error("%s", each.error)
            refused[0].carry_out()
        self._each(
            self._note_before,
            [tag for job in merging for tag in job.tags if tag not in self.before],
        )

    def _note_before(self, tag: Reference) -> None:
        try:
            self.before[tag] = self._sides.destination.pull_if_present(tag)
        except MergeError as error:
            LOG.warning("A rollback would be left to pubtools-quay: %s", error)

    def to_sign(self) -> list[Held]:
        """List what is to be signed, by all signers; it counts as handed to them."""
        held = self._with_keys()
        self._signed.update(each.tag for each in held)
        return held

    def _with_keys(self) -> list[Held]:
        return [each for each in self.held.values() if self.settings.sign and each.signing_key]

    def check_done(self, signers: Sequence[str]) -> None:
        """Raise for tags that were not judged, or not handed to the signers of these labels."""
        if self._not_judged:
            problem = "pubtools-quay copied these tags without the step, so they may lack images"
            raise StepNotDone(problem, tuple(sorted(map(str, self._not_judged))))
        unsigned = {each.tag for each in self._with_keys()} - self._signed
        if unsigned and signers:
            problem = f"not handed to the signer {signers[0]}, which a retry of the push does"
            raise StepNotDone(problem, tuple(sorted(map(str, unsigned))))
        for error in (report.error for report in self.merged):
            if error is not None:  # of an anchor tag, after its tag was merged
                raise error

    # One push item

    def push_item(self, item: PushItem, copy_all: Callable[[], None] | None = None) -> None:
        """Push an item: merged where something is kept, and copied where not.

        `copy_all` is the host's plain copy of it; without one, the item is copied here.
        """
        job = self._jobs.pop(id(item), None) or self._begin(item)
        copy_all = copy_all or partial(self._sides.copy, job.source, [*job.tags])
        self._not_judged.difference_update(job.tags)
        excluded = [tag for tag in job.tags if tag not in job.covered]
        for tag in excluded:
            LOG.debug("%s is copied plainly: its repository is excluded", tag)
        if job.settings.report_only:
            for outcome in self._each(partial(self._attempt, job), job.covered):
                log_plan(outcome)
        if job.settings.report_only or not job.covered:
            copy_all()
            return
        anchor = job.settings.anchor_tag
        groups = [[tag, *(anchor.to_lock(tag) if anchor else ())] for tag in job.covered]
        names = [list(map(str, group)) for group in groups]
        with lock_tags(names, job.settings.lock, job.settings.lock_aliases) as checks:
            # All tags of the item are judged before the first of them is written.
            locked = list(zip(job.covered, checks))
            plain = self._merge_all(
                job, self._each(lambda each: self._look_again(job, *each), locked)
            )
            for request in plain:
                request.check()
            left = [*(request.destination for request in plain), *excluded]
            if len(left) == len(job.tags):
                copy_all()
            elif left:
                self._sides.copy(job.source, left)
            for request in plain:
                self._note_copied(job, request)

    def _begin(self, item: PushItem) -> _Job:
        settings = self._settings.of(item)
        tags = dict(sorted(self._tags(item).items(), key=lambda each: str(each[0])))
        is_image = not is_source_container(item)
        covered = [tag for tag in tags if is_image and all(map(settings.covers, tags[tag]))]
        source = Reference.parse(item.metadata["pull_url"])
        step = self._steps[settings]
        return _Job(source, item.claims_signing_key, settings, step, tags, covered)

    def _tags(self, item: PushItem) -> dict[Reference, tuple[str, ...]]:
        """List the tags of an item, with the external names of their repositories.

        A repository may have two, such as a/app and a----app.
        """
        names: dict[Reference, dict[str, None]] = {}
        for repository, tags in item.metadata["tags"].items():
            for tag in tags:
                reference = internal_reference(self._task, repository, tag)
                names.setdefault(reference, {})[repository] = None
        return {reference: tuple(repositories) for reference, repositories in names.items()}

    def _judge(
        self, job: _Job, tag: Reference, check: Callable[[], None] = no_lock
    ) -> MergeRequest:
        """Look at a tag and decide; nothing is written."""
        place = job.source, tag, job.tags[tag][0]
        request = MergeRequest(*place, job.settings, job.step, check=check)
        try:
            decision = job.step.plan([job.source], tag, job.settings.policy)
        except MergeError as error:
            return request if self._has_nothing(job, tag, error) else evolve(request, error=error)
        self.before.setdefault(tag, decision.old)
        return evolve(request, decision=decision)

    def _has_nothing(self, job: _Job, tag: Reference, error: MergeError) -> bool:
        """Whether a source that cannot be read may be copied: the tag has nothing to keep.

        A tag that is of a kind that cannot be read either is one of those: schema 1 over schema 1.
        """
        is_source = isinstance(error, NotAnIndex) and error.reference == str(job.source)
        if not is_source or job.settings.policy.single_image == "fail":
            return False
        try:
            return self._sides.destination.pull_if_present(tag) is None
        except NotAnIndex:
            return True

    def _look_again(self, job: _Job, tag: Reference, check: Callable[[], None]) -> MergeRequest:
        """Judge a tag that is locked now; a look from before serves if another one follows."""
        look = job.looks.get(tag)
        if (
            look is None
            or look.decision is None
            or not look.decision.is_due
            or not job.settings.verify
            or tag in self._shared
        ):
            return self._judge(job, tag, check)
        return evolve(look, check=check)

    def _merge_all(self, job: _Job, requests: Sequence[MergeRequest]) -> list[MergeRequest]:
        """Merge what is to be merged, and return the rest, none of which moved until now."""
        # What must not be merged comes first and fails, unless a site's own step can do it.
        refused = [each for each in requests if each.error is not None]
        pending = [each for each in requests if each.error is None]
        plain = [each for each in refused if not self._merge(job, each)]
        self._bring_to_all(job, pending)
        for _ in range(job.settings.tries):
            merged = self._each(partial(self._merge, job), pending)
            plain += [each for each, is_merged in zip(pending, merged) if not is_merged]
            moved = self._each(self._has_moved, plain) if job.settings.verify else []
            again = [each for each, has_moved in zip(plain, moved) if has_moved]
            if not again:
                return plain
            plain = [each for each, has_moved in zip(plain, moved) if not has_moved]
            names = ", ".join(str(each.destination) for each in again)
            LOG.info("Checking again tags that moved: %s", names)
            pending = [self._judge(job, each.destination, each.check) for each in again]
        tag, decision = again[0].destination, again[0].decision
        seen = None if decision is None else decision.seen
        found = self._sides.destination.digest(tag)
        raise ConflictError(str(tag), seen, found, job.settings.tries)

    def _has_moved(self, request: MergeRequest) -> bool:
        decision = request.decision
        held = self._sides.destination.digest
        return decision is not None and held(request.destination) != decision.seen

    def _merge(self, job: _Job, request: MergeRequest) -> bool:
        """Merge one tag; false where the host is to copy it."""
        with plugins_named("mlmerge_merge"):
            answer: Report | Literal[False] | None = pm.hook.mlmerge_merge(request=request)
        tag, report = request.destination, answer or None
        self.held.pop(tag, None)
        if report is None:
            return False
        entries = [entry for entry in report.entries if entry.fate not in ("dropped", "excluded")]
        # The host signs the images of a Docker list that it pushes, whatever became of the list.
        new = request.new
        is_docker_list = isinstance(new, Index) and new.media_type == DOCKER_LIST
        not_signed = [
            entry.descriptor
            for entry in entries
            if entry.fate == "kept"
            or not is_docker_list
            or entry.descriptor.media_type not in DOCKER_MANIFESTS
        ]
        listed = [entry.descriptor for entry in entries]
        self._hold(job, tag, report, not_signed)
        replaced = {report.source_digest, report.previous_digest}
        self._note_claims(job, tag, {report.digest, *(e.digest for e in listed)}, replaced)
        if report.changed:
            self.merged.append(report)
            history, days = self._sides.history, job.settings.anchor_days
            if days and report.anchor_tag and history is not None:
                moment = int(time.time()) + days * _DAY
                history.expire_at(tag.tagged(report.anchor_tag), moment)
            announce(report, in_host=True)
        return True

    def _note_copied(self, job: _Job, request: MergeRequest) -> None:
        decision, tag = request.decision, request.destination
        self.held.pop(tag, None)
        new = None if decision is None else decision.new
        if decision is None or new is None:
            return
        listed = new.manifests if isinstance(new, Index) else ()
        self._note_claims(job, tag, {new.digest, *(e.digest for e in listed)}, {decision.seen})
        # The host signs no OCI image, and no OCI index with its images.
        if new.media_type != DOCKER_LIST and new.media_type not in DOCKER_MANIFESTS:
            self._hold(job, tag, new, listed)

    def _note_claims(
        self, job: _Job, tag: Reference, held: set[str], others: set[str | None]
    ) -> None:
        """Note what may be claimed of a tag, and what may not."""
        others = others | self.listed.get(tag, set())  # of an earlier item
        self.listed[tag] = held
        for repository in job.tags[tag]:
            name = f"{repository}:{tag.tag}"
            self._not_held.difference_update((name, digest) for digest in held)
            self._not_held.update((name, digest) for digest in others - held)

    def _hold(
        self,
        job: _Job,
        tag: Reference,
        held: Report | Manifest,
        not_signed: Iterable[Descriptor],
    ) -> None:
        """Note what a tag holds, and which entries of it the host does not sign."""
        images = {e.digest: e.platform.architecture if e.platform else "" for e in not_signed}
        self.held[tag] = Held(
            tag,
            job.tags[tag],
            job.signing_key,
            held.digest,
            ((held.digest, ""), *images.items()),
            is_oci=held.media_type == OCI_INDEX,
        )

    def _bring_to_all(self, job: _Job, requests: Sequence[MergeRequest]) -> None:
        """Bring the source to another registry, into all repositories by one run of the copy."""
        sides = self._sides
        merging = [
            each
            for each in requests
            if each.decision and each.decision.is_due and each.decision.plan.result != each.new
        ]
        if not merging or job.settings.copy == "never":
            return
        new, tags = merging[0].new, [each.destination for each in merging]
        hosts = (sides.source.session(job.source).host, sides.destination.session(tags[0]).host)
        if not isinstance(new, Index) or hosts[0] == hosts[1]:
            return
        wanted = dict.fromkeys(tag.at(new.digest) for tag in tags)
        lacking = [each for each in wanted if not sides.destination.has_manifest(each)]
        if lacking:
            sides.copy(job.source, lacking)

    @staticmethod
    def _attempt(job: _Job, tag: Reference) -> Report | MergeError:
        """Try a merge that is not to be done."""
        try:
            return job.step.merge([job.source], tag, job.settings.policy)
        except MergeError as error:  # does not concern what the host does
            return error

    def _each(self, act: Callable[[_Item], _Outcome], items: Iterable[_Item]) -> list[_Outcome]:
        """Do something with each item, in threads that all push items share."""
        jobs = [partial(act, item) for item in items]
        return list(map_in_order_by(self._pool, jobs, max(1, len(jobs))))

    # After the push

    def true_claims(self, claims: Iterable[SignEntry]) -> list[SignEntry]:
        """Leave out claims about the list of a source that a merged tag does not hold."""
        return [
            claim
            for claim in claims
            if (claim.pub_reference.partition("/")[2], claim.digest) not in self._not_held
        ]

    def docker_tags(self, item: PushItem) -> dict[str, list[str]]:
        """List the tags of an item that do not hold an OCI index; warn of those that do."""
        tags: dict[str, list[str]] = {}
        for tag, repositories in self._tags(item).items():
            if tag in self.held and self.held[tag].is_oci:
                LOG.warning("%s is an OCI index and gets no security manifests", tag)
                continue
            for repository in repositories:
                tags.setdefault(repository, []).append(tag.tag)
        return tags

    def restore(self) -> None:
        """Restore the tags of the push to the exact bytes from before, as many as possible."""
        registry, failures = self._sides.destination, list[MergeError]()
        for tag, previous in self.before.items():
            try:
                if previous is not None and registry.digest(tag) != previous.digest:
                    with expiration_kept(self._sides.history, tag):
                        push(registry, tag, previous)
            except MergeError as error:
                failures.append(error)
        for failure in failures[1:]:
            LOG.error("%s", failure)
        if failures:
            raise failures[0]


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
