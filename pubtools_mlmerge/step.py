"""The step: one source, one destination tag."""

from __future__ import annotations

import logging
import time
from typing import Union

from attrs import field, frozen

from pubtools_mlmerge.anchors import AnchorTag
from pubtools_mlmerge.children import Children, Copy
from pubtools_mlmerge.client import RegistryClient
from pubtools_mlmerge.errors import NotAnIndex, NotFound, Unauthorized
from pubtools_mlmerge.image import Image
from pubtools_mlmerge.index import Index
from pubtools_mlmerge.manifests import Manifest
from pubtools_mlmerge.merge import merge, remove
from pubtools_mlmerge.outcome import MergeReport
from pubtools_mlmerge.plan import MergePlan, Policy
from pubtools_mlmerge.platforms import PlatformPattern
from pubtools_mlmerge.references import Reference
from pubtools_mlmerge.replacement import replace_by_image, replace_image

LOG = logging.getLogger("pubtools.mlmerge")

Plan = Union[MergePlan[Index], MergePlan[Image]]


@frozen(kw_only=True)
class StepOptions:
    """How a step is carried out.

    Attributes:
        policy (Policy):
            What the merge decides differently.
        dry_run (bool):
            Whether nothing is written, and no right to write asked for.
        copy (str):
            How children are brought into the destination repository.
        anchor_tag (AnchorTag | None):
            A second tag for what is written; none for none.
    """

    policy: Policy = field(factory=Policy)
    dry_run: bool = False
    copy: Copy = "auto"
    anchor_tag: AnchorTag | None = None


class Step:
    """Merges sources into destinations; a source is pulled once, however many there are.

    Args:
        source (RegistryClient):
            Reads the source.
        destination (RegistryClient):
            Reads and writes the destinations; may be the same client.
        options (StepOptions):
            How to do it.
    """

    def __init__(
        self, source: RegistryClient, destination: RegistryClient, options: StepOptions
    ) -> None:
        self._source = source
        self._destination = destination
        self._options = options
        self._children = Children(source, destination, options.copy)
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
        began, counted = time.monotonic(), self._count()
        self._intend(source, destination)
        new = self._pull_source(source)
        old = self._pull_destination(destination)
        plan = self._plan(source, new, destination, old)
        for name in plan.missing:
            LOG.warning("%s: the source has no %s", source, name)
        anchor = None
        if plan.changed and not self._options.dry_run:
            self._children.ensure(source, destination, _needed(plan, new))
            anchor = self._write(destination, plan.result)
        return MergeReport(
            source=source,
            destination=destination,
            source_digest=new.digest,
            previous_digest=old.digest if old is not None else None,
            digest=plan.result.digest,
            media_type=plan.result.media_type,
            changed=plan.changed,
            dry_run=self._options.dry_run,
            entries=plan.entries,
            missing=plan.missing,
            anchor_tag=anchor.tag if anchor is not None else None,
            requests=self._count() - counted,
            seconds=time.monotonic() - began,
        )

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

    def _plan(
        self, source: Reference, new: Manifest, destination: Reference, old: Manifest | None
    ) -> Plan:
        policy = self._options.policy
        if policy.single_image == "wrap":
            new = self._wrap(self._source, source, new)
            old = None if old is None else self._wrap(self._destination, destination, old)
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
    def _wrap(registry: RegistryClient, reference: Reference, manifest: Manifest) -> Index:
        if isinstance(manifest, Index):
            return manifest
        return manifest.wrap(registry.pull_config(reference, manifest))

    def _write(self, destination: Reference, manifest: Manifest) -> Reference | None:
        template = self._options.anchor_tag
        anchor = template.apply(destination, manifest.digest) if template is not None else None
        for tag in (destination, anchor):
            if tag is not None:
                _push(self._destination, tag, manifest)
        return anchor


def _push(registry: RegistryClient, destination: Reference, manifest: Manifest) -> None:
    """Write a manifest under a tag, and say so in the log."""
    digest = registry.push(destination, manifest)
    event = {"type": "mlmerge-upload", "destination": str(destination), "digest": digest}
    LOG.info("Uploaded %s to %s", digest, destination, extra={"event": event})


def remove_platforms(
    registry: RegistryClient,
    reference: Reference,
    patterns: tuple[PlatformPattern, ...],
    *,
    allow_empty: bool = False,
    dry_run: bool = False,
) -> MergeReport:
    """Take platforms out of what a tag holds, their attestations with them.

    Args:
        registry (RegistryClient):
            Reads and writes the tag.
        reference (Reference):
            The tag.
        patterns (tuple[PlatformPattern, ...]):
            The platforms.
        allow_empty (bool):
            Whether an empty index may be left.
        dry_run (bool):
            Whether nothing is written.

    Returns:
        MergeReport: What was done.

    Raises:
        EmptyIndex: When nothing would be left and that is not allowed.
        MergeError: When the tag holds no index or the registry refuses.
    """
    began, counted = time.monotonic(), registry.request_count
    registry.intend(pull=(reference,), push=() if dry_run else (reference,))
    index = registry.pull_index(reference)
    plan = remove(index, patterns, allow_empty=allow_empty)
    if plan.changed and not dry_run:
        _push(registry, reference, plan.result)
    return MergeReport(
        source=None,
        destination=reference,
        source_digest=None,
        previous_digest=index.digest,
        digest=plan.result.digest,
        media_type=plan.result.media_type,
        changed=plan.changed,
        dry_run=dry_run,
        entries=plan.entries,
        missing=plan.missing,
        requests=registry.request_count - counted,
        seconds=time.monotonic() - began,
    )


def _needed(plan: Plan, source: Manifest) -> tuple[str, ...]:
    """Name the manifests that the destination repository must have before the result."""
    if isinstance(plan.result, Image):
        return (plan.result.digest,)
    if isinstance(source, Image):
        return (source.digest,)
    return tuple(entry.digest for entry in plan.taken)
