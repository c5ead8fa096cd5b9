"""Pushes that fail: half way, or at the end, when the host rolls back."""

from __future__ import annotations

from collections.abc import Callable, Generator

import pytest
from pubtools._quay import push_docker
from pubtools.pluggy import hookimpl

from pubtools_mlmerge.errors import PushFailed, RegistryError
from pubtools_mlmerge.host.requests import MergeRequest
from pubtools_mlmerge.testing import make_image, make_index
from tests.host.running import push
from tests.host.stand_ins import Deletions, no_bundles
from tests.host.world import ON, REPOSITORY, THREE, TWO, Item, World, build, bundle_item, spoken


class Refusing:
    """Refuses to merge one tag, and lets no other one of its name be written."""

    def __init__(self, tag: str) -> None:
        self.tag = tag

    @hookimpl(hookwrapper=True)
    def mlmerge_merge(self, request: MergeRequest) -> Generator[None, object, None]:
        if request.destination.tag == self.tag:
            raise RegistryError(str(request.destination), 500, "out of order")
        yield


@pytest.mark.parametrize("threads", [1, 4])
def test_a_push_that_fails_half_way_leaves_every_tag_old_or_complete_and_names_what_was_merged(
    world: World, threads: int, plugged: Callable[[object], None]
) -> None:
    plugged(Refusing("3"))
    new = build("new", *TWO)
    names = ("1", "2", "3")
    old = {name: world.put(REPOSITORY, name, build(f"old {name}", *THREE)) for name in names}
    before = {name: world.platforms(REPOSITORY, name) for name in names}
    world.put("src/app", "new", new)
    world.put("src/app", "other", build("other", *TWO))
    taken = {"linux/amd64": new.children[0].digest, "linux/arm64": new.children[1].digest}
    items = [world.new_item("1", "2"), world.push_item("src/app:other", {"a/app": ["3"]})]

    with pytest.raises((RegistryError, PushFailed)) as caught:
        push(items, world.settings(ON, num_thread_container_push=threads))

    assert world.platforms(REPOSITORY, "3") == before["3"]
    now = {name: world.platforms(REPOSITORY, name) for name in ("1", "2")}
    merged = [name for name in now if now[name] != before[name]]
    assert all(now[name] == {**before[name], **taken} for name in merged)
    assert len(merged) == 2 or threads > 1
    named = caught.value.merged if isinstance(caught.value, PushFailed) else ()
    assert len(named) == len(merged)
    for name, line in zip(merged, sorted(named)):
        tag = str(world.reference(REPOSITORY, name))
        copy = f"skopeo copy --all docker://{tag.rpartition(':')[0]}@{old[name]} docker://{tag}"
        assert line == f"{tag}, which held {old[name]}: {copy}"


PushAndFail = Callable[..., None]


@pytest.fixture
def push_and_fail(world: World, monkeypatch: pytest.MonkeyPatch) -> PushAndFail:
    """Push, with a bundle that is missing at the end, so that the host rolls back."""

    def run(*items: Item, mlmerge: object = ON) -> None:
        monkeypatch.setattr(push_docker, "OperatorPusher", no_bundles)
        settings = world.settings(mlmerge, num_thread_container_push=1)
        with pytest.raises(SystemExit):
            push([*items, bundle_item()], settings)

    return run


# Encoded as the host would not do it, to tell bytes that were kept from bytes that were made.
OLD = {
    "docker": build("old", *THREE),
    "oci": build("old", *THREE, docker=False),
    "oci without type": build("old", *THREE, docker=False, media_type_field=False),
    "oci not in ascii": spoken(build("old", *THREE, docker=False)),
}


@pytest.mark.parametrize("kind", OLD)
def test_every_tag_that_was_there_returns_to_its_very_bytes(
    world: World, kind: str, push_and_fail: PushAndFail
) -> None:
    """One that was merged, one copied plainly, an excluded one, one of a source container."""
    docker = kind == "docker"
    before = {(name, "1"): OLD[kind] for name in (REPOSITORY, "ns/b----app", "ns/c----sources")}
    before[REPOSITORY, "2"] = build("old", "linux/amd64", docker=docker)
    for (repository, name), index in before.items():
        world.put(repository, name, index)
    world.put("src/app", "new", build("new", *TWO, docker=docker))
    world.put("src/app", "sources", make_image("linux/amd64", docker=True))
    sources = world.push_item("src/app:sources", {"c/sources": ["1"]})
    image = {"sources_for_nvr": "app-1-1", "media_types": []}
    sources.metadata["build"] = {"extra": {"image": image}}
    item = world.push_item("src/app:new", {"a/app": ["1", "2"], "b/app": ["1"]})
    world.log.forget()

    push_and_fail(item, sources, mlmerge={**ON, "exclude_repos": ["b/*"], "anchor_tag": None})

    assert {place: world.content(*place) for place in before} == {
        place: index.content for place, index in before.items()
    }
    assert world.log.puts(REPOSITORY).count("1") == 2
    assert Deletions.made == []


def test_the_host_deletes_what_is_new_and_the_anchors_go_with_it(
    world: World, push_and_fail: PushAndFail
) -> None:
    world.put(REPOSITORY, "1", OLD["docker"])
    world.put("src/app", "new", build("new", *TWO))

    push_and_fail(world.new_item("1", "2"))

    (anchor,) = [name for name in world.tags(REPOSITORY) if name.startswith("1-")]
    assert Deletions.made == [(REPOSITORY, "2"), (REPOSITORY, anchor)]


def test_an_anchor_tag_that_was_there_stays(world: World, push_and_fail: PushAndFail) -> None:
    mlmerge = {**ON, "anchor_tag": "{tag}-{digest}"}
    world.put(REPOSITORY, "1", OLD["docker"])
    world.put("src/app", "new", build("new", *TWO))
    push([world.new_item("1")], world.settings(mlmerge))
    (anchor,) = [name for name in world.tags(REPOSITORY) if name.startswith("1-")]
    world.put(REPOSITORY, "1", OLD["docker"])

    push_and_fail(world.new_item("1"), mlmerge=mlmerge)

    assert Deletions.made == []
    assert anchor in world.tags(REPOSITORY)


@pytest.mark.parametrize("kind", ["docker", "oci"])
def test_a_tag_of_two_items_returns_to_what_it_held_before_both(
    world: World, kind: str, push_and_fail: PushAndFail
) -> None:
    docker = kind == "docker"
    world.put(REPOSITORY, "1", OLD[kind])
    world.put("src/app", "all", build("all", *THREE, docker=docker))
    world.put("src/app", "one", build("one", "linux/amd64", docker=docker))

    items = [world.push_item(f"src/app:{name}", {"a/app": ["1"]}) for name in ("all", "one")]
    push_and_fail(*items)

    assert world.content(REPOSITORY, "1") == OLD[kind].content


def test_a_tag_of_two_items_that_was_new_is_deleted(
    world: World, push_and_fail: PushAndFail
) -> None:
    world.put("src/app", "two", build("two", *TWO))
    world.put("src/app", "one", build("one", "linux/amd64"))

    items = [world.push_item(f"src/app:{name}", {"a/app": ["1"]}) for name in ("two", "one")]
    push_and_fail(*items, mlmerge={**ON, "anchor_tag": None})

    assert Deletions.made == [(REPOSITORY, "1")]


def test_a_tag_that_held_the_merged_index_before_keeps_its_bytes(
    world: World, push_and_fail: PushAndFail
) -> None:
    old, new = build("old", *THREE), build("new", *TWO)
    merged = make_index([*new.children, old.children[2]], docker=True)
    world.put(REPOSITORY, "1", merged)
    world.put("src/app", "new", new)

    push_and_fail(world.new_item())

    assert world.content(REPOSITORY, "1") == merged.content


def test_without_the_step_the_host_rolls_back_as_ever(
    world: World, push_and_fail: PushAndFail
) -> None:
    world.put(REPOSITORY, "1", OLD["docker"])
    world.put("src/app", "new", build("new", *TWO))

    push_and_fail(world.new_item("1", "2"), mlmerge=None)

    assert set(world.platforms(REPOSITORY, "1")) == set(THREE)
    assert Deletions.made == [(REPOSITORY, "2")]
