"""Inspection of an index, its problems, and the comparison of two."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Literal, Optional

from attrs import field, frozen

from pubtools_mlmerge.core.manifests import (
    DOCKER_LIST,
    DOCKER_MANIFESTS,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    Index,
    Manifest,
    Referrer,
    platform_name,
)
from pubtools_mlmerge.core.merge import merge
from pubtools_mlmerge.core.plan import Age, Entry, Fate
from pubtools_mlmerge.errors import brief, one_line
from pubtools_mlmerge.reports.report import (
    VERSION,
    age_document,
    age_text,
    count_text,
    fold,
    is_old,
    json_line,
    label_of,
    platform_names,
    short,
    size_text,
    table,
    type_name,
    version_document,
)

ProblemKind = Literal["duplicate", "orphan", "no-platform", "mixed-types", "missing"]

_DOCKER = DOCKER_MANIFESTS | {DOCKER_LIST}
_OCI = frozenset({OCI_MANIFEST, OCI_INDEX})
_LONGEST = 200  # characters of text from a registry, in a message


@frozen
class Problem:
    """A problem of an index, or of the entry with this digest; the message is one line."""

    kind: ProblemKind
    digest: str | None
    message: str


@frozen
class ListedImage:
    """An image in an index, with the attestations that refer to it."""

    descriptor: Descriptor
    attestations: tuple[Descriptor, ...] = ()
    age: Age | None = None


@frozen(kw_only=True)
class Inspection:
    """The content of an index, in order, with its problems."""

    reference: str
    index: Index = field(repr=False)  # one that lists the image alone, if it is a single one
    held: Manifest = field(repr=False)
    images: tuple[ListedImage, ...]
    orphans: tuple[Descriptor, ...]  # attestations whose image is not listed
    problems: tuple[Problem, ...]  # in the order of the entries; those of the whole index last
    is_checked: bool  # whether the repository was searched for everything that is listed
    referrers: tuple[Referrer, ...] | None = None  # none if these were not looked for

    @property
    def size(self) -> int:
        """The total size of the listed manifests, each counted once."""
        return sum({entry.digest: entry.size for entry in self.index.manifests}.values())

    @property
    def lacks_something(self) -> bool:
        """Whether the repository is known to lack something that is listed."""
        return any(problem.kind == "missing" for problem in self.problems)


def inspect(
    reference: str,
    index: Index,
    ages: Mapping[str, Age] | None = None,
    missing: Collection[str] | None = None,
    *,
    held: Manifest | None = None,
) -> Inspection:
    """Group the entries of an index by image, and find problems.

    Ages are by digest; `missing` has the digests that the repository lacks, none if not checked;
    `held` is the single image that the index was made for.
    """
    listed: dict[str, list[Descriptor]] = {
        entry.digest: [] for entry in index.manifests if not entry.is_attestation
    }
    orphans: list[Descriptor] = []
    for entry in index.manifests:
        if entry.is_attestation:
            listed.get(entry.attested or "", orphans).append(entry)
    problems = (*_odd_entries(index, frozenset(listed), missing or ()), *_odd_types(index))
    images = tuple(
        # An image that is listed twice gets its attestations the first time.
        ListedImage(entry, tuple(listed.pop(entry.digest, ())), (ages or {}).get(entry.digest))
        for entry in index.manifests
        if not entry.is_attestation
    )
    return Inspection(
        reference=reference,
        index=index,
        held=held or index,
        images=images,
        orphans=tuple(orphans),
        problems=problems,
        is_checked=missing is not None,
    )


def platform_text(descriptor: Descriptor) -> str | None:
    """Name the platform of an entry with its OS version and features, if it has a platform."""
    slot = descriptor.slot
    if descriptor.is_index:
        return label_of(descriptor)
    if slot is None:
        return None
    version = descriptor.platform.os_version if descriptor.platform else ""
    more = ", ".join(part for part in (version, *slot.os_features) if part)
    return f"{slot} ({more})" if more else str(slot)


def _odd_entries(
    index: Index, images: Collection[str], missing: Collection[str]
) -> Iterator[Problem]:
    first: dict[object, str] = {}
    left = set(missing)
    for entry in index.manifests:
        digest = entry.digest
        if entry.is_attestation:
            name = f"the attestation of {brief(entry.attested or 'nothing', _LONGEST)}"
            if entry.attested not in images:
                yield Problem("orphan", digest, f"{name} has no image in this index")
        else:
            name = brief(platform_text(entry) or "an image without platform", _LONGEST)
            keys = entry.slots or {digest}
            for key in sorted(keys & first.keys(), key=str)[:1]:
                yield Problem("duplicate", digest, f"{name} is listed before, as {first[key]}")
            for key in keys:
                first.setdefault(key, digest)
            if entry.slot is None and not entry.is_index:
                yield Problem("no-platform", digest, "no platform is stated for this image")
        if digest in left:
            left.remove(digest)
            yield Problem("missing", digest, f"{name} is not in the repository")


def _odd_types(index: Index) -> Iterator[Problem]:
    types = {entry.media_type for entry in index.manifests}
    if types & _DOCKER and types & _OCI:
        yield Problem("mixed-types", None, "Docker and OCI manifests are listed together")
    elif index.media_type == DOCKER_LIST and types - _DOCKER:
        yield Problem("mixed-types", None, "a Docker manifest list lists other manifests")


_BRANCH, _LAST, _GUIDE = "|-- ", "`-- ", "|   "


@frozen
class Row:
    """A line of the tree; the branch is what leads to it."""

    branch: str
    name: str
    digest: str
    facts: tuple[str, ...]  # size, type and perhaps age
    flags: str  # the kinds of its problems
    is_old: bool = False


def inspection_to_text(inspection: Inspection) -> str:
    """Write an inspection as a tree."""
    rows = rows_of(inspection)
    lines = table([(row.branch + row.name, row.digest, *row.facts, row.flags) for row in rows])
    closing = map(one_line, closing_of(inspection))
    return "\n".join([one_line(title_of(inspection)), *lines, "", *closing])


def title_of(inspection: Inspection) -> str:
    """Write the first line: reference, digest and media type."""
    held = inspection.held
    return f"{inspection.reference} {held.digest} {held.media_type}"


def rows_of(inspection: Inspection) -> Iterator[Row]:
    """Write the entries as lines of a tree."""
    has_ages = any(image.age is not None for image in inspection.images)
    kinds: dict[str | None, dict[str, None]] = {}  # each once: a digest may be listed often
    for problem in inspection.problems:
        kinds.setdefault(problem.digest, {})[problem.kind] = None

    def row(entry: Descriptor, branch: str, name: str, age: Age | None = None) -> Row:
        size, kind = size_text(entry.size), type_name(entry.media_type)
        facts = (size, kind, age_text(age)) if has_ages else (size, kind)
        old = age is not None and is_old(age.days)
        flags = ", ".join([*(["old"] if old else []), *kinds.get(entry.digest, ())])
        return Row(branch, name, entry.digest, facts, flags and f"! {flags}", old)

    left = len(inspection.images) + len(inspection.orphans)
    for image in inspection.images:
        left -= 1
        name = platform_text(image.descriptor) or "no platform"
        yield row(image.descriptor, _BRANCH if left else _LAST, name, image.age)
        guide = _GUIDE if left else " " * len(_GUIDE)
        for number, entry in enumerate(image.attestations, 1):
            is_last = number == len(image.attestations)
            yield row(entry, guide + (_LAST if is_last else _BRANCH), "attestation")
    for entry in inspection.orphans:
        left -= 1
        yield row(entry, _BRANCH if left else _LAST, label_of(entry))
    names = {
        image.descriptor.digest: platform_text(image.descriptor) for image in inspection.images
    }
    names[inspection.index.digest] = "the index"
    for each in inspection.referrers or ():
        name = f"{each.kind} of {names.get(each.subject) or each.subject}"
        facts = ("-", "referrer", "") if has_ages else ("-", "referrer")
        yield Row("", name, each.digest, facts, "")


def closing_of(inspection: Inspection) -> list[str]:
    """Write the last lines: a summary, and the problems."""
    attestations = sum(entry.is_attestation for entry in inspection.index.manifests)
    parts = [
        count_text(len(inspection.images), "image"),
        count_text(attestations, "attestation"),
        f"manifests of {size_text(inspection.size)}",
    ]
    if inspection.is_checked and not inspection.lacks_something:
        parts.append("all are in the repository")
    problems = (
        f"problem: {p.kind}: {p.message}" + (f" ({p.digest})" if p.digest else "")
        for p in inspection.problems
    )
    return [", ".join(parts), *problems]


def inspection_to_json(inspection: Inspection) -> str:
    """Write an inspection as one JSON object on one line."""
    index = inspection.index
    ages = {image.descriptor.digest: image.age for image in inspection.images}
    document: dict[str, object] = {
        "schema": VERSION,
        "reference": inspection.reference,
        "digest": inspection.held.digest,
        "media_type": inspection.held.media_type,
        "size": inspection.size,
        "checked": inspection.is_checked,
        "entries": [_entry(entry, ages.get(entry.digest)) for entry in index.manifests],
        "problems": [
            {"kind": p.kind, "digest": p.digest, "message": p.message} for p in inspection.problems
        ],
    }
    if inspection.referrers is not None:
        document["referrers"] = [
            {"subject": r.subject, "digest": r.digest, "kind": r.kind, "tag": r.tag or None}
            for r in inspection.referrers
        ]
    return json_line(document)


def _entry(entry: Descriptor, age: Age | None) -> dict[str, object]:
    written: dict[str, object] = {
        "platform": platform_name(entry),
        "digest": entry.digest,
        "size": entry.size,
        "media_type": entry.media_type,
        **version_document(entry),
    }
    if entry.is_attestation:
        written["attests"] = entry.attested or ""
    if entry.is_index:
        written["platforms"] = platform_names(entry)
    if age is not None and not entry.is_attestation:
        written.update(age_document(age))
        if age.problem:
            written["age_problem"] = age.problem
    return written


COMPARED = ("PLATFORM", "A", "B", "STATE")
_STATES: dict[Fate, str] = {  # of a merge of A into B; without a policy, nothing is excluded
    "replaced": "different",
    "added": "only in A",
    "kept": "only in B",
    "dropped": "only in B",
    "same": "same",
}


ATTESTATIONS_DIFFER = "same, attestations differ"
"""The state of an image of both, where one side has another attestation of it."""


@frozen(kw_only=True)
class Comparison:
    """Two indexes, with their entries paired as a merge of A into B does it."""

    references: tuple[str, str]
    indexes: tuple[Index, Index] = field(repr=False)
    entries: tuple[Entry, ...] = field(repr=False)


def compare(references: tuple[str, str], indexes: tuple[Index, Index]) -> Comparison:
    """Compare two indexes."""
    return Comparison(references=references, indexes=indexes, entries=merge(*indexes).entries)


def comparison_to_text(comparison: Comparison, *, every: bool = False) -> str:
    """Write a comparison as a table and a summary."""
    lines = table([COMPARED, *compared_rows(comparison, every=every)])
    titles = map(one_line, compared_titles(comparison))
    return "\n".join([*titles, "", *lines, "", compared_summary(comparison)])


def compared_titles(comparison: Comparison) -> list[str]:
    """Write a line for each index."""
    sides = zip("AB", comparison.references, comparison.indexes)
    return [f"{n}: {ref} {index.digest} {index.media_type}" for n, ref, index in sides]


def compared_rows(comparison: Comparison, *, every: bool = False) -> Iterator[tuple[str, ...]]:
    """Write the entries as rows of the table; attestations as in that of a merge."""
    entries, marks = [*comparison.entries], dict[int, str]()
    differ = set[Optional[str]]()
    if not every:
        differ = {e.descriptor.attested for e in entries if e.fate != "same"}
        entries, marks = fold(entries, ("kept", "dropped"))
    for entry in entries:
        state = _STATES[entry.fate]
        if state == "same" and entry.descriptor.digest in differ:
            state = ATTESTATIONS_DIFFER
        a = "-" if state == "only in B" else short(entry.descriptor.digest)
        b = short(entry.previous_digest) if entry.previous_digest else "-"
        yield label_of(entry.descriptor) + marks.get(id(entry), ""), a, b, state


def compared_summary(comparison: Comparison) -> str:
    """Count the entries of each state."""
    a, b = comparison.indexes
    if a.digest == b.digest:
        return "A and B are the same, byte for byte"
    counts = Counter(_STATES[entry.fate] for entry in comparison.entries)
    states = [f"{counts[s]} {s}" for s in dict.fromkeys(_STATES.values()) if counts[s]]
    states = states or ["nothing is listed"]
    if counts.keys() <= {"same"}:
        states.append("but their order or other fields differ")
    return ", ".join(states)
