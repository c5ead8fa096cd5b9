"""How tests start the host's tasks."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from pubtools._quay import push_docker, tag_docker
from pubtools._quay.item_processor import SignEntry
from pubtools.pluggy import task_context

from tests.host.stand_ins import Hub, RecordingSigner
from tests.host.world import Item, World


def push(items: Sequence[Item], settings: dict[str, object], hub: Hub | None = None) -> None:
    """Run push-docker inside a task."""
    with task_context():
        push_docker.PushDocker(list(items), hub, "1", "target", settings).run()


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


def tag(items: Sequence[Item], settings: dict[str, object], hub: Hub | None = None) -> None:
    """Run tag-docker inside a task."""
    with task_context():
        tag_docker.TagDocker(list(items), hub, "1", "target", settings).run()


def signed(world: World, repository: str, name: str) -> list[SignEntry]:
    """List what was signed about a tag's present content, the repository by its internal name."""
    digest = world.digest(repository, name)
    return [entry for entry in RecordingSigner.signed if entry.digest == digest]
