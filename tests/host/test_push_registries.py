"""Pushes from one registry to another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pubtools._quay import container_image_pusher
from pubtools.pluggy import hookimpl

from tests.host.running import push, signed
from tests.host.world import ON, REPOSITORY, THREE, TWO, World, build


class Copies:
    """Notes what the host copied."""

    def __init__(self) -> None:
        self.made: list[tuple[str, list[str]]] = []

    @hookimpl
    def quay_images_tagged(self, source_ref: str, dest_refs: list[str]) -> None:
        self.made.append((source_ref, dest_refs))


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Note the destinations of each run of the host's copy."""
    made: list[list[str]] = []
    tag_images = container_image_pusher.tag_images

    def note(source: str, destinations: list[str], **others: object) -> None:
        made.append(list(destinations))
        tag_images(source, destinations, **others)

    monkeypatch.setattr(container_image_pusher, "tag_images", note)
    return made


@pytest.mark.parametrize("docker", [True, False], ids=["docker", "oci"])
def test_one_run_of_the_host_s_copy_brings_all_children_to_all_repositories(  # noqa: PLR0917
    world: World,
    elsewhere: World,
    docker: bool,
    plugged: Callable[[object], None],
    runs: list[list[str]],
    tmp_path: Path,
) -> None:
    copies = Copies()
    plugged(copies)
    new = build("new", *TWO, docker=docker)
    elsewhere.put("src/app", "new", new)
    for name in ("1", "2"):
        world.put(REPOSITORY, name, build(f"old {name}", *THREE, docker=docker))
    world.put("ns/b----app", "1", build("old b", *THREE, docker=docker))
    item = elsewhere.push_item("src/app:new", {"a/app": ["1", "2"], "b/app": ["1"]})

    push([item], world.settings(ON, source_quay_host=elsewhere.host))

    children = [child.digest for child in new.children]
    (destinations,) = runs
    names = (REPOSITORY, "ns/b----app")
    assert sorted(destinations) == [f"{world.host}/{name}@{new.digest}" for name in names]
    tags = sorted(tag for _, (tag,) in copies.made)
    assert tags == [
        f"{world.host}/{name}" for name in ("ns/a----app:1", "ns/a----app:2", "ns/b----app:1")
    ]
    for name in ("1", "2"):
        assert list(world.platforms(REPOSITORY, name).values())[:2] == children
        assert len(signed(world, REPOSITORY, name)) == 1
    for platform in THREE:
        world.pull(REPOSITORY, "1", platform, tmp_path / platform.rpartition("/")[2])


def test_nothing_is_mounted_where_skopeo_is_to_copy(world: World) -> None:
    item = world.fill()
    world.log.forget()

    push([item], world.settings({**ON, "copy": "skopeo"}))

    by_skopeo = [made for made in world.log.writes() if made.is_by_skopeo]
    assert sum("/manifests/sha256:" in made.path for made in by_skopeo) == 2
    assert set(world.platforms(REPOSITORY, "1")) == set(THREE)
