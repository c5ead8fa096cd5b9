"""The requests that the hooks `mlmerge_merge` and `mlmerge_merge_selected` get."""

from __future__ import annotations

import logging
from collections.abc import Callable

from attrs import evolve, field, frozen

from pubtools_mlmerge.core.manifests import Image, Index
from pubtools_mlmerge.core.plan import Plan, Report
from pubtools_mlmerge.core.platforms import PlatformPattern
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.merging.decision import Decision, no_lock
from pubtools_mlmerge.merging.image_ages import MergeFunction
from pubtools_mlmerge.merging.merger import ManifestListMerger
from pubtools_mlmerge.merging.step import Step
from pubtools_mlmerge.observe import observed
from pubtools_mlmerge.settings import Settings

LOG = logging.getLogger("pubtools.mlmerge")


@frozen(eq=False)
class MergeRequest:
    """One destination tag of a push item.

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
    _note: Callable[[Decision], None] = field(repr=False)
    _check: Callable[[], None] = field(default=no_lock, repr=False)

    def carry_out(self) -> Report | None:
        """Merge, unless the host's plain copy does the same.

        Returns:
            MergeReport | None: What was done; none where nothing of the destination is kept.

        Raises:
            MergeError: When it cannot be done; the tag then holds what it held before.
        """
        with observed("merge", self.source, self.destination) as seen:
            seen.report = report = self._carry_out()
        return report

    def _carry_out(self) -> Report | None:
        planned = self._step.plan(self.source, self.destination)
        self._note(planned)
        if planned.plan.result == planned.new:
            LOG.info("%s is copied plainly: %s", self.destination, _reason(planned))
            return None
        report = self._step.carry_out(planned, self._check)
        if not report.changed:
            LOG.info("%s holds all of %s already", self.destination, self.source)
        return report


def _reason(planned: Decision) -> str:
    if planned.old is None:
        return "it does not exist yet"
    if isinstance(planned.new, Image):
        return "the source is a single image"
    entries = planned.plan.entries
    reasons = {e.reason for e in entries if e.fate == "dropped" and e.descriptor.slot is not None}
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
    _merger: ManifestListMerger = field(repr=False)
    _note: Callable[[Plan[Index]], None] = field(repr=False)
    _merging: MergeFunction | None = field(default=None, repr=False)

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
        plan = self._merger.plan_selected(policy, self._merging)
        self._note(plan)
        fields = {**plan.result.fields, "mediaType": plan.result.media_type}
        return {**fields, "manifests": [_Entry(e.fields) for e in plan.result.manifests]}


class _Entry(dict[str, object]):
    """An entry whose platform the host may look at even where it states none.

    The host reads ``entry["platform"]["architecture"]`` of every entry. What is uploaded stays as
    it is.
    """

    def __missing__(self, key: str) -> object:
        if key == "platform":
            return {"architecture": ""}
        raise KeyError(key)
