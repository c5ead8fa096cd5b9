"""What docs/upstream.rst asks of pubtools-quay fits the installed one."""

from __future__ import annotations

import importlib
import re

import pytest
from pubtools._quay import push_docker

from pubtools_mlmerge.host import seams
from tests.host.running import push_new
from tests.host.stand_ins import RecordingSigner, add_proposed_hooks, source_of
from tests.host.world import ON, REPOSITORY, THREE, TWO, World, build


def test_the_hooks_have_no_names_that_are_taken() -> None:
    hooks = importlib.import_module("pubtools._quay.hooks")

    assert not {"quay_images_tagging", "quay_images_signing"} & vars(hooks).keys()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("container_image_pusher.ContainerImagePusher.copy_source_push_item", "run_tag_images("),
        ("push_docker.mod_entry_point", "push.run()"),
        ("tag_docker.mod_entry_point", "tag_docker.run()"),
    ],
)
def test_the_places_of_the_calls_are_there(name: str, text: str) -> None:
    assert text in source_of(name)


@pytest.mark.parametrize("module", ["push_docker", "tag_docker"])
def test_the_entry_points_open_no_task_context(module: str) -> None:
    assert not re.search(r"\btask_context\b", source_of(module))


@pytest.fixture
def changed_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the host have the hooks, and none of the names that they make unnecessary."""
    for name in ("ContainerImagePusher", "item_processor_for_internal_data"):
        monkeypatch.setattr(push_docker, name, seams._REPLACED["push_docker", name])
    add_proposed_hooks(monkeypatch)


def push_it(world: World, mlmerge: object) -> tuple[object, ...]:
    """Push over two tags and a new one; tell what they hold and what was signed."""
    world.empty()
    RecordingSigner.signed.clear()
    world.fill("1")
    world.put(REPOSITORY, "2", build("old", *TWO))
    push_new(world, "1", "2", "new", mlmerge=mlmerge)
    claims = sorted((e.pub_reference, e.digest, e.arch) for e in RecordingSigner.signed)
    return world.platforms(REPOSITORY, "1"), claims, world.tags(REPOSITORY)


@pytest.mark.parametrize("mlmerge", [{**ON, "anchor_tag": None}, None], ids=["on", "off"])
def test_where_the_host_has_the_hooks_they_do_what_the_seams_did(
    world: World, request: pytest.FixtureRequest, mlmerge: object
) -> None:
    expected = push_it(world, mlmerge)

    request.getfixturevalue("changed_host")

    assert push_it(world, mlmerge) == expected
    assert (len(world.platforms(REPOSITORY, "1")) == len(THREE)) == bool(mlmerge)
