"""Repositories in real registries, and what tests need to look into them."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Optional, Union

import pytest
from attrs import frozen

from pubtools_mlmerge.testing import Image, ImageIndex, make_image, make_index
from tests.host.shelves import store
from tests.peers import EVERY_TYPE, OCI_INDEX, Peer
from tests.programs import Done, run_here
from tests.servers import RealRegistry, require

Item = Union[Image, ImageIndex, Sequence[Image]]
Env = Optional[Mapping[str, str]]
_NUMBERS = itertools.count(1)
_LOGGED = re.compile(r'"((?:GET|HEAD|PUT|POST|PATCH|DELETE) \S+) HTTP/1\.[01]" (\d+)')


@frozen
class Held:
    """What a tag holds, byte for byte."""

    content: bytes
    media_type: str
    digest: str

    @property
    def manifests(self) -> list[dict[str, object]]:
        """The entries, decoded."""
        found = json.loads(self.content)["manifests"]
        assert isinstance(found, list)
        return found

    @property
    def digests(self) -> list[object]:
        """The digests of the entries."""
        return [entry["digest"] for entry in self.manifests]


@frozen
class Shelf:
    """A repository that no other test uses, in a real registry."""

    registry: RealRegistry
    peer: Peer
    repository: str

    def ref(self, tag: str, repository: str = "") -> str:
        """Name a tag as people do."""
        return f"{self.registry.host}/{repository or self.repository}:{tag}"

    def put(self, tag: str, item: Item, repository: str = "") -> str:
        """Let a tag hold something, a sequence as an index, and return its reference."""
        whole = item if isinstance(item, (Image, ImageIndex)) else make_index(item)
        store(self.registry, repository or self.repository, whole, tag)
        return self.ref(tag, repository)

    def hold(self, **tags: Item) -> None:
        """Let tags hold something."""
        for tag, item in tags.items():
            self.put(tag, item)

    def merge(self, *options: str, to: str = "stable", code: int = 0, env: Env = None) -> Done:
        """Merge the tag `new` into another, and require that it ends with a code."""
        return merge(self.ref("new"), self.ref(to), *options, code=code, env=env)

    def find(self, tag: str, repository: str = "") -> Held | None:
        """Read a tag, if it is there."""
        answer = self.peer.get(repository or self.repository, tag, EVERY_TYPE)
        if answer.status_code == 404:
            return None
        assert answer.status_code == 200, answer.text
        headers = answer.headers
        return Held(answer.content, headers["Content-Type"], headers["Docker-Content-Digest"])

    def get(self, tag: str, repository: str = "") -> Held:
        """Read a tag."""
        found = self.find(tag, repository)
        assert found is not None, f"there is no {self.ref(tag, repository)}"
        return found

    def mark(self) -> Record:
        """Begin to record what the registry is asked."""
        start = self.registry.log.stat().st_size
        return Record(self, start + len(self.log(start)))

    def log(self, start: int) -> bytes:
        """Read what the registry logged from some byte on, down to its last request."""
        last = f"/v2/?mark={next(_NUMBERS)}"
        self.peer.once("GET", last)
        give_up = time.monotonic() + 5
        while last.encode() not in (text := self._log_so_far(start)):
            assert time.monotonic() < give_up, "the registry does not log"
            time.sleep(0.01)
        return text

    def _log_so_far(self, start: int) -> bytes:
        with self.registry.log.open("rb") as log:
            log.seek(start)
            return log.read()


@frozen
class Record:
    """What a registry was asked since a point in time."""

    shelf: Shelf
    start: int

    def __iter__(self) -> Iterator[str]:
        """Give method, path and status of each request."""
        text = self.shelf.log(self.start).decode()
        found = (f"{line} {status}" for line, status in _LOGGED.findall(text))
        return (line for line in found if "?mark=" not in line)

    @property
    def writes(self) -> list[str]:
        """The requests that change something."""
        return [line for line in self if not line.startswith(("GET", "HEAD"))]


def _shelf(registry: RealRegistry) -> Shelf:
    peer = Peer(url=registry.url, verify=registry.verify, credentials=registry.credentials)
    return Shelf(registry, peer, f"test{next(_NUMBERS)}/app")


@pytest.fixture
def shelf(docker_registry_plain: RealRegistry) -> Shelf:
    return _shelf(docker_registry_plain)


@pytest.fixture
def tls_shelf(docker_registry_tls: RealRegistry) -> Shelf:
    return _shelf(docker_registry_tls)


@pytest.fixture
def token_shelf(docker_registry_token: RealRegistry) -> Shelf:
    return _shelf(docker_registry_token)


def merge(source: str, destination: str, *options: str, code: int = 0, env: Env = None) -> Done:
    """Merge, and require that it ends with a code."""
    tags = ("--source-ref", source, "--dest-ref", destination)
    output = () if "--output" in options else ("--output", "json")
    done = run_here("merge", *tags, *output, *options, env=env)
    assert done.code == code, done.err
    return done


def images(*platforms: str, seed: str = "", docker: bool = False) -> list[Image]:
    """Make an image for each platform."""
    return [make_image(platform, seed=seed, docker=docker) for platform in platforms]


def image_index(*platforms: str, seed: str = "", docker: bool = False) -> ImageIndex:
    """Make an index of an image for each platform."""
    return make_index(images(*platforms, seed=seed, docker=docker), docker=docker)


def merged(*children: Image | ImageIndex, media_type: str = OCI_INDEX, **fields: object) -> bytes:
    """Encode what a merge of these children must upload: as the host does."""
    manifests = [child.descriptor for child in children]
    document = {"schemaVersion": 2, "mediaType": media_type, "manifests": manifests, **fields}
    return json.dumps(document, sort_keys=True, indent=4).encode()


def pull_whole(reference: str, image: Image, to: Path) -> None:
    """Pull one platform with another program, which checks every digest."""
    skopeo = require("skopeo")
    options = []
    for name, part in (("os", "os"), ("arch", "architecture"), ("variant", "variant")):
        if part in image.platform:
            options.append(f"--override-{name}={image.platform[part]}")
    copy = ["copy", "--quiet", "--src-tls-verify=false", f"docker://{reference}", f"dir:{to}"]
    subprocess.run([skopeo, *options, *copy], check=True)
    assert (to / "manifest.json").read_bytes() == image.content
