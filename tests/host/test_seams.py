"""The names of the real host are replaced once, whatever runs beside it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import pytest
from pubtools._quay import push_docker, tag_docker
from pubtools.pluggy import pm, task_context

from pubtools_mlmerge.errors import CannotMergeHere
from pubtools_mlmerge.host import (
    clients,  # noqa: F401 - registers its implementation once
    seams,
)
from tests.host.test_starts import Start, by_our_target, by_the_host_alone, in_a_task
from tests.host.world import BUILD, ON, REPOSITORY, THREE, TWO, World, build

NAMES = [(seam.module, name) for seam in seams.SEAMS.values() for name in seam.replaced]
TASKS, THREADS = 24, 8  # each way to start, each task, on and off, twice; each runs six programs


def held() -> list[object]:
    modules = {"push_docker": push_docker, "tag_docker": tag_docker}
    return [getattr(modules[module], name) for module, name in NAMES]


@pytest.fixture(autouse=True)
def _no_trace() -> Iterator[None]:
    """Compare the names and the plugins before and after; the first task loads what there is."""
    with task_context():
        pass
    before, plugins = held(), set(pm.get_plugins())
    yield
    assert held() == before
    assert set(pm.get_plugins()) == plugins


def test_ours_are_in_place_in_tasks_and_outside_of_them() -> None:
    assert all(each.__module__.startswith("pubtools_mlmerge.host.") for each in held())
    assert seams.is_in_place("push")
    assert seams.is_in_place("tag-docker")


def test_tasks_in_eight_threads_do_what_each_of_them_asks_for(world: World) -> None:
    """Started in all ways, every second one enabled."""
    starts: list[Start] = [in_a_task, by_our_target, by_the_host_alone]
    old, new = build("old", *THREE), build("new", *TWO)
    world.put("src/app", "new", new)
    for number in range(TASKS):
        # One repository each: the registry serves half a manifest while skopeo writes it again.
        world.put(f"ns/a----{number}", "1", old)
        if number % 4 > 1:
            world.put(f"ns/a----{number}", "build", new)

    def work(number: int) -> None:
        mlmerge = {**ON, "anchor_tag": None} if number % 2 else None
        if number % 4 > 1:
            task = "tag-docker"
            platforms = [*TWO] if number % 2 else ["amd64", "arm64"]
            item = world.tag_item(f"a/{number}", source="build", add=["1"], archs=platforms)
        else:
            task = "push-docker"
            item = world.push_item("src/app:new", {f"a/{number}": ["1"]})
        starts[number % 3](task, [item], world.settings(mlmerge, signing=[]))

    with ThreadPoolExecutor(THREADS) as pool:
        errors = [f.exception() for f in [pool.submit(work, n) for n in range(TASKS)]]

    assert [error for error in errors if error is not None] == []
    for number in range(TASKS):
        platforms = set(world.platforms(f"ns/a----{number}", "1"))
        # The host's own tag-docker keeps architectures as well.
        is_kept = number % 2 or number % 4 > 1
        assert platforms == (set(THREE) if is_kept else set(TWO)), number


@pytest.mark.parametrize("asks", [True, False])
@pytest.mark.parametrize(
    ("module", "name"), [("push_docker", "PushDocker"), ("tag_docker", "TagDocker")]
)
def test_a_site_that_took_the_host_s_class_earlier_is_refused_where_it_asks_to_merge(
    world: World, module: str, name: str, asks: bool
) -> None:
    theirs = seams._REPLACED[module, name]
    world.fill(source=BUILD)
    item = world.fill()
    if name == "TagDocker":
        item = world.tag_item("a/app", source="build", add=["1"], archs=["arm64"])
    before = world.digest(REPOSITORY, "1")

    class Site(theirs):  # type: ignore[misc, valid-type]  # the host is untyped
        """A site's own class, derived from the host's."""

    worker = Site([item], None, "1", "target", world.settings(ON if asks else None))
    started = f"mlmerge-{module.replace('_', '-')}"
    with pytest.raises(CannotMergeHere, match=started) if asks else nullcontext():
        worker.run()
    assert bool(world.log.writes()) != asks
    assert (world.digest(REPOSITORY, "1") == before) == asks
