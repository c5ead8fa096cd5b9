"""Inspections: what is listed, in order, and what is odd about it."""

from __future__ import annotations

import pytest
from attrs import evolve

from pubtools_mlmerge.core.manifests import DOCKER_LIST, DOCKER_MANIFEST, OCI_MANIFEST, Index
from pubtools_mlmerge.core.plan import Age
from pubtools_mlmerge.reports.inspection import Inspection, inspect, platform_text
from tests.factories import attestation, digest, entry, index

AMD64, ARM64 = digest("linux/amd64"), digest("linux/arm64")
PROOF = attestation(AMD64, seed="proof")


def kinds(inspection: Inspection) -> list[tuple[str, str | None]]:
    return [(problem.kind, problem.digest) for problem in inspection.problems]


def of(*entries: str | dict[str, object]) -> Inspection:
    return inspect("app:1", index(*entries))


def test_attestations_stand_with_their_images() -> None:
    found = of(
        "linux/amd64", "linux/arm64", attestation(ARM64), PROOF, attestation(ARM64, seed="x")
    )

    amd64, arm64 = found.images
    assert (amd64.platform, arm64.platform) == ("linux/amd64", "linux/arm64")
    assert [a.digest for a in amd64.attestations] == [digest("proof")]
    assert [a.digest for a in arm64.attestations] == [
        digest(f"attestation of {ARM64}"),
        digest("x"),
    ]
    assert (found.attestation_count, found.orphans, found.problems) == (3, (), ())


def test_an_attestation_may_come_before_its_image() -> None:
    found = of(PROOF, "linux/amd64")

    assert [len(image.attestations) for image in found.images] == [1]
    assert found.problems == ()


@pytest.mark.parametrize("named", ["", digest("elsewhere")])
def test_an_attestation_without_its_image_is_an_orphan(named: str) -> None:
    found = of("linux/amd64", attestation(named, seed="orphan"))

    assert [orphan.digest for orphan in found.orphans] == [digest("orphan")]
    assert kinds(found) == [("orphan", digest("orphan"))]
    assert f"the attestation of {named or 'nothing'} has no image" in found.problems[0].message


def test_an_attestation_of_an_attestation_is_an_orphan() -> None:
    found = of("linux/amd64", PROOF, attestation(digest("proof"), seed="second"))

    assert kinds(found) == [("orphan", digest("second"))]


def test_two_images_in_one_slot_are_told() -> None:
    found = of("linux/arm64", entry("linux/arm64/v8", seed="again"), entry("linux/arm64", seed="3"))

    assert kinds(found) == [("duplicate", digest("again")), ("duplicate", digest("3"))]
    assert found.problems[0].message == f"linux/arm64 is listed before, as {ARM64}"
    assert found.odd == {digest("again"), digest("3")}


def test_one_image_listed_twice_has_its_attestations_once() -> None:
    found = of("linux/amd64", "linux/amd64", PROOF)

    assert [len(image.attestations) for image in found.images] == [1, 0]
    assert kinds(found) == [("duplicate", AMD64)]


@pytest.mark.parametrize("platform", [None, "unknown/unknown"])
def test_an_image_without_platform_is_told(platform: str | None) -> None:
    found = of("linux/amd64", entry(platform, seed="bare"), entry(platform, seed="other"))

    assert kinds(found) == [("no-platform", digest("bare")), ("no-platform", digest("other"))]
    assert found.images[1].platform is None


def mixed(*types: str, docker: bool) -> Index:
    entries = [entry(f"linux/{n}", media_type=t) for n, t in zip("abc", types)]
    return index(*entries, docker=docker)


@pytest.mark.parametrize(
    ("types", "docker", "is_odd"),
    [
        ((DOCKER_MANIFEST, OCI_MANIFEST), False, True),
        ((DOCKER_MANIFEST, OCI_MANIFEST), True, True),
        ((OCI_MANIFEST,), True, True),
        (("application/x",), True, True),
        ((DOCKER_MANIFEST, DOCKER_LIST), True, False),
        ((DOCKER_MANIFEST,), False, False),
        ((OCI_MANIFEST, "application/x"), False, False),
        ((), True, False),
    ],
)
def test_docker_and_oci_together_are_told(
    types: tuple[str, ...], docker: bool, is_odd: bool
) -> None:
    found = inspect("app:1", mixed(*types, docker=docker))

    assert kinds(found) == ([("mixed-types", None)] if is_odd else [])


def test_what_is_missing_is_told_once() -> None:
    listed = index("linux/amd64", "linux/arm64", PROOF, PROOF)

    found = inspect("app:1", listed, missing=[ARM64, digest("proof"), digest("not listed")])

    assert kinds(found) == [("missing", ARM64), ("missing", digest("proof"))]
    assert found.problems[1].message == f"the attestation of {AMD64} is not in the repository"
    assert (found.is_checked, found.lacks_something) == (True, True)


def test_nothing_is_said_of_what_nobody_looked_for() -> None:
    listed = index("linux/amd64")

    assert (of("linux/amd64").is_checked, of("linux/amd64").lacks_something) == (False, False)
    checked = inspect("app:1", listed, missing=())
    assert (checked.is_checked, checked.lacks_something) == (True, False)


def test_ages_stand_with_their_images() -> None:
    found = inspect("app:1", index("linux/amd64", "linux/arm64", PROOF), {ARM64: Age(days=3)})

    assert [image.age for image in found.images] == [None, Age(days=3)]
    assert found.has_ages
    assert not of("linux/amd64").has_ages


def test_each_manifest_counts_once_to_the_size() -> None:
    found = of("linux/amd64", "linux/amd64", entry("linux/arm64", size=1000), PROOF)

    assert found.size == 1234 + 1000 + 1234


def test_a_message_is_one_line_whatever_a_registry_wrote() -> None:
    odd: dict[str, object] = {"os": "linux", "architecture": "a\x1b[2J\n" + "b" * 500}
    found = of(entry(None, seed="1", platform=odd), entry(None, seed="2", platform=odd))

    (problem,) = found.problems
    assert problem.message.isprintable()
    assert len(problem.message) < 400


@pytest.mark.parametrize(
    ("platform", "expected"),
    [
        ({"os": "linux", "architecture": "x86_64"}, "linux/amd64"),
        (
            {"os": "windows", "architecture": "amd64", "os.version": "10.0.17763.1"},
            "windows/amd64 (10.0.17763)",
        ),
        (
            {"os": "linux", "architecture": "amd64", "os.features": ["b", "a"]},
            "linux/amd64 (a, b)",
        ),
    ],
)
def test_a_platform_has_all_that_tells_it_from_others(
    platform: dict[str, object], expected: str
) -> None:
    (found,) = index(entry(None, platform=platform)).manifests

    assert platform_text(found) == expected
    assert platform_text(evolve(found, slot=None)) is None
