"""Pulling: source and destination are read at the same time where that saves time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Optional, TypeVar

from pubtools_mlmerge.core.manifests import Manifest
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.observe import span
from pubtools_mlmerge.registry.base import Registry

_First = TypeVar("_First")
_Second = TypeVar("_Second")
_Found = TypeVar("_Found", bound=Optional[Manifest])


def recorded(pull: Callable[[Reference], _Found], reference: Reference) -> _Found:
    """Pull within a span.

    Args:
        pull (Callable[[Reference], Manifest | None]):
            Pulls.
        reference (Reference):
            What to pull.

    Returns:
        Manifest | None: What `pull` returns.

    Raises:
        Exception: What `pull` raises.
    """
    with span("pull", reference=str(reference)) as current:
        found = pull(reference)
        current.note(digest=None if found is None else found.digest)
        return found


def intend(
    source: Registry, of: Reference, destination: Registry, into: Reference, *, writes: bool = True
) -> None:
    """Announce what a merge needs at once, so that one login is asked for instead of several.

    Args:
        source (Registry):
            Reads the source.
        of (Reference):
            The source.
        destination (Registry):
            Reads the destination and writes it.
        into (Reference):
            The destination.
        writes (bool):
            Whether it is to be written.
    """
    push = (into,) if writes else ()
    if source is destination:
        source.intend(pull=(of, into), push=push)
    else:
        source.intend(pull=(of,))
        destination.intend(pull=(into,), push=push)


def are_quicker_at_once(
    source: Registry, of: Reference, destination: Registry, into: Reference
) -> bool:
    """Tell whether two references are read sooner at the same time than one after the other.

    Where a connection is there already, a second one costs a handshake, which with TLS takes longer
    than the other answer. Clients of which each thread has its own connection are never quicker.

    Args:
        source (Registry):
            Reads the source.
        of (Reference):
            The source.
        destination (Registry):
            Reads the destination.
        into (Reference):
            The destination.

    Returns:
        bool: False to read them in turn.
    """
    one, other = source.link(of), destination.link(into)
    if one is None or other is None:
        return False
    return one.url != other.url or one.is_wide


def both(
    first: Callable[[], _First], second: Callable[[], _Second], *, at_once: bool
) -> tuple[_First, _Second]:
    """Do two things.

    Args:
        first (Callable[[], object]):
            One of them.
        second (Callable[[], object]):
            The other; where it is done at once, in another thread.
        at_once (bool):
            Whether to do them at the same time.

    Returns:
        tuple[object, object]: What either returns.

    Raises:
        Exception: What either raises, that of the first before that of the second.
    """
    if not at_once:
        return first(), second()
    with ThreadPoolExecutor(1, thread_name_prefix="mlmerge") as pool:
        other = pool.submit(copy_context().run, second)
        return first(), other.result()
