"""Tasks of the real host that go by the ages of what a tag keeps."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from pubtools_mlmerge.testing import Image, make_attestation, make_image, make_index
from tests.host.running import add, push_new, signed
from tests.host.world import REPOSITORY, World, build

Log = pytest.LogCaptureFixture

KINDS = pytest.mark.parametrize("docker", [True, False], ids=["docker", "oci"])
SAID = "1095 days old, more than 365"


def aged(platform: str, days: int, *, docker: bool = True) -> Image:
    created = datetime.now(timezone.utc) - timedelta(days=days, hours=1)
    return make_image(platform, docker=docker, created=created.isoformat(), seed="old")


def arrange(world: World, *, docker: bool = True) -> tuple[Image, Image]:
    """Put a new amd64 beside a tag that also has an arm64 of days and an s390x of years."""
    young, old = aged("linux/arm64", 9, docker=docker), aged("linux/s390x", 1095, docker=docker)
    children = [aged("linux/amd64", 9, docker=docker), young, old]
    if not docker:
        children.append(make_attestation(old))
    world.put(REPOSITORY, "1", make_index(children, docker=docker))
    world.put(REPOSITORY, "build", build("new", "linux/amd64", docker=docker))
    world.put("src/app", "new", build("new", "linux/amd64", docker=docker))
    world.log.forget()
    return young, old


def rule(step: str, stale: str) -> dict[str, object]:
    return {"steps": [step], "max_age_days": 365, "stale": stale}


@KINDS
def test_a_push_drops_what_is_too_old(world: World, docker: bool, caplog: Log) -> None:
    caplog.set_level("INFO", "pubtools.mlmerge")
    young, old = arrange(world, docker=docker)

    push_new(world, mlmerge=rule("push", "drop"))

    listed = [entry.digest for entry in world.read(REPOSITORY, "1").manifests]
    assert listed == [world.platforms("src/app", "new")["linux/amd64"], young.digest]
    image = f"{world.reference(REPOSITORY, '1')}@{old.digest}"
    assert f"{image} (linux/s390x) is dropped: {SAID}" in caplog.messages


@pytest.mark.parametrize("stale", ["warn", "drop"])
@KINDS
def test_tag_docker_goes_by_ages_as_well(
    world: World, docker: bool, stale: str, caplog: Log
) -> None:
    _, old = arrange(world, docker=docker)

    add(world, "x86_64", mlmerge=rule("tag-docker", stale))

    held = [entry.digest for entry in world.read(REPOSITORY, "1").manifests]
    assert (old.digest in held) == (stale == "warn")
    assert len(held) == (2 if stale == "drop" else 3 if docker else 4)
    said = f"@{old.digest} (linux/s390x) is kept: {SAID}"
    assert (said in caplog.text) == (stale == "warn")
    assert len(signed(world, REPOSITORY, "1")) == 1
