"""One merge in this process, by clients that are new or that have connections already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import partial

from benchmarks import sides
from benchmarks.figures import Case, Side
from benchmarks.measuring import measured, once
from benchmarks.scale import Scale
from benchmarks.sides import Merging
from benchmarks.world import Site, World

NAME = "one merge"
KEPT = "one merge, connections kept"


def cases(world: World, scale: Scale) -> Iterator[Case]:
    """Measure one merge with and without a login, at each distance."""
    contenders = sides.with_host(
        {
            sides.FACADE: sides.by_facade,
            sides.STEP: partial(sides.by_step, threads=1),
            sides.STEP_VERIFIED: partial(sides.by_step, verify=True, threads=1),
        },
        {sides.FACADE_HOST_CLIENT: sides.by_host_client, sides.HOST: sides.by_host},
    )
    for site in world.sites.values():
        for distance in scale.distances:
            world.move(distance)
            taken = _measured(world, site, contenders, scale)
            yield _named(NAME, site, distance, taken)
        world.move(scale.usual)
        yield _kept(world, site, scale)


def _measured(
    world: World, site: Site, contenders: Mapping[str, Merging], scale: Scale
) -> dict[str, Side]:
    return measured(world, site, contenders, lambda n: once(world, site, contenders[n]), scale)


def _kept(world: World, site: Site, scale: Scale) -> Case:
    """Measure merges by clients that merged before."""
    with closing(sides.client_of(site)) as client:
        contenders: dict[str, Merging] = {sides.FACADE: partial(sides.by_facade_with, client)}
        if sides.HAS_HOST:
            contenders[sides.HOST] = partial(sides.by_host_with, sides.host_clients(site))
        taken = _measured(world, site, contenders, scale)
    return _named(KEPT, site, scale.usual, taken)


def _named(name: str, site: Site, distance: int, taken: Mapping[str, Side]) -> Case:
    details = site.details(distance)
    return Case(name=name, details=details, sides=taken, against=sides.HOST)
