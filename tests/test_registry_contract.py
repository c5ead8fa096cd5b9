"""One contract for every registry: the clients on real and embedded ones, and the fake."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest
from attrs import frozen

from pubtools_mlmerge.core.manifests import Image, Index
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import MissingChild, NotAnIndex, NotFound, RegistryError
from pubtools_mlmerge.registry.adapter import ClientRegistry
from pubtools_mlmerge.registry.base import Registry
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.testing import RegistryServer, images, make_image, make_index, upload
from tests.factories import digest, index
from tests.memory import MemoryRegistry
from tests.running_quay import Quay, running_quay
from tests.scripted import HURRIED
from tests.servers import RealRegistry

CHILDREN = [make_image("linux/amd64"), make_image("linux/arm64")]
DOCKER_CHILDREN = [make_image("linux/amd64", docker=True), make_image("linux/s390x", docker=True)]
OCI = make_index(CHILDREN)
DOCKER = make_index(DOCKER_CHILDREN, docker=True)
NO_AMD64 = make_index(DOCKER_CHILDREN[1:], docker=True)
UNTYPED = make_index(CHILDREN, media_type_field=False)

numbers = itertools.count()


@frozen
class Subject:
    """A registry under test, and how to put something there, with all that it lists."""

    registry: Registry
    load: Callable[[Reference, images.Child], object]
    place: str
    reads_configs: bool = True
    keeps_untyped: bool = True

    def fresh(self, tag: str = "1") -> Reference:
        """Name a tag in a repository that no other test uses."""
        return Reference.parse(f"{self.place}{next(numbers)}:{tag}")


@pytest.fixture(scope="module")
def embedded() -> Iterator[RegistryServer]:
    with RegistryServer() as server:
        yield server


@pytest.fixture(scope="module")
def quay() -> Iterator[Quay]:
    """The one that `make quay` names, or the dialect."""
    with running_quay() as found:
        yield found


@pytest.fixture(params=["real", "distribution", "quay", "client", "memory"])
def subject(
    request: pytest.FixtureRequest, embedded: RegistryServer, quay: Quay
) -> Iterator[Subject]:
    if request.param == "memory":
        memory = MemoryRegistry()
        yield Subject(memory, memory.load, "registry.test/org/app")
        return
    if request.param == "quay":
        yield Subject(quay.client(), quay.put, str(quay.reference("contract")).rpartition(":")[0])
        return
    server: RegistryServer | RealRegistry = embedded
    if request.param == "real":
        server = request.getfixturevalue("docker_registry_plain")
    url, place = server.url, f"{server.host}/org/app"

    def load(reference: Reference, item: images.Child) -> None:
        upload(url, reference.repository, item, reference=reference.target)

    with RegistryClient(options=HURRIED) as client:
        if request.param == "client":
            asked = ClientRegistry(client)
            yield Subject(asked, load, place, reads_configs=False, keeps_untyped=False)
        else:
            yield Subject(client, load, place)


IMAGES = CHILDREN[0], DOCKER_CHILDREN[0]


@pytest.mark.parametrize("item", [OCI, DOCKER, NO_AMD64, UNTYPED, *IMAGES])
def test_a_manifest_comes_as_it_is_stored(subject: Subject, item: images.Child) -> None:
    reference, registry = subject.fresh(), subject.registry
    subject.load(reference, item)

    found = registry.pull(reference)

    assert (found.content, found.media_type) == (item.content, item.media_type)
    assert found == registry.pull(reference.at(item.digest))
    assert registry.digest(reference) == registry.digest(reference.at(item.digest)) == item.digest
    if isinstance(item, images.ImageIndex):
        assert registry.pull_index(reference) == found
        for child in item.children:
            assert registry.pull(reference.at(child.digest)).content == child.content
    else:
        with pytest.raises((NotAnIndex, NotFound), match=f"^{reference}"):
            registry.pull_index(reference)


@pytest.mark.parametrize("item", [OCI, DOCKER, UNTYPED, *IMAGES])
def test_the_exact_bytes_are_pushed(subject: Subject, item: images.Child) -> None:
    reference, registry = subject.fresh(), subject.registry
    subject.load(reference.tagged("loaded"), item)
    pushed = expected = registry.pull(reference.tagged("loaded"))
    if isinstance(pushed, Index) and not subject.keeps_untyped:
        # The host's client cannot do without a media type in the document.
        expected = pushed.with_media_type()

    assert registry.push(reference, pushed) == expected.digest
    assert registry.pull(reference) == expected


def test_a_push_by_digest_leaves_the_tag_alone_and_one_by_tag_moves_it(subject: Subject) -> None:
    reference, registry = subject.fresh(), subject.registry
    subject.load(reference, DOCKER)
    smaller = Index.from_bytes(NO_AMD64.content, NO_AMD64.media_type)

    assert registry.push(reference.at(smaller.digest), smaller) == smaller.digest
    assert registry.pull(reference.at(smaller.digest)) == smaller
    assert registry.pull(reference).digest == DOCKER.digest

    registry.push(reference, smaller)
    assert registry.pull(reference) == smaller


def test_an_index_without_its_children_is_refused(subject: Subject) -> None:
    reference = subject.fresh()
    subject.load(reference, DOCKER)

    with pytest.raises(MissingChild, match=f"^{reference}") as caught:
        subject.registry.push(reference, index("linux/ppc64le", docker=True))

    assert caught.value.digests == (digest("linux/ppc64le"),)
    assert subject.registry.pull(reference).digest == DOCKER.digest


def test_what_is_absent_is_not_found_and_has_no_digest(subject: Subject) -> None:
    absent = subject.fresh()
    subject.load(absent.tagged("2"), OCI)

    for reference in (absent, absent.at(digest("absent")), subject.fresh()):
        with pytest.raises(NotFound, match=f"^{reference}"):
            subject.registry.pull(reference)
        assert subject.registry.digest(reference) is None
        assert subject.registry.pull_if_present(reference) is None


def test_a_config_tells_the_platform(subject: Subject) -> None:
    reference = subject.fresh()
    subject.load(reference, CHILDREN[1])
    image = subject.registry.pull(reference)
    assert isinstance(image, Image)

    if subject.reads_configs:
        config = subject.registry.pull_config(reference, image)
        assert image.wrap(config).manifests[0].fields["platform"] == CHILDREN[1].platform
    else:
        with pytest.raises(RegistryError, match="cannot read blob"):
            subject.registry.pull_config(reference, image)
    with pytest.raises(RegistryError):
        subject.registry.pull_config(reference, Image(b"", "", "", digest("absent"), ()))
