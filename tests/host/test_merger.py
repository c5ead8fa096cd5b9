"""ManifestListMerger beside the host's class of that name."""

from __future__ import annotations

import inspect
import itertools
import json
from collections.abc import Iterator
from copy import deepcopy

import pytest
import requests
from attrs import define, field
from pubtools._quay import types as host_types
from pubtools._quay.exceptions import ManifestTypeError
from pubtools._quay.manifest_list_merger import ManifestListMerger as HostMerger
from pubtools._quay.quay_client import QuayClient

from pubtools_mlmerge.core.manifests import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX
from pubtools_mlmerge.merging import merger as merger_module
from pubtools_mlmerge.merging.merger import ManifestListMerger
from tests.factories import attestation, content_of, digest, document

SOURCE, TARGET = "quay.example.com/ns/app:new", "quay.example.com/ns/app:1"
CLASSES = [HostMerger, ManifestListMerger]


@define
class Wire:
    """Replaces the session of requests: serves the tags and records the requests."""

    held: dict[str, tuple[str, bytes]]
    statuses: dict[str, int] = field(factory=dict)
    asked: list[str] = field(factory=list)
    sent: list[tuple[str, bytes]] = field(factory=list)

    def request(
        self, method: str, endpoint: str, headers: dict[str, str], data: object = None
    ) -> requests.Response:
        tag = endpoint.rpartition("/")[2]
        self.asked.append(f"{method} {tag} {headers.get('Accept', '')}".strip())
        status = self.statuses.get(f"{method} {tag}", 200)
        if method == "PUT":
            assert isinstance(data, (str, bytes))
            content = data.encode("ascii") if isinstance(data, str) else data
            self.sent.append((headers["Content-Type"], content))
            return _answer(status if status != 200 else 201, "", b"")
        media_type, content = self.held.get(tag, ("", b""))
        if status == 200 and not media_type:
            status = 404
        return _answer(status, media_type, content if status == 200 else b"{}")


def _answer(status: int, media_type: str, content: bytes) -> requests.Response:
    answer = requests.Response()
    answer.status_code = status
    answer.headers["Content-Type"] = media_type
    answer._content = content
    answer.url = "https://quay.example.com/v2/"
    return answer


def client(wire: Wire) -> QuayClient:
    """Make the host's client, its session replaced."""
    made = QuayClient("user", "password", "quay.example.com")
    made.thread_local.session = wire
    return made


def docker(*entries: str) -> bytes:
    return content_of(document(*entries, docker=True))


def merging(kind: type, wire: Wire) -> object:
    """Make a merger of either class over one wire."""
    merger = kind(SOURCE, TARGET)
    merger.set_quay_clients(client(wire), client(wire))
    return merger


def wire_of(source: bytes, target: bytes | None, media_type: str = DOCKER_LIST) -> Wire:
    held = {"new": (media_type, source)}
    if target is not None:
        held["1"] = (media_type, target)
    return Wire(held)


def test_it_is_made_in_the_same_way() -> None:
    ours, theirs = (list(inspect.signature(kind).parameters) for kind in CLASSES)

    assert ours == theirs


def test_it_uses_the_host_s_client_where_it_gets_passwords() -> None:
    mergers = [
        kind("q/a:1", "q/a:2", "one.example.com", "u", "p", "v", "w", "two.example.com")
        for kind in CLASSES
    ]

    for name in ("_src_quay_client", "_dest_quay_client"):
        theirs, ours = (getattr(merger, name) for merger in mergers)
        assert type(ours) is type(theirs) is QuayClient
        assert vars(ours).keys() == vars(theirs).keys()
        for attribute in ("username", "password", "host"):
            assert getattr(ours, attribute) == getattr(theirs, attribute)


@pytest.mark.parametrize(
    ("source", "destination", "is_one"),
    [
        (("u", "p", None), ("u", "p", "q"), True),
        (("u", "p", "q"), ("u", "p", "q"), True),
        (("u", "p", "r"), ("u", "p", "q"), False),
        (("u", "p", None), ("v", "p", "q"), False),
        (("u", "p", None), ("u", "w", "q"), False),
    ],
)
def test_one_login_is_one_client(
    source: tuple[str, str, str | None], destination: tuple[str, str, str], is_one: bool
) -> None:
    user, password, source_host = source
    merger = ManifestListMerger("q/a:1", "q/a:2", source_host, user, password, *destination)

    assert (merger._src_quay_client is merger._dest_quay_client) is is_one


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize(
    "name", ["merge_manifest_lists", "merge_manifest_lists_selected_architectures"]
)
def test_it_needs_clients(kind: type, name: str) -> None:
    merger = kind(SOURCE, TARGET)
    arguments: list[object] = [[]] if name.endswith("architectures") else []

    with pytest.raises(RuntimeError, match="QuayClient instance must be set for both"):
        getattr(merger, name)(*arguments)


ARCHITECTURES = ("amd64", "arm64", "ppc64le", "s390x")


def cases() -> Iterator[tuple[list[str], list[str]]]:
    """Give all sources and destinations of up to three architectures where something is kept."""
    choices = [
        list(names) for size in (1, 2, 3) for names in itertools.combinations(ARCHITECTURES, size)
    ]
    for source, target in itertools.product(choices, choices):
        if set(target) - set(source):
            yield [f"linux/{a}@new" for a in source], [f"linux/{a}@old" for a in target]


def test_it_uploads_what_the_host_uploads_byte_for_byte() -> None:
    for source, target in cases():
        wires = [wire_of(docker(*source), docker(*target)) for _ in CLASSES]
        for kind, wire in zip(CLASSES, wires):
            merging(kind, wire).merge_manifest_lists()  # type: ignore[attr-defined]  # either class
        theirs, ours = wires
        assert ours.sent == theirs.sent
        assert ours.asked == theirs.asked


@pytest.mark.parametrize("eligible", [[], ["amd64"], ["arm64", "s390x"], ["x"], [*ARCHITECTURES]])
@pytest.mark.parametrize("target", [None, ["linux/amd64@old", "linux/s390x@old"]])
def test_it_selects_what_the_host_selects(eligible: list[str], target: list[str] | None) -> None:
    held = None if target is None else docker(*target)
    source = docker("linux/amd64@new", "linux/arm64@new")
    wires = [wire_of(source, held) for _ in CLASSES]

    theirs, ours = (
        merging(kind, wire).merge_manifest_lists_selected_architectures(eligible)  # type: ignore[attr-defined]  # either class
        for kind, wire in zip(CLASSES, wires)
    )

    assert ours == theirs
    assert wires[1].sent == []
    # An index that is hidden from those who ask for a list would be no absent tag.
    assert len(wires[1].asked) == len(wires[0].asked) + (target is None)


@pytest.mark.parametrize("status", [401, 404, 403, 500])
@pytest.mark.parametrize("tag", ["1", "new"])
def test_refusals_reach_the_caller_as_the_host_s_do(status: int, tag: str) -> None:
    for name, arguments in (
        ("merge_manifest_lists", []),
        ("merge_manifest_lists_selected_architectures", [["amd64"]]),
    ):
        outcomes: list[tuple[object, object]] = []
        for kind in CLASSES:
            wire = wire_of(docker("linux/amd64@new"), docker("linux/arm64@old"))
            wire.statuses[f"GET {tag}"] = status
            merger = merging(kind, wire)
            merger._src_quay_client._authenticate_quay = lambda headers: None  # type: ignore[attr-defined]  # either class
            merger._dest_quay_client._authenticate_quay = lambda headers: None  # type: ignore[attr-defined]  # either class
            try:
                outcomes.append((None, getattr(merger, name)(*deepcopy(arguments))))
            except requests.exceptions.HTTPError as error:
                outcomes.append((type(error), error.response.status_code))
        assert outcomes[0] == outcomes[1]


def test_a_refused_upload_reaches_the_caller_unchanged() -> None:
    for kind in CLASSES:
        wire = wire_of(docker("linux/amd64@new"), docker("linux/arm64@old"))
        wire.statuses["PUT 1"] = 400
        with pytest.raises(requests.exceptions.HTTPError) as caught:
            merging(kind, wire).merge_manifest_lists()  # type: ignore[attr-defined]  # either class
        assert caught.value.response.status_code == 400


@pytest.mark.parametrize("kind", CLASSES)
def test_another_type_is_the_error_of_the_host(kind: type) -> None:
    wire = wire_of(b"{}", docker("linux/arm64@old"))
    wire.held["new"] = ("application/vnd.docker.distribution.manifest.v2+json", b"{}")

    with pytest.raises(ManifestTypeError):
        merging(kind, wire).merge_manifest_lists()  # type: ignore[attr-defined]  # either class


def test_an_oci_index_goes_through_the_host_s_client() -> None:
    new, old = (document(f"linux/{a}@new") for a in ("amd64", "arm64"))
    tied = attestation(digest("linux/arm64@new"))
    old["manifests"] = [*old["manifests"], tied]  # type: ignore[misc]  # a list
    wire = wire_of(content_of(new), content_of(old), OCI_INDEX)

    merging(ManifestListMerger, wire).merge_manifest_lists()  # type: ignore[attr-defined]  # either class

    ((media_type, content),) = wire.sent
    assert media_type == OCI_INDEX
    listed = json.loads(content)["manifests"]
    assert listed == [*new["manifests"], *old["manifests"]]  # type: ignore[misc]  # lists


@pytest.mark.parametrize("title", ["Müller", "☃ — 中文", "é" * 3, "\N{PILE OF POO}"])
def test_an_untouched_source_goes_up_byte_for_byte(title: str) -> None:
    fields = document("linux/amd64@new", annotations={"title": title})
    wire = wire_of(content_of(fields), content_of(document("linux/amd64@old")), OCI_INDEX)

    merging(ManifestListMerger, wire).merge_manifest_lists()  # type: ignore[attr-defined]  # either class

    assert wire.sent == [(OCI_INDEX, content_of(fields))]


@define
class Client:
    """Stands for a Quay client in a caller's tests: gives a dict, however it is asked."""

    manifest: object

    def get_manifest(self, *_arguments: object, **_named: object) -> object:
        return self.manifest


STATED: list[dict[str, object]] = [
    {"mediaType": DOCKER_MANIFEST, "digest": digest("linux"), "size": 1},
    {"mediaType": DOCKER_MANIFEST, "digest": digest("linux")},
    {"digest": "sha256:1111111111"},
    {"digest": "one"},
    {"size": 7},
    {},
]


def listed(stated: dict[str, object], *architectures: str, **platform: str) -> dict[str, object]:
    entries = [{"platform": {"architecture": a, **platform}, **stated} for a in architectures]
    return {"schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": entries}


@pytest.mark.parametrize("of_source", STATED)
@pytest.mark.parametrize("of_target", STATED)
def test_partial_entries_give_what_they_give_in_the_host(
    of_source: dict[str, object], of_target: dict[str, object]
) -> None:
    named = {"os": "linux"} if "size" in of_source or "size" in of_target else {}
    source = listed(of_source, "amd64", "arm64", **named)
    target = listed(of_target, "amd64", "ppc64le", "s390x", **named)
    before = deepcopy((source, target))

    theirs, ours = (kind.get_missing_architectures(source, target) for kind in CLASSES)
    assert ours == theirs
    theirs, ours = (
        kind(SOURCE, TARGET)._add_missing_architectures(source, theirs) for kind in CLASSES
    )
    assert ours == theirs
    assert (source, target) == before


@pytest.mark.parametrize("stated", STATED)
@pytest.mark.parametrize(
    "eligible",
    [["arm64", "", None], ["amd 64", " amd64", "amd64 ", "amd64\n"], [None], ["a/b/c/d", "/", 5]],
)
def test_names_that_mean_nothing_give_what_they_give_in_the_host(
    stated: dict[str, object], eligible: list[object]
) -> None:
    documents = [listed(stated, *names, os="linux") for names in (["amd64", "arm64"], ["s390x"])]
    outcomes = []
    for kind in CLASSES:
        merger = kind(SOURCE, TARGET)
        merger.set_quay_clients(*map(Client, documents))
        outcomes.append(merger.merge_manifest_lists_selected_architectures(eligible))

    assert outcomes[0] == outcomes[1]


def test_the_names_must_be_iterable_as_in_the_host() -> None:
    for kind in CLASSES:
        merger = kind(SOURCE, TARGET)
        merger.set_quay_clients(*[Client(listed({}, "amd64"))] * 2)
        with pytest.raises(TypeError, match="not iterable"):
            merger.merge_manifest_lists_selected_architectures(None)


def test_public_methods_take_and_give_the_types_of_the_host() -> None:
    for name in ("get_missing_architectures", "merge_manifest_lists_selected_architectures"):
        theirs, ours = (inspect.signature(getattr(kind, name)) for kind in CLASSES)
        assert list(ours.parameters) == list(theirs.parameters)
        for type_name in ("ManifestList", "Manifest]"):
            assert (type_name in str(ours)) is (type_name in str(theirs))
    for name in ("Manifest", "ManifestList"):
        assert getattr(merger_module, name).__annotations__.keys() >= (
            getattr(host_types, name).__annotations__.keys() - {"platform"}
        )
