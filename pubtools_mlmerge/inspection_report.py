"""Inspections as text for people and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator

from attrs import frozen

from pubtools_mlmerge import schema
from pubtools_mlmerge.core.ages import is_old
from pubtools_mlmerge.core.manifests import Descriptor
from pubtools_mlmerge.core.plan import Age
from pubtools_mlmerge.inspection import Inspection, ListedImage, Problem
from pubtools_mlmerge.phrases import age_text, count_text, size_text, type_name
from pubtools_mlmerge.report import age_document, label_of, platform_name, printable

_BRANCH, _LAST, _GUIDE = "|-- ", "`-- ", "|   "


@frozen
class Row:
    """A line of the tree.

    Attributes:
        depth (int):
            0 for an image, 1 for its attestations.
        branch (str):
            What leads to it in a plain tree.
        name (str):
            What it is.
        digest (str):
            Its digest.
        facts (tuple[str, ...]):
            What is known of it: size, type and perhaps age.
        flags (str):
            The problems that it has, by their kinds; empty if it has none.
        is_old (bool):
            Whether it is more than a year old.
    """

    depth: int
    branch: str
    name: str
    digest: str
    facts: tuple[str, ...]
    flags: str
    is_old: bool = False


def to_text(inspection: Inspection) -> str:
    """Write an inspection as a tree.

    Args:
        inspection (Inspection):
            The inspection.

    Returns:
        str: Lines without a line break at the end, in ASCII but for what a registry wrote.
    """
    rows = list(rows_of(inspection))
    cells = [(row.branch + row.name, row.digest, *row.facts, row.flags) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = ("  ".join(c.ljust(w) for c, w in zip(line, widths)).rstrip() for line in cells)
    return "\n".join([title_of(inspection), *lines, "", *closing_of(inspection)])


def title_of(inspection: Inspection) -> str:
    """Name the index.

    Args:
        inspection (Inspection):
            The inspection.

    Returns:
        str: Its reference, digest and media type.
    """
    index = inspection.index
    return printable(f"{inspection.reference} {index.digest} {index.media_type}")


def rows_of(inspection: Inspection) -> Iterator[Row]:
    """Write the entries as lines of a tree.

    Args:
        inspection (Inspection):
            The inspection.

    Yields:
        Row: Images in order, each with its attestations below it, then the other attestations.
    """
    kinds: dict[str | None, list[str]] = {}
    for problem in inspection.problems:
        kinds.setdefault(problem.digest, []).append(problem.kind)

    def row(entry: Descriptor, branch: str, name: str, age: Age | None = None) -> Row:
        size, kind = size_text(entry.size), type_name(entry.media_type)
        facts = (size, kind, age_text(age)) if inspection.has_ages else (size, kind)
        old = age is not None and is_old(age.days)
        flags = ", ".join([*(["old"] if old else []), *kinds.get(entry.digest, [])])
        digest, flags = printable(entry.digest), flags and f"! {flags}"
        return Row(len(branch) // len(_BRANCH) - 1, branch, name, digest, facts, flags, old)

    left = len(inspection.images) + len(inspection.orphans)
    for image in inspection.images:
        left -= 1
        name = printable(image.platform or "no platform")
        yield row(image.descriptor, _BRANCH if left else _LAST, name, image.age)
        guide = _GUIDE if left else " " * len(_GUIDE)
        for number, entry in enumerate(image.attestations, 1):
            is_last = number == len(image.attestations)
            yield row(entry, guide + (_LAST if is_last else _BRANCH), "attestation")
    for entry in inspection.orphans:
        left -= 1
        yield row(entry, _BRANCH if left else _LAST, printable(label_of(entry)))


def closing_of(inspection: Inspection) -> list[str]:
    """Sum an inspection up.

    Args:
        inspection (Inspection):
            The inspection.

    Returns:
        list[str]: One line, and one more for each problem.
    """
    parts = [
        count_text(len(inspection.images), "image"),
        count_text(inspection.attestation_count, "attestation"),
        f"manifests of {size_text(inspection.size)}",
    ]
    if inspection.is_checked and not inspection.lacks_something:
        parts.append("all are in the repository")
    return [", ".join(parts), *map(problem_text, inspection.problems)]


def problem_text(problem: Problem) -> str:
    """Write a problem as a line.

    Args:
        problem (Problem):
            The problem.

    Returns:
        str: Its kind, what it is, and the digest that it is about.
    """
    about = "" if problem.digest is None else f" ({problem.digest})"
    return printable(f"problem: {problem.kind}: {problem.message}{about}")


def to_json(inspection: Inspection) -> str:
    """Write an inspection as one JSON object on one line.

    Args:
        inspection (Inspection):
            The inspection.

    Returns:
        str: Without a line break at its end.
    """
    index = inspection.index
    images = {image.descriptor.digest: image for image in inspection.images}
    document = {
        "schema": schema.VERSION,
        "reference": inspection.reference,
        "digest": index.digest,
        "media_type": index.media_type,
        "size": inspection.size,
        "checked": inspection.is_checked,
        "entries": [_entry(entry, images.get(entry.digest)) for entry in index.manifests],
        "problems": [
            {"kind": p.kind, "digest": p.digest, "message": p.message} for p in inspection.problems
        ],
    }
    return json.dumps(document)


def _entry(entry: Descriptor, image: ListedImage | None) -> dict[str, object]:
    written: dict[str, object] = {
        "platform": platform_name(entry),
        "digest": entry.digest,
        "size": entry.size,
        "media_type": entry.media_type,
    }
    if entry.attests is not None:
        written["attests"] = entry.attests
    age = None if image is None or entry.attests is not None else image.age
    if age is not None:
        written.update(age_document(age))
        if age.problem:
            written["age_problem"] = age.problem
    return written
