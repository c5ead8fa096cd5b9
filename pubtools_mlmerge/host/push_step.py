"""The push step: merge the tags of push items."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from typing import Literal, TypeVar

from attrs import frozen
from pubtools.pluggy import pm

from pubtools_mlmerge.concurrency import map_in_order_by
from pubtools_mlmerge.core.manifests import DOCKER_MANIFESTS, Manifest
from pubtools_mlmerge.core.plan import Report
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import MergeError
from pubtools_mlmerge.hooks import announce, lock_tag
from pubtools_mlmerge.host.requests import MergeRequest
from pubtools_mlmerge.host.task import MergeTask
from pubtools_mlmerge.merging.audit import task_records
from pubtools_mlmerge.merging.decision import Decision, StepOptions
from pubtools_mlmerge.merging.image_ages import Ages
from pubtools_mlmerge.merging.step import Step
from pubtools_mlmerge.merging.writer import History, Writer
from pubtools_mlmerge.registry.base import Registry
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.registry.copying import Children
from pubtools_mlmerge.reports.report import to_text
from pubtools_mlmerge.settings import Settings


@frozen(eq=False, repr=False)
class Tag:
    """One destination of a push item.

    Attributes:
        repository (str):
            External name of the repository.
        reference (Reference):
            The tag, by the internal name.
        signing_key (str | None):
            Key that claims about it are signed with.
    """

    repository: str
    reference: Reference
    signing_key: str | None


@frozen(eq=False, repr=False)
class Merged:
    """A tag that was merged, with what is needed to sign it and to take it back.

    Attributes:
        tag (Tag):
            The tag.
        previous (Manifest | None):
            What it held before the push; none if nothing, or nothing that is known.
        report (MergeReport):
            What was done.
    """

    tag: Tag
    previous: Manifest | None
    report: Report

    @property
    def digests(self) -> frozenset[str]:
        """What the tag lists now."""
        left_out = ("dropped", "excluded")
        return frozenset(e.descriptor.digest for e in self.report.entries if e.fate not in left_out)

    @property
    def unsigned(self) -> tuple[tuple[str, str], ...]:
        """Digest and architecture of what the host does not sign: it knows no OCI index."""
        new = [e.descriptor for e in self.report.entries if e.fate in ("added", "replaced")]
        oci = [entry for entry in new if entry.media_type not in DOCKER_MANIFESTS]
        named = [(e.digest, e.platform.architecture if e.platform else "") for e in oci]
        return (self.report.digest, ""), *named


@frozen(eq=False, repr=False)
class Sides:
    """What the host brings to a push.

    Attributes:
        source (Registry):
            Reads the sources.
        destination (Registry):
            Reads and writes the destinations.
        source_client (RegistryClient):
            Reads blobs and children of the sources.
        destination_client (RegistryClient):
            Mounts blobs and writes children.
        copy (Callable[[str, list[str]], None]):
            The host's plain copy of a reference to others.
        history (History | None):
            The history of the destination tags; none where the registry does not tell.
        threads (int):
            How many tags may be merged at a time, of all items together.
    """

    source: Registry
    destination: Registry
    source_client: RegistryClient
    destination_client: RegistryClient
    copy: Callable[[str, list[str]], None]
    history: History | None = None
    threads: int = 1


LOG = logging.getLogger("pubtools.mlmerge")

_Outcome = TypeVar("_Outcome")


class PushStep:
    """Merges push items; one for each push, safe from several threads."""

    def __init__(self, settings: Settings, task: MergeTask | None) -> None:
        self.settings = settings
        self._task = task
        self._lock = threading.Lock()
        self._step: Step | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._before: dict[Reference, Manifest | None] = {}
        self._merged: list[Merged] = []
        self._held: dict[Reference, Merged] = {}

    @property
    def merged(self) -> tuple[Merged, ...]:
        """The merges so far, in that order; a tag may have several."""
        with self._lock:
            return tuple(self._merged)

    @property
    def held(self) -> tuple[Merged, ...]:
        """The tags that hold a merged index now."""
        with self._lock:
            return tuple(self._held.values())

    def is_index(self, sides: Sides, source: str) -> bool:
        """Tell whether a source is an index that the host did not recognise as one."""
        return self._prepare(sides).is_index(Reference.parse(source))

    def push(
        self, sides: Sides, source: str, tags: list[Tag], copy_all: Callable[[], None]
    ) -> None:
        """Merge a source into its destination tags."""
        step = self._prepare(sides)
        reference = Reference.parse(source)
        if any(self.settings.covers(tag.repository) for tag in tags):
            _read(step, reference)
        tags = sorted(tags, key=lambda tag: str(tag.reference))
        with ExitStack() as locks:
            # In one order everywhere, so that two items with the same tags do not await each other.
            held = [
                (tag, locks.enter_context(lock_tag(str(tag.reference), self.settings.lock)))
                for tag in tags
            ]
            if self.settings.report_only:
                self._report(sides, step, reference, tags)
                copy_all()
                return
            jobs = [partial(self._merge, step, reference, tag, check) for tag, check in held]
            merged = list(self._in_order(sides, jobs))
            plain = [each for each, is_merged in zip(held, merged) if not is_merged]
            for _, check in plain:
                check()
            if len(plain) == len(tags):
                copy_all()
            elif plain:
                sides.copy(source, [str(tag.reference) for tag, _ in plain])

    def _prepare(self, sides: Sides) -> Step:
        """Make the step once, so that all items share what it pulled and brought."""
        with self._lock:
            if self._step is None:
                children = Children(
                    sides.source_client,
                    sides.destination_client,
                    self.settings.copy,
                    lambda source, destination: sides.copy(str(source), [str(destination)]),
                )
                options = StepOptions(
                    policy=self.settings.policy,
                    anchor_tag=self.settings.anchor_tag,
                    dry_run=self.settings.report_only,
                    verify=self.settings.verify,
                    tries=self.settings.tries,
                    ages=self.settings.ages,
                )
                recorder = task_records(self.settings.audit)
                writer = Writer(sides.destination, options, recorder, sides.history)
                # The host's client takes up to four requests for an image.
                ages = Ages(sides.destination_client, options.ages)
                self._step = Step(
                    sides.source, sides.destination, options, children, writer, ages=ages
                )
            return self._step

    def _merge(self, step: Step, source: Reference, tag: Tag, check: Callable[[], None]) -> bool:
        """Merge one tag; false where the host is to copy it."""
        if not self.settings.covers(tag.repository):
            LOG.info("%s is copied plainly: its repository is excluded", tag.reference)
            return False

        request = MergeRequest(
            source, tag.reference, tag.repository, self.settings, step, self._note_before, check
        )
        answer: Report | Literal[False] | None = pm.hook.mlmerge_merge(request=request)
        report = answer or None
        self._note(tag, report)
        return report is not None

    def _note_before(self, planned: Decision) -> None:
        """Keep what a tag held when it was first looked at, also if it is copied plainly then."""
        with self._lock:
            self._before.setdefault(planned.destination, planned.old)

    def _note(self, tag: Tag, report: Report | None) -> None:
        with self._lock:
            if report is None:
                self._held.pop(tag.reference, None)
                return
            merged = Merged(tag, self._before.get(tag.reference), report)
            self._merged.append(merged)
            self._held[tag.reference] = merged
        if report.changed:
            if self._task is not None:
                self._task.note(report)
            announce(report)

    def _report(self, sides: Sides, step: Step, source: Reference, tags: list[Tag]) -> None:
        covered = [tag.reference for tag in tags if self.settings.covers(tag.repository)]
        jobs = [partial(_attempt, step, source, reference) for reference in covered]
        for outcome in self._in_order(sides, jobs):
            if isinstance(outcome, MergeError):
                LOG.warning("Would fail, were it not to report only: %s", outcome)
            else:
                LOG.info("Would merge, were it not to report only:\n%s", to_text(outcome))

    def _in_order(self, sides: Sides, jobs: Sequence[Callable[[], _Outcome]]) -> Iterator[_Outcome]:
        """Do jobs in threads that all items share, so that each logs in once for all of them."""
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(sides.threads, thread_name_prefix="mlmerge")
        return map_in_order_by(self._pool, jobs, len(jobs))


def _read(step: Step, source: Reference) -> None:
    """Read a source on the host's own thread: others would have to log in for that."""
    with suppress(MergeError):  # it is met again with each tag
        step.is_index(source)


def _attempt(step: Step, source: Reference, tag: Reference) -> Report | MergeError:
    try:
        return step.merge(source, tag)
    except MergeError as error:  # of no concern to what the host does
        return error
