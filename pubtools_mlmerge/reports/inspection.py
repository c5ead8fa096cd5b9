"""What an index lists, what is odd about it, and what differs between two."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Literal

from attrs import field, frozen

from pubtools_mlmerge.core.manifests import (
    DOCKER_LIST,
    DOCKER_MANIFESTS,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    Index,
    platform_name,
)
from pubtools_mlmerge.core.plan import Age
from pubtools_mlmerge.errors import brief
from pubtools_mlmerge.reports.report import (
    VERSION,
    age_document,
    age_text,
    count_text,
    is_old,
    label_of,
    printable,
    short,
    size_text,
    table,
    type_name,
)

ProblemKind = Literal["duplicate", "orphan", "no-platform", "mixed-types", "missing"]

_DOCKER = DOCKER_MANIFESTS | {DOCKER_LIST}
_OCI = frozenset({OCI_MANIFEST, OCI_INDEX})
_MOST = 200  # characters of what a registry wrote, in a message


@frozen
class Problem:
    """Something about an index that is worth a look.

    Attributes:
        kind (str):
            ``duplicate``, ``orphan``, ``no-platform``, ``mixed-types`` or ``missing``.
        digest (str | None):
            The entry that it is about; none if that is the whole index.
        message (str):
            What it is, on one line and without control characters.
    """

    kind: ProblemKind
    digest: str | None
    message: str


@frozen
class ListedImage:
    """An image of an index, with what belongs to it.

    Attributes:
        descriptor (Descriptor):
            Its entry.
        attestations (tuple[Descriptor, ...]):
            The attestations that name it, in their order.
        age (Age | None):
            How old it is; none if that was not asked.
    """

    descriptor: Descriptor
    attestations: tuple[Descriptor, ...] = field(default=(), converter=tuple[Descriptor, ...])
    age: Age | None = None

    @property
    def platform(self) -> str | None:
        """What it runs on, see `platform_text`."""
        return platform_text(self.descriptor)


@frozen(kw_only=True)
class Inspection:
    """What an index lists.

    Attributes:
        reference (str):
            What holds it.
        index (Index):
            The index.
        images (tuple[ListedImage, ...]):
            All that is no attestation, in order.
        orphans (tuple[Descriptor, ...]):
            The attestations whose image is not listed.
        problems (tuple[Problem, ...]):
            What is worth a look, in the order of the entries; what is about the whole index is
            last.
        is_checked (bool):
            Whether it was asked if everything that is listed is there.
    """

    reference: str
    index: Index = field(repr=False)
    images: tuple[ListedImage, ...] = field(converter=tuple[ListedImage, ...])
    orphans: tuple[Descriptor, ...] = field(default=(), converter=tuple[Descriptor, ...])
    problems: tuple[Problem, ...] = field(default=(), converter=tuple[Problem, ...])
    is_checked: bool = False

    @property
    def size(self) -> int:
        """How many bytes all manifests have that are listed, each counted once."""
        return sum({entry.digest: entry.size for entry in self.index.manifests}.values())

    @property
    def attestation_count(self) -> int:
        """How many attestations are listed."""
        return sum(entry.is_attestation for entry in self.index.manifests)

    @property
    def has_ages(self) -> bool:
        """Whether ages were asked for."""
        return any(image.age is not None for image in self.images)

    @property
    def lacks_something(self) -> bool:
        """Whether something that is listed is known not to be there."""
        return any(problem.kind == "missing" for problem in self.problems)

    @property
    def odd(self) -> frozenset[str]:
        """The digests of the entries that have a problem."""
        return frozenset(p.digest for p in self.problems if p.digest is not None)


def inspect(
    reference: str,
    index: Index,
    ages: Mapping[str, Age] | None = None,
    missing: Collection[str] | None = None,
) -> Inspection:
    """Put what an index lists in order, and find what is odd."""
    listed: dict[str, list[Descriptor]] = {
        entry.digest: [] for entry in index.manifests if not entry.is_attestation
    }
    orphans: list[Descriptor] = []
    for entry in index.manifests:
        if entry.is_attestation:
            listed.get(entry.attested or "", orphans).append(entry)
    problems = [*_odd_entries(index, frozenset(listed), missing or ()), *_odd_types(index)]
    images = [
        # An image that is listed twice has its attestations the first time.
        ListedImage(entry, listed.pop(entry.digest, ()), (ages or {}).get(entry.digest))
        for entry in index.manifests
        if not entry.is_attestation
    ]
    return Inspection(
        reference=reference,
        index=index,
        images=images,
        orphans=orphans,
        problems=problems,
        is_checked=missing is not None,
    )


def platform_text(descriptor: Descriptor) -> str | None:
    """Name the platform of an entry, with all that tells it from others."""
    slot = descriptor.slot
    if slot is None:
        return None
    more = ", ".join(part for part in (slot.os_version, *slot.os_features) if part)
    return f"{slot} ({more})" if more else str(slot)


def _odd_entries(
    index: Index, images: Collection[str], missing: Collection[str]
) -> Iterator[Problem]:
    first: dict[object, str] = {}
    left = set(missing)
    for entry in index.manifests:
        digest = entry.digest
        if entry.is_attestation:
            name = f"the attestation of {brief(entry.attested or 'nothing', _MOST)}"
            if entry.attested not in images:
                yield Problem("orphan", digest, f"{name} has no image in this index")
        else:
            name = brief(platform_text(entry) or "an image without platform", _MOST)
            key = entry.slot or digest
            if key in first:
                yield Problem("duplicate", digest, f"{name} is listed before, as {first[key]}")
            first.setdefault(key, digest)
            if entry.slot is None:
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


SlotState = Literal["same", "changed", "only-a", "only-b"]

_SHOWN_ELSEWHERE = frozenset({"manifests", "mediaType", "annotations"})


@frozen
class SlotDifference:
    """What two indexes list for one platform.

    Attributes:
        a (tuple[ListedImage, ...]):
            The images of the first one, mostly one; none if it lists none.
        b (tuple[ListedImage, ...]):
            Those of the second one.
    """

    a: tuple[ListedImage, ...] = field(default=(), converter=tuple[ListedImage, ...])
    b: tuple[ListedImage, ...] = field(default=(), converter=tuple[ListedImage, ...])

    @property
    def image(self) -> Descriptor:
        """The entry of an image, from the first index if that has one."""
        return (self.a or self.b)[0].descriptor

    @property
    def platform(self) -> str | None:
        """What it runs on; none where an image is known by its digest alone."""
        return (self.a or self.b)[0].platform

    @property
    def digests(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The digests of the images on either side."""
        return _digests(self.a), _digests(self.b)

    @property
    def attestations(self) -> tuple[int, int]:
        """How many attestations the images have on either side."""
        a, b = (sum(len(image.attestations) for image in side) for side in (self.a, self.b))
        return a, b

    @property
    def state(self) -> SlotState:
        """Whether the images are the same, whatever their attestations."""
        if not self.b:
            return "only-a"
        if not self.a:
            return "only-b"
        return "same" if _digests(self.a) == _digests(self.b) else "changed"

    @property
    def note(self) -> str:
        """What else differs where the images are the same; empty if nothing."""
        if self.state != "same":
            return ""
        if _attested(self.a) != _attested(self.b):
            return "other attestations"
        a, b = ([_entries(image) for image in side] for side in (self.a, self.b))
        return "" if a == b else "the same image, listed otherwise"


@frozen
class FieldDifference:
    """Something of the index itself that differs.

    Attributes:
        name (str):
            Its name in the document.
        a (object):
            What the first index has there, as decoded; none if nothing.
        b (object):
            What the second one has.
    """

    name: str
    a: object
    b: object


@frozen(kw_only=True)
class Difference:
    """What two indexes do not have in common, and what they have.

    Attributes:
        references (tuple[str, str]):
            What holds them.
        indexes (tuple[Index, Index]):
            The indexes.
        slots (tuple[SlotDifference, ...]):
            All platforms, in the order of the first index, then what only the second one has.
        fields (tuple[FieldDifference, ...]):
            What differs of the indexes themselves.
    """

    references: tuple[str, str]
    indexes: tuple[Index, Index] = field(repr=False)
    slots: tuple[SlotDifference, ...] = field(converter=tuple[SlotDifference, ...])
    fields: tuple[FieldDifference, ...] = field(converter=tuple[FieldDifference, ...])

    @property
    def is_same(self) -> bool:
        """Whether both are the same, byte for byte."""
        return self.indexes[0].digest == self.indexes[1].digest


def compare(references: tuple[str, str], indexes: tuple[Index, Index]) -> Difference:
    """Compare two indexes."""
    sides = [_by_slot(*side) for side in zip(references, indexes)]
    slots = dict.fromkeys([*sides[0], *sides[1]])
    a, b = (_top_level(index) for index in indexes)
    names = dict.fromkeys([*a, *b])
    return Difference(
        references=references,
        indexes=indexes,
        slots=[SlotDifference(*(side.get(slot, ()) for side in sides)) for slot in slots],
        fields=[
            FieldDifference(name, a.get(name), b.get(name))
            for name in names
            if a.get(name) != b.get(name)
        ],
    )


def _by_slot(reference: str, index: Index) -> dict[object, list[ListedImage]]:
    found: dict[object, list[ListedImage]] = {}
    for image in inspect(reference, index).images:
        key = image.descriptor.slot or image.descriptor.digest
        found.setdefault(key, []).append(image)
    return found


def _top_level(index: Index) -> Mapping[str, object]:
    """Name what an index has beside its entries, annotations one by one."""
    rest = {name: value for name, value in index.fields.items() if name not in _SHOWN_ELSEWHERE}
    annotations = index.fields.get("annotations")
    if isinstance(annotations, dict):
        annotated = {f"annotations.{name}": value for name, value in annotations.items()}
    else:
        annotated = {"annotations": annotations}
    return {"mediaType": index.media_type, **rest, **annotated}


def _digests(images: Iterable[ListedImage]) -> tuple[str, ...]:
    return tuple(image.descriptor.digest for image in images)


def _attested(images: Iterable[ListedImage]) -> list[list[str]]:
    return [[entry.digest for entry in image.attestations] for image in images]


def _entries(image: ListedImage) -> list[Mapping[str, object]]:
    return [entry.fields for entry in (image.descriptor, *image.attestations)]


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


def inspection_to_text(inspection: Inspection) -> str:
    """Write an inspection as a tree."""
    rows = list(rows_of(inspection))
    cells = [(row.branch + row.name, row.digest, *row.facts, row.flags) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = ("  ".join(c.ljust(w) for c, w in zip(line, widths)).rstrip() for line in cells)
    return "\n".join([title_of(inspection), *lines, "", *closing_of_inspection(inspection)])


def title_of(inspection: Inspection) -> str:
    """Name the index."""
    index = inspection.index
    return printable(f"{inspection.reference} {index.digest} {index.media_type}")


def rows_of(inspection: Inspection) -> Iterator[Row]:
    """Write the entries as lines of a tree."""
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


def closing_of_inspection(inspection: Inspection) -> list[str]:
    """Sum an inspection up."""
    parts = [
        count_text(len(inspection.images), "image"),
        count_text(inspection.attestation_count, "attestation"),
        f"manifests of {size_text(inspection.size)}",
    ]
    if inspection.is_checked and not inspection.lacks_something:
        parts.append("all are in the repository")
    return [", ".join(parts), *map(problem_text, inspection.problems)]


def problem_text(problem: Problem) -> str:
    """Write a problem as a line."""
    about = "" if problem.digest is None else f" ({problem.digest})"
    return printable(f"problem: {problem.kind}: {problem.message}{about}")


def inspection_to_json(inspection: Inspection) -> str:
    """Write an inspection as one JSON object on one line."""
    index = inspection.index
    images = {image.descriptor.digest: image for image in inspection.images}
    document = {
        "schema": VERSION,
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
    if entry.is_attestation:
        written["attests"] = entry.attested or ""
    age = None if image is None or entry.is_attestation else image.age
    if age is not None:
        written.update(age_document(age))
        if age.problem:
            written["age_problem"] = age.problem
    return written


HEADER = ("PLATFORM", "A", "B", "STATE", "ATTESTATIONS", "NOTE")
_STATES: dict[SlotState, str] = {
    "changed": "changed",
    "only-a": "only in A",
    "only-b": "only in B",
    "same": "same",
}
_LONGEST = 200  # characters of a value
_NOTHING = "-"


def difference_to_text(difference: Difference) -> str:
    """Write a difference as a table, with what else differs below it."""
    rows = table(HEADER, map(cells_of, difference.slots))
    return "\n".join([*titles_of(difference), "", *rows, "", *closing_of_difference(difference)])


def titles_of(difference: Difference) -> list[str]:
    """Name both indexes."""
    sides = zip("AB", difference.references, difference.indexes)
    return [printable(f"{n}: {ref} {index.digest} {index.media_type}") for n, ref, index in sides]


def cells_of(slot: SlotDifference) -> tuple[str, ...]:
    """Write a platform as a row of the table."""
    a, b = (", ".join(map(short, side)) or _NOTHING for side in slot.digests)
    before, after = slot.attestations
    counts = f"{before}" if before == after else f"{before} -> {after}"
    cells = (slot.platform or "no platform", a, b, _STATES[slot.state], counts, slot.note)
    return tuple(map(printable, cells))


def closing_of_difference(difference: Difference) -> list[str]:
    """Sum a difference up."""
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


def difference_to_json(difference: Difference) -> str:
    """Write a difference as one JSON object on one line."""
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
