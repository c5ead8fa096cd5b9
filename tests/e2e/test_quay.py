"""Merges on a registry that behaves as Quay does."""

from __future__ import annotations

from pubtools_mlmerge.testing import RegistryServer, make_index, upload
from tests.e2e.conftest import images, merge, merged
from tests.peers import DOCKER_LIST
from tests.programs import Done

ALICE = ("alice", "wonderland")
OLD = images("linux/amd64", "linux/arm64", "linux/s390x", seed="old", docker=True)
NEW = make_index(images("linux/amd64", "linux/arm64", seed="new", docker=True), docker=True)


def merge_as_alice(server: RegistryServer, source: str, destination: str) -> Done:
    """Merge between two names on one server."""
    login = ("--source-quay-user", "alice", "--dest-quay-user", "alice")
    passwords = {f"{side}_QUAY_PASSWORD": "wonderland" for side in ("SOURCE", "DEST")}
    return merge(f"{server.host}/{source}", f"{server.host}/{destination}", *login, env=passwords)


def test_the_union_takes_one_token_and_three_requests(quay_server: RegistryServer) -> None:
    for tag, index in (("stable", make_index(OLD, docker=True)), ("new", NEW)):
        upload(quay_server.url, "alice/app", index, reference=tag, credentials=ALICE)
    quay_server.forget_requests()

    merge_as_alice(quay_server, "alice/app:new", "alice/app:stable")

    held = quay_server.manifest("alice/app", "stable")
    assert held.media_type == DOCKER_LIST
    assert held.content == merged(*NEW.children, OLD[2], media_type=DOCKER_LIST)
    asked = [f"{r.method} {r.path} {r.status}" for r in quay_server.requests]
    challenged, token, *pulls, look, write, check = asked
    assert challenged.endswith(" 401")
    assert token == "GET /v2/auth 200"
    tag = "/v2/alice/app/manifests/stable"
    assert sorted(pulls) == ["GET /v2/alice/app/manifests/new 200", f"GET {tag} 200"]
    assert [look, write, check] == [f"HEAD {tag} 200", f"PUT {tag} 201", f"HEAD {tag} 200"]


def test_children_are_mounted(quay_server: RegistryServer) -> None:
    upload(quay_server.url, "alice/other", NEW, reference="new", credentials=ALICE)
    quay_server.forget_requests()

    merge_as_alice(quay_server, "alice/other:new", "alice/app:stable")

    assert quay_server.manifest("alice/app", "stable").content == NEW.content
    assert [r.status for r in quay_server.requests if "mount=" in r.query] == [201] * 4
