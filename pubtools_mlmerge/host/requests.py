"""The requests that the hooks `mlmerge_merge` and `mlmerge_merge_selected` get."""

from __future__ import annotations

import logging
from collections.abc import Callable

from attrs import evolve, field, frozen

from pubtools_mlmerge.core.manifests import Index, Manifest
from pubtools_mlmerge.core.plan import Plan, Policy, Report
from pubtools_mlmerge.core.platforms import PlatformPattern
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import MergeError
from pubtools_mlmerge.locks import no_lock
from pubtools_mlmerge.merging.decision import Decision
from pubtools_mlmerge.merging.step import Step
from pubtools_mlmerge.observe import observed
from pubtools_mlmerge.settings import Settings

LOG = logging.getLogger("pubtools.mlmerge")


@frozen(eq=False)
class MergeRequest:
    """One destination tag of a push item, as it was looked at; nothing is written yet.

    Attributes:
        source (Reference):
            The image that is pushed.
        destination (Reference):
            The tag.
        repository (str):
            External name of the destination repository.
        settings (Settings):
            How to merge.
    """

    source: Reference
    destination: Reference
    repository: str
    settings: Settings
    _step: Step = field(repr=False)
    decision: Decision | None = field(default=None, repr=False)
    """None where the source cannot be merged."""
    error: MergeError | None = field(default=None, repr=False)
    """Why the tag must not be written."""
    check: Callable[[], None] = field(default=no_lock, repr=False)
    """What to check just before the tag is written."""

    @property
    def new(self) -> Manifest | None:
        """What the source holds, if that could be read."""
        return None if self.decision is None else self.decision.new

    def carry_out(self) -> Report | None:
        """Merge, unless the host's plain copy does the same.

        Returns:
            Report | None: The report; None where nothing of the destination is kept.

        Raises:
            MergeError: When it cannot be done; the tag then holds what it held before.
        """
        if self.error is not None:
            with observed("merge", self.source, self.destination):
                raise self.error
        decision = self.decision
        if decision is None or decision.plan.result == decision.new:
            LOG.debug("%s is copied plainly: %s", self.destination, _reason(decision))
            return None
        if not decision.is_due:
            LOG.debug("%s holds all of %s already", self.destination, self.source)
            return self._step.carry_out(decision, self.check)
        with observed("merge", self.source, self.destination) as seen:
            seen.report = report = self._step.carry_out(decision, self.check)
        return report


def _reason(decision: Decision | None) -> str:
    if decision is None:
        return "the source is neither an index nor an image, and the tag has nothing to keep"
    if decision.old is None:
        return "it does not exist yet"
    entries = decision.plan.entries
    reasons = {e.reason for e in entries if e.fate == "dropped" and e.descriptor.slots}
    return "; ".join(sorted(reasons)) or "the source covers all of it"


@frozen(eq=False)
class SelectedRequest:
    """One tag that is to get selected architectures of another one.

    Attributes:
        source (str):
            The image that they come from.
        destination (str):
            The tag.
        eligible (tuple[str, ...]):
            Architectures or platforms to take.
        settings (Settings):
            How to merge.
    """

    source: str
    destination: str
    eligible: tuple[str, ...]
    settings: Settings
    _plan: Callable[[Policy], Plan[Index]] = field(repr=False)

    def carry_out(self) -> dict[str, object]:
        """Compute the new list; nothing is uploaded.

        Returns:
            dict: The new manifest list.

        Raises:
            requests.exceptions.HTTPError: When a registry refuses.
            MergeError: When a document breaks a rule, or either image is no index.
        """
        patterns = tuple(map(PlatformPattern.exact, self.eligible))
        policy = evolve(self.settings.policy, eligible=patterns)
        result = self._plan(policy).result
        fields = {**result.fields, "mediaType": result.media_type}
        return {**fields, "manifests": [_Entry(entry.fields) for entry in result.manifests]}


class _Entry(dict[str, object]):
    """An entry whose platform the host may look at even where it states none.

    The host reads ``entry["platform"]["architecture"]`` of every entry. What is uploaded stays as
    it is.
    """

    def __getitem__(self, key: str) -> object:
        if key != "platform":
            return super().__getitem__(key)
        platform = self.get(key)
        return platform if isinstance(platform, dict) and platform else {"architecture": ""}
