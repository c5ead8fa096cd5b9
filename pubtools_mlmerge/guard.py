"""The guard: no tag loses a platform unless somebody asked for that."""

from __future__ import annotations

from pubtools_mlmerge.hazards import ShrinkError
from pubtools_mlmerge.index import Index
from pubtools_mlmerge.manifests import Manifest
from pubtools_mlmerge.plan import Plan, Policy
from pubtools_mlmerge.platforms import Platform
from pubtools_mlmerge.references import Reference


def check_shrink(reference: Reference, old: Manifest | None, plan: Plan, policy: Policy) -> None:
    """Refuse a result with fewer platforms than the tag has, save for those that are to go.

    Args:
        reference (Reference):
            The tag.
        old (Manifest | None):
            What it holds; none if it does not exist.
        plan (Plan):
            What it is to hold.
        policy (Policy):
            Says by `keep` and `drop` what is to go; what the plan found too old is to go, too.

    Raises:
        ShrinkError: When the result has fewer.
    """
    if not isinstance(old, Index):
        return
    had = {slot for slot in _slots(old, plan.too_old) if not _is_to_go(slot, policy)}
    if isinstance(plan.result, Index):
        has = _slots(plan.result)
        number = len(has)
    else:  # one platform; only its config tells which
        has, number = frozenset(), 1
    if number < len(had):
        raise ShrinkError(str(reference), tuple(sorted(map(str, had - has))))


def _slots(index: Index, without: frozenset[str] = frozenset()) -> frozenset[Platform]:
    entries = (entry for entry in index.manifests if entry.digest not in without)
    return frozenset(entry.slot for entry in entries if entry.slot is not None)


def _is_to_go(slot: Platform, policy: Policy) -> bool:
    is_kept = not policy.keep or any(pattern.matches(slot) for pattern in policy.keep)
    return not is_kept or any(pattern.matches(slot) for pattern in policy.drop)
