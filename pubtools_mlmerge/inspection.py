"""Inspection: what an index lists, ordered for people, and what is odd about it."""

from __future__ import annotations

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
)
from pubtools_mlmerge.core.plan import Age
from pubtools_mlmerge.errors import brief

ProblemKind = Literal["duplicate", "orphan", "no-platform", "mixed-types", "missing"]

_DOCKER = DOCKER_MANIFESTS | {DOCKER_LIST}
_OCI = frozenset({OCI_MANIFEST, OCI_INDEX})
_MOST = 200  # characters of what a registry wrote, in a message


def _descriptors(values: Iterable[Descriptor]) -> tuple[Descriptor, ...]:
    return tuple(values)


def _images(values: Iterable[ListedImage]) -> tuple[ListedImage, ...]:
    return tuple(values)


def _problems(values: Iterable[Problem]) -> tuple[Problem, ...]:
    return tuple(values)


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
    attestations: tuple[Descriptor, ...] = field(default=(), converter=_descriptors)
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
    images: tuple[ListedImage, ...] = field(converter=_images)
    orphans: tuple[Descriptor, ...] = field(default=(), converter=_descriptors)
    problems: tuple[Problem, ...] = field(default=(), converter=_problems)
    is_checked: bool = False

    @property
    def size(self) -> int:
        """How many bytes all manifests have that are listed, each counted once."""
        return sum({entry.digest: entry.size for entry in self.index.manifests}.values())

    @property
    def attestation_count(self) -> int:
        """How many attestations are listed."""
        return sum(entry.attests is not None for entry in self.index.manifests)

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
    """Put what an index lists in order, and find what is odd.

    Args:
        reference (str):
            What holds it.
        index (Index):
            The index.
        ages (Mapping[str, Age] | None):
            Ages of images by digest; none if they were not asked for.
        missing (Collection[str] | None):
            Digests of what is not there; none if nobody looked.

    Returns:
        Inspection: Each entry once.
    """
    listed: dict[str, list[Descriptor]] = {
        entry.digest: [] for entry in index.manifests if entry.attests is None
    }
    orphans: list[Descriptor] = []
    for entry in index.manifests:
        if entry.attests is not None:
            listed.get(entry.attests, orphans).append(entry)
    problems = [*_odd_entries(index, frozenset(listed), missing or ()), *_odd_types(index)]
    images = [
        # An image that is listed twice has its attestations the first time.
        ListedImage(entry, listed.pop(entry.digest, ()), (ages or {}).get(entry.digest))
        for entry in index.manifests
        if entry.attests is None
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
    """Name the platform of an entry, with all that tells it from others.

    Args:
        descriptor (Descriptor):
            The entry.

    Returns:
        str | None: Such as ``windows/amd64 (10.0.17763)``, as a registry wrote it; none where the
        entry is not told apart by a platform.
    """
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
        digest, attests = entry.digest, entry.attests
        if attests is not None:
            name = f"the attestation of {brief(attests, _MOST) or 'nothing'}"
            if attests not in images:
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
