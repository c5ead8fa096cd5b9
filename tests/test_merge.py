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
    windows,
)

TAG = "quay.io/ns/app:1"
AMD, ARM, S390X = "linux/amd64", "linux/arm64", "linux/s390x"
V6, V7 = "linux/arm/v6", "linux/arm/v7"
OF_AMD, OF_ARM = (attestation(digest(text), seed=f"of {text}") for text in (AMD, ARM))
NEWER, OLDER = (attestation(digest(ARM), seed=seed) for seed in ("new", "old"))
ORPHAN = attestation(digest("absent"))
ARTIFACT, UNKNOWN = entry(None, seed="artifact"), entry("unknown/unknown", seed="unknown")
NULL: Entry = {**entry(None, seed="null"), "platform": None, "annotations": None}
NESTED = entry(None, seed="nested", media_type=OCI_INDEX)
DOCKER_ARM = entry(ARM, media_type=DOCKER_MANIFEST)


NAMED: dict[str, Entry] = {
    "of-amd64": OF_AMD,
    "of-arm64": OF_ARM,
    "of-arm64-artifact": {**OF_ARM, "artifactType": "application/vnd.in-toto+json"},
    "newer": NEWER,
    "older": OLDER,
    "orphan": ORPHAN,
    "of-no-image": attestation(""),
    "orphan-like-of-amd64": attestation(digest("absent"), seed=f"of {AMD}"),
    "of-of-amd64": attestation(digest(f"of {AMD}"), seed="second"),
    "artifact": ARTIFACT,
    "unknown": UNKNOWN,
    "null": NULL,
    "nested": NESTED,
    "of-nested": attestation(digest("nested")),
    "without-os": entry(platform={"architecture": "amd64"}, seed="new"),
    "windows-17763": windows("10.0.17763.100"),
    "windows-17763-later": windows("10.0.17763.200"),
    "windows-17763-feature": windows("10.0.17763.300", "x"),
    "windows-17763-win32k": windows("10.0.17763.400", "win32k"),
    "windows-20348": windows("10.0.20348.100"),
    "one-v6": entry("linux/arm/v6", seed="one"),
    "one-v7": entry("linux/arm/v7", seed="one"),
    "of-one": attestation(digest("one")),
}


def listed(text: str) -> Index:
    """Make an index of named entries and of platforms, which are of linux if they do not say."""
    return index(*(NAMED.get(e, e if "/" in e else f"linux/{e}") for e in text.split()))


def fates(plan: Plan[Index] | Plan[Manifest]) -> str:
    return " ".join(e.fate for e in plan.entries)


def reasons(plan: Plan[Index], *fates: str) -> list[str]:
    return [e.reason for e in plan.entries if e.fate in fates]


def seeds(texts: str) -> list[str | None]:
    """List the digests that factories make of these seeds; none for a dash."""
    return [None if text == "-" else digest(text) for text in texts.split()]


# What is listed, in which order, and why (laws 1 to 4, and 10).

MERGES = {
    "source entries first, then what is kept": (
        "s390x amd64 arm64@same",
        "ppc64le amd64@old arm64@same",
        "added replaced same kept",
    ),
    "an absent os is linux": ("without-os", "amd64", "replaced"),
    "a windows revision is replaced, a build is kept": (
        "windows-17763-later",
        "windows-17763 windows-20348",
        "replaced kept",
    ),
    "os features tell apart": ("windows-17763-feature", "windows-17763-win32k", "added kept"),
    "two entries in one slot are both kept": ("amd64", "arm64@gzip arm64@zstd", "added kept kept"),
    "one image listed for two platforms": ("one-v6", "one-v7 linux/arm/v6@x", "replaced kept"),
    "an attestation stays with its image": ("amd64", "arm64 of-arm64", "added kept kept"),
    "it stays as an artifact too": ("amd64", "arm64 of-arm64-artifact", "added kept kept"),
    "it goes with its image": ("arm64@new", "arm64 of-arm64", "replaced dropped"),
    "it replaces no other": ("amd64 of-amd64", "arm64 of-arm64", "added added kept kept"),
    "it is replaced by a newer": ("arm64 newer", "arm64 of-arm64 older", "same replaced dropped"),
    "it goes if of no image": ("amd64", "arm64 orphan", "added kept dropped"),
    "it stays in the source if of no image": ("amd64 orphan", "arm64", "added added kept"),
    "it goes if it names no image": ("amd64", "arm64 of-no-image", "added kept dropped"),
    "it goes if of an attestation": (
        "amd64",
        "arm64 orphan-like-of-amd64 of-of-amd64",
        "added kept dropped dropped",
    ),
    "it goes if of an attestation of the source": (
        "amd64 of-amd64",
        "amd64@old of-of-amd64",
        "replaced added dropped",
    ),
    "it stays if of a nested index": ("amd64", "nested of-nested", "added kept kept"),
}
COARSE = Policy(match="architecture")
DECIDED: dict[str, tuple[Policy, str, str, str]] = {
    "the coarse rule looks at the architecture alone": (
        COARSE,
        "linux/arm/v6@new",
        "linux/arm/v7@old windows/arm@old arm64@old",
        "replaced kept dropped",
    ),
    "only platforms to keep stay": (
        Policy(keep=["arm64", "windows"]),
        "amd64",
        "arm64 windows/amd64 s390x artifact",
        "added kept kept kept dropped",
    ),
    "platforms to drop go with their attestations": (
        Policy(drop=["arm64"]),
        "amd64",
        "arm64 of-arm64 s390x",
        "added kept dropped dropped",
    ),
    "drop is stronger than keep": (
        Policy(keep=["linux/*"], drop=["s390x"]),
        "amd64",
        "arm64 s390x",
        "added kept dropped",
    ),
    "keep and drop do not touch the source": (
        Policy(keep=["arm64"], drop=["s390x"]),
        "amd64 s390x",
        "",
        "added added",
    ),
    "only eligible entries come from the source": (
        Policy(eligible=["arm64"]),
        "amd64@new arm64@new s390x@new artifact",
        "ppc64le@old amd64@old arm64@old",
        "replaced kept kept excluded excluded excluded",
    ),
    "attestations of eligible images come along": (
        Policy(eligible=["arm64"]),
        "amd64 arm64 of-amd64 of-arm64",
        "s390x",
        "added added kept excluded excluded",
    ),
    "an eligible name may be a platform": (
        Policy(eligible=["linux/arm/v7"]),
        "linux/arm/v6 linux/arm/v7 windows/arm/v7",
        "",
        "added excluded excluded",
    ),
    "an eligible pattern fits no entry without platform": (
        Policy(eligible=["*"]),
        "linux/arm/v6 windows/arm/v7 artifact unknown",
        "",
        "added added excluded excluded",
    ),
    "eligible names and the coarse rule go together": (
        evolve(COARSE, eligible=["arm"]),
        "linux/arm/v6@new",
        "linux/arm/v7@old amd64",
        "replaced kept",
    ),
    **{case: (Policy(), *row) for case, row in MERGES.items()},
}


@pytest.mark.parametrize("case", DECIDED)
def test_source_entries_come_first_and_then_what_is_kept(case: str) -> None:
    policy, ours, theirs, expected = DECIDED[case]
    source, destination = listed(ours), listed(theirs)

    plan = merge(source, destination, policy)

    assert fates(plan) == expected
    shown = [e.descriptor for e in plan.entries if e.fate not in ("dropped", "excluded")]
    assert (digests(plan.result), plan.changed) == ([e.digest for e in shown], True)
    assert (plan.result is source) == ("kept" not in expected and "excluded" not in expected)
    before = [e.previous_digest for e in plan.entries if e.previous_digest]
    assert sorted(before) == sorted(digests(destination))


SAME = {
    "linux/arm64": "linux/arm64/v8",
    "linux/aarch64": "linux/arm64",
    "Linux/AMD64": AMD,
    "linux/arm": V7,
    "linux/armhf": "linux/arm/7",
    "linux/x86_64": "linux/amd64/v1",
    "macos/arm64": "darwin/arm64",
}
DIFFERENT = [
    *((V6, V7), ("linux/arm", V6), ("linux/arm", ARM), (AMD, "linux/amd64/v3")),
    *((ARM, "linux/arm64/v9"), (AMD, "windows/amd64")),
]


@pytest.mark.parametrize(("new", "old"), [*SAME.items(), *DIFFERENT])
def test_source_wins_on_the_same_platform_in_another_spelling(new: str, old: str) -> None:
    result = merge(index(f"{new}@new"), index(f"{old}@old")).result

    assert platforms(result) == ([new] if SAME.get(new) == old else [new, old])


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
    assert [e.previous_digest for e in plan.entries] == seeds(replaced)


@pytest.mark.parametrize(
    ("source", "destination", "policy", "expected"),
    [
        ("amd64", "amd64@1 amd64@2", Policy(), ["the source has another one for this platform"]),
        ("arm64@new", "of-arm64", Policy(), ["its image is not in the result"]),
        ("arm64 newer", "of-arm64 older", Policy(), ["the source has newer attestations"]),
        ("amd64", "arm64", Policy(keep=["s390x"]), ["not among the platforms to keep"]),
        ("amd64", "arm64", Policy(drop=["arm64"]), ["dropped by name"]),
        (
            "amd64 of-amd64",
            "",
            Policy(eligible=["arm64"]),
            ["not eligible", "its image is not eligible"],
        ),
    ],
)
def test_what_is_left_out_has_a_reason(
    source: str, destination: str, policy: Policy, expected: list[str]
) -> None:
    plan = merge(listed(source), listed(destination), policy)

    assert reasons(plan, "dropped", "excluded") == expected


@pytest.mark.parametrize(
    "odd",
    [ARTIFACT, NESTED, UNKNOWN, NULL],
    ids=["no platform", "nested index", "unknown platform", "null platform"],
)
def test_entries_without_a_platform_are_told_apart_by_digest(odd: Entry) -> None:
    source = index(AMD, entry(None, seed="other"), entry("unknown/unknown", seed="x"))

    plan = merge(source, index("linux/amd64@old", odd))

    assert digests(plan.result) == [*digests(source), odd["digest"]]
    assert plan.entries[-1].fate == "kept"
    both_have_it = merge(index(AMD, odd), index(S390X, odd)).result
    assert digests(both_have_it) == [digest(AMD), odd["digest"], digest(S390X)]


# Laws 5 to 7: carried as received, untouched means untouched, one encoding.


def test_entries_are_carried_as_received() -> None:
    rich = entry(AMD, annotations={"é": "ü"}, urls=["u"], data="e30=", new={"a": [1.5]})
    cpu = {"os": "linux", "architecture": "arm64", "features": ["sse4"], "new": None}

    plan = merge(index(rich), index(entry(platform=cpu)))

    assert json.loads(plan.result.content)["manifests"] == [rich, entry(platform=cpu)]


THREE_AMD = listed("amd64@gzip amd64@zstd amd64@gzip arm64 of-arm64")


def merged() -> Index:
    return merge(index(AMD), index(ARM)).result


@pytest.mark.parametrize(
    ("source", "destination", "policy"),
    [
        (index(AMD), index(AMD), Policy()),
        (index(AMD), merged(), Policy()),
        (index(AMD), index(AMD, ARM), Policy()),
        (index(AMD), index(AMD, ARM, media_type_field=False), Policy()),
        (index(DOCKER_ARM), index(DOCKER_ARM, AMD, docker=True), Policy()),
        (index(ARM), index(ARM, OF_ARM), Policy()),
        (index(ARM, OF_ARM), THREE_AMD, Policy()),
        (
            index(ARM, OF_ARM),
            listed("amd64@gzip amd64@zstd amd64@gzip arm64 of-arm64"),
            Policy(eligible=["arm64"]),
        ),
        (index("linux/amd64@new"), index("linux/amd64@old"), Policy(eligible=["arm64"])),
    ],
    ids=[
        *("itself", "merged before", "other bytes", "no stated type", "other type"),
        *("attestation", "order of other slots", "order of eligible slots", "nothing eligible"),
    ],
)
def test_a_destination_that_says_the_same_is_left_alone(
    source: Index, destination: Index, policy: Policy
) -> None:
    """Else each merge would give the tag another digest, and signatures would no longer fit."""
    plan = merge(source, destination, policy)

    assert (plan.result.content, plan.changed) == (destination.content, False)
    shown = [e.descriptor.digest for e in plan.entries if e.fate != "excluded"]
    assert sorted(shown) == sorted(digests(destination))


@pytest.mark.parametrize(("new", "old"), [(1, True), (0, False), (1, 1.0), (1, "1")])
def test_values_that_only_python_holds_equal_are_a_change(new: object, old: object) -> None:
    source = index(AMD, new=new)

    plan = merge(source, index(AMD, ARM, new=old))

    assert plan.changed
    assert type(plan.result.fields["new"]) is type(new)


def test_another_order_in_one_slot_is_a_change() -> None:
    source = index("linux/amd64@zstd", "linux/amd64@gzip")

    plan = merge(source, index(S390X, "linux/amd64@gzip", "linux/amd64@zstd"))

    assert plan.changed
    assert platforms(plan.result)[-1] == S390X


def test_a_merged_index_is_encoded_as_the_host_does() -> None:
    result = merged()

    assert result.content == json.dumps(result.fields, sort_keys=True, indent=4).encode()
    assert result.digest == digest_of(result.content)
    assert Index.from_bytes(result.content) == result


def test_a_result_that_registries_would_not_take_is_refused() -> None:
    pad = "x" * 2_100_000

    plan = merge(index(entry(pad=pad)), index(entry(ARM, pad=pad)))

    with pytest.raises(InvalidIndex, match="would have"):
        _ = plan.result.content


# Laws 8 and 9: the top level, and the type.


def test_the_top_level_comes_from_the_source_without_subject() -> None:
    ours: Json = {"annotations": {"from": "source"}, "new": 1, "subject": entry(None)}
    theirs: Json = {"annotations": {"from": "destination"}, "old": 1, "subject": entry(None)}
    source = Index.from_fields({**document(AMD, media_type_field=False), **ours})
    destination = Index.from_fields({**document(ARM, media_type_field=False), **theirs})

    made = merge(source, destination).result.fields

    expected = {"annotations": {"from": "source"}, "new": 1, "mediaType": OCI_INDEX}
    assert made == {"schemaVersion": 2, "manifests": made["manifests"], **expected}


DOCKER_AMD = index(AMD, docker=True)
BARE = entry(None, media_type=DOCKER_MANIFEST)
NO_OS = entry("", media_type=DOCKER_MANIFEST, platform={"architecture": "s390x"})
SCHEMA_1 = entry("linux/386", media_type="application/vnd.docker.distribution.manifest.v1+json")


@pytest.mark.parametrize(
    ("source", "destination", "expected"),
    [
        (DOCKER_AMD, index(ARM, docker=True), DOCKER_LIST),
        (DOCKER_AMD, index(ARM), OCI_INDEX),
        (index(AMD), index(ARM, docker=True), OCI_INDEX),
        (index(AMD), index(ARM), OCI_INDEX),
        (DOCKER_AMD, index(DOCKER_ARM), DOCKER_LIST),
        (index(DOCKER_ARM), DOCKER_AMD, DOCKER_LIST),
        (index(DOCKER_ARM), index(entry(media_type=DOCKER_MANIFEST)), OCI_INDEX),
        (index(), DOCKER_AMD, DOCKER_LIST),
        (DOCKER_AMD, index(SCHEMA_1, docker=True), DOCKER_LIST),
        (DOCKER_AMD, index(BARE, docker=True), OCI_INDEX),
        (DOCKER_AMD, index(NO_OS), OCI_INDEX),
        (DOCKER_AMD, index(DOCKER_ARM, OF_ARM), OCI_INDEX),
        (index(DOCKER_ARM, annotations={"a": "b"}), DOCKER_AMD, OCI_INDEX),
        (
            index(DOCKER_ARM, docker=True),
            index(AMD, docker=True, annotations={"a": "b"}),
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
    with pytest.raises(MixedTypes) as caught:
        merge(DOCKER_AMD, index(ARM), Policy(mixed_types="fail"))

    assert (caught.value.docker, caught.value.oci) == ((digest(AMD),), (digest(ARM),))


@pytest.mark.parametrize("docker", [True, False])
def test_one_kind_is_not_refused_as_mixed(*, docker: bool) -> None:
    source, destination = index(AMD, docker=docker), index(ARM, docker=docker)

    plan = merge(source, destination, Policy(mixed_types="fail"))

    assert len(plan.result.manifests) == 2


# Removing platforms.

ONLY_ARM64 = PlatformPattern.parse("arm64")


@pytest.mark.parametrize(
    ("held", "patterns", "expected"),
    [
        ("s390x arm64 amd64", ["arm64"], "kept kept dropped"),
        (
            "arm64 amd64 of-arm64 orphan",
            [PlatformPattern.parse("arm64")],
            "kept kept dropped dropped",
        ),
        # Attestations stay while their image is listed for another platform.
        ("one-v6 one-v7 of-one", ["arm/v6"], "kept kept dropped"),
        # An attestation is not taken for an image of its digest.
        ("of-amd64 orphan-like-of-amd64 of-of-amd64 amd64", ["amd64"], "kept kept dropped dropped"),
        ("arm64 artifact", ["*"], "kept dropped"),
        ("arm64 unknown", ["*"], "kept dropped"),
        ("arm64 null", ["*"], "kept dropped"),
        ("arm64 artifact unknown of-arm64", ["none"], "kept kept dropped dropped"),
        ("arm64 artifact unknown", [digest("unknown"), digest("absent")], "kept kept dropped"),
    ],
)
def test_removal_leaves_the_rest_in_order(
    held: str, patterns: Sequence[str | PlatformPattern], expected: str
) -> None:
    plan = remove(listed(held), patterns)

    assert (fates(plan), plan.changed) == (expected, True)
    assert [e.descriptor.digest for e in plan.entries if e.fate == "kept"] == digests(plan.result)
    assert all(e.previous_digest == e.descriptor.digest for e in plan.entries)
    assert set(reasons(plan, "dropped")) <= {"removed by name", "its image is removed"}
    assert remove(plan.result, patterns).result is plan.result


def test_what_is_not_there_is_missing_and_leaves_the_index_alone() -> None:
    found = index(AMD, media_type_field=False)
    missing = ("arm64", "linux/s390x", "amd64/v3", "none")

    plan = remove(found, missing)

    assert (plan.result, plan.changed, plan.missing) == (found, False, missing)
    assert plan.result is found
    assert remove(index(ARTIFACT, AMD), ["none"]).missing == ()


def test_an_index_is_emptied_only_where_that_is_allowed() -> None:
    found = index(ARM, OF_ARM)

    with pytest.raises(EmptyIndex) as caught:
        remove(found, ["arm64", "s390x"])
    plan = remove(found, ["arm64"], allow_empty=True)

    assert caught.value.removed == ("arm64", "s390x")
    assert (plan.result.manifests, plan.changed) == ((), True)


@pytest.mark.parametrize(("docker", "expected"), [(True, DOCKER_LIST), (False, OCI_INDEX)])
def test_the_rest_of_the_index_stays_but_its_subject(docker: bool, expected: str) -> None:
    fields = {"annotations": {"é": "ü"}, "subject": entry(None)}
    found = index(ARM, AMD, docker=docker, media_type_field=False, **fields)
    before = copy.deepcopy(found)

    left = remove(found, ["arm64"]).result.fields

    assert (left["annotations"], left["mediaType"]) == ({"é": "ü"}, expected)
    assert "subject" not in left
    assert found == before


@pytest.mark.parametrize("pattern", ["a/b/c/d", "s390"])
def test_a_bad_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidPlatform):
        remove(index(ARM), [pattern])


def test_pruning_removes_what_serves_nobody() -> None:
    found = index(ARM, OF_ARM, ARM, ORPHAN, UNKNOWN, entry(None), NESTED)

    plan = remove(found, [], prune=True)

    assert {e.descriptor.digest: e.reason for e in plan.entries if e.fate == "dropped"} == {
        digest(ARM): "it is listed twice",
        ORPHAN["digest"]: "its image is not listed",
        UNKNOWN["digest"]: "it is for an unknown platform and names no image",
    }
    assert remove(plan.result, [], prune=True).result is plan.result


def test_pruning_leaves_one_of_two_entries_for_the_same_content() -> None:
    useless, artifact = entry("unknown/unknown", seed="a"), entry(None, seed="a")

    for both in ((useless, artifact), (artifact, useless)):
        (left,) = remove(index(*both), [], prune=True).result.manifests
        assert left.platform is None


# Law 11: single images.


def single(platform: str = ARM, seed: str = "", reference: str = TAG) -> Side:
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
PART = evolve(REPLACE, eligible=["amd64", "s390x"])
BOTH_ARM = listing(ARM, f"{ARM}@2")


@pytest.mark.parametrize(
    ("new", "held", "policies", "result", "expected"),
    [
        (single(), None, [WRAP, REPLACE], "source", "added"),
        (single(), single(seed="old"), [WRAP, REPLACE], "source", "replaced"),
        (single(), listing(ARM), [WRAP, REPLACE], "source", "replaced"),
        (single(), BOTH_ARM, [WRAP, REPLACE], "source", "replaced dropped"),
        (single(), single(), [WRAP, REPLACE], "destination", "same"),
        (single(), listing(AMD, ARM, S390X), [WRAP, INDEX], "merged", "replaced kept kept"),
        (single(AMD), single(), [WRAP, INDEX], "merged", "added kept"),
        (listing(AMD), single(), [WRAP, INDEX], "merged", "added kept"),
        (listing(AMD, ARM), single(), [WRAP, INDEX, REPLACE], "source", "added replaced"),
        (single(), evolve(single(), manifest=single().index), [WRAP, INDEX], "destination", "same"),
        (listing(AMD), single(), [Policy(eligible=["s390x"])], "destination", "kept excluded"),
        # An index is made of one image where that is wanted.
        (single(), None, [INDEX], "wrapped", "added"),
        (single(), single(), [INDEX], "wrapped", "same"),
        (single(), single(seed="old"), [INDEX], "wrapped", "replaced"),
        # The old way replaces all of it.
        (single(), listing(AMD, ARM), [REPLACE], "source", "replaced dropped"),
        (listing(AMD, V7), single(), [PART], "merged", "added dropped excluded"),
        # Indexes are merged whatever is said of images.
        (listing(AMD), listing(ARM), [INDEX, REPLACE, FAIL], "merged", "added kept"),
        # An artifact goes up as it is where nothing else is listed.
        (artifact(), None, [WRAP, REPLACE], "source", "added"),
        (artifact(), artifact(), [WRAP], "destination", "same"),
        (artifact(), artifact("old"), [REPLACE], "source", "added dropped"),
    ],
)
def test_a_single_image_is_merged_as_an_index_of_one_entry(
    new: Side, held: Side | None, policies: list[Policy], result: str, expected: str
) -> None:
    known = {"source": new.manifest, "wrapped": new.index, "destination": (held or new).manifest}

    for policy in policies:
        plan = merge_manifests(new, held, policy)

        assert (plan.changed, fates(plan)) == (result != "destination", expected)
        if result == "merged":
            assert isinstance(plan.result, Index)
            shown = [e.descriptor for e in plan.entries if e.fate not in ("dropped", "excluded")]
            assert digests(plan.result) == [e.digest for e in shown]
        else:
            assert plan.result == known[result]


def test_the_old_way_says_what_it_replaces_and_what_it_misses() -> None:
    replaced = merge_manifests(single(), listing(AMD), REPLACE)
    part = merge_manifests(listing(AMD), single(), PART)

    assert replaced.entries[-1].reason == "the source replaces all of it"
    assert part.missing == ("s390x",)


NOTES = {"a": "b"}


def test_annotations_make_an_index_of_a_single_image() -> None:
    plan = merge_manifests(single(), None, evolve(WRAP, annotations=NOTES))

    assert isinstance(plan.result, Index)
    assert (plan.result.fields["annotations"], fates(plan)) == (NOTES, "added")


@pytest.mark.parametrize("destination", [None, listing(ARM)])
def test_a_single_image_can_be_refused(destination: Side | None) -> None:
    image = single(reference="quay.io/ns/app:image")

    for sides in ((image, destination), (destination or listing(ARM), image)):
        with pytest.raises(NotAnIndex) as caught:
            merge_manifests(*sides, evolve(FAIL, annotations=NOTES))

        assert caught.value.reference == "quay.io/ns/app:image"


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

    assert merge_manifests(new, listing(AMD), WRAP, drop_all).result == new.manifest


# The guard: no platform is lost that nobody named.

WHOLE = listing("linux/amd64@old", "linux/arm64@old", "linux/s390x@old")
NEW = listing("linux/arm/v7@new", "linux/amd64@new", "linux/s390x@new")


def guarded(source: Side, destination: Side | None, policy: Policy) -> None:
    """Merge and check."""
    plan = merge_manifests(source, destination, policy)
    check_shrink(Reference.parse(TAG), plan, policy)


@pytest.mark.parametrize(
    ("source", "destination", "policy", "lost"),
    [
        (single(AMD), WHOLE, REPLACE, (ARM, S390X)),
        (single(AMD), single(ARM), REPLACE, (ARM,)),
        (listing(AMD, "linux/riscv64"), single(ARM), REPLACE, (ARM,)),
        (artifact(), single(ARM), REPLACE, (ARM,)),
        (single(V7), listing(V6), REPLACE, (V6,)),
        # One named platform does not cover for another, and what is kept is not replaced either.
        (single(AMD), WHOLE, evolve(REPLACE, drop=["arm64"]), (S390X,)),
        (single("linux/riscv64"), WHOLE, evolve(REPLACE, keep=["amd64"]), (AMD,)),
        # The coarse rule takes nothing away, whatever else comes.
        (NEW, listing(V6, V7), COARSE, (V6,)),
        (NEW, listing(V6), COARSE, (V6,)),
        (NEW, listing("windows/amd64", AMD), COARSE, ("windows/amd64",)),
    ],
)
def test_nothing_takes_a_platform_away(
    source: Side, destination: Side, policy: Policy, lost: tuple[str, ...]
) -> None:
    with pytest.raises(ShrinkError) as caught:
        guarded(source, destination, policy)

    assert (caught.value.lost, caught.value.reference) == (lost, TAG)


@pytest.mark.parametrize(
    ("new", "held", "policy"),
    [
        (single(AMD), WHOLE, evolve(REPLACE, drop=["arm64", "s390x"])),
        (single(AMD), WHOLE, evolve(REPLACE, keep=["amd64"])),
        (single(AMD), WHOLE, evolve(REPLACE, drop=["*/*"])),
        (listing(f"{V7}@new"), listing(V6), evolve(COARSE, drop=["arm/v6"])),
        (single(AMD), None, REPLACE),
        (single(AMD), single(AMD, "old"), REPLACE),
        (single(AMD), listing(AMD), REPLACE),
        (single(AMD), listing("linux/amd64@old", OF_AMD, entry(None)), REPLACE),
        (single(AMD), WHOLE, WRAP),
        (listing("linux/amd64@new"), WHOLE, WRAP),
    ],
)
def test_what_is_named_or_no_platform_may_go(new: Side, held: Side | None, policy: Policy) -> None:
    guarded(new, held, policy)


# What a tag held at different times, merged and compared.


def test_the_newest_wins_and_nothing_is_lost() -> None:
    newest, older = index("linux/amd64@2", "linux/arm64@2"), index("linux/amd64@1", "linux/s390x@1")

    merged = union([single().manifest, newest, older])

    assert merged is not None
    assert digests(merged) == seeds("linux/amd64@2 linux/arm64@2 linux/s390x@1")
    assert union([single().manifest]) is None


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (index(AMD, V6, V7), True),
        (index(V6, V7), False),
        (index(V6, V7, "linux/amd64@other"), False),
        (index(V6, V7, AMD, docker=True), False),
        (index(V6, V7, AMD, annotations={"a": "b"}), False),
    ],
    ids=["order of platforms", "fewer", "digest", "type", "annotations"],
)
def test_what_pullers_notice_matters(other: Index, *, expected: bool) -> None:
    assert serve_the_same(index(V6, V7, AMD), other) == expected
