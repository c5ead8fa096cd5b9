"""A merge into another repository of the registry, which needs the images first."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from functools import partial

from benchmarks import sides
from benchmarks.figures import Case
from benchmarks.measuring import measured
from benchmarks.peers import is_here
from benchmarks.running import run
from benchmarks.scale import Scale
from benchmarks.sides import Merging, Work, seconds
from benchmarks.world import OLD, PASSWORD, USER, Site, World, merged_digests

NAME = "one merge into another repository"
SKOPEO = "skopeo and host's class"
_NUMBERS = itertools.count()


def cases(world: World, scale: Scale) -> Iterator[Case]:
    """Measure three images of two blobs each, with and without a login, at each distance."""
    ours = {sides.STEP_VERIFIED: partial(sides.by_step, verify=True, threads=1)}
    contenders = sides.with_host(ours, {SKOPEO: by_skopeo} if is_here("skopeo") else {})
    for site in world.sites.values():
        for distance in scale.distances:
            world.move(distance)
            taken = measured(
                world, site, contenders, partial(_once, world, site, contenders), scale
            )
            details = site.details(distance)
            yield Case(name=NAME, details=details, sides=taken, against=SKOPEO)


def _once(world: World, site: Site, contenders: Mapping[str, Merging], name: str) -> float:
    """Merge into a repository that has none of the source's images."""
    repository = f"copy-{next(_NUMBERS)}"
    world.upload(repository, "stable", OLD)
    tag, source = world.next_source()
    digests = merged_digests(source)
    destination = site.reference("stable", repository)
    took = seconds(contenders[name], Work(site, site.reference(tag), (destination,), digests))
    world.check(repository, "stable", digests)
    return took


def by_skopeo(work: Work) -> None:
    """Copy each image by skopeo, as the host does, and then merge by the host's class."""
    logins = (f"--{side}-creds={USER}:{PASSWORD}" for side in ("src", "dest"))
    copy = ["skopeo", "copy", "--quiet", "--all", "--preserve-digests", *logins]
    for digest in work.digests[:-1]:
        source = f"docker://{work.source.rpartition(':')[0]}@{digest}"
        run([*copy, source, f"docker://{work.image(digest)}"])
    sides.by_host(work)
