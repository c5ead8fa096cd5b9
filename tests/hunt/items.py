"""What tags hold in the hunt: every kind that registries have, with few digests that collide.

Items are drawn as recipes, short texts that a failure prints in full:

    linux/arm64@old                    an image for a platform, by seed; +docker for Docker's types
    windows/amd64:10.0.17763.1@old      its entry states os.version
    linux/arm64@old+attested            the attestation of that image; also +artifact, +bare
    linux/arm64@old+empty               the image, its entry with an empty platform; also +none
    ("oci", CHILD, ...)                 an index; also "untyped", and "docker" for a list
    ("in linux/amd64", CHILD, ...)      one within, whose entry states a platform; also "in"
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from itertools import product
from typing import Union

from attrs import evolve, field, frozen
from hypothesis import strategies as st

from pubtools_mlmerge.testing import Image, ImageIndex, make_attestation, make_image, make_index

Item = Union[Image, ImageIndex]
Recipe = Union[str, tuple["Recipe", ...]]
Platform = dict[str, str]

# Every spelling that occurs, with the platform that it is. It is looked up, never computed.
_SPELLINGS = {
    "linux/amd64": "linux/amd64",
    "linux/x86_64": "linux/amd64",
    "linux/amd64/v3": "linux/amd64/v3",
    "linux/arm64": "linux/arm64",
    "linux/arm64/v8": "linux/arm64",
    "linux/arm/v6": "linux/arm/v6",
    "linux/arm/v7": "linux/arm/v7",
    "linux/arm": "linux/arm/v7",
    "linux/s390x": "linux/s390x",
    "linux/ppc64le": "linux/ppc64le",
    "windows/amd64": "windows/amd64",
    "windows/amd64:10.0.17763.1": "windows/amd64:10.0.17763",
    "windows/amd64:10.0.17763.22": "windows/amd64:10.0.17763",
    "windows/amd64:10.0.20348.5": "windows/amd64:10.0.20348",
}
_CREATED = {"ancient": "2001", "old": "2023", "new": "2024"}
_NO_PLATFORM: dict[str, Platform] = {"empty": {"architecture": "", "os": ""}, "none": {}}


def _platform(text: str) -> Platform:
    text, _, version = text.partition(":")
    names = dict(zip(("os", "architecture", "variant"), text.split("/")))
    return {**names, "os.version": version} if version else names


NAMES = {frozenset(_platform(text).items()): name for text, name in _SPELLINGS.items()}


@frozen(kw_only=True)
class _Nested(ImageIndex):
    """An index within an index, whose entry may state a platform."""

    stated: Platform = field(factory=dict)

    @property
    def descriptor(self) -> dict[str, object]:
        described = super().descriptor
        return {**described, "platform": self.stated} if self.stated else described


@cache
def make(recipe: Recipe) -> Item:
    """Make an item."""
    return _make_image(recipe) if isinstance(recipe, str) else _make_index(*recipe)


def _make_index(kind: object, *children: Recipe) -> ImageIndex:
    word, _, stated = str(kind).partition(" ")
    made = make_index(
        map(make, children), docker=word == "docker", media_type_field=word != "untyped"
    )
    if word != "in":
        return made
    return _Nested(
        content=made.content,
        media_type=made.media_type,
        children=made.children,
        stated=_platform(stated) if stated else {},
    )


def _make_image(recipe: str) -> Image:
    text, *extras = recipe.split("+")
    named, _, seed = text.partition("@")
    created = f"{_CREATED[seed]}-01-01T00:00:00Z"
    name = named.partition(":")[0]
    made = make_image(name, docker="docker" in extras, created=created, seed=seed)
    image = evolve(made, platform=_platform(named))
    last = extras[-1] if extras else ""
    if last in _NO_PLATFORM:
        return evolve(image, platform=_NO_PLATFORM[last])
    if last not in ("attested", "artifact", "bare"):
        return image
    attestation = make_attestation(image, artifact=last == "artifact")
    return evolve(attestation, annotations={}) if last == "bare" else attestation


def _digests(seeds: Iterable[str], form: str = "") -> frozenset[str]:
    texts = product(_SPELLINGS, seeds, ("", "+docker"))
    return frozenset(make(f"{text}@{seed}{docker}{form}").digest for text, seed, docker in texts)


ANCIENT, BARE = _digests(["ancient"]), _digests(_CREATED, "+bare")

_SEEDED = st.builds("{}@{}".format, st.sampled_from([*_SPELLINGS]), st.sampled_from([*_CREATED]))
_IMAGES = st.builds("{}{}".format, _SEEDED, st.sampled_from(["", "", "", "+docker"]))
_COMPANIONS = st.lists(
    st.sampled_from(["attested", "artifact", "bare", "empty", "none"]), max_size=2
)
_LEAVES = st.lists(_SEEDED, min_size=1, max_size=3)
_STATED = st.sampled_from(["in", "in", "in linux/amd64", "in unknown/unknown"])


def _tuple(kind: str, children: list[Recipe]) -> Recipe:
    return (kind, *children)


_INNER = st.builds(_tuple, _STATED, _LEAVES)
_NESTED = _INNER | st.builds(lambda leaves, inner: ("in", *leaves, inner), _LEAVES, _INNER)


def _index(
    kind: str,
    images: list[tuple[str, list[str]]],
    nested: list[Recipe],
    orphans: list[str],
    first: bool,
) -> Recipe:
    listed: list[Recipe] = [image for image, _ in images]
    companions = [f"{image}+{form}" for image, forms in images for form in forms]
    others = [*nested, *(f"{image}+attested" for image in orphans)]
    return (kind, *others, *listed, *companions) if first else (kind, *listed, *companions, *others)


_INDEXES = st.builds(
    _index,
    st.sampled_from(["oci", "oci", "untyped"]),
    st.lists(st.tuples(_IMAGES, st.just([]) | _COMPANIONS), min_size=1, max_size=4),
    st.just([]) | st.lists(_NESTED, max_size=2),
    st.just([]) | st.lists(_IMAGES, max_size=1),
    st.booleans(),
)
_LISTS = st.builds(
    lambda images: ("docker", *(f"{image}+docker" for image in images)),
    st.lists(_SEEDED, min_size=1, max_size=5),
)
_SINGLES = st.builds("{}{}".format, _IMAGES, st.sampled_from(["", "", "", "", "+artifact"]))
RECIPES: st.SearchStrategy[Recipe] = _INDEXES | _INDEXES | _INDEXES | _LISTS | _SINGLES
