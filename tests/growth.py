"""How the work grows with the size of what is given, whatever the machine is busy with."""

from __future__ import annotations

import time
from collections.abc import Callable

# What takes less than this is quick enough, and too short to be compared.
_SHORT = 0.001


def growth(work: Callable[[int], object], size: int) -> float:
    """Tell how many times as long the processor takes for four times the size.

    It is 4 where work is in proportion to the size, and 16 where it grows with its square.
    """
    return _shortest(work, 4 * size) / max(_shortest(work, size), _SHORT)


def _shortest(work: Callable[[int], object], size: int) -> float:
    return min(_seconds(work, size) for _ in range(3))


def _seconds(work: Callable[[int], object], size: int) -> float:
    began = time.thread_time()
    work(size)
    return time.thread_time() - began
