"""Difference: what two indexes do not have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from attrs import field, frozen

from pubtools_mlmerge.core.manifests import Descriptor, Index
from pubtools_mlmerge.inspection import ListedImage, inspect

SlotState = Literal["same", "changed", "only-a", "only-b"]

_SHOWN_ELSEWHERE = frozenset({"manifests", "mediaType", "annotations"})


def _images(values: Iterable[ListedImage]) -> tuple[ListedImage, ...]:
    return tuple(values)


def _slots(values: Iterable[SlotDifference]) -> tuple[SlotDifference, ...]:
    return tuple(values)


def _fields(values: Iterable[FieldDifference]) -> tuple[FieldDifference, ...]:
    return tuple(values)


@frozen
class SlotDifference:
    """What two indexes list for one platform.

    Attributes:
        a (tuple[ListedImage, ...]):
            The images of the first one, mostly one; none if it lists none.
        b (tuple[ListedImage, ...]):
            Those of the second one.
    """

    a: tuple[ListedImage, ...] = field(default=(), converter=_images)
    b: tuple[ListedImage, ...] = field(default=(), converter=_images)

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
    slots: tuple[SlotDifference, ...] = field(converter=_slots)
    fields: tuple[FieldDifference, ...] = field(converter=_fields)

    @property
    def is_same(self) -> bool:
        """Whether both are the same, byte for byte."""
        return self.indexes[0].digest == self.indexes[1].digest


def compare(references: tuple[str, str], indexes: tuple[Index, Index]) -> Difference:
    """Compare two indexes.

    Args:
        references (tuple[str, str]):
            What holds them.
        indexes (tuple[Index, Index]):
            The indexes.

    Returns:
        Difference: Platforms are told apart as in a merge; an image without one by its digest.
    """
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
