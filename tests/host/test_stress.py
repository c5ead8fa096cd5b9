"""Many writers of one tag at the same moment: what the host's class loses, and what ours does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.world import World
from tests.peers import Peer
from tests.stress.arena import Arena
from tests.stress.counts import WRITERS, Counts
from tests.stress.crew import Crew


@pytest.fixture
def arena(world: World) -> Arena:
    registry = world.registry
    trust = ("--ca-bundle", str(registry.ca_file))
    peer = Peer(url=registry.url, verify=registry.verify)
    return Arena(name="docker-registry with TLS", peer=peer, host=world.host, options=trust).stock()


@pytest.fixture
def crew(arena: Arena) -> Iterator[Crew]:
    """Processes that have loaded all that a merge takes, by the host or by us."""
    with Crew(WRITERS) as crew:
        arena.meet(crew, "host")
        arena.meet(crew, options=("--dry-run",))
        yield crew


def test_the_host_s_class_loses_what_a_lock_keeps(
    arena: Arena, crew: Crew, counts: Counts, tmp_path: Path
) -> None:
    theirs = counts.measure(arena, crew, "pubtools-quay's own class", task="host")
    unseen = counts.measure(arena, crew, "no lock, not verified", "--no-verify")
    looked = counts.measure(arena, crew, "no lock")
    locked = counts.measure(arena, crew, "file lock", "--lock", tmp_path.as_uri())

    assert theirs.lost > 0
    assert locked.is_perfect, locked
    assert [*theirs.flaws, *unseen.flaws, *looked.flaws] == []
