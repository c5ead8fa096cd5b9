"""Pushes of the real host: an item with some tags, within a docker-registry or from another one."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from benchmarks.conftest import Measure
from pubtools_mlmerge import plugin

pytest.importorskip("pubtools._quay.push_docker")

from pubtools.pluggy import pm

from tests.host.conftest import elsewhere, registries, world  # noqa: F401 - fixtures
from tests.host.running import push
from tests.host.world import ON, World, build

MERGING, IDLE, OFF = "push-docker, merging", "push-docker, plugin idle", "push-docker, no plugin"


@pytest.fixture(autouse=True)
def _unverified(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the host verify no certificates, as it does by default."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", [MERGING, IDLE, OFF])
@pytest.mark.parametrize("kind", ["Docker", "OCI"])
@pytest.mark.parametrize("place", ["same", "other"])
@pytest.mark.parametrize("number", [1, 10, 50])
def bench_push(  # noqa: PLR0913, PLR0917 - the table has these columns
    measure: Measure,
    world: World,  # noqa: F811
    elsewhere: World,  # noqa: F811
    number: int,
    place: str,
    kind: str,
    name: str,
) -> None:
    """Tags that hold a platform which the pushed build lacks."""
    tags = [f"tag-{n}" for n in range(min(number, 2) if measure.tiny else number)]
    origin, docker = (world if place == "same" else elsewhere), kind == "Docker"
    item = origin.push_item("src/app:new", {"a/app": tags})
    settings = world.settings(ON if name == MERGING else None, source_quay_host=origin.host)

    def before() -> None:
        world.empty()
        elsewhere.empty()
        for tag in tags:
            world.put("ns/a----app", tag, build("old", "linux/amd64", "linux/s390x", docker=docker))
        origin.put("src/app", "new", build("new", "linux/amd64", docker=docker))

    with ExitStack() as stack:
        if name == OFF:
            stack.callback(pm.register, pm.unregister(plugin))
        figure = f"push of {number} tag{'s' * (number > 1)}, {kind}, {place} registry"
        run = lambda: push([item], settings)  # noqa: E731
        measure(figure, name, run, rounds=3 if number < 50 else 1, before=before)  # noqa: PLR2004
    requests = [*world.log.made(), *elsewhere.log.made()]
    measure.benchmark.extra_info["requests"] = len(requests)
    assert ("linux/s390x" in world.platforms("ns/a----app", tags[-1])) == (name == MERGING)
