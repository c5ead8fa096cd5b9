"""One merge as a process: the program of this project, that of the host, and others."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from attrs import frozen

from benchmarks import peers
from benchmarks.figures import Case
from benchmarks.measuring import measured, once
from benchmarks.peers import Command
from benchmarks.running import run, script
from benchmarks.scale import Scale
from benchmarks.sides import HAS_HOST, Work
from benchmarks.world import LIST, USER, Site, World

NAME = "one merge as a process"
FLOOR = "one merge as a process, beside its requests alone"
OURS = "pubtools-mlmerge-merge"
UNVERIFIED = f"{OURS} --no-verify"
BESIDE_HOST = f"{OURS}, beside the host"
HOSTS = "pubtools-quay-merge-manifest-list"
BARE = "requests alone"
IMPORTS = "imports alone"

# What every command of this project has to load, before a line of its own.
REQUIRED = "import argparse, attrs, requests, pubtools.pluggy"
_BARE = f"""
import os, re, sys, requests
new, old, user = sys.argv[1:]
index = {{"Accept": "{LIST}"}}
session = requests.Session()
source = session.get(new, headers=index)
if source.status_code == 401:
    challenge = dict(re.findall('([a-z]+)="(.+?)"', source.headers["WWW-Authenticate"]))
    wanted = {{"service": challenge["service"], "scope": "repository:app:pull,push"}}
    login = user, os.environ["DEST_QUAY_PASSWORD"]
    token = session.get(challenge["realm"], params=wanted, auth=login).json()["token"]
    session.headers["Authorization"] = f"Bearer {{token}}"
    source = session.get(new, headers=index)
session.get(old, headers=index).raise_for_status()
answer = session.put(old, data=source.content, headers={{"Content-Type": "{LIST}"}})
answer.raise_for_status()
"""
# The host's program always connects to quay.io; told otherwise, it does all else as ever.
_HOSTS = """
import functools, sys
from pubtools._quay import merge_manifest_list as program
program.ManifestListMerger = functools.partial(program.ManifestListMerger, host=sys.argv.pop(1))
program.merge_manifest_list_main()
"""


@frozen
class Program:
    """A program, which is given work by its arguments.

    Attributes:
        commands (Callable[[Work], Iterator[Sequence[str]]]):
            What is run to do it.
        merges (bool):
            Whether that merges.
    """

    commands: Callable[[Work], Iterator[Command]]
    merges: bool = True

    def do(self, work: Work) -> None:
        """Do the work."""
        for argv in self.commands(work):
            run(argv)


def cases(world: World, scale: Scale, alone: str) -> Iterator[Case]:
    """Measure programs with and without a login, at each distance.

    Args:
        world (World):
            The registries.
        scale (Scale):
            How much.
        alone (str):
            A Python beside which this project is installed, and no host.

    Yields:
        Case: What was measured.
    """
    for site in world.sites.values():
        programs = {**_own(alone), **(_others(alone) if site.name == "open" else {})}
        for distance in scale.distances:
            world.move(distance)
            each = partial(_once, world, site, programs)
            taken = measured(world, site, programs, each, scale)
            details = site.details(distance)
            whole = {n: side for n, side in taken.items() if n not in (BARE, IMPORTS)}
            yield Case(name=NAME, details=details, sides=whole, against=HOSTS)
            floor = {n: taken[n] for n in (UNVERIFIED, IMPORTS, BARE) if n in taken}
            yield Case(name=FLOOR, details=details, sides=floor, against=BARE)


def _once(world: World, site: Site, programs: Mapping[str, Program], name: str) -> float:
    program = programs[name]
    return once(world, site, program.do, merges=program.merges)


def _own(alone: str) -> dict[str, Program]:
    """Give the programs that compare platforms, and what one of them has to send."""
    found = {
        BARE: Program(partial(_bare, alone), merges=False),
        OURS: Program(_ours(alone)),
        UNVERIFIED: Program(_ours(alone, "--no-verify")),
    }
    if HAS_HOST:
        found[BESIDE_HOST] = Program(_ours(sys.executable))
        found[HOSTS] = Program(_hosts)
    return found


def _others(alone: str) -> dict[str, Program]:
    """Give what does a part of the work, and the programs of others."""
    found = {
        IMPORTS: Program(lambda _work: iter([[alone, "-c", REQUIRED]]), merges=False),
    }
    for name, commands in peers.PEERS.items():
        if peers.is_here(name):
            copies = name == "skopeo"
            found[f"{name}, a mere copy" if copies else name] = Program(commands, not copies)
    return found


def _ours(python: str, *given: str) -> Callable[[Work], Iterator[Command]]:
    program = script(python, "merge")

    def commands(work: Work) -> Iterator[Command]:
        yield *program, "--quay-host", work.site.url, *_arguments(work), *given

    return commands


def _hosts(work: Work) -> Iterator[Command]:
    yield sys.executable, "-c", _HOSTS, work.site.host, *_arguments(work)


def _bare(python: str, work: Work) -> Iterator[Command]:
    urls = (
        f"{work.site.url}/v2/app/manifests/{reference.rpartition(':')[2]}"
        for reference in (work.source, work.destination)
    )
    yield python, "-c", _BARE, *urls, USER


def _arguments(work: Work) -> Command:
    login = "--source-quay-user", USER, "--dest-quay-user", USER
    return "--source-ref", work.source, "--dest-ref", work.destination, *login
