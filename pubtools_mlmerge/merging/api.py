"""Merge tags: for the command line and for Python programs."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Generic, TypeVar

from attrs import frozen

from pubtools_mlmerge.concurrency import Watch, map_in_order, unwatched
from pubtools_mlmerge.core.plan import Policy, Report
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import InvalidReference, MergesFailed
from pubtools_mlmerge.hooks import TagLocks, announce
from pubtools_mlmerge.merging.audit import AuditDirectory
from pubtools_mlmerge.merging.decision import StepOptions
from pubtools_mlmerge.merging.step import Step
from pubtools_mlmerge.merging.writer import Writer
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.registry.copying import Children, Copy
from pubtools_mlmerge.registry.referrers import Mode, Referrers

_THREADS = 8  # tags at a time
_DEFAULT = Policy()

JobT = TypeVar("JobT")
JobT_co = TypeVar("JobT_co", covariant=True)


def merge_tags(  # noqa: PLR0913 - independent options, each with a default
    sources: str | Reference | Iterable[str | Reference],
    destinations: str | Reference | Iterable[str | Reference],
    *,
    client: RegistryClient | None = None,
    source_client: RegistryClient | None = None,
    policy: Policy = _DEFAULT,
    dry_run: bool = False,
    lock: str | None = None,
    audit: str | None = None,
    copy: Copy = "auto",
    referrers: Mode = "warn",
    merger: TagMerger | None = None,
) -> list[Report]:
    """Merge sources into each of the destinations, as ``pubtools-mlmerge-merge`` does.

    Nothing is read from the environment but where to find logins and authorities. Several tags are
    merged at a time, and one that is a source as well in its turn. If one fails, the others go on.

    Args:
        sources (str | Reference | Iterable[str | Reference]):
            Images to merge, by tag or digest; the first that has a platform wins it.
        destinations (str | Reference | Iterable[str | Reference]):
            The tags to merge into.
        client (RegistryClient | None):
            The client to read and write with; none for one with the logins of container tools.
        source_client (RegistryClient | None):
            Another client to read the sources with.
        policy (Policy):
            How to merge where there is a choice.
        dry_run (bool):
            Whether to write nothing.
        lock (str | None):
            Where to lock the tags, as ``--lock``.
        audit (str | None):
            The directory to record each change in before it is made.
        copy (str):
            How to bring images into another repository, as ``--copy``.
        referrers (str):
            Whether to copy referrers of images from another repository, as ``--referrers``.
        merger (TagMerger | None):
            A prepared merger to share among calls; it replaces all of the above but the policy.

    Returns:
        list[Report]: A report for each destination, in their order.

    Raises:
        MergesFailed: When some of several merges failed, with the reports of the others.
        MergeError: When the only one failed. Its tag is as it was, or holds the whole result.
    """
    new, tags = _references(sources), _references(destinations)
    for tag in tags:
        if tag.digest or not tag.tag:
            raise InvalidReference(str(tag), "a destination must be a tag, not a digest")
    with ExitStack() as stack:
        if merger is None:
            client = client or stack.enter_context(RegistryClient())
            options = StepOptions(dry_run=dry_run)
            writer = Writer(client, options, AuditDirectory(audit).record if audit else None)
            reader, locks = source_client or client, TagLocks(lock)
            merger = TagMerger(reader, client, writer, locks, copy=copy, referrers=referrers)
            stack.callback(merger.close)
        if len(tags) == 1:
            return [merger.merge(new, tags[0], policy)]
        # All at once, as the name of an anchor tag may be wrong.
        merges = [
            merger.ordered(partial(merger.attempt, new, tag, policy), new, tag, policy)
            for tag in tags
        ]
        outcomes = list(map_in_order(in_order(merges, _THREADS), _THREADS))
    failures = [(tag, each) for tag, each in zip(tags, outcomes) if isinstance(each, Exception)]
    reports = [each for each in outcomes if isinstance(each, Report)]
    if failures:
        raise MergesFailed(tuple(failures), tuple(reports))
    return reports


def _references(given: str | Reference | Iterable[str | Reference]) -> list[Reference]:
    listed = [given] if isinstance(given, (str, Reference)) else given
    parsed = [one if isinstance(one, Reference) else Reference.parse(one) for one in listed]
    if not parsed:
        raise ValueError("expected at least one source and one destination")
    return parsed


@frozen
class Ordered(Generic[JobT_co]):
    """A merge into one tag, with the names of what it reads and writes, and what decides it."""

    job: JobT_co
    reads: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()
    work: str = ""


def in_order(merges: Iterable[Ordered[JobT]], threads: int) -> Iterator[JobT | None]:
    """Put a barrier, None, before each job that depends on one under way."""
    under_way: deque[Ordered[JobT]] = deque(maxlen=threads)
    for merge in merges:
        if any(
            other.writes & (merge.writes | merge.reads) or other.reads & merge.writes
            for other in under_way
        ):
            under_way.clear()
            yield None
        under_way.append(merge)
        yield merge.job


class TagMerger:
    """Merges sources into tags, each locked meanwhile and announced afterwards."""

    def __init__(  # noqa: PLR0913 - the two sides, and what does each part of the work
        self,
        reader: RegistryClient,
        client: RegistryClient,
        writer: Writer,
        locks: TagLocks,
        *,
        copy: Copy = "auto",
        referrers: Mode = "warn",
        threads: int = _THREADS,
        watch: Watch = unwatched,
    ) -> None:
        self._reader, self._client, self._locks = reader, client, locks
        self._options, self._anchor = writer.options, writer.options.anchor_tag
        self._children = Children(reader, client, copy, watch=watch, threads=threads)
        tended = Referrers(reader, client, self._children, referrers)
        self._step = Step(reader, writer, self._children, referrers=tended)

    def close(self) -> None:
        """End the threads."""
        self._children.close()

    def merge(self, sources: Sequence[Reference], destination: Reference, policy: Policy) -> Report:
        """Merge sources into a tag."""
        with self._locks.held(self._client, *self._written(destination)) as check:
            report = self._step.merge(sources, destination, policy, check)
        if report.changed and not report.dry_run:
            announce(report)
        return report

    def attempt(
        self, sources: Sequence[Reference], destination: Reference, policy: Policy
    ) -> Report | Exception:
        """Merge sources into a tag, or return what went wrong."""
        try:
            return self.merge(sources, destination, policy)
        except Exception as error:  # noqa: BLE001 - it is raised once all others have ended
            return error

    def ordered(
        self,
        job: JobT,
        sources: Iterable[Reference],
        destination: Reference,
        policy: Policy,
    ) -> Ordered[JobT]:
        """Say what a job reads and writes that merges sources into a tag, and what decides it."""
        reads = [self._locks.name(self._reader, source) for source in sources]
        writes = [self._locks.name(self._client, tag) for tag in self._written(destination)]
        options = self._options
        work = repr((reads, writes[0], policy, options.ages, options.anchor_tag))
        return Ordered(job, frozenset(reads), frozenset(writes), work)

    def _written(self, destination: Reference) -> tuple[Reference, ...]:
        return (destination, *(self._anchor.to_lock(destination) if self._anchor else ()))
