"""tag-docker of the real host that removes architectures from a tag."""

from __future__ import annotations

import pytest
from pubtools._quay import tag_docker
from pubtools._quay.exceptions import BadPushItem

from pubtools_mlmerge.testing import make_attestation, make_image, make_index
from tests.host.running import remove
from tests.host.stand_ins import Hub, RecordingSigner
from tests.host.world import ON, REPOSITORY, World, build

ARM = "linux/arm/v7"
ALL = ("linux/amd64", "linux/arm64", ARM)


@pytest.fixture
def untagged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note what is untagged; docker-registry has not the API for it."""
    found: list[str] = []
    monkeypatch.setattr(
        tag_docker, "untag_images", lambda references, **_: found.extend(references)
    )
    return found


@pytest.mark.parametrize(
    ("archs", "exclude", "left"),
    [
        (["x86_64"], False, {"linux/arm64", ARM}),
        ([ARM, "arm64"], False, {"linux/amd64"}),
        (["aarch64"], True, {"linux/arm64"}),
        (["s390x"], False, set(ALL)),
    ],
)
def test_chosen_architectures_go(
    world: World, archs: list[str], exclude: bool, left: set[str]
) -> None:
    old = build("old", *ALL, docker="arm64" in archs)
    world.put(REPOSITORY, "1", old)

    remove(world, *archs, exclude=exclude)

    assert set(world.platforms(REPOSITORY, "1")) == left
    assert world.read(REPOSITORY, "1").media_type == old.media_type


@pytest.mark.parametrize("untyped", [False, True], ids=["typed", "untyped"])
def test_attestations_go_with_their_images_and_lose_their_signatures(
    world: World, untyped: bool
) -> None:
    gone, stays = make_image("linux/amd64"), make_image("linux/arm64")
    attested = [make_attestation(gone), make_attestation(stays)]
    world.put(REPOSITORY, "1", make_index([gone, stays, *attested], media_type_field=not untyped))

    remove(world, "amd64")

    left = [entry.digest for entry in world.read(REPOSITORY, "1").manifests]
    assert left == [stays.digest, attested[1].digest]
    removed = {digest for digest, _, _ in RecordingSigner.removed}
    assert removed == {gone.digest, attested[0].digest}


def test_entries_without_a_platform_survive(world: World) -> None:
    nested = make_index([make_image("linux/386")])
    world.put(REPOSITORY, "1", make_index([make_image("linux/amd64"), nested]))

    remove(world, "amd64")

    (entry,) = world.read(REPOSITORY, "1").manifests
    assert entry.digest == nested.digest
    assert "platform" not in entry.fields


def test_only_what_the_source_still_has_is_removed(world: World) -> None:
    world.put(REPOSITORY, "build", build("old", "linux/amd64", "linux/s390x"))
    world.put(REPOSITORY, "1", build("old", *ALL))

    remove(world, source="build", exclude=True)

    assert set(world.platforms(REPOSITORY, "1")) == {"linux/arm64", ARM}


def test_a_tag_is_removed_when_nothing_is_left(world: World, untagged: list[str]) -> None:
    world.put(REPOSITORY, "1", build("old", *ALL))

    remove(world, exclude=True)

    assert untagged == [f"{world.host}/{REPOSITORY}:1"]


def test_a_tag_that_is_gone_already_is_no_problem(world: World, untagged: list[str]) -> None:
    remove(world, "amd64")

    assert untagged == []


def test_a_source_image_is_untagged_as_ever(world: World, untagged: list[str]) -> None:
    world.put(REPOSITORY, "1", make_image("linux/amd64", docker=True))

    remove(world, "x86_64")

    assert untagged == [f"{world.host}/{REPOSITORY}:1"]


@pytest.mark.usefixtures("quay_io")
def test_a_tag_stays_while_the_stage_target_has_it(world: World, untagged: list[str]) -> None:
    world.put(REPOSITORY, "1", build("old", *ALL))
    world.put("stage/a----app", "1", build("old", *ALL))
    hub = Hub({"stage": world.settings(quay_namespace="stage")})

    with pytest.raises(BadPushItem):
        remove(world, exclude=True, hub=hub, propagated_from="stage")

    assert untagged == []


def test_the_host_removes_as_ever_where_the_step_is_off(world: World) -> None:
    outcomes = []
    for mlmerge in (
        None,
        {"steps": ["push"]},
        {**ON, "report_only": True},
        {**ON, "repos": ["b/*"]},
    ):
        world.put(REPOSITORY, "1", build("old", *ALL))
        world.log.forget()
        remove(world, "arm64", mlmerge=mlmerge)
        outcomes.append((world.log.writes(), world.digest(REPOSITORY, "1")))

    assert outcomes == outcomes[:1] * 4
