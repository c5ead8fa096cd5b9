"""Taking platforms out of an index."""

from __future__ import annotations

import copy

import pytest

from pubtools_mlmerge.core.manifests import DOCKER_LIST, OCI_INDEX
from pubtools_mlmerge.core.merge import remove
from pubtools_mlmerge.core.platforms import PlatformPattern
from pubtools_mlmerge.errors import EmptyIndex, InvalidPlatform
from tests.factories import attestation, digest, entry, index, platforms

ARM64 = digest("linux/arm64")


def test_removal_leaves_the_rest_in_order() -> None:
    plan = remove(index("linux/s390x", "linux/arm64", "linux/amd64"), ["arm64"])

    assert platforms(plan.result) == ["linux/s390x", "linux/amd64"]
    assert [e.fate for e in plan.entries] == ["kept", "kept", "dropped"]
    assert plan.changed


def test_removal_takes_the_attestations_along() -> None:
    found = index("linux/arm64", "linux/amd64", attestation(ARM64), attestation("sha256:x"))

    plan = remove(found, ["arm64"])

    assert platforms(plan.result) == ["linux/amd64", "unknown/unknown"]
    reasons = [e.reason for e in plan.entries if e.fate == "dropped"]
    assert reasons == ["removed by name", "its image is removed"]


def test_attestations_stay_while_their_image_is_listed_for_another_platform() -> None:
    twice = [entry(text, seed="one") for text in ("linux/arm/v6", "linux/arm/v7")]

    plan = remove(index(*twice, attestation(digest("one"))), ["arm/v6"])

    assert platforms(plan.result) == ["linux/arm/v7", "unknown/unknown"]


def test_an_attestation_does_not_stand_for_an_image_of_its_digest() -> None:
    confusing = attestation(digest("absent"), seed="linux/arm64")

    plan = remove(index("linux/arm64", confusing, attestation(ARM64)), ["arm64"])

    assert [e.attests for e in plan.result.manifests] == [digest("absent")]


def test_a_dropped_entry_names_the_digest_that_was_there() -> None:
    plan = remove(index("linux/arm64", "linux/amd64"), ["arm64"])

    assert plan.entries[-1].previous_digest == ARM64


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


def test_removing_again_changes_nothing() -> None:
    once = remove(index("linux/arm64", "linux/amd64"), ["arm64"]).result

    assert remove(once, ["arm64"]).result is once


def test_an_index_is_not_emptied_by_accident() -> None:
    with pytest.raises(EmptyIndex) as caught:
        remove(index("linux/arm64", attestation(ARM64)), ["arm64", "s390x"])

    assert caught.value.removed == ("arm64", "s390x")


def test_an_index_is_emptied_where_that_is_allowed() -> None:
    plan = remove(index("linux/arm64", attestation(ARM64)), ["arm64"], allow_empty=True)

    assert plan.result.manifests == ()
    assert plan.changed


@pytest.mark.parametrize(("docker", "expected"), [(True, DOCKER_LIST), (False, OCI_INDEX)])
def test_the_type_stays_and_is_stated(*, docker: bool, expected: str) -> None:
    found = index("linux/arm64", "linux/amd64", docker=docker, media_type_field=False)

    assert remove(found, ["arm64"]).result.fields["mediaType"] == expected


def test_the_rest_of_the_index_stays_but_its_subject() -> None:
    found = index("linux/arm64", "linux/amd64", annotations={"é": "ü"}, subject=entry(None))

    fields = remove(found, ["arm64"]).result.fields

    assert fields["annotations"] == {"é": "ü"}
    assert "subject" not in fields


def test_patterns_may_be_given_as_patterns() -> None:
    plan = remove(index("linux/arm64", "linux/amd64"), [PlatformPattern.parse("arm64")])

    assert platforms(plan.result) == ["linux/amd64"]


def test_a_bad_pattern_is_refused() -> None:
    with pytest.raises(InvalidPlatform):
        remove(index("linux/arm64"), ["a/b/c/d"])


def test_the_index_is_not_changed() -> None:
    found = index("linux/arm64", "linux/amd64", subject=entry(None))
    before = copy.deepcopy(found)

    remove(found, ["arm64"])

    assert found == before
