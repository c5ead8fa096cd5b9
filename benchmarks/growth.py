"""By how much a process grows while it merges into many tags; a program of its own."""

from __future__ import annotations

import resource
import sys

from benchmarks.running import output
from benchmarks.sides import Work, by_step
from benchmarks.world import Site

_FEW = 10  # the part of the tags after which whatever is loaded once is loaded
_KIB = 1024


def measure(host: str, tags: list[str]) -> int:
    """Merge in a process of its own.

    Args:
        host (str):
            The registry.
        tags (list[str]):
            The tags, all in one repository.

    Returns:
        int: By how many bytes the most that it took grew from a few tags to all of them.
    """
    return int(output([sys.executable, "-m", "benchmarks.growth", host, *tags]))


def main() -> None:
    """Merge one source into a few tags, and another one into all of them."""
    host, *tags = sys.argv[1:]
    site = Site("", host)
    destinations = tuple(site.reference(tag) for tag in tags)
    by_step(Work(site, site.reference("new-0"), destinations[: -(-len(tags) // _FEW)], ()))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    by_step(Work(site, site.reference("new-1"), destinations, ()))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print((after - before) * _KIB)


if __name__ == "__main__":
    main()
