"""Other writers, locks and records inside the real host's tasks."""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from pathlib import Path

import pytest
from pubtools.pluggy import hookimpl

from pubtools_mlmerge.errors import ConflictError, LockFailed, LockLost
from pubtools_mlmerge.host.requests import SelectedRequest
from pubtools_mlmerge.locks import tag_lock
from pubtools_mlmerge.merging.audit import read_change
from pubtools_mlmerge.merging.restore import restore
from tests.host.running import push, signed, tag
from tests.host.world import ON, REPOSITORY, THREE, TWO, World, build
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


def arrange(world: World) -> None:
    world.put(REPOSITORY, "build", build("new", *TWO))
    world.put(REPOSITORY, "1", build("old", *THREE))


def add_arm64(world: World, **more: object) -> None:
    item = world.tag_item("a/app", source="build", add=["1"], archs=["arm64"])
    tag([item], world.settings({**ON, **more}))


def test_tag_docker_begins_again_where_somebody_else_writes(world: World) -> None:
    arrange(world)

    with registered(Interferer(world, 2)):
        add_arm64(world)

    held = world.platforms(REPOSITORY, "1")
    assert set(held) == {*THEIRS, "linux/arm64"}
    assert held["linux/arm64"] == world.platforms(REPOSITORY, "build")["linux/arm64"]
    assert signed(world, REPOSITORY, "1")


def test_tag_docker_gives_up_in_the_end_and_leaves_the_others_work(world: World) -> None:
    arrange(world)

    with registered(Interferer(world, 9)), pytest.raises(ConflictError, match="gave up"):
        add_arm64(world, tries=2)

    assert set(world.platforms(REPOSITORY, "1")) == set(THEIRS)


def test_tag_docker_without_looks_writes_over_it(world: World) -> None:
    arrange(world)

    with registered(Interferer(world, 1)):
        add_arm64(world, verify=False)

    assert set(world.platforms(REPOSITORY, "1")) == set(THREE)


def test_records_of_a_push_bring_the_old_bytes_back(world: World, tmp_path: Path) -> None:
    world.fill()
    before = world.content(REPOSITORY, "1")
    records = tmp_path / "records"

    push(
        [world.new_item()],
        world.settings({**ON, "audit": str(records), "anchor_tag": None}),
    )

    (record,) = records.iterdir()
    change = read_change(str(record))
    assert hashlib.sha256(change.new.content).hexdigest() in str(world.digest(REPOSITORY, "1"))
    restore(world.client(), change, force=False, dry_run=False)
    assert world.content(REPOSITORY, "1") == before


def test_a_lock_that_another_job_holds_stops_a_push(world: World, tmp_path: Path) -> None:
    arrange(world)
    world.put("src/app", "new", build("new", *TWO))
    url = f"{tmp_path.as_uri()}?wait=0.2"
    items = [world.new_item()]
    settings = world.settings({**ON, "lock": url})

    with tag_lock(str(world.reference(REPOSITORY, "1")), url), pytest.raises(LockFailed):
        push(items, settings)

    assert set(world.platforms(REPOSITORY, "1")) == set(THREE)


def test_a_lock_that_another_job_holds_stops_tag_docker(world: World, tmp_path: Path) -> None:
    arrange(world)
    url = f"{tmp_path.as_uri()}?wait=0.2"

    with tag_lock(str(world.reference(REPOSITORY, "1")), url), pytest.raises(LockFailed):
        add_arm64(world, lock=url)

    assert set(world.platforms(REPOSITORY, "1")) == set(THREE)


@pytest.mark.parametrize(
    ("source", "adds", "removes"), [("build", ["1"], []), ("", [], ["1"])], ids=["add", "remove"]
)
def test_a_lock_that_is_lost_stops_tag_docker(
    world: World, source: str, adds: list[str], removes: list[str]
) -> None:
    arrange(world)
    item = world.tag_item("a/app", source=source, add=adds, remove=removes, archs=["arm64"])

    with registered(Expired()), pytest.raises(LockLost):
        tag([item], world.settings(ON))

    assert set(world.platforms(REPOSITORY, "1")) == set(THREE)
