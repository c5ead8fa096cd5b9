"""The guard of tag-docker: what the host uploads there is checked, recorded and locked, too."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TypeVar

from attrs import evolve

from pubtools_mlmerge.core.manifests import Index, Manifest
from pubtools_mlmerge.core.merge import union
from pubtools_mlmerge.core.plan import Plan
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import ConflictError
from pubtools_mlmerge.host_types import HostClient
from pubtools_mlmerge.jobs import exactly
from pubtools_mlmerge.merging.audit import task_records
from pubtools_mlmerge.merging.decision import Decision, Job, StepOptions, digest_if_any
from pubtools_mlmerge.merging.step import remove_platforms
from pubtools_mlmerge.merging.writer import History, Writer, push
from pubtools_mlmerge.observe import Meter
from pubtools_mlmerge.push_sides import HostRegistry
from pubtools_mlmerge.registry.quay_history import QuayTags, Recovery
from pubtools_mlmerge.settings import Settings

LOG = logging.getLogger("pubtools.mlmerge")

_Outcome = TypeVar("_Outcome")


class TagGuard:
    """Writes a tag in the host's stead.

    The host signs what it computed, so that cannot be replaced by something computed anew: a tag
    that somebody else wrote is a `ConflictError`, and the host is to begin again.

    Args:
        client (HostClient):
            The host's client.
        settings (Settings):
            How to write.
        token (str | None):
            Token of Quay's API; none to do without the history of tags.
        check (Callable[[], None]):
            Raises if the lock of the tag was lost.
    """

    def __init__(
        self,
        client: HostClient,
        settings: Settings,
        token: str | None,
        check: Callable[[], None],
    ) -> None:
        self._registry = HostRegistry(client)
        self._history = Recovery(QuayTags(self._registry.own, token)) if token else None
        self._settings = settings
        self._check = check

    def put(self, source: str, tag: Reference, plan: Plan[Index] | None, content: bytes) -> str:
        """Write what the host computed from a plan.

        Args:
            source (str):
                Where the new entries come from.
            tag (Reference):
                The tag.
            plan (MergePlan[Index] | None):
                The plan; where there is none, nobody knows what the tag held.
            content (bytes):
                What is to be written.

        Returns:
            str: Its digest.

        Raises:
            ConflictError: When somebody else wrote the tag since it was planned.
            MergeError: When it cannot be written otherwise.
        """
        if plan is None:
            self._check()
            return push(self._registry, tag, Index.from_bytes(content))
        plan = evolve(plan, result=Index.from_bytes(content, plan.result.media_type), changed=True)
        planned = Decision(
            Reference.parse(source),
            tag,
            None,
            None,
            plan,
            Meter(),
            Job(lambda found: evolve(planned, old=found, seen=digest_if_any(found))),
            seen=plan.previous_digest,
        )
        written = self._writer(tries=1).carry_out(planned, self._check).digest
        self._put_back(tag, written, plan.previous_digest)
        return written

    def remove(self, tag: Reference, names: Sequence[str]) -> str:
        """Take platforms out of what a tag holds.

        Args:
            tag (Reference):
                The tag.
            names (Sequence[str]):
                Platforms, as the host got to see them.

        Returns:
            str: Digest of what the tag holds then.

        Raises:
            MergeError: When it cannot be done.
        """
        patterns = tuple(exactly(name) for name in names if name)
        writer = self._writer(tries=self._settings.tries, history=self._history)
        report = remove_platforms(writer, tag, patterns, allow_empty=True, check=self._check)
        return report.digest

    def _writer(self, tries: int, history: History | None = None) -> Writer:
        options = StepOptions(verify=self._settings.verify, tries=tries)
        return Writer(self._registry, options, task_records(self._settings.audit), history)

    def _put_back(self, tag: Reference, written: str, seen: str | None) -> None:
        """Give the tag what was replaced unseen; then what the host computed is out of date."""
        if self._history is None:
            return
        with ExitStack() as recovered:
            lost: list[Manifest] = []
            for reference in self._history.lost(tag, written, seen):
                recovered.callback(self._history.forget, reference)
                lost.append(self._registry.pull(reference))
            old = union([*lost, self._registry.pull(tag)]) if lost else None
            if old is None:
                return
            plan = Plan(old, (), changed=True)
            job = Job(lambda found: evolve(planned, old=found, seen=digest_if_any(found)))
            planned = Decision(None, tag, None, None, plan, Meter(), job, seen=written)
            self._writer(tries=self._settings.tries).carry_out(planned, self._check)
        raise ConflictError(str(tag), seen, lost[0].digest, 1)


def persist(action: Callable[[], _Outcome], tries: int) -> _Outcome:
    """Do something again as long as somebody else writes the tag.

    Args:
        action (Callable[[], object]):
            What to do.
        tries (int):
            How often at most, at least once.

    Returns:
        object: What it returns.

    Raises:
        ConflictError: The last one.
    """
    for _ in range(tries - 1):
        try:
            return action()
        except ConflictError as error:
            LOG.info("Beginning again: %s", error)
    return action()
