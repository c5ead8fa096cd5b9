"""tag-docker of the real host that adds selected architectures to a tag."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from pubtools._quay import tag_docker
from pubtools._quay.exceptions import BadPushItem
from pubtools._quay.quay_client import QuayClient

from pubtools_mlmerge.errors import MixedTypes
from pubtools_mlmerge.testing import make_attestation, make_image, make_index
from tests.host.running import signed, tag
from tests.host.stand_ins import EARLY_SIGNER, SIGNER, EarlySigner, Hub, RecordingSigner
from tests.host.world import KEY, ON, REPOSITORY, World, build, spoken

ARM = "linux/arm/v7"
ALL = ("linux/amd64", "linux/arm64", ARM, "linux/s390x")


def arrange(world: World, *, docker: bool = True, untyped: bool = False) -> None:
    """Put a new index under a tag of its own, and an old one under the tag to be moved."""
    for name, version in (("build", "new"), ("1", "old")):
        world.put(
            REPOSITORY, name, build(version, *ALL, docker=docker, media_type_field=not untyped)
        )


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

    tag(
        [world.tag_item("a/app", source="build", add=["1"], archs=archs, exclude=exclude)],
        world.settings(ON),
    )

    assert taken(world) == expected
    assert set(world.platforms(REPOSITORY, "1")) == set(ALL)
    assert_signed(world, "1")


def test_other_variants_of_an_architecture_are_told_apart(world: World) -> None:
    variants = ("linux/amd64", "linux/amd64/v2", "linux/amd64/v3")
    world.put(REPOSITORY, "build", build("new", *variants))
    world.put(REPOSITORY, "1", build("old", *variants))
    item = world.tag_item(
        "a/app", source="build", add=["1"], archs=["linux/amd64/v3"], exclude=True
    )

    tag([item], world.settings(ON))

    assert taken(world) == {"linux/amd64", "linux/amd64/v2"}


@pytest.mark.parametrize("untyped", [False, True], ids=["typed", "untyped"])
@pytest.mark.parametrize("archs", [[*ALL], ["arm64"]], ids=["all", "some"])
def test_a_new_tag_gets_what_was_chosen(world: World, archs: list[str], untyped: bool) -> None:
    digest = world.put(
        REPOSITORY, "build", build("new", *ALL, docker=False, media_type_field=not untyped)
    )

    tag([world.tag_item("a/app", source="build", add=["1"], archs=archs)], world.settings(ON))

    assert len(taken(world)) == len(archs)
    assert (world.digest(REPOSITORY, "1") == digest) == (len(archs) == len(ALL))
    assert_signed(world, "1")


def test_text_that_is_not_ascii_goes_up_byte_for_byte(world: World) -> None:
    digest = world.put(REPOSITORY, "build", spoken(build("new", *ALL, docker=False)))

    tag([world.tag_item("a/app", source="build", add=["1"], archs=[*ALL])], world.settings(ON))

    assert world.digest(REPOSITORY, "1") == digest
    assert_signed(world, "1")


def test_attestations_come_and_go_with_their_images(world: World) -> None:
    both = ("linux/amd64", "linux/arm64")
    new, old = ([make_image(p, seed=seed) for p in both] for seed in ("new", "old"))
    for name, images in (("build", new), ("1", old)):
        world.put(REPOSITORY, name, make_index([*images, *map(make_attestation, images)]))

    tag([world.tag_item("a/app", source="build", add=["1"], archs=["arm64"])], world.settings(ON))

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
    item = world.tag_item("a/app", source="build", add=["1"], archs=["arm64"])

    if choice == "fail":
        with pytest.raises(MixedTypes):
            tag([item], world.settings(ON))
        assert world.digest(REPOSITORY, "1") == before
        assert RecordingSigner.signed == []
    else:
        tag([item], world.settings({**ON, "mixed_types": "oci"}))
        assert taken(world) == {"linux/arm64"}
        assert_signed(world, "1")


@pytest.mark.parametrize("exclude", [True, False])
def test_an_architecture_means_all_its_variants(world: World, exclude: bool) -> None:
    variants = {"linux/arm/v6", "linux/arm/v7"}
    world.put(REPOSITORY, "build", build("new", "linux/amd64", *sorted(variants)))
    item = world.tag_item("a/app", source="build", add=["1"], archs=["arm"], exclude=exclude)

    tag([item], world.settings(ON))

    assert set(world.platforms(REPOSITORY, "1")) == ({"linux/amd64"} if exclude else variants)


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
    item = world.tag_item("a/app", source="build", add=["1"], archs=["arm64"])

    tag([item], world.settings(ON))

    assert seen == [QuayClient]
    assert taken(world) == {"linux/arm64"}


def test_entries_without_a_platform_stay(world: World) -> None:
    nested = make_index([make_image("linux/386")])
    world.put(REPOSITORY, "build", build("new", "linux/amd64", docker=False))
    world.put(REPOSITORY, "1", make_index([make_image("linux/arm64"), nested]))

    tag([world.tag_item("a/app", source="build", add=["1"], archs=["amd64"])], world.settings(ON))

    assert nested.digest in {entry.digest for entry in world.read(REPOSITORY, "1").manifests}
    assert_signed(world, "1")


def test_each_platform_can_be_pulled(world: World, tmp_path: Path) -> None:
    arrange(world)

    tag([world.tag_item("a/app", source="build", add=["1"], archs=["arm64"])], world.settings(ON))

    for number, (platform, digest) in enumerate(world.platforms(REPOSITORY, "1").items()):
        world.pull(REPOSITORY, "1", platform, tmp_path / str(number))
        pulled = (tmp_path / str(number) / "manifest.json").read_bytes()
        assert f"sha256:{hashlib.sha256(pulled).hexdigest()}" == digest


def test_early_signers_sign_the_children(world: World) -> None:
    arrange(world)
    signing = [{"enabled": True, "label": EARLY_SIGNER, "config_file": "early.yaml"}]
    item = world.tag_item("a/app", source="build", add=["1"], archs=["arm64"])

    tag([item], world.settings(ON, signing=signing))

    entries = world.read(REPOSITORY, "1").manifests
    assert {e.digest for e in entries} == {s.digest for s in EarlySigner.signed}


def test_a_source_image_replaces_nothing_of_another_type(world: World) -> None:
    """The host asks for Docker types first, and takes the refusal of an OCI tag for its absence."""
    world.put(REPOSITORY, "build", make_image("linux/amd64", docker=True))
    old = world.put(REPOSITORY, "1", make_image("linux/arm64"))

    item = world.tag_item("a/app", source="build", add=["1"], archs=["amd64"])

    with pytest.raises(BadPushItem, match="it holds application"):
        tag([item], world.settings(ON))

    assert world.digest(REPOSITORY, "1") == old


def test_a_source_image_is_copied_as_ever(world: World) -> None:
    digest = world.put(REPOSITORY, "build", make_image("linux/amd64", docker=True))

    tag([world.tag_item("a/app", source="build", add=["1"], archs=["x86_64"])], world.settings(ON))

    assert world.digest(REPOSITORY, "1") == digest


@pytest.mark.usefixtures("quay_io")
@pytest.mark.parametrize("exists", [True, False])
def test_a_tag_must_exist_on_the_stage_target_before(world: World, exists: bool) -> None:
    arrange(world)
    world.put("stage/a----app", "1" if exists else "2", build("new", *ALL))
    before = world.digest(REPOSITORY, "1")
    hub = Hub({"stage": world.settings(quay_namespace="stage")})
    item = world.tag_item("a/app", source="build", add=["1"], archs=["arm64"])
    settings = world.settings(ON, propagated_from="stage")

    if exists:
        tag([item], settings, hub)
        assert taken(world) == {"linux/arm64"}
    else:
        with pytest.raises(BadPushItem):
            tag([item], settings, hub)
        assert world.digest(REPOSITORY, "1") == before


def hosts_own(world: World, mlmerge: object) -> tuple[object, ...]:
    """Tag as the host does it, and tell what it wrote and signed."""
    arrange(world)
    RecordingSigner.signed.clear()
    world.log.forget()
    item = world.tag_item("a/app", source="build", add=["1"], archs=["arm64"])
    tag([item], world.settings(mlmerge))
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


def test_disabled_signers_sign_nothing(world: World) -> None:
    arrange(world)
    signing = [{"enabled": False, "label": SIGNER, "config_file": "signer.yaml"}]
    item = world.tag_item("a/app", source="build", add=["1"], archs=["arm64"])

    tag([item], world.settings(ON, signing=signing))

    assert RecordingSigner.signed == []
