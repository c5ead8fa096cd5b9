"""The tag-docker step: which platforms are chosen, and how the tag is written."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from pubtools.pluggy import hookimpl, pm
from requests.exceptions import HTTPError

from pubtools_mlmerge import plugin  # noqa: F401 - has the step itself
from pubtools_mlmerge.core.manifests import Index
from pubtools_mlmerge.core.merge import merge
from pubtools_mlmerge.core.plan import Plan, Policy
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.core.strict_json import encode
from pubtools_mlmerge.errors import ConflictError, LockLost
from pubtools_mlmerge.host.clients import history_of
from pubtools_mlmerge.host.requests import SelectedRequest
from pubtools_mlmerge.host.tag_step import (
    GuardedClient,
    HostTagWriter,
    Names,
    Selection,
    persist,
    to_add,
    to_remove,
)
from pubtools_mlmerge.host.types import Metadata
from pubtools_mlmerge.merging.audit import read_change
from pubtools_mlmerge.merging.decision import no_lock
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.settings import Settings
from pubtools_mlmerge.testing import ImageIndex, RegistryServer, make_image, make_index
from tests.factories import attestation, digest, entry, index
from tests.programs import put
from tests.quay import QuayDialect
from tests.scripted import HURRIED

NEW = [make_image(p, seed="new") for p in ("linux/amd64", "linux/arm64")]
OLD = [make_image(p, seed="old") for p in ("linux/amd64", "linux/s390x")]


def names(*archs: str, exclude: bool = False) -> Names:
    metadata: Metadata = {"archs": archs, "exclude_archs": exclude}
    return Names.of(SimpleNamespace(metadata=metadata, claims_signing_key=None, repos={}))


VARIANTS = index(
    entry("linux/x86_64", seed="a"),
    entry("linux/arm/v6", seed="b"),
    entry("linux/arm/v7", seed="c"),
    entry(None, seed="d"),
    attestation(digest("c")),
    attestation(digest("elsewhere")),
)


@pytest.mark.parametrize(
    ("archs", "exclude", "expected"),
    [
        (["x86_64"], False, ["linux/amd64"]),
        (["amd64", "s390x"], False, ["linux/amd64"]),
        (["arm"], False, ["linux/arm/v6", "linux/arm/v7"]),
        (["arm"], True, ["linux/amd64"]),
        (["linux/arm/v7"], False, ["linux/arm/v7"]),
        (["arm/v7"], True, ["linux/amd64", "linux/arm/v6"]),
        ([], False, []),
        ([], True, ["linux/amd64", "linux/arm/v6", "linux/arm/v7"]),
    ],
)
def test_names_choose_platforms(archs: list[str], exclude: bool, expected: list[str]) -> None:
    assert to_add(VARIANTS, names(*archs, exclude=exclude)) == expected


def test_a_name_that_means_nothing_is_ignored_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert to_add(VARIANTS, names("", "linux//amd64", "x86_64")) == ["linux/amd64"]
    assert len(caplog.messages) == 2


def test_images_go_with_their_attestations_and_the_rest_stays() -> None:
    assert to_remove(VARIANTS, None, names("arm/v7")) == (
        ["linux/arm/v7"],
        ["linux/amd64", "linux/arm/v6", "", ""],
    )


def test_only_what_the_source_lists_as_well_is_removed() -> None:
    source = index(entry("linux/amd64", seed="a"), entry("linux/arm/v7", seed="other"))

    gone, _ = to_remove(VARIANTS, source, names(exclude=True))

    assert gone == ["linux/amd64"]


class Site:
    """May compute the list itself."""

    document: dict[str, object] | None = None

    @hookimpl
    def mlmerge_merge_selected(self, request: SelectedRequest) -> object:
        return self.document


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    pm.register(site)
    yield site
    pm.unregister(site)


class Tags:
    """A new build and an old tag, and what selects between them."""

    def __init__(self, server: RegistryServer) -> None:
        self.images = tuple(
            map(
                Reference.parse,
                (put(server, "build", make_index(NEW)), put(server, "1", make_index(OLD))),
            )
        )
        self.client = RegistryClient(options=HURRIED)
        self.selection = self.select(Settings())

    def select(self, settings: Settings) -> Selection:
        writer = HostTagWriter(self.client, settings, None, no_lock)
        source, tag = self.images
        return Selection(
            settings, self.client, source, tag, None if settings.report_only else writer
        )

    def compute(self, eligible: Sequence[str]) -> dict[str, object]:
        computed = self.selection.compute(eligible, dict)
        assert isinstance(computed, dict)
        return computed

    def write(self, document: dict[str, object]) -> None:
        """Write as the host does."""
        self.selection.write(str(self.images[1]), encode(document))


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

    entries = document["manifests"]
    assert isinstance(entries, list)
    shown = [each["platform"]["architecture"] for each in entries]
    assert shown == ["arm64", "amd64", "s390x", ""]
    assert "platform" not in entries[-1]
    with pytest.raises(KeyError):
        entries[-1]["annotations"]


def test_what_was_written_is_reported_with_its_digest(tags: Tags) -> None:
    tags.write(tags.compute(["arm64"]))

    report = tags.selection.report(2)
    assert report is not None
    assert report.digest == tags.client.digest(tags.images[1])
    assert (report.source, report.destination, report.attempts) == (*tags.images, 2)
    assert [e.fate for e in report.entries].count("kept") == 2


def test_nothing_is_reported_where_nothing_was_written(tags: Tags) -> None:
    tags.compute(["arm64"])

    assert tags.selection.report(1) is None


def test_a_list_of_somebody_else_s_is_written_and_not_reported(tags: Tags, site: Site) -> None:
    site.document = {**json.loads(make_index(NEW).content)}

    assert tags.compute(["arm64"]) == site.document
    tags.write(site.document)

    assert tags.selection.report(1) is None


def test_the_plan_is_logged_where_only_that_is_wished(
    tags: Tags, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "pubtools.mlmerge")

    assert tags.select(Settings(report_only=True)).compute(["arm64"], lambda: "host") == "host"

    _, end, line = caplog.messages
    assert end.endswith("(dry run): finished: 1 added, 2 kept, 1 excluded")
    assert line.startswith("Would merge, were it not to report only:\n")
    assert "linux/s390x" in line


def test_a_plan_that_fails_is_logged_as_well(tags: Tags, caplog: pytest.LogCaptureFixture) -> None:
    tags.images = (tags.images[0].tagged("absent"), tags.images[1])

    assert tags.select(Settings(report_only=True)).compute(["arm64"], lambda: "host") == "host"
    with pytest.raises(HTTPError):
        tags.select(Settings()).compute(["arm64"], dict)

    event, line = caplog.messages
    assert "(dry run): failed: " in event
    assert line.startswith("Would fail, were it not to report only: ")


class HostsClient:
    """Stands for the host's client; the step needs nothing of it but what it passes on."""

    own_attribute = "theirs"

    def get_manifest(
        self,
        image: str,
        raw: bool = False,
        media_type: str | None = None,
        return_headers: bool = False,
    ) -> object:
        return ("theirs", media_type)


def test_the_host_s_client_keeps_all_but_its_upload_and_what_it_cannot_read(tags: Tags) -> None:
    tags.selection.compute(["arm64"], dict)
    client = tags.selection.guard(HostsClient())  # type: ignore[arg-type]  # no more is needed
    assert isinstance(client, GuardedClient)
    source = str(tags.images[0])

    assert client.own_attribute == "theirs"
    assert client.get_manifest(source, media_type="a type") == ("theirs", "a type")
    assert client.get_manifest(source, raw=True) == make_index(NEW).content.decode()
    client.upload_manifest(make_index(NEW).content.decode(), str(tags.images[1]), raw=True)
    assert tags.client.digest(tags.images[1]) == make_index(NEW).digest


# The writer of tags: what the host uploads is checked, recorded and locked


TOKEN = "0auth+t0ken"
NEW_INDEX, OLD_INDEX, THEIRS = (
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
    put(registry_server, "new", NEW_INDEX, "ns/app")
    put(registry_server, "1", OLD_INDEX, "ns/app")
    return Reference(registry_server.host, "ns/app", tag="1")


def writer_of(tag: Reference, settings: Settings | None = None, token: str = "") -> HostTagWriter:
    client = RegistryClient(options=HURRIED)
    history = history_of(client, {"dest_quay_api_token": token})
    return HostTagWriter(client, settings or Settings(), history, no_lock)


def plan_of(old: ImageIndex | None) -> Plan[Index]:
    """Plan to take arm64 from the new index."""
    source, destination = (
        None if made is None else Index.from_bytes(made.content, made.media_type)
        for made in (NEW_INDEX, old)
    )
    assert source is not None
    return merge(source, destination, Policy(eligible=["arm64"]))


def held(tag: Reference) -> set[str]:
    index = RegistryClient().pull_index(tag)
    return {str(entry.slot) for entry in index.manifests}


def write_by(writer: HostTagWriter, tag: Reference, plan: Plan[Index] | None = None) -> str:
    chosen = plan or plan_of(OLD_INDEX)
    return writer.write(tag.tagged("new"), tag, chosen, chosen.result.content)


def test_what_the_host_computed_is_written(tag: Reference) -> None:
    digest = write_by(writer_of(tag), tag)

    assert RegistryClient().digest(tag) == digest == plan_of(OLD_INDEX).result.digest


def test_a_tag_that_moved_is_left_alone(registry_server: RegistryServer, tag: Reference) -> None:
    put(registry_server, "1", THEIRS, "ns/app")

    with pytest.raises(ConflictError) as caught:
        write_by(writer_of(tag), tag)

    assert (caught.value.expected, caught.value.found) == (OLD_INDEX.digest, THEIRS.digest)
    assert RegistryClient().digest(tag) == THEIRS.digest


def test_without_verifying_nobody_looks(registry_server: RegistryServer, tag: Reference) -> None:
    put(registry_server, "1", THEIRS, "ns/app")
    registry_server.forget_requests()

    write_by(writer_of(tag, Settings(verify=False)), tag)

    assert [request.method for request in registry_server.requests] == ["PUT"]


def test_a_lost_lock_prevents_the_write(tag: Reference) -> None:
    def check() -> None:
        raise LockLost(str(tag), "expired")

    writer = HostTagWriter(RegistryClient(options=HURRIED), Settings(), None, check)

    for plan in (plan_of(OLD_INDEX), None):
        with pytest.raises(LockLost):
            writer.write(tag.tagged("new"), tag, plan, plan_of(OLD_INDEX).result.content)
    with pytest.raises(LockLost):
        writer.remove(tag, ["linux/s390x"])
    assert RegistryClient().digest(tag) == OLD_INDEX.digest


def test_a_list_that_others_computed_is_written_as_it_is(tag: Reference) -> None:
    digest = writer_of(tag).write(tag.tagged("new"), tag, None, NEW_INDEX.content)

    assert RegistryClient().digest(tag) == digest == NEW_INDEX.digest


def test_changes_are_recorded(tag: Reference, tmp_path: Path) -> None:
    writer = writer_of(tag, Settings(audit=str(tmp_path)))

    written = write_by(writer, tag)
    removed = writer.remove(tag, ["linux/s390x", ""])

    first, second = (read_change(str(file)) for file in sorted(tmp_path.iterdir()))
    assert first.previous is not None
    assert (first.previous.content, first.new.digest) == (OLD_INDEX.content, written)
    assert (str(first.source), second.new.digest) == (str(tag.tagged("new")), removed.digest)
    assert held(tag) == {"linux/amd64", "linux/arm64"}


def test_a_tag_that_moved_is_read_again_to_remove_from_it(
    registry_server: RegistryServer, tag: Reference
) -> None:
    put(registry_server, "1", THEIRS, "ns/app")

    writer_of(tag).remove(tag, ["linux/amd64"])

    assert held(tag) == {"linux/s390x", "linux/ppc64le"}


def test_what_was_replaced_unseen_is_given_back_and_the_host_begins_again() -> None:
    now = 1_700_000_000.0
    with RegistryServer(dialect=QuayDialect(TOKEN), clock=lambda: now) as quay:
        tag = Reference(quay.host, "ns/app", tag="1")
        put(quay, "new", NEW_INDEX, "ns/app")
        for each in (OLD_INDEX, THEIRS):  # nobody read theirs
            now += 60
            put(quay, "1", each, "ns/app")
        now += 60

        with pytest.raises(ConflictError) as caught:
            write_by(writer_of(tag, Settings(verify=False), TOKEN), tag)

        assert (caught.value.expected, caught.value.found) == (OLD_INDEX.digest, THEIRS.digest)
        assert held(tag) == {"linux/amd64", "linux/arm64", "linux/s390x", "linux/ppc64le"}
        assert quay.tags("ns/app") == ("1", "new")


def test_a_history_without_losses_is_no_conflict() -> None:
    now = 1_700_000_000.0
    with RegistryServer(dialect=QuayDialect(TOKEN), clock=lambda: now) as quay:
        tag = Reference(quay.host, "ns/app", tag="1")
        put(quay, "new", NEW_INDEX, "ns/app")
        put(quay, "1", OLD_INDEX, "ns/app")
        now += 60

        digest = write_by(writer_of(tag, token=TOKEN), tag)

        assert RegistryClient().digest(tag) == digest


def test_a_new_tag_is_made(tag: Reference) -> None:
    fresh, plan = tag.tagged("fresh"), plan_of(None)

    write_by(writer_of(tag), fresh, plan)

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
