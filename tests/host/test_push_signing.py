"""What a push with the step signs, and whose signatures it removes."""

from __future__ import annotations

import pytest
from pubtools._quay.item_processor import SignEntry

from pubtools_mlmerge.errors import PushFailed
from pubtools_mlmerge.testing import make_image
from tests.host.running import push, push_new, signed
from tests.host.stand_ins import (
    CLAIMS_SIGNER,
    EARLY_SIGNER,
    SIGNER,
    ClaimsSigner,
    EarlySigner,
    RecordingSigner,
)
from tests.host.world import KEY, ON, REPOSITORY, THREE, TWO, World, build

PUBLIC = ["one.example.com", "two.example.com"]


def expected(world: World, tag: str, registry: str) -> SignEntry:
    """Make the entry for a merged tag."""
    return SignEntry(
        repo="a/app",
        reference=f"quay.io/ns/a----app:{tag}",
        pub_reference=f"{registry}/a/app:{tag}",
        digest=world.digest(REPOSITORY, tag),
        signing_key=KEY,
        arch="",
    )


@pytest.mark.parametrize("docker", [True, False], ids=["docker", "oci"])
def test_a_merged_index_is_signed_once_for_each_tag_and_registry(
    world: World, docker: bool
) -> None:
    world.fill("1", "2", docker=docker)
    public = {"umb_urls": [], "docker_reference_registry": PUBLIC}

    push_new(world, "1", "2", docker_settings=public)

    for tag in ("1", "2"):
        wanted = [expected(world, tag, registry) for registry in PUBLIC]
        assert signed(world, REPOSITORY, tag) == wanted


def test_only_signers_that_come_after_the_push_sign_it(world: World) -> None:
    world.fill()
    signing = [
        {"enabled": True, "label": EARLY_SIGNER, "config_file": "early.yaml"},
        {"enabled": False, "label": SIGNER, "config_file": "signer.yaml"},
    ]

    push_new(world, signing=signing)

    digest = world.digest(REPOSITORY, "1")
    assert EarlySigner.signed
    assert digest not in {entry.digest for entry in EarlySigner.signed}
    assert RecordingSigner.signed == []


@pytest.mark.parametrize(("sign", "key"), [(False, KEY), (True, None)])
def test_nothing_of_ours_is_signed_where_that_is_off_or_without_a_key(
    world: World, sign: bool, key: str | None
) -> None:
    item = world.fill()
    item.claims_signing_key = key

    push([item], world.settings({**ON, "sign": sign}))

    assert RecordingSigner.signed
    assert signed(world, REPOSITORY, "1") == []


def test_an_image_that_was_merged_is_signed_by_the_host_where_ours_is_off(world: World) -> None:
    item = world.fill()
    image = make_image("linux/s390x", docker=True, seed="new")
    world.put("src/app", "new", image)
    types = {"media_types": [image.media_type]}
    item.metadata["build"] = {"extra": {"image": types}}

    push([item], world.settings({**ON, "sign": False}))

    assert image.digest in {entry.digest for entry in RecordingSigner.signed}


def test_a_repository_of_two_names_is_signed_under_both(world: World) -> None:
    world.fill()
    kept = world.platforms(REPOSITORY, "1")["linux/s390x"]
    item = world.push_item("src/app:new", {"a/app": ["1"], "a----app": ["1"]})

    push([item], world.settings(ON))

    names = {entry.pub_reference for entry in signed(world, REPOSITORY, "1")}
    assert names == {"registry.example.com/a/app:1", "registry.example.com/a----app:1"}
    assert world.digest("src/app", "new") not in {e.digest for e in RecordingSigner.signed}
    assert kept not in removed()


@pytest.mark.parametrize(
    ("exists", "names"),
    [(True, "new one"), (False, "new one"), (False, "one new")],
    ids=["merged twice", "copied and merged", "copied twice"],
)
def test_a_tag_of_two_items_is_signed_as_it_is_in_the_end(
    world: World, exists: bool, names: str
) -> None:
    if exists:
        world.fill()
    world.put("src/app", "new", build("new", *TWO))
    world.put("src/app", "one", build("one", "linux/amd64"))
    items = [world.push_item(f"src/app:{name}", {"a/app": ["1"]}) for name in names.split()]

    push(items, world.settings(ON, num_thread_container_push=1))

    of_indexes = {e.digest for e in RecordingSigner.signed if not e.arch}
    assert of_indexes == {world.digest(REPOSITORY, "1")}


def test_what_a_signer_knows_to_be_signed_is_not_signed_again(world: World) -> None:
    world.fill("1", "2")
    signing = [{"enabled": True, "label": CLAIMS_SIGNER, "config_file": "claims.yaml"}]

    push_new(world, signing=signing)
    first = [claim["manifest_digest"] for claim in ClaimsSigner.kept]
    push_new(world, "1", "2", signing=signing)
    second = [claim["manifest_digest"] for claim in ClaimsSigner.kept[len(first) :]]

    one, two = (world.digest(REPOSITORY, name) for name in ("1", "2"))
    assert (one in first, two in first) == (True, False)
    assert (one in second, two in second) == (False, True)


def removed() -> set[str]:
    return {digest for digest, _, _ in RecordingSigner.removed}


def test_signatures_of_kept_children_stay_and_of_replaced_ones_go(world: World) -> None:
    world.fill()
    old = world.platforms(REPOSITORY, "1")

    push_new(world)

    assert old["linux/amd64"] in removed()
    assert old["linux/s390x"] not in removed()


def test_signatures_of_kept_children_stay_where_the_host_compares_wrong_pairs(
    world: World,
) -> None:
    # A tag that turns into an OCI index is lost to the host, and it pairs the others off by one.
    for name in ("1", "2", "3"):
        world.put(REPOSITORY, name, build(f"old {name}", *TWO))
    world.put("src/app", "oci", build("oci", "linux/arm64", docker=False))
    world.put("src/app", "new", build("new", "linux/arm64"))
    kept = [world.platforms(REPOSITORY, name)["linux/amd64"] for name in ("1", "2", "3")]
    items = [world.push_item("src/app:oci", {"a/app": ["1"]}), world.new_item("2", "3")]

    push(items, world.settings({**ON, "mixed_types": "oci"}))

    held = [world.platforms(REPOSITORY, name)["linux/amd64"] for name in ("1", "2", "3")]
    assert held == kept
    assert not removed() & set(kept)


def test_signatures_of_what_is_pushed_again_stay_where_the_host_compares_wrong_pairs(
    world: World,
) -> None:
    world.put(REPOSITORY, "1", build("old", *TWO))
    world.put("src/app", "oci", build("oci", "linux/arm64", docker=False))
    items = [world.push_item("src/app:oci", {"a/app": ["1"]})]
    for name in ("2", "3"):
        for repository in (REPOSITORY, "src/app"):
            world.put(repository, name, build(f"new {name}", *TWO))
        items.append(world.push_item(f"src/app:{name}", {"a/app": [name]}))

    push(items, world.settings({**ON, "mixed_types": "oci"}))

    held = {world.platforms(REPOSITORY, name)["linux/amd64"] for name in ("1", "2", "3")}
    assert not removed() & held


def test_without_the_step_the_host_signs_and_removes_as_ever(world: World) -> None:
    world.fill()
    old = world.platforms(REPOSITORY, "1")

    push_new(world, mlmerge=None)

    assert removed() == {old["linux/amd64"]}
    assert len(signed(world, REPOSITORY, "1")) == 1


def about_images() -> list[tuple[str, str]]:
    """List the digests and architectures of the images that were signed."""
    return [(entry.digest, entry.arch) for entry in RecordingSigner.signed if entry.arch]


@pytest.mark.parametrize("docker", [True, False], ids=["docker", "oci"])
def test_all_that_a_merged_index_lists_is_signed_as_far_as_the_host_leaves_it_out(
    world: World, docker: bool
) -> None:
    world.fill(docker=docker)

    push_new(world)

    held = world.platforms(REPOSITORY, "1")
    signed_by_us = {p: (held[p], p.removeprefix("linux/")) for p in THREE}
    assert set(about_images()) == set(signed_by_us.values())
    # The host's own claims about images of a Docker list are all for amd64.
    once = [p for p in THREE if p != "linux/amd64" or not docker]
    assert [about_images().count(signed_by_us[p]) for p in once] == [1] * len(once)


def test_a_retry_signs_what_a_push_whose_signer_failed_did_not(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.fill(docker=False)

    def fail(self: object, entries: object, task_id: str) -> None:
        raise RuntimeError("no signer")

    with monkeypatch.context() as patch:
        patch.setattr(RecordingSigner, "sign_containers", fail)
        with pytest.raises(PushFailed, match=r"RuntimeError; merged before that: .*ns/a----app:1"):
            push_new(world)
    push_new(world)

    held = world.platforms(REPOSITORY, "1")
    assert {digest for digest, _ in about_images()} == set(held.values())
    assert len(signed(world, REPOSITORY, "1")) == 1


@pytest.mark.parametrize("held", [(), TWO], ids=["new tag", "nothing to keep"])
def test_an_oci_index_that_is_copied_is_signed_like_a_merged_one(
    world: World, held: tuple[str, ...]
) -> None:
    world.put("src/app", "new", build("new", *TWO, docker=False))
    if held:
        world.put(REPOSITORY, "1", build("old", *held, docker=False))

    push_new(world)

    assert len(signed(world, REPOSITORY, "1")) == 1
    assert len(about_images()) == len(TWO)


@pytest.mark.parametrize("exists", [True, False])
def test_an_oci_image_that_is_copied_is_signed(world: World, exists: bool) -> None:
    if exists:
        world.put(REPOSITORY, "1", make_image("linux/s390x", seed="old"))
    digest = world.put("src/app", "new", make_image("linux/s390x", seed="new"))

    push_new(world)

    assert world.digest(REPOSITORY, "1") == digest
    assert [entry.digest for entry in RecordingSigner.signed] == [digest]


def test_the_source_list_is_claimed_for_the_tags_that_hold_it_and_for_no_other(
    world: World,
) -> None:
    world.fill()

    push_new(world, "1", "fresh")

    source = world.digest("src/app", "new")
    claims = [e.pub_reference for e in RecordingSigner.signed if e.digest == source]
    assert claims == ["registry.example.com/a/app:fresh"]


def test_an_image_that_a_later_item_replaces_is_not_claimed(world: World) -> None:
    world.put(REPOSITORY, "1", make_image("linux/arm64", docker=True))
    for name in ("first", "second"):
        world.put("src/app", name, make_image("linux/amd64", docker=True, seed=name))
    items = [world.push_item(f"src/app:{name}", {"a/app": ["1"]}) for name in ("first", "second")]

    push(items, world.settings(ON, num_thread_container_push=1))

    held = world.read(REPOSITORY, "1")
    digests = {held.digest, *(entry.digest for entry in held.manifests)}
    assert {entry.digest for entry in RecordingSigner.signed} == digests
