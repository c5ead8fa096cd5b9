"""Sessions: logins go only to whom they belong, tokens are kept, and refusals understood."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from pubtools_mlmerge.core.references import Address
from pubtools_mlmerge.errors import (
    Forbidden,
    ImmutableTag,
    InvalidCredentials,
    MissingChild,
    NotFound,
    RegistryError,
    Unauthorized,
)
from pubtools_mlmerge.registry.auth import (
    WITHHELD,
    Challenge,
    Credentials,
    RegistrySession,
    Scope,
    failure,
    parse_challenges,
    rename,
)
from pubtools_mlmerge.registry.http import Answer, ConnectOptions, Request, Shared, Transport
from tests.factories import digest
from tests.hostile.helpers import TOKEN, wants_token
from tests.scripted import (
    HANG_UP,
    HURRIED,
    QUICK,
    Clock,
    Received,
    Reply,
    ScriptedServer,
    Step,
    bearer,
    ca_bundle,
    json_reply,
    refusal,
)

ALICE = Credentials("alice", 's3c"r3t')
BOB = Credentials("bob", "builder")
OF_TEAMS: dict[str, Credentials] = {"org/app": ALICE, "org/base": BOB}
FOUND = evolve(ALICE, place="~/auth.json")
IDENTITY = Credentials("", "1dentity", "auth.json (registry.test)", is_token=True)
BASIC = refusal(401, "UNAUTHORIZED", "who are you?", WWW_Authenticate='Basic realm="registry"')
OK = Reply(200, {}, b"fine")

APP = Scope("org/app")
PUSH = Scope("org/app", push=True)
BASE = Scope("org/base")
REQUEST = Request(method="GET", url="/v2/org/app/manifests/1", subject="org/app:1")


def session(
    server: ScriptedServer | str,
    login: Credentials | Callable[[str], Credentials | None] | None = ALICE,
    options: ConnectOptions = HURRIED,
    say_none_found: Callable[[], str] = str,
) -> RegistrySession:
    """Be a client of a server, by its URL unless another address is given."""
    text = server if isinstance(server, str) else server.url
    address = Address.parse(text, prefers_tls=options.prefers_tls)
    find = login if callable(login) else lambda _: login
    return RegistrySession(address, Transport(options), find, say_none_found)


def send(to: RegistrySession, *scopes: Scope, request: Request = REQUEST) -> Answer:
    return to.send(request, frozenset(scopes or (APP,)))


def failure_of(to: RegistrySession, *scopes: Scope, request: Request = REQUEST) -> RegistryError:
    with pytest.raises(RegistryError) as caught:
        send(to, *scopes, request=request)
    return caught.value


def scopes_of(request: Received) -> set[str]:
    return set(parse_qs(urlsplit(request.target).query).get("scope", ()))


# Schemes


@pytest.mark.parametrize(("tls", "trusts"), [(False, ""), (True, "variable"), (True, "option")])
def test_the_scheme_is_found_out_on_the_loopback_interface(
    tls: bool, trusts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = ca_bundle(tmp_path)
    if trusts == "variable":
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
    options = evolve(HURRIED, ca_bundle=bundle if trusts == "option" else None)
    with ScriptedServer(OK, tls=tls) as server:
        local = session(server.host, options=options)
        assert send(local).content == send(local).content == b"fine"

    assert local.is_plain is not tls
    assert len(server.received) == 2


@pytest.mark.parametrize(
    "words",
    [
        b"Client sent an HTTP request to an HTTPS server.\n",
        b"<h1>The plain HTTP request was sent to HTTPS port</h1>",
    ],
)
def test_a_server_that_says_it_speaks_tls_is_believed(words: bytes) -> None:
    """Here it lies, so that one comes back to plain http in the end."""
    with ScriptedServer(Reply(400, {}, words), HANG_UP, OK) as server:
        assert send(session(server.host)).content == b"fine"


@pytest.mark.parametrize("name", ["127.0.0.1", "registry.test"])
def test_a_wrong_certificate_does_not_lead_to_plain_http(tmp_path: Path, name: str) -> None:
    bundle = ca_bundle(tmp_path) if name == "registry.test" else None
    wary = ConnectOptions(ca_bundle=bundle, retries=QUICK)
    with ScriptedServer(OK, tls=True, name=name) as server:
        for text in (server.host, server.url):
            assert "certificate" in failure_of(session(text, options=wary)).message.lower()

    assert server.received == []


def test_a_transient_first_answer_is_asked_again() -> None:
    with ScriptedServer(Reply(503), Reply(503), OK) as server:
        assert send(session(server.host)).content == b"fine"

    assert len(server.received) == 3


def test_either_scheme_is_tried_once_before_one_is_insisted_on() -> None:
    with ScriptedServer(HANG_UP) as server:
        failure_of(session(server.host))

    assert len(server.received) == 1 + 1 + QUICK.most


def test_a_first_answer_that_is_too_large_is_an_error_at_once() -> None:
    with ScriptedServer(Reply(200, {}, b"x" * 100)) as server:
        error = failure_of(session(server.host), request=evolve(REQUEST, limit=10))

    assert error.status == 200
    assert len(server.received) == 1


# Logging in


@pytest.mark.parametrize("login", [ALICE, None])
def test_a_token_is_fetched_when_asked_for_and_kept(login: Credentials | None) -> None:
    with ScriptedServer(OK) as server:
        wants_token(server, OK)
        registry = session(server, login)
        for _ in range(3):
            send(registry)

    token = f"Bearer {TOKEN}"
    assert server.authorizations == ["", login.basic if login else "", token, token, token]
    assert scopes_of(server.received[1]) == {str(APP)}


def test_a_wrong_password_is_given_once_and_the_error_says_where_it_was_found() -> None:
    with ScriptedServer(BASIC) as server:
        error = failure_of(session(server, FOUND))

    assert isinstance(error, Unauthorized)
    assert error.message == "the login of alice from ~/auth.json was refused: who are you?"
    assert not error.logged_in
    assert server.authorizations == ["", ALICE.basic]


def test_of_two_ways_to_log_in_a_token_is_chosen() -> None:
    with ScriptedServer(OK) as server:
        both = f'Basic realm="x", Bearer realm="{server.url}/token"'
        server.then(refusal(401, WWW_Authenticate=both), json_reply({"access_token": TOKEN}), OK)
        send(session(server))

    assert server.authorizations[-1] == f"Bearer {TOKEN}"


@pytest.mark.parametrize("header", ["", "Negotiate", 'Digest realm="x"', "=rubbish"])
def test_an_unknown_way_to_log_in_is_an_error(header: str) -> None:
    with ScriptedServer(refusal(401, WWW_Authenticate=header)) as server:
        error = failure_of(session(server))

    assert type(error) is Unauthorized
    assert error.message == "the registry offers no known way to log in"
    assert getattr(error.__cause__, "response").status_code == 401  # noqa: B009 - typed as any


@pytest.mark.parametrize("challenges", [True, False])
def test_a_token_that_expires_is_renewed(challenges: bool) -> None:
    """Also where the registry does not say again how to log in."""
    with ScriptedServer(OK) as server:
        realm = f"{server.url}/token"
        server.then(
            bearer(realm),
            json_reply({"token": "first"}),
            OK,
            bearer(realm, error="invalid_token") if challenges else refusal(401),
            json_reply({"token": "second"}),
            OK,
        )
        registry = session(server)
        send(registry)
        send(registry)

    bearers = [a for a in server.authorizations if a.startswith("Bearer")]
    assert bearers == ["Bearer first", "Bearer first", "Bearer second"]


NO_RIGHT = "the login of alice from ~/auth.json has no right to this"
NOT_ACCEPTED = "the registry does not accept the token for the login of alice from ~/auth.json"
NOWHERE = "no login for registry.test was given"


@pytest.mark.parametrize(
    ("login", "challenge", "problem", "logged_in"),
    [
        (FOUND, {}, NO_RIGHT, True),
        (FOUND, None, NO_RIGHT, False),
        (None, {}, NOWHERE, False),
        (None, None, NOWHERE, False),
        (FOUND, {"error": "invalid_token"}, NOT_ACCEPTED, False),
    ],
)
def test_a_refused_token_tells_whether_there_was_a_login(
    login: Credentials | None, challenge: dict[str, str] | None, problem: str, *, logged_in: bool
) -> None:
    """Only then may the registry hide something, and it does so by another challenge."""
    with ScriptedServer(OK) as server:
        refused = refusal(401, message="who are you?")
        again = refused if challenge is None else bearer(f"{server.url}/token", 401, **challenge)
        wants_token(server, again)
        error = failure_of(session(server, login, say_none_found=lambda: NOWHERE))

    assert isinstance(error, Unauthorized)
    assert (error.message, error.logged_in) == (f"{problem}: who are you?", logged_in)
    assert len(server.received) == 3  # the token is asked for once


def test_credentials_that_cannot_be_read_stay_an_error() -> None:
    """Going on as anonymous the second time would hide what is wrong."""

    def find(_: str) -> Credentials:
        raise InvalidCredentials("auth.json", "is not JSON")

    with ScriptedServer(BASIC) as server:
        registry = session(server, find)
        for _ in range(2):
            with pytest.raises(InvalidCredentials):
                send(registry)


# Intentions


def granting(server: ScriptedServer, *allowed: Scope, on_refusal: Reply | None = None) -> None:
    """Let a server give tokens that name their scopes; all must be allowed, or it refuses."""
    known = {str(scope) for scope in allowed}

    def answer(request: Received) -> Reply:
        if not request.target.startswith("/token"):
            granted = request.authorization.partition(" ")[2]
            fits = bool(granted) and set(granted.split("+")) <= known
            return OK if fits else bearer(f"{server.url}/token")
        asked = scopes_of(request)
        if on_refusal is not None and not asked <= known:
            return on_refusal
        return json_reply({"token": "+".join(sorted(asked))})

    server.then(answer)


def token_requests(server: ScriptedServer) -> list[set[str]]:
    return [scopes_of(r) for r in server.received if r.target.startswith("/token")]


@pytest.mark.parametrize(
    ("intended", "sent", "asked"),
    [
        ([PUSH, BASE], [[BASE], [APP], [PUSH]], {PUSH, BASE}),  # all in one
        ([APP, BASE], [[PUSH]], {PUSH}),  # a right that was not announced
        ([APP], [[APP, BASE]], {APP, BASE}),  # or not all of them
    ],
)
def test_what_is_intended_is_asked_for_in_one_token(
    intended: list[Scope], sent: list[list[Scope]], asked: set[Scope]
) -> None:
    with ScriptedServer(OK) as server:
        granting(server, APP, PUSH, BASE)
        registry = session(server)
        registry.intend(intended)
        for scopes in sent:
            send(registry, *scopes)

    assert token_requests(server) == [set(map(str, asked))]


@pytest.mark.parametrize("status", [None, 400, 403])
@pytest.mark.parametrize("is_known", [False, True])
def test_rights_refused_as_a_whole_are_asked_for_one_by_one(
    status: int | None, is_known: bool
) -> None:
    """Some servers refuse when the token is used, others when it is asked for."""
    together = [PUSH, BASE, Scope("org/other")]
    asked = [together, [PUSH, BASE], [BASE]]
    if is_known:  # a token that is refused when it is used may have expired
        asked = [[PUSH, BASE], *[together] * (1 if status else 2), [BASE]]
    with ScriptedServer(OK) as server:
        granting(server, PUSH, BASE, on_refusal=refusal(status) if status else None)
        registry = session(server)
        if is_known:
            send(registry, PUSH, BASE)
        registry.intend(together)
        for _ in range(2):
            send(registry, PUSH, BASE)
        assert len(token_requests(server)) == len(asked) - 1
        send(registry, BASE)

    assert token_requests(server) == [set(map(str, each)) for each in asked]


@pytest.mark.parametrize("status", [401, 404])
def test_a_wrong_password_or_realm_is_not_tried_for_fewer_rights(status: int) -> None:
    """Some servers lock an account after a few attempts."""
    with ScriptedServer(OK) as server:
        granting(server, on_refusal=refusal(status, message="wrong"))
        registry = session(server)
        registry.intend([PUSH, BASE])
        assert "wrong" in failure_of(registry, BASE).message

    assert len(token_requests(server)) == 1


@pytest.mark.parametrize("scheme", ["bearer", "basic"])
def test_threads_and_both_sides_send_a_wrong_password_once(scheme: str) -> None:
    with ScriptedServer(BASIC) as server:
        if scheme == "bearer":
            granting(server, on_refusal=refusal(401, "UNAUTHORIZED", "wrong password"))
        options = evolve(HURRIED, shared=Shared())
        sides = [session(server, ALICE, options), session(server, ALICE, options)]

        def fail(number: int) -> str:
            return str(failure_of(sides[number % 2], Scope(f"org/app{number}")))

        with ThreadPoolExecutor(8) as pool:
            messages = list(pool.map(fail, range(30)))

    assert server.authorizations.count(ALICE.basic) == 1
    assert all("the login of alice was refused: w" in message for message in messages)


def test_another_password_is_tried_after_a_refused_one() -> None:
    options = evolve(HURRIED, shared=Shared())

    def answer(request: Received) -> Reply:
        return OK if request.authorization == BOB.basic else BASIC

    with ScriptedServer(answer) as server:
        failure_of(session(server, ALICE, options))
        send(session(server, BOB, options))


def test_once_a_login_was_accepted_a_refusal_is_about_the_repository() -> None:
    with ScriptedServer(BASIC, OK, BASIC, OK) as server:
        registry = session(server)
        send(registry)
        error = failure_of(registry)
        send(registry)

    assert isinstance(error, Unauthorized)
    assert error.message == "the login of alice has no right to this: who are you?"
    assert not error.logged_in  # as far as the registry says


def test_a_login_that_a_token_showed_to_be_right_is_not_final_by_basic() -> None:
    """Harbor answers whoever has no right with a challenge of the other scheme."""
    with ScriptedServer(OK) as server:
        challenge = bearer(f"{server.url}/token")
        server.then(challenge, json_reply({"token": TOKEN}), BASIC, BASIC, BASIC, OK)
        registry = session(server)
        assert "has no right to this" in failure_of(registry).message
        assert "has no right to this" in failure_of(registry).message
        send(registry)

    assert server.authorizations[-2:] == [ALICE.basic] * 2


@pytest.mark.parametrize("status", [None, 401, 403])
def test_without_a_login_the_error_says_where_one_was_looked_for(status: int | None) -> None:
    """Whether the registry wants one, or the server that gives tokens."""
    with ScriptedServer(BASIC) as server:
        if status:
            wants_token(server, OK, token=refusal(status, message="who are you?"))
        error = failure_of(session(server, None, say_none_found=lambda: NOWHERE))

    assert type(error) is (Forbidden if status == 403 else Unauthorized)
    assert error.message == f"{NOWHERE}: who are you?"
    assert len(server.received) == (2 if status else 1)


def test_each_repository_has_its_own_login() -> None:
    """In any order, and whatever is announced together."""
    tokens = {ALICE.basic: "alices", BOB.basic: "bobs", "": "nobodys"}

    def answer(request: Received) -> Reply:
        if request.target.startswith("/token"):
            return json_reply({"token": tokens[request.authorization]})
        own = {"/v2/org/app": "alices", "/v2/org/base": "bobs", "/v2/org/any": "nobodys"}
        is_own = request.authorization == f"Bearer {own[request.target]}"
        return OK if is_own else bearer(f"{server.url}/token")

    with ScriptedServer(answer) as server:
        registry = session(server, OF_TEAMS.get)
        registry.intend([PUSH, BASE, Scope("org/any")])
        for name in ("base", "app", "any", "app", "base", "any"):
            request = evolve(REQUEST, url=f"/v2/org/{name}")
            send(registry, Scope(f"org/{name}", push=name == "app"), request=request)

    asked = [scopes_of(request) for request in server.received if "/token" in request.target]
    assert asked == [{str(BASE)}, {str(PUSH)}, {"repository:org/any:pull"}]


def test_by_basic_too_each_repository_has_its_own_login() -> None:
    """Once it was asked for, it is given at once."""
    with ScriptedServer(BASIC, OK) as server:
        registry = session(server, OF_TEAMS.get)
        send(registry, APP)
        send(registry, BASE)
        send(registry, APP, BASE)
        send(registry, APP, Scope("org/base", push=True))

    assert server.authorizations == ["", ALICE.basic, BOB.basic, ALICE.basic, BOB.basic]


def test_an_identity_token_is_refreshed_for_a_token() -> None:
    with ScriptedServer(OK) as server:
        reply = json_reply({"access_token": TOKEN, "refresh_token": "unused"})
        server.then(bearer(f"{server.url}/token"), reply, OK)
        send(session(server, IDENTITY), PUSH, BASE)
        asked = server.received[1]

    assert (asked.method, asked.target, asked.authorization) == ("POST", "/token", "")
    assert parse_qs(asked.body.decode()) == {
        "grant_type": ["refresh_token"],
        "refresh_token": ["1dentity"],
        "client_id": ["pubtools-mlmerge"],
        "service": ["registry.test"],
        "scope": [f"{PUSH} {BASE}"],
    }
    assert server.authorizations[2] == f"Bearer {TOKEN}"


def test_a_refused_identity_token_is_named_withheld_and_not_sent_again() -> None:
    with ScriptedServer(OK) as server:
        wants_token(server, OK, token=refusal(401, message="no: 1dentity"))
        registry = session(server, IDENTITY)
        messages = [str(failure_of(registry)) for _ in range(2)]

    assert "the identity token from auth.json (registry.test) was refused" in messages[1]
    assert "1dentity" not in "".join(messages)
    assert server.lines.count("POST /token") == 1


def test_an_identity_token_is_no_password() -> None:
    with ScriptedServer(BASIC) as server:
        error = failure_of(session(server, IDENTITY))

    assert "is of no use, as the registry wants user and password" in error.message
    assert server.authorizations == [""]


def test_a_header_that_repeats_a_login_is_withheld_and_a_common_word_is_not() -> None:
    """Also in a good answer, which may end up in an error about its content."""
    with ScriptedServer(OK) as server:
        wants_token(server, json_reply({}, X_Login=ALICE.basic, X_Token=TOKEN))
        told = send(session(server)).headers
        harmless = send(session(server, Credentials("alice", "json"))).headers

    assert told["X-Login"] == told["X-Token"] == WITHHELD
    assert harmless["Content-Type"] == "application/json"


# Challenges that know the repository by another name


def gateway(server: ScriptedServer, refusing: Reply | None) -> None:
    """Let a server want tokens for another repository than the one in its paths."""
    name = "org/team/app"

    def answer(request: Received) -> Reply:
        if request.target.startswith("/token"):
            asked = scopes_of(request)
            if refusing is not None and not all(f":{name}:" in scope for scope in asked):
                return refusing
            return json_reply({"token": "+".join(sorted(asked)).replace(" ", "")})
        actions = "pull" if request.method == "GET" else "pull,push"
        if f"repository:{name}:{actions}" in request.authorization:
            return OK
        return bearer(f"{server.url}/token", scope=f"repository:{name}:pull,push")

    server.then(answer)


@pytest.mark.parametrize("refusing", [None, refusal(403, "DENIED")])
@pytest.mark.parametrize("scope", [APP, PUSH])
def test_the_repository_of_the_challenge_is_asked_for(scope: Scope, refusing: Reply | None) -> None:
    """With the rights of the request, also where the challenge wants more."""
    with ScriptedServer(OK) as server:
        gateway(server, refusing)
        registry = session(server)
        for _ in range(2):
            request = evolve(REQUEST, method="PUT" if scope.push else "GET")
            send(registry, scope, request=request)

    assert token_requests(server) == [{str(scope)}, {str(evolve(scope, repository="org/team/app"))}]
    assert [r.target for r in server.received].count(REQUEST.url) == (4 if refusing is None else 3)


def test_tokens_of_two_logins_for_one_repository_are_kept_apart() -> None:
    with ScriptedServer(OK) as server:
        gateway(server, None)
        registry = session(server, OF_TEAMS.get)
        send(registry, APP)
        send(registry, BASE)

    asked = [r for r in server.received if "repository:org/team/app:pull" in scopes_of(r)]
    assert [each.authorization for each in asked] == [ALICE.basic, BOB.basic]


@pytest.mark.parametrize(
    ("challenged", "scopes", "expected"),
    [
        ("repository:x/app:pull", {APP}, {Scope("x/app")}),
        ("repository:x/app:pull,push,delete", {APP}, {Scope("x/app")}),
        ("repository:x/app:pull", {PUSH}, {Scope("x/app", push=True)}),
        (
            "repository:x/app:pull,push repository:x/base:pull",
            {PUSH, BASE},
            {Scope("x/app", push=True), Scope("x/base")},
        ),
        ("repository:x/app:pull repository:x/other:pull", {APP}, set()),
        ("repository:../x:pull registry:catalog:* repository::pull rubbish", {APP}, set()),
        ("", {APP}, set()),
    ],
)
def test_no_more_is_asked_for_than_was_needed(
    challenged: str, scopes: set[Scope], expected: set[Scope]
) -> None:
    challenge = Challenge("bearer", {"scope": challenged})

    assert rename(frozenset(scopes), challenge) == expected


# Other hosts


def test_a_location_that_is_none_is_a_registry_error() -> None:
    with ScriptedServer(BASIC, OK) as server:
        registry = session(server)
        send(registry)
        failure_of(registry, request=evolve(REQUEST, method="DELETE", url="http://[::1"))


# Tokens: fetched once, kept as long as they live, from servers that may see a login


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    with monkeypatch.context() as patch:
        stopped = Clock()
        patch.setattr(time, "monotonic", stopped)
        yield stopped


def issuing(server: ScriptedServer, *steps: Step, realm: str = "/token") -> None:
    """Let a server want any token, and answer this to who asks for one."""
    left = list(steps)

    def answer(request: Received) -> Reply:
        if request.target.startswith("/token"):
            step = left.pop(0) if len(left) > 1 else left[0]
            return step(request) if callable(step) else step
        return OK if request.authorization else bearer(f"{server.url}{realm}")

    server.then(answer)


def numbered() -> Callable[[Received], Reply]:
    """Give another token each time."""
    count = iter(range(1000))
    return lambda _: json_reply({"token": f"T{next(count)}"})


def error_for(step: Step) -> RegistryError:
    """Ask a server that answers this to who wants a token."""
    with ScriptedServer(OK) as server:
        issuing(server, step)
        error = failure_of(session(server))
    assert len(token_requests(server)) == 1
    cause = error.__cause__
    assert ALICE.password not in f"{error} {error!r} {cause} {cause!r}"
    return error


def test_credentials_show_no_password() -> None:
    assert "s3c" not in f"{ALICE} {ALICE!r}"
    assert Credentials("alice", "pässwörd").basic == "Basic YWxpY2U6cMOkc3N3w7ZyZA=="
    assert Credentials("a", "bc").secrets == ("YTpiYw==", "YTpiYw", "bc")


def test_all_scopes_go_into_one_request_to_the_realm_which_may_have_a_query() -> None:
    with ScriptedServer(OK) as server:
        issuing(server, numbered(), realm="/token?account=1")
        send(session(server), PUSH, BASE)

    assert server.authorizations == ["", ALICE.basic, "Bearer T0"]
    assert parse_qsl(urlsplit(server.received[1].target).query) == [
        ("account", "1"),
        ("service", "registry.test"),
        ("scope", "repository:org/app:pull,push"),
        ("scope", "repository:org/base:pull"),
    ]


@pytest.mark.parametrize(
    ("reply", "token"),
    [({"token": "a", "access_token": "b"}, "a"), ({"token": "", "access_token": "b"}, "b")],
)
def test_of_two_names_the_first_counts_unless_it_is_empty(
    reply: dict[str, str], token: str
) -> None:
    with ScriptedServer(OK) as server:
        issuing(server, json_reply(reply))
        send(session(server))

    assert server.authorizations[-1] == f"Bearer {token}"


def test_other_scopes_take_another_token() -> None:
    with ScriptedServer(OK) as server:
        issuing(server, numbered())
        registry = session(server, OF_TEAMS.get)
        for scope in (APP, PUSH, BASE, Scope("org/any")) * 2:
            send(registry, scope)

    bearers = [each for each in server.authorizations if each.startswith("Bearer")]
    assert bearers[-4:] == ["Bearer T0", "Bearer T1", "Bearer T2", "Bearer T3"]
    for secret in ("T0", "T1", "T2", "T3", *ALICE.secrets, *BOB.secrets):
        assert registry.secrets.withhold(f"no: {secret}") == WITHHELD
    assert len(token_requests(server)) == 4


UNBELIEVABLE = '10 0 -1 NaN Infinity 1e300 86401 "300" null true'


@pytest.mark.parametrize(
    ("reply", "life"),
    [
        ("", 55),
        *((f', "expires_in": {stated}', 295) for stated in ("300", "300.5")),
        *((f', "expires_in": {stated}', 55) for stated in UNBELIEVABLE.split()),
    ],
)
def test_a_token_is_renewed_before_its_end(clock: Clock, reply: str, life: int) -> None:
    with ScriptedServer(OK) as server:
        issuing(server, Reply(200, {}, f'{{"token": "x"{reply}}}'.encode()))
        registry = session(server)
        for passed in (0, life - 1, 2):
            clock.now += passed
            send(registry)

    assert len(token_requests(server)) == 2


def test_threads_that_want_the_same_token_ask_for_it_once() -> None:
    """Also for another one than was rejected."""
    together, rejected = threading.Barrier(8, timeout=20), set[str]()

    def answer(request: Received) -> Reply:
        if request.target.startswith("/token"):
            time.sleep(0.05)
            return json_reply({"token": f"T{len(rejected)}"})
        if request.authorization.startswith("Bearer") and request.authorization not in rejected:
            return OK
        together.wait()
        return bearer(f"{server.url}/token")

    with ScriptedServer(answer) as server, ThreadPoolExecutor(8) as pool:
        registry = session(server)
        for _ in range(2):
            assert {each.content for each in pool.map(lambda _: send(registry), range(8))} == {
                b"fine"
            }
            rejected.add(server.authorizations[-1])

    assert len(token_requests(server)) == 2


# Token servers that refuse, or give no token


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (401, Unauthorized, "the login of alice was refused: sorry"),
        *((403, Forbidden, "sorry"), (404, NotFound, "sorry"), (400, RegistryError, "sorry")),
    ],
)
def test_a_refusal_has_the_answer_as_its_cause(
    status: int, kind: type[RegistryError], message: str
) -> None:
    error = error_for(refusal(status, message="sorry"))

    assert (type(error), error.message) == (kind, message)
    assert "org/app" in str(error)
    assert "sorry" in getattr(error.__cause__, "response").text  # noqa: B009 - typed as any


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("echoed", [ALICE.password, ALICE.basic, ALICE.basic[6:]])
def test_a_text_in_which_the_server_repeats_a_login_is_withheld(status: int, echoed: str) -> None:
    error = error_for(refusal(status, message=f"wrong: {echoed}"))

    assert error.message.removeprefix("the login of alice was refused: ") == WITHHELD


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


def test_nothing_is_kept_of_a_failure_and_a_passing_one_is_asked_again() -> None:
    with ScriptedServer(OK) as server:
        issuing(server, refusal(403), Reply(503), Reply(429), numbered())
        registry = session(server)
        assert isinstance(failure_of(registry), Forbidden)
        send(registry)

    assert server.authorizations[-1] == "Bearer T0"


# Refusals: registries say the same thing in many ways


PLACE = "quay.io/org/app:1"


def body(*errors: object) -> bytes:
    return json.dumps({"errors": list(errors)}).encode()


def refused(status: int, code: str = "", message: str = "", detail: object = None) -> RegistryError:
    return failure(PLACE, status, body({"code": code, "message": message, "detail": detail}))


IN_WORDS = "The tag '1' cannot be overwritten because the repository is immutable."
IN_OTHERS = "cannot update tag 1. The repository has enabled tag immutability"


@pytest.mark.parametrize(
    ("kind", "status", "code", "words"),
    [
        *((Unauthorized, 401, code, "") for code in ("UNAUTHORIZED", "")),
        *((Forbidden, 403, code, "") for code in ("DENIED", "")),
        *((NotFound, 404, name, "") for name in ("MANIFEST_UNKNOWN", "NAME_UNKNOWN")),
        *((NotFound, 404, code, "") for code in ("TAG_EXPIRED", "")),
        (NotFound, 400, "NAME_UNKNOWN", ""),
        *((ImmutableTag, 409, code, "") for code in ("TAG_IMMUTABLE", "TAG_ALREADY_EXISTS", "")),
        *((ImmutableTag, 412, "PRECONDITION", ""), (ImmutableTag, 400, "TAG_IMMUTABLE", "")),
        (MissingChild, 400, "MANIFEST_BLOB_UNKNOWN", ""),
        *((RegistryError, 400, "MANIFEST_INVALID", ""), (RegistryError, 413, "", "")),
        *((RegistryError, 429, "TOOMANYREQUESTS", ""), (RegistryError, 500, "UNKNOWN", "")),
        (RegistryError, 307, "", ""),
        # How other registries say that a tag is immutable.
        *((ImmutableTag, status, "TAG_INVALID", IN_WORDS) for status in (400, 403)),
        (ImmutableTag, 400, "MANIFEST_INVALID", IN_OTHERS),
        (ImmutableTag, 403, "DENIED", "The requested tag already exists and cannot be overwritten"),
        (ImmutableTag, 400, "TAG_INVALID", "'1' already exists in 'app' and cannot be overwritten"),
        (ImmutableTag, 405, "DENIED", "The operation is disallowed on this registry"),
        # An image that has the word in its name.
        (Unauthorized, 401, "UNAUTHORIZED", "org/immutable-os"),
        *((NotFound, 404, code, "org/immutable-os") for code in ("NAME_UNKNOWN", "")),
        (RegistryError, 400, "MANIFEST_INVALID", "org/immutable-os"),
    ],
)
def test_status_code_and_words_tell_the_kind(
    kind: type[RegistryError], status: int, code: str, words: str
) -> None:
    found = refused(status, code, words)

    assert type(found) is kind
    assert (found.reference, found.status) == (PLACE, status)


def test_distribution_names_each_missing_child_by_code() -> None:
    missing = [digest("a"), digest("b"), digest("a")]
    errors = [{"code": "MANIFEST_BLOB_UNKNOWN", "message": "?", "detail": d} for d in missing]

    found = failure(PLACE, 400, body(*errors))

    assert isinstance(found, MissingChild)
    assert found.digests == (digest("a"), digest("b"))


def test_quay_names_the_missing_child_in_words() -> None:
    words = f"Could not find child manifest with digest `{digest('a')}`"

    found = refused(400, "MANIFEST_INVALID", "manifest invalid", {"message": words})

    assert isinstance(found, MissingChild)
    assert found.digests == (digest("a"),)
    assert words in found.message


def test_other_words_about_a_child_are_about_no_missing_one() -> None:
    absent = f"Could not find child manifest with digest `{digest('a')}`"
    size = "Size of manifest does not match that retrieved: 522 vs 1"

    for status, words in ((400, size), (500, absent)):
        assert type(refused(status, "MANIFEST_INVALID", "", {"message": words})) is RegistryError


def test_the_words_are_the_messages_each_once() -> None:
    errors = [
        {"code": "DENIED", "message": "no rights"},
        {"code": "DENIED", "message": "no rights"},
        {"code": "UNSUPPORTED"},
        "not an object",
    ]

    assert failure(PLACE, 403, body(*errors)).message == "no rights; UNSUPPORTED"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", ""),
        (b"Too many login attempts", "Too many login attempts"),
        (b"<html><h1>413 Request Entity Too Large</h1></html>", ""),
        (b"true", "true"),
        (b"[1]", "[1]"),
        (b'{"errors": 5}', '{"errors": 5}'),
        (b"\xff\x00ok", "\ufffd?ok"),
    ],
)
def test_any_other_body_is_shown_if_it_is_text(content: bytes, message: str) -> None:
    assert failure(PLACE, 500, content).message == message


def test_only_the_beginning_of_a_huge_body_is_read_and_shown() -> None:
    assert 3 < len(failure(PLACE, 400, b"[" * 50_000).message) < 600
    found = failure(PLACE, 400, b" " * 70_000 + body({"code": "MANIFEST_BLOB_UNKNOWN"}))

    assert type(found) is RegistryError


@given(st.binary(), st.integers(100, 599))
def test_any_answer_becomes_an_error_that_can_be_shown(content: bytes, status: int) -> None:
    assert str(failure(PLACE, status, content)).startswith(PLACE)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
FIELDS = st.fixed_dictionaries({}, optional={"code": JSON, "message": JSON, "detail": JSON})


@given(st.lists(FIELDS | JSON))
def test_error_documents_of_any_shape_are_read(errors: list[object]) -> None:
    assert failure(PLACE, 400, body(*errors)).status == 400


# Challenges: the forms that registries write, and what attackers might


BEARER = Challenge("bearer", {"realm": "https://auth.test/token", "service": "registry"})


@pytest.mark.parametrize(
    "header",
    [
        'Bearer realm="https://auth.test/token",service="registry"',
        'bearer realm="https://auth.test/token", service="registry"',
        'BEARER  Realm = "https://auth.test/token" , SERVICE = registry',
        'Bearer service=registry,realm="https://auth.test/token",',
        ' , Bearer realm="https:\\/\\/auth.test/token",service="registry"',
        'Bearer realm="https://auth.test/token",service="registry",realm="https://evil.test"',
    ],
)
def test_one_challenge_has_many_forms(header: str) -> None:
    assert parse_challenges(header) == (BEARER,)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", ()),
        ("Basic", (Challenge("basic"),)),
        ('Basic realm="my ""registry"', (Challenge("basic"),)),
        (
            'Basic realm="say \\"hi\\", friend"',
            (Challenge("basic", {"realm": 'say "hi", friend'}),),
        ),
        ('Basic realm=""', (Challenge("basic", {"realm": ""}),)),
        ("Negotiate, Basic realm=x", (Challenge("negotiate"), Challenge("basic", {"realm": "x"}))),
        ("=broken", ()),
        ('"Bearer"', ()),
        *((f"Bearer realm={end}", (Challenge("bearer"),)) for end in ('"open', '"open\\"', "")),
        (
            'Basic realm="a, Bearer realm=b", Bearer realm="c",scope="r:x:pull,push",Digest q=1',
            (
                Challenge("basic", {"realm": "a, Bearer realm=b"}),
                Challenge("bearer", {"realm": "c", "scope": "r:x:pull,push"}),
                Challenge("digest", {"q": "1"}),
            ),
        ),
    ],
)
def test_a_header_is_read_as_far_as_it_goes(header: str, expected: tuple[Challenge, ...]) -> None:
    assert parse_challenges(header) == expected


@given(st.text() | st.text('Bearer =",\\ \t'))
def test_any_header_gives_challenges(header: str) -> None:
    found = parse_challenges(header)

    assert isinstance(found, tuple)
    assert all(challenge.scheme == challenge.scheme.lower() != "" for challenge in found)


PIECES = ["a=", '"', "\\", '\\"', 'a="', "a ", " ", ",", ", ", "a,", "a", 'a=", ', "a =", "a= "]


@pytest.mark.parametrize("start", ["", "Bearer ", 'Bearer realm="'])
@pytest.mark.parametrize("piece", PIECES)
def test_a_hostile_header_is_read_in_no_time(start: str, piece: str) -> None:
    """Backtracking without bound would not end while this test waits for it."""
    assert len(parse_challenges(start + piece * 8192)) <= 4097


def test_only_the_beginning_of_a_header_is_read() -> None:
    assert parse_challenges(" " * 8192 + "Basic") == ()


@given(st.from_regex(r"[a-z]+", fullmatch=True), st.text(st.characters(codec="latin-1")))
def test_a_quoted_value_survives(name: str, value: str) -> None:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')

    found = parse_challenges(f'Bearer {name}="{escaped}"')

    assert found == (Challenge("bearer", {name: value}),)
