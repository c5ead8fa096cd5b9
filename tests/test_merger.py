"""The public class, with clients that behave as the host's does."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable, Mapping

import pytest
import requests
from attrs import define, field

from pubtools_mlmerge.errors import InvalidIndex, NotAnIndex
from pubtools_mlmerge.merging.merger import Manifest, ManifestList, ManifestListMerger
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.testing import (
    Image,
    RegistryServer,
    make_attestation,
    make_image,
    make_index,
)
from tests.factories import Entry, document, entry
from tests.peers import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX
from tests.programs import put
from tests.scripted import HURRIED, ScriptedServer, refusal

SHORT = "sha256:1111111111"


@define
class Plain:
    """Returns a dict whatever it is asked, as the stand-ins in callers' tests do."""

    manifest: object
    uploads: list[tuple[object, str, bool]] = field(factory=list)

    def get_manifest(
        self,
        image: str,
        raw: bool = False,
        media_type: str | None = None,
        return_headers: bool = False,
    ) -> object:
        if isinstance(self.manifest, Exception):
            raise self.manifest
        return self.manifest

    def upload_manifest(self, manifest: object, image: str, raw: bool = False) -> None:
        self.uploads.append((manifest, image, raw))


@pytest.fixture
def no_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make sure that the host cannot be imported."""
    monkeypatch.setitem(sys.modules, "pubtools._quay.quay_client", None)


def typed(*entries: str | Entry, docker: bool = False) -> ManifestList:
    """Make a manifest list as a dict; its entries are written as in `document`."""
    return document(*entries, docker=docker)  # type: ignore[return-value]  # known to be one


def docker(*platforms: str) -> ManifestList:
    return typed(*platforms, docker=True)


OLD, NEW = docker("linux/amd64@old", "linux/s390x"), docker("linux/amd64@new", "linux/arm64")


def merger(source: object, destination: object) -> tuple[ManifestListMerger, Plain, Plain]:
    made = ManifestListMerger("quay.io/org/app:new", "quay.io/org/app:stable")
    clients = Plain(source), Plain(destination)
    made.set_quay_clients(*clients)
    return made, *clients


def http_error(status: int) -> requests.exceptions.HTTPError:
    response = requests.Response()
    response.status_code = status
    return requests.exceptions.HTTPError(f"{status} from a fake", response=response)


# Construction


def test_without_users_there_are_no_clients() -> None:
    made = ManifestListMerger("quay.io/a:1", "quay.io/b:2", "quay.io", "user", None, None, "secret")

    assert (made.src_image, made.dest_image) == ("quay.io/a:1", "quay.io/b:2")
    assert made._src_quay_client is made._dest_quay_client is None


@pytest.mark.usefixtures("no_host")
@pytest.mark.parametrize(
    ("own", "common", "expected"),
    [
        (None, None, (None, None)),
        (None, "common.test", ("common.test", "common.test")),
        ("own.test", None, ("own.test", None)),
        ("own.test", "common.test", ("own.test", "common.test")),
    ],
)
def test_clients_are_built_where_no_host_is_installed(
    own: str | None, common: str | None, expected: tuple[str | None, str | None]
) -> None:
    made = ManifestListMerger("quay.io/a:1", "quay.io/b:2", own, "us", "ps", "ud", "pd", common)

    source, destination = made._src_quay_client, made._dest_quay_client
    assert isinstance(source, RegistryClient)
    assert isinstance(destination, RegistryClient)
    assert (source.host, destination.host) == expected
    assert (source.username, destination.username) == ("us", "ud")
    assert (source.password, destination.password) == ("ps", "pd")


@pytest.mark.parametrize("clients", [(None, None), (Plain({}), None), (None, Plain({}))])
def test_both_clients_are_needed(clients: tuple[Plain, Plain]) -> None:
    made = ManifestListMerger("quay.io/a:1", "quay.io/b:2")
    made.set_quay_clients(*clients)
    expected = "^QuayClient instance must be set for both source and dest images$"

    with pytest.raises(RuntimeError, match=expected):
        made.merge_manifest_lists()
    with pytest.raises(RuntimeError, match=expected):
        made.merge_manifest_lists_selected_architectures(["amd64"])


# On dicts


def test_missing_architectures_are_copies_of_what_only_the_destination_has() -> None:
    missing = ManifestListMerger.get_missing_architectures(NEW, OLD)

    (only,) = missing
    kept = OLD["manifests"][1]
    assert only == kept
    assert type(only) is dict
    assert only is not kept
    assert only["platform"] is not kept["platform"]
    assert ManifestListMerger.get_missing_architectures(NEW, NEW) == []


def test_missing_architectures_are_added_after_the_source() -> None:
    made, _, _ = merger(None, None)
    before = copy.deepcopy(NEW)
    missing = ManifestListMerger.get_missing_architectures(NEW, OLD)

    added = made._add_missing_architectures(NEW, missing)

    assert type(added) is dict
    assert added == {**NEW, "manifests": [*before["manifests"], *missing]}
    assert before == NEW
    assert added["manifests"][0] is not NEW["manifests"][0]
    same = made._add_missing_architectures(NEW, [])
    assert (same, same is NEW, same["manifests"] is NEW["manifests"]) == (NEW, False, False)
    oci = made._add_missing_architectures(NEW, typed("linux/s390x")["manifests"])
    assert oci["mediaType"] == OCI_INDEX
    of_docker: ManifestList = {**NEW, "mediaType": OCI_INDEX}
    assert made._add_missing_architectures(of_docker, []) == of_docker


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"schemaVersion": 1},
        {"schemaVersion": 1, "manifests": []},
        {"manifests": {}},
        {"manifests": ["amd64"]},
        {"manifests": [{"platform": "amd64"}]},
        {**NEW, "config": 1},
    ],
)
def test_anything_but_a_list_is_an_error(wrong: ManifestList) -> None:
    with pytest.raises((InvalidIndex, NotAnIndex)):
        ManifestListMerger.get_missing_architectures(wrong, OLD)


def test_short_digests_and_unknown_fields_are_carried() -> None:
    extra = entry("linux/s390x", media_type=DOCKER_MANIFEST, digest=SHORT, x={"y": ["é", 1.5]})
    made, _, destination = merger(NEW, typed(extra, docker=True))

    made.merge_manifest_lists()

    assert made._dest_quay_client is destination
    ((uploaded, image, raw),) = destination.uploads
    listed = [*NEW["manifests"], extra]
    expected = json.dumps({**NEW, "manifests": listed}, sort_keys=True, indent=4)
    assert (uploaded, image, raw) == (expected, "quay.io/org/app:stable", True)


# Leniency of the host's class


def partial(*architectures: str, **stated: object) -> list[Manifest]:
    """Make entries that state no more than a platform, and what is given."""
    return [
        {"platform": {"architecture": name}, **stated}  # type: ignore[typeddict-item]  # any fields
        for name in architectures
    ]


@pytest.mark.parametrize("top", [{}, {"schemaVersion": 2, "mediaType": DOCKER_LIST}])
@pytest.mark.parametrize(
    "stated",
    [{}, {"digest": SHORT}, {"digest": "one"}, {"size": 7, "mediaType": DOCKER_MANIFEST}],
)
def test_partial_entries_are_compared_and_given_back_as_they_are(
    top: ManifestList, stated: Mapping[str, object]
) -> None:
    new: ManifestList = {**top, "manifests": partial("amd64", **stated)}
    old: ManifestList = {**top, "manifests": partial("amd64", "s390x", **stated)}
    before = copy.deepcopy((new, old))
    made, _, _ = merger(new, old)

    missing = made.get_missing_architectures(new, old)
    added = made._add_missing_architectures(new, missing)
    selected = made.merge_manifest_lists_selected_architectures(["amd64"])

    assert missing == old["manifests"][1:]
    assert added["manifests"] == selected["manifests"] == old["manifests"]
    if top:
        assert added == selected == old
    assert (new, old) == before
    assert added["manifests"][0] is not new["manifests"][0]


def test_partial_entries_without_platform_are_one_entry_where_they_are_equal() -> None:
    new: ManifestList = {"manifests": [{"annotations": {"a": "1"}}]}
    old: ManifestList = {"manifests": [{"annotations": {"a": "1"}}, {"annotations": {"a": "2"}}]}

    missing = ManifestListMerger.get_missing_architectures(new, old)

    assert missing == [{"annotations": {"a": "2"}}]


def test_partial_entries_are_never_uploaded() -> None:
    made, _, destination = merger(NEW, {**NEW, "manifests": partial("s390x")})

    with pytest.raises(InvalidIndex, match=r"app:stable: manifests\[0\]\.mediaType: expected"):
        made.merge_manifest_lists()

    assert destination.uploads == []


@pytest.mark.parametrize(
    "name",
    ["", None, " ", "arm 64", " arm64", "arm64\n", "a/b/c/d", "linux//arm64", "/", "[", "ärm"],
)
def test_a_name_that_means_nothing_matches_nothing(name: str | None) -> None:
    made, _, _ = merger(NEW, OLD)

    merged = made.merge_manifest_lists_selected_architectures([name, "amd64", name])

    assert merged["manifests"] == [NEW["manifests"][0], OLD["manifests"][1]]


def test_only_names_that_are_given_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    made, _, _ = merger(NEW, OLD)

    made.merge_manifest_lists_selected_architectures(["", None, "arm 64", "amd64", "ppc64le"])

    lacks = "quay.io/org/app:new: the source has no"
    assert caplog.messages == [f"{lacks} arm 64", f"{lacks} ppc64le"]


@pytest.mark.parametrize("names", [None, ["amd64"]])
def test_versions_that_go_are_warned_of(
    names: list[str] | None, caplog: pytest.LogCaptureFixture
) -> None:
    platform = {"os": "windows", "architecture": "amd64", "os.version": "10.0.17763.1"}
    made, _, _ = merger(docker("windows/amd64"), typed(entry(platform=platform), docker=True))

    if names is None:
        made.merge_manifest_lists()
    else:
        made.merge_manifest_lists_selected_architectures(names)

    warning = "an entry without os.version replaces windows/amd64:10.0.17763"
    assert f"{made.dest_image}: {warning}" in caplog.messages


# With a client that gives dicts


def test_dicts_are_merged_and_never_changed() -> None:
    source, old = copy.deepcopy(NEW), copy.deepcopy(OLD)
    made, _, destination = merger(source, old)

    made.merge_manifest_lists()
    selected = made.merge_manifest_lists_selected_architectures(["amd64"])
    selected["manifests"].clear()

    assert (source, old) == (NEW, OLD)
    assert len(destination.uploads) == 1
    same, _, untouched = merger(docker("linux/s390x"), docker("linux/s390x", "linux/amd64"))
    same.merge_manifest_lists()
    assert untouched.uploads == []


def test_the_selected_architectures_are_returned_and_not_uploaded() -> None:
    made, _, destination = merger(NEW, OLD)

    merged = made.merge_manifest_lists_selected_architectures(["x86_64", "ppc64le"])

    assert type(merged) is dict
    first, kept = NEW["manifests"][0], OLD["manifests"][1]
    assert made.merge_manifest_lists_selected_architectures("x86_64") == merged  # one name
    assert merged == {**NEW, "manifests": [first, kept]}
    assert destination.uploads == []


@pytest.mark.parametrize("status", [401, 404])
def test_in_selected_mode_the_destination_may_be_absent(status: int) -> None:
    made, _, _ = merger(NEW, http_error(status))

    merged = made.merge_manifest_lists_selected_architectures(["arm64"])

    assert merged == {**NEW, "manifests": NEW["manifests"][1:]}


CALLS: dict[str, Callable[[ManifestListMerger], object]] = {
    "union": ManifestListMerger.merge_manifest_lists,
    "selected": lambda m: m.merge_manifest_lists_selected_architectures(["arm64"]),
}


@pytest.mark.parametrize(
    ("side", "call", "error"),
    [
        *(("destination", "selected", http_error(s)) for s in (400, 403, 409, 429, 500, 503)),
        *(("destination", "union", http_error(status)) for status in (401, 404, 503)),
        *(("source", call, http_error(s)) for call in CALLS for s in (401, 404, 500)),
        *(("destination", call, requests.exceptions.ConnectionError("down")) for call in CALLS),
        *(("destination", call, requests.exceptions.ReadTimeout("slow")) for call in CALLS),
        ("source", "union", KeyError("no such thing")),
    ],
)
def test_errors_of_a_client_reach_the_caller_unchanged(
    side: str, call: str, error: Exception
) -> None:
    made, _, destination = merger(*((error, OLD) if side == "source" else (NEW, error)))

    with pytest.raises(type(error)) as caught:
        CALLS[call](made)

    assert caught.value is error
    assert destination.uploads == []


def test_a_single_image_is_no_list() -> None:
    image = json.loads(make_image(docker=True).content)
    made, _, destination = merger(image, OLD)

    with pytest.raises(NotAnIndex, match=r"quay\.io/org/app:new holds"):
        made.merge_manifest_lists()

    assert destination.uploads == []


@pytest.mark.parametrize(
    ("new", "old", "words"),
    [
        (NEW, [{**entry(), "size": -1}], r"app:stable: manifests\[0\]\.size: expected"),
        ([*partial("amd64"), {"platform": 5}], OLD, r"app:new: manifests\[0\]\.mediaType"),
    ],
)
def test_a_wrong_entry_names_image_and_place(new: object, old: object, words: str) -> None:
    lists = ({**NEW, "manifests": side} if isinstance(side, list) else side for side in (new, old))
    made, _, _ = merger(*lists)

    with pytest.raises(InvalidIndex, match=words):
        made.merge_manifest_lists_selected_architectures(["amd64"])


# With the client of this package

OCI_OLD = make_index([make_image(p, seed="old") for p in ("linux/amd64", "linux/s390x")])
OCI_NEW = make_index([make_image(p, seed="new") for p in ("linux/amd64", "linux/arm64")])


def built(server_url: str, host: str) -> ManifestListMerger:
    made = ManifestListMerger(f"{host}/app:new", f"{host}/app:old")
    client = RegistryClient(server_url, username="alice", password="wonderland", options=HURRIED)
    made.set_quay_clients(client, client)
    return made


@pytest.mark.usefixtures("no_host")
def test_a_merge_by_user_and_password_needs_nothing_else(registry_server: RegistryServer) -> None:
    put(registry_server, "old", OCI_OLD)
    put(registry_server, "new", OCI_NEW)
    login = ("alice", "wonderland")
    made = ManifestListMerger(
        *("quay.io/app:new", "quay.io/app:old", None, *login, *login, registry_server.url)
    )

    made.merge_manifest_lists()

    assert made._src_quay_client is made._dest_quay_client
    assert [r.method for r in registry_server.requests] == ["GET", "GET", "PUT"]
    assert len(json.loads(registry_server.manifest("app", "old").content)["manifests"]) == 3


def test_attestations_and_plain_dicts_come_back_in_selected_mode(
    registry_server: RegistryServer,
) -> None:
    image = OCI_NEW.children[1]
    assert isinstance(image, Image)
    proof = make_attestation(image)
    put(registry_server, "new", make_index([*OCI_NEW.children, proof], media_type_field=False))
    put(registry_server, "old", OCI_OLD)
    made = built(registry_server.url, "quay.io")

    merged = made.merge_manifest_lists_selected_architectures(["arm64"])

    children = (image, proof, *OCI_OLD.children)
    assert merged == {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [child.descriptor for child in children],
    }
    assert isinstance(merged, Mapping)


@pytest.mark.parametrize("status", [401, 404, 500])
def test_registry_errors_are_those_of_requests(status: int) -> None:
    with ScriptedServer(refusal(status, "UNKNOWN", "no")) as server:
        with pytest.raises(requests.exceptions.HTTPError) as caught:
            built(server.url, server.host).merge_manifest_lists()

        assert caught.value.response.status_code == status
