"""tag-docker of the real host, which adds selected architectures to a tag or removes them."""

from __future__ import annotations

import json
from contextlib import nullcontext

import pytest
from attrs import evolve
from pubtools._quay import tag_docker
from pubtools._quay.exceptions import BadPushItem
from pubtools._quay.quay_client import QuayClient

from pubtools_mlmerge.errors import MixedTypes
from pubtools_mlmerge.testing import make_attestation, make_image, make_index
from tests.host.running import add, hub_of, remove, signed
from tests.host.stand_ins import EARLY_SIGNER, SIGNER, EarlySigner, RecordingSigner
from tests.host.world import KEY, ON, REPOSITORY, World, build, spoken

ARM = "linux/arm/v7"
ALL = ("linux/amd64", "linux/arm64", ARM, "linux/s390x")


def arrange(world: World, *, docker: bool = True) -> None:
    """Put a new index under a tag of its own, and an old one under the tag to be moved."""
    for name, version in (("build", "new"), ("1", "old")):
        world.put(REPOSITORY, name, build(version, *ALL, docker=docker))


def taken(world: World, name: str = "1") -> set[str]:
    """Name the platforms that a tag has from the new build."""
    new = world.platforms(REPOSITORY, "build")
    return {p for p, digest in world.platforms(REPOSITORY, name).items() if new.get(p) == digest}


def assert_signed(world: World, name: str) -> None:
    """Check that what the tag holds was signed, children and all."""
    (entry,) = signed(world, REPOSITORY, name)
    assert (entry.arch, entry.signing_key) == ("", KEY)
    digests = {each.digest for each in RecordingSigner.signed}
    assert {e.digest for e in world.read(REPOSITORY, name).manifests} <= digests


@pytest.mark.parametrize(
    ("archs", "exclude", "expected"),
    [
        (["arm64"], False, {"linux/arm64"}),
        (["x86_64", "aarch64"], False, {"linux/amd64", "linux/arm64"}),
        ([ARM], False, {ARM}),
        (["arm"], False, {ARM}),
        (["x86_64", "arm"], True, {"linux/arm64", "linux/s390x"}),
        (["linux/arm64"], True, {"linux/amd64", ARM, "linux/s390x"}),
        ([], True, set(ALL)),
    ],
)
def test_chosen_architectures_are_taken(
    world: World, archs: list[str], exclude: bool, expected: set[str]
) -> None:
    arrange(world, docker=exclude)

    add(world, *archs, exclude=exclude)

    assert taken(world) == expected
    assert set(world.platforms(REPOSITORY, "1")) == set(ALL)
    assert_signed(world, "1")


KINDS = {
    "typed": build("new", *ALL, docker=False),
    "untyped": build("new", *ALL, docker=False, media_type_field=False),
    "not in ascii": spoken(build("new", *ALL, docker=False)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("archs", [[*ALL], ["arm64"]], ids=["all", "some"])
def test_a_new_tag_gets_what_was_chosen(world: World, archs: list[str], kind: str) -> None:
    digest = world.put(REPOSITORY, "build", KINDS[kind])

    add(world, *archs)

    assert len(taken(world)) == len(archs)
    assert (world.digest(REPOSITORY, "1") == digest) == (len(archs) == len(ALL))
    assert_signed(world, "1")


def test_attestations_come_and_go_with_their_images(world: World) -> None:
    both = ("linux/amd64", "linux/arm64")
    new, old = ([make_image(p, seed=seed) for p in both] for seed in ("new", "old"))
    for name, images in (("build", new), ("1", old)):
        world.put(REPOSITORY, name, make_index([*images, *map(make_attestation, images)]))

    add(world, "arm64")

    expected = {new[1].digest, make_attestation(new[1]).digest}
    expected |= {old[0].digest, make_attestation(old[0]).digest}
    assert {entry.digest for entry in world.read(REPOSITORY, "1").manifests} == expected
    assert_signed(world, "1")


@pytest.mark.parametrize("choice", ["oci", "fail"])
def test_docker_images_go_into_an_oci_index_where_that_is_allowed(
    world: World, choice: str
) -> None:
    world.put(REPOSITORY, "build", build("new", *ALL))
    before = world.put(REPOSITORY, "1", build("old", *ALL, docker=False))

    if choice == "fail":
        with pytest.raises(MixedTypes):
            add(world, "arm64")
        assert world.digest(REPOSITORY, "1") == before
        assert RecordingSigner.signed == []
    else:
        add(world, "arm64", mlmerge={**ON, "mixed_types": "oci"})
        assert taken(world) == {"linux/arm64"}
        assert_signed(world, "1")


def test_the_host_s_own_client_stays_in_its_place(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrange(world)
    classes = tag_docker.TagDocker.__mro__
    theirs = next(each for each in classes if each.__module__ == tag_docker.__name__)
    merge, seen = theirs.merge_manifest_lists_sign_images, []

    def spy(task: tag_docker.TagDocker, *arguments: object) -> None:
        merge(task, *arguments)
        seen.append(type(vars(task)["_quay_client"]))

    monkeypatch.setattr(theirs, "merge_manifest_lists_sign_images", spy)

    add(world, "arm64")

    assert seen == [QuayClient]
    assert taken(world) == {"linux/arm64"}


def test_entries_without_a_platform_stay(world: World) -> None:
    nested = make_index([make_image("linux/386")])
    world.put(REPOSITORY, "build", build("new", "linux/amd64", docker=False))
    world.put(REPOSITORY, "1", make_index([make_image("linux/arm64"), nested]))

    add(world, "amd64")

    assert nested.digest in {entry.digest for entry in world.read(REPOSITORY, "1").manifests}
    assert_signed(world, "1")


def test_early_signers_sign_the_children_and_disabled_ones_nothing(world: World) -> None:
    arrange(world)
    signing = [
        {"enabled": label == EARLY_SIGNER, "label": label, "config_file": "signer.yaml"}
        for label in (SIGNER, EARLY_SIGNER)
    ]

    add(world, "arm64", signing=signing)

    entries = world.read(REPOSITORY, "1").manifests
    assert {e.digest for e in entries} == {s.digest for s in EarlySigner.signed}
    assert RecordingSigner.signed == []


def test_a_source_image_replaces_nothing_of_another_type(world: World) -> None:
    """The host asks for Docker types first, and takes the refusal of an OCI tag for its absence."""
    world.put(REPOSITORY, "build", make_image("linux/amd64", docker=True))
    old = world.put(REPOSITORY, "1", make_image("linux/arm64"))

    with pytest.raises(BadPushItem, match="it holds application"):
        add(world, "amd64")

    assert world.digest(REPOSITORY, "1") == old


def test_a_source_image_is_copied_as_ever(world: World) -> None:
    digest = world.put(REPOSITORY, "build", make_image("linux/amd64", docker=True))

    add(world, "x86_64")

    assert world.digest(REPOSITORY, "1") == digest


@pytest.mark.usefixtures("quay_io")
@pytest.mark.parametrize("exists", [True, False])
def test_a_tag_must_exist_on_the_stage_target_before(world: World, exists: bool) -> None:
    arrange(world)
    world.put("stage/a----app", "1" if exists else "2", build("new", *ALL))
    before = world.digest(REPOSITORY, "1")

    with nullcontext() if exists else pytest.raises(BadPushItem):
        add(world, "arm64", hub=hub_of(world), propagated_from="stage")

    assert (world.digest(REPOSITORY, "1") == before) != exists


def hosts_own(world: World, mlmerge: object) -> tuple[object, ...]:
    """Tag as the host does it, and tell what it wrote and signed."""
    arrange(world)
    RecordingSigner.signed.clear()
    world.log.forget()
    add(world, "arm64", mlmerge=mlmerge)
    return world.log.writes(), list(RecordingSigner.signed), world.digest(REPOSITORY, "1")


@pytest.mark.parametrize(
    "mlmerge",
    [{"steps": ["push"]}, {**ON, "exclude_repos": ["a/*"]}, {**ON, "report_only": True}],
    ids=["other step", "excluded", "report_only"],
)
def test_the_host_is_left_to_its_ways(
    world: World, mlmerge: object, caplog: pytest.LogCaptureFixture
) -> None:
    expected = hosts_own(world, None)
    caplog.set_level("INFO", "pubtools.mlmerge")

    assert hosts_own(world, mlmerge) == expected
    planned = "Would merge, if not report_only" in caplog.text
    assert planned == ("report_only" in str(mlmerge))


# Removals

HELD = ALL[:3]


@pytest.mark.parametrize(
    ("archs", "exclude", "left"),
    [
        (["x86_64"], False, {"linux/arm64", ARM}),
        ([ARM, "arm64"], False, {"linux/amd64"}),
        (["aarch64"], True, {"linux/arm64"}),
        (["s390x"], False, set(HELD)),
    ],
)
def test_chosen_architectures_go(
    world: World, archs: list[str], exclude: bool, left: set[str]
) -> None:
    old = build("old", *HELD, docker="arm64" in archs)
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
    world.put(REPOSITORY, "1", build("old", *HELD))

    remove(world, source="build", exclude=True)

    assert set(world.platforms(REPOSITORY, "1")) == {"linux/arm64", ARM}


def test_another_image_for_the_platform_stays(world: World) -> None:
    gzip, zstd = (make_image("linux/amd64", seed=seed) for seed in ("gzip", "zstd"))
    world.put(REPOSITORY, "build", make_index([gzip]))
    world.put(REPOSITORY, "1", make_index([gzip, zstd]))

    remove(world, "amd64", source="build")

    assert [entry.digest for entry in world.read(REPOSITORY, "1").manifests] == [zstd.digest]


@pytest.mark.parametrize(
    ("archs", "exclude", "left"),
    [
        (["windows/amd64:10.0.20348"], False, {"10.0.17763.1", ""}),
        (["windows/amd64:10.0.17763"], True, {"10.0.17763.1"}),
    ],
)
def test_only_the_chosen_version_of_windows_is_removed(
    world: World, archs: list[str], exclude: bool, left: set[str]
) -> None:
    versions = ["10.0.17763.1", "10.0.20348.1", ""]
    images = [make_image("windows/amd64", seed=version) for version in versions]
    index = make_index(images)
    listed = json.loads(index.content)
    for entry, version in zip(listed["manifests"], versions):
        entry["platform"]["os.version"] = version
    world.put(REPOSITORY, "1", evolve(index, content=json.dumps(listed).encode()))

    remove(world, *archs, exclude=exclude)

    kept = world.read(REPOSITORY, "1").manifests
    assert {entry.platform.os_version for entry in kept if entry.platform} == left


def test_an_image_that_is_listed_for_two_platforms_is_signed_until_both_are_gone(
    world: World,
) -> None:
    index = make_index([make_image("linux/arm/v6")])
    listed = json.loads(index.content)
    (entry,) = listed["manifests"]
    listed["manifests"].append({**entry, "platform": {**entry["platform"], "variant": "v7"}})
    world.put(REPOSITORY, "1", evolve(index, content=json.dumps(listed).encode()))

    remove(world, "arm/v6")

    assert list(world.platforms(REPOSITORY, "1")) == [ARM]
    assert RecordingSigner.removed == []


def test_a_tag_is_removed_when_nothing_is_left(world: World, untagged: list[str]) -> None:
    world.put(REPOSITORY, "1", build("old", *HELD))

    remove(world, exclude=True)

    assert untagged == [f"{world.host}/{REPOSITORY}:1"]


def test_a_tag_that_is_gone_already_is_no_problem(world: World, untagged: list[str]) -> None:
    remove(world, "amd64")

    assert untagged == []


def test_a_source_image_is_untagged_as_ever(world: World, untagged: list[str]) -> None:
    world.put(REPOSITORY, "1", make_image("linux/amd64", docker=True))

    remove(world, "x86_64")

    assert untagged == [f"{world.host}/{REPOSITORY}:1"]


def test_a_tag_that_a_site_chose_without_the_step_is_removed(
    world: World, untagged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def choose(*_: object) -> tuple[list[str], list[str]]:
        return ["amd64"], []

    world.put(REPOSITORY, "1", build("old", *HELD))
    monkeypatch.setattr(tag_docker.TagDocker, "tag_remove_calculate_archs", choose)

    remove(world, "amd64")

    assert untagged == [f"{world.host}/{REPOSITORY}:1"]


@pytest.mark.usefixtures("quay_io")
def test_a_tag_stays_while_the_stage_target_has_it(world: World, untagged: list[str]) -> None:
    world.put(REPOSITORY, "1", build("old", *HELD))
    world.put("stage/a----app", "1", build("old", *HELD))

    with pytest.raises(BadPushItem):
        remove(world, exclude=True, hub=hub_of(world), propagated_from="stage")

    assert untagged == []


def test_the_host_removes_as_ever_where_the_step_is_off(world: World) -> None:
    outcomes = []
    for mlmerge in (
        None,
        {"steps": ["push"]},
        {**ON, "report_only": True},
        {**ON, "repos": ["b/*"]},
    ):
        world.put(REPOSITORY, "1", build("old", *HELD))
        world.log.forget()
        remove(world, "arm64", mlmerge=mlmerge)
        outcomes.append((world.log.writes(), world.digest(REPOSITORY, "1")))

    assert outcomes == outcomes[:1] * 4
