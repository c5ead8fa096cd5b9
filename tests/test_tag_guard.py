"""The guard of tag-docker: what the host uploads is checked, recorded and locked."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pubtools_mlmerge.core.manifests import Index
from pubtools_mlmerge.core.merge import merge
from pubtools_mlmerge.core.plan import Plan, Policy
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import ConflictError, LockLost
from pubtools_mlmerge.host.tag_step import HostTagWriter, persist
from pubtools_mlmerge.merging.audit import read_change
from pubtools_mlmerge.merging.decision import no_lock
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.settings import Settings
from pubtools_mlmerge.testing import ImageIndex, RegistryServer, make_image, make_index
from tests.programs import put
from tests.test_push_sides import Client

TOKEN = "0auth+t0ken"
NEW, OLD, THEIRS = (
    make_index([make_image(p, seed=seed) for p in platforms], docker=True)
    for seed, platforms in (
        ("new", ("linux/amd64", "linux/arm64")),
        ("old", ("linux/amd64", "linux/s390x")),
        ("theirs", ("linux/amd64", "linux/s390x", "linux/ppc64le")),
    )
)


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


@pytest.fixture
def tag(registry_server: RegistryServer) -> Reference:
    put(registry_server, "new", NEW, "ns/app")
    put(registry_server, "1", OLD, "ns/app")
    return Reference(registry_server.host, "ns/app", tag="1")


def guard_of(tag: Reference, settings: Settings | None = None, token: str = "") -> HostTagWriter:
    client = Client(tag.host, verify=True)
    return HostTagWriter(client, settings or Settings(), token, no_lock)


def plan_of(old: ImageIndex | None) -> Plan[Index]:
    """Plan to take arm64 from the new index."""
    source, destination = (
        None if made is None else Index.from_bytes(made.content, made.media_type)
        for made in (NEW, old)
    )
    assert source is not None
    return merge(source, destination, Policy(eligible=["arm64"]))


def held(tag: Reference) -> set[str]:
    index = RegistryClient().pull_index(tag)
    return {str(entry.slot) for entry in index.manifests}


def put_by(guard: HostTagWriter, tag: Reference, plan: Plan[Index] | None = None) -> str:
    chosen = plan or plan_of(OLD)
    return guard.put(str(tag.tagged("new")), tag, chosen, chosen.result.content)


def test_what_the_host_computed_is_written(tag: Reference) -> None:
    digest = put_by(guard_of(tag), tag)

    assert RegistryClient().digest(tag) == digest == plan_of(OLD).result.digest


def test_a_tag_that_moved_is_left_alone(registry_server: RegistryServer, tag: Reference) -> None:
    put(registry_server, "1", THEIRS, "ns/app")

    with pytest.raises(ConflictError) as caught:
        put_by(guard_of(tag), tag)

    assert (caught.value.expected, caught.value.found) == (OLD.digest, THEIRS.digest)
    assert RegistryClient().digest(tag) == THEIRS.digest


def test_without_verifying_nobody_looks(registry_server: RegistryServer, tag: Reference) -> None:
    put(registry_server, "1", THEIRS, "ns/app")
    registry_server.forget_requests()

    put_by(guard_of(tag, Settings(verify=False)), tag)

    assert [request.method for request in registry_server.requests] == ["PUT"]


def test_a_lost_lock_prevents_the_write(tag: Reference) -> None:
    def check() -> None:
        raise LockLost(str(tag), "expired")

    guard = HostTagWriter(Client(tag.host), Settings(), None, check)

    for plan in (plan_of(OLD), None):
        with pytest.raises(LockLost):
            guard.put(str(tag.tagged("new")), tag, plan, plan_of(OLD).result.content)
    with pytest.raises(LockLost):
        guard.remove(tag, ["linux/s390x"])
    assert RegistryClient().digest(tag) == OLD.digest


def test_a_list_that_others_computed_is_written_as_it_is(tag: Reference) -> None:
    digest = guard_of(tag).put(str(tag.tagged("new")), tag, None, NEW.content)

    assert RegistryClient().digest(tag) == digest == NEW.digest


def test_changes_are_recorded(tag: Reference, tmp_path: Path) -> None:
    guard = guard_of(tag, Settings(audit=str(tmp_path)))

    written = put_by(guard, tag)
    removed = guard.remove(tag, ["linux/s390x", ""])

    first, second = (read_change(str(file)) for file in sorted(tmp_path.iterdir()))
    assert first.previous is not None
    assert (first.previous.content, first.new.digest) == (OLD.content, written)
    assert (str(first.source), second.new.digest) == (str(tag.tagged("new")), removed)
    assert held(tag) == {"linux/amd64", "linux/arm64"}


def test_a_tag_that_moved_is_read_again_to_remove_from_it(
    registry_server: RegistryServer, tag: Reference
) -> None:
    put(registry_server, "1", THEIRS, "ns/app")

    guard_of(tag).remove(tag, ["linux/amd64"])

    assert held(tag) == {"linux/s390x", "linux/ppc64le"}


def test_what_was_replaced_unseen_is_given_back_and_the_host_begins_again() -> None:
    now = 1_700_000_000.0
    with RegistryServer(dialect="quay", api_token=TOKEN, clock=lambda: now) as quay:
        tag = Reference(quay.host, "ns/app", tag="1")
        put(quay, "new", NEW, "ns/app")
        for each in (OLD, THEIRS):  # nobody read theirs
            now += 60
            put(quay, "1", each, "ns/app")
        now += 60

        with pytest.raises(ConflictError) as caught:
            put_by(guard_of(tag, Settings(verify=False), TOKEN), tag)

        assert (caught.value.expected, caught.value.found) == (OLD.digest, THEIRS.digest)
        assert held(tag) == {"linux/amd64", "linux/arm64", "linux/s390x", "linux/ppc64le"}
        assert quay.tags("ns/app") == ("1", "new")


def test_a_history_without_losses_is_no_conflict() -> None:
    now = 1_700_000_000.0
    with RegistryServer(dialect="quay", api_token=TOKEN, clock=lambda: now) as quay:
        tag = Reference(quay.host, "ns/app", tag="1")
        put(quay, "new", NEW, "ns/app")
        put(quay, "1", OLD, "ns/app")
        now += 60

        digest = put_by(guard_of(tag, token=TOKEN), tag)

        assert RegistryClient().digest(tag) == digest


def test_a_new_tag_is_made(tag: Reference) -> None:
    fresh, plan = tag.tagged("fresh"), plan_of(None)

    put_by(guard_of(tag), fresh, plan)

    assert held(fresh) == {"linux/arm64"}


class Flaky:
    """Meets another writer a number of times."""

    def __init__(self, conflicts: int) -> None:
        self.conflicts = conflicts
        self.calls = 0

    def __call__(self) -> None:
        self.calls += 1
        if self.calls <= self.conflicts:
            raise ConflictError("quay.io/ns/app:1", None, None, 1)


def test_the_host_begins_again_as_long_as_there_are_tries() -> None:
    action = Flaky(2)

    persist(action, 3)

    assert action.calls == 3


def test_the_last_conflict_is_told() -> None:
    action = Flaky(3)

    with pytest.raises(ConflictError):
        persist(action, 3)

    assert action.calls == 3
