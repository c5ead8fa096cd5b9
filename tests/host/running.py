"""How tests start the host's tasks."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from types import SimpleNamespace

import pytest
from pubtools._quay import push_docker, tag_docker
from pubtools._quay.item_processor import SignEntry
from pubtools.pluggy import task_context

from tests.host.stand_ins import RecordingSigner
from tests.host.world import ON, Item, World


def push(items: Sequence[Item], settings: dict[str, object], hub: object = None) -> None:
    """Run push-docker inside a task."""
    with task_context():
        push_docker.PushDocker(list(items), hub, "1", "target", settings).run()


def push_new(world: World, *tags: str, mlmerge: object = ON, **settings: object) -> None:
    """Push the new build to tags of a/app."""
    push([world.new_item(*tags)], world.settings(mlmerge, **settings))


def copy(items: Sequence[Item], settings: dict[str, object]) -> None:
    """Run the part of push-docker that copies, within its worker, and sign nothing."""
    with task_context(), pytest.MonkeyPatch.context() as patch:
        ours = push_docker.PushDocker
        theirs = ours.__mro__[1]
        patch.setattr(theirs, "run", _copy)
        ours(list(items), None, "1", "target", {**settings, "signing": []}).run()


def _copy(worker: push_docker.PushDocker) -> None:
    pusher = push_docker.ContainerImagePusher(worker.push_items, worker.target_settings)
    pusher.push_container_images()


def tag(items: Sequence[Item], settings: dict[str, object], hub: object = None) -> None:
    """Run tag-docker inside a task."""
    with task_context():
        tag_docker.TagDocker(list(items), hub, "1", "target", settings).run()


def add(
    world: World,
    *archs: str,
    mlmerge: object = ON,
    exclude: bool = False,
    hub: object = None,
    **settings: object,
) -> None:
    """Add architectures of a/app:build to a/app:1."""
    item = world.tag_item("a/app", source="build", add=["1"], archs=archs, exclude=exclude)
    tag([item], world.settings(mlmerge, **settings), hub)


def remove(
    world: World,
    *archs: str,
    mlmerge: object = ON,
    exclude: bool = False,
    hub: object = None,
    source: str = "",
    **settings: object,
) -> None:
    """Remove architectures from a/app:1."""
    item = world.tag_item("a/app", source=source, remove=["1"], archs=archs, exclude=exclude)
    tag([item], world.settings(mlmerge, **settings), hub)


def program(
    *command: str, given: object = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a program without any of our variables; it gets JSON."""
    clean = {name: value for name, value in os.environ.items() if "MLMERGE" not in name}
    return subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        input=json.dumps(given),
        env={**clean, "PYTHONWARNINGS": "ignore", **environment},
    )


def hub_of(world: World) -> object:
    """Make what stands for the task host's hub, which knows the settings of the stage target."""
    target = {"settings": world.settings(quay_namespace="stage")}
    return SimpleNamespace(worker=SimpleNamespace(get_target_info={"stage": target}.__getitem__))


def signed(world: World, repository: str, name: str) -> list[SignEntry]:
    """List what was signed about a tag's present content, the repository by its internal name."""
    digest = world.digest(repository, name)
    return [entry for entry in RecordingSigner.signed if entry.digest == digest]
