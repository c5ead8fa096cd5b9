"""Pushes from one registry to another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pubtools.pluggy import hookimpl

from tests.host.running import push, signed
from tests.host.world import ON, World, build

THREE = ("linux/amd64", "linux/arm64", "linux/s390x")
TWO = ("linux/amd64", "linux/arm64")


class Copies:
    """Notes what the host copied."""

    def __init__(self) -> None:
        self.made: list[tuple[str, list[str]]] = []

    @hookimpl
    def quay_images_tagged(self, source_ref: str, dest_refs: list[str]) -> None:
        self.made.append((source_ref, dest_refs))


@pytest.mark.parametrize("docker", [True, False], ids=["docker", "oci"])
def test_children_come_by_the_host_s_own_copy(
    world: World,
    elsewhere: World,
    docker: bool,
    plugged: Callable[[object], None],
    tmp_path: Path,
) -> None:
    copies = Copies()
    plugged(copies)
    new = build("new", *TWO, docker=docker)
    elsewhere.put("src/app", "new", new)
    for name in ("1", "2"):
        world.put("ns/a----app", name, build(f"old {name}", *THREE, docker=docker))
    item = elsewhere.push_item("src/app:new", {"a/app": ["1", "2"]})

    push([item], world.settings(ON, source_quay_host=elsewhere.host))

    children = [child.digest for child in new.children]
    of_children = [
        (f"{elsewhere.host}/src/app@{digest}", [f"{world.host}/ns/a----app@{digest}"])
        for digest in children
    ]
    assert sorted(made for made in copies.made if "@" in made[0]) == sorted(of_children)
    for name in ("1", "2"):
        assert list(world.platforms("ns/a----app", name).values())[:2] == children
        assert len(signed(world, "ns/a----app", name)) == 1
    for platform in THREE:
        world.pull("ns/a----app", "1", platform, tmp_path / platform.rpartition("/")[2])


def test_nothing_is_mounted_where_skopeo_is_to_copy(world: World) -> None:
    world.put("src/app", "new", build("new", *TWO))
    world.put("ns/a----app", "1", build("old", *THREE))
    item = world.push_item("src/app:new", {"a/app": ["1"]})
    world.log.forget()

    push([item], world.settings({**ON, "copy": "skopeo"}))

    by_skopeo = [made for made in world.log.writes() if made.is_by_skopeo]
    assert sum("/manifests/sha256:" in made.path for made in by_skopeo) == 2
    assert set(world.platforms("ns/a----app", "1")) == set(THREE)
