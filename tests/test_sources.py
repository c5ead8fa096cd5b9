"""Several sources into one tag: law 1, and what the commands make of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from attrs import evolve

from pubtools_mlmerge.core.manifests import Image as SingleImage
from pubtools_mlmerge.core.manifests import Index, Manifest
from pubtools_mlmerge.core.merge import Side, combine, merge_manifests
from pubtools_mlmerge.core.plan import Plan, Policy
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import MixedTypes, NotAnIndex, SourcesDiffer
from pubtools_mlmerge.testing import (
    Image,
    ImageIndex,
    RegistryServer,
    make_attestation,
    make_image,
    make_index,
)
from tests.programs import Done, put, run_here

PLATFORMS = ("linux/amd64", "linux/arm64", "linux/ppc64le", "linux/s390x")
AMD64, ARM64, PPC64LE, S390X = (make_image(platform) for platform in PLATFORMS)
RISCV64, OTHER_AMD64 = make_image("linux/riscv64"), make_image("linux/amd64", seed="other")
OLD = make_index([make_image("linux/s390x", seed="old"), RISCV64])
REFERENCE = Reference("registry.invalid", "app", tag="a")


def side(*items: Image, name: str = "a") -> Side:
    made = make_index(items)
    index = Index.from_bytes(made.content, made.media_type)
    return Side(evolve(REFERENCE, tag=name), index, index)


def plan_of(*sides: Side, policy: Policy | None = None, old: Side | None = None) -> Plan[Manifest]:
    policy = policy or Policy()
    return merge_manifests(combine(sides, policy), old, policy)


def digests(plan: Plan[Manifest]) -> list[str]:
    assert isinstance(plan.result, Index)
    return [entry.digest for entry in plan.result.manifests]


def test_sources_come_in_order_and_the_first_that_has_a_slot_wins_it() -> None:
    other = [make_attestation(OTHER_AMD64), OTHER_AMD64, S390X]
    first, second = side(ARM64, AMD64), side(*other, name="b")

    plan = plan_of(first, second, old=side(make_image("linux/s390x", seed="old"), RISCV64))

    kept = RISCV64.digest
    assert digests(plan) == [ARM64.digest, AMD64.digest, S390X.digest, kept]
    (warning,) = plan.warnings
    assert "linux/amd64 of registry.invalid/app:b is left out: an earlier source" in warning
    out = {entry.descriptor.digest for entry in plan.entries if entry.fate == "excluded"}
    assert out == {other[0].digest, OTHER_AMD64.digest}


def test_with_strict_a_second_image_for_a_platform_is_an_error() -> None:
    with pytest.raises(SourcesDiffer, match="different image for linux/amd64 of"):
        plan_of(side(AMD64), side(OTHER_AMD64, name="b"), policy=Policy(strict=True))

    plan = plan_of(side(AMD64), side(AMD64, ARM64, name="b"), policy=Policy(strict=True))
    assert (digests(plan), plan.warnings) == ([AMD64.digest, ARM64.digest], ())
    # What is not taken from anywhere is no matter.
    other = side(OTHER_AMD64, ARM64, name="b")
    plan = plan_of(side(AMD64), other, policy=Policy(strict=True, eligible=["arm64"]))
    assert (digests(plan), plan.warnings) == ([ARM64.digest], ())


def test_attestations_come_from_any_source_that_has_them() -> None:
    attestation = make_attestation(AMD64)

    plan = plan_of(side(AMD64), side(attestation, AMD64, name="b"))

    assert digests(plan) == [AMD64.digest, attestation.digest]


def test_an_attestation_of_no_listed_image_is_carried_from_any_source() -> None:
    """It is left out only with an image that an earlier source comes before."""
    of_other, orphan = make_attestation(OTHER_AMD64), make_attestation(PPC64LE)
    one, two = (
        evolve(make_attestation(image), annotations={"vnd.docker.reference.type": "x"})
        for image in (S390X, RISCV64)  # they name no image
    )

    plan = plan_of(side(AMD64, one), side(orphan, OTHER_AMD64, of_other, two, ARM64, name="b"))

    carried = [each.digest for each in (AMD64, one, orphan, two, ARM64)]
    assert digests(plan) == carried


def test_sources_of_both_types_are_listed_together_unless_that_is_ruled_out() -> None:
    sides = side(AMD64), side(make_image("linux/arm64", docker=True), name="b")

    (warning,) = plan_of(*sides).warnings
    assert "Docker manifests (linux/arm64) beside OCI manifests (linux/amd64)" in warning
    with pytest.raises(MixedTypes):
        plan_of(*sides, policy=Policy(mixed_types="fail"))
    assert plan_of(*sides, policy=Policy(mixed_types="fail", eligible=["arm64"])).missing == ()


def test_a_source_that_adds_nothing_leaves_the_first_one_as_it_is() -> None:
    first = side(AMD64, ARM64)

    assert plan_of(first, side(ARM64, name="b")).result is first.manifest


def merge(server: RegistryServer, *options: str) -> Done:
    return run_here("merge", "--quay-host", server.url, "--output", "json", *options)


def put_all(server: RegistryServer, *items: Image | ImageIndex, repository: str = "app") -> str:
    names = [put(server, str(number), item, repository) for number, item in enumerate(items)]
    return ",".join(names)


def listed_in(server: RegistryServer, tag: str) -> list[str]:
    """List the digests in an index."""
    listed = json.loads(server.manifest("app", tag).content)["manifests"]
    return [entry["digest"] for entry in listed]


def test_sources_of_several_repositories_are_read_once_for_many_tags(
    registry_server: RegistryServer,
) -> None:
    one = put_all(registry_server, AMD64, repository="one")
    two = put_all(registry_server, make_index([ARM64, make_attestation(ARM64)]), repository="two")
    tags = ",".join(f"{registry_server.host}/app:{name}" for name in "abc")

    done = merge(registry_server, "--source-ref", one, "--source-ref", two, "--dest-ref", tags)

    assert done.code == 0, done.err
    asked = [each.path for each in registry_server.requests if each.method == "GET"]
    assert asked.count("/v2/one/manifests/0") == asked.count("/v2/two/manifests/0") == 1
    assert sum("/v2/one/blobs/" in path for path in asked) == 1
    for name in "abc":
        listed = listed_in(registry_server, name)
        assert (listed[:2], len(listed)) == ([AMD64.digest, ARM64.digest], 3)
    # The images came from the repository that has them, in one upload each.
    assert registry_server.manifest("app", AMD64.digest).content == AMD64.content


@pytest.mark.parametrize(
    ("images", "options"), [((AMD64, AMD64), ()), ((AMD64, ARM64), ("--arch=amd64",))]
)
def test_one_image_of_several_sources_is_still_in_an_index(
    registry_server: RegistryServer, images: tuple[Image, ...], options: tuple[str, ...]
) -> None:
    references = put_all(registry_server, *images)
    stable = put(registry_server, "stable", AMD64)

    done = merge(registry_server, "--source-ref", references, "--dest-ref", stable, *options)

    assert done.code == 0, done.err
    assert {*listed_in(registry_server, "stable")} == {AMD64.digest}


def test_an_artifact_and_at_will_a_single_image_among_the_sources_is_refused() -> None:
    read, fail = (
        SingleImage.from_bytes(AMD64.content, AMD64.media_type),
        Policy(single_image="fail"),
    )
    image = Side(REFERENCE, read, read.wrap({"architecture": "amd64"}))

    for refused, policy in ((evolve(image, index=read.wrap(None)), Policy()), (image, fail)):
        with pytest.raises(NotAnIndex):
            combine([side(ARM64), refused], policy)
    assert len(digests(plan_of(side(ARM64), image))) == 2
    assert len(digests(plan_of(side(ARM64), side(AMD64), policy=fail))) == 2


def test_a_line_of_a_batch_may_name_several_sources(
    registry_server: RegistryServer, tmp_path: Path
) -> None:
    references = put_all(registry_server, AMD64, ARM64).split(",")
    new, newer = (f"{registry_server.host}/app:{name}" for name in ("new", "newer"))
    pairs = [(references, new), ([references[0], new], newer)]  # the second waits for the first
    lines = [json.dumps({"source_ref": sources, "dest_ref": tag}) for sources, tag in pairs]
    batch = tmp_path / "batch"
    batch.write_text("\n".join(lines))

    done = merge(registry_server, "--batch", str(batch))

    assert done.code == 0, done.err
    held = registry_server.manifest("app", "new").digest
    assert [report["digest"] for report in done.reports] == [held, held]


def test_an_option_may_repeat_its_value(registry_server: RegistryServer) -> None:
    reference = put_all(registry_server, AMD64)
    same = ("--threads", "2", "--threads", "2", "--copy", "auto", "--copy", "auto")

    done = merge(registry_server, "--source-ref", reference, "--dest-ref", reference, *same)

    assert done.code == 0, done.err
