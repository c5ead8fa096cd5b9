"""The tag-docker step: what the host sees of an index, and what is written in its stead."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from pubtools.pluggy import hookimpl, pm, task_context
from requests.exceptions import HTTPError

from pubtools_mlmerge.core.manifests import Index
from pubtools_mlmerge.core.merge import merge
from pubtools_mlmerge.core.plan import Plan, Policy, Report
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import ConflictError, InvalidPlatform, LockLost
from pubtools_mlmerge.host.requests import SelectedRequest
from pubtools_mlmerge.host.tag_step import (
    HostTagWriter,
    TagDockerStep,
    is_named,
    persist,
    with_platforms_as_architectures,
)
from pubtools_mlmerge.host.task import current_task
from pubtools_mlmerge.merging.audit import read_change
from pubtools_mlmerge.merging.decision import no_lock
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.settings import Settings
from pubtools_mlmerge.testing import ImageIndex, RegistryServer, make_image, make_index
from tests.factories import attestation, digest, entry, index
from tests.programs import put
from tests.quay import QuayDialect
from tests.scripted import HURRIED
from tests.test_clients import Client

# The tag-docker step: what the host sees of an index, and what is written in its stead


NEW = [make_image(p, seed="new") for p in ("linux/amd64", "linux/arm64")]
OLD = [make_image(p, seed="old") for p in ("linux/amd64", "linux/s390x")]


def architectures(document: dict[str, object]) -> list[object]:
    """List what the host reads of each entry."""
    entries = document["manifests"]
    assert isinstance(entries, list)
    return [each["platform"]["architecture"] for each in entries]


def test_an_image_goes_by_its_platform_and_an_attestation_by_that_of_its_image() -> None:
    shown = with_platforms_as_architectures(
        index(
            entry("linux/x86_64", seed="a"),
            entry("linux/arm/v7", seed="b"),
            entry(None, seed="c"),
            attestation(digest("b")),
            attestation(digest("elsewhere")),
        )
    )

    assert architectures(shown) == ["linux/amd64", "linux/arm/v7", "", "linux/arm/v7", ""]


def test_the_media_type_is_always_shown_and_the_index_left_as_it_is() -> None:
    of = index("linux/amd64", media_type_field=False)

    shown = with_platforms_as_architectures(of)

    assert shown["mediaType"] == of.media_type
    assert "mediaType" not in of.fields
    assert of.manifests[0].fields["platform"] == {"os": "linux", "architecture": "amd64"}


@pytest.mark.parametrize(
    ("architecture", "names", "expected"),
    [
        ("amd64", ["x86_64"], True),
        ("linux/amd64", ["x86_64"], True),
        ("linux/amd64", ["s390x", "amd64"], True),
        ("linux/arm/v7", ["linux/arm/v7"], True),
        ("linux/arm/v7", ["arm/v6"], False),
        ("linux/arm64", ["linux/arm64/v8"], True),
        ("linux/amd64", [], False),
        ("", ["amd64", "*"], False),
    ],
)
def test_names_mean_platforms(architecture: str, names: list[str], expected: bool) -> None:
    assert is_named(architecture, names) == expected


def test_a_name_that_is_none_is_told() -> None:
    with pytest.raises(InvalidPlatform):
        is_named("linux/amd64", ["linux//amd64"])


class Site:
    """Hears of merges; may compute the list itself."""

    def __init__(self, document: dict[str, object] | None = None) -> None:
        self.document = document
        self.reports: list[Report] = []

    @hookimpl
    def mlmerge_merge_selected(self, request: SelectedRequest) -> object:
        return self.document

    @hookimpl
    def mlmerge_merged(self, report: Report) -> None:
        self.reports.append(report)


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    pm.register(site)
    yield site
    pm.unregister(site)


class Tags:
    """A new build and an old tag, and what selects between them."""

    def __init__(self, server: RegistryServer) -> None:
        self.images = (put(server, "build", make_index(NEW)), put(server, "1", make_index(OLD)))
        self.client = RegistryClient(options=HURRIED)
        self.selecting = TagDockerStep(Settings())

    def compute(self, eligible: Sequence[str]) -> dict[str, object]:
        return self.selecting.compute(self.images, (self.client, self.client), eligible)

    def log(self, eligible: Sequence[str]) -> None:
        self.selecting.log(self.images, (self.client, self.client), eligible)


@pytest.fixture
def tags(registry_server: RegistryServer) -> Tags:
    return Tags(registry_server)


def listed(document: dict[str, object]) -> list[str]:
    entries = document["manifests"]
    assert isinstance(entries, list)
    return [each["digest"] for each in entries]


@pytest.mark.parametrize("eligible", [["linux/arm64"], ["arm64", ""], ["aarch64"]])
def test_the_list_has_what_was_chosen_and_the_rest_of_the_tag(
    tags: Tags, eligible: list[str]
) -> None:
    expected = [NEW[1].digest, *(image.digest for image in OLD)]

    assert listed(tags.compute(eligible)) == expected


def test_the_host_may_look_at_the_platform_of_an_entry_without_one(
    registry_server: RegistryServer,
) -> None:
    tags = Tags(registry_server)
    put(registry_server, "1", make_index([*OLD, make_index(NEW)]))

    document = tags.compute(["arm64"])

    assert architectures(document) == ["arm64", "amd64", "s390x", ""]
    entries = document["manifests"]
    assert isinstance(entries, list)
    assert "platform" not in entries[-1]
    with pytest.raises(KeyError):
        entries[-1]["annotations"]


def test_the_upload_is_announced_with_the_digest_that_the_host_made(tags: Tags, site: Site) -> None:
    with task_context():
        tags.compute(["arm64"])
        tags.selecting.announce("sha256:" + "0" * 64)
        task = current_task()
        assert task is not None
        assert task._reports == site.reports

    (report,) = site.reports
    assert report.digest == "sha256:" + "0" * 64
    assert [str(report.source), str(report.destination)] == list(tags.images)
    assert [e.fate for e in report.entries].count("kept") == 2


def test_it_is_announced_outside_of_tasks_as_well(tags: Tags, site: Site) -> None:
    tags.compute(["arm64"])

    tags.selecting.announce("sha256:" + "0" * 64)

    assert len(site.reports) == 1


def test_nothing_is_announced_where_nothing_was_uploaded(tags: Tags, site: Site) -> None:
    tags.compute(["arm64"])

    tags.selecting.announce(None)

    assert site.reports == []


def test_a_list_of_somebody_else_s_is_not_reported(
    tags: Tags, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "pubtools.mlmerge")
    site.document = {"manifests": []}

    assert tags.compute(["arm64"]) == {"manifests": []}
    tags.selecting.announce("sha256:" + "0" * 64)
    tags.log(["arm64"])

    assert site.reports == []
    title = f"Merge of {tags.images[0]} into {tags.images[1]} (dry run)"
    assert caplog.messages == [f"{title}: started", f"{title}: left to others"]


def test_the_plan_is_logged(tags: Tags, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "pubtools.mlmerge")

    tags.log(["arm64"])

    _, end, line = caplog.messages
    assert end.endswith("(dry run): finished: 1 added, 2 kept, 1 excluded")
    assert line.startswith("Would merge, were it not to report only:\n")
    assert "linux/s390x" in line


def test_a_plan_that_fails_is_logged_as_well(
    registry_server: RegistryServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="pubtools.mlmerge")
    tags = Tags(registry_server)
    tags.images = (f"{registry_server.host}/app:absent", tags.images[1])

    tags.log(["arm64"])
    with pytest.raises(HTTPError):
        tags.compute(["arm64"])

    event, line = caplog.messages
    assert event.endswith("(dry run): failed: HTTPError")
    assert line.startswith("Would fail, were it not to report only: ")


# The guard of tag-docker: what the host uploads is checked, recorded and locked


TOKEN = "0auth+t0ken"
NEW_TAG_GUARD, OLD_TAG_GUARD, THEIRS = (
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
    put(registry_server, "new", NEW_TAG_GUARD, "ns/app")
    put(registry_server, "1", OLD_TAG_GUARD, "ns/app")
    return Reference(registry_server.host, "ns/app", tag="1")


def guard_of(tag: Reference, settings: Settings | None = None, token: str = "") -> HostTagWriter:
    client = Client(tag.host, verify=True)
    return HostTagWriter(client, settings or Settings(), token, no_lock)


def plan_of(old: ImageIndex | None) -> Plan[Index]:
    """Plan to take arm64 from the new index."""
    source, destination = (
        None if made is None else Index.from_bytes(made.content, made.media_type)
        for made in (NEW_TAG_GUARD, old)
    )
    assert source is not None
    return merge(source, destination, Policy(eligible=["arm64"]))


def held(tag: Reference) -> set[str]:
    index = RegistryClient().pull_index(tag)
    return {str(entry.slot) for entry in index.manifests}


def put_by(guard: HostTagWriter, tag: Reference, plan: Plan[Index] | None = None) -> str:
    chosen = plan or plan_of(OLD_TAG_GUARD)
    return guard.put(str(tag.tagged("new")), tag, chosen, chosen.result.content)


def test_what_the_host_computed_is_written(tag: Reference) -> None:
    digest = put_by(guard_of(tag), tag)

    assert RegistryClient().digest(tag) == digest == plan_of(OLD_TAG_GUARD).result.digest


def test_a_tag_that_moved_is_left_alone(registry_server: RegistryServer, tag: Reference) -> None:
    put(registry_server, "1", THEIRS, "ns/app")

    with pytest.raises(ConflictError) as caught:
        put_by(guard_of(tag), tag)

    assert (caught.value.expected, caught.value.found) == (OLD_TAG_GUARD.digest, THEIRS.digest)
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

    for plan in (plan_of(OLD_TAG_GUARD), None):
        with pytest.raises(LockLost):
            guard.put(str(tag.tagged("new")), tag, plan, plan_of(OLD_TAG_GUARD).result.content)
    with pytest.raises(LockLost):
        guard.remove(tag, ["linux/s390x"])
    assert RegistryClient().digest(tag) == OLD_TAG_GUARD.digest


def test_a_list_that_others_computed_is_written_as_it_is(tag: Reference) -> None:
    digest = guard_of(tag).put(str(tag.tagged("new")), tag, None, NEW_TAG_GUARD.content)

    assert RegistryClient().digest(tag) == digest == NEW_TAG_GUARD.digest


def test_changes_are_recorded(tag: Reference, tmp_path: Path) -> None:
    guard = guard_of(tag, Settings(audit=str(tmp_path)))

    written = put_by(guard, tag)
    removed = guard.remove(tag, ["linux/s390x", ""])

    first, second = (read_change(str(file)) for file in sorted(tmp_path.iterdir()))
    assert first.previous is not None
    assert (first.previous.content, first.new.digest) == (OLD_TAG_GUARD.content, written)
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
    with RegistryServer(dialect=QuayDialect(TOKEN), clock=lambda: now) as quay:
        tag = Reference(quay.host, "ns/app", tag="1")
        put(quay, "new", NEW_TAG_GUARD, "ns/app")
        for each in (OLD_TAG_GUARD, THEIRS):  # nobody read theirs
            now += 60
            put(quay, "1", each, "ns/app")
        now += 60

        with pytest.raises(ConflictError) as caught:
            put_by(guard_of(tag, Settings(verify=False), TOKEN), tag)

        assert (caught.value.expected, caught.value.found) == (OLD_TAG_GUARD.digest, THEIRS.digest)
        assert held(tag) == {"linux/amd64", "linux/arm64", "linux/s390x", "linux/ppc64le"}
        assert quay.tags("ns/app") == ("1", "new")


def test_a_history_without_losses_is_no_conflict() -> None:
    now = 1_700_000_000.0
    with RegistryServer(dialect=QuayDialect(TOKEN), clock=lambda: now) as quay:
        tag = Reference(quay.host, "ns/app", tag="1")
        put(quay, "new", NEW_TAG_GUARD, "ns/app")
        put(quay, "1", OLD_TAG_GUARD, "ns/app")
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
