"""Hosts whose method names fit and whose behaviour changed."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
from pubtools._quay import push_docker, tag_docker

from pubtools_mlmerge.core.manifests import OCI_INDEX
from pubtools_mlmerge.errors import CannotMergeHere, StepNotDone
from pubtools_mlmerge.host import seams
from tests.host.running import add, push
from tests.host.world import BUILD, ON, REPOSITORY, THREE, Item, World, build


def theirs(name: str) -> type:
    """Return the host's own class."""
    found = seams._REPLACED["push_docker", name]
    assert isinstance(found, type)
    return found


def arrange(world: World) -> Item:
    """Arrange for a push that a merge would change."""
    world.fill()
    return world.push_item("src/app:new", {"a/app": ["1"], "b/app": ["2"]})


def copy_inline(pusher: push_docker.ContainerImagePusher) -> None:
    """Copy without the methods that ours override."""
    for item in pusher.push_items:
        references = pusher._prepare_dest_refs(item)
        pusher.run_tag_images(item.metadata["pull_url"], references, True, pusher.target_settings)


@pytest.mark.parametrize(
    ("mlmerge", "asks"),
    [(ON, True), (None, False), ({**ON, "exclude_repos": ["*"]}, False)],
    ids=["on", "off", "excluded"],
)
def test_a_copy_past_the_step_fails_a_task_that_asks_and_names_the_tags(
    world: World, mlmerge: object, asks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = arrange(world)
    monkeypatch.setattr(theirs("ContainerImagePusher"), "push_container_images", copy_inline)

    if asks:
        with pytest.raises(StepNotDone) as caught:
            push([item], world.settings(mlmerge))
        names = [str(world.reference(f"ns/{n}----app", t)) for n, t in (("a", "1"), ("b", "2"))]
        assert list(caught.value.tags) == names
    else:
        push([item], world.settings(mlmerge))


class RunsAlone(tag_docker.TagDocker):  # type: ignore[misc]  # the host is untyped
    """A site's class that does not run as the host's does."""

    def run(self) -> None:
        for item in self.push_items:
            self.merge_manifest_lists_sign_images(item, "1", ["arm64"])


@pytest.mark.parametrize(("mlmerge", "asks"), [(ON, True), (None, False)])
def test_a_class_that_runs_without_the_step_does_not_merge_for_a_task_that_asks(
    world: World, mlmerge: object, asks: bool
) -> None:
    world.fill()
    world.fill(source=BUILD)
    before = world.digest(REPOSITORY, "1")
    item = world.tag_item("a/app", source="build", add=["1"], archs=["arm64"])
    task = RunsAlone([item], None, "1", "target", world.settings(mlmerge))

    with pytest.raises(CannotMergeHere) if asks else nullcontext():
        task.run()

    assert (world.digest(REPOSITORY, "1") == before) is asks


def write_past_the_step(task: tag_docker.TagDocker, item: Item, tag: str, archs: object) -> None:
    """Write by a client that the class has kept."""
    source = f"{task.quay_host}/{BUILD}"
    content = task.quay_client.get_manifest(source, raw=True)
    vars(task)["_quay_client"].upload_manifest(
        content, f"{task.quay_host}/{REPOSITORY}:{tag}", raw=True
    )


def write_own_list(task: tag_docker.TagDocker, item: Item, tag: str, archs: object) -> None:
    """Merge by another class."""
    content = task.quay_client.get_manifest(f"{task.quay_host}/{BUILD}", raw=True)
    task.quay_client.upload_manifest(content, f"{task.quay_host}/{REPOSITORY}:{tag}", raw=True)


@pytest.mark.parametrize(
    ("merge", "words", "is_written"),
    [
        (write_past_the_step, "did not write this tag by the step", True),
        (write_own_list, "has its own list for this tag", False),
    ],
)
def test_a_merge_past_the_step_fails_a_tag_docker_that_asks(
    world: World,
    merge: object,
    words: str,
    is_written: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world.fill(source=BUILD)
    before = world.digest(REPOSITORY, "1")
    host = seams._REPLACED["tag_docker", "TagDocker"]
    monkeypatch.setattr(host, "merge_manifest_lists_sign_images", merge)

    with pytest.raises(StepNotDone, match=f"{words}.*ns/a----app:1"):
        add(world, "arm64")

    assert (world.digest(REPOSITORY, "1") != before) is is_written


def run_without_signing(worker: push_docker.PushDocker) -> None:
    """Push, and call the signing by another name."""
    items = worker.get_docker_push_items()
    push_docker.ContainerImagePusher(items, worker.target_settings).push_container_images()


@pytest.mark.parametrize(
    ("mlmerge", "key", "fails"),
    [(ON, "key", True), ({**ON, "sign": False}, "key", False), (ON, None, False)],
    ids=["sign", "no sign", "no key"],
)
def test_a_merged_tag_that_no_signer_got_fails_the_task(
    world: World, mlmerge: object, key: str | None, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = arrange(world)
    item.claims_signing_key = key
    monkeypatch.setattr(theirs("PushDocker"), "run", run_without_signing)

    refused = pytest.raises(StepNotDone, match=r"recording-signer.*ns/a----app:1")
    with refused if fails else nullcontext():
        push([item], world.settings(mlmerge))
    assert set(world.platforms(REPOSITORY, "1")) == set(THREE)


def test_security_manifests_leave_out_what_became_an_oci_index(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    item = world.fill("1", "2")
    world.put(REPOSITORY, "1", build("old", *THREE, docker=False))
    attested: list[object] = []

    def push_all(pusher: push_docker.SecurityManifestPusher) -> None:
        with pytest.raises(AttributeError):  # another task with the same item, without a hub
            push([item], world.settings(propagated_from="stage"))
        for each in pusher.push_items:
            pusher.push_manifest_list_security_manifests(each, "")

    manifests = theirs("SecurityManifestPusher")
    monkeypatch.setattr(manifests, "push_security_manifests", push_all)
    monkeypatch.setattr(
        manifests,
        "push_manifest_list_security_manifests",
        lambda _self, each, _path: attested.append(each.metadata["tags"]),
    )

    settings = world.settings(
        {**ON, "mixed_types": "oci"},
        push_security_manifests_enabled=True,
        cosign_private_key_path="cosign.key",
        cosign_public_key_path="cosign.pub",
    )
    push([item], settings)

    assert attested == [{"a/app": ["2"]}]
    assert world.read(REPOSITORY, "1").media_type == OCI_INDEX
    assert set(world.platforms(REPOSITORY, "1")) == set(THREE)
    tag = world.reference(REPOSITORY, "1")
    assert f"{tag} is an OCI index and gets no security manifests" in caplog.messages
    assert item.metadata["tags"] == {"a/app": ["1", "2"]}
