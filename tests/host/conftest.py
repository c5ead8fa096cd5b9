"""The real host, with the services around it replaced at their edges."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from pubtools._quay import push_docker, quay_client, tag_docker
from pubtools._quay.quay_session import QuaySession
from pubtools.pluggy import pm

from pubtools_mlmerge import plugin  # noqa: F401 - loaded once, as by an earlier task
from tests.host.requests_made import AccessLog
from tests.host.stand_ins import (
    CLAIMS_SIGNER,
    EARLY_SIGNER,
    SIGNER,
    ClaimsSigner,
    Deletions,
    EarlySigner,
    RecordingSigner,
)
from tests.host.world import World
from tests.servers import RealRegistry, docker_registry, require


def addresses() -> tuple[str, str]:
    """Make two addresses of this run's own.

    The host takes apart references at each colon, so its registries must be on the default port.
    """
    high, low = divmod(os.getpid() % 2**15, 2**7)
    return f"127.43.{high}.{2 * low}:443", f"127.43.{high}.{2 * low + 1}:443"


@pytest.fixture(scope="session")
def registries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RealRegistry]]:
    """Debian's docker-registry behind self-signed TLS, which skopeo trusts and the host ignores."""
    require("skopeo")
    shared = tmp_path_factory.mktemp("shared")
    bundle = shared / "authorities.pem"
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        running = [
            stack.enter_context(
                docker_registry(tmp_path_factory.mktemp("registry"), tls=True, address=address)
            )
            for address in addresses()
        ]
        authorities = [each.ca_file.read_text() for each in running if each.ca_file is not None]
        bundle.write_text("".join(authorities))
        patch.setenv("SSL_CERT_FILE", str(bundle))
        patch.setenv("REGISTRY_AUTH_FILE", str(shared / "auth.json"))
        yield running


@pytest.fixture
def world(registries: list[RealRegistry], monkeypatch: pytest.MonkeyPatch) -> World:
    """An empty registry, signers in the host's table, and none of our variables."""
    for signer, label in ((RecordingSigner, SIGNER), (EarlySigner, EARLY_SIGNER)):
        monkeypatch.setitem(push_docker.SIGNER_BY_LABEL, label, signer)
        signer.signed.clear()
        signer.removed.clear()
    monkeypatch.setitem(push_docker.SIGNER_BY_LABEL, CLAIMS_SIGNER, ClaimsSigner)
    ClaimsSigner.kept.clear()
    monkeypatch.setattr(push_docker, "QuayApiClient", Deletions)
    Deletions.made.clear()
    for name in [name for name in os.environ if name.startswith("MLMERGE_")]:
        monkeypatch.delenv(name)
    return _world(registries[0])


@pytest.fixture
def quay_io(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the registry be where the host looks by default, as it does for stage targets."""

    def connect(hostname: str | None = None, **named: object) -> QuaySession:
        return QuaySession(hostname or world.host, **named)

    monkeypatch.setattr(quay_client, "QuaySession", connect)


@pytest.fixture
def elsewhere(registries: list[RealRegistry]) -> World:
    """Another registry, empty as well."""
    return _world(registries[1])


def _world(registry: RealRegistry) -> World:
    made = World(registry, AccessLog(registry))
    made.empty()
    return made


@pytest.fixture
def untagged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note what is untagged; docker-registry has not the API for it."""
    found: list[str] = []
    monkeypatch.setattr(
        tag_docker, "untag_images", lambda references, **_: found.extend(references)
    )
    return found


@pytest.fixture
def plugged() -> Iterator[Callable[[object], None]]:
    """Register implementations of hooks for the time of a test."""
    with ExitStack() as stack:

        def register(plugin: object) -> None:
            pm.register(plugin)
            stack.callback(pm.unregister, plugin)

        yield register


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the host verify no certificates, as it does; it silences the warnings itself."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            for category in ("urllib3.exceptions.InsecureRequestWarning", "DeprecationWarning"):
                item.add_marker(pytest.mark.filterwarnings(f"ignore::{category}"))
