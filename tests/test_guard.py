"""The guard: fewer platforms only where somebody asked for that."""

from __future__ import annotations

import pytest

from pubtools_mlmerge.core.manifests import Image, Manifest
from pubtools_mlmerge.core.merge import check_shrink, merge, replace_by_image
from pubtools_mlmerge.core.plan import Policy
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import ShrinkError
from pubtools_mlmerge.testing import make_image
from tests.factories import attestation, digest, entry, index

TAG = Reference.parse("quay.io/ns/app:1")
MADE = make_image("linux/amd64")
IMAGE = Image.from_bytes(MADE.content, MADE.media_type)
WHOLE = index("linux/amd64@old", "linux/arm64@old", "linux/s390x@old")


def replace(old: Manifest | None, policy: Policy) -> None:
    check_shrink(TAG, old, replace_by_image(IMAGE, old), policy)


def test_an_image_does_not_replace_several_platforms() -> None:
    with pytest.raises(ShrinkError) as caught:
        replace(WHOLE, Policy())

    assert caught.value.lost == ("linux/amd64", "linux/arm64", "linux/s390x")
    assert str(TAG) in str(caught.value)


@pytest.mark.parametrize(
    "policy",
    [Policy(drop=["arm64", "s390x"]), Policy(keep=["amd64"]), Policy(drop=["*/*"])],
    ids=["drop", "keep", "all"],
)
def test_what_is_named_may_go(policy: Policy) -> None:
    replace(WHOLE, policy)


def test_one_named_platform_does_not_cover_for_another() -> None:
    with pytest.raises(ShrinkError):
        replace(WHOLE, Policy(drop=["arm64"]))


@pytest.mark.parametrize("old", [None, IMAGE, index("linux/amd64")])
def test_an_image_replaces_what_has_no_more(old: Manifest | None) -> None:
    replace(old, Policy())


def test_the_coarse_rule_may_not_take_a_variant_away() -> None:
    old, policy = index("linux/arm/v6", "linux/arm/v7"), Policy(match="architecture")

    with pytest.raises(ShrinkError) as caught:
        check_shrink(TAG, old, merge(index("linux/arm/v7@new"), old, policy), policy)

    assert caught.value.lost == ("linux/arm/v6",)


def test_the_coarse_rule_may_replace_one_for_one() -> None:
    old, policy = index("linux/arm/v6"), Policy(match="architecture")

    check_shrink(TAG, old, merge(index("linux/arm/v7@new"), old, policy), policy)


def test_attestations_and_entries_without_platform_do_not_count() -> None:
    old = index("linux/amd64@old", attestation(digest("linux/amd64@old")), entry(None))

    replace(old, Policy())


def test_a_merge_never_shrinks() -> None:
    source = index("linux/amd64@new")

    check_shrink(TAG, WHOLE, merge(source, WHOLE), Policy())
