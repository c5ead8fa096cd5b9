"""Pushes from one registry to another, and to one that answers as Quay does."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pubtools._quay import container_image_pusher
from pubtools.pluggy import hookimpl

from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import Unauthorized
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.registry.http import ConnectOptions
from pubtools_mlmerge.registry.quay_history import TagHistory
from pubtools_mlmerge.testing import RegistryServer
from tests.host.running import copy, push, signed
from tests.host.world import ON, REPOSITORY, THREE, TWO, World, build
from tests.programs import put
from tests.quay import QuayDialect
from tests.scripted import authority, ca_bundle


class Copies:
    """Notes what the host copied."""

    def __init__(self) -> None:
        self.made: list[tuple[str, list[str]]] = []

    @hookimpl
    def quay_images_tagged(self, source_ref: str, dest_refs: list[str]) -> None:
        self.made.append((source_ref, dest_refs))


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Note the destinations of each run of the host's copy."""
    made: list[list[str]] = []
    tag_images = container_image_pusher.tag_images

    def note(source: str, destinations: list[str], **others: object) -> None:
        made.append(list(destinations))
        tag_images(source, destinations, **others)

    monkeypatch.setattr(container_image_pusher, "tag_images", note)
    return made


@pytest.mark.parametrize("docker", [True, False], ids=["docker", "oci"])
def test_one_run_of_the_host_s_copy_brings_all_children_to_all_repositories(  # noqa: PLR0917
    world: World,
    elsewhere: World,
    docker: bool,
    plugged: Callable[[object], None],
    runs: list[list[str]],
    tmp_path: Path,
) -> None:
    copies = Copies()
    plugged(copies)
    new = build("new", *TWO, docker=docker)
    elsewhere.put("src/app", "new", new)
    for name in ("1", "2"):
        world.put(REPOSITORY, name, build(f"old {name}", *THREE, docker=docker))
    world.put("ns/b----app", "1", build("old b", *THREE, docker=docker))
    item = elsewhere.push_item("src/app:new", {"a/app": ["1", "2"], "b/app": ["1"]})

    push([item], world.settings(ON, source_quay_host=elsewhere.host))

    children = [child.digest for child in new.children]
    (destinations,) = runs
    names = (REPOSITORY, "ns/b----app")
    assert sorted(destinations) == [f"{world.host}/{name}@{new.digest}" for name in names]
    tags = sorted(tag for _, (tag,) in copies.made)
    assert tags == [
        f"{world.host}/{name}" for name in ("ns/a----app:1", "ns/a----app:2", "ns/b----app:1")
    ]
    for name in ("1", "2"):
        assert list(world.platforms(REPOSITORY, name).values())[:2] == children
        assert len(signed(world, REPOSITORY, name)) == 1
    for platform in THREE:
        world.pull(REPOSITORY, "1", platform, tmp_path / platform.rpartition("/")[2])


def test_nothing_is_mounted_where_skopeo_is_to_copy(world: World) -> None:
    item = world.fill()
    world.log.forget()

    push([item], world.settings({**ON, "copy": "skopeo"}))

    by_skopeo = [made for made in world.log.writes() if made.is_by_skopeo]
    assert sum("/manifests/sha256:" in made.path for made in by_skopeo) == 2
    assert set(world.platforms(REPOSITORY, "1")) == set(THREE)


# To a registry that answers as Quay does

TOKEN = "api-token"  # as the settings of targets have it
DAY = 24 * 3600


@pytest.fixture
def quay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RegistryServer]:
    """Run a registry that hides what does not exist behind the status of a refused login."""
    # The host verifies the certificate of where it gets tokens, and of nothing else.
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", ca_bundle(tmp_path))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert("127.0.0.1").configure_cert(context)
    with RegistryServer(
        dialect=QuayDialect(TOKEN),
        auth="token",
        users={"dest": "dest-password", "source": "source-password"},
        grants={"dest": ["src/*", "ns/a*"], "source": ["src/*"]},
        ssl_context=context,
    ) as server:
        put(server, "new", build("new", *TWO), "src/app")
        yield server


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Note what the host would copy by skopeo."""
    made: list[object] = []

    def note(source: str, destinations: list[str], **_: object) -> None:
        made.append([name.rpartition("/")[2] for name in destinations])

    monkeypatch.setattr(container_image_pusher, "tag_images", note)
    return made


def push_to(
    world: World, quay: RegistryServer, name: str = "a/app", mlmerge: object = ON, **others: object
) -> None:
    settings = world.settings(mlmerge, quay_host=quay.host, source_quay_host=quay.host, **others)
    item = world.push_item("src/app:new", {name: ["1"]})
    item.metadata["pull_url"] = f"{quay.host}/src/app:new"
    copy([item], settings)


def test_a_tag_is_merged(world: World, quay: RegistryServer, copies: list[object]) -> None:
    old = build("old", *THREE)
    put(quay, "1", old, REPOSITORY)

    push_to(world, quay)

    merged = quay.manifest(REPOSITORY, "1").content.decode()
    assert old.children[2].digest in merged
    assert old.children[0].digest not in merged
    assert copies == []


@pytest.mark.parametrize("name", ["a/new", "b/new"], ids=["404", "401"])
def test_a_repository_that_does_not_exist_yet_is_copied_to(
    world: World, quay: RegistryServer, copies: list[object], name: str
) -> None:
    push_to(world, quay, name)

    assert copies == [[f"{name.replace('/', '----')}:1"]]


def test_a_refused_login_is_no_absent_repository(
    world: World, quay: RegistryServer, copies: list[object]
) -> None:
    with pytest.raises(Unauthorized):
        push_to(world, quay, dest_quay_password="wrong")

    assert copies == []


def test_an_anchor_tag_expires_by_quay_s_own_api(
    world: World, quay: RegistryServer, copies: list[object]
) -> None:
    put(quay, "1", build("old", *THREE), REPOSITORY)

    push_to(world, quay, mlmerge={**ON, "anchor_tag": "{tag}-kept", "anchor_days": 30})

    client = RegistryClient(
        quay.host, username="dest", password="dest-password", options=ConnectOptions(insecure=True)
    )
    history, tag = TagHistory(client, TOKEN), Reference.parse(f"{quay.host}/{REPOSITORY}:1")
    end = history.expiration(tag.tagged("1-kept"))
    assert end is not None
    assert end // DAY - int(time.time()) // DAY == 30
    assert history.expiration(tag) is None
    assert client.digest(tag.tagged("1-kept")) == client.digest(tag)
