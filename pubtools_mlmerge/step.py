"""The step: one source, one destination tag."""

from __future__ import annotations

import logging
import time

from attrs import evolve

from pubtools_mlmerge.errors import NotAnIndex, NotFound, NothingEligible, Unauthorized
from pubtools_mlmerge.image import Image
from pubtools_mlmerge.index import Index
from pubtools_mlmerge.manifests import Manifest
from pubtools_mlmerge.merge import merge
from pubtools_mlmerge.outcome import MergeReport
from pubtools_mlmerge.planned import BringsChildren, Plan, Planned, StepOptions
from pubtools_mlmerge.references import Reference
from pubtools_mlmerge.registry import Registry
from pubtools_mlmerge.replacement import replace_by_image, replace_image

LOG = logging.getLogger("pubtools.mlmerge")


class Step:
    """Merges sources into destinations; a source is pulled once, however many there are.

    Args:
        source (Registry):
            Reads the source.
        destination (Registry):
            Reads and writes the destinations; may be the same object.
        options (StepOptions):
            How to do it.
        children (BringsChildren):
            Brings manifests into the destination repositories.
    """

    def __init__(
        self,
        source: Registry,
        destination: Registry,
        options: StepOptions,
        children: BringsChildren,
    ) -> None:
        self._source = source
        self._destination = destination
        self._options = options
        self._children = children
        self._pulled: dict[Reference, Manifest] = {}

    def merge(self, source: Reference, destination: Reference) -> MergeReport:
        """Merge a source into a tag.

        Args:
            source (Reference):
                The newer image.
            destination (Reference):
                The tag; one that does not exist yet gets a copy of the source.

        Returns:
            MergeReport: What was done.

        Raises:
            MergeError: When that cannot be done; the tag then holds what it held before.
        """
        return self.carry_out(self.plan(source, destination))

    def plan(self, source: Reference, destination: Reference) -> Planned:
        """Read both sides and decide; nothing is written.

        Args:
            source (Reference):
                The newer image.
            destination (Reference):
                The tag.

        Returns:
            Planned: What was found and what is to be done.

        Raises:
            MergeError: When it cannot be decided.
        """
        began, counted = time.monotonic(), self._count()
        self._intend(source, destination)
        new = self._pull_source(source)
        old = self._pull_destination(destination)
        plan = self._decide(source, new, destination, old)
        if isinstance(plan.result, Index) and not plan.result.manifests and plan.entries:
            raise NothingEligible(str(source), plan.missing)
        for name in plan.missing:
            LOG.warning("%s: the source has no %s", source, name)
        return Planned(source, destination, new, old, plan, began, counted)

    def carry_out(self, planned: Planned) -> MergeReport:
        """Do what was decided: children first, then the tag, then its anchor.

        Args:
            planned (Planned):
                The decision.

        Returns:
            MergeReport: What was done.

        Raises:
            MergeError: When that cannot be done; the tag then holds what it held before.
        """
        source, destination, plan = planned.source, planned.destination, planned.plan
        anchor = None
        if plan.changed and not self._options.dry_run:
            self._children.ensure(source, destination, planned.needed)
            anchor = self._write(destination, plan.result)
        return MergeReport(
            source=source,
            destination=destination,
            source_digest=planned.new.digest,
            previous_digest=planned.old.digest if planned.old is not None else None,
            digest=plan.result.digest,
            media_type=plan.result.media_type,
            changed=plan.changed,
            dry_run=self._options.dry_run,
            entries=plan.entries,
            missing=plan.missing,
            anchor_tag=anchor.tag if anchor is not None else None,
            requests=self._count() - planned.counted,
            seconds=time.monotonic() - planned.began,
        )

    def is_index(self, source: Reference) -> bool:
        """Tell whether a source is an index; if so, it is not pulled again to be merged.

        Args:
            source (Reference):
                The source.

        Returns:
            bool: False if it is something else or does not exist.

        Raises:
            MergeError: When it cannot be read.
        """
        if source not in self._pulled:
            try:
                self._pulled[source] = self._source.pull_index(source)
            except (NotAnIndex, NotFound):
                return False
        return isinstance(self._pulled[source], Index)

    def _count(self) -> int:
        clients = {id(client): client for client in (self._source, self._destination)}
        return sum(client.request_count for client in clients.values())

    def _intend(self, source: Reference, destination: Reference) -> None:
        """Announce all rights at once, and none to write in a dry run."""
        writes = () if self._options.dry_run else (destination,)
        if self._source is self._destination:
            self._source.intend(pull=(source, destination), push=writes)
        else:
            self._source.intend(pull=(source,))
            self._destination.intend(pull=(destination,), push=writes)

    def _pull_source(self, source: Reference) -> Manifest:
        if source not in self._pulled:
            self._pulled[source] = self._source.pull(source)
        return self._pulled[source]

    def _pull_destination(self, destination: Reference) -> Manifest | None:
        try:
            return self._destination.pull(destination)
        except NotFound:
            return None
        except Unauthorized as error:
            # Quay hides repositories that do not exist behind the status of a refused login.
            if not error.logged_in:
                raise
            LOG.debug("%s: taken as absent: %s", destination, error)
            return None

    def _decide(
        self, source: Reference, new: Manifest, destination: Reference, old: Manifest | None
    ) -> Plan:
        policy = self._options.policy
        if policy.single_image == "wrap":
            index = self._wrap(self._source, source, new)
            before = None if old is None else self._wrap(self._destination, destination, old)
            plan = merge(index, before, policy)
            # A tag that holds a bare image does not hold the index that it was wrapped into.
            return evolve(plan, changed=plan.changed or isinstance(old, Image))
        if isinstance(new, Image):
            if policy.single_image == "fail" or policy.eligible is not None:
                raise NotAnIndex(str(source), new.media_type)
            LOG.warning("%s is a single image and replaces %s", source, destination)
            return replace_by_image(new, old)
        if not isinstance(old, Image):
            return merge(new, old, policy)
        if policy.single_image == "fail":
            raise NotAnIndex(str(destination), old.media_type)
        LOG.warning("%s is a single image and is replaced by %s", destination, source)
        return replace_image(new, old, policy)

    @staticmethod
    def _wrap(registry: Registry, reference: Reference, manifest: Manifest) -> Index:
        if isinstance(manifest, Index):
            return manifest
        return manifest.wrap(registry.pull_config(reference, manifest))

    def _write(self, destination: Reference, manifest: Manifest) -> Reference | None:
        template = self._options.anchor_tag
        anchor = template.apply(destination, manifest.digest) if template is not None else None
        for tag in (destination, anchor):
            if tag is not None:
                push(self._destination, tag, manifest)
        return anchor


def push(registry: Registry, destination: Reference, manifest: Manifest) -> None:
    """Write a manifest under a tag, and say so in the log.

    Args:
        registry (Registry):
            Writes it.
        destination (Reference):
            The tag.
        manifest (Manifest):
            What it is to hold.

    Raises:
        RegistryError: When the registry refuses.
    """
    digest = registry.push(destination, manifest)
    event = {"type": "mlmerge-upload", "destination": str(destination), "digest": digest}
    LOG.info("Uploaded %s to %s", digest, destination, extra={"event": event})
