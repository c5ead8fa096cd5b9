"""Writers, and the registries and locks that they share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from pubtools_mlmerge.testing import RegistryServer
from tests.peers import Peer
from tests.quay import QuayDialect
from tests.redis_servers import RealRedis, redis_server
from tests.servers import RealRegistry
from tests.stress.arena import Arena
from tests.stress.counts import WRITERS
from tests.stress.crew import Crew

API_TOKEN = "opens the history of tags"


@pytest.fixture(scope="session")
def arenas(docker_registry_plain: RealRegistry) -> Iterator[Mapping[str, Arena]]:
    """A real registry, and one that behaves as Quay does."""
    with RegistryServer(dialect=QuayDialect(API_TOKEN)) as quay:
        places = {"docker-registry": docker_registry_plain.host, "Quay dialect": quay.host}
        yield {
            name: Arena(name=name, peer=Peer(url=f"http://{host}"), host=host).stock()
            for name, host in places.items()
        }


@pytest.fixture(scope="session")
def crew(arenas: Mapping[str, Arena]) -> Iterator[Crew]:
    """Processes that have loaded all that a merge takes."""
    with Crew(WRITERS) as crew:
        arenas["docker-registry"].meet(crew, options=("--dry-run",))
        yield crew


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRedis]:
    """A server that everybody may use."""
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def doomed(tmp_path: Path) -> Iterator[RealRedis]:
    """A server that a test may end."""
    with redis_server(tmp_path) as server:
        yield server
