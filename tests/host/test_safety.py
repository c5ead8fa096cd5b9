"""Other writers, locks and records inside the real host's tasks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from pubtools.pluggy import hookimpl

from pubtools_mlmerge.errors import (
    ConflictError,
    EmptyIndex,
    LockFailed,
    LockLost,
    PatternFitsNothing,
)
from pubtools_mlmerge.host.requests import SelectedRequest
from pubtools_mlmerge.locks import tag_lock
from pubtools_mlmerge.merging.audit import read_change
from pubtools_mlmerge.merging.restore import restore
from pubtools_mlmerge.testing import make_image
from tests.host.running import add, push_new, remove, signed
from tests.host.world import BUILD, ON, REPOSITORY, THREE, TWO, World, build
from tests.pushes import Expired, registered

THEIRS = ("linux/amd64", "linux/s390x", "linux/ppc64le")


class Interferer:
    """Writes the tag each time that the list for it was computed, as often as it is told."""

    def __init__(self, world: World, times: int) -> None:
        self.world = world
        self.times = times

    @hookimpl(hookwrapper=True)
    def mlmerge_merge_selected(self, request: SelectedRequest) -> Generator[None, object, None]:
        yield
        if self.times:
            self.times -= 1
            self.world.put(REPOSITORY, "1", build(f"theirs {self.times}", *THEIRS))


@pytest.fixture(autouse=True)
def _old_and_new(world: World) -> None:
    world.fill()
    world.fill(source=BUILD)


def test_tag_docker_begins_again_where_somebody_else_writes(world: World) -> None:
    with registered(Interferer(world, 2)):
        add(world, "arm64")

    held = world.platforms(REPOSITORY, "1")
    assert set(held) == {*THEIRS, "linux/arm64"}
    assert held["linux/arm64"] == world.platforms(REPOSITORY, "build")["linux/arm64"]
    assert signed(world, REPOSITORY, "1")


def test_tag_docker_gives_up_in_the_end_and_leaves_the_others_work(world: World) -> None:
    with registered(Interferer(world, 9)), pytest.raises(ConflictError, match="gave up"):
        add(world, "arm64", mlmerge={**ON, "tries": 2})

    assert set(world.platforms(REPOSITORY, "1")) == set(THEIRS)


def test_tag_docker_without_looks_writes_over_it(world: World) -> None:
    with registered(Interferer(world, 1)):
        add(world, "arm64", mlmerge={**ON, "verify": False})

    assert set(world.platforms(REPOSITORY, "1")) == set(THREE)


def test_records_of_a_push_bring_the_old_bytes_back(world: World, tmp_path: Path) -> None:
    before = world.content(REPOSITORY, "1")
    records = tmp_path / "records"

    push_new(world, mlmerge={**ON, "audit": str(records), "anchor_tag": None})

    (record,) = records.iterdir()
    change = read_change(str(record))
    assert hashlib.sha256(change.new.content).hexdigest() in str(world.digest(REPOSITORY, "1"))
    restore(world.client(), change, force=False, dry_run=False)
    assert world.content(REPOSITORY, "1") == before


class Meanwhile:
    """Writes the tag once, after tag-docker has looked at it."""

    def __init__(self, world: World, *platforms: str) -> None:
        self.world = world
        self.index = build("theirs", *(platforms or THEIRS))

    @hookimpl
    def mlmerge_lock(self, reference: str) -> None:
        self.world.put(REPOSITORY, "1", self.index)


def test_an_image_that_came_since_is_not_removed_for_the_one_that_the_source_has(
    world: World,
) -> None:
    world.put(REPOSITORY, "1", build("new", *TWO))

    with registered(Meanwhile(world)), pytest.raises(PatternFitsNothing):
        remove(world, "amd64", source="build")

    assert set(world.platforms(REPOSITORY, "1")) == set(THEIRS)


def test_no_tag_is_left_without_an_image(world: World) -> None:
    with registered(Meanwhile(world, "linux/amd64")), pytest.raises(EmptyIndex):
        remove(world, "amd64")

    assert set(world.platforms(REPOSITORY, "1")) == {"linux/amd64"}


def test_a_tag_that_moved_is_not_deleted(world: World, untagged: list[str]) -> None:
    with registered(Meanwhile(world)), pytest.raises(ConflictError):
        remove(world, exclude=True)
    assert untagged == []

    with registered(Meanwhile(world)):
        remove(world, exclude=True, mlmerge={**ON, "verify": False})
    assert untagged == [f"{world.host}/{REPOSITORY}:1"]


@pytest.mark.parametrize("exists", [True, False])
def test_no_image_is_copied_over_a_tag_that_moved(world: World, exists: bool) -> None:
    world.empty()
    world.put(REPOSITORY, "build", make_image("linux/amd64", docker=True, seed="new"))
    if exists:
        world.put(REPOSITORY, "1", make_image("linux/amd64", docker=True))

    with registered(Meanwhile(world)), pytest.raises(ConflictError):
        add(world, "amd64")

    assert set(world.platforms(REPOSITORY, "1")) == set(THEIRS)


TASKS: dict[str, Callable[..., None]] = {
    "push": push_new,
    "add": lambda world, **settings: add(world, "arm64", **settings),
    "remove": lambda world, **settings: remove(world, "arm64", **settings),
    "delete": lambda world, **settings: remove(world, exclude=True, **settings),
}


@pytest.mark.parametrize("task", TASKS)
def test_a_lock_that_another_job_holds_stops_a_task(
    world: World, task: str, tmp_path: Path
) -> None:
    url = f"{tmp_path.as_uri()}?wait=0.2"

    with tag_lock(str(world.reference(REPOSITORY, "1")), url), pytest.raises(LockFailed):
        TASKS[task](world, mlmerge={**ON, "lock": url})

    assert set(world.platforms(REPOSITORY, "1")) == set(THREE)


@pytest.mark.parametrize("task", TASKS)
def test_a_lock_that_is_lost_stops_a_task(world: World, task: str) -> None:
    before = world.digest(REPOSITORY, "1")

    with registered(Expired()), pytest.raises(LockLost):
        TASKS[task](world)

    assert world.digest(REPOSITORY, "1") == before
