"""Pushes to a registry that answers as Quay does."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pubtools._quay import container_image_pusher

from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import Unauthorized
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.registry.http import ConnectOptions
from pubtools_mlmerge.registry.quay_history import TagHistory
from pubtools_mlmerge.testing import RegistryServer
from tests.host.running import copy
from tests.host.world import ON, REPOSITORY, THREE, TWO, World, build
from tests.programs import put
from tests.quay import QuayDialect
from tests.scripted import authority, ca_bundle

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


def push(
    world: World, quay: RegistryServer, name: str = "a/app", mlmerge: object = ON, **others: object
) -> None:
    settings = world.settings(mlmerge, quay_host=quay.host, source_quay_host=quay.host, **others)
    item = world.push_item("src/app:new", {name: ["1"]})
    item.metadata["pull_url"] = f"{quay.host}/src/app:new"
    copy([item], settings)


def test_a_tag_is_merged(world: World, quay: RegistryServer, copies: list[object]) -> None:
    old = build("old", *THREE)
    put(quay, "1", old, REPOSITORY)

    push(world, quay)

    merged = quay.manifest(REPOSITORY, "1").content.decode()
    assert old.children[2].digest in merged
    assert old.children[0].digest not in merged
    assert copies == []


@pytest.mark.parametrize("name", ["a/new", "b/new"], ids=["404", "401"])
def test_a_repository_that_does_not_exist_yet_is_copied_to(
    world: World, quay: RegistryServer, copies: list[object], name: str
) -> None:
    push(world, quay, name)

    assert copies == [[f"{name.replace('/', '----')}:1"]]


def test_a_refused_login_is_no_absent_repository(
    world: World, quay: RegistryServer, copies: list[object]
) -> None:
    with pytest.raises(Unauthorized):
        push(world, quay, dest_quay_password="wrong")

    assert copies == []


def test_an_anchor_tag_expires_by_quay_s_own_api(
    world: World, quay: RegistryServer, copies: list[object]
) -> None:
    put(quay, "1", build("old", *THREE), REPOSITORY)

    push(world, quay, mlmerge={**ON, "anchor_tag": "{tag}-kept", "anchor_days": 30})

    client = RegistryClient(
        quay.host, username="dest", password="dest-password", options=ConnectOptions(insecure=True)
    )
    history, tag = TagHistory(client, TOKEN), Reference.parse(f"{quay.host}/{REPOSITORY}:1")
    end = history.expiration(tag.tagged("1-kept"))
    assert end is not None
    assert end // DAY - int(time.time()) // DAY == 30
    assert history.expiration(tag) is None
    assert client.digest(tag.tagged("1-kept")) == client.digest(tag)
