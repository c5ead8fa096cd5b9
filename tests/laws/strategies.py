"""Indexes that collide: few platforms, few digests, every oddity of a real registry."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import cycle, product

from hypothesis import settings
from hypothesis import strategies as st

from pubtools_mlmerge import testing
from pubtools_mlmerge.core.manifests import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Image, Index
from pubtools_mlmerge.core.merge import Side
from pubtools_mlmerge.core.plan import Policy
from pubtools_mlmerge.core.references import Reference
from tests.factories import REFERENCE_TYPE, Json, attestation, digest, entry, index, platform

settings.register_profile(
    "ci", derandomize=True, deadline=None, database=None, print_blob=True, max_examples=60
)
settings.register_profile("local", deadline=None, max_examples=60)
settings.register_profile("thorough", deadline=None, max_examples=3000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if "CI" in os.environ else "local"))

SEEDS = ("one", "two", "three", "four")
WINDOWS = ("10.0.17763.1", "10.0.17763.2", "10.0.20348.1")
PLATFORMS: tuple[Json, ...] = (
    *map(platform, ("linux/amd64", "linux/x86_64", "linux/amd64/v3")),
    *map(platform, ("linux/arm64", "linux/arm64/v8", "linux/arm", "linux/arm/v6")),
    *map(platform, ("linux/arm/v7", "linux/arm/v8")),
    *({**platform("windows/amd64"), "os.version": version} for version in WINDOWS),
    platform("windows/amd64"),
)
# Seven extras and four digests: no digest always comes with the same extra.
EXTRAS: tuple[Json, ...] = (
    {},
    {"annotations": {"é": "значение"}},
    {"urls": ["https://example.com"], "data": "e30="},
    {"new": 1},
    {"new": 1.0, "annotations": {}},
    {"new": True, "ключ": "\U0001f600"},
    {"annotations": None},
)


def images(pool: str, *, docker: bool) -> Iterator[Json]:
    """Make the images of a pool: every platform with every digest."""
    types = cycle((OCI_MANIFEST, OCI_MANIFEST, DOCKER_MANIFEST, "x/y"))
    for (made, seed), extra in zip(product(PLATFORMS, SEEDS), cycle(EXTRAS)):
        media_type = DOCKER_MANIFEST if docker else next(types)
        yield {**entry(seed=pool + seed, media_type=media_type), **extra, "platform": dict(made)}


def oddities(pool: str) -> Iterator[Json]:
    """Make the entries that no platform tells apart: artifact, nested index, unknown, null."""
    for seed, media_type in product(SEEDS[:3], (OCI_MANIFEST, OCI_INDEX)):
        yield entry(None, seed=pool + seed, media_type=media_type)
        yield {**entry(None, seed=pool + seed, media_type=media_type), "platform": None}
        yield entry("unknown/unknown", seed=pool + seed, media_type=media_type)


def attestations(pool: str) -> Iterator[Json]:
    """Make attestations in both forms, of images that may be listed or not, and of none."""
    for seed, number in product((*SEEDS, "absent"), "12"):
        own = f"{pool} attestation {number} of {seed}"
        yield attestation(digest(pool + seed), seed=own)
        yield attestation(digest(pool + seed), seed=own, artifactType="x/y")
    yield entry("unknown/unknown", seed=f"{pool} of none", annotations={REFERENCE_TYPE: "x"})


TOP_LEVELS = st.fixed_dictionaries(
    {},
    optional={
        "annotations": st.sampled_from([{}, {"é": "ü"}]),
        "subject": st.just(entry(None, seed="subject")),
        "new": st.sampled_from([1, 1.0, True, None, ["\U0001f600"]]),
    },
)


def some(entries: Iterator[Json], most: int) -> st.SearchStrategy[list[Json]]:
    """Choose some entries, in any order and perhaps twice."""
    return st.lists(st.sampled_from(list(entries)), max_size=most)


def indexes(pool: str = "") -> st.SearchStrategy[Index]:
    """Make indexes; those of one pool share digests."""
    rich = st.builds(
        lambda shown, odd, tied, first, top, stated: index(
            *(tied + odd + shown if first else shown + odd + tied), media_type_field=stated, **top
        ),
        some(images(pool, docker=False), 5),
        some(oddities(pool), 2),
        some(attestations(pool), 3),
        st.booleans(),
        TOP_LEVELS,
        st.booleans(),
    )
    docker = st.builds(
        lambda shown, top: index(*shown, docker=True, **top),
        some(images(pool, docker=True), 5),
        TOP_LEVELS,
    )
    return rich | rich | docker


# Any JSON value.
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)

PATTERNS = st.sampled_from(
    ["amd64", "arm64", "arm", "arm/v6", "linux/arm/v7", "linux", "windows/*", "s390x", "*/*/v?"]
)
SOME_PATTERNS = st.lists(PATTERNS, max_size=2)
MATCHES = st.sampled_from([Policy(), Policy(match="architecture")])
POLICIES = st.builds(
    Policy,
    match=st.sampled_from(["platform", "architecture"]),
    eligible=st.none() | st.lists(PATTERNS, max_size=3),
    keep=SOME_PATTERNS,
    drop=SOME_PATTERNS,
)


def single(made: testing.Image) -> Side:
    """Make a side that holds a single image."""
    image = Image.from_bytes(made.content, made.media_type)
    return Side(TAG, image, image.wrap(made.platform))


TAG = Reference.parse("quay.io/ns/app:1")
SINGLES = [
    testing.make_image(text, docker=docker, seed=seed)
    for text in ("linux/amd64", "linux/arm64", "linux/arm/v6")
    for docker, seed in product((True, False), "ab")
]
SIDES = st.sampled_from(list(map(single, SINGLES))) | indexes().map(lambda i: Side(TAG, i, i))
# Policies by which a single image is an entry of an index.
MAKES_INDEXES = st.sampled_from([Policy(), Policy(single_image="index")])
