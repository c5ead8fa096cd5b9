"""The proxy and its faults, seen by a plain client: each is what it is called."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from http.client import HTTPConnection, IncompleteRead, RemoteDisconnected
from typing import Protocol

import pytest
from attrs import frozen

from pubtools_mlmerge.core.manifests import digest_of
from tests.faults.conftest import Recording
from tests.faults.kinds import ASKED_WAIT, NAMED, Injection, Mode
from tests.faults.proxy import Proxy
from tests.faults.scenarios import Bench
from tests.peers import EVERY_TYPE, OCI_INDEX
from tests.servers import TOKEN_USER


@frozen
class Answer:
    """What a client read."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@frozen
class Client:
    """Somebody who reads the tag of a bench, and writes the merged index there."""

    bench: Bench
    proxy: Proxy

    @property
    def tag(self) -> str:
        return f"/v2/{self.bench.repository}/manifests/stable"

    @property
    def old(self) -> bytes:
        return self.bench.scenario.old.content

    @property
    def is_stored(self) -> bool:
        """Whether the registry has what was written."""
        return self.bench.held().tag == self.bench.scenario.merged

    def ask(self, method: str = "GET", token: str = "", path: str = "") -> Answer:
        """Send a request on a new connection."""
        headers = {"Accept": EVERY_TYPE, "Content-Type": OCI_INDEX}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        body = self.bench.scenario.merged if method == "PUT" else None
        with closing(HTTPConnection(self.proxy.host, timeout=1)) as connection:
            connection.request(method, path or self.tag, body, headers)
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read())

    def token(self, actions: str) -> str:
        """Get a token past the proxy."""
        tokens = self.bench.scenario.registry.tokens
        assert tokens is not None
        scope = f"repository:{self.bench.repository}:{actions}"
        return str(tokens.issue(TOKEN_USER, (scope,))["token"])


class Spoil(Protocol):
    """Lets a fault happen."""

    def __call__(
        self, name: str, place: str, mode: Mode = "once", scenario: str = "union"
    ) -> Client:
        """Give a client to whom it happens."""


@pytest.fixture
def spoil(recordings: Mapping[str, Recording]) -> Iterator[Spoil]:
    with ExitStack() as stack:

        def make(name: str, place: str, mode: Mode = "once", scenario: str = "union") -> Client:
            bench = stack.enter_context(recordings[scenario].scenario.fresh())
            injection = Injection(NAMED[name], place, mode)
            return Client(bench, stack.enter_context(Proxy(bench.scenario.registry, injection)))

        yield make


def test_nothing_else_is_changed(spoil: Spoil) -> None:
    client = spoil("500", "PUT anchor 1")

    answers = [client.ask("GET"), client.ask("HEAD"), client.ask("PUT"), client.ask("GET")]

    assert [answer.status for answer in answers] == [200, 200, 201, 200]
    assert answers[0].body == client.old
    assert answers[1].headers["Content-Length"] == str(len(client.old))
    assert answers[3].body == client.bench.scenario.merged
    places = [seen.place for seen in client.proxy.seen]
    assert places == ["GET tag 1", "HEAD tag 1", "PUT tag 1", "GET tag 2"]


@pytest.mark.parametrize(
    ("mode", "statuses"),
    [
        ("once", [200, 503, 200, 200]),
        ("each time", [200, 503, 503, 200]),
        ("from then on", [200, 503, 503, 503]),
    ],
)
def test_a_fault_happens_as_often_as_it_should(
    spoil: Spoil, mode: Mode, statuses: list[int]
) -> None:
    client = spoil("503", "GET tag 2", mode)

    answers = [client.ask(path=path) for path in ("", "", "", "/v2/")]

    assert [answer.status for answer in answers] == statuses


@pytest.mark.parametrize(
    ("name", "method", "error", "is_stored"),
    [
        ("reset before it is read", "PUT", ConnectionResetError, False),
        ("reset amid the request", "PUT", ConnectionResetError, False),
        ("reset once stored", "PUT", ConnectionResetError, True),
        ("reset amid the answer", "GET", (ConnectionResetError, IncompleteRead), False),
        ("truncated answer", "GET", IncompleteRead, False),
        ("stall", "PUT", socket.timeout, False),
        ("stall once stored", "PUT", socket.timeout, True),
    ],
)
def test_an_answer_does_not_come_whole(
    spoil: Spoil,
    name: str,
    method: str,
    error: type[Exception] | tuple[type[Exception], ...],
    is_stored: bool,
) -> None:
    client = spoil(name, f"{method} tag 1")

    with pytest.raises(error):
        client.ask(method)

    assert client.is_stored is is_stored
    assert client.ask("GET").status == 200


def test_connections_are_refused_until_somebody_listens_again(spoil: Spoil) -> None:
    client = spoil("connection refused", "GET tag 1")

    with pytest.raises((ConnectionResetError, RemoteDisconnected)):
        client.ask()
    with pytest.raises(ConnectionRefusedError):
        client.ask()
    client.proxy.listen()

    assert client.ask().body == client.old


@pytest.mark.parametrize(
    ("name", "status", "is_stored"),
    [
        ("429", 429, False),
        ("500", 500, False),
        ("500 though stored", 500, True),
        ("401 without a challenge", 401, False),
        ("201 for a tag that is not stored", 201, False),
        ("slow drip", 201, True),
    ],
)
def test_an_answer_is_false(spoil: Spoil, name: str, status: int, is_stored: bool) -> None:
    client = spoil(name, "PUT tag 1")

    assert client.ask("PUT").status == status
    assert client.is_stored is is_stored


def test_a_pause_is_asked_for(spoil: Spoil) -> None:
    client = spoil("429 with Retry-After", "GET tag 1")

    assert client.ask().headers["Retry-After"] == str(ASKED_WAIT)


def test_the_digest_is_that_of_something_else(spoil: Spoil) -> None:
    client = spoil("wrong digest header", "GET tag 1")

    answer = client.ask()

    assert answer.body == client.old
    assert answer.headers["Docker-Content-Digest"] != digest_of(client.old)


@pytest.mark.parametrize(("name", "reads"), [("stale read", 1), ("stale reads", 3)])
def test_what_was_there_before_is_read_for_a_while(spoil: Spoil, name: str, reads: int) -> None:
    client = spoil(name, "PUT tag 1")
    client.ask("PUT")

    bodies = [client.ask().body for _ in range(reads + 1)]

    assert bodies == [client.old] * reads + [client.bench.scenario.merged]
    assert client.is_stored


def test_a_token_expires_for_all_that_follow(spoil: Spoil) -> None:
    client = spoil("token expired", "GET tag 2", scenario="tokens")
    first, second = client.token("pull"), client.token("pull,push")

    answers = [client.ask(token=token) for token in (first, first, first, second)]

    assert [answer.status for answer in answers] == [200, 401, 401, 200]
    assert f'realm="{client.proxy.url}/token"' in answers[1].headers["Www-Authenticate"]


def test_tokens_are_asked_for_here(spoil: Spoil) -> None:
    client = spoil("503", "GET token 1", scenario="tokens")

    answers = [client.ask(path="/token?service=tests") for _ in range(2)]

    assert [answer.status for answer in answers] == [503, 200]
