"""How tests start the host's tasks."""

from __future__ import annotations

from collections.abc import Sequence

from pubtools._quay import push_docker, tag_docker
from pubtools._quay.item_processor import SignEntry
from pubtools.pluggy import task_context

from tests.host.stand_ins import Hub, RecordingSigner
from tests.host.world import Item, World


def push(items: Sequence[Item], settings: dict[str, object], hub: Hub | None = None) -> None:
    """Run push-docker inside a task."""
    with task_context():
        push_docker.PushDocker(list(items), hub, "1", "target", settings).run()


def tag(items: Sequence[Item], settings: dict[str, object], hub: Hub | None = None) -> None:
    """Run tag-docker inside a task."""
    with task_context():
        tag_docker.TagDocker(list(items), hub, "1", "target", settings).run()


def signed(world: World, repository: str, name: str) -> list[SignEntry]:
    """List what was signed about a tag's present content, the repository by its internal name."""
    digest = world.digest(repository, name)
    return [entry for entry in RecordingSigner.signed if entry.digest == digest]
