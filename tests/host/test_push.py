"""Pushes of the real host: what is merged, and what ends in its plain copy."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from pubtools_mlmerge.errors import MixedTypes
from pubtools_mlmerge.testing import make_image
from tests.host.requests_made import Made
from tests.host.running import copy, push, push_new
from tests.host.stand_ins import RecordingSigner
from tests.host.world import ON, REPOSITORY, THREE, TWO, World, build

Log = pytest.LogCaptureFixture

KINDS = pytest.mark.parametrize("docker", [True, False], ids=["docker", "oci"])


@KINDS
def test_a_partial_build_keeps_what_it_lacks(world: World, docker: bool, tmp_path: Path) -> None:
    world.fill(docker=docker)
    old, new = world.platforms(REPOSITORY, "1"), world.platforms("src/app", "new")

    push_new(world)

    merged = world.read(REPOSITORY, "1")
    expected = [*new.values(), old["linux/s390x"]]
    assert [entry.digest for entry in merged.manifests] == expected
    assert merged.media_type == world.read("src/app", "new").media_type
    assert not any(made.is_by_skopeo for made in world.log.made())  # also where the host sees none
    for platform in THREE:
        world.pull(REPOSITORY, "1", platform, tmp_path / platform.replace("/", "-"))
    pulled = tmp_path / "linux-s390x" / "manifest.json"
    assert f"sha256:{hashlib.sha256(pulled.read_bytes()).hexdigest()}" == expected[2]


def test_docker_over_oci_is_refused_before_the_first_write_of_any_item(
    world: World, caplog: Log
) -> None:
    world.put(REPOSITORY, "1", build("old", *TWO))
    for name in ("1", "2"):
        world.put("ns/b----app", name, build("old", *THREE, docker=False))
    for name in ("a", "b"):  # the host takes one item of each source
        world.put("src/app", name, build("new", "linux/amd64"))
    items = [world.push_item(f"src/app:{n}", {f"{n}/app": ["1", "2"]}) for n in ("a", "b")]
    world.log.forget()

    with pytest.raises(MixedTypes, match="ns/b----app:1") as caught:
        push(items, world.settings(ON, num_thread_container_push=1))

    assert world.log.writes() == []
    for words in ("Docker manifests", "OCI manifests", "mixed_types"):
        assert words in str(caught.value)
    assert any(str(world.reference("ns/b----app", "2")) in line for line in caplog.messages)


def test_a_product_that_moves_to_oci_goes_up_with_one_warning(world: World, caplog: Log) -> None:
    world.put(REPOSITORY, "1", build("old", *TWO))
    digest = world.put("src/app", "new", build("new", *THREE, docker=False))

    push_new(world)

    assert world.digest(REPOSITORY, "1") == digest
    tag = world.reference(REPOSITORY, "1")
    assert sum(line.startswith(f"{tag}: ") for line in caplog.messages) == 1


def test_a_push_item_sets_what_concerns_its_merge(world: World) -> None:
    item = world.fill()
    item.metadata["mlmerge"] = {"drop": ["s390x"]}

    push([item], world.settings(ON))

    assert world.digest(REPOSITORY, "1") == world.digest("src/app", "new")


@KINDS
def test_a_single_image_becomes_an_entry_beside_what_the_tag_has(
    world: World, docker: bool
) -> None:
    world.put(REPOSITORY, "1", build("old", *THREE, docker=docker))
    before = world.platforms(REPOSITORY, "1")
    digest = world.put("src/app", "new", make_image("linux/amd64", docker=docker, seed="new"))

    push_new(world)

    assert world.platforms(REPOSITORY, "1") == {**before, "linux/amd64": digest}


def test_a_source_container_is_copied_and_never_judged(world: World) -> None:
    item = world.fill()
    digest = world.put("src/app", "new", make_image("linux/amd64", docker=True))
    image = {"media_types": [], "sources_for_nvr": "app-1-1"}
    item.metadata["build"] = {"extra": {"image": image}}

    push([item], world.settings(ON))

    assert world.digest(REPOSITORY, "1") == digest


# What the host copies


def test_some_tags_are_merged_and_the_others_copied(world: World) -> None:
    world.fill("1")
    world.put(REPOSITORY, "covered", build("old", *TWO))

    push_new(world, "1", "covered", "absent", mlmerge={**ON, "anchor_tag": "{tag}-kept"})

    assert len(world.platforms(REPOSITORY, "1")) == 3
    for name in ("covered", "absent"):
        assert world.digest(REPOSITORY, name) == world.digest("src/app", "new")
    assert world.tags(REPOSITORY) == ["1", "1-kept", "absent", "covered"]


def test_an_item_without_tags_is_copied_nowhere(world: World) -> None:
    world.fill()

    copy([world.push_item("src/app:new", {})], world.settings(ON))

    assert world.log.writes() == []


def written_and_signed(world: World, docker: bool, mlmerge: object) -> tuple[list[Made], object]:
    """Push what a merge would change; skopeo uploads several things at once, so without order."""
    world.empty()
    RecordingSigner.signed.clear()
    push([world.fill(docker=docker)], world.settings(mlmerge))
    return sorted(world.log.writes()), list(RecordingSigner.signed)


@KINDS
def test_report_only_logs_the_plan_and_writes_what_the_host_writes(
    world: World, docker: bool, caplog: Log
) -> None:
    expected = written_and_signed(world, docker, None)
    caplog.set_level("INFO", "pubtools.mlmerge")

    assert written_and_signed(world, docker, {**ON, "report_only": True}) == expected
    assert "Would merge, if not report_only" in caplog.text
    assert "linux/s390x" in caplog.text
