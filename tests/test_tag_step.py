"""The tag-docker step: which platforms are chosen, and how the tag is written."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from pubtools.pluggy import hookimpl
from requests.exceptions import HTTPError

from pubtools_mlmerge import plugin  # noqa: F401 - has the step itself
from pubtools_mlmerge.core.manifests import OCI_INDEX, digest_of
from pubtools_mlmerge.core.plan import Policy
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.core.strict_json import encode
from pubtools_mlmerge.errors import ConflictError, LockLost, NestedIndex, ShrinkError
from pubtools_mlmerge.host.clients import Metadata, history_of
from pubtools_mlmerge.host.requests import SelectedRequest
from pubtools_mlmerge.host.tag_step import (
    Choose,
    GuardedClient,
    Selection,
    chosen_by,
    to_add,
    to_remove,
)
from pubtools_mlmerge.locks import no_lock
from pubtools_mlmerge.merging.audit import read_change
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.settings import Settings
from pubtools_mlmerge.testing import Image, ImageIndex, RegistryServer, make_image, make_index
from tests.factories import attestation, digest, entry, index, windows
from tests.programs import put
from tests.pushes import registered
from tests.quay import QuayDialect
from tests.scripted import HURRIED
from tests.test_writer import Interrupted

Log = pytest.LogCaptureFixture

NEW = [make_image(p, seed="new") for p in ("linux/amd64", "linux/arm64")]
OLD = [make_image(p, seed="old") for p in ("linux/amd64", "linux/s390x")]


def names(*archs: str, exclude: bool = False) -> Choose:
    metadata: Metadata = {"archs": archs, "exclude_archs": exclude}
    return chosen_by(SimpleNamespace(metadata=metadata, claims_signing_key=None, repos={}))


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


def test_a_name_that_means_nothing_is_ignored_with_a_warning(caplog: Log) -> None:
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

    assert gone == [f"linux/amd64@{digest('a')}"]


WINDOWS = index(windows("10.0.17763.1"), windows("10.0.20348.1"), windows())


def test_versions_of_an_operating_system_are_told_apart() -> None:
    versions = ["windows/amd64:10.0.17763", "windows/amd64:10.0.20348"]

    assert to_add(WINDOWS, names(versions[0])) == versions[:1]
    assert to_remove(WINDOWS, None, names(versions[1])) == (
        versions[1:],
        [versions[0], "windows/amd64"],
    )


def test_what_has_no_name_of_its_own_is_removed_by_its_digest() -> None:
    gone, _ = to_remove(WINDOWS, None, names("windows/amd64:10.0.17763", exclude=True))

    unversioned = WINDOWS.manifests[2].digest
    assert gone == ["windows/amd64:10.0.20348", f"windows/amd64@{unversioned}"]


def test_an_image_that_stays_for_another_platform_goes_by_its_platform() -> None:
    held = index(entry("linux/arm/v6", seed="a"), entry("linux/arm/v7", seed="a"))
    source = index(entry("linux/arm/v6", seed="a"))

    assert to_remove(held, source, names("arm")) == (["linux/arm/v6"], ["linux/arm/v7"])


def test_what_neither_its_name_nor_its_digest_names_alone_stays(caplog: Log) -> None:
    shared = [entry("linux/arm/v6", seed="a"), entry("linux/arm/v7", seed="a")]
    source = index(shared[0])
    held = index(*shared, entry("linux/arm/v6", seed="b"))

    gone, left = to_remove(held, source, names("arm"))

    assert (gone, sorted(left)) == ([], ["linux/arm/v6", "linux/arm/v6", "linux/arm/v7"])
    assert caplog.messages == [f"linux/arm/v6 stays: {digest('a')} is not all that has the name"]


class Site:
    """May compute the list itself."""

    document: dict[str, object] | None = None

    @hookimpl
    def mlmerge_merge_selected(self, request: SelectedRequest) -> object:
        return self.document


@pytest.fixture
def site() -> Iterator[Site]:
    with registered(site := Site()):
        yield site


class Tags:
    """A new build and an old tag, and what selects between them."""

    def __init__(self, server: RegistryServer, token: str = "") -> None:
        self.server = server
        self.images = (
            Reference.parse(put(server, "build", make_index(NEW))),
            Reference.parse(put(server, "1", make_index(OLD))),
        )
        self.client = RegistryClient(host=server.host, options=HURRIED)
        self.history = history_of(self.client, {"dest_quay_api_token": token})
        self.selection = self.select(Settings())

    def select(self, settings: Settings, check: Callable[[], None] = no_lock) -> Selection:
        self.selection = Selection(settings, self.client, *self.images, self.history, check)
        return self.selection

    def compute(self, eligible: Sequence[str] = ("arm64",)) -> dict[str, object]:
        computed = self.selection.compute(eligible)
        assert isinstance(computed, dict)
        return computed

    def write(self, document: dict[str, object]) -> None:
        """Write as the host does."""
        self.selection.write(str(self.images[1]), encode(document))

    def held(self) -> set[str]:
        return {str(entry.slot) for entry in self.client.pull_index(self.images[1]).manifests}


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

    tags.server.forget_requests()

    document = tags.compute(eligible)

    asked = [request.path for request in tags.server.requests]  # nothing of children
    assert asked == ["/v2/app/manifests/build", "/v2/app/manifests/1"]
    assert listed(document) == expected
    assert document["mediaType"] == OCI_INDEX


def test_the_coarse_rule_takes_no_platform_away(tags: Tags) -> None:
    put(tags.server, "1", make_index([*OLD, make_image("windows/amd64")]))
    tags.select(Settings(policy=Policy(match="architecture")))

    with pytest.raises(ShrinkError, match="would lose windows/amd64"):
        tags.compute(["amd64"])


def test_the_host_may_look_at_the_platform_of_an_entry_without_one(tags: Tags) -> None:
    images = json.loads(make_index(OLD).content)["manifests"]
    (nested,) = json.loads(make_index([make_index(NEW)]).content)["manifests"]
    bare = [
        {**images[0], "digest": digest(name), "platform": nothing}
        for name, nothing in (("empty", {}), ("null", None))
    ]
    document = {"schemaVersion": 2, "manifests": [*images, nested, *bare]}
    tags.server.put_manifest("app", "1", encode(document), OCI_INDEX)

    entries = tags.compute(["arm64"])["manifests"]

    assert isinstance(entries, list)
    shown = [each["platform"]["architecture"] for each in entries]
    assert shown == ["arm64", "amd64", "s390x", "", "", ""]
    assert "platform" not in entries[3]
    assert [json.loads(encode(each)) for each in entries[4:]] == bare
    with pytest.raises(KeyError):
        entries[3]["annotations"]


def test_what_was_written_is_reported_with_its_digest(tags: Tags) -> None:
    tags.write(tags.compute())

    report = tags.selection.report(2)
    assert report is not None
    assert report.digest == tags.client.digest(tags.images[1])
    assert (report.source, report.destination, report.attempts) == (*tags.images, 2)
    assert [e.fate for e in report.entries].count("kept") == 2


def test_the_tag_counts_as_changed_by_its_digest(tags: Tags) -> None:
    outcomes = []
    for _ in range(2):  # what is there already is encoded by the host once
        tags.select(Settings())
        tags.write(tags.compute(["s390x"]))
        report = tags.selection.report(1)
        assert report is not None
        outcomes.append((report.changed, report.digest == report.previous_digest))

    assert outcomes == [(True, False), (False, True)]


def test_a_list_of_somebody_else_s_is_written_and_not_reported(tags: Tags, site: Site) -> None:
    site.document = document = json.loads(make_index(NEW).content)

    assert tags.compute() == document
    tags.write(document)

    assert tags.client.digest(tags.images[1]) == digest_of(encode(document))
    assert tags.selection.report(1) is None


def test_the_plan_is_logged_where_only_that_is_wished(tags: Tags, caplog: Log) -> None:
    caplog.set_level("INFO", "pubtools.mlmerge")

    tags.selection.report_only(["arm64"])

    end, line = caplog.messages
    assert end.endswith("(dry run): finished: 1 added, 2 kept, 1 excluded")
    assert line.startswith("Would merge, if not report_only:\n")
    assert "linux/s390x" in line


def test_a_plan_that_fails_is_logged_as_well(tags: Tags, caplog: Log) -> None:
    tags.images = (tags.images[0].tagged("absent"), tags.images[1])

    tags.select(Settings()).report_only(["arm64"])
    with pytest.raises(HTTPError):
        tags.compute()

    event, line = caplog.messages
    assert "(dry run): failed: " in event
    assert line.startswith("Would fail, if not report_only: ")


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
    tags.compute()
    client = tags.selection.guard(HostsClient())  # type: ignore[arg-type]  # no more is needed
    assert isinstance(client, GuardedClient)
    source = str(tags.images[0])

    assert client.own_attribute == "theirs"
    assert client.get_manifest(source, media_type="a type") == ("theirs", "a type")
    assert client.get_manifest(source, raw=True) == make_index(NEW).content.decode()
    client.upload_manifest(make_index(NEW).content.decode(), str(tags.images[1]), raw=True)
    assert tags.client.digest(tags.images[1]) == make_index(NEW).digest


# The writing: what the host uploads is checked, recorded and locked


TOKEN = "0auth+t0ken"
THEIRS = make_index(
    [
        make_image(platform, seed="theirs")
        for platform in ("linux/amd64", "linux/s390x", "linux/ppc64le")
    ]
)


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


def test_a_lost_lock_prevents_the_write_of_somebody_else_s_list(tags: Tags, site: Site) -> None:
    def check() -> None:
        raise LockLost(str(tags.images[1]), "expired")

    site.document = json.loads(make_index(NEW).content)
    tags.select(Settings(), check)

    with pytest.raises(LockLost):
        tags.write(tags.compute())
    assert tags.client.digest(tags.images[1]) == make_index(OLD).digest


def test_changes_are_recorded(tags: Tags, tmp_path: Path) -> None:
    tags.select(Settings(audit=str(tmp_path)))

    tags.write(tags.compute())

    (change,) = (read_change(str(file)) for file in tmp_path.iterdir())
    assert change.previous is not None
    assert change.previous.content == make_index(OLD).content
    assert change.new.digest == tags.client.digest(tags.images[1])
    assert (change.source, change.source_digest) == (tags.images[0], make_index(NEW).digest)


class QuayTags(Tags):
    """Tags of a registry that has Quay's history of them."""

    now = 1_700_000_000.0

    def replace(self, item: Image | ImageIndex = THEIRS) -> None:
        """Write as somebody else, once the list was computed and before it is written."""
        QuayTags.now += 60
        put(self.server, "1", item)
        QuayTags.now += 60


@pytest.fixture
def quay() -> Iterator[QuayTags]:
    with RegistryServer(dialect=QuayDialect(TOKEN), clock=lambda: QuayTags.now) as server:
        yield QuayTags(server, TOKEN)


@pytest.mark.parametrize("theirs", [THEIRS, make_image("linux/ppc64le", docker=True)])
def test_what_was_replaced_unseen_is_given_back_and_the_host_begins_again(
    quay: QuayTags, theirs: Image | ImageIndex
) -> None:
    quay.select(Settings(verify=False))
    document = quay.compute()
    quay.replace(theirs)

    with pytest.raises(ConflictError) as caught:
        quay.write(document)

    held = quay.server.manifest("app", "1").digest
    assert (caught.value.expected, caught.value.found) == (make_index(OLD).digest, held)
    assert quay.held() == {"linux/amd64", "linux/arm64", "linux/s390x", "linux/ppc64le"}
    assert quay.server.tags("app") == ("1", "build")


def test_what_was_replaced_unseen_is_given_back_even_over_a_third_writer(quay: QuayTags) -> None:
    moment = 2_000_000_000
    assert quay.history is not None
    quay.history.expire_at(quay.images[1], moment)
    other = make_index([make_image("linux/riscv64")])
    quay.client = Interrupted(quay.server.url, quay.replace, partial(quay.replace, other), None)
    quay.select(Settings())

    with pytest.raises(ConflictError):
        quay.write(quay.compute())

    theirs = {"linux/amd64", "linux/s390x", "linux/ppc64le"}
    assert quay.held() == {*theirs, "linux/riscv64"}
    assert quay.server.tags("app") == ("1", "build")
    assert quay.history.expiration(quay.images[1]) == moment


def test_where_nothing_was_replaced_nothing_is_given_back(quay: QuayTags) -> None:
    quay.write(quay.compute())

    assert quay.held() == {"linux/amd64", "linux/arm64", "linux/s390x"}
    assert quay.server.tags("app") == ("1", "build")


def test_a_tag_that_holds_the_result_gets_nothing_back(quay: QuayTags) -> None:
    """What the write before this one replaced was seen by that one."""
    quay.replace(make_index(OLD))
    quay.write(quay.compute())
    held = quay.server.manifest("app", "1").digest
    QuayTags.now += 60

    quay.select(Settings())
    quay.write(quay.compute())

    assert quay.server.manifest("app", "1").digest == held


def test_nothing_is_given_back_without_the_lock(quay: QuayTags) -> None:
    is_held = iter([True, False])

    def check() -> None:
        if not next(is_held):
            raise LockLost("app:1", "expired")

    quay.select(Settings(verify=False), check)
    document = quay.compute()
    quay.replace()

    with pytest.raises(LockLost):
        quay.write(document)

    assert quay.held() == {"linux/amd64", "linux/arm64", "linux/s390x"}


def test_a_tag_that_expires_does_so_after_a_merge(quay: QuayTags) -> None:
    moment = 2_000_000_000
    assert quay.history is not None
    quay.history.expire_at(quay.images[1], moment)

    quay.write(quay.compute())

    assert quay.history.expiration(quay.images[1]) == moment


# Nested indexes

NESTED = make_index([make_image(p, seed="in") for p in ("linux/amd64", "linux/s390x")])


def test_a_nested_index_is_named_by_what_it_lists(tags: Tags) -> None:
    put(tags.server, "1", make_index([NESTED, *NEW]))
    tag = tags.images[1]

    held = tags.client.read_nested(tag, tags.client.pull_index(tag))

    assert to_add(held, names("s390x")) == ["linux/s390x"]
    gone, kept = to_remove(held, None, names("amd64"))
    assert (gone, kept) == (["linux/amd64"] * 2, ["linux/s390x", "linux/arm64"])


def test_a_nested_index_is_selected_whole_or_not_at_all(tags: Tags) -> None:
    put(tags.server, "build", make_index([NESTED]))

    nested = f"^{tags.images[1]}: nested index {NESTED.digest} cannot be split"
    with pytest.raises(NestedIndex, match=nested):
        tags.compute(["linux/amd64"])

    assert listed(tags.compute(["linux/amd64", "linux/s390x"])) == [NESTED.digest]


def test_a_nested_index_of_the_tag_goes_once_all_of_it_is_covered(tags: Tags) -> None:
    put(tags.server, "build", make_index([*NEW, make_image("linux/s390x")]))
    put(tags.server, "1", make_index([NESTED]))

    assert listed(tags.compute(["amd64"])) == [NEW[0].digest, NESTED.digest]
    assert NESTED.digest not in listed(tags.compute(["amd64", "s390x"]))
