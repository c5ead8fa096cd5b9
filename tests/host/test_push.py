"""Pushes of the real host that merge."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from pubtools.pluggy import hookimpl

from pubtools_mlmerge.errors import MixedTypes
from pubtools_mlmerge.testing import make_attestation, make_image, make_index
from tests.host.running import copy, push
from tests.host.world import ON, THREE, TWO, World, build, spoken


@pytest.mark.parametrize("docker", [True, False], ids=["docker", "oci"])
def test_a_partial_build_keeps_what_it_lacks(world: World, docker: bool, tmp_path: Path) -> None:
    old, new = build("old", *THREE, docker=docker), build("new", *TWO, docker=docker)
    world.put("ns/a----app", "1", old)
    world.put("src/app", "new", new)

    push([world.push_item("src/app:new", {"a/app": ["1"]})], world.settings(ON))

    expected = [new.children[0].digest, new.children[1].digest, old.children[2].digest]
    merged = world.read("ns/a----app", "1")
    assert [entry.digest for entry in merged.manifests] == expected
    assert merged.media_type == new.media_type
    for platform in THREE:
        world.pull("ns/a----app", "1", platform, tmp_path / platform.replace("/", "-"))
    pulled = tmp_path / "linux-s390x" / "manifest.json"
    assert f"sha256:{hashlib.sha256(pulled.read_bytes()).hexdigest()}" == expected[2]


def test_every_tag_is_merged_on_its_own(world: World) -> None:
    first, second = build("first", "linux/amd64", "linux/s390x"), build("second", "linux/ppc64le")
    world.put("ns/a----app", "1", first)
    world.put("ns/a----app", "2", second)
    world.put("ns/b----app", "1", second)
    world.put("src/app", "new", build("new", "linux/amd64"))

    push(
        [world.push_item("src/app:new", {"a/app": ["1", "2"], "b/app": ["1"]})], world.settings(ON)
    )

    assert list(world.platforms("ns/a----app", "1")) == ["linux/amd64", "linux/s390x"]
    assert list(world.platforms("ns/a----app", "2")) == ["linux/amd64", "linux/ppc64le"]
    assert list(world.platforms("ns/b----app", "1")) == ["linux/amd64", "linux/ppc64le"]


def test_children_come_once_into_each_repository(world: World) -> None:
    new = build("new", *TWO)
    for repository, name in (("a----app", "1"), ("a----app", "2"), ("b----app", "1")):
        world.put(f"ns/{repository}", name, build("old", *THREE))
    world.put("src/app", "new", new)
    item = world.push_item("src/app:new", {"a/app": ["1", "2"], "b/app": ["1"]})
    world.log.forget()

    push([item], world.settings({**ON, "anchor_tag": None}))

    children = sorted(child.digest for child in new.children)
    for repository, tags in (("ns/a----app", ["1", "2"]), ("ns/b----app", ["1"])):
        assert sorted(world.log.puts(repository)) == [*tags, *children]
    assert not any(made.is_by_skopeo for made in world.log.writes())


def test_an_index_that_the_host_takes_for_a_single_image_is_not_copied_first(world: World) -> None:
    world.put("ns/a----app", "1", build("old", *THREE, docker=False))
    world.put("src/app", "new", build("new", *TWO, docker=False))
    world.log.forget()

    push([world.push_item("src/app:new", {"a/app": ["1"]})], world.settings(ON))

    assert not any(made.is_by_skopeo for made in world.log.made())


def test_attestations_stay_with_kept_images(world: World) -> None:
    images = [make_image(platform, seed="old") for platform in TWO]
    attestations = [make_attestation(image) for image in images]
    world.put("ns/a----app", "1", make_index([*images, *attestations]))
    world.put("src/app", "new", build("new", "linux/amd64", docker=False))

    push([world.push_item("src/app:new", {"a/app": ["1"]})], world.settings(ON))

    left = [entry.digest for entry in world.read("ns/a----app", "1").manifests]
    assert left[1:] == [images[1].digest, attestations[1].digest]


def test_docker_over_oci_is_refused_before_the_first_write_of_any_item(world: World) -> None:
    world.put("ns/a----app", "1", build("old", *TWO))
    world.put("ns/b----app", "1", build("old", *THREE, docker=False))
    world.put("src/app", "new", build("new", "linux/amd64"))
    items = [world.push_item("src/app:new", {f"{name}/app": ["1", "2"]}) for name in ("a", "b")]
    world.log.forget()

    with pytest.raises(MixedTypes, match="ns/b----app:1") as caught:
        push(items, world.settings(ON, num_thread_container_push=1))

    assert world.log.writes() == []
    for words in ("Docker manifests", "OCI manifests", "mixed_types"):
        assert words in str(caught.value)


def test_docker_over_oci_gives_an_index_that_lists_both_where_that_is_allowed(
    world: World,
) -> None:
    world.put("ns/a----app", "1", build("old", *THREE, docker=False))
    world.put("src/app", "new", build("new", *TWO))

    item = world.push_item("src/app:new", {"a/app": ["1"]})
    push([item], world.settings({**ON, "mixed_types": "oci"}))

    merged = world.read("ns/a----app", "1")
    assert merged.media_type == "application/vnd.oci.image.index.v1+json"
    assert set(world.platforms("ns/a----app", "1")) == set(THREE)


def test_a_product_that_moves_to_oci_goes_up_with_one_warning(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.put("ns/a----app", "1", build("old", *TWO))
    digest = world.put("src/app", "new", build("new", *THREE, docker=False))

    push([world.push_item("src/app:new", {"a/app": ["1"]})], world.settings(ON))

    assert world.digest("ns/a----app", "1") == digest
    tag = world.reference("ns/a----app", "1")
    assert sum(line.startswith(f"{tag}: ") for line in caplog.messages) == 1


def test_a_push_item_sets_what_concerns_its_merge(world: World) -> None:
    world.put("ns/a----app", "1", build("old", *THREE))
    digest = world.put("src/app", "new", build("new", *TWO))
    item = world.push_item("src/app:new", {"a/app": ["1"]})
    item.metadata["mlmerge"] = {"drop": ["s390x"]}

    push([item], world.settings(ON))

    assert world.digest("ns/a----app", "1") == digest


class Meeting:
    """Lets two threads in only when both have come."""

    def __init__(self) -> None:
        self.barrier = threading.Barrier(2)

    @hookimpl
    def mlmerge_lock(self, reference: str) -> None:
        self.barrier.wait(timeout=20)


def test_two_items_into_one_tag_lose_nothing(
    world: World, plugged: Callable[[object], None]
) -> None:
    plugged(Meeting())
    world.put("ns/a----app", "1", build("old", *THREE))
    world.put("src/app", "one", build("one", "linux/amd64"))
    world.put("src/app", "two", build("two", "linux/arm64"))
    items = [world.push_item(f"src/app:{name}", {"a/app": ["1"]}) for name in ("one", "two")]

    copy(items, world.settings(ON))

    expected = {
        **world.platforms("ns/a----app", "1"),
        "linux/amd64": world.platforms("src/app", "one")["linux/amd64"],
        "linux/arm64": world.platforms("src/app", "two")["linux/arm64"],
    }
    assert world.platforms("ns/a----app", "1") == expected
    assert set(expected) == set(THREE)


def test_what_holds_all_of_it_already_is_left_alone(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.put("ns/a----app", "1", build("old", *THREE))
    world.put("src/app", "new", build("new", *TWO))
    item = world.push_item("src/app:new", {"a/app": ["1"]})
    push([item], world.settings(ON))
    world.log.forget()
    caplog.set_level("INFO", "pubtools.mlmerge")

    push([item], world.settings(ON))

    assert world.log.writes() == []
    assert not any("Merge of" in line for line in caplog.messages)


def test_an_anchor_tag_holds_each_merged_index(world: World) -> None:
    world.put("ns/a----app", "1", build("old", *THREE))
    world.put("ns/a----app", "2", build("other", *THREE))
    world.put("src/app", "new", build("new", *TWO))

    push([world.push_item("src/app:new", {"a/app": ["1", "2"]})], world.settings(ON))

    for name in ("1", "2"):
        (anchor,) = [t for t in world.tags("ns/a----app") if t.startswith(f"{name}-20")]
        assert world.digest("ns/a----app", anchor) == world.digest("ns/a----app", name)


def test_no_anchor_tag_is_set_where_none_is_wanted(world: World) -> None:
    world.put("ns/a----app", "1", build("old", *THREE))
    world.put("src/app", "new", build("new", *TWO))
    settings = world.settings({**ON, "anchor_tag": None})

    push([world.push_item("src/app:new", {"a/app": ["1"]})], settings)

    assert world.tags("ns/a----app") == ["1"]
    assert set(world.platforms("ns/a----app", "1")) == set(THREE)


def test_a_single_image_in_the_tag_becomes_an_entry(world: World) -> None:
    world.put("ns/a----app", "1", make_image("linux/s390x", docker=True))
    world.put("src/app", "new", build("new", *TWO))

    push([world.push_item("src/app:new", {"a/app": ["1"]})], world.settings(ON))

    assert set(world.platforms("ns/a----app", "1")) == set(THREE)


def test_annotations_that_are_not_ascii_survive(world: World) -> None:
    world.put("ns/a----app", "1", spoken(build("old", *THREE, docker=False)))
    world.put("src/app", "new", spoken(build("new", *TWO, docker=False)))

    push([world.push_item("src/app:new", {"a/app": ["1"]})], world.settings(ON))

    assert world.read("ns/a----app", "1").fields["annotations"] == {"title": "Müller — ☃"}
