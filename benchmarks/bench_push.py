"""Pushes of the real host within a docker-registry and between two, and a layer of 1 GiB."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import ExitStack
from functools import partial

import pytest
from attrs import evolve
from pubtools.pluggy import pm

from benchmarks.bench_merges import COMMAND
from benchmarks.bench_programs import MERGE
from benchmarks.conftest import Measure
from pubtools_mlmerge import plugin
from pubtools_mlmerge.core.manifests import digest_of
from pubtools_mlmerge.testing import make_image
from tests.host.conftest import elsewhere, registries, world  # noqa: F401 - fixtures
from tests.host.running import push
from tests.host.world import ON, World, build

MERGING, IDLE, OFF = "plugin merges", "plugin idle", "no plugin"


@pytest.mark.parametrize("name", [MERGING, IDLE, OFF])
@pytest.mark.parametrize("kind", ["Docker", "OCI"])
@pytest.mark.parametrize("place", ["same", "other"])
@pytest.mark.parametrize(("number", "rounds"), [(1, 3), (10, 3), (50, 1)])
def bench_push(  # noqa: PLR0913, PLR0917 - the table has these columns
    measure: Measure,
    world: World,  # noqa: F811
    elsewhere: World,  # noqa: F811
    number: int,
    rounds: int,
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

    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # the host does not verify
            patch.delenv(variable, raising=False)
        if name == OFF:
            stack.callback(pm.register, pm.unregister(plugin))
        figure = f"push, tags: {number}, {kind}, {place} registry"
        measure((figure, name), partial(push, [item], settings), before, rounds)
    measure.benchmark.extra_info["requests"] = len([*world.log.made(), *elsewhere.log.made()])
    assert ("linux/s390x" in world.platforms("ns/a----app", tags[-1])) == (name == MERGING)


@pytest.mark.parametrize("name", [COMMAND, "skopeo copy"])
def bench_layer(measure: Measure, world: World, elsewhere: World, name: str) -> None:  # noqa: F811
    """An image with a layer that does not compress, of 1 GiB, into an empty registry."""
    layer, small = os.urandom(2**20) * (1 if measure.tiny else 2**10), make_image()
    document = json.loads(small.content)
    document["layers"][0].update(digest=digest_of(layer), size=len(layer))
    content, blobs = json.dumps(document).encode(), {**small.blobs, digest_of(layer): layer}
    elsewhere.put("app", "new", evolve(small, content=content, blobs=blobs))
    source, tag = f"{elsewhere.host}/app:new", f"{world.host}/app:new"
    argv = [*MERGE, source, tag, "--ca-bundle", os.environ["SSL_CERT_FILE"]]
    if name != COMMAND:
        argv = [*name.split(), "--preserve-digests", f"docker://{source}", f"docker://{tag}"]
    run = partial(subprocess.run, argv, check=True, capture_output=True)
    measure(("another registry, a layer of 1 GiB", name), run, world.empty, rounds=3)
    measure.benchmark.extra_info["requests"] = len([*world.log.made(), *elsewhere.log.made()])
    assert world.digest("app", "new") == digest_of(content)
