"""Put a tag back to what it held before a recorded change."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from attrs import evolve, frozen

from pubtools_mlmerge.core.manifests import Image, Manifest
from pubtools_mlmerge.core.merge import merge, replace_by_image, replace_image
from pubtools_mlmerge.core.plan import Entry, Fate, Plan, Policy, Report
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import CannotRestore, MissingChild
from pubtools_mlmerge.merging.audit import Change, Recorder
from pubtools_mlmerge.merging.decision import Decision, Job, StepOptions, digest_if_any, no_lock
from pubtools_mlmerge.merging.writer import Writer, push
from pubtools_mlmerge.observe import Meter, observed
from pubtools_mlmerge.registry.client import RegistryClient

LOG = logging.getLogger("pubtools.mlmerge")

_REASONS: dict[Fate, str] = {
    "same": "both have this digest",
    "added": "it was listed before",
    "replaced": "this one was listed before",
    "dropped": "it was not listed before",
}


def restore(  # noqa: PLR0913 - independent options, each with a default
    registry: RegistryClient,
    change: Change,
    *,
    force: bool = False,
    dry_run: bool = False,
    recorder: Recorder | None = None,
    check: Callable[[], None] = no_lock,
) -> Report:
    """Put back what a tag held before a change."""
    if change.previous is None:
        problem = "it did not exist before, so nothing can be put back; delete it by hand"
        raise CannotRestore(str(change.destination), problem)
    meter = Meter()
    undoing = _Undoing(registry, change, change.previous, meter, force)
    # Deciding again would overwrite what somebody else has just written.
    options = StepOptions(dry_run=dry_run, tries=StepOptions().tries if force else 1)

    def act() -> Report:
        registry.intend(pull=(undoing.tag,), push=() if dry_run else (undoing.tag,))
        with meter.running():
            planned = undoing.decide(undoing.look())
            if dry_run and planned.is_due:
                undoing.warn()
        return Writer(registry, options, recorder).carry_out(planned, check)

    return observed("restore", None, undoing.tag, act, dry_run=dry_run)


@frozen(eq=False, repr=False)
class _Undoing:
    """Undoes one change."""

    registry: RegistryClient
    change: Change
    previous: Manifest
    meter: Meter
    force: bool

    @property
    def tag(self) -> Reference:
        return self.change.destination

    def look(self) -> Manifest | None:
        """Tell what the tag holds; as long as that is in the record, a HEAD request is enough."""
        recorded = {manifest.digest: manifest for manifest in (self.change.new, self.previous)}
        digest = self.registry.digest(self.tag)
        if digest is not None and digest in recorded:
            return recorded[digest]
        if self.force:
            return self.registry.pull_if_present(self.tag)
        problem = (
            f"it was changed since: it holds {digest or 'nothing'}, not {self.change.new.digest}"
        )
        raise CannotRestore(str(self.tag), problem)

    def decide(self, held: Manifest | None) -> Decision:
        """Plan to put the previous bytes in the place of what the tag holds."""
        plan = _plan(self.previous, held)
        return Decision(
            None, self.tag, None, held, plan, self.meter, Job(self.decide, self._require_children)
        )

    def warn(self) -> None:
        """Tell what is missing, as far as that shows without a write."""
        missing = self._missing(self._children())
        if missing:
            words = "%s: %s cannot be read; whether the registry still has it shows only in a write"
            LOG.warning(words, self.tag, ", ".join(missing))

    def _require_children(self, _planned: Decision) -> None:
        missing = [] if self.force else self._missing(self._children())
        if not missing:
            return
        # On Quay, what no tag leads to is hidden as if it were gone, and a manifest that lists it
        # brings it back. No tag is moved by a PUT by digest, and it is refused if a child is gone.
        try:
            push(self.registry, self.tag.at(self.previous.digest), self.previous)
        except MissingChild as error:
            raise self._lacks(error.digests or missing) from error
        missing = self._missing(missing)
        if missing:
            raise self._lacks(missing)

    def _children(self) -> list[str]:
        # An image lists blobs. The registry looks for them itself, before it moves the tag.
        if isinstance(self.previous, Image):
            return []
        return list(dict.fromkeys(entry.digest for entry in self.previous.manifests))

    def _missing(self, digests: Iterable[str]) -> list[str]:
        return [d for d in digests if not self.registry.has_manifest(self.tag.at(d))]

    def _lacks(self, digests: Iterable[str]) -> CannotRestore:
        return CannotRestore(str(self.tag), f"the repository lacks {', '.join(digests)}")


def _plan(previous: Manifest, held: Manifest | None) -> Plan[Manifest]:
    """Compare what the tag gets with what it holds."""
    if isinstance(previous, Image):
        return _told(replace_by_image(previous, held))
    if isinstance(held, Image):
        return _told(replace_image(previous, held, Policy()))
    changed = previous.digest != digest_if_any(held)
    return _told(evolve(merge(previous, held), result=previous, changed=changed))


def _told(plan: Plan[Manifest]) -> Plan[Manifest]:
    """Give the fates of a plan that keeps nothing, and its reasons."""
    entries = []
    for entry in plan.entries:
        fate: Fate = "dropped" if entry.fate == "kept" else entry.fate
        told = Entry(entry.descriptor, fate, _REASONS[fate], entry.previous_digest)
        entries.append(told)
    return evolve(plan, entries=tuple(entries))
