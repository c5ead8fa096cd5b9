"""Inspection of an index, its problems, and the comparison of two."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Literal

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
)
from pubtools_mlmerge.core.merge import merge
from pubtools_mlmerge.core.plan import Age, Fate
from pubtools_mlmerge.errors import brief
from pubtools_mlmerge.reports.report import (
    TYPES,
    VERSION,
    Row,
    Sheet,
    age_text,
    count_text,
    fold,
    is_old,
    json_line,
    label_of,
    listed_document,
    short,
    size_text,
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
class Inspection:
    """The content of an index, in order, with its problems."""

    reference: str
    index: Index = field(repr=False)  # one that lists the image alone, if it is a single one
    ages: Mapping[str, Age] = field(factory=dict)  # of images, by digest
    missing: Collection[str] | None = None  # digests that the repository lacks, if looked for
    referrers: tuple[Referrer, ...] | None = None  # none if these were not looked for
    held: Manifest = field(kw_only=True, repr=False)
    problems: tuple[Problem, ...] = field(init=False)  # those of the whole index last

    @held.default
    def _index(self) -> Manifest:
        return self.index

    @problems.default
    def _find_problems(self) -> tuple[Problem, ...]:
        return (*_odd_entries(self.index, self.missing or ()), *_odd_types(self.index))

    @property
    def title(self) -> str:
        """The reference, and what it holds."""
        return f"{self.reference} {self.held.digest} {self.held.media_type}"

    @property
    def size(self) -> int:
        """The total size of the listed manifests, each counted once."""
        return sum({entry.digest: entry.size for entry in self.index.manifests}.values())

    @property
    def lacks_something(self) -> bool:
        """Whether the repository is known to lack something that is listed."""
        return any(problem.kind == "missing" for problem in self.problems)

    def age_of(self, entry: Descriptor) -> Age | None:
        """Return the age of an image, if it was read."""
        return None if entry.is_attestation else self.ages.get(entry.digest)


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


def _odd_entries(index: Index, missing: Collection[str]) -> Iterator[Problem]:
    images = {entry.digest for entry in index.manifests if not entry.is_attestation}
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
            if entry.lacks_platform:
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


def inspection_sheet(inspection: Inspection) -> Sheet:
    """Show an inspection as a tree, a summary and the problems."""
    listed = inspection.index.manifests
    attestations = sum(entry.is_attestation for entry in listed)
    parts = [
        count_text(len(listed) - attestations, "image"),
        count_text(attestations, "attestation"),
        f"manifests of {size_text(inspection.size)}",
    ]
    if inspection.missing is not None and not inspection.lacks_something:
        parts.append("all are in the repository")
    problems = (
        f"problem: {p.kind}: {p.message}" + (f" ({p.digest})" if p.digest else "")
        for p in inspection.problems
    )
    ages = ["AGE"] if inspection.ages else []
    return Sheet(
        titles=(inspection.title,),
        columns=("NAME", "DIGEST", "SIZE", "TYPE", *ages, "PROBLEMS"),
        rows=tuple(_rows(inspection)),
        closing=(", ".join(parts), *problems),
        is_tree=True,
    )


def _rows(inspection: Inspection) -> Iterator[Row]:
    """Write each image with its attestations, then those without an image, and referrers."""
    images = [entry for entry in inspection.index.manifests if not entry.is_attestation]
    below: dict[str, list[Descriptor]] = {image.digest: [] for image in images}
    orphans: list[Descriptor] = []
    for entry in inspection.index.manifests:
        if entry.is_attestation:
            below.get(entry.attested or "", orphans).append(entry)
    kinds: dict[str | None, dict[str, None]] = {}  # each once: a digest may be listed often
    for problem in inspection.problems:
        kinds.setdefault(problem.digest, {})[problem.kind] = None

    def row(entry: Descriptor, branch: str, name: str) -> Row:
        age = inspection.age_of(entry)
        old = age is not None and is_old(age.days)
        flags = ", ".join([*(["old"] if old else []), *kinds.get(entry.digest, ())])
        facts = [size_text(entry.size), TYPES.get(entry.media_type, entry.media_type)]
        ages = [age_text(age)] if inspection.ages else []
        return Row((name, entry.digest, *facts, *ages, flags and f"! {flags}"), old, branch)

    top = [*images, *orphans]
    for number, entry in enumerate(top, 1):
        is_last = number == len(top)
        other = label_of(entry) if entry.is_attestation else "no platform"
        yield row(entry, _LAST if is_last else _BRANCH, platform_text(entry) or other)
        guide = " " * len(_GUIDE) if is_last else _GUIDE
        # An image that is listed twice gets its attestations the first time.
        attestations = below.pop(entry.digest, [])
        for each in attestations:
            last = each is attestations[-1]
            yield row(each, guide + (_LAST if last else _BRANCH), "attestation")
    names = {image.digest: platform_text(image) for image in images}
    names[inspection.index.digest] = "the index"
    for referrer in inspection.referrers or ():
        name = f"{referrer.kind} of {names.get(referrer.subject) or referrer.subject}"
        yield Row((name, referrer.digest, "-", "referrer", *([""] if inspection.ages else []), ""))


def inspection_to_json(inspection: Inspection) -> str:
    """Write an inspection as one JSON object on one line."""
    index = inspection.index
    document: dict[str, object] = {
        "schema": VERSION,
        "reference": inspection.reference,
        "digest": inspection.held.digest,
        "media_type": inspection.held.media_type,
        "size": inspection.size,
        "checked": inspection.missing is not None,
        "entries": [_entry(entry, inspection.age_of(entry)) for entry in index.manifests],
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
    facts = {"size": entry.size, "media_type": entry.media_type}
    written = listed_document(entry, age, facts)
    return {**written, "age_problem": age.problem} if age and age.problem else written


_STATES: dict[Fate, str] = {  # of a merge of A into B; without a policy, nothing is excluded
    "replaced": "different",
    "added": "only in A",
    "kept": "only in B",
    "dropped": "only in B",
    "same": "same",
}


def compare(a: Inspection, b: Inspection, *, every: bool) -> Sheet:
    """Show the entries of two indexes as a merge of A into B pairs them.

    An attestation is a mark on the row of its image, unless `every` entry is to have a row.
    """
    entries = merge(a.index, b.index).entries
    is_same = a.held.digest == b.held.digest
    summary = _summary([_STATES[entry.fate] for entry in entries], is_same=is_same)
    differ = {e.descriptor.attested for e in entries if e.fate != "same" and not every}
    rows = []
    for entry, mark in fold(entries, ("kept", "dropped"), every=every):
        state, digest = _STATES[entry.fate], short(entry.descriptor.digest)
        if state == "same" and entry.descriptor.digest in differ:
            state = "same, attestations differ"
        in_a = "-" if state == "only in B" else digest
        in_b = short(entry.previous_digest) if entry.previous_digest else "-"
        rows.append(Row((label_of(entry.descriptor) + mark, in_a, in_b, state)))
    return Sheet(
        titles=(f"A: {a.title}", f"B: {b.title}"),
        columns=("PLATFORM", "A", "B", "STATE"),
        rows=tuple(rows),
        closing=(summary,),
    )


def _summary(states: list[str], *, is_same: bool) -> str:
    if is_same:
        return "A and B are the same, byte for byte"
    counts = Counter(states)
    parts = [f"{counts[s]} {s}" for s in dict.fromkeys(_STATES.values()) if counts[s]]
    if counts.keys() <= {"same"}:
        parts = [*(parts or ["nothing is listed"]), "but their order or other fields differ"]
    return ", ".join(parts)
