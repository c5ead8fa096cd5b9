"""The world of a measurement: registries, with images and tags in them."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import requests
from attrs import frozen

from benchmarks.figures import Detail
from pubtools_mlmerge.testing import Image, ImageIndex, make_image, make_index, upload

USER, PASSWORD = "alice", "wonderland"
ROOT = Path(__file__).parents[1]
LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
_INDEXES = f"{LIST}, application/vnd.oci.image.index.v1+json"


def images(*architectures: str, seed: str) -> list[Image]:
    """Make an image of two blobs for each architecture."""
    return [make_image(f"linux/{name}", docker=True, seed=seed) for name in architectures]


def index_of(children: Sequence[Image]) -> ImageIndex:
    """Make a manifest list, which is all that the host's class merges."""
    return make_index(children, docker=True)


# Whichever of the two is merged into what the other one was merged into, changes it.
SOURCES = tuple(index_of(images("amd64", "arm64", "ppc64le", seed=seed)) for seed in ("a", "b"))
OLD = index_of(images("amd64", "arm64", "s390x", seed="old"))


def merged_digests(source: ImageIndex) -> tuple[str, ...]:
    """Tell what is listed after a merge into `OLD`: the source, and last what is kept."""
    return tuple(child.digest for child in (*source.children, OLD.children[-1]))


@frozen
class Site:
    """A registry as somebody sees it who merges there."""

    name: str
    host: str

    @property
    def wants_login(self) -> bool:
        """Whether it wants tokens."""
        return self.name == "token"

    @property
    def url(self) -> str:
        """The address of a registry that is not on this machine is never tried without TLS."""
        return f"https://{self.host}"

    def details(self, distance: int) -> dict[str, Detail]:
        """Tell under which conditions something is measured here."""
        return {"registry": self.name, "ms": distance}

    def reference(self, tag: str, repository: str = "app") -> str:
        """Name a tag."""
        return f"{self.host}/{repository}:{tag}"


class World:
    """Registries that run elsewhere."""

    def __init__(self, orders: IO[str], answers: IO[str]) -> None:
        self._orders, self._answers = orders, answers
        described = self._read()
        assert isinstance(described, dict), "the registries did not start"
        self.sites = {name: Site(name, host) for name, host in described["hosts"].items()}
        self.bundle: str = described["bundle"]
        self._door: str = described["door"]
        self._session = requests.Session()
        self._numbers = itertools.count()

    def move(self, milliseconds: float) -> None:
        """Put the registries so far away that a round trip takes this long."""
        self._order(f"distance {milliseconds / 1000}")

    def count(self, site: Site) -> int:
        """Tell how many requests a registry got since this was asked before, logins included."""
        counted = self._order(f"count {site.name}")
        assert isinstance(counted, int)
        return counted

    def next_source(self) -> tuple[str, ImageIndex]:
        """Give the tag of a source, and what it holds: another one than the time before."""
        number = next(self._numbers) % len(SOURCES)
        return f"new-{number}", SOURCES[number]

    def upload(self, repository: str, tag: str, item: ImageIndex) -> None:
        """Store an index, with all that is below it."""
        upload(self._door, repository, item, reference=tag, session=self._session)

    def put(self, repository: str, tag: str, item: ImageIndex) -> None:
        """Let a tag hold an index whose images are there."""
        headers = {"Content-Type": item.media_type}
        url = self._url(repository, tag)
        self._session.put(url, data=item.content, headers=headers).raise_for_status()

    def listed(self, repository: str, tag: str) -> list[str]:
        """Tell what a tag lists."""
        answer = self._session.get(self._url(repository, tag), headers={"Accept": _INDEXES})
        answer.raise_for_status()
        return [entry["digest"] for entry in answer.json()["manifests"]]

    def check(self, repository: str, tag: str, digests: Sequence[str]) -> None:
        """Require that a tag lists these."""
        found = self.listed(repository, tag)
        assert sorted(found) == sorted(digests), f"{repository}:{tag} was not merged"

    def _url(self, repository: str, tag: str) -> str:
        return f"{self._door}/v2/{repository}/manifests/{tag}"

    def _order(self, order: str) -> object:
        self._orders.write(f"{order}\n")
        self._orders.flush()
        return self._read()

    def _read(self) -> object:
        value: object = json.loads(self._answers.readline() or "null")
        return value


@contextmanager
def world() -> Iterator[World]:
    """Run registries, trusted by this process and those that it starts."""
    command = [sys.executable, "-m", "benchmarks.grounds"]
    with subprocess.Popen(  # noqa: S603 - a program of our own
        command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as grounds:
        assert grounds.stdin is not None
        assert grounds.stdout is not None
        try:
            running = World(grounds.stdin, grounds.stdout)
            with trusting(running.bundle):
                for number, source in enumerate(SOURCES):
                    running.upload("app", f"new-{number}", source)
                running.upload("app", "stable", OLD)
                yield running
        finally:
            grounds.stdin.close()
            grounds.wait(20)


@contextmanager
def trusting(bundle: str) -> Iterator[None]:
    """Let programs in Python and in Go trust these authorities, and find no logins of the user."""
    home = {"HOME": str(Path(bundle).parent)}
    changed = {**home, "REQUESTS_CA_BUNDLE": bundle, "SSL_CERT_FILE": bundle}
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
