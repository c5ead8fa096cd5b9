"""Scenarios: merges that are run again and again, each time in a new repository."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from hashlib import sha256
from http.client import HTTPConnection
from typing import ClassVar

from attrs import evolve, field, frozen

from pubtools_mlmerge.testing import Image, ImageIndex, make_index
from pubtools_mlmerge.testing.images import Child
from tests.e2e.conftest import images, merged
from tests.peers import EVERY_TYPE, Peer
from tests.servers import TOKEN_USER, RealRegistry

_NUMBERS = itertools.count(1)
_USERS = ("--source-quay-user", TOKEN_USER, "--dest-quay-user", TOKEN_USER)


@frozen(kw_only=True)
class Scenario:
    """A source and a tag in a real registry, before a merge and after it."""

    name: str
    registry: RealRegistry
    model: str
    """Repository with the tag; each run gets a copy of it."""
    source: str = ""
    """Repository with the source; none for that of the tag."""
    old: ClassVar[ImageIndex] = make_index(images("linux/amd64", "linux/s390x", seed="old"))
    new: ClassVar[ImageIndex] = make_index(
        images("linux/amd64", "linux/arm64", "linux/ppc64le", seed="new")
    )
    present: tuple[Child, ...] = ()
    """Children of the source that the repository with the tag has already."""
    options: tuple[str, ...] = ()

    @property
    def children(self) -> tuple[Image, ...]:
        """What the merged index lists."""
        found = (*self.new.children, self.old.children[-1])
        return tuple(child for child in found if isinstance(child, Image))

    @property
    def merged(self) -> bytes:
        """What the tag holds after the merge."""
        return merged(*self.children)

    @property
    def digest(self) -> str:
        """Digest of the merged index."""
        return _digest(self.merged)

    @property
    def anchor(self) -> str:
        """The second tag on the merged index, if one is wanted."""
        return f"stable-{self.digest[7:19]}" if "--anchor-tag" in self.options else ""

    @contextmanager
    def fresh(self) -> Iterator[Bench]:
        """Make a repository in which nothing was merged yet, out of the registry's files."""
        repository = f"{self.model}{next(_NUMBERS)}"
        root = self.registry.log.parent / "storage/docker/registry/v2/repositories"
        shutil.copytree(root / self.model, root / repository)
        headers = {"Accept": EVERY_TYPE}
        if self.registry.tokens is not None:
            reply = self.registry.tokens.issue(TOKEN_USER, (f"repository:{repository}:pull",))
            headers["Authorization"] = f"Bearer {reply['token']}"
        with closing(HTTPConnection(self.registry.host, timeout=20)) as direct:
            yield Bench(self, repository, headers, direct)


@frozen
class Held:
    """What the tag and its anchor hold; none for nothing."""

    tag: bytes | None
    anchor: bytes | None


@frozen
class Bench:
    """A repository of one case, and a way to it with nothing in between."""

    scenario: Scenario
    repository: str
    _headers: Mapping[str, str] = field(repr=False)
    _direct: HTTPConnection = field(repr=False)
    _whole: set[str] = field(factory=set, repr=False)

    def arguments(self, host: str) -> tuple[str, ...]:
        """Return the arguments of a merge by way of a host."""
        source = self.scenario.source or self.repository
        references = (f"{host}/{source}:new", f"{host}/{self.repository}:stable")
        names = ("--source-ref", references[0], "--dest-ref", references[1])
        return (*names, "--output", "json", *self.scenario.options)

    def held(self) -> Held:
        """Read the tags."""
        anchor = self.scenario.anchor
        return Held(self._read("stable"), self._read(anchor) if anchor else None)

    def lacking(self, index: bytes) -> Iterator[str]:
        """Name what cannot be pulled of what an index lists.

        What could be pulled once is not pulled again, as nothing here deletes.
        """
        for child in json.loads(index)["manifests"]:
            if child["digest"] not in self._whole:
                lacking = [*self._lacking(child["digest"])]
                self._whole.update([] if lacking else [child["digest"]])
                yield from lacking

    def _lacking(self, child: str) -> Iterator[str]:
        _, manifest = self._ask("GET", f"manifests/{child}")
        if _digest(manifest) != child:
            yield child
            return
        image = json.loads(manifest)
        for blob in (image["config"]["digest"], *(layer["digest"] for layer in image["layers"])):
            status, _ = self._ask("HEAD", f"blobs/{blob}")
            if status != 200:
                yield blob

    def _read(self, tag: str) -> bytes | None:
        status, content = self._ask("GET", f"manifests/{tag}")
        assert status in (200, 404), content
        return content if status == 200 else None

    def _ask(self, method: str, path: str) -> tuple[int, bytes]:
        self._direct.request(method, f"/v2/{self.repository}/{path}", headers=dict(self._headers))
        answer = self._direct.getresponse()
        return answer.status, answer.read()


def _digest(content: bytes) -> str:
    return f"sha256:{sha256(content).hexdigest()}"


def union(registry: RealRegistry) -> Scenario:
    """Set up a plain union of two indexes of one repository."""
    return _stocked(Scenario(name="union", registry=registry, model="faults/union"))


def across(registry: RealRegistry) -> Scenario:
    """Set up a merge from another repository, with an anchor tag."""
    scenario = Scenario(
        name="across",
        registry=registry,
        model="faults/across",
        source="faults/source",
        options=("--anchor-tag", "{tag}-{digest}"),
    )
    return _stocked(scenario)


def tokens(registry: RealRegistry) -> Scenario:
    """Set up the same where tokens are wanted, and where two children are there already."""
    scenario = evolve(
        across(registry),
        name="tokens",
        model="faults/tokens",
        present=Scenario.new.children[:2],
    )
    return _stocked(evolve(scenario, options=(*scenario.options, *_USERS)))


def _stocked(scenario: Scenario) -> Scenario:
    registry = scenario.registry
    peer = Peer(url=registry.url, verify=registry.verify, credentials=registry.credentials)
    with peer.session:
        peer.upload(scenario.model, scenario.old, "stable")
        for child in scenario.present:
            peer.upload(scenario.model, child)
        peer.upload(scenario.source or scenario.model, scenario.new, "new")
    return scenario
