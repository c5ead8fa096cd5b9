"""What a merge must not take away unasked, and what it warns of."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from datetime import datetime, timezone

import pytest
from attrs import evolve

from pubtools_mlmerge.core.ages import with_ages
from pubtools_mlmerge.core.manifests import Index, Manifest
from pubtools_mlmerge.core.merge import check_removal, merge, remove, review
from pubtools_mlmerge.core.plan import Age, Plan, Policy, patterns_of
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import PatternFitsNothing, ShrinkError
from tests.factories import Entry, attestation, digest, entry, index, platforms, windows

TAG = Reference.parse("quay.io/ns/app:1")
SOURCE = index("linux/amd64@new")
HELD = index("linux/amd64@old", "linux/arm64", "linux/s390x", "linux/ppc64le")
NESTED = entry(None, seed="nested", media_type=HELD.media_type)
OLD, NEWER = windows("10.0.17763.1"), windows("10.0.20348.1")
ALL = "linux/amd64, linux/arm64, linux/ppc64le, linux/s390x"


def reviewed(policy: Policy, held: Index | None = HELD, source: Index = SOURCE) -> list[str]:
    """Merge, and return the warnings without the tag."""
    warnings = review(TAG, merge(source, held, policy), policy)
    assert all(warning.startswith(f"{TAG}: ") for warning in warnings)
    return [warning.partition(": ")[2] for warning in warnings]


def nesting(*within: str | Entry, beside: Sequence[str] = ()) -> Index:
    """Make an index that lists a nested one, which was read."""
    made = index(*beside, NESTED)
    listed = frozenset((e.digest, e.slot) for e in index(*within).manifests)
    return evolve(made, manifests=[*made.manifests[:-1], evolve(made.manifests[-1], listed=listed)])


# Slips


@pytest.mark.parametrize(
    ("policy", "option", "patterns"),
    [
        (Policy(keep=["linux/s390", "ppc64le"]), "keep", ("linux/s390",)),
        (Policy(keep=["ppc64", "s390x"]), "keep", ("ppc64",)),
        (Policy(keep=["arm", "s390x"]), "keep", ("arm",)),
        (Policy(keep=["arm", "s390x"], serves_many=True), "keep", ("arm",)),
        (Policy(keep=["riscv64", "windows"]), "keep", ("riscv64", "windows")),
        (Policy(keep=["none"]), "keep", ("none",)),
        (Policy(keep=["riscv64", "s390x"], strict=True), "keep", ("riscv64",)),
        (Policy(drop=["arm"], strict=True), "drop", ("arm",)),
        (Policy(drop=["linux/s390", "linux/s390*"]), "drop", ("linux/s390",)),
        (Policy(keep=["arm64"], drop=["ppc64"]), "drop", ("ppc64",)),
    ],
)
def test_a_slip_is_refused(policy: Policy, option: str, patterns: tuple[str, ...]) -> None:
    with pytest.raises(PatternFitsNothing) as caught:
        reviewed(policy)

    error = caught.value
    assert (error.option, error.patterns, error.reference) == (option, patterns, str(TAG))
    assert ", ".join(error.platforms) == ALL


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (Policy(), []),
        (Policy(keep=["*"]), []),
        (Policy(drop=["arm64"]), []),
        (Policy(drop=["none"], strict=True), []),
        (
            Policy(keep=["s390x", "arm64"]),
            ["loses linux/ppc64le, which keep does not name"],
        ),
        (
            Policy(drop=["arm", "arm64"]),
            [f"drop arm matches none of its platforms ({ALL})"],
        ),
        (
            Policy(keep=["linux/*", "windows"], drop=["arm", "riscv64"]),
            [
                f"keep windows matches none of its platforms ({ALL})",
                f"drop arm, riscv64 matches none of its platforms ({ALL})",
            ],
        ),
        (
            Policy(keep=["riscv64"], serves_many=True),
            [
                "loses linux/arm64, linux/ppc64le, linux/s390x, which keep does not name",
                f"keep riscv64 matches none of its platforms ({ALL})",
            ],
        ),
    ],
)
def test_what_goes_and_what_fits_nothing_is_named(policy: Policy, expected: list[str]) -> None:
    assert reviewed(policy) == expected


COARSE = Policy(match="architecture")


def test_what_goes_by_the_coarse_rule_is_named_too() -> None:
    """A source entry for another variant, or for all versions, replaces it."""
    policy = evolve(COARSE, keep=("linux/arm64/v8",))
    expected = ["loses linux/arm64/v9, which keep does not name"]
    assert reviewed(policy, index("linux/arm64/v9", "linux/arm64"), index("linux/arm64@new")) == (
        expected
    )

    versions = "windows/amd64:10.0.17763, windows/amd64:10.0.20348"
    expected = [f"an entry without os.version replaces {versions}"]
    assert reviewed(COARSE, index(OLD, NEWER), index(windows())) == expected


def test_a_slip_of_keep_is_refused_where_the_coarse_rule_replaces_what_it_meant() -> None:
    policy = evolve(COARSE, keep=("linux/amd64", "linux/arm"))

    with pytest.raises(PatternFitsNothing, match="keep linux/arm matches none"):
        reviewed(policy, index("linux/amd64", "linux/arm64/v9"), index("linux/arm64"))


def test_a_similar_name_is_no_slip_where_nothing_like_it_goes() -> None:
    held = index("linux/arm64", "linux/s390x")
    policy = Policy(keep=["arm", "s390x"])

    assert reviewed(policy, held, index("linux/arm64@new")) == [
        "keep arm matches none of its platforms (linux/arm64, linux/s390x)"
    ]


@pytest.mark.parametrize(
    ("patterns", "is_slip"),
    [
        (["linux/s390"], False),  # nothing like it goes: it may have gone before
        (["linux/s390", "s390x"], False),
        (["linux/s390", "linux/*"], True),
        (["riscv64", "linux/*"], False),
    ],
)
def test_a_similar_name_is_a_slip_in_a_removal_where_it_would_go(
    patterns: list[str], is_slip: bool
) -> None:
    plan, named = remove(HELD, patterns, allow_empty=True), patterns_of(patterns)

    with pytest.raises(PatternFitsNothing) if is_slip else nullcontext():
        check_removal(TAG, HELD, plan, named, strict=False)


@pytest.mark.parametrize("held", [None, index(), index(entry(None))])
def test_a_tag_without_platforms_has_nothing_to_fit(held: Index | None) -> None:
    assert reviewed(Policy(keep=["s390x"], drop=["arm"], strict=True), held) == []


def test_what_keep_leaves_out_by_a_slip_is_refused_for_a_nested_index_too() -> None:
    held = nesting("linux/arm64", beside=["linux/s390x"])

    with pytest.raises(PatternFitsNothing, match="keep arm matches none"):
        reviewed(Policy(keep=["arm", "s390x"]), held)


# What goes, named by a digest or by nothing


def test_a_digest_names_one_entry() -> None:
    held = index("linux/amd64@old", "linux/arm64@gzip", "linux/arm64@zstd", entry(None, seed="a"))
    policy = Policy(drop=[digest("linux/arm64@zstd"), digest("a")])

    plan = merge(SOURCE, held, policy)

    assert platforms(plan.result) == ["linux/amd64", "linux/arm64"]
    assert review(TAG, plan, policy) == ()


def test_a_digest_names_a_nested_index_whole_whatever_part_another_pattern_fits() -> None:
    names, held = [str(NESTED["digest"]), "arm64"], nesting("linux/arm64", "linux/s390x")

    assert merge(SOURCE, held, Policy(drop=names)).result is SOURCE
    assert len(merge(SOURCE, held, Policy(keep=names)).result.manifests) == 2
    assert remove(held, names, allow_empty=True).result.manifests == ()


def test_another_image_for_a_platform_that_keep_names_by_digest_goes_with_a_warning() -> None:
    held = index("linux/arm64@gzip", "linux/arm64@zstd", windows(), OLD)
    policy = Policy(keep=[digest("linux/arm64@gzip"), str(windows()["digest"])])

    lost = f"{digest('linux/arm64@zstd')}, windows/amd64:10.0.17763"
    assert reviewed(policy, held) == [f"loses {lost}, which keep does not name"]


def test_none_names_what_has_no_platform() -> None:
    odd: list[Entry] = [entry(None), entry("unknown/unknown"), entry(None, platform={}, seed="b")]
    held = index("linux/arm64", *odd, NESTED, attestation(digest("linux/arm64")))

    plan = merge(SOURCE, held, Policy(drop=["none"]))

    listed = [e.digest for e in plan.result.manifests]
    kept = [digest("linux/arm64"), NESTED["digest"], held.manifests[-1].digest]
    assert listed == [SOURCE.manifests[0].digest, *kept]


def test_one_digest_does_not_cover_for_another() -> None:
    policy = Policy(drop=[digest("linux/arm64")])
    plan: Plan[Manifest] = merge(SOURCE, HELD, policy)

    with pytest.raises(ShrinkError) as caught:
        review(TAG, evolve(plan, result=SOURCE), policy)

    assert caught.value.lost == ("linux/ppc64le", "linux/s390x")


# Versions of windows


def test_an_entry_without_version_replaces_all_versions() -> None:
    plan = merge(index(windows()), index(OLD, NEWER, "linux/amd64"))

    assert [e.fate for e in plan.entries] == ["added", "kept", "dropped", "dropped"]
    versions = "windows/amd64:10.0.17763, windows/amd64:10.0.20348"
    warning = f"{TAG}: an entry without os.version replaces {versions}"
    assert review(TAG, plan, Policy()) == (warning,)


def test_a_version_that_stays_in_a_nested_index_is_not_replaced() -> None:
    assert reviewed(Policy(), nesting(OLD, "linux/s390x"), index(windows())) == []


def test_an_entry_with_a_version_replaces_that_version_only() -> None:
    plan = merge(index(windows("10.0.17763.2")), index(OLD, NEWER, windows()))

    assert [e.fate for e in plan.entries] == ["replaced", "kept", "kept"]
    assert review(TAG, plan, Policy()) == ()


def test_a_version_can_be_named() -> None:
    policy = Policy(drop=["windows/amd64:10.0.17763.5329"])

    plan = merge(SOURCE, index(OLD, NEWER, windows()), policy)

    assert [e.descriptor.digest for e in plan.entries if e.fate == "dropped"] == [OLD["digest"]]
    assert review(TAG, plan, policy) == ()


def test_a_lost_version_is_named() -> None:
    plan: Plan[Manifest] = merge(SOURCE, index(OLD), Policy())

    with pytest.raises(ShrinkError, match=r"would lose windows/amd64:10\.0\.17763;"):
        review(TAG, evolve(plan, result=SOURCE), Policy())


# What piles up


def odd(seed: str, **fields: object) -> Entry:
    return {**entry("unknown/unknown", seed=seed), **fields}


def test_entries_without_platform_that_pile_up_are_counted_with_their_ages() -> None:
    plan = merge(
        index("linux/amd64@new", odd("new")),
        index("linux/amd64@old", odd("a"), odd("b"), odd("c", artifactType="x/y"), entry(None)),
    )
    ages = {
        digest(seed): Age(datetime.now(timezone.utc), days) for seed, days in (("a", 3), ("b", 400))
    }

    (piled, waste) = review(TAG, with_ages(plan, ages, {}), Policy())

    advice = "remove them by --drop none, or by a digest"
    counted = "keeps 2 entries (3 to 400 days old) without a platform"
    assert piled == f"{TAG}: {counted}, of a kind that the source brings as well; {advice}"
    assert waste.startswith(f"{TAG}: 4 of its entries: it is for an unknown platform")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (index("linux/amd64", attestation(digest("absent"))), "its image is not listed"),
        (index("linux/amd64", "linux/amd64"), "it is listed twice"),
        (index("linux/amd64", odd("a")), "it is for an unknown platform and names no image"),
    ],
)
def test_what_serves_nobody_is_warned_of(source: Index, reason: str) -> None:
    expected = "1 of its entries: " + reason
    (warning,) = reviewed(Policy(), None, source)

    assert warning == f"{expected}; remove such entries by pubtools-mlmerge-remove-archs --prune"
    assert reviewed(Policy(), index("linux/s390x"), source) == [warning]


def test_what_serves_somebody_is_not_warned_of() -> None:
    amd64 = digest("linux/amd64")
    two: list[str | Entry] = [
        "linux/amd64",
        entry("linux/amd64/v3", seed="linux/amd64"),
        "linux/amd64@zstd",
    ]

    assert reviewed(Policy(), None, index(*two, attestation(amd64), entry(None))) == []


# Types


def test_a_change_of_type_is_warned_of_once() -> None:
    docker = index("linux/amd64@old", docker=True)

    for held, source, words in (
        (docker, SOURCE, "Docker to OCI"),
        (SOURCE, docker, "OCI to Docker"),
    ):
        assert reviewed(Policy(), held, source) == [
            f"changes from {words} types, those of the source"
        ]
    assert reviewed(Policy(), index("linux/amd64@old"), SOURCE) == []


def test_a_mix_of_both_kinds_is_warned_of() -> None:
    docker = index("linux/arm64", "linux/s390x", docker=True)

    both = "Docker manifests (linux/arm64, linux/s390x) beside OCI manifests (linux/amd64)"
    assert reviewed(Policy(), docker, SOURCE) == [f"lists {both}, which some registries refuse"]
    assert reviewed(Policy(), docker, index("linux/amd64", docker=True)) == []
    merged = merge(SOURCE, docker).result
    assert reviewed(Policy(), merged, SOURCE) == []
