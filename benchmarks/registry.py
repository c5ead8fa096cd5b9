"""The registry that is measured against: in a process of its own, behind a relay that is late."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from asyncio import StreamReader, StreamWriter
from contextlib import suppress
from multiprocessing.managers import BaseManager

import trustme

from pubtools_mlmerge.testing import ImageIndex, RegistryServer, make_image, make_index
from tests.programs import put

DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"


def make_list(*architectures: str, seed: str) -> ImageIndex:
    """Make a Docker manifest list, as the host's class merges nothing else."""
    images = [make_image(f"linux/{name}", docker=True, seed=seed) for name in architectures]
    return make_index(images, docker=True)


# Two sources: each merge is from the other one than the merge before, and so changes the tag.
SOURCES = tuple(make_list("amd64", "arm64", "ppc64le", seed=seed) for seed in ("a", "b"))
OLD = make_list("amd64", "arm64", "s390x", seed="old")


class Relay:
    """Passes connections on to a server; each answer and each new connection takes a round trip."""

    def __init__(self, upstream: str) -> None:
        self.seconds = 0.0
        self._upstream = upstream.split(":")
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        starting = asyncio.start_server(self._connected, "127.0.0.1", 0, backlog=512)
        server = asyncio.run_coroutine_threadsafe(starting, self._loop).result()
        self.host = "{}:{}".format(*server.sockets[0].getsockname())

    async def _connected(self, reader: StreamReader, writer: StreamWriter) -> None:
        await asyncio.sleep(self.seconds)
        answers, requests = await asyncio.open_connection(*self._upstream)
        await asyncio.gather(self._pass(reader, requests, 0), self._pass(answers, writer, 1))

    async def _pass(self, reader: StreamReader, writer: StreamWriter, trips: int) -> None:
        with suppress(OSError):
            while piece := await reader.read(2**16):
                self._loop.call_later(trips * self.seconds, writer.write, piece)
                await writer.drain()
        self._loop.call_later(trips * self.seconds, writer.close)


class Place:
    """A registry and the relay before it, in a process of their own, called through a proxy."""

    def __init__(self) -> None:
        authority = trustme.CA()
        self._authority = authority.cert_pem.bytes().decode()
        certificate = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(certificate)
        self._server = RegistryServer(ssl_context=certificate)
        self._server.start()
        self._relay = Relay(self._server.host)
        self._number = 0

    def host(self) -> str:
        return self._relay.host

    def authority(self) -> str:
        return self._authority  # as PEM

    def move(self, milliseconds: float) -> None:
        """Make a round trip take this long."""
        self._relay.seconds = milliseconds / 1000

    def put(self, repository: str, tags: list[str], index: ImageIndex) -> None:
        for tag in tags:
            put(self._server, tag, index, repository)

    def next_source(self) -> str:
        """Return the reference of a source, and count requests from now on."""
        self._number += 1
        self._server.forget_requests()
        return f"{self.host()}/app:new-{self._number % len(SOURCES)}"

    def count(self) -> int:
        return len(self._server.requests)

    def check(self, repository: str, tags: list[str]) -> None:
        """Require that tags hold the last source, and of `OLD` what the source lacks."""
        children = (*SOURCES[self._number % len(SOURCES)].children, OLD.children[-1])
        for index in (json.loads(self._server.manifest(repository, tag).content) for tag in tags):
            found = [entry["digest"] for entry in index["manifests"]]
            assert found == [child.digest for child in children], "a tag was not merged"


class Shelf:
    """A registry with tokens and many tags, in a process of its own."""

    def __init__(self, repositories: int, tags: int) -> None:
        self._server = RegistryServer(users={"user": "password"}, auth="token")
        self._server.start()
        for repository in (f"app-{number}" for number in range(repositories)):
            put(self._server, "new", SOURCES[0], repository)
            for tag in range(tags):
                put(self._server, f"{tag}", OLD, repository)

    def host(self) -> str:
        return self._server.host

    def count(self) -> int:
        """Count the requests since the last time."""
        count = len(self._server.requests)
        self._server.forget_requests()
        return count


class Manager(BaseManager):
    """Runs registries in another process; what it gives are proxies of them."""

    def place(self) -> Place:
        made: Place = vars(Manager)["Place"](self)
        return made

    def shelf(self, repositories: int, tags: int) -> Shelf:
        made: Shelf = vars(Manager)["Shelf"](self, repositories, tags)
        return made


for kind in (Place, Shelf):
    Manager.register(kind.__name__, kind)
