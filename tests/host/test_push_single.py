"""Pushes of single images, over whatever the tag holds."""

from __future__ import annotations

from typing import cast

import pytest

from pubtools_mlmerge.errors import NotAnIndex
from pubtools_mlmerge.testing import Image, ImageIndex, make_image
from tests.host.running import push
from tests.host.world import ON, REPOSITORY, THREE, World, build

AMD64 = {docker: make_image("linux/amd64", docker=docker, seed="new") for docker in (True, False)}


def push_image(world: World, mlmerge: object, *, docker: bool = True) -> str:
    """Push a single image, and return its digest."""
    digest = world.put("src/app", "new", AMD64[docker])
    push([world.new_item()], world.settings(mlmerge))
    return digest


@pytest.mark.parametrize("docker", [True, False], ids=["docker", "oci"])
def test_it_becomes_an_entry_beside_what_the_tag_has(world: World, docker: bool) -> None:
    world.put(REPOSITORY, "1", build("old", *THREE, docker=docker))
    before = world.platforms(REPOSITORY, "1")

    digest = push_image(world, ON, docker=docker)

    assert world.platforms(REPOSITORY, "1") == {**before, "linux/amd64": digest}


def test_it_becomes_an_entry_beside_a_single_image_of_another_platform(world: World) -> None:
    world.put(REPOSITORY, "1", make_image("linux/s390x", docker=True))

    push_image(world, ON)

    assert set(world.platforms(REPOSITORY, "1")) == {"linux/amd64", "linux/s390x"}


@pytest.mark.parametrize("held", [None, make_image("linux/amd64", docker=True, seed="old")])
def test_it_stays_a_single_image_where_it_would_be_the_only_entry(
    world: World, held: Image | None
) -> None:
    if held is not None:
        world.put(REPOSITORY, "1", held)

    digest = push_image(world, ON)

    assert world.digest(REPOSITORY, "1") == digest


def test_fail_refuses_it(world: World) -> None:
    old = world.put(REPOSITORY, "1", build("old", *THREE))

    with pytest.raises(NotAnIndex):
        push_image(world, {**ON, "single_image": "fail"})

    assert world.digest(REPOSITORY, "1") == old


def test_report_only_says_what_it_would_become(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "pubtools.mlmerge")
    world.put(REPOSITORY, "1", build("old", *THREE))

    digest = push_image(world, {**ON, "report_only": True})

    assert world.digest(REPOSITORY, "1") == digest
    assert "Would merge, if not report_only" in caplog.text
    assert "linux/s390x" in caplog.text


def test_a_source_container_is_copied_and_never_judged(world: World) -> None:
    held: ImageIndex = build("old", *THREE)
    world.put(REPOSITORY, "1", held)
    digest = world.put("src/app", "new", AMD64[True])
    item = world.new_item()
    build_of = cast("dict[str, dict[str, dict[str, object]]]", item.metadata["build"])
    build_of["extra"]["image"]["sources_for_nvr"] = "app-1-1"

    push([item], world.settings(ON))

    assert world.digest(REPOSITORY, "1") == digest
