"""What the push step takes from the host's objects."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

import pytest
from attrs import define, field
from requests import Request, Response
from requests.exceptions import HTTPError

from pubtools_mlmerge.core.manifests import Image as ImageManifest
from pubtools_mlmerge.core.manifests import Index
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import Unauthorized
from pubtools_mlmerge.host.clients import client_like, make_sides, restore, tags_of
from pubtools_mlmerge.host.push_step import Merged, Tag
from pubtools_mlmerge.host.types import HostClient, Metadata, _Session
from pubtools_mlmerge.registry.auth import Credentials
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.testing import RegistryServer, make_image, make_index
from tests.programs import put
from tests.scripted import HURRIED
from tests.test_hooks import REPORT


class Client:
    """Stands for the host's client, on ours."""

    username: str | None = "alice"
    password: str | None = "wonderland"

    def __init__(self, host: str, verify: bool | str = False) -> None:
        connection = SimpleNamespace(hostname=host, session=SimpleNamespace(verify=verify))
        self.session: _Session = connection
        self.own = RegistryClient(options=HURRIED)
        self.uploads: list[str] = []

    def get_manifest(
        self,
        image: str,
        raw: bool = False,
        media_type: str | None = None,
        return_headers: bool = False,
    ) -> object:
        return self.own.get_manifest(image, raw, media_type, return_headers)

    def upload_manifest(self, manifest: object, image: str, raw: bool = False) -> None:
        self.uploads.append(image)
        self.own.upload_manifest(manifest, image, raw)


@define
class Pusher:
    """Stands for the host's pusher."""

    quay_host: str
    src_quay_client: HostClient
    dest_quay_client: HostClient
    target_settings: dict[str, object] = field(factory=lambda: {"quay_namespace": "ns"})
    copies: list[object] = field(factory=list)

    def run_tag_images(
        self,
        source_ref: str,
        dest_refs: list[str],
        all_arch: bool,
        target_settings: dict[str, object],
    ) -> None:
        self.copies.append((source_ref, dest_refs, all_arch, target_settings))


@define
class Item:
    """Stands for the host's push item."""

    metadata: Metadata
    claims_signing_key: str | None = "key"
    repos: Mapping[str, object] = field(factory=dict)


def item(tags: dict[str, list[str]]) -> Item:
    metadata: Metadata = {
        "pull_url": "q/src:1",
        "tags": tags,
        "archs": [],
        "exclude_archs": False,
        "tag_source": "",
    }
    return Item(metadata)


@pytest.fixture
def pusher(registry_server: RegistryServer) -> Pusher:
    host = registry_server.host
    return Pusher(host, Client(host), Client(host))


def test_tags_are_named_as_the_host_names_them() -> None:
    pusher = Pusher("quay.io", Client("quay.io"), Client("quay.io"))

    tags = tags_of(pusher, item({"a/app": ["1", "2", "1"], "tool": ["1"]}))

    assert [(tag.repository, str(tag.reference), tag.signing_key) for tag in tags] == [
        ("a/app", "quay.io/ns/a----app:1", "key"),
        ("a/app", "quay.io/ns/a----app:2", "key"),
        ("tool", "quay.io/ns/tool:1", "key"),
    ]


def test_the_host_copies_with_its_own_settings(pusher: Pusher) -> None:
    make_sides(pusher).copy("q/a:1", ["q/b:1"])

    assert pusher.copies == [("q/a:1", ["q/b:1"], True, pusher.target_settings)]


@pytest.mark.parametrize(("settings", "threads"), [({}, 5), ({"num_thread_container_push": 2}, 2)])
def test_tags_are_merged_in_as_many_threads_as_items_are_pushed_in(
    pusher: Pusher, settings: dict[str, object], threads: int
) -> None:
    pusher.target_settings.update(settings)

    assert make_sides(pusher).threads == threads


def test_indexes_are_read_through_the_host_s_client(
    pusher: Pusher, registry_server: RegistryServer
) -> None:
    index = make_index([make_image()])
    reference = Reference.parse(put(registry_server, "1", index))

    assert make_sides(pusher).source.pull_index(reference).digest == index.digest


def test_configs_are_read_through_ours(pusher: Pusher, registry_server: RegistryServer) -> None:
    image = make_image("linux/s390x")
    reference = Reference.parse(put(registry_server, "1", image))
    sides = make_sides(pusher)
    manifest = sides.destination.pull(reference)
    assert isinstance(manifest, ImageManifest)

    assert sides.destination.pull_config(reference, manifest)["architecture"] == "s390x"


@pytest.mark.parametrize(
    ("verify", "expected"), [(False, False), (True, True), ("/etc/ca.pem", "/etc/ca.pem")]
)
def test_our_client_connects_as_the_host_s_does(verify: bool | str, expected: bool | str) -> None:
    client = client_like(Client("quay.example.com", verify))

    session = client.session(Reference.parse("elsewhere.example.com/app:1"))
    assert session.host == "quay.example.com"
    assert client.credentials == Credentials("alice", "wonderland")
    assert client.options.verify == expected


class Refused(Client):
    """Gets a refusal for everything, with a token or without."""

    def __init__(self, host: str, *, authorization: str | None) -> None:
        super().__init__(host)
        self.error = HTTPError("401", response=_unauthorized(authorization))

    def get_manifest(
        self,
        image: str,
        raw: bool = False,
        media_type: str | None = None,
        return_headers: bool = False,
    ) -> object:
        raise self.error


def _unauthorized(authorization: str | None) -> Response:
    answer = Response()
    answer.status_code = 401
    if authorization is not None:
        headers = {"Authorization": authorization}
        answer.request = Request("GET", "https://quay.io/v2/", headers=headers).prepare()
    return answer


@pytest.mark.parametrize(
    ("authorization", "expected"), [("Bearer abc", True), ("Basic abc", False), (None, False)]
)
def test_a_refusal_in_spite_of_a_token_is_told_from_a_refused_login(
    pusher: Pusher, authorization: str | None, expected: bool
) -> None:
    pusher.dest_quay_client = Refused(pusher.quay_host, authorization=authorization)
    sides = make_sides(pusher)

    with pytest.raises(Unauthorized) as caught:
        sides.destination.pull(Reference.parse("quay.io/ns/app:1"))

    assert caught.value.logged_in == expected
    assert isinstance(caught.value.__cause__, HTTPError)


def merged(reference: Reference, previous: Index | None) -> Merged:
    return Merged(Tag("app", reference, None), previous, REPORT)


@pytest.mark.parametrize("typed", [True, False])
def test_tags_return_to_their_bytes(registry_server: RegistryServer, typed: bool) -> None:
    client = Client(registry_server.host)
    old = make_index([make_image(seed="old")], media_type_field=typed)
    put(registry_server, "old", old)
    tag = Reference.parse(put(registry_server, "1", make_index([make_image(seed="new")])))
    previous = Index.from_bytes(old.content, old.media_type)

    restore(client, [merged(tag, previous), merged(tag, previous)])

    assert registry_server.manifest("app", "1").content == old.content
    assert client.uploads == ([str(tag)] if typed else [])


def test_a_tag_of_which_nothing_is_known_is_left(
    pusher: Pusher, registry_server: RegistryServer
) -> None:
    new = make_index([make_image(seed="new")])
    tag = Reference.parse(put(registry_server, "1", new))

    restore(pusher.dest_quay_client, [merged(tag, None)])

    assert registry_server.manifest("app", "1").digest == new.digest
