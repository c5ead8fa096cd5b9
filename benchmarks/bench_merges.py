"""Merges on a registry: one, many, and into a repository that needs the images first."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, redirect_stdout
from functools import partial
from io import StringIO

import pytest
from attrs import frozen
from pubtools._quay.manifest_list_merger import ManifestListMerger as HostMerger
from pubtools._quay.quay_client import QuayClient

from benchmarks.conftest import Measure
from benchmarks.registry import OLD, Place
from pubtools_mlmerge.cli.parsers import merge_main
from pubtools_mlmerge.merging.merger import ManifestListMerger
from pubtools_mlmerge.registry.client import RegistryClient
from tests.programs import call

Side = Callable[[str, list[str]], None]  # merges a source into tags

CLASS, COMMAND, HOST = "ManifestListMerger", "pubtools-mlmerge-merge", "host's class"
DISTANCES = (0, 5, 20, 80)  # milliseconds of a round trip
NUMBERS, LOGIN = itertools.count(), ("user", "password")


def merge_by(kind: type, clients: Sequence[object], source: str, tag: str) -> None:
    merger = kind(source, tag)
    merger.set_quay_clients(*clients)
    merger.merge_manifest_lists()


def by_class(source: str, tags: list[str]) -> None:
    with closing(RegistryClient(host=f"https://{source.partition('/')[0]}")) as client:
        merge_by(ManifestListMerger, (client, client), source, tags[0])


def by_command(source: str, tags: list[str]) -> None:
    with redirect_stdout(StringIO()):
        assert call(merge_main, source, ",".join(tags)) == 0, "the command failed"


def by_login(kind: type, source: str, tags: list[str]) -> None:
    kind(source, tags[0], None, *LOGIN, *LOGIN, source.partition("/")[0]).merge_manifest_lists()


def by_host(source: str, tags: list[str]) -> None:
    """Merge by the host's class, as many tags at a time as the command does."""
    clients = [QuayClient(*LOGIN, source.partition("/")[0]) for _ in range(2)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(partial(merge_by, HostMerger, clients, source), tags))


def by_skopeo(source: str, tags: list[str]) -> None:
    """Copy the source by skopeo, as the host does, and then merge by the host's class."""
    copied = f"docker://{tags[0].rpartition(':')[0]}:copied"
    copy = ("skopeo", "copy", "--quiet", "--all", "--preserve-digests", f"docker://{source}")
    subprocess.run([*copy, copied], check=True)
    by_host(source, tags)


ONE: dict[str, Side] = {
    CLASS: by_class,
    f"{CLASS}, user and password": partial(by_login, ManifestListMerger),
    COMMAND: by_command,
    HOST: partial(by_login, HostMerger),
}
MANY: dict[str, Side] = {COMMAND: by_command, HOST: by_host}
COPY: dict[str, Side] = {COMMAND: by_command, f"skopeo, then {HOST}": by_skopeo}


@frozen
class Case:
    """One source of three images into tags of three, each of which keeps one."""

    figure: str
    ms: int
    sides: Mapping[str, Side]
    tags: int = 1
    is_fresh: bool = False  # each round in a repository that has none of the source's images

    def measure(self, measure: Measure, registry: Place, name: str) -> None:
        """Measure a side, each round from another source; check what the last one left behind."""
        tags = [f"tag-{number}" for number in range(2 if measure.tiny else self.tags)]
        repository, source, references = "app", "", [""]
        registry.put(repository, tags, OLD)

        def before() -> None:
            nonlocal repository, source, references
            if self.is_fresh:
                repository = f"copy-{next(NUMBERS)}"
                registry.put(repository, tags, OLD)
            source = registry.next_source()
            references = [f"{registry.host()}/{repository}:{tag}" for tag in tags[: self.tags]]

        registry.move(0 if measure.tiny else self.ms)
        run, rounds = (lambda: self.sides[name](source, references)), 7 if self.tags == 1 else 3
        measure((self.figure, name), run, before, rounds)
        measure.benchmark.extra_info["requests"] = registry.count()
        registry.check(repository, tags[: self.tags])


CASES = [
    *(Case(f"one merge, {ms} ms", ms, ONE) for ms in DISTANCES),
    *(Case(f"{number} tags, 20 ms", 20, MANY, tags=number) for number in (100, 2000)),
    Case("another repository, 20 ms", 20, COPY, is_fresh=True),
]
PAIRS = [pytest.param(case, name, id=case.figure) for case in CASES for name in case.sides]


@pytest.mark.parametrize(("case", "name"), PAIRS)
def bench_merges(measure: Measure, registry: Place, case: Case, name: str) -> None:
    case.measure(measure, registry, name)
