"""Progress: bars on a terminal, where the library for them is installed."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import IO, TYPE_CHECKING, Optional, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress

_Item = TypeVar("_Item")

Watch = Callable[[str, Optional[int]], AbstractContextManager[Callable[[], None]]]
"""Shows how many of some things are done: a name, and how many there are."""

_BAR = 20  # columns
_Handlers = list[tuple["logging.StreamHandler[IO[str]]", Optional[IO[str]]]]


@contextmanager
def unwatched(_name: str, _total: int | None) -> Iterator[Callable[[], None]]:
    """Show nothing.

    Yields:
        Callable[[], None]: To be called when one more is done.
    """
    yield lambda: None


class Display:
    """The one place of a program where bars are shown; safe from several threads.

    It is on standard error, and only there if that is a terminal. Log lines are shown above the
    bars. While something is printed, the bars are taken away.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._progress: Progress | None = None
        self._is_new = True
        self._wanted = 0
        self._hidden = 0
        self._handlers: _Handlers | None = None

    def watched(self, items: Iterable[_Item], total: int | None) -> Iterable[_Item]:
        """Show how far something is.

        Args:
            items (Iterable[object]):
                What is gone through.
            total (int | None):
                How many they are; none if nobody knows.

        Returns:
            Iterable[object]: The same items. What is done with one is done without bars.
        """
        return items if self._open() is None else self._go_through(items, total)

    def _go_through(self, items: Iterable[_Item], total: int | None) -> Iterator[_Item]:
        with self.counted("", total) as advance:
            for item in items:
                advance()
                with self._changed(hidden=1), _logs_waiting():
                    yield item

    @contextmanager
    def counted(self, name: str, total: int | None) -> Iterator[Callable[[], None]]:
        """Show how many of some things are done.

        Args:
            name (str):
                What they are.
            total (int | None):
                How many they are; none if nobody knows.

        Yields:
            Callable[[], None]: To be called when one more is done.
        """
        progress = self._open()
        if progress is None:
            yield lambda: None
            return
        task = progress.add_task(name, total=total)
        try:
            with self._changed(wanted=1):
                yield lambda: progress.advance(task)
        finally:
            progress.remove_task(task)

    def _open(self) -> Progress | None:
        """Look for the terminal when there is something to show."""
        with self._lock:
            if self._is_new:
                self._is_new, self._progress = False, _new_progress()
            return self._progress

    @contextmanager
    def _changed(self, *, wanted: int = 0, hidden: int = 0) -> Iterator[None]:
        self._change(wanted, hidden)
        try:
            yield
        finally:
            self._change(-wanted, -hidden)

    def _change(self, wanted: int, hidden: int) -> None:
        with self._lock:
            self._wanted += wanted
            self._hidden += hidden
            is_due = self._wanted > 0 and not self._hidden
            if self._progress is None or is_due == (self._handlers is not None):
                return
            if is_due:
                self._progress.start()
                self._handlers = _logs_above()
            else:
                _give_back(self._handlers or [])
                self._handlers = None
                self._progress.stop()


@contextmanager
def _logs_waiting() -> Iterator[None]:
    """Let the log lines of other threads wait, which would stand within what is printed."""
    with ExitStack() as stack:
        for handler in logging.getLogger().handlers:
            handler.acquire()
            stack.callback(handler.release)
        yield


def _new_progress() -> Progress | None:
    if not sys.stderr.isatty():
        return None
    try:
        # Optional, and slow to load.
        from rich.console import Console  # noqa: PLC0415
        from rich.progress import (  # noqa: PLC0415
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
        )
    except ImportError:
        return None
    console = Console(stderr=True)
    if console.is_dumb_terminal:
        return None
    name = TextColumn("{task.description}", markup=False)
    columns = name, BarColumn(_BAR), MofNCompleteColumn(), TimeElapsedColumn()
    # What is printed goes to standard output, which may be elsewhere.
    return Progress(*columns, console=console, transient=True, redirect_stdout=False)


def _logs_above() -> _Handlers:
    """Let log lines go by way of what standard error is at present, above the bars."""
    handlers = [h for h in logging.getLogger().handlers if type(h) is logging.StreamHandler]
    return [(handler, handler.setStream(sys.stderr)) for handler in handlers]


def _give_back(handlers: _Handlers) -> None:
    for handler, stream in handlers:
        if stream is not None:
            handler.setStream(stream)
