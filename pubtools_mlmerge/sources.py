"""Sources: each is read once, however many tags it goes to."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future

from pubtools_mlmerge.core.manifests import Manifest
from pubtools_mlmerge.core.references import Reference

_MOST = 64


class Sources:
    """Remembers what sources hold; safe from several threads.

    Args:
        most (int):
            How many are remembered; those that were asked for last.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._known: OrderedDict[Reference, Future[Manifest]] = OrderedDict()

    def __contains__(self, reference: Reference) -> bool:
        with self._lock:
            return reference in self._known

    def get(self, reference: Reference, pull: Callable[[Reference], Manifest]) -> Manifest:
        """Tell what a source holds.

        Args:
            reference (Reference):
                The source.
            pull (Callable[[Reference], Manifest]):
                Reads it, if that was not done yet; other threads wait for it.

        Returns:
            Manifest: What it holds.

        Raises:
            MergeError: What the reading raises; it is not remembered.
        """
        with self._lock:
            known = self._known.get(reference)
            if known is None:
                mine = self._known[reference] = Future[Manifest]()
                while len(self._known) > self._most:
                    self._known.popitem(last=False)
            else:
                self._known.move_to_end(reference)
        if known is not None:
            return known.result()
        try:
            mine.set_result(pull(reference))
        except BaseException as error:
            mine.set_exception(error)
            with self._lock:
                self._known.pop(reference, None)
            raise
        return mine.result()
