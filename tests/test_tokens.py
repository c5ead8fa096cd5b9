"""Tokens: asked for once, kept as long as they live, and only for those who may see a login."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
from attrs import define, evolve

from pubtools_mlmerge.errors import Forbidden, NotFound, RegistryError, Unauthorized
from pubtools_mlmerge.registry.auth import Challenge, Credentials, Scope, Tokens
from pubtools_mlmerge.registry.http import ConnectOptions, Transport
from tests.scripted import (
    HURRIED,
    QUICK,
    Received,
    Reply,
    ScriptedServer,
    Step,
    ca_bundle,
    json_reply,
    redirect,
    refusal,
)

ALICE = Credentials("alice", 's3c"r3t')
APP = frozenset({Scope("org/app")})
BOTH = frozenset({Scope("org/app", push=True), Scope("org/base")})
REGISTRY = "http://registry.test/"


@define
class Clock:
    """Stands still until it is told otherwise."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    with monkeypatch.context() as patch:
        stopped = Clock()
        patch.setattr(time, "monotonic", stopped)
        yield stopped


def challenge(realm: str, **parameters: str) -> Challenge:
    return Challenge("bearer", {"realm": realm, **parameters})


def tokens(options: ConnectOptions = HURRIED, registry: str = REGISTRY) -> Tokens:
    return Tokens(Transport(options), registry)


def numbered(prefix: str = "T") -> Callable[[Received], Reply]:
    """Give another token each time."""
    count = iter(range(1000))
    return lambda _: json_reply({"token": f"{prefix}{next(count)}"})


def header_for(*steps: Step, scopes: frozenset[Scope] = APP) -> str:
    """Ask a server that answers this once."""
    with ScriptedServer(*steps) as server:
        return tokens().header(challenge(server.url), scopes, ALICE)


def error_for(*steps: Step) -> RegistryError:
    with pytest.raises(RegistryError) as caught:
        header_for(*steps)
    cause = caught.value.__cause__
    assert ALICE.password not in f"{caught.value} {caught.value!r} {cause} {cause!r}"
    return caught.value


# Credentials and scopes


def test_credentials_show_no_password() -> None:
    assert "s3c" not in f"{ALICE} {ALICE!r}"
    assert Credentials("alice", "pässwörd").basic == "Basic YWxpY2U6cMOkc3N3w7ZyZA=="


def test_a_scope_is_written_as_the_server_reads_it() -> None:
    assert str(Scope("org/app")) == "repository:org/app:pull"
    assert str(Scope("org/app", push=True)) == "repository:org/app:pull,push"


@pytest.mark.parametrize(
    ("wide", "narrow", "expected"),
    [
        (Scope("a", push=True), Scope("a"), True),
        (Scope("a"), Scope("a"), True),
        (Scope("a"), Scope("a", push=True), False),
        (Scope("a", push=True), Scope("b"), False),
    ],
)
def test_the_right_to_push_covers_the_right_to_pull(
    wide: Scope, narrow: Scope, expected: bool
) -> None:
    assert wide.covers(narrow) is expected


# The request


def test_all_scopes_go_into_one_request() -> None:
    with ScriptedServer(numbered()) as server:
        realm = challenge(f"{server.url}/token", service="registry test")
        assert tokens().header(realm, BOTH, ALICE) == "Bearer T0"

    assert server.authorizations == [ALICE.basic]
    assert parse_qsl(urlsplit(server.received[0].target).query) == [
        ("service", "registry test"),
        ("scope", "repository:org/app:pull,push"),
        ("scope", "repository:org/base:pull"),
    ]


def test_a_realm_may_have_a_query_already() -> None:
    with ScriptedServer(numbered()) as server:
        tokens().header(challenge(f"{server.url}/token?account=1"), APP, None)

    assert server.lines == ["GET /token?account=1&scope=repository%3Aorg%2Fapp%3Apull"]
    assert server.authorizations == [""]


@pytest.mark.parametrize("name", ["token", "access_token"])
def test_the_token_has_either_name(name: str) -> None:
    assert header_for(json_reply({name: "abc"})) == "Bearer abc"


def test_of_two_names_the_first_counts_unless_it_is_empty() -> None:
    assert header_for(json_reply({"token": "a", "access_token": "b"})) == "Bearer a"
    assert header_for(json_reply({"token": "", "access_token": "b"})) == "Bearer b"


# Keeping


def test_a_token_is_asked_for_once() -> None:
    with ScriptedServer(numbered()) as server:
        kept, realm = tokens(), challenge(server.url)
        headers = {kept.header(realm, APP, ALICE) for _ in range(5)}

    assert headers == {"Bearer T0"}
    assert len(server.received) == 1


def test_other_scopes_take_another_token() -> None:
    with ScriptedServer(numbered()) as server:
        kept, realm = tokens(), challenge(server.url)

        assert kept.header(realm, APP, ALICE) == "Bearer T0"
        assert kept.header(realm, BOTH, ALICE) == "Bearer T1"
        assert sorted(kept.secrets()) == ["T0", "T1"]


def test_a_rejected_token_is_not_given_again() -> None:
    with ScriptedServer(numbered()) as server:
        kept, realm = tokens(), challenge(server.url)

        assert kept.header(realm, APP, ALICE) == "Bearer T0"
        assert kept.header(realm, APP, ALICE, rejected="Bearer T0") == "Bearer T1"
        assert kept.header(realm, APP, ALICE, rejected="Bearer T0") == "Bearer T1"


@pytest.mark.parametrize(
    ("reply", "life"),
    [
        ('{"token": "x"}', 55),
        ('{"token": "x", "expires_in": 300}', 295),
        ('{"token": "x", "expires_in": 300.5}', 295),
        ('{"token": "x", "expires_in": 10}', 55),
        ('{"token": "x", "expires_in": 0}', 55),
        ('{"token": "x", "expires_in": -1}', 55),
        ('{"token": "x", "expires_in": NaN}', 55),
        ('{"token": "x", "expires_in": Infinity}', 55),
        ('{"token": "x", "expires_in": 1e300}', 55),
        ('{"token": "x", "expires_in": 86401}', 55),
        ('{"token": "x", "expires_in": "300"}', 55),
        ('{"token": "x", "expires_in": null}', 55),
        ('{"token": "x", "expires_in": true}', 55),
    ],
)
def test_a_token_is_renewed_before_its_end(clock: Clock, reply: str, life: int) -> None:
    with ScriptedServer(Reply(200, {}, reply.encode())) as server:
        kept, realm = tokens(), challenge(server.url)
        for passed in (0, life - 1, 2):
            clock.now += passed
            kept.header(realm, APP, ALICE)

    assert len(server.received) == 2


def test_threads_that_want_the_same_token_ask_for_it_once() -> None:
    def slow(_: Received) -> Reply:
        time.sleep(0.05)
        return json_reply({"token": "x"})

    together = threading.Barrier(8)

    def ask(_: int) -> str:
        together.wait()
        return kept.header(realm, APP, ALICE)

    with ScriptedServer(slow) as server, ThreadPoolExecutor(8) as pool:
        kept, realm = tokens(), challenge(server.url)
        assert set(pool.map(ask, range(8))) == {"Bearer x"}

    assert len(server.received) == 1


# Refusals


def test_a_wrong_password_names_the_repository_and_the_servers_words() -> None:
    error = error_for(refusal(401, "UNAUTHORIZED", "Invalid username or password"))

    assert type(error) is Unauthorized
    assert error.message == "Invalid username or password"
    assert "org/app" in str(error)


@pytest.mark.parametrize(
    ("status", "kind"), [(403, Forbidden), (404, NotFound), (400, RegistryError)]
)
def test_a_refusal_has_the_answer_as_its_cause(status: int, kind: type[RegistryError]) -> None:
    error = error_for(refusal(status, message="sorry"))

    assert type(error) is kind
    assert "sorry" in getattr(error.__cause__, "response").text  # noqa: B009 - typed as any


@pytest.mark.parametrize("echoed", [ALICE.password, ALICE.basic, ALICE.basic[6:]])
def test_a_login_that_the_server_echoes_is_taken_out(echoed: str) -> None:
    error = error_for(refusal(401, message=f"wrong: {echoed}"))

    assert error.message.endswith("***")


def test_a_login_echoed_in_the_reason_is_taken_out() -> None:
    error_for(evolve(refusal(403), reason=f"No {ALICE.password}"))


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "the login answer is not JSON"),
        (b"<html>", "the login answer is not JSON"),
        (b"[" * 60_000, "the login answer is not JSON"),
        (b"[]", "the login answer holds no token"),
        (b"{}", "the login answer holds no token"),
        (b'{"token": 5}', "the login answer holds no token"),
        (b'{"token": ""}', "the login answer holds no token"),
        (b'{"token": "a\\r\\nX-Injected: 1"}', "the login answer holds no token"),
        (b'{"token": "t\\u00f6ken"}', "the login answer holds no token"),
    ],
)
def test_an_answer_without_a_token_is_an_error(body: bytes, problem: str) -> None:
    assert error_for(Reply(200, {}, body)).message == problem


def test_an_answer_of_any_size_is_not_read() -> None:
    error = error_for(json_reply({"token": "x" * 70_000}))

    assert error.message == "the answer has more than 65536 bytes"


def test_nothing_is_kept_of_a_failure() -> None:
    with ScriptedServer(refusal(401), numbered()) as server:
        kept, realm = tokens(), challenge(server.url)
        with pytest.raises(Unauthorized):
            kept.header(realm, APP, ALICE)

        assert kept.header(realm, APP, ALICE) == "Bearer T0"


def test_a_passing_failure_is_asked_again() -> None:
    assert header_for(Reply(503), Reply(429), json_reply({"token": "x"})) == "Bearer x"


# Realms


@pytest.mark.parametrize(
    "realm",
    [
        "",
        "token",
        "/token",
        "ftp://h/",
        "https://",
        "http://[::1",
        "http://h:99999",
        "http://a\\@b",
    ],
)
def test_a_realm_that_is_no_place_is_refused(realm: str) -> None:
    with pytest.raises(Unauthorized, match="names no place to log in"):
        tokens().header(challenge(realm), APP, ALICE)


def test_a_challenge_without_a_realm_is_refused() -> None:
    with pytest.raises(Unauthorized, match="names no place to log in"):
        tokens().header(Challenge("bearer"), APP, ALICE)


@pytest.mark.parametrize("credentials", [ALICE, None])
def test_a_plain_realm_of_an_https_registry_is_refused(credentials: Credentials | None) -> None:
    with ScriptedServer(numbered()) as server:
        kept = tokens(registry="https://registry.test/")
        with pytest.raises(Unauthorized, match="plain http"):
            kept.header(challenge(server.url), APP, credentials)

    assert server.received == []


def test_an_https_realm_elsewhere_gets_the_login(tmp_path: Path) -> None:
    trusting = ConnectOptions(ca_bundle=ca_bundle(tmp_path), retries=QUICK)
    with ScriptedServer(numbered(), tls=True) as server:
        tokens(trusting, "https://registry.test/").header(challenge(server.url), APP, ALICE)

    assert server.authorizations == [ALICE.basic]


def test_a_realm_that_redirects_elsewhere_leaks_nothing() -> None:
    with ScriptedServer(numbered("other")) as other:
        header = header_for(redirect(f"{other.url}/token"))

    assert header == "Bearer other0"
    assert other.authorizations == [""]


def test_a_realm_that_redirects_to_plain_http_is_refused(tmp_path: Path) -> None:
    trusting = ConnectOptions(ca_bundle=ca_bundle(tmp_path), retries=QUICK)
    with ScriptedServer(numbered()) as other:  # noqa: SIM117 - one needs the other
        with ScriptedServer(redirect(other.url), tls=True) as server:
            with pytest.raises(RegistryError, match="redirects to plain http"):
                tokens(trusting).header(challenge(server.url), APP, ALICE)

    assert other.received == []
