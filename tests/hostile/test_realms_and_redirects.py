"""Places that a registry names: where tokens are given out, and where content is.

A realm on another host is followed, as a registry is trusted to name the server that knows its
users, and neither realms nor redirects are kept from private networks: registries, their token
servers and their storage live there. Their bounds are in `docs/security.rst`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import Forbidden, RegistryError, Unauthorized
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.registry.http import ConnectOptions
from tests.growth import growth
from tests.hostile.helpers import (
    LOGIN,
    PASSWORD,
    REFERENCE,
    TOKEN,
    USER,
    client_of,
    failure_of,
    good,
    refused,
    wants_token,
)
from tests.scripted import (
    HURRIED,
    QUICK,
    Reply,
    ScriptedServer,
    bearer,
    ca_bundle,
    json_reply,
    redirect,
    refusal,
)
from tests.servers import free_port

GRANTED = json_reply({"token": TOKEN})


@pytest.fixture
def trusting(tmp_path: Path) -> ConnectOptions:
    """Trust the certificates of the scripted servers."""
    return ConnectOptions(ca_bundle=ca_bundle(tmp_path), retries=QUICK)


# Realms


def test_a_realm_on_another_host_gets_the_login_for_this_registry_alone(
    trusting: ConnectOptions,
) -> None:
    with ScriptedServer(GRANTED, tls=True) as realm, ScriptedServer(Reply(), tls=True) as registry:
        wants_token(registry, good(), f"{realm.url}/token")
        client_of(registry, trusting).pull(REFERENCE)

    assert realm.authorizations == [f"Basic {LOGIN}"]
    assert registry.authorizations == ["", f"Bearer {TOKEN}"]


@pytest.mark.parametrize("login", [(USER, PASSWORD), (None, None)])
def test_an_https_registry_names_no_realm_on_plain_http(
    trusting: ConnectOptions, login: tuple[str | None, str | None]
) -> None:
    """Not even for an anonymous token: whoever listens could give another one."""
    with ScriptedServer(GRANTED) as realm, ScriptedServer(Reply(), tls=True) as registry:
        wants_token(registry, good(), f"{realm.url}/token")
        user, password = login
        client = RegistryClient(registry.url, username=user, password=password, options=trusting)
        with pytest.raises(Unauthorized, match="wants the login over plain http"):
            client.pull(REFERENCE)

    assert realm.received == []


def test_a_realm_that_redirects_elsewhere_gives_nothing_away() -> None:
    with ScriptedServer(GRANTED) as other, ScriptedServer(Reply()) as registry:
        wants_token(registry, good(), token=redirect(f"{other.url}/token"))
        client_of(registry).pull(REFERENCE)

        other.then(refusal(401, message="who are you?"))
        error = failure_of(registry)

    assert registry.authorizations[1] == f"Basic {LOGIN}"
    assert other.authorizations == ["", ""]
    assert "HTTP 401): who are you?" in str(error)  # the login itself was not refused


REALMS = [
    *("", "token", "/token", "//127.0.0.1/token", "?", "#", "javascript:alert(1)"),
    *("file:///etc/passwd", "ftp://127.0.0.1/", "unix:///run/docker.sock", "https://"),
    *("http://[::1", "http://127.0.0.1:99999/", "http://127.0.0.1:port/"),
    "http://127.0.0.1\\@registry.test/",
]


@pytest.mark.parametrize("realm", REALMS)
def test_a_realm_that_is_no_place_is_refused(realm: str) -> None:
    error = refused(bearer(realm.replace("\\", "\\\\")))  # as a quoted string has it

    assert isinstance(error, Unauthorized)
    assert "names no valid login server" in str(error)


@pytest.mark.parametrize("name", ["user", "registry.test", "registry.test:80"])
def test_a_realm_does_not_bring_a_login_or_a_host_of_its_own(name: str) -> None:
    """What stands before an @ is no host, and no login to use."""
    with ScriptedServer(GRANTED) as realm, ScriptedServer(Reply()) as registry:
        wants_token(registry, good(), f"http://{name}:other@{realm.host}/token")
        client_of(registry).pull(REFERENCE)

    assert realm.authorizations == [f"Basic {LOGIN}"]
    assert realm.received[0].host == realm.host


@pytest.mark.parametrize("piece", ["a", "a.b", "%5C", "&"])
def test_a_token_does_not_keep_its_user_busy(piece: str) -> None:
    """It is looked for in all that the registry says about it."""

    def ask(size: int) -> None:
        token = piece * (size // len(piece))
        with ScriptedServer(Reply()) as registry:
            registry.then(
                bearer(f"{registry.url}/token"),
                json_reply({"token": token}),
                Reply(403, {}, (token[:-1] * 2)[: size + 5000].encode()),
            )
            assert isinstance(failure_of(registry), Forbidden)

    assert growth(ask, 15_000) < 9


# Redirects


def test_redirects_in_circles_come_to_an_end() -> None:
    with ScriptedServer(Reply()) as other, ScriptedServer(Reply()) as registry:
        other.then(redirect(f"{registry.url}/back"))
        registry.then(redirect(f"{other.url}/forth"))
        error = failure_of(registry)

    assert "redirects in circles" in str(error)
    assert len(registry.received) + len(other.received) == 6


LOCATIONS = [
    *("http://[::1", "http://127.0.0.1:99999/", "http://127.0.0.1:port/", "https:///"),
    *("file:///etc/passwd", "ftp://127.0.0.1/", "x:y", "http://a..b/"),
    "http://127.0.0.1\\@registry.test/",
]


@pytest.mark.parametrize("location", LOCATIONS)
def test_a_location_that_is_no_place_is_an_error(location: str) -> None:
    with ScriptedServer(redirect(location)) as registry:
        assert isinstance(failure_of(registry), RegistryError)

    assert len(registry.received) == 1


# Plain http


def test_another_host_than_this_machine_is_not_asked_in_the_clear(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A proxy stands for all hosts: it gets to see whatever is asked in the clear."""
    with ScriptedServer(good()) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{free_port()}")
        client = RegistryClient(username=USER, password=PASSWORD, options=HURRIED)
        with pytest.raises(RegistryError):
            client.pull(Reference.parse("registry.test/app:1"))

    assert proxy.received == []
