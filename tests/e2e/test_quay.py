"""Merges on a registry that behaves as Quay does."""

from __future__ import annotations

import pytest

from pubtools_mlmerge.core.plan import Report
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import MissingChild, Unauthorized
from pubtools_mlmerge.merging.decision import StepOptions
from pubtools_mlmerge.merging.step import Step
from pubtools_mlmerge.registry.base import Registry
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.registry.copying import Children
from pubtools_mlmerge.testing import ImageIndex, RegistryServer, make_index, upload
from tests.e2e.conftest import images, merged
from tests.peers import DOCKER_LIST, OCI_INDEX
from tests.programs import run_here

ALICE = ("alice", "wonderland")
OLD = images("linux/amd64", "linux/arm64", "linux/s390x", seed="old", docker=True)
NEW = images("linux/amd64", "linux/arm64", seed="new", docker=True)


class NoChildren:
    """Copies nothing: the children are there, or the registry says that they are missing."""

    def ensure(self, source: Reference, destination: Reference, digests: object) -> None:
        """Do nothing."""


def put(server: RegistryServer, tag: str, index: ImageIndex, repository: str = "alice/app") -> None:
    upload(server.url, repository, index, reference=tag, credentials=ALICE)


def step(client: Registry, *, dry_run: bool = False) -> Step:
    return Step(client, client, StepOptions(dry_run=dry_run), NoChildren())


def merge(server: RegistryServer, step: Step, source: str, destination: str) -> Report:
    """Merge between two names on one server."""
    return step.merge(
        Reference.parse(f"{server.host}/{source}"), Reference.parse(f"{server.host}/{destination}")
    )


def paths(server: RegistryServer) -> list[str]:
    return [f"{r.method} {r.path} {r.status}" for r in server.requests]


def test_the_union_takes_one_token_and_three_requests(quay_server: RegistryServer) -> None:
    put(quay_server, "stable", make_index(OLD, docker=True))
    put(quay_server, "new", make_index(NEW, docker=True))
    quay_server.forget_requests()
    name = f"{quay_server.host}/alice/app"

    done = run_here(
        *("merge", "--source-ref", f"{name}:new", "--dest-ref", f"{name}:stable"),
        *("--source-quay-user", "alice", "--dest-quay-user", "alice"),
        env={"SOURCE_QUAY_PASSWORD": "wonderland", "DEST_QUAY_PASSWORD": "wonderland"},
    )

    assert done.code == 0, done.err
    held = quay_server.manifest("alice/app", "stable")
    assert held.media_type == DOCKER_LIST
    assert held.content == merged(*NEW, OLD[2], media_type=DOCKER_LIST)
    challenged, token, *pulls, look, write, check = paths(quay_server)
    assert challenged.endswith(" 401")
    assert token == "GET /v2/auth 200"
    tag = "/v2/alice/app/manifests/stable"
    assert sorted(pulls) == ["GET /v2/alice/app/manifests/new 200", f"GET {tag} 200"]
    assert [look, write, check] == [f"HEAD {tag} 200", f"PUT {tag} 201", f"HEAD {tag} 200"]


def test_an_oci_index_without_a_media_type_is_merged(quay_server: RegistryServer) -> None:
    old, new = images("linux/amd64", "linux/s390x", seed="old"), images("linux/amd64", seed="new")
    put(quay_server, "stable", make_index(old, media_type_field=False))
    put(quay_server, "new", make_index(new, media_type_field=False))

    client = RegistryClient(*ALICE)
    merge(quay_server, step(client), "alice/app:new", "alice/app:stable")

    held = quay_server.manifest("alice/app", "stable")
    assert (held.media_type, held.content) == (OCI_INDEX, merged(*new, old[1]))


def test_the_missing_child_is_named(quay_server: RegistryServer) -> None:
    put(quay_server, "new", make_index(NEW, docker=True), "alice/other")
    client = RegistryClient(*ALICE)

    with pytest.raises(MissingChild) as caught:
        merge(quay_server, step(client), "alice/other:new", "alice/app:stable")

    assert caught.value.digests == (NEW[0].digest,)
    assert quay_server.tags("alice/app") == ()


def test_children_are_mounted(quay_server: RegistryServer) -> None:
    put(quay_server, "new", make_index(NEW, docker=True), "alice/other")
    client = RegistryClient(*ALICE)
    mounting = Step(client, client, StepOptions(), Children(client, client, copy="auto"))
    quay_server.forget_requests()

    merge(quay_server, mounting, "alice/other:new", "alice/app:stable")

    assert (
        quay_server.manifest("alice/app", "stable").content == make_index(NEW, docker=True).content
    )
    assert [r.status for r in quay_server.requests if "mount=" in r.query] == [201] * 4


def test_a_repository_hidden_from_a_login_counts_as_absent(quay_server: RegistryServer) -> None:
    put(quay_server, "new", make_index(NEW, docker=True))
    client = RegistryClient(*ALICE)

    report = merge(quay_server, step(client, dry_run=True), "alice/app:new", "bob/none:stable")

    assert report.previous_digest is None
    assert report.digest == make_index(NEW, docker=True).digest


@pytest.mark.parametrize("login", [(None, None), ("alice", "looking-glass")])
def test_without_an_accepted_login_a_hidden_repository_is_an_error(
    quay_server: RegistryServer, login: tuple[str, str]
) -> None:
    put(quay_server, "new", make_index(NEW, docker=True))
    reader, writer = RegistryClient(*ALICE), RegistryClient(*login)
    guarded = Step(reader, writer, StepOptions(dry_run=True), NoChildren())

    with pytest.raises(Unauthorized):
        merge(quay_server, guarded, "alice/app:new", "bob/none:stable")


def test_a_dry_run_makes_no_repository(quay_server: RegistryServer) -> None:
    put(quay_server, "new", make_index(NEW, docker=True))
    client = RegistryClient(*ALICE)
    quay_server.forget_requests()

    merge(quay_server, step(client, dry_run=True), "alice/app:new", "alice/none:stable")

    scopes = [request.query for request in quay_server.requests if request.path == "/v2/auth"]
    assert scopes
    assert not any("push" in scope for scope in scopes)
    with pytest.raises(KeyError):
        quay_server.manifest("alice/none", "stable")
