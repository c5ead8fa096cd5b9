"""The tag-docker step: what the host sees of an index, and how its tag is written."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TypeVar, Union

from attrs import evolve
from pubtools.pluggy import pm

from pubtools_mlmerge.core.manifests import Index, Manifest
from pubtools_mlmerge.core.merge import union
from pubtools_mlmerge.core.plan import Plan, Report
from pubtools_mlmerge.core.platforms import Platform, PlatformPattern
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import ConflictError
from pubtools_mlmerge.hooks import announce
from pubtools_mlmerge.host.clients import HostRegistry, client_like
from pubtools_mlmerge.host.requests import SelectedRequest
from pubtools_mlmerge.host.task import current_task
from pubtools_mlmerge.host.types import HostClient
from pubtools_mlmerge.merging.audit import task_records
from pubtools_mlmerge.merging.decision import Decision, StepOptions
from pubtools_mlmerge.merging.image_ages import Ages, MergeFunction
from pubtools_mlmerge.merging.merger import ManifestListMerger
from pubtools_mlmerge.merging.step import remove_platforms
from pubtools_mlmerge.merging.writer import History, Writer, push
from pubtools_mlmerge.observe import observed
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.registry.quay_history import TagHistory
from pubtools_mlmerge.reports.report import to_text
from pubtools_mlmerge.settings import Settings

LOG = logging.getLogger("pubtools.mlmerge")

Client = Union[HostClient, RegistryClient]


def with_platforms_as_architectures(index: Index) -> dict[str, object]:
    """Show an index so that the host can go by architectures.

    The host reads ``entry["platform"]["architecture"]`` of every entry and knows nothing of
    attestations. Here an image goes by its whole platform, an attestation by that of its image,
    and what has no platform by an empty name, which nothing matches.
    """
    names = {entry.digest: str(entry.slot) for entry in index.manifests if entry.slot is not None}
    entries = [
        {
            **entry.fields,
            "platform": {"architecture": names.get(entry.attested or entry.digest, "")},
        }
        for entry in index.manifests
    ]
    return {**index.fields, "mediaType": index.media_type, "manifests": entries}


def is_named(architecture: str, names: Sequence[str]) -> bool:
    """Tell whether an architecture, as the host got to see it, is among some names."""
    if not architecture:
        return False
    parts = architecture.split("/")
    platform = Platform("linux", *parts) if len(parts) == 1 else Platform(*parts)
    return any(PlatformPattern.parse(name).matches(platform) for name in names)


class TagDockerStep:
    """One tag that is to get selected architectures.

    Attributes:
        plan (MergePlan[Index] | None):
            The plan; none before it is made, or where somebody else's hook computes the list.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._images = ("", "")
        self.plan: Plan[Index] | None = None
        self._began = time.monotonic()

    def compute(
        self,
        images: tuple[str, str],
        clients: tuple[Client, Client],
        eligible: Sequence[str],
    ) -> dict[str, object]:
        """Compute the list that the tag is to hold; the host uploads it."""
        self._images = images
        merger = ManifestListMerger(*images)
        merger.set_quay_clients(*clients)
        names = tuple(name for name in eligible if name)
        merging = self._merging(Reference.parse(images[1]), clients[1])
        request = SelectedRequest(*images, names, self.settings, merger, self._note, merging)
        computed: dict[str, object] = pm.hook.mlmerge_merge_selected(request=request)
        return computed

    def _merging(self, tag: Reference, client: Client) -> MergeFunction | None:
        """Merge by ages, if they are asked, and read them by a client that can read blobs."""
        if not self.settings.ages.needs_ages:
            return None
        own = client if isinstance(client, RegistryClient) else client_like(client)
        return partial(Ages(own, self.settings.ages).merge, tag)

    def _note(self, plan: Plan[Index]) -> None:
        self.plan = plan

    def log(
        self,
        images: tuple[str, str],
        clients: tuple[Client, Client],
        eligible: Sequence[str],
    ) -> None:
        """Log what would be done."""
        try:
            source, destination = map(Reference.parse, images)
            with observed("merge", source, destination, dry_run=True) as seen:
                self.compute(images, clients, eligible)
                seen.report = report = self._report(dry_run=True)
        except Exception as error:  # noqa: BLE001 - of no concern to what the host does
            LOG.warning("Would fail, were it not to report only: %s", error)
        else:
            if report is not None:
                LOG.info("Would merge, were it not to report only:\n%s", to_text(report))

    def announce(self, digest: str | None, attempts: int = 1) -> Report | None:
        """Tell others, once the host uploaded the list."""
        report = self._report(dry_run=False)
        if report is None or digest is None:
            return None
        report = evolve(report, digest=digest, attempts=attempts)
        task = current_task()
        if task is not None:
            task.note(report)
        announce(report)
        return report

    def _report(self, *, dry_run: bool) -> Report | None:
        if self.plan is None:  # somebody else's hook computed the list
            return None
        source, destination = map(Reference.parse, self._images)
        seconds = time.monotonic() - self._began
        return Report.of(self.plan, source, destination, dry_run=dry_run, seconds=seconds)


_Outcome = TypeVar("_Outcome")


class HostTagWriter:
    """Writes a tag in the host's stead.

    The host signs what it computed, so that cannot be replaced by something computed anew: a tag
    that somebody else wrote is a `ConflictError`, and the host is to begin again.
    """

    def __init__(
        self,
        client: HostClient,
        settings: Settings,
        token: str | None,
        check: Callable[[], None],
    ) -> None:
        self._registry = HostRegistry(client)
        self._history = TagHistory(self._registry.own, token) if token else None
        self._settings = settings
        self._check = check

    def put(self, source: str, tag: Reference, plan: Plan[Index] | None, content: bytes) -> str:
        """Write what the host computed from a plan."""
        if plan is None:
            self._check()
            return push(self._registry, tag, Index.from_bytes(content))
        plan = evolve(plan, result=Index.from_bytes(content, plan.result.media_type), changed=True)
        decision = _decide_once(Reference.parse(source), tag, plan, plan.previous_digest)
        written = self._writer(tries=1).carry_out(decision, self._check).digest
        self._put_back(tag, written, plan.previous_digest)
        return written

    def remove(self, tag: Reference, names: Sequence[str]) -> str:
        """Take platforms out of what a tag holds."""
        patterns = tuple(PlatformPattern.exact(name) for name in names if name)
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
            decision = _decide_once(None, tag, Plan(old, (), changed=True), written)
            self._writer(tries=self._settings.tries).carry_out(decision, self._check)
        raise ConflictError(str(tag), seen, lost[0].digest, 1)


def _decide_once(
    source: Reference | None, tag: Reference, plan: Plan[Manifest], seen: str | None
) -> Decision:
    """Make a decision that stays as it is, whatever the tag holds by then."""

    def decide(held: Manifest | None) -> Decision:
        return Decision(source, tag, None, held, plan, decide)

    return evolve(decide(None), seen=seen)


def persist(action: Callable[[], _Outcome], tries: int) -> _Outcome:
    """Do something again as long as somebody else writes the tag."""
    for _ in range(tries - 1):
        try:
            return action()
        except ConflictError as error:
            LOG.info("Beginning again: %s", error)
    return action()
