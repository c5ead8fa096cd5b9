"""The suite: all that is measured, in parts that can be asked for by name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator

from attrs import evolve

from benchmarks import copies, lists, many_tags, one_merge, programs, starts
from benchmarks.figures import Case
from benchmarks.scale import Scale
from benchmarks.world import World, world

# Those of which each run is short come first.
IN_REGISTRIES: dict[str, Callable[[World, Scale, str], Iterator[Case]]] = {
    "one": lambda world, scale, _: one_merge.cases(world, scale),
    "programs": programs.cases,
    "copies": lambda world, scale, _: copies.cases(world, scale),
    "memory": lambda world, scale, _: many_tags.memory(world, scale),
    "tags": lambda world, scale, _: many_tags.cases(world, scale),
}
OTHERS: dict[str, Callable[[Scale, str], Iterator[Case]]] = {
    "imports": lambda scale, _: starts.imports(scale),
    "starts": starts.starts,
    "lists": lambda scale, _: lists.cases(scale),
}
PARTS = (*OTHERS, *IN_REGISTRIES)


def measure(names: Iterable[str], scale: Scale, alone: str) -> Iterator[Case]:
    """Measure.

    Args:
        names (Iterable[str]):
            The parts.
        scale (Scale):
            How much.
        alone (str):
            A Python beside which this project is installed, and no host.

    Yields:
        Case: What was measured, with the load of the machine at that time.
    """
    names = tuple(names)
    for name in (n for n in names if n in OTHERS):
        yield from map(_with_load, OTHERS[name](scale, alone))
    registries = [name for name in names if name in IN_REGISTRIES]
    if registries:
        with world() as there:
            for name in registries:
                yield from map(_with_load, IN_REGISTRIES[name](there, scale, alone))


def _with_load(case: Case) -> Case:
    return evolve(case, load=round(os.getloadavg()[0], 2))
