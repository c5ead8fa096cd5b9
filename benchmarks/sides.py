"""The sides in this process: this project, and the host's class where it is installed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial

from attrs import frozen

from benchmarks.world import PASSWORD, USER, Site
from pubtools_mlmerge.concurrency import map_in_order
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.merging.decision import StepOptions
from pubtools_mlmerge.merging.merger import ManifestListMerger
from pubtools_mlmerge.merging.step import Step
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.registry.copying import Children

try:
    from pubtools._quay.manifest_list_merger import ManifestListMerger as HostMerger
    from pubtools._quay.quay_client import QuayClient
except ImportError:
    HAS_HOST = False
else:
    HAS_HOST = True

FACADE = "ManifestListMerger"
FACADE_HOST_CLIENT = "ManifestListMerger, host's client"
STEP = "step, no verification"
STEP_VERIFIED = "step, verification"
HOST = "host's class"
HOST_LOOP = "host's class, loop"
HOST_POOL = "host's class, pool"
THREADS = 8


@frozen
class Work:
    """What is to be done.

    Attributes:
        site (Site):
            The registry.
        source (str):
            Reference of the source.
        destinations (tuple[str, ...]):
            References of the tags that it is merged into.
        digests (tuple[str, ...]):
            What they are to list; last what is kept of them.
    """

    site: Site
    source: str
    destinations: tuple[str, ...]
    digests: tuple[str, ...]

    @property
    def destination(self) -> str:
        """The first of the tags."""
        return self.destinations[0]

    def image(self, digest: str) -> str:
        """Name an image in the repository of the first tag."""
        return f"{self.destination.rpartition(':')[0]}@{digest}"


Merging = Callable[[Work], None]


def seconds(merging: Merging, work: Work) -> float:
    """Merge, and tell how long it took."""
    began = time.perf_counter()
    merging(work)
    return time.perf_counter() - began


def _merge(kind: type, clients: tuple[object, object], source: str, destination: str) -> None:
    merger = kind(source, destination)
    merger.set_quay_clients(*clients)
    merger.merge_manifest_lists()


def client_of(site: Site) -> RegistryClient:
    """Make a client of this project, with a login where one is wanted."""
    if not site.wants_login:
        return RegistryClient(host=site.url)
    return RegistryClient(USER, PASSWORD, site.url)


def by_facade_with(client: RegistryClient, work: Work) -> None:
    """Merge by the public class, with a client that may have connections already."""
    _merge(ManifestListMerger, (client, client), work.source, work.destination)


def by_facade(work: Work) -> None:
    """Merge by the public class, with the client of this project for both sides."""
    with closing(client_of(work.site)) as client:
        by_facade_with(client, work)


def by_step(work: Work, *, verify: bool = False, threads: int = THREADS) -> None:
    """Merge by the step, several tags at a time."""
    with closing(client_of(work.site)) as client:
        options = StepOptions(verify=verify)
        step = Step(client, client, options, Children(client, client))
        source = Reference.parse(work.source)
        jobs = (partial(step.merge, source, Reference.parse(d)) for d in work.destinations)
        for report in map_in_order(jobs, threads):
            assert report.changed, f"{report.destination} had it already"


def host_clients(site: Site) -> tuple[QuayClient, QuayClient]:
    """Make the two clients that a task of the host works with."""
    return QuayClient(USER, PASSWORD, site.host), QuayClient(USER, PASSWORD, site.host)


def by_host_client(work: Work) -> None:
    """Merge by the public class, with the host's clients."""
    _merge(ManifestListMerger, host_clients(work.site), work.source, work.destination)


def by_host_with(clients: tuple[QuayClient, QuayClient], work: Work) -> None:
    """Merge by the host's class, with clients that may have connections already."""
    for destination in work.destinations:
        _merge(HostMerger, clients, work.source, destination)


def by_host(work: Work) -> None:
    """Merge by the host's class, one tag after the other."""
    by_host_with(host_clients(work.site), work)


def by_host_pool(work: Work, *, threads: int = THREADS) -> None:
    """Merge by the host's class, several tags at a time."""
    merge = partial(_merge, HostMerger, host_clients(work.site), work.source)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(merge, work.destinations))


def host_merge(source: dict[str, object], destination: dict[str, object]) -> object:
    """Merge by the host's functions alone, which work on decoded lists."""
    missing = HostMerger.get_missing_architectures(source, destination)
    return HostMerger("", "")._add_missing_architectures(source, missing)  # noqa: SLF001


def with_host(ours: Mapping[str, Merging], hosts: Mapping[str, Merging]) -> dict[str, Merging]:
    """Take the host's sides as well, where there is a host."""
    return {**ours, **(hosts if HAS_HOST else {})}
