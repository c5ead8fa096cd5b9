"""What a push costs: requests, threads and connections."""

from __future__ import annotations

import threading

from tests.host.running import push
from tests.host.world import ON, World, build

THREE = ("linux/amd64", "linux/arm64", "linux/s390x")
TAGS = [str(number) for number in range(5)]
MOST = 89


def test_a_push_of_five_tags_makes_no_more_requests_than_it_did(world: World) -> None:
    for name in TAGS:
        world.put("ns/a----app", name, build(f"old {name}", *THREE))
    new = build("new", *THREE[:2])
    world.put("src/app", "new", new)
    world.put("ns/a----app", "candidate", new)  # its images are in the repository
    item = world.push_item("src/app:new", {"a/app": TAGS})
    world.log.forget()

    push([item], world.settings(ON))

    assert len(world.log.made()) <= MOST


def test_threads_and_connections_end_with_each_push(world: World) -> None:
    world.put("src/app", "new", build("new", *THREE[:2]))
    item = world.push_item("src/app:new", {"a/app": TAGS})

    def run(version: str) -> set[threading.Thread]:
        for name in TAGS:
            world.put("ns/a----app", name, build(f"{version} {name}", *THREE))
        push([item], world.settings({**ON, "anchor_tag": None}))
        return {each for each in threading.enumerate() if each.name.startswith("mlmerge_")}

    assert run("first") == run("second") == set()
