"""Measuring sides that work in a registry: their times, and the requests that they send."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from benchmarks.figures import Side, in_turn
from benchmarks.scale import Scale
from benchmarks.sides import Merging, Work, seconds
from benchmarks.world import OLD, Site, World, merged_digests


def measured(
    world: World, site: Site, names: Iterable[str], run: Callable[[str], float], scale: Scale
) -> dict[str, Side]:
    """Measure sides in turn, and count the requests of each.

    Args:
        world (World):
            The registries.
        site (Site):
            The one that is worked in.
        names (Iterable[str]):
            The sides.
        run (Callable[[str], float]):
            Prepares what a side needs, lets it work and tells how long that took.
        scale (Scale):
            How often.

    Returns:
        dict[str, Side]: What was measured.
    """
    requests: dict[str, int] = {}

    def counted(name: str) -> float:
        world.count(site)
        took = run(name)
        requests[name] = world.count(site)
        return took

    runs = {name: partial(counted, name) for name in names}
    values = in_turn(runs, scale.runs, warm=scale.warm)
    return {name: Side(values=values[name], requests=requests[name]) for name in runs}


def once(world: World, site: Site, merging: Merging, *, merges: bool = True) -> float:
    """Merge into one tag, which holds the same before each run.

    Args:
        world (World):
            The registries.
        site (Site):
            The one that is worked in.
        merging (Callable[[Work], None]):
            What does it.
        merges (bool):
            Whether it merges indeed, and does not something else that takes time.

    Returns:
        float: Seconds.
    """
    tag, source = world.next_source()
    world.put("app", "stable", OLD)
    digests = merged_digests(source)
    work = Work(site, site.reference(tag), (site.reference("stable"),), digests)
    took = seconds(merging, work)
    if merges:
        world.check("app", "stable", digests)
    return took
