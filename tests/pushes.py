"""Pushes of the step alone, without the host."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import SimpleNamespace

from pubtools.pluggy import hookimpl, pm

from pubtools_mlmerge.errors import LockLost
from pubtools_mlmerge.host.clients import PushItem, Sides
from pubtools_mlmerge.host.push_step import PushStep
from pubtools_mlmerge.settings import Settings


def begin(
    sides: Sides,
    host: str,
    settings: Settings,
    items: Iterable[PushItem] = (),
) -> PushStep:
    """Begin a push between given sides."""
    task = SimpleNamespace(quay_host=host, target_settings={"quay_namespace": "ns"})
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
