"""Progress: a bar on a terminal, where the library for it is installed."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

_Item = TypeVar("_Item")


def watched(items: Iterable[_Item], total: int | None) -> Iterable[_Item]:
    """Show how far something is, on standard error if that is a terminal.

    Args:
        items (Iterable[object]):
            What is gone through.
        total (int | None):
            How many they are; none if nobody knows.

    Returns:
        Iterable[object]: The same items.
    """
    if not sys.stderr.isatty():
        return items
    try:
        # Optional, and slow to load.
        from rich.console import Console  # noqa: PLC0415
        from rich.progress import (  # noqa: PLC0415
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TimeElapsedColumn,
        )
    except ImportError:
        return items
    columns = BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    progress = Progress(*columns, console=Console(stderr=True), transient=True)

    def go_through() -> Iterator[_Item]:
        with progress, _logs_above():
            yield from progress.track(items, total=total)

    return go_through()


@contextmanager
def _logs_above() -> Iterator[None]:
    """Let log lines go by way of what standard error is at present, above the bar."""
    handlers = [h for h in logging.getLogger().handlers if type(h) is logging.StreamHandler]
    before = [handler.setStream(sys.stderr) for handler in handlers]
    try:
        yield
    finally:
        for handler, stream in zip(handlers, before):
            if stream is not None:
                handler.setStream(stream)
