"""Pushes of the step alone, without the host."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import SimpleNamespace

from attrs import define, field
from pubtools.pluggy import hookimpl, pm

from pubtools_mlmerge.errors import LockLost
from pubtools_mlmerge.host.clients import HostClient, PushItem, Sides
from pubtools_mlmerge.host.push_step import PushStep
from pubtools_mlmerge.settings import Settings


@define
class Task:
    """Stands for the host's task; its clients are never used."""

    quay_host: str
    target_settings: dict[str, object]
    src_quay_client: HostClient = field(init=False)
    dest_quay_client: HostClient = field(init=False)

    def run_tag_images(self, *_: object) -> None:
        """Copy nothing."""


def begin(
    sides: Sides,
    host: str,
    settings: Settings,
    *,
    namespace: str = "ns",
    items: Iterable[PushItem] = (),
) -> PushStep:
    """Begin a push between given sides."""
    task = Task(host, {"quay_namespace": namespace})
    return PushStep(task, settings, items, sides)


def item(source: str, tags: Mapping[str, Sequence[str]], **metadata: object) -> PushItem:
    """Make an item that pushes a source to tags of external repositories."""
    fields = {"pull_url": source, "tags": tags, **metadata}
    return SimpleNamespace(metadata=fields, claims_signing_key="key", repos={})


@contextmanager
def registered(implementation: object, name: str | None = None) -> Iterator[None]:
    """Register implementations of hooks for a while."""
    pm.register(implementation, name)
    try:
        yield
    finally:
        pm.unregister(implementation)


class Expired:
    """Gives out locks that are lost at once."""

    @hookimpl
    def mlmerge_lock(self, reference: str) -> AbstractContextManager[Expired]:
        return nullcontext(self)

    def check(self) -> None:
        raise LockLost("app:3", "expired")
