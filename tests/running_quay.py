"""A Quay that runs somewhere, as the environment names it, or else the dialect of the tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from secrets import token_hex

from attrs import field, frozen

from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.registry.http import ConnectOptions
from pubtools_mlmerge.testing import Image, ImageIndex, RegistryServer
from tests.peers import Peer
from tests.quay import QuayDialect
from tests.scripted import HURRIED

RUN = token_hex(4)  # keeps the repositories of two runs apart


@frozen
class Quay:
    """Where it is, who may push there, and below which name."""

    url: str
    user: str
    password: str = field(repr=False)
    organisation: str
    api_token: str | None = field(repr=False)
    options: ConnectOptions = field(factory=ConnectOptions)

    @property
    def peer(self) -> Peer:
        return Peer(url=self.url, credentials=(self.user, self.password))

    def client(self) -> RegistryClient:
        return RegistryClient(
            self.url, username=self.user, password=self.password, options=self.options
        )

    def reference(self, name: object, tag: str = "1") -> Reference:
        """Name a tag in a repository that no other run uses."""
        host = self.url.partition("://")[2].rstrip("/")
        return Reference.parse(f"{host}/{self.organisation}/mlmerge-{RUN}-{name}:{tag}")

    def put(self, reference: Reference, item: Image | ImageIndex) -> None:
        """Push an item, with all that it needs."""
        self.peer.upload(reference.repository, item, reference.target)


@contextmanager
def running_quay() -> Iterator[Quay]:
    """Find the Quay of `QUAY_URL`, or start a server with the dialect of the tests."""
    environment = os.environ
    if environment.get("QUAY_URL"):
        user = environment["QUAY_USER"]
        yield Quay(
            environment["QUAY_URL"].rstrip("/"),
            user,
            environment["QUAY_PASSWORD"],
            environment.get("QUAY_ORGANISATION") or user,
            environment.get("QUAY_API_TOKEN") or None,
        )
        return
    users, grants = {"alice": "wonderland"}, {"alice": ["alice/*"]}
    dialect = QuayDialect("api-token")
    with RegistryServer(dialect=dialect, auth="token", users=users, grants=grants) as server:
        yield Quay(server.url, "alice", "wonderland", "alice", "api-token", HURRIED)
