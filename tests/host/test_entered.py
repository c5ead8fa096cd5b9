"""A reader who follows a task goes through few of our modules."""

from __future__ import annotations

from tests.entered import modules_entered
from tests.host.running import push, tag
from tests.host.world import ON, REPOSITORY, World, build


def arrange(world: World, source: str) -> None:
    world.put(REPOSITORY, "1", build("old", "linux/amd64", "linux/s390x"))
    repository, _, name = source.partition(":")
    world.put(repository, name, build("new", "linux/amd64"))


def test_a_push_enters_at_most_34_modules(world: World) -> None:
    arrange(world, "src/app:new")
    item = world.new_item()

    entered = modules_entered(lambda: push([item], world.settings(ON)))

    assert set(world.platforms(REPOSITORY, "1")) == {"linux/amd64", "linux/s390x"}
    assert len(entered) <= 34, " ".join(entered)


def test_tag_docker_enters_at_most_32_modules(world: World) -> None:
    arrange(world, f"{REPOSITORY}:build")
    item = world.tag_item("a/app", source="build", add=["1"], archs=["amd64"])

    entered = modules_entered(lambda: tag([item], world.settings(ON)))

    assert set(world.platforms(REPOSITORY, "1")) == {"linux/amd64", "linux/s390x"}
    assert len(entered) <= 32, " ".join(entered)
