"""Merging tags, as the command line does it and as Python programs may."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from functools import partial

from pubtools_mlmerge.concurrency import Watch, map_in_order, unwatched
from pubtools_mlmerge.core.plan import Policy, Report
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import InvalidReference
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
) -> list[Report]:
    """Merge sources into each of the destinations, as ``pubtools-mlmerge-merge`` does.

    Nothing is read from the environment but where to find logins and authorities. Several tags are
    merged at a time. After a failure no further one is begun; those that were are finished.

    Args:
        sources (str | Reference | Iterable[str | Reference]):
            What to merge, by tag or digest; the first that has a platform wins it.
        destinations (str | Reference | Iterable[str | Reference]):
            The tags to merge into.
        client (RegistryClient | None):
            The client to read and write with; none for one with the logins of container tools.
        source_client (RegistryClient | None):
            Another client to read the sources with.
        policy (Policy):
            What to decide differently.
        dry_run (bool):
            Whether to write nothing.
        lock (str | None):
            Where to lock the tags, as ``--lock``.
        audit (str | None):
            The directory to record each change in before it is made.
        copy (str):
            How to bring images into another repository, as ``--copy``.
        referrers (str):
            What to do with what refers to images from another repository, as ``--referrers``.

    Returns:
        list[Report]: What was done to each destination, in their order.

    Raises:
        MergeError: When a merge failed. Its tag is as it was, or holds the whole result.
    """
    new, tags = _references(sources), _references(destinations)
    for tag in tags:
        if tag.digest or not tag.tag:
            raise InvalidReference(str(tag), "a destination must be a tag, not a digest")
    with ExitStack() as stack:
        client = client or stack.enter_context(RegistryClient())
        options = StepOptions(policy=policy, dry_run=dry_run)
        writer = Writer(client, options, AuditDirectory(audit) if audit else None)
        merger = TagMerger(
            source_client or client,
            client,
            writer,
            TagLocks(lock),
            copy=copy,
            referrers=referrers,
        )
        stack.callback(merger.close)
        jobs = (partial(merger.merge, new, tag) for tag in tags)
        return list(map_in_order(jobs, min(_THREADS, len(tags))))


def _references(given: str | Reference | Iterable[str | Reference]) -> list[Reference]:
    listed = [given] if isinstance(given, (str, Reference)) else given
    parsed = [one if isinstance(one, Reference) else Reference.parse(one) for one in listed]
    if not parsed:
        raise ValueError("expected at least one source and one destination")
    return parsed


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
        self._client, self._locks, self._anchor = client, locks, writer.options.anchor_tag
        self._children = Children(reader, client, copy, watch=watch, threads=threads)
        tended = Referrers(reader, client, self._children, referrers)
        self._step = Step(reader, client, writer.options, self._children, writer, referrers=tended)

    def close(self) -> None:
        """End the threads."""
        self._children.close()

    def merge(
        self, sources: Sequence[Reference], destination: Reference, policy: Policy | None = None
    ) -> Report:
        """Merge sources into a tag."""
        anchors = self._anchor.to_lock(destination) if self._anchor else ()
        with self._locks.held(self._client, destination, *anchors) as check:
            report = self._step.merge(sources, destination, check, policy)
        if report.changed and not report.dry_run:
            announce(report)
        return report
