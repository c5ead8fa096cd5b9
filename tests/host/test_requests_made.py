"""What a task costs: requests, threads and connections, and modules of ours for who reads it."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable

import pytest

from tests.entered import modules_entered
from tests.host.running import add, push, push_new
from tests.host.world import BUILD, ON, REPOSITORY, THREE, TWO, World, build

TAGS = [str(number) for number in range(5)]
MOST = 94


def test_a_push_of_five_tags_makes_no_more_requests_than_it_did(world: World) -> None:
    for name in TAGS:
        world.put(REPOSITORY, name, build(f"old {name}", *THREE))
    new = build("new", *TWO)
    world.put("src/app", "new", new)
    world.put(REPOSITORY, "candidate", new)  # its images are in the repository
    item = world.push_item("src/app:new", {"a/app": TAGS})
    world.log.forget()

    push([item], world.settings(ON))

    assert len(world.log.made()) <= MOST


PUSHES = 16


def in_use() -> tuple[int, int]:
    """Count the threads and the open files of this process."""
    gc.collect()
    return threading.active_count(), len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - as it is


def test_threads_and_connections_end_with_each_push(world: World) -> None:
    world.put("src/app", "new", build("new", *TWO))
    item = world.push_item("src/app:new", {"a/app": TAGS[:2]})

    def run(number: int) -> None:
        for name in TAGS[:2]:
            world.put(REPOSITORY, name, build(f"{number} {name}", *THREE))
        push([item], world.settings({**ON, "anchor_tag": None}))

    run(0)
    before = in_use()
    for number in range(1, PUSHES + 1):
        run(number)

    threads, files = in_use()
    assert threads <= before[0]
    assert files <= before[1]


@pytest.mark.parametrize(
    ("task", "source", "most"),
    [(push_new, "src/app:new", 34), (lambda world: add(world, *TWO), BUILD, 32)],
    ids=["push", "tag-docker"],
)
def test_a_task_enters_few_modules(
    world: World, task: Callable[[World], None], source: str, most: int
) -> None:
    world.fill(source=source)

    entered = modules_entered(lambda: task(world))

    assert set(world.platforms(REPOSITORY, "1")) == set(THREE)
    assert len(entered) <= most, " ".join(entered)
