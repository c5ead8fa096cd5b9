"""A push of the real host: one item with five tags, within a docker-registry."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from attrs import evolve

from benchmarks.conftest import Measure
from benchmarks.registry import Manager, Place
from pubtools_mlmerge import plugin
from tests.servers import docker_registry

push_docker = pytest.importorskip("pubtools._quay.push_docker")

from pubtools.pluggy import pm

from tests.host.requests_made import AccessLog
from tests.host.running import push
from tests.host.stand_ins import SIGNER, Deletions, RecordingSigner
from tests.host.world import ON, World, build

# The host splits references at each colon, so the port is 443, and the address this process's own.
ADDRESS = "127.61.{}.{}".format(*divmod(os.getpid() % 2**16, 2**8))
TAGS = [f"tag-{number}" for number in range(5)]


MERGING, IDLE, OFF = "push-docker, merging", "push-docker, plugin idle", "push-docker, no plugin"


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Place]]:
    """Run a registry, and the relay by which the host reaches it."""
    directory = tmp_path_factory.mktemp("push")
    with (
        docker_registry(directory, tls=True, address=f"{ADDRESS}:5443") as near,
        Manager() as manager,
        pytest.MonkeyPatch.context() as patch,
    ):
        relay = manager.place(near.host, f"{ADDRESS}:443")
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            patch.delenv(name, raising=False)
        patch.setenv("SSL_CERT_FILE", str(near.ca_file))
        patch.setenv("REGISTRY_AUTH_FILE", str(directory / "auth.json"))
        patch.setitem(push_docker.SIGNER_BY_LABEL, SIGNER, RecordingSigner)
        patch.setattr(push_docker, "QuayApiClient", Deletions)
        registry = evolve(near, host=relay.host(), url=f"https://{relay.host()}")
        yield World(registry, AccessLog(near)), relay


@pytest.mark.parametrize("name", [MERGING, IDLE, OFF])
@pytest.mark.parametrize("ms", [0, 20])
def bench_push(measure: Measure, far: tuple[World, Place], ms: int, name: str) -> None:
    """Five tags that hold a platform which the pushed build lacks."""
    world, relay = far
    item = world.push_item("src/app:new", {"a/app": TAGS})
    settings = world.settings(ON if name == MERGING else None)

    def before() -> None:
        world.empty()
        for tag in TAGS:
            world.put("ns/a----app", tag, build("old", "linux/amd64", "linux/s390x"))
        world.put("src/app", "new", build("new", "linux/amd64"))
        relay.move(0 if measure.tiny else ms)

    with ExitStack() as stack:
        if name == OFF:
            stack.callback(pm.register, pm.unregister(plugin))
        figure = f"push of five tags, {ms} ms"
        measure(figure, name, lambda: push([item], settings), rounds=5, before=before)
    measure.benchmark.extra_info["requests"] = len(world.log.made())
    assert ("linux/s390x" in world.platforms("ns/a----app", TAGS[-1])) == (name == MERGING)
