"""The tag-docker step: what the host sees of an index, and what is written in its stead."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Union

from attrs import evolve
from pubtools.pluggy import pm

from pubtools_mlmerge.calls import announce
from pubtools_mlmerge.core.manifests import Index
from pubtools_mlmerge.core.plan import Plan, Report
from pubtools_mlmerge.core.platforms import Platform, PlatformPattern
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.host_types import HostClient
from pubtools_mlmerge.jobs import SelectedRequest
from pubtools_mlmerge.merging.decision import report_of_plan
from pubtools_mlmerge.merging.image_ages import Ages, Merging
from pubtools_mlmerge.merging.merger import ManifestListMerger
from pubtools_mlmerge.observe import Meter, observed
from pubtools_mlmerge.plugin import current_task
from pubtools_mlmerge.push_sides import client_like
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.reports.report import to_text
from pubtools_mlmerge.settings import Settings

LOG = logging.getLogger("pubtools.mlmerge")

Client = Union[HostClient, RegistryClient]


def view(index: Index) -> dict[str, object]:
    """Show an index so that the host can go by architectures.

    The host reads ``entry["platform"]["architecture"]`` of every entry and knows nothing of
    attestations. Here an image goes by its whole platform, an attestation by that of its image,
    and what has no platform by an empty name, which nothing matches.

    Args:
        index (Index):
            The index.

    Returns:
        dict: Its fields, with such names.
    """
    names = {entry.digest: str(entry.slot) for entry in index.manifests if entry.slot is not None}
    entries = [
        {
            **entry.fields,
            "platform": {"architecture": names.get(entry.attests or entry.digest, "")},
        }
        for entry in index.manifests
    ]
    return {**index.fields, "mediaType": index.media_type, "manifests": entries}


def is_named(architecture: str, names: Sequence[str]) -> bool:
    """Tell whether an architecture, as the host got to see it, is among some names.

    Args:
        architecture (str):
            Architecture, or platform from `view`.
        names (Sequence[str]):
            Names such as ``x86_64`` or ``linux/arm/v7``.

    Returns:
        bool: True if one of them means it.

    Raises:
        InvalidPlatform: When a name is none.
    """
    if not architecture:
        return False
    parts = architecture.split("/")
    platform = Platform("linux", *parts) if len(parts) == 1 else Platform(*parts)
    return any(PlatformPattern.parse(name).matches(platform) for name in names)


class Selecting:
    """One tag that is to get selected architectures.

    Args:
        settings (Settings):
            How to merge.

    Attributes:
        plan (MergePlan[Index] | None):
            The plan; none before it is made, or where somebody else's hook computes the list.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._images = ("", "")
        self.plan: Plan[Index] | None = None
        self._meter = Meter()

    def compute(
        self,
        images: tuple[str, str],
        clients: tuple[Client, Client],
        eligible: Sequence[str],
    ) -> dict[str, object]:
        """Compute the list that the tag is to hold; the host uploads it.

        Args:
            images (tuple[str, str]):
                References of the source and of the tag.
            clients (tuple[Client, Client]):
                Clients of either.
            eligible (Sequence[str]):
                What may be taken from the source.

        Returns:
            dict: The list.

        Raises:
            requests.exceptions.HTTPError: When a registry refuses.
            MergeError: When a document breaks a rule, or either image is no index.
        """
        self._images = images
        merger = ManifestListMerger(*images)
        merger.set_quay_clients(*clients)
        names = tuple(name for name in eligible if name)
        merging = self._merging(Reference.parse(images[1]), clients[1])
        request = SelectedRequest(*images, names, self.settings, merger, self._note, merging)
        computed: dict[str, object] = pm.hook.mlmerge_merge_selected(request=request)
        return computed

    def _merging(self, tag: Reference, client: Client) -> Merging | None:
        """Merge by ages, if they are asked, and read them by a client that can read blobs."""
        if not self.settings.ages.is_asked:
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
        """Log what would be done.

        Args:
            images (tuple[str, str]):
                References of the source and of the tag.
            clients (tuple[Client, Client]):
                Clients of either.
            eligible (Sequence[str]):
                What may be taken from the source.
        """

        def act() -> Report | None:
            self.compute(images, clients, eligible)
            return self._report(dry_run=True)

        try:
            source, destination = map(Reference.parse, images)
            report = observed("merge", source, destination, act, dry_run=True)
        except Exception as error:  # noqa: BLE001 - of no concern to what the host does
            LOG.warning("Would fail, were it not to report only: %s", error)
        else:
            if report is not None:
                LOG.info("Would merge, were it not to report only:\n%s", to_text(report))

    def announce(self, digest: str | None, attempts: int = 1) -> Report | None:
        """Tell others, once the host uploaded the list.

        Args:
            digest (str | None):
                What it uploaded.
            attempts (int):
                How often it was computed.

        Returns:
            MergeReport | None: What was done; none where nobody knows.
        """
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
        return report_of_plan(source, destination, self.plan, self._meter, dry_run=dry_run)
