"""The outcome of a step: what was asked, what was found, and what was done."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import field, frozen

from pubtools_mlmerge.plan import FATES, Fate, PlannedEntry
from pubtools_mlmerge.references import Reference


def _entries(values: Iterable[PlannedEntry]) -> tuple[PlannedEntry, ...]:
    return tuple(values)


def _texts(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(values)


@frozen(kw_only=True)
class MergeReport:
    """What became of one destination.

    Attributes:
        source (Reference | None):
            Where the new entries came from; none where platforms were removed.
        destination (Reference):
            The tag.
        source_digest (str | None):
            What the source held.
        previous_digest (str | None):
            What the destination held before; none if it did not exist.
        digest (str):
            What the destination holds now, or would hold after a dry run.
        media_type (str):
            Its media type.
        changed (bool):
            Whether that differs from before.
        dry_run (bool):
            Whether nothing was to be written.
        entries (tuple[PlannedEntry, ...]):
            The entries of the result in their order, then those left out.
        missing (tuple[str, ...]):
            Names that were asked for and matched nothing.
        anchor_tag (str | None):
            A second tag on the result; none if there is none.
        attempts (int):
            How often the merge was planned.
        requests (int):
            How many requests it took, those for tokens included.
        seconds (float):
            How long it took.
    """

    source: Reference | None
    destination: Reference
    source_digest: str | None
    previous_digest: str | None
    digest: str
    media_type: str
    changed: bool
    dry_run: bool
    entries: tuple[PlannedEntry, ...] = field(converter=_entries, repr=False)
    missing: tuple[str, ...] = field(default=(), converter=_texts)
    anchor_tag: str | None = None
    attempts: int = 1
    requests: int = 0
    seconds: float = 0.0

    @property
    def counts(self) -> dict[Fate, int]:
        """How many entries have a fate, for each fate that there is."""
        fates = [entry.fate for entry in self.entries]
        return {fate: fates.count(fate) for fate in FATES if fate in fates}
