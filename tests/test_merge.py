"""The laws of a merge, one example after the other."""

from __future__ import annotations

import copy
import json

import pytest

from pubtools_mlmerge.core.manifests import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    Index,
    digest_of,
)
from pubtools_mlmerge.core.merge import merge
from pubtools_mlmerge.core.plan import Plan, Policy
from pubtools_mlmerge.errors import InvalidIndex, MixedTypes
from tests.factories import Entry, attestation, digest, digests, entry, index, platforms

DOCKER_ARM64 = entry("linux/arm64", media_type=DOCKER_MANIFEST)


def fates(plan: Plan[Index]) -> list[tuple[str, str]]:
    """List what becomes of each entry, by platform."""
    return [(str(e.descriptor.platform or "none"), e.fate) for e in plan.entries]


def seeds(*texts: str) -> list[str]:
    """List the digests that factories make of these seeds."""
    return [digest(text) for text in texts]


# Law 1: order.


def test_source_entries_come_first_and_then_what_is_kept() -> None:
    source = index("linux/s390x", "linux/amd64")
    destination = index("linux/ppc64le", "linux/amd64@old", "linux/arm64")

    plan = merge(source, destination)

    expected = ["linux/s390x", "linux/amd64", "linux/ppc64le", "linux/arm64"]
    assert platforms(plan.result) == expected
    assert plan.changed


def test_every_entry_has_a_fate() -> None:
    source = index("linux/s390x", "linux/amd64", "linux/arm64@same")
    destination = index("linux/ppc64le", "linux/amd64@old", "linux/arm64@same")

    assert fates(merge(source, destination)) == [
        ("linux/s390x", "added"),
        ("linux/amd64", "replaced"),
        ("linux/arm64", "same"),
        ("linux/ppc64le", "kept"),
    ]


def test_a_fate_names_what_was_there_before() -> None:
    source = index("linux/s390x", "linux/amd64@new", "linux/arm64@same")
    destination = index("linux/ppc64le", "linux/amd64@old", "linux/arm64@same")

    plan = merge(source, destination)

    before = [e.previous_digest for e in plan.entries]
    assert before == [None, *seeds("linux/amd64@old", "linux/arm64@same", "linux/ppc64le")]


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


def test_a_windows_revision_is_replaced_and_a_build_is_kept() -> None:
    source = index(windows("10.0.17763.200"))
    destination = index(windows("10.0.17763.100"), windows("10.0.20348.100"))

    plan = merge(source, destination)

    assert digests(plan.result) == seeds("10.0.17763.200", "10.0.20348.100")


def test_os_features_tell_platforms_apart() -> None:
    source = index(windows("10.0.17763.2", "other"))
    destination = index(windows("10.0.17763.1", "win32k"))

    assert len(merge(source, destination).result.manifests) == 2


def test_two_source_entries_in_one_slot_both_stay() -> None:
    source = index("linux/amd64@gzip", "linux/amd64@zstd")
    destination = index("linux/amd64@old", "linux/arm64")

    plan = merge(source, destination)

    stay = seeds("linux/amd64@gzip", "linux/amd64@zstd", "linux/arm64")
    assert digests(plan.result) == stay
    assert [e.fate for e in plan.entries] == ["replaced", "added", "kept"]


def test_two_source_entries_replace_two_of_the_destination_one_each() -> None:
    source = index("linux/amd64@gzip", "linux/amd64@zstd")
    destination = index("linux/amd64@old-gzip", "linux/amd64@old-zstd")

    plan = merge(source, destination)

    before = [e.previous_digest for e in plan.entries]
    assert before == seeds("linux/amd64@old-gzip", "linux/amd64@old-zstd")


def test_one_source_entry_replaces_one_and_the_other_is_dropped() -> None:
    source = index("linux/amd64@new")
    destination = index("linux/amd64@gzip", "linux/amd64@zstd")

    plan = merge(source, destination)

    assert [e.fate for e in plan.entries] == ["replaced", "dropped"]
    assert plan.entries[1].previous_digest == digest("linux/amd64@zstd")
    assert plan.entries[1].reason == "the source has another one for this platform"


def test_an_entry_that_both_have_is_replaced_by_no_other() -> None:
    source = index("linux/amd64@new", "linux/amd64@same")
    destination = index("linux/amd64@same", "linux/amd64@old")

    plan = merge(source, destination)

    assert [e.fate for e in plan.entries] == ["replaced", "same"]
    assert plan.entries[0].previous_digest == digest("linux/amd64@old")


def test_two_destination_entries_in_one_slot_both_stay() -> None:
    destination = index("linux/arm64@gzip", "linux/arm64@zstd")

    plan = merge(index("linux/amd64"), destination)

    assert digests(plan.result)[1:] == digests(destination)


def test_one_image_under_two_platforms_counts_twice() -> None:
    source = index(entry("linux/arm/v6", seed="one"))
    destination = index(entry("linux/arm/v7", seed="one"), entry("linux/arm/v6", seed="old"))

    plan = merge(source, destination)

    assert platforms(plan.result) == ["linux/arm/v6", "linux/arm/v7"]


def test_the_coarse_rule_looks_at_the_architecture_alone() -> None:
    source = index("linux/arm/v6@new")
    destination = index("linux/arm/v7@old", "windows/arm@old", "linux/arm64@old")

    plan = merge(source, destination, Policy(match="architecture"))

    assert digests(plan.result) == seeds("linux/arm/v6@new", "linux/arm64@old")


# Law 3: attestations, and entries without a platform.


IMAGE = digest("linux/arm64")


@pytest.mark.parametrize("form", [{}, {"artifactType": "application/vnd.in-toto+json"}])
def test_an_attestation_stays_with_its_image(form: dict[str, object]) -> None:
    destination = index("linux/arm64", {**attestation(IMAGE), **form})

    plan = merge(index("linux/amd64"), destination)

    assert digests(plan.result) == [digest("linux/amd64"), *digests(destination)]


def test_an_attestation_goes_with_its_image() -> None:
    source = index("linux/arm64@new")

    plan = merge(source, index("linux/arm64", attestation(IMAGE)))

    assert plan.result is source
    assert fates(plan)[-1] == ("unknown/unknown", "dropped")
    assert plan.entries[-1].reason == "its image is not in the result"


def test_attestations_do_not_replace_each_other() -> None:
    source = index("linux/amd64", attestation(digest("linux/amd64")))
    destination = index("linux/arm64", attestation(IMAGE))

    plan = merge(source, destination)

    assert digests(plan.result) == [*digests(source), *digests(destination)]


def test_an_attestation_stays_with_an_image_that_both_have() -> None:
    source = index("linux/arm64")
    destination = index("linux/arm64", attestation(IMAGE))

    plan = merge(source, destination)

    assert plan.result is destination
    assert not plan.changed


def test_newer_attestations_of_one_image_replace_the_old() -> None:
    source = index("linux/arm64", attestation(IMAGE, seed="new"))
    old = [attestation(IMAGE, seed=seed) for seed in ("old", "older")]

    plan = merge(source, index("linux/arm64", *old))

    assert plan.result is source
    assert [e.fate for e in plan.entries] == ["same", "replaced", "dropped"]
    assert plan.entries[-1].reason == "the source has newer attestations"


def test_an_orphan_of_the_destination_is_dropped() -> None:
    plan = merge(index("linux/amd64"), index("linux/arm64", attestation(digest("absent"))))

    assert platforms(plan.result) == ["linux/amd64", "linux/arm64"]
    assert plan.entries[-1].fate == "dropped"


def test_an_orphan_of_the_source_stays_as_the_source_has_it() -> None:
    source = index("linux/amd64", attestation(digest("absent")))

    assert digests(merge(source, index("linux/arm64")).result)[:2] == digests(source)


def test_an_attestation_that_names_no_image_is_an_orphan() -> None:
    destination = index("linux/arm64", attestation(""))

    assert platforms(merge(index("linux/amd64"), destination).result)[-1] == "linux/arm64"


def test_an_attestation_is_no_image_for_another_attestation() -> None:
    first = attestation(digest("absent"), seed="first")
    destination = index("linux/arm64", first, attestation(digest("first"), seed="second"))

    assert len(merge(index("linux/amd64"), destination).result.manifests) == 2


def test_an_attestation_of_the_source_is_no_image_either() -> None:
    source = index("linux/amd64", attestation(digest("linux/amd64"), seed="first"))
    destination = index("linux/amd64@old", attestation(digest("first"), seed="second"))

    assert merge(source, destination).result is source


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


def test_an_entry_without_a_platform_that_both_have_is_listed_once() -> None:
    artifact = entry(None, seed="artifact")

    plan = merge(index("linux/amd64", artifact), index("linux/arm64", artifact))

    assert platforms(plan.result) == ["linux/amd64", "none", "linux/arm64"]


def test_a_nested_index_may_be_attested() -> None:
    nested = entry(None, seed="nested", media_type=OCI_INDEX)
    destination = index(nested, attestation(digest("nested")))

    assert len(merge(index("linux/amd64"), destination).result.manifests) == 3


# Law 4: what may stay of the destination.


def test_only_platforms_to_keep_stay() -> None:
    destination = index("linux/arm64", "windows/amd64", "linux/s390x", entry(None))

    plan = merge(index("linux/amd64"), destination, Policy(keep=["arm64", "windows"]))

    assert platforms(plan.result) == ["linux/amd64", "linux/arm64", "windows/amd64", "none"]
    assert plan.entries[-1].reason == "not among the platforms to keep"
    assert plan.entries[-1].previous_digest == digest("linux/s390x")


def test_platforms_to_drop_go_with_their_attestations() -> None:
    destination = index("linux/arm64", attestation(IMAGE), "linux/s390x")

    plan = merge(index("linux/amd64"), destination, Policy(drop=["arm64"]))

    assert platforms(plan.result) == ["linux/amd64", "linux/s390x"]
    reasons = [e.reason for e in plan.entries if e.fate == "dropped"]
    assert reasons == ["dropped by name", "its image is not in the result"]


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


def test_merging_twice_changes_nothing() -> None:
    source = index("linux/amd64")
    merged = merge(source, index("linux/arm64")).result

    plan = merge(source, merged)

    assert plan.result is merged
    assert not plan.changed


@pytest.mark.parametrize("media_type_field", [True, False])
def test_another_encoding_of_the_same_is_left_alone(*, media_type_field: bool) -> None:
    destination = index("linux/amd64", "linux/arm64", media_type_field=media_type_field)

    plan = merge(index("linux/amd64"), destination)

    assert plan.result is destination
    assert not plan.changed


def test_a_list_of_another_type_than_the_source_is_left_alone_too() -> None:
    source = index(DOCKER_ARM64)
    destination = index(DOCKER_ARM64, "linux/amd64", docker=True)

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


@pytest.mark.parametrize(("new", "old"), [(1, True), (0, False), (1, 1.0)])
def test_values_that_only_python_holds_equal_are_a_change(new: object, old: object) -> None:
    source = index("linux/amd64", new=new)

    plan = merge(source, index("linux/amd64", "linux/arm64", new=old))

    assert plan.changed
    assert type(plan.result.fields["new"]) is type(new)


def test_another_order_is_a_change() -> None:
    plan = merge(index("linux/amd64"), index("linux/arm64", "linux/amd64"))

    assert plan.changed
    assert platforms(plan.result) == ["linux/amd64", "linux/arm64"]


def test_a_merged_index_is_encoded_as_the_host_does() -> None:
    result = merge(index("linux/amd64"), index("linux/arm64")).result

    assert result.content == json.dumps(result.fields, sort_keys=True, indent=4).encode()
    assert result.digest == digest_of(result.content)
    assert Index.from_bytes(result.content) == result


def test_inputs_are_not_changed() -> None:
    source, destination = index("linux/amd64", subject=entry(None)), index("linux/arm64", a={})
    before = copy.deepcopy((source, destination))

    merge(source, destination)

    assert (source, destination) == before


# Law 8: the top level.


def test_the_top_level_comes_from_the_source() -> None:
    source = index("linux/amd64", annotations={"from": "source"}, new=1)
    destination = index("linux/arm64", annotations={"from": "destination"}, old=1)

    fields = merge(source, destination).result.fields

    assert (fields["annotations"], fields["new"]) == ({"from": "source"}, 1)
    assert "old" not in fields


def test_a_changed_index_has_no_subject() -> None:
    source = index("linux/amd64", subject=entry(None))

    result = merge(source, index("linux/arm64", subject=entry(None))).result

    assert "subject" not in result.fields


def test_a_changed_index_states_its_type() -> None:
    source = index("linux/amd64", media_type_field=False)

    result = merge(source, index("linux/arm64", media_type_field=False)).result

    assert result.fields["mediaType"] == result.media_type == OCI_INDEX


# Law 9: the type.


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
    ],
)
def test_a_docker_list_lists_docker_manifests_only(
    source: Index, destination: Index, expected: str
) -> None:
    assert merge(source, destination).result.media_type == expected


def test_a_docker_manifest_without_a_platform_needs_an_oci_index() -> None:
    destination = index(entry(None, media_type=DOCKER_MANIFEST), docker=True)

    assert merge(index("linux/amd64", docker=True), destination).result.media_type == OCI_INDEX


def test_an_attestation_needs_an_oci_index() -> None:
    destination = index(DOCKER_ARM64, attestation(IMAGE))

    assert merge(index("linux/amd64", docker=True), destination).result.media_type == OCI_INDEX


def test_schema_1_children_fit_a_docker_list() -> None:
    old = entry("linux/386", media_type="application/vnd.docker.distribution.manifest.v1+json")

    result = merge(index("linux/amd64", docker=True), index(old, docker=True)).result

    assert result.media_type == DOCKER_LIST


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
    source = index("linux/amd64@new", "linux/arm64@new", "linux/s390x@new")
    destination = index("linux/ppc64le@old", "linux/amd64@old", "linux/arm64@old")

    plan = merge(source, destination, Policy(eligible=["arm64"]))

    expected = ["linux/arm64@new", "linux/ppc64le@old", "linux/amd64@old"]
    assert digests(plan.result) == seeds(*expected)
    assert [e.fate for e in plan.entries] == ["replaced", "kept", "kept", "excluded", "excluded"]


def test_an_eligible_name_may_be_a_full_platform() -> None:
    source = index("linux/arm/v6@new", "linux/arm/v7@new", "windows/arm/v7@new")

    plan = merge(source, None, Policy(eligible=["linux/arm/v7"]))

    assert digests(plan.result) == seeds("linux/arm/v7@new")


def test_attestations_of_eligible_images_come_along() -> None:
    amd64, arm64 = digest("linux/amd64"), digest("linux/arm64")
    source = index("linux/amd64", "linux/arm64", attestation(amd64), attestation(arm64))

    plan = merge(source, index("linux/s390x"), Policy(eligible=["arm64"]))

    taken = [e.digest for e in plan.taken]
    assert taken == [arm64, attestation(arm64)["digest"]]
    assert plan.entries[-1].reason == "its image is not eligible"


def test_entries_without_a_platform_are_not_eligible() -> None:
    source = index("linux/arm64", entry(None), entry("unknown/unknown"))

    plan = merge(source, None, Policy(eligible=["*"]))

    assert platforms(plan.result) == ["linux/arm64"]
    assert plan.entries[-1].reason == "not eligible"


def test_an_ineligible_entry_does_not_take_the_place_of_another() -> None:
    destination = index("linux/amd64@old")

    plan = merge(index("linux/amd64@new"), destination, Policy(eligible=["arm64"]))

    assert plan.result is destination
    assert not plan.changed


def test_eligible_names_that_the_source_lacks_are_reported() -> None:
    policy = Policy(eligible=["arm64", "s390x", "linux/arm/v7"])

    plan = merge(index("linux/arm64"), index("linux/s390x"), policy)

    assert plan.missing == ("s390x", "linux/arm/v7")


def test_a_source_that_is_all_eligible_keeps_its_bytes() -> None:
    source = index("linux/amd64", "linux/arm64")

    assert merge(source, None, Policy(eligible=["amd64", "arm64"])).result is source


def test_without_eligible_names_none_is_missing() -> None:
    assert merge(index("linux/amd64"), None).missing == ()


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


def test_annotations_of_an_oci_index_do_not_end_up_in_a_docker_list() -> None:
    arm64 = entry("linux/arm64", media_type=DOCKER_MANIFEST)
    source = index(arm64, annotations={"org.opencontainers.image.version": "2"})

    plan = merge(source, index("linux/amd64", docker=True))

    assert plan.result.media_type == OCI_INDEX


def test_an_entry_without_os_does_not_end_up_in_a_docker_list() -> None:
    bare = {**entry(media_type=DOCKER_MANIFEST), "platform": {"architecture": "s390x"}}

    plan = merge(index("linux/amd64", docker=True), index(bare))

    assert plan.result.media_type == OCI_INDEX
