"""Put a tag back to what it held before a recorded change."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence

from attrs import evolve

from pubtools_mlmerge.core.manifests import Image, Index, Manifest
from pubtools_mlmerge.core.merge import merge
from pubtools_mlmerge.core.plan import Entry, Fate, Plan, Report
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import CannotRestore, MissingChild
from pubtools_mlmerge.locks import no_lock
from pubtools_mlmerge.merging.audit import Change, Recorder
from pubtools_mlmerge.merging.decision import Decision, StepOptions
from pubtools_mlmerge.merging.writer import Writer, push
from pubtools_mlmerge.observe import observed
from pubtools_mlmerge.registry.client import RegistryClient

LOG = logging.getLogger("pubtools.mlmerge")

# What a merge says of an entry, and what it means where nothing is kept.
_OUTCOMES: dict[Fate, tuple[Fate, str]] = {
    "same": ("same", "both have this digest"),
    "added": ("added", "it was listed before"),
    "replaced": ("replaced", "this one was listed before"),
    "kept": ("dropped", "it was not listed before"),
    "dropped": ("dropped", "it was not listed before"),
}


def restore(  # noqa: PLR0913 - independent options, each with a default
    registry: RegistryClient,
    change: Change,
    *,
    force: bool = False,
    dry_run: bool = False,
    recorder: Recorder | None = None,
    check: Callable[[], None] = no_lock,
    held: Manifest | None = None,
) -> Report:
    """Put back what a tag held before a change; `held` is what a dry run takes it to hold."""
    tag, previous = change.destination, change.previous
    if previous is None:
        problem = "it did not exist before, so nothing can be put back; delete it by hand"
        raise CannotRestore(str(tag), problem)
    # Deciding again would overwrite another program's new write.
    options = StepOptions(dry_run=dry_run, tries=StepOptions().tries if force else 1)
    began = time.monotonic()

    def decide(held: Manifest | None) -> Decision:
        plan = _plan(previous, held)
        return Decision(None, tag, held, plan, decide, prepare, began=began)

    def prepare(_decision: Decision) -> None:
        if not force:
            _require_children(registry, tag, previous)

    with observed("restore", None, tag, dry_run=dry_run) as seen:
        registry.intend(pull=(tag,), push=() if dry_run else (tag,))
        decision = decide(held or _held(registry, change, previous, force=force))
        missing = (
            _missing(registry, tag, _children(previous)) if dry_run and decision.is_due else []
        )
        if missing:
            words = "%s: %s cannot be read; whether the registry still has it shows only in a write"
            LOG.warning(words, tag, ", ".join(missing))
        seen.report = report = Writer(registry, options, recorder).carry_out(decision, check)
    return report


def _held(
    registry: RegistryClient, change: Change, previous: Manifest, *, force: bool
) -> Manifest | None:
    """Return what the tag holds; as long as that is in the record, a HEAD request is enough."""
    tag = change.destination
    recorded = {manifest.digest: manifest for manifest in (change.new, previous)}
    digest = registry.digest(tag)
    if digest is not None and digest in recorded:
        return recorded[digest]
    if force:
        return registry.pull_if_present(tag)
    problem = f"it was changed since: it holds {digest or 'nothing'}, not {change.new.digest}"
    raise CannotRestore(str(tag), f"{problem}; to overwrite that, use --force")


def _require_children(registry: RegistryClient, tag: Reference, previous: Manifest) -> None:
    """Fail if the repository lacks a manifest that the previous index lists."""
    missing: Sequence[str] = _missing(registry, tag, _children(previous))
    refusal = None
    if missing:
        # Quay hides what no tag leads to as if it were gone, and a manifest that lists it brings
        # it back. A PUT by digest moves no tag, and is refused if a child is really gone.
        try:
            push(registry, tag.at(previous.digest), previous)
            missing = _missing(registry, tag, missing)
        except MissingChild as error:
            missing, refusal = error.digests or missing, error
    if missing:
        problem = f"the repository lacks {', '.join(missing)}; push them first"
        raise CannotRestore(str(tag), problem) from refusal


def _children(manifest: Manifest) -> Iterable[str]:
    # An image lists blobs. The registry checks those itself, before it moves the tag.
    listed = () if isinstance(manifest, Image) else manifest.manifests
    return dict.fromkeys(entry.digest for entry in listed)


def _missing(registry: RegistryClient, tag: Reference, digests: Iterable[str]) -> list[str]:
    return [digest for digest in digests if not registry.has_manifest(tag.at(digest))]


def _plan(previous: Manifest, held: Manifest | None) -> Plan[Manifest]:
    """Compare what the tag gets with what it holds."""
    plan = merge(_listing(previous), None if held is None else _listing(held))
    changed = held is None or previous.digest != held.digest
    entries = plan.entries
    if isinstance(previous, Image) and held is not None and changed:
        image = evolve(entries[0], fate="replaced", previous_digest=held.digest)
        entries = (image, *(entries[1:] if isinstance(held, Index) else ()))
    outcomes = (Entry(e.descriptor, *_OUTCOMES[e.fate], e.previous_digest) for e in entries)
    return Plan(previous, tuple(outcomes), changed)


def _listing(manifest: Manifest) -> Index:
    return manifest if isinstance(manifest, Index) else manifest.wrap(None)
