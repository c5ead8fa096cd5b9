"""Figures: how long each side took, and how the sides compare."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from typing import Union

from attrs import frozen

Detail = Union[str, int]


@frozen
class Ratio:
    """How a side compares with another one: medians, and the least and most of all runs."""

    middle: float
    least: float
    most: float

    @classmethod
    def between(cls, above: tuple[float, ...], below: tuple[float, ...]) -> Ratio:
        """Compare values that were measured in pairs."""
        each = [one / other for one, other in zip(above, below)]
        middle = statistics.median(above) / statistics.median(below)
        return cls(middle, min(each), max(each))


@frozen(kw_only=True)
class Side:
    """What was measured of one side: values of its runs, in order, and requests of one run."""

    values: tuple[float, ...]
    requests: int | None = None

    @property
    def median(self) -> float:
        """The middle value."""
        return statistics.median(self.values)


@frozen(kw_only=True)
class Case:
    """Sides that were measured in turn.

    Attributes:
        name (str):
            What was measured; cases of one name differ in their details.
        details (Mapping[str, Detail]):
            Under which conditions.
        sides (Mapping[str, Side]):
            The sides.
        against (str):
            The side that the others are compared with.
        unit (str):
            ``s`` or ``bytes``.
        load (float):
            Load average of the machine just after it.
    """

    name: str
    details: Mapping[str, Detail]
    sides: Mapping[str, Side]
    against: str
    unit: str = "s"
    load: float = 0.0

    def ratio(self, side: str, against: str = "") -> Ratio | None:
        """Tell how many times as much the other side took; none if one was not measured."""
        one, other = self.sides.get(side), self.sides.get(against or self.against)
        return None if one is None or other is None else Ratio.between(other.values, one.values)


def in_turn(
    sides: Mapping[str, Callable[[], float]], runs: int, *, warm: int = 1
) -> dict[str, tuple[float, ...]]:
    """Measure sides one after the other, and all again, some times.

    Args:
        sides (Mapping[str, Callable[[], float]]):
            Each carries out one run and gives its value.
        runs (int):
            How many runs count.
        warm (int):
            How many runs before them do not.

    Returns:
        dict[str, tuple[float, ...]]: The values of each side.
    """
    rows = [{name: run() for name, run in sides.items()} for _ in range(warm + runs)]
    return {name: tuple(row[name] for row in rows[warm:]) for name in sides}
