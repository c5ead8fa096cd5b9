"""Pushes that end in the host's plain copy, and say why."""

from __future__ import annotations

import pytest

from pubtools_mlmerge.testing import Image, ImageIndex, make_image
from tests.host.requests_made import Made
from tests.host.running import copy, push
from tests.host.stand_ins import RecordingSigner
from tests.host.world import ON, REPOSITORY, TWO, Item, World, build


def push_two(world: World, mlmerge: object, **others: object) -> str:
    """Push a new build of two platforms, and give its digest."""
    digest = world.put("src/app", "new", build("new", *TWO))
    item = world.new_item()
    push([item], world.settings(mlmerge, **others))
    return digest


@pytest.mark.parametrize(
    ("held", "reason"),
    [
        (None, "it does not exist yet"),
        (make_image("linux/arm64", docker=True, seed="old"), "the source covers all of it"),
        (build("old", "linux/arm64"), "the source covers all of it"),
    ],
)
def test_the_reason_is_logged(
    world: World, held: Image | ImageIndex | None, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "pubtools.mlmerge")
    if held is not None:
        world.put(REPOSITORY, "1", held)

    digest = push_two(world, ON)

    assert world.digest(REPOSITORY, "1") == digest
    assert world.tags(REPOSITORY) == ["1"]
    assert f"{world.host}/ns/a----app:1 is copied plainly: {reason}" in caplog.messages


@pytest.mark.parametrize(
    ("mlmerge", "others"),
    [
        ({**ON, "exclude_repos": ["a/*"]}, {}),
        ({**ON, "repos": ["b/*"]}, {}),
        (ON, {"iib_index_image": "registry.example.com/a/app:v4.9"}),
        (ON, {"quay_operator_repository": "a----app"}),
    ],
    ids=["exclude_repos", "repos", "index image", "operators"],
)
def test_excluded_repositories_are_left_to_the_host(
    world: World, mlmerge: object, others: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "pubtools.mlmerge")
    world.put(REPOSITORY, "1", build("old", "linux/s390x"))

    digest = push_two(world, mlmerge, **others)

    assert world.digest(REPOSITORY, "1") == digest
    reason = f"{world.host}/ns/a----app:1 is copied plainly: its repository is excluded"
    assert reason in caplog.messages


def test_some_tags_are_merged_and_the_others_copied(world: World) -> None:
    new = build("new", *TWO)
    world.put(REPOSITORY, "1", build("old", *TWO, "linux/s390x"))
    world.put("src/app", "new", new)

    push([world.new_item("1", "2")], world.settings(ON))

    assert len(world.platforms(REPOSITORY, "1")) == 3
    assert world.digest(REPOSITORY, "2") == new.digest


def test_an_item_without_tags_is_copied_nowhere(world: World) -> None:
    world.put("src/app", "new", build("new", *TWO))
    world.log.forget()

    copy([world.push_item("src/app:new", {})], world.settings(ON))

    assert world.log.writes() == []


def trial(world: World, docker: bool) -> Item:
    """Arrange for a push that a merge would change."""
    world.put(REPOSITORY, "1", build("old", *TWO, "linux/s390x", docker=docker))
    world.put("src/app", "new", build("new", *TWO, docker=docker))
    world.log.forget()
    return world.new_item()


def writes(world: World) -> list[Made]:
    """List what was written, without order: skopeo uploads several things at once."""
    return sorted(world.log.writes())


@pytest.mark.parametrize("docker", [True, False], ids=["docker", "oci"])
def test_report_only_logs_the_plan_and_writes_what_the_host_writes(
    world: World, docker: bool, caplog: pytest.LogCaptureFixture
) -> None:
    push([trial(world, docker)], world.settings())
    expected, signed = writes(world), list(RecordingSigner.signed)
    RecordingSigner.signed.clear()
    world.empty()
    caplog.set_level("INFO", "pubtools.mlmerge")

    push([trial(world, docker)], world.settings({**ON, "report_only": True}))

    assert writes(world) == expected
    assert RecordingSigner.signed == signed
    assert "Would merge, if not report_only" in caplog.text
    assert "linux/s390x" in caplog.text


def test_report_only_stops_no_push(world: World, caplog: pytest.LogCaptureFixture) -> None:
    digest = world.put("src/app", "new", build("new", *TWO))
    world.put(REPOSITORY, "1", make_image("linux/s390x"))
    settings = world.settings({**ON, "report_only": True, "single_image": "fail"})

    push([world.new_item()], settings)

    assert world.digest(REPOSITORY, "1") == digest
    assert "Would fail, if not report_only" in caplog.text
