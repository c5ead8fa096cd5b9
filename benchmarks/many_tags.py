"""One source merged into many tags, of one repository and of many."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from attrs import evolve, frozen

from benchmarks import growth, least, sides
from benchmarks.figures import Case, Side, in_turn
from benchmarks.measuring import measured
from benchmarks.scale import Scale
from benchmarks.sides import Merging, Work, seconds
from benchmarks.world import OLD, SOURCES, Site, World, merged_digests

NAME = "many tags"
MEMORY = "memory that many tags take"
LEAST, LEAST_BY_REQUESTS = "the least that merges", "the least by requests"
_LOOP_TAKES_AGES = 1000  # tags, of which a loop is not waited for

Tags = Sequence[tuple[str, str]]  # each in its repository


@frozen
class _Load:
    """What is merged at a time, and where."""

    site: Site
    tags: Tags
    distance: int
    threads: int


def cases(world: World, scale: Scale) -> Iterator[Case]:
    """Measure numbers of tags at the usual distance, and the usual number at the others."""
    open_, token = world.sites.values()
    for spread in sorted({1, scale.repositories}):
        repositories = _repositories(world, spread)
        for number in (n for n in scale.tags if n >= min(spread, scale.many)):
            tags = [(repositories[n % spread], f"tag-{n}") for n in range(number)]
            load = _Load(open_, tags, scale.usual, sides.THREADS)
            yield _case(world, load, scale)
            if number == scale.many:
                yield _case(world, evolve(load, site=token), scale)
            if number == scale.many and spread == 1:
                for site in (open_, token):
                    yield _case(world, evolve(load, site=site, threads=scale.threads), scale)
                for distance in scale.distances:
                    if distance != scale.usual:
                        yield _case(world, evolve(load, distance=distance), scale)


def _repositories(world: World, spread: int) -> list[str]:
    """Name the repository of the sources alone, or make others that have all images."""
    if spread == 1:
        return ["app"]
    repositories = [f"spread-{number}" for number in range(spread)]
    for repository in repositories:
        for number, item in enumerate((*SOURCES, OLD)):
            world.upload(repository, f"some-{number}", item)
    return repositories


def _case(world: World, load: _Load, scale: Scale) -> Case:
    for repository, tag in load.tags:
        world.put(repository, tag, OLD)
    world.move(load.distance)
    is_short = len(load.tags) < _LOOP_TAKES_AGES and load.distance == scale.usual
    contenders = _contenders(load.threads, loop=is_short)
    each = partial(_merge_all, world, load.site, load.tags, contenders)
    # Where a side merges so often in each run, one run more would warm nothing up.
    scale = evolve(scale, warm=0) if len(load.tags) >= scale.many else scale
    taken = measured(world, load.site, contenders, each, scale)
    details = {
        **load.site.details(load.distance),
        "tags": len(load.tags),
        "repositories": len({repository for repository, _ in load.tags}),
        "threads": load.threads,
    }
    return Case(name=NAME, details=details, sides=taken, against=sides.HOST_POOL)


def _contenders(threads: int, *, loop: bool) -> Mapping[str, Merging]:
    hosts = {sides.HOST_LOOP: sides.by_host} if loop else {}
    return sides.with_host(
        {
            sides.STEP: partial(sides.by_step, threads=threads),
            sides.STEP_VERIFIED: partial(sides.by_step, verify=True, threads=threads),
            LEAST: partial(least.on_connections, threads=threads),
            LEAST_BY_REQUESTS: partial(least.by_requests, threads=threads),
        },
        {**hosts, sides.HOST_POOL: partial(sides.by_host_pool, threads=threads)},
    )


def _merge_all(
    world: World, site: Site, tags: Tags, contenders: Mapping[str, Merging], name: str
) -> float:
    """Merge another source than the time before, so that each tag changes."""
    tag, source = world.next_source()
    destinations = tuple(site.reference(tag, repository) for repository, tag in tags)
    digests = merged_digests(source)
    took = seconds(contenders[name], Work(site, site.reference(tag), destinations, digests))
    for repository, last in (tags[0], tags[-1]):
        world.check(repository, last, digests)
    return took


def memory(world: World, scale: Scale) -> Iterator[Case]:
    """Measure by how much a process grows that merges into many tags."""
    world.move(0)
    site = world.sites["open"]
    tags = [f"tag-{number}" for number in range(scale.growing)]

    def run() -> float:
        for tag in tags:
            world.put("app", tag, OLD)
        return float(growth.measure(site.host, tags))

    values = in_turn({sides.STEP: run}, scale.runs, warm=0)
    taken = {name: Side(values=each) for name, each in values.items()}
    details = {**site.details(0), "tags": scale.growing}
    yield Case(name=MEMORY, details=details, sides=taken, against="", unit="bytes")
