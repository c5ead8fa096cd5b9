"""Differences as text for people and as JSON for programs."""

from __future__ import annotations

import json
from collections import Counter

from pubtools_mlmerge.difference import Difference, FieldDifference, SlotDifference, SlotState
from pubtools_mlmerge.errors import brief
from pubtools_mlmerge.report import platform_name, printable, short, table

HEADER = ("PLATFORM", "A", "B", "STATE", "ATTESTATIONS", "NOTE")
_STATES: dict[SlotState, str] = {
    "changed": "changed",
    "only-a": "only in A",
    "only-b": "only in B",
    "same": "same",
}
_LONGEST = 200  # characters of a value
_NOTHING = "-"


def to_text(difference: Difference) -> str:
    """Write a difference as a table, with what else differs below it.

    Args:
        difference (Difference):
            The difference.

    Returns:
        str: Lines without a line break at the end.
    """
    rows = table(HEADER, map(cells_of, difference.slots))
    return "\n".join([*titles_of(difference), "", *rows, "", *closing_of(difference)])


def titles_of(difference: Difference) -> list[str]:
    """Name both indexes.

    Args:
        difference (Difference):
            The difference.

    Returns:
        list[str]: A line for each.
    """
    sides = zip("AB", difference.references, difference.indexes)
    return [printable(f"{n}: {ref} {index.digest} {index.media_type}") for n, ref, index in sides]


def cells_of(slot: SlotDifference) -> tuple[str, ...]:
    """Write a platform as a row of the table.

    Args:
        slot (SlotDifference):
            The platform.

    Returns:
        tuple[str, ...]: As many cells as there are columns.
    """
    a, b = (", ".join(map(short, side)) or _NOTHING for side in slot.digests)
    before, after = slot.attestations
    counts = f"{before}" if before == after else f"{before} -> {after}"
    cells = (slot.platform or "no platform", a, b, _STATES[slot.state], counts, slot.note)
    return tuple(map(printable, cells))


def closing_of(difference: Difference) -> list[str]:
    """Sum a difference up.

    Args:
        difference (Difference):
            The difference.

    Returns:
        list[str]: A line for each thing that differs of the indexes themselves, then one for all.
    """
    return [*map(_field, difference.fields), _summary(difference)]


def _field(found: FieldDifference) -> str:
    a, b = (_NOTHING if v is None else brief(json.dumps(v), _LONGEST) for v in (found.a, found.b))
    return f"{brief(found.name, _LONGEST)}: {a} -> {b}"


def _summary(difference: Difference) -> str:
    if difference.is_same:
        return "A and B are the same, byte for byte"
    counts = Counter(slot.state for slot in difference.slots)
    said = ", ".join(f"{counts[state]} {name}" for state, name in _STATES.items() if counts[state])
    is_seen = difference.fields or set(counts) - {"same"} or any(s.note for s in difference.slots)
    hidden = "" if is_seen else "; the order of the entries or the encoding differs"
    return f"{said or 'nothing is listed'}{hidden}"


def to_json(difference: Difference) -> str:
    """Write a difference as one JSON object on one line.

    Args:
        difference (Difference):
            The difference.

    Returns:
        str: Without a line break at its end.
    """
    a, b = (
        {"reference": reference, "digest": index.digest, "media_type": index.media_type}
        for reference, index in zip(difference.references, difference.indexes)
    )
    document = {
        "a": a,
        "b": b,
        "same": difference.is_same,
        "platforms": [_slot(slot) for slot in difference.slots],
        "fields": [{"name": f.name, "a": f.a, "b": f.b} for f in difference.fields],
    }
    return json.dumps(document)


def _slot(slot: SlotDifference) -> dict[str, object]:
    (a, b), (attested_a, attested_b) = slot.digests, slot.attestations
    return {
        "platform": platform_name(slot.image),
        "state": slot.state,
        "a": list(a),
        "b": list(b),
        "attestations_a": attested_a,
        "attestations_b": attested_b,
        "note": slot.note,
    }
