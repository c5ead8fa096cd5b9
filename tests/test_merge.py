"""The laws of a merge, one example after the other."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence

import pytest
from attrs import evolve

from pubtools_mlmerge.core.manifests import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    Image,
    Index,
    Manifest,
    digest_of,
)
from pubtools_mlmerge.core.merge import (
    Side,
    check_shrink,
    merge,
    merge_manifests,
    remove,
    serve_the_same,
    union,
)
from pubtools_mlmerge.core.plan import Plan, Policy
from pubtools_mlmerge.core.platforms import PlatformPattern
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import (
    EmptyIndex,
    InvalidIndex,
    InvalidPlatform,
    MixedTypes,
    NotAnIndex,
    ShrinkError,
)
from pubtools_mlmerge.testing import make_image
from tests.factories import (
    Entry,
    Json,
    attestation,
    digest,
    digests,
    document,
    entry,
    index,
    platforms,
)

TAG = "quay.io/ns/app:1"
DOCKER_ARM64 = entry("linux/arm64", media_type=DOCKER_MANIFEST)
ARM64 = digest("linux/arm64")
Entries = Sequence["str | Entry"]


def outcome(plan: Plan[Index] | Plan[Manifest]) -> list[tuple[str, str]]:
    """List what becomes of each entry, by platform."""
    return [(str(e.descriptor.platform or "none"), e.fate) for e in plan.entries]


def fates(plan: Plan[Index] | Plan[Manifest]) -> str:
    """List the fates of the entries."""
    return " ".join(e.fate for e in plan.entries)


def reasons(plan: Plan[Index], fate: str = "dropped") -> list[str]:
    """List the reasons of the entries of this fate."""
    return [e.reason for e in plan.entries if e.fate == fate]


def seeds(*texts: str) -> list[str]:
    """List the digests that factories make of these seeds."""
    return [digest(text) for text in texts]


def before(plan: Plan[Index]) -> list[str | None]:
    """List what was in the place of each entry."""
    return [e.previous_digest for e in plan.entries]


# Law 1: order.


def test_source_entries_come_first_and_then_what_is_kept() -> None:
    source = index("linux/s390x", "linux/amd64", "linux/arm64@same")
    destination = index("linux/ppc64le", "linux/amd64@old", "linux/arm64@same")

    plan = merge(source, destination)

    assert outcome(plan) == [
        ("linux/s390x", "added"),
        ("linux/amd64", "replaced"),
        ("linux/arm64", "same"),
        ("linux/ppc64le", "kept"),
    ]
    assert digests(plan.result) == [e.descriptor.digest for e in plan.entries]
    assert before(plan) == [None, *seeds("linux/amd64@old", "linux/arm64@same", "linux/ppc64le")]
    assert plan.changed


# Law 2: slots.


@pytest.mark.parametrize(
    ("new", "old"),
    [
        ("linux/arm64", "linux/arm64/v8"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/armhf", "linux/arm/7"),
        ("linux/x86_64", "linux/amd64/v1"),
        ("Linux/AMD64", "linux/amd64"),
        ("macos/arm64", "darwin/arm64"),
    ],
)
def test_source_wins_on_the_same_platform_in_another_spelling(new: str, old: str) -> None:
    source = index(f"{new}@new")

    assert merge(source, index(f"{old}@old")).result is source


@pytest.mark.parametrize(
    ("new", "old"),
    [
        ("linux/arm/v6", "linux/arm/v7"),
        ("linux/arm", "linux/arm/v6"),
        ("linux/arm", "linux/arm64"),
        ("linux/amd64", "linux/amd64/v3"),
        ("linux/arm64", "linux/arm64/v9"),
        ("linux/amd64", "windows/amd64"),
    ],
)
def test_other_platforms_are_kept(new: str, old: str) -> None:
    assert platforms(merge(index(new), index(old)).result) == [new, old]


def windows(version: str, *features: str) -> Entry:
    """Make an entry for a version of windows."""
    platform = {"os": "windows", "architecture": "amd64", "os.version": version}
    stated = {**platform, "os.features": list(features)} if features else platform
    return entry(platform=stated, seed=version)


def test_an_absent_os_is_linux() -> None:
    source = index(entry(platform={"architecture": "amd64"}, seed="new"))

    assert merge(source, index("linux/amd64@old")).result is source


A17763, B17763, A20348 = "10.0.17763.100", "10.0.17763.200", "10.0.20348.100"
ONE, OTHER = entry("linux/arm/v6", seed="one"), entry("linux/arm/v7", seed="one")
TWO_ARM64 = ["linux/arm64@gzip", "linux/arm64@zstd"]
LISTED: dict[str, tuple[Entries, Entries, list[str]]] = {
    "a windows revision is replaced and a build is kept": (
        [windows(B17763)],
        [windows(A17763), windows(A20348)],
        [B17763, A20348],
    ),
    "os features": ([windows(B17763, "x")], [windows(A17763, "win32k")], [B17763, A17763]),
    "two in one slot": (["linux/amd64"], TWO_ARM64, ["linux/amd64", *TWO_ARM64]),
    "one image, two platforms": ([ONE], [OTHER, entry("linux/arm/v6", seed="x")], ["one", "one"]),
}


@pytest.mark.parametrize("case", LISTED)
def test_what_is_listed_after_a_merge(case: str) -> None:
    source, destination, expected = LISTED[case]

    assert digests(merge(index(*source), index(*destination)).result) == seeds(*expected)


@pytest.mark.parametrize(
    ("source", "destination", "expected", "replaced"),
    [
        ("gzip zstd", "old", "replaced added", "old -"),
        ("gzip zstd", "old-gzip old-zstd", "replaced replaced", "old-gzip old-zstd"),
        ("new", "gzip zstd", "replaced dropped", "gzip zstd"),
        ("new same", "same old", "replaced same", "old same"),
    ],
)
def test_entries_in_one_slot_replace_one_each(
    source: str, destination: str, expected: str, replaced: str
) -> None:
    new, old = (index(*(entry(seed=s) for s in side.split())) for side in (source, destination))

    plan = merge(new, old)

    assert plan.result is new
    assert fates(plan) == expected
    assert before(plan) == [None if s == "-" else digest(s) for s in replaced.split()]
    assert set(reasons(plan)) <= {"the source has another one for this platform"}


def test_the_coarse_rule_looks_at_the_architecture_alone() -> None:
    source = index("linux/arm/v6@new")
    destination = index("linux/arm/v7@old", "windows/arm@old", "linux/arm64@old")

    plan = merge(source, destination, Policy(match="architecture"))

    assert digests(plan.result) == seeds("linux/arm/v6@new", "linux/arm64@old")


# Law 3: attestations, and entries without a platform.


ABSENT = digest("absent")
OF_ARM64 = attestation(ARM64)
OF_FIRST = attestation(digest("first"), seed="second")


AMD, ARM = "linux/amd64", "linux/arm64"
OF_AMD = attestation(digest(AMD), seed="first")
ARTIFACT = {**OF_ARM64, "artifactType": "application/vnd.in-toto+json"}
NEWER, OLDER = (attestation(ARM64, seed=seed) for seed in ("new", "old"))
NESTED = entry(None, seed="n", media_type=OCI_INDEX)
ATTESTED: dict[str, tuple[Entries, Entries, str]] = {
    "stays with its image": ([AMD], [ARM, OF_ARM64], "added kept kept"),
    "stays as an artifact too": ([AMD], [ARM, ARTIFACT], "added kept kept"),
    "goes with its image": (["linux/arm64@new"], [ARM, OF_ARM64], "replaced dropped"),
    "replaces no other": ([AMD, OF_AMD], [ARM, OF_ARM64], "added added kept kept"),
    "stays with an image that both have": ([ARM], [ARM, OF_ARM64], "same kept"),
    "is replaced by a newer one": ([ARM, NEWER], [ARM, OF_ARM64, OLDER], "same replaced dropped"),
    "of no image goes": ([AMD], [ARM, attestation(ABSENT)], "added kept dropped"),
    "of no image stays in the source": ([AMD, attestation(ABSENT)], [ARM], "added added kept"),
    "that names no image goes": ([AMD], [ARM, attestation("")], "added kept dropped"),
    "of an attestation goes": (
        [AMD],
        [ARM, attestation(ABSENT, seed="first"), OF_FIRST],
        "added kept dropped dropped",
    ),
    "of an attestation of the source goes": (
        [AMD, OF_AMD],
        ["linux/amd64@old", OF_FIRST],
        "replaced added dropped",
    ),
    "of a nested index stays": ([AMD], [NESTED, attestation(digest("n"))], "added kept kept"),
}


@pytest.mark.parametrize("case", ATTESTED)
def test_an_attestation(case: str) -> None:
    source, destination, expected = ATTESTED[case]

    assert fates(merge(index(*source), index(*destination))) == expected


def test_an_attestation_that_goes_has_a_reason() -> None:
    destination = index("linux/arm64", OF_ARM64)

    orphan = merge(index("linux/arm64@new"), destination)
    older = merge(index("linux/arm64", NEWER), index(OF_ARM64, OLDER))

    assert reasons(orphan) == ["its image is not in the result"]
    assert reasons(older) == ["the source has newer attestations"]


def test_an_attestation_of_an_image_that_both_have_changes_nothing() -> None:
    destination = index("linux/arm64", OF_ARM64)

    plan = merge(index("linux/arm64"), destination)

    assert (plan.result, plan.changed) == (destination, False)


@pytest.mark.parametrize(
    "odd",
    [
        entry(None, seed="artifact"),
        entry(None, seed="nested", media_type=OCI_INDEX),
        entry("unknown/unknown", seed="unknown"),
        {**entry(None, seed="null"), "platform": None, "annotations": None},
    ],
    ids=["no platform", "nested index", "unknown platform", "null platform"],
)
def test_entries_without_a_platform_are_told_apart_by_digest(odd: Entry) -> None:
    source = index("linux/amd64", entry(None, seed="other"), entry("unknown/unknown", seed="x"))

    plan = merge(source, index("linux/amd64@old", odd))

    assert digests(plan.result) == [*digests(source), odd["digest"]]
    assert plan.entries[-1].fate == "kept"
    assert digests(merge(index("linux/amd64", odd), index("linux/s390x", odd)).result) == [
        digest("linux/amd64"),
        odd["digest"],
        digest("linux/s390x"),
    ]


# Law 4: what may stay of the destination.


def test_only_platforms_to_keep_stay() -> None:
    destination = index("linux/arm64", "windows/amd64", "linux/s390x", entry(None))

    plan = merge(index("linux/amd64"), destination, Policy(keep=["arm64", "windows"]))

    assert platforms(plan.result) == ["linux/amd64", "linux/arm64", "windows/amd64", "none"]
    assert reasons(plan) == ["not among the platforms to keep"]
    assert plan.entries[-1].previous_digest == digest("linux/s390x")


def test_platforms_to_drop_go_with_their_attestations() -> None:
    destination = index("linux/arm64", OF_ARM64, "linux/s390x")

    plan = merge(index("linux/amd64"), destination, Policy(drop=["arm64"]))

    assert platforms(plan.result) == ["linux/amd64", "linux/s390x"]
    assert reasons(plan) == ["dropped by name", "its image is not in the result"]


def test_drop_is_stronger_than_keep() -> None:
    policy = Policy(keep=["linux/*"], drop=["s390x"])

    plan = merge(index("linux/amd64"), index("linux/arm64", "linux/s390x"), policy)

    assert platforms(plan.result) == ["linux/amd64", "linux/arm64"]


def test_keep_and_drop_do_not_touch_the_source() -> None:
    source = index("linux/amd64", "linux/s390x")

    assert merge(source, None, Policy(keep=["arm64"], drop=["s390x"])).result is source


# Laws 5 to 7: carried as received, untouched means untouched, one encoding.


def test_entries_are_carried_as_received() -> None:
    rich = entry("linux/amd64", annotations={"é": "ü"}, urls=["u"], data="e30=", new={"a": [1.5]})
    cpu = {"os": "linux", "architecture": "arm64", "features": ["sse4"], "new": None}

    plan = merge(index(rich), index(entry(platform=cpu)))

    listed = json.loads(plan.result.content)["manifests"]
    assert listed == [rich, entry(platform=cpu)]


@pytest.mark.parametrize("destination", [None, index(), index("linux/amd64@old")])
def test_an_untouched_source_keeps_its_bytes(destination: Index | None) -> None:
    source = index("linux/amd64", media_type_field=False, subject=entry(None))

    plan = merge(source, destination)

    assert plan.result is source
    assert plan.changed


def test_merging_what_is_there_changes_nothing() -> None:
    source = index("linux/amd64")

    plan = merge(source, index("linux/amd64"))

    assert plan.result is source
    assert not plan.changed


def merged() -> Index:
    return merge(index("linux/amd64"), index("linux/arm64")).result


@pytest.mark.parametrize(
    ("source", "destination"),
    [
        (index("linux/amd64"), merged()),
        (index("linux/amd64"), index("linux/amd64", "linux/arm64")),
        (index("linux/amd64"), index("linux/amd64", "linux/arm64", media_type_field=False)),
        (index(DOCKER_ARM64), index(DOCKER_ARM64, "linux/amd64", docker=True)),
    ],
    ids=["merged before", "other bytes", "no stated type", "other type"],
)
def test_a_destination_that_says_the_same_is_left_alone(source: Index, destination: Index) -> None:
    plan = merge(source, destination)

    assert plan.result is destination
    assert not plan.changed


def test_a_source_that_says_the_same_in_other_bytes_brings_its_own() -> None:
    """Its signatures were made for its digest."""
    destination = index("linux/amd64")
    source = Index.from_fields(destination.fields)

    plan = merge(source, destination)

    assert plan.result is source
    assert plan.changed


@pytest.mark.parametrize(("new", "old"), [(1, True), (0, False), (1, 1.0), (1, "1")])
def test_values_that_only_python_holds_equal_are_a_change(new: object, old: object) -> None:
    source = index("linux/amd64", new=new)

    plan = merge(source, index("linux/amd64", "linux/arm64", new=old))

    assert plan.changed
    assert type(plan.result.fields["new"]) is type(new)


def test_another_order_of_other_slots_is_left_alone() -> None:
    """Each merge would give the tag another digest, and signatures would no longer fit."""
    ours: Entries = ["linux/arm64", OF_ARM64]
    theirs: Entries = ["linux/amd64@gzip", "linux/amd64@zstd", "linux/amd64@gzip"]
    destination = index(*theirs, *ours)

    for policy in (Policy(), Policy(eligible=["arm64"])):
        plan = merge(index(*ours), destination, policy)

        assert (plan.result, plan.changed) == (destination, False)
        assert sorted(e.descriptor.digest for e in plan.entries) == sorted(digests(destination))


def test_another_order_in_one_slot_is_a_change() -> None:
    source = index("linux/amd64@zstd", "linux/amd64@gzip")
    destination = index("linux/s390x", "linux/amd64@gzip", "linux/amd64@zstd")

    plan = merge(source, destination)

    assert plan.changed
    assert platforms(plan.result)[-1] == "linux/s390x"


def test_a_source_in_another_order_brings_its_own_bytes() -> None:
    source = index("linux/amd64", "linux/arm64")

    plan = merge(source, index("linux/arm64", "linux/amd64"))

    assert (plan.result, plan.changed) == (source, True)


def test_a_merged_index_is_encoded_as_the_host_does() -> None:
    result = merged()

    assert result.content == json.dumps(result.fields, sort_keys=True, indent=4).encode()
    assert result.digest == digest_of(result.content)
    assert Index.from_bytes(result.content) == result


# Law 8: the top level.


def test_the_top_level_comes_from_the_source_without_subject() -> None:
    ours: Json = {"annotations": {"from": "source"}, "new": 1, "subject": entry(None)}
    theirs: Json = {"annotations": {"from": "destination"}, "old": 1, "subject": entry(None)}
    source = Index.from_fields({**document("linux/amd64", media_type_field=False), **ours})
    destination = Index.from_fields({**document("linux/arm64", media_type_field=False), **theirs})

    made = merge(source, destination).result.fields

    expected = {"annotations": {"from": "source"}, "new": 1, "mediaType": OCI_INDEX}
    assert made == {"schemaVersion": 2, "manifests": made["manifests"], **expected}


# Law 9: the type.


BARE = entry(None, media_type=DOCKER_MANIFEST)
NO_OS = entry("", media_type=DOCKER_MANIFEST, platform={"architecture": "s390x"})
SCHEMA_1 = entry("linux/386", media_type="application/vnd.docker.distribution.manifest.v1+json")


@pytest.mark.parametrize(
    ("source", "destination", "expected"),
    [
        (index("linux/amd64", docker=True), index("linux/arm64", docker=True), DOCKER_LIST),
        (index("linux/amd64", docker=True), index("linux/arm64"), OCI_INDEX),
        (index("linux/amd64"), index("linux/arm64", docker=True), OCI_INDEX),
        (index("linux/amd64"), index("linux/arm64"), OCI_INDEX),
        (index("linux/amd64", docker=True), index(DOCKER_ARM64), DOCKER_LIST),
        (index(DOCKER_ARM64), index("linux/amd64", docker=True), DOCKER_LIST),
        (index(DOCKER_ARM64), index(entry(media_type=DOCKER_MANIFEST)), OCI_INDEX),
        (index(), index("linux/amd64", docker=True), DOCKER_LIST),
        (index("linux/amd64", docker=True), index(SCHEMA_1, docker=True), DOCKER_LIST),
        (index("linux/amd64", docker=True), index(BARE, docker=True), OCI_INDEX),
        (index("linux/amd64", docker=True), index(NO_OS), OCI_INDEX),
        (
            index("linux/amd64", docker=True),
            index(DOCKER_ARM64, attestation(digest("linux/arm64"))),
            OCI_INDEX,
        ),
        (
            index(DOCKER_ARM64, annotations={"org.opencontainers.image.version": "2"}),
            index("linux/amd64", docker=True),
            OCI_INDEX,
        ),
        (
            index(DOCKER_ARM64, docker=True),
            index("linux/amd64", docker=True, annotations={"a": "b"}),
            DOCKER_LIST,
        ),
    ],
)
def test_a_docker_list_lists_docker_manifests_with_a_platform_only(
    source: Index, destination: Index, expected: str
) -> None:
    result = merge(source, destination).result

    assert (result.media_type, json.loads(result.content)["mediaType"]) == (expected, expected)


def test_mixed_types_can_be_refused() -> None:
    source, destination = index("linux/amd64", docker=True), index("linux/arm64")

    with pytest.raises(MixedTypes) as caught:
        merge(source, destination, Policy(mixed_types="fail"))

    assert caught.value.docker == (digest("linux/amd64"),)
    assert caught.value.oci == (digest("linux/arm64"),)


@pytest.mark.parametrize("docker", [True, False])
def test_one_kind_is_not_refused_as_mixed(*, docker: bool) -> None:
    source, destination = index("linux/amd64", docker=docker), index("linux/arm64", docker=docker)

    plan = merge(source, destination, Policy(mixed_types="fail"))

    assert len(plan.result.manifests) == 2


# Law 10: eligible platforms.


def test_only_eligible_entries_come_from_the_source() -> None:
    source = index("linux/amd64@new", "linux/arm64@new", "linux/s390x@new", entry(None))
    destination = index("linux/ppc64le@old", "linux/amd64@old", "linux/arm64@old")

    plan = merge(source, destination, Policy(eligible=["arm64"]))

    expected = ["linux/arm64@new", "linux/ppc64le@old", "linux/amd64@old"]
    assert digests(plan.result) == seeds(*expected)
    assert fates(plan) == "replaced kept kept excluded excluded excluded"


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("linux/arm/v7", ["linux/arm/v7"]), ("*", ["linux/arm/v6", "linux/arm/v7", "windows/arm/v7"])],
)
def test_an_eligible_name_may_be_a_platform_or_a_pattern(pattern: str, expected: list[str]) -> None:
    odd = [entry(None), entry("unknown/unknown")]
    source = index("linux/arm/v6", "linux/arm/v7", "windows/arm/v7", *odd)

    plan = merge(source, None, Policy(eligible=[pattern]))

    assert platforms(plan.result) == expected
    assert plan.entries[-1].reason == "not eligible"


def test_attestations_of_eligible_images_come_along() -> None:
    amd64, arm64 = digest("linux/amd64"), digest("linux/arm64")
    source = index("linux/amd64", "linux/arm64", attestation(amd64), attestation(arm64))

    plan = merge(source, index("linux/s390x"), Policy(eligible=["arm64"]))

    taken = [e.digest for e in plan.taken]
    assert taken == [arm64, attestation(arm64)["digest"]]
    assert plan.entries[-1].reason == "its image is not eligible"


def test_an_ineligible_entry_does_not_take_the_place_of_another() -> None:
    destination = index("linux/amd64@old")

    plan = merge(index("linux/amd64@new"), destination, Policy(eligible=["arm64"]))

    assert plan.result is destination
    assert not plan.changed


def test_eligible_names_that_the_source_lacks_are_reported() -> None:
    policy = Policy(eligible=["arm64", "s390x", "linux/arm/v7"])
    source = index("linux/arm64")

    assert merge(source, index("linux/s390x"), policy).missing == ("s390x", "linux/arm/v7")
    assert merge(source, None).missing == ()


def test_a_source_that_is_all_eligible_keeps_its_bytes() -> None:
    source = index("linux/amd64", "linux/arm64")

    assert merge(source, None, Policy(eligible=["amd64", "arm64"])).result is source


def test_eligible_and_the_coarse_rule_go_together() -> None:
    policy = Policy(eligible=["arm"], match="architecture")

    plan = merge(index("linux/arm/v6@new"), index("linux/arm/v7@old", "linux/amd64"), policy)

    assert digests(plan.result) == seeds("linux/arm/v6@new", "linux/amd64")


# Size.


def test_a_result_that_registries_would_not_take_is_refused() -> None:
    pad = "x" * 2_100_000
    source, destination = index(entry(pad=pad)), index(entry("linux/arm64", pad=pad))

    plan = merge(source, destination)

    with pytest.raises(InvalidIndex, match="would have"):
        _ = plan.result.content


# Removing platforms.


def test_removal_leaves_the_rest_in_order() -> None:
    plan = remove(index("linux/s390x", "linux/arm64", "linux/amd64"), ["arm64"])

    assert platforms(plan.result) == ["linux/s390x", "linux/amd64"]
    assert fates(plan) == "kept kept dropped"
    assert plan.entries[-1].previous_digest == ARM64
    assert plan.changed
    assert remove(plan.result, ["arm64"]).result is plan.result


def test_removal_takes_the_attestations_along() -> None:
    found = index("linux/arm64", "linux/amd64", OF_ARM64, attestation("sha256:x"))

    plan = remove(found, [PlatformPattern.parse("arm64")])

    assert platforms(plan.result) == ["linux/amd64", "unknown/unknown"]
    assert reasons(plan) == ["removed by name", "its image is removed"]


def test_attestations_stay_while_their_image_is_listed_for_another_platform() -> None:
    twice = [entry(text, seed="one") for text in ("linux/arm/v6", "linux/arm/v7")]

    plan = remove(index(*twice, attestation(digest("one"))), ["arm/v6"])

    assert platforms(plan.result) == ["linux/arm/v7", "unknown/unknown"]


def test_an_attestation_does_not_stand_for_an_image_of_its_digest() -> None:
    confusing = attestation(digest("absent"), seed="linux/arm64")

    plan = remove(index("linux/arm64", confusing, OF_ARM64), ["arm64"])

    assert [e.attested for e in plan.result.manifests] == [digest("absent")]


@pytest.mark.parametrize("odd", [entry(None), entry("unknown/unknown"), entry(None, platform=None)])
def test_entries_without_a_platform_stay(odd: dict[str, object]) -> None:
    plan = remove(index("linux/arm64", odd), ["*"])

    assert [e.digest for e in plan.result.manifests] == [odd["digest"]]


def test_nothing_to_remove_leaves_the_index_alone() -> None:
    found = index("linux/amd64", media_type_field=False)

    plan = remove(found, ["arm64", "linux/s390x", "amd64/v3"])

    assert plan.result is found
    assert not plan.changed
    assert plan.missing == ("arm64", "linux/s390x", "amd64/v3")


def test_an_index_is_emptied_only_where_that_is_allowed() -> None:
    found = index("linux/arm64", OF_ARM64)

    with pytest.raises(EmptyIndex) as caught:
        remove(found, ["arm64", "s390x"])
    plan = remove(found, ["arm64"], allow_empty=True)

    assert caught.value.removed == ("arm64", "s390x")
    assert (plan.result.manifests, plan.changed) == ((), True)


@pytest.mark.parametrize(("docker", "expected"), [(True, DOCKER_LIST), (False, OCI_INDEX)])
def test_the_rest_of_the_index_stays_but_its_subject(docker: bool, expected: str) -> None:
    fields = {"annotations": {"é": "ü"}, "subject": entry(None)}
    found = index("linux/arm64", "linux/amd64", docker=docker, media_type_field=False, **fields)
    before = copy.deepcopy(found)

    left = remove(found, ["arm64"]).result.fields

    assert (left["annotations"], left["mediaType"]) == ({"é": "ü"}, expected)
    assert "subject" not in left
    assert found == before


@pytest.mark.parametrize("pattern", ["a/b/c/d", "s390"])
def test_a_bad_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidPlatform):
        remove(index("linux/arm64"), [pattern])


def test_what_has_no_platform_is_removed_by_name() -> None:
    found = index("linux/arm64", entry(None), entry("unknown/unknown", seed="a"), OF_ARM64)

    assert fates(remove(found, ["none"])) == "kept kept dropped dropped"
    assert fates(remove(found, [digest("a"), "sha256:" + "0" * 64])) == "kept kept kept dropped"
    assert remove(found, ["none"]).missing == ()
    assert remove(index("linux/arm64"), ["none"]).missing == ("none",)


def test_pruning_removes_what_serves_nobody() -> None:
    orphan, unknown = attestation(ABSENT), entry("unknown/unknown", seed="a")
    found = index("linux/arm64", OF_ARM64, "linux/arm64", orphan, unknown, entry(None), NESTED)

    plan = remove(found, [], prune=True)

    assert [e.descriptor.digest for e in plan.entries if e.fate == "dropped"] == [
        *(ARM64, orphan["digest"], unknown["digest"])
    ]
    assert reasons(plan) == [
        "it is listed twice",
        "its image is not listed",
        "it is for an unknown platform and names no image",
    ]
    assert remove(plan.result, [], prune=True).result is plan.result


# Law 11: single images.


def single(platform: str = "linux/arm64", seed: str = "", reference: str = TAG) -> Side:
    """Make a side that holds a single image."""
    made = make_image(platform, seed=seed)
    image = Image.from_bytes(made.content, made.media_type)
    config = dict(zip(("os", "architecture", "variant"), platform.split("/")))
    return Side(Reference.parse(reference), image, image.wrap(config))


def artifact(seed: str = "") -> Side:
    """Make a side that holds an artifact, whose config states no platform."""
    side = single(seed=seed)
    assert isinstance(side.manifest, Image)
    return evolve(side, index=side.manifest.wrap(None))


def listing(*entries: str | Entry) -> Side:
    """Make a side that holds an index."""
    made = index(*entries)
    return Side(Reference.parse(TAG), made, made)


WRAP, INDEX = Policy(), Policy(single_image="index")
REPLACE, FAIL = Policy(single_image="replace"), Policy(single_image="fail")
LISTING = pytest.mark.parametrize("policy", [WRAP, INDEX], ids=["wrap", "index"])
IMAGE = pytest.mark.parametrize("policy", [WRAP, REPLACE], ids=["wrap", "replace"])


@pytest.mark.parametrize(
    "held",
    [None, single(seed="old"), listing("linux/arm64"), listing("linux/arm64", "linux/arm64@2")],
    ids=["absent", "image", "index of one", "index of two in one slot"],
)
@IMAGE
def test_a_result_of_one_image_is_the_image_itself(held: Side | None, policy: Policy) -> None:
    new = single()

    plan = merge_manifests(new, held, policy)

    assert (plan.result, plan.changed) == (new.manifest, True)
    expected = "added" if held is None else "replaced"
    assert outcome(plan)[0] == ("linux/arm64", expected)


@IMAGE
def test_the_same_image_changes_nothing(policy: Policy) -> None:
    plan = merge_manifests(single(), single(), policy)

    assert (plan.changed, outcome(plan)) == (False, [("linux/arm64", "same")])


@LISTING
def test_an_image_is_merged_into_an_index(policy: Policy) -> None:
    new = single()

    plan = merge_manifests(new, listing("linux/amd64", "linux/arm64", "linux/s390x"), policy)

    assert outcome(plan) == [
        ("linux/arm64", "replaced"),
        ("linux/amd64", "kept"),
        ("linux/s390x", "kept"),
    ]
    assert isinstance(plan.result, Index)
    assert digests(plan.result)[0] == new.manifest.digest


@LISTING
@pytest.mark.parametrize("new", [single(AMD), listing(AMD)])
def test_an_image_that_the_source_lacks_is_kept(new: Side, policy: Policy) -> None:
    plan = merge_manifests(new, single(), policy)

    assert isinstance(plan.result, Index)
    assert outcome(plan) == [("linux/amd64", "added"), ("linux/arm64", "kept")]
    assert plan.changed


@pytest.mark.parametrize("policy", [WRAP, INDEX, REPLACE], ids=["wrap", "index", "replace"])
def test_a_source_that_covers_an_image_keeps_its_bytes(policy: Policy) -> None:
    new = listing("linux/amd64", "linux/arm64")

    plan = merge_manifests(new, single(), policy)

    assert (plan.result, plan.changed) == (new.manifest, True)
    assert outcome(plan) == [("linux/amd64", "added"), ("linux/arm64", "replaced")]


def test_an_index_that_lists_just_the_image_is_left_alone() -> None:
    new = single()
    held = evolve(new, manifest=new.index)

    for policy in (WRAP, INDEX):
        plan = merge_manifests(new, held, policy)

        assert (plan.result, plan.changed) == (held.manifest, False)


def test_an_image_stays_where_nothing_of_the_source_is_eligible() -> None:
    held = single()

    plan = merge_manifests(listing(AMD), held, Policy(eligible=["s390x"]))

    assert (plan.result, plan.changed) == (held.manifest, False)
    assert plan.missing == ("s390x",)


@pytest.mark.parametrize("held", [None, single(), single(seed="old")])
def test_an_index_is_made_of_one_image_where_that_is_wanted(held: Side | None) -> None:
    new = single()

    plan = merge_manifests(new, held, INDEX)

    assert (plan.result, plan.changed) == (new.index, True)
    assert not merge_manifests(new, evolve(new, manifest=new.index), INDEX).changed


def test_the_old_way_replaces_an_index_by_an_image() -> None:
    new = single()

    plan = merge_manifests(new, listing("linux/amd64", "linux/arm64"), REPLACE)

    assert plan.result == new.manifest
    assert outcome(plan) == [("linux/arm64", "replaced"), ("linux/amd64", "dropped")]
    assert plan.entries[-1].reason == "the source replaces all of it"


def test_the_old_way_replaces_an_image_by_the_eligible_part_of_an_index() -> None:
    policy = Policy(single_image="replace", eligible=["amd64", "s390x"])

    plan = merge_manifests(listing("linux/amd64", "linux/riscv64"), single(), policy)

    assert isinstance(plan.result, Index)
    assert platforms(plan.result) == ["linux/amd64"]
    assert [fate for _, fate in outcome(plan)] == ["added", "dropped", "excluded"]
    assert plan.missing == ("s390x",)


@pytest.mark.parametrize(
    ("source", "destination"),
    [
        (single(reference="quay.io/ns/app:image"), None),
        (single(reference="quay.io/ns/app:image"), listing("linux/arm64")),
        (listing("linux/arm64"), single(reference="quay.io/ns/app:image")),
    ],
)
def test_a_single_image_can_be_refused(source: Side, destination: Side | None) -> None:
    with pytest.raises(NotAnIndex) as caught:
        merge_manifests(source, destination, FAIL)

    assert caught.value.reference == "quay.io/ns/app:image"


def test_indexes_are_merged_whatever_is_said_of_images() -> None:
    for policy in (INDEX, REPLACE, FAIL):
        plan = merge_manifests(listing(AMD), listing("linux/arm64"), policy)

        assert outcome(plan) == [("linux/amd64", "added"), ("linux/arm64", "kept")]


@pytest.mark.parametrize(
    ("held", "policy"),
    [(None, WRAP), (artifact(), WRAP), (None, REPLACE), (artifact("old"), REPLACE)],
)
def test_an_artifact_goes_up_as_it_is_where_nothing_else_is_listed(
    held: Side | None, policy: Policy
) -> None:
    new = artifact()

    assert merge_manifests(new, held, policy).result == new.manifest


@pytest.mark.parametrize(
    ("source", "destination", "policy"),
    [
        (artifact(), listing(AMD), WRAP),
        (artifact("new"), artifact(), WRAP),
        (listing(AMD), artifact(), WRAP),
        (artifact(), None, INDEX),
    ],
)
def test_no_index_lists_an_artifact_that_was_a_tag(
    source: Side, destination: Side | None, policy: Policy
) -> None:
    with pytest.raises(NotAnIndex, match="states no platform"):
        merge_manifests(source, destination, policy)


def test_the_merge_itself_can_be_another_function() -> None:
    def drop_all(source: Index, destination: Index | None, policy: Policy) -> Plan[Index]:
        return merge(source, destination, evolve(policy, drop=["*/*"]))

    new = single()

    plan = merge_manifests(new, listing(AMD), WRAP, drop_all)

    assert plan.result == new.manifest


# The guard: no platform is lost that nobody named.


WHOLE = listing("linux/amd64@old", "linux/arm64@old", "linux/s390x@old")


def guarded(source: Side, destination: Side | None, policy: Policy) -> None:
    """Merge and check."""
    plan = merge_manifests(source, destination, policy)
    check_shrink(Reference.parse(TAG), plan, policy)


@pytest.mark.parametrize(
    ("source", "destination", "lost"),
    [
        (single(AMD), WHOLE, ("linux/arm64", "linux/s390x")),
        (single(AMD), single("linux/arm64"), ("linux/arm64",)),
        (listing("linux/amd64", "linux/riscv64"), single("linux/arm64"), ("linux/arm64",)),
        (artifact(), single("linux/arm64"), ("linux/arm64",)),
        (single("linux/arm/v7"), listing("linux/arm/v6"), ("linux/arm/v6",)),
    ],
)
def test_a_replacement_takes_no_platform_away(
    source: Side, destination: Side, lost: tuple[str, ...]
) -> None:
    with pytest.raises(ShrinkError) as caught:
        guarded(source, destination, REPLACE)

    assert caught.value.lost == lost
    assert caught.value.reference == TAG


@pytest.mark.parametrize(
    ("new", "held", "policy"),
    [
        (single(AMD), WHOLE, evolve(REPLACE, drop=["arm64", "s390x"])),
        (single(AMD), WHOLE, evolve(REPLACE, keep=["amd64"])),
        (single(AMD), WHOLE, evolve(REPLACE, drop=["*/*"])),
        (
            listing("linux/arm/v7@new"),
            listing("linux/arm/v6"),
            Policy(match="architecture", drop=["arm/v6"]),
        ),
        (single(AMD), None, REPLACE),
        (single(AMD), single("linux/amd64", "old"), REPLACE),
        (single(AMD), listing(AMD), REPLACE),
        (single(AMD), listing("linux/amd64@old", OF_AMD, entry(None)), REPLACE),
        (single(AMD), WHOLE, WRAP),
        (listing("linux/amd64@new"), WHOLE, WRAP),
    ],
)
def test_what_is_named_or_no_platform_may_go(new: Side, held: Side | None, policy: Policy) -> None:
    guarded(new, held, policy)


def test_one_named_platform_does_not_cover_for_another() -> None:
    with pytest.raises(ShrinkError) as caught:
        guarded(single(AMD), WHOLE, Policy(single_image="replace", drop=["arm64"]))

    assert caught.value.lost == ("linux/s390x",)


@pytest.mark.parametrize(
    ("old", "lost"),
    [
        (["linux/arm/v6", "linux/arm/v7"], "linux/arm/v6"),
        (["linux/arm/v6"], "linux/arm/v6"),
        (["windows/amd64", "linux/amd64"], "windows/amd64"),
    ],
)
def test_the_coarse_rule_takes_nothing_away_whatever_else_comes(old: list[str], lost: str) -> None:
    source = listing("linux/arm/v7@new", "linux/amd64@new", "linux/s390x@new")

    with pytest.raises(ShrinkError) as caught:
        guarded(source, listing(*old), Policy(match="architecture"))

    assert caught.value.lost == (lost,)


def test_what_is_to_be_kept_is_not_replaced_either() -> None:
    with pytest.raises(ShrinkError) as caught:
        guarded(single("linux/riscv64"), WHOLE, evolve(REPLACE, keep=["amd64"]))

    assert caught.value.lost == ("linux/amd64",)


# What a tag held at different times, merged and compared.


def test_the_newest_wins_and_nothing_is_lost() -> None:
    newest, older = index("linux/amd64@2", "linux/arm64@2"), index("linux/amd64@1", "linux/s390x@1")

    merged = union([newest, older])

    assert merged is not None
    assert platforms(merged) == ["linux/amd64", "linux/arm64", "linux/s390x"]
    assert merged.manifests[0].digest == digest("linux/amd64@2")


def test_single_images_add_nothing() -> None:
    assert union([single().manifest]) is None
    assert union([]) is None
    only = index("linux/amd64")
    assert union([single().manifest, only]) is only


def test_the_order_of_architectures_does_not_matter() -> None:
    one = index("linux/amd64", "linux/arm64", attestation(digest("linux/arm64")))
    other = index("linux/arm64", attestation(digest("linux/arm64")), "linux/amd64")

    assert serve_the_same(one, other)


def test_values_that_only_python_holds_equal_do_not_serve_the_same() -> None:
    assert not serve_the_same(index("linux/amd64", new=1), index("linux/amd64", new=True))


@pytest.mark.parametrize(
    "other",
    [
        index("linux/arm/v6", "linux/arm/v7"),
        index("linux/arm/v6", "linux/arm/v7", "linux/amd64@other"),
        index("linux/arm/v6", "linux/arm/v7", "linux/amd64", docker=True),
        index("linux/arm/v6", "linux/arm/v7", "linux/amd64", annotations={"a": "b"}),
    ],
    ids=["fewer", "digest", "type", "annotations"],
)
def test_what_pullers_notice_matters(other: Index) -> None:
    assert not serve_the_same(index("linux/arm/v6", "linux/arm/v7", "linux/amd64"), other)
