"""HTTP: what is tried again, what is wrong, how far redirects go, how much is read, how long."""

from __future__ import annotations

import gc
import gzip
import logging
import math
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest
import requests
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from requests.structures import CaseInsensitiveDict

from pubtools_mlmerge.core.references import Address, is_loopback
from pubtools_mlmerge.core.strict_json import LARGEST
from pubtools_mlmerge.errors import InvalidReference, OutOfTime, RegistryError
from pubtools_mlmerge.registry import http
from pubtools_mlmerge.registry.http import (
    Answer,
    ConnectOptions,
    Pace,
    Request,
    Retries,
    Shared,
    Transport,
    origin,
)
from tests.quay import Nginx
from tests.scripted import (
    HANG_UP,
    HURRIED,
    QUICK,
    Received,
    Reply,
    ScriptedServer,
    ca_bundle,
    raw_server,
    redirect,
    refusal,
)

SECRET = "Bearer s3cr3t"
OK = Reply(200, {}, b"fine")
TRIES = QUICK.most + 1


def ask(
    place: ScriptedServer | str,
    method: str = "GET",
    content: bytes | None = None,
    *,
    limit: int = LARGEST,
    repeatable: bool = True,
) -> Request:
    """Ask a server, or for a URL, with a login."""
    return Request(
        method=method,
        url=place if isinstance(place, str) else f"{place.url}/",
        subject="org/app:1",
        headers={"Authorization": SECRET},
        content=content,
        limit=limit,
        repeatable=repeatable,
    )


def send(request: Request, options: ConnectOptions = HURRIED) -> Answer:
    transport = Transport(options)
    try:
        return transport.send(request)
    finally:
        transport.close()


def failure_of(request: Request, options: ConnectOptions = HURRIED) -> RegistryError:
    with pytest.raises(RegistryError) as caught:
        send(request, options)
    assert str(caught.value).startswith("org/app:1: ")
    assert "s3cr3t" not in "".join(traceback.format_exception(None, caught.value, None))
    return caught.value


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record waits instead of waiting."""
    asked: list[float] = []
    monkeypatch.setattr(time, "sleep", asked.append)
    return asked


# Retries


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_a_passing_refusal_is_asked_again(status: int) -> None:
    with ScriptedServer(Reply(status), OK) as server:
        assert send(ask(server)).content == b"fine"
        assert len(server.received) == 2
        server.then(Reply(status))
        assert send(ask(server)).status == status  # in the end
        assert len(server.received) >= 2 + TRIES


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 412, 413, 501])
def test_another_refusal_is_an_answer(status: int) -> None:
    with ScriptedServer(Reply(status, {}, b"no")) as server:
        answer = send(ask(server))

    assert (answer.status, answer.content) == (status, b"no")
    assert len(server.received) == 1


def test_a_failure_of_the_server_is_asked_again_only_by_who_reads() -> None:
    with ScriptedServer(Reply(500), OK) as server:
        assert send(ask(server)).status == 200
        server.then(Reply(500), OK)
        assert send(ask(server, "PUT", b"{}")).status == 500

    assert len(server.received) == 3


CHUNKED = {"Transfer-Encoding": "chunked", "Content-Length": ""}
BREAKS = {
    "before an answer": HANG_UP,
    "in the middle": Reply(200, {}, b"x" * 100_000, cut=50_000),
    "within chunks": Reply(200, CHUNKED, b"5\r\nabc"),
    "without its end": Reply(200, {"Content-Length": "10"}, b"short"),
}


@pytest.mark.parametrize("broken", BREAKS.values(), ids=list(BREAKS))
def test_a_broken_connection_is_asked_again_and_an_error_in_the_end(broken: Reply) -> None:
    with ScriptedServer(broken, OK) as server:
        assert send(ask(server)).content == b"fine"
    with ScriptedServer(broken) as server:
        error = failure_of(ask(server))

    assert error.status is None
    assert error.message.startswith("connection broken")
    assert isinstance(error.__cause__, requests.exceptions.RequestException)
    assert len(server.received) == TRIES


def test_a_connection_that_breaks_before_tls_is_up_is_tried_again(naps: list[float]) -> None:
    with raw_server() as url:
        error = failure_of(ask(url.replace("http:", "https:")))

    assert error.message == "TLS failed: the other side closed the connection"
    assert len(naps) == QUICK.most


def test_what_is_not_repeatable_is_sent_once() -> None:
    with ScriptedServer(Reply(503)) as server:
        assert send(ask(server, repeatable=False)).status == 503
        server.then(HANG_UP)
        failure_of(ask(server, repeatable=False))

    assert len(server.received) == 2


def test_a_put_is_repeated_with_the_same_bytes() -> None:
    content = b'{"a":\xc3\xa4}' * 1000
    with ScriptedServer(Reply(503), HANG_UP, Reply(201)) as server:
        assert send(ask(server, "PUT", content)).status == 201

    assert [request.body for request in server.received] == [content] * 3


@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
def test_a_rate_limit_is_no_try(method: str) -> None:
    """Nothing was done, so that also what must not be repeated goes up in the end."""
    patient = ConnectOptions(retries=evolve(QUICK, most=0, patience=60.0))
    with ScriptedServer(*[Reply(429)] * 9, Reply(201)) as server:
        assert send(ask(server, method, b"x", repeatable=False), patient).status == 201

    assert len(server.received) == 10


def test_a_rate_limit_that_does_not_end_is_an_answer_in_the_end(naps: list[float]) -> None:
    patient = ConnectOptions(retries=Retries(patience=100.0))
    with ScriptedServer(Reply(429)) as server:
        assert send(ask(server), patient).status == 429

    assert 30 <= sum(naps) <= 110


def test_threads_give_up_together_where_a_rate_limit_does_not_end() -> None:
    """Each has waited, also for what the others were told."""
    options = ConnectOptions(retries=Retries(first_wait=0.05, longest_wait=0.2, patience=1.0))
    with ScriptedServer(Reply(429)) as server, ThreadPoolExecutor(8) as pool:
        transport, began = Transport(options), time.monotonic()
        answers = list(pool.map(lambda _: transport.send(ask(server)).status, range(8)))

    assert answers == [429] * 8
    assert time.monotonic() - began < 4


def test_waiting_for_its_turn_leaves_a_request_its_patience() -> None:
    """With a low rate and many threads a turn takes longer than any rate limit may."""
    retries = evolve(QUICK, patience=0.2)
    with ScriptedServer(OK, Reply(429), OK) as server:
        transport = Transport(ConnectOptions(retries=retries, max_rate=4.0))
        answers = [transport.send(ask(server)).status for _ in range(2)]

    assert answers == [200, 200]


def test_nothing_fails_for_rate_limits_while_time_is_left() -> None:
    options = evolve(HURRIED, time_limit=60.0)  # `HURRIED` alone gives up sooner
    with ScriptedServer(*[Reply(429)] * 40, OK) as server:
        assert send(ask(server), options).status == 200


def silent(_: Received) -> Reply:
    time.sleep(1.0)
    return OK


@pytest.mark.parametrize(
    "answer", [Reply(429), Reply(429, {"Retry-After": "60"}), Reply(503), HANG_UP, silent]
)
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_run_that_is_out_of_time_ends(answer: Reply, method: str) -> None:
    """Whatever it waits for; what cleans up after it still goes."""
    patient = Retries(most=100, first_wait=0.05, longest_wait=1.0)
    with ScriptedServer(answer) as server:
        transport = Transport(ConnectOptions(time_limit=0.3, retries=patient))
        with pytest.raises(OutOfTime, match="not done within 0"):
            transport.send(ask(server, method, b"x"))
        server.then(OK)
        with pytest.raises(OutOfTime):
            transport.send(ask(server))
        assert transport.send(ask(server, "DELETE")).status == 200

    assert server.lines[-1] == "DELETE /"  # what was cut off may still have come before


def test_a_rate_limit_holds_for_all_requests_to_that_host(naps: list[float]) -> None:
    limit = Reply(429, {"Retry-After": "7"})
    options = ConnectOptions(retries=Retries(patience=1.0), shared=Shared())
    with ScriptedServer(limit, OK) as limited, ScriptedServer(OK) as other:
        transport, another = Transport(options), Transport(options)
        assert transport.send(ask(limited)).status == 429
        transport.send(ask(other))
        assert naps == []
        another.send(ask(limited))

    (nap,) = naps
    assert 6.5 <= nap <= 7.7


def test_clients_share_nothing_unless_they_are_to(naps: list[float]) -> None:
    options = ConnectOptions(retries=Retries(patience=1.0))
    with ScriptedServer(Reply(429, {"Retry-After": "7"}), OK) as limited:
        assert Transport(options).send(ask(limited)).status == 429
        assert Transport(options).send(ask(limited)).status == 200

    assert naps == []


def test_threads_find_the_rate_that_a_registry_allows() -> None:
    """The waits are a tenth of the usual ones, and so is the interval of the registry."""
    nginx, guard, refused = Nginx(50, burst=0), threading.Lock(), []
    options = ConnectOptions(retries=Retries(first_wait=0.05, longest_wait=6.0, patience=60.0))

    def limited(request: Received) -> Reply:
        with guard:
            if nginx.lets_pass():
                return OK
            refused.append(request)
            return Reply(429, {"Content-Type": "text/html"}, b"<html>Too Many Requests</html>")

    with ScriptedServer(limited) as server, ThreadPoolExecutor(8) as pool:
        transport = Transport(options)
        answers = list(pool.map(lambda _: transport.send(ask(server)).status, range(120)))

    assert answers == [200] * 120
    assert len(refused) <= 30


def test_the_rate_is_bounded_where_that_was_asked_for(naps: list[float]) -> None:
    options = ConnectOptions(max_rate=2.0, shared=Shared())
    with ScriptedServer(OK) as server, ScriptedServer(OK) as other:
        transports = [Transport(options), Transport(options)]
        for number in range(4):
            transports[number % 2].send(ask(server))
        transports[0].send(ask(other))

    assert [math.ceil(round(nap * 2, 3)) / 2 for nap in naps] == [0.5, 1.0, 1.5]


def test_a_failure_of_the_server_may_be_over_at_once(naps: list[float]) -> None:
    patient = ConnectOptions(retries=Retries(most=2, first_wait=1.0, longest_wait=60))
    with ScriptedServer(Reply(500)) as server:
        send(ask(server), patient)
        server.then(Reply(500, {"Retry-After": "3"}), OK)
        send(ask(server), patient)

    assert 0.05 <= naps[0] <= 0.1
    assert 1.0 <= naps[1] <= 2.0
    assert naps[2:] == [3.0]


def test_each_repetition_is_logged_without_secrets(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with ScriptedServer(Reply(429), HANG_UP, OK) as server:
        send(ask(server))

    ours = [r.getMessage() for r in caplog.records if r.name == "pubtools.mlmerge"]
    assert [text.partition(", retrying")[0] for text in ours] == [
        "org/app:1: HTTP 429",
        "org/app:1: connection broken (ConnectionError)",
    ]
    assert "s3cr3t" not in caplog.text


# Connections that fail: the culprit is named, and what is final is not tried again


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://no-such-host.invalid/", "unknown host"),
        *((url, "") for url in (f"http://{'a' * 64}.test/", "http://a..b/", "http:///x")),
    ],
)
def test_a_host_that_is_none_is_an_error_at_once(url: str, problem: str, naps: list[float]) -> None:
    error = failure_of(ask(url))

    assert error.status is None
    assert problem in error.message
    assert naps == []


def test_a_refused_connection_says_so() -> None:
    assert failure_of(ask("http://127.0.0.1:1/")).message == "connection refused"


NO_URL = "the proxy (from https_proxy) is no URL: expected http://HOST:PORT"
NO_URLS = [
    *("http://alice:s3cr3t@proxy.invalid:port", "http://alice:s3cr3t", "alice:s3cr3t"),
    *("http://alice:s3cr3t@", "http://alice:s3cr3t/x@proxy.invalid:3128"),
    *("http://alice:s3cr3t#x@proxy.invalid:3128", "http://alice:s3cr3t@[::1:3128"),
]
DEAD = "the proxy http://127.0.0.1:1 (from ALL_PROXY) refuses connections"
needs_no_socks = pytest.mark.skipif(find_spec("socks") is not None, reason="it is installed here")
SOCKS = ("https_proxy", "socks5://127.0.0.1:1")


@pytest.mark.parametrize(
    ("scheme", "variable", "problem"),
    [
        *((scheme, ("ALL_PROXY", "http://127.0.0.1:1"), DEAD) for scheme in ("http", "https")),
        *(("https", ("https_proxy", proxy), NO_URL) for proxy in NO_URLS),
        pytest.param("https", SOCKS, "install requests[socks]", marks=needs_no_socks),
    ],
)
def test_a_proxy_that_cannot_be_used_is_named(
    scheme: str,
    variable: tuple[str, str],
    problem: str,
    monkeypatch: pytest.MonkeyPatch,
    naps: list[float],
) -> None:
    monkeypatch.setenv(*variable)
    error = failure_of(ask(f"{scheme}://registry.invalid/"))

    assert error.message.endswith(problem)
    assert naps == []


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_no_proxy_is_asked_for_this_machine(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither do docker and skopeo; plain http is for this machine alone, too."""
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    options = evolve(HURRIED, ca_bundle=ca_bundle(tmp_path))
    with ScriptedServer(OK, tls=scheme == "https") as server:
        assert send(ask(server), options).content == b"fine"


FORBIDS = "seems to forbid this; allow registry.invalid there, or name it in no_proxy"


# Old versions of urllib3 leave the socket of a failed tunnel to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("scheme", "reply", "problem", "tries"),
    [
        ("https", Reply(407), "wants a login (HTTP 407)", 1),
        ("https", Reply(403), "lets nothing through (HTTP 403)", 1),
        ("https", Reply(503), "lets nothing through (HTTP 503)", TRIES),
        ("http", Reply(407), "wants a login", 1),
        ("http", Reply(403, {}, b"<html>"), FORBIDS, 1),
    ],
)
def test_a_refusal_of_a_proxy_is_told_from_one_of_the_registry(
    scheme: str, reply: Reply, problem: str, tries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedServer(reply) as proxy:
        monkeypatch.setenv(f"{scheme}_proxy", f"http://user:s3cr3t@{proxy.host}/")
        error = failure_of(ask(f"{scheme}://registry.invalid/"))
        assert len(proxy.received) == tries
        if scheme == "http":
            proxy.then(refusal(403, "DENIED"))  # in a registry's form
            assert send(ask("http://registry.invalid/")).status == 403

    gc.collect()
    assert error.message == f"the proxy http://{proxy.host} (from {scheme}_proxy) {problem}"


def test_plain_http_instead_of_tls_names_the_option() -> None:
    with raw_server(b"HTTP/1.1 400 Bad Request\r\n\r\n") as url:
        error = failure_of(ask(url.replace("http:", "https:")))

    assert f"--quay-host {url}" in error.message


@pytest.mark.parametrize(
    ("bundle", "problem"),
    [
        (None, "TLS failed: the authorities that come with requests do not know the certificate"),
        ("absent.pem", "absent.pem"),
        ("empty.pem", "the bundle {} holds no readable certificates"),
        ("rubbish.pem", "the bundle {} holds no readable certificates"),
        (".", "the directory {} has no certificates under hashed names: run openssl rehash"),
    ],
)
def test_what_is_wrong_with_the_authorities_is_named(
    bundle: str | None, problem: str, tmp_path: Path, naps: list[float]
) -> None:
    ca_bundle(tmp_path)
    (tmp_path / "empty.pem").write_text("")
    (tmp_path / "rubbish.pem").write_text("rubbish")
    path = None if bundle is None else str(tmp_path / bundle)
    with ScriptedServer(OK, tls=True) as server:
        error = failure_of(ask(server), evolve(HURRIED, ca_bundle=path))

    assert problem.format(path) in error.message
    assert (naps, server.received) == ([], [])


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_certificates_are_not_verified_where_that_was_asked_for() -> None:
    with ScriptedServer(OK, tls=True) as server:
        assert send(ask(server), ConnectOptions(insecure=True)).content == b"fine"


# Redirects


def test_a_redirect_from_http_to_https_is_followed(tmp_path: Path) -> None:
    trusting = ConnectOptions(ca_bundle=ca_bundle(tmp_path), retries=QUICK)
    with ScriptedServer(OK, tls=True) as other, ScriptedServer(redirect(other.url)) as server:
        assert send(ask(server), trusting).content == b"fine"

    assert other.authorizations == [""]


@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
@pytest.mark.parametrize("status", [307, 308])
def test_a_redirect_within_the_origin_keeps_login_and_body(method: str, status: int) -> None:
    with ScriptedServer(redirect("/there?x=1", status), Reply(201)) as server:
        answer = send(ask(server, method, b"x"))

    assert (answer.status, answer.url) == (201, f"{server.url}/there?x=1")
    assert server.lines == [f"{method} /", f"{method} /there?x=1"]
    assert server.received[1].body == b"x"
    assert server.authorizations == [SECRET, SECRET]


@pytest.mark.parametrize(
    ("method", "reply"),
    [
        *(("PUT", redirect("/there", status)) for status in (302, 303)),
        *(("DELETE", redirect("/there")), ("GET", Reply(304)), ("GET", Reply(302))),
        ("GET", redirect("/there", 303)),
    ],
)
def test_what_is_no_redirect_for_a_request_is_an_answer(method: str, reply: Reply) -> None:
    with ScriptedServer(reply) as server:
        assert send(ask(server, method)).status == reply.status

    assert len(server.received) == 1


# Bodies


def test_a_body_is_read_up_to_the_limit() -> None:
    with ScriptedServer(Reply(200, {}, b"x" * 1000)) as server:
        assert len(send(ask(server, limit=1000)).content) == 1000
        error = failure_of(ask(server, limit=999))

    assert (error.status, error.message) == (200, "the answer has more than 999 bytes")
    assert len(server.received) == 2


def test_a_request_names_the_program_and_asks_for_no_compression() -> None:
    with ScriptedServer(OK) as server:
        send(ask(server))

    headers = server.received[0].headers
    assert headers["user-agent"] == f"pubtools-mlmerge/{version('pubtools-mlmerge')}"
    assert headers["accept-encoding"] == "identity"


def test_compression_is_undone_or_an_error() -> None:
    """It may make a body longer."""
    zipped = Reply(200, {"Content-Encoding": "gzip"}, gzip.compress(b"x"))
    with ScriptedServer(zipped, evolve(zipped, body=b"rubbish")) as server:
        assert send(ask(server)).content == b"x"
        failure_of(ask(server))


def test_an_answer_to_head_has_a_length_and_no_body() -> None:
    with ScriptedServer(OK) as server:
        answer = send(ask(server, "HEAD"))

    assert (answer.status, answer.content) == (200, b"")
    assert answer.headers["content-length"] == "4"


@pytest.mark.parametrize("length", ["\xb2", "four", "-1", ""])
def test_a_length_that_is_no_number_says_nothing(length: str) -> None:
    with ScriptedServer(Reply(200, {"Content-Length": length}, b"fine")) as server:
        assert send(ask(server)).content == b"fine"


def test_a_length_of_5000_digits_announces_more_than_comes() -> None:
    with ScriptedServer(Reply(200, {"Content-Length": "9" * 5000}, b"fine")) as server:
        failure_of(ask(server))


# Time: what trickles in or out is given up, though each part of it comes in time


BEGIN = b"HTTP/1.1 200 OK\r\n"
LENGTH = b"Content-Length: 100\r\n\r\n"
HUGE = b"x" * 2**25  # more than the buffers of a connection hold
TRICKLES: dict[str, list[bytes] | list[None]] = {
    "body": [BEGIN + LENGTH, *[b"x"] * 100],
    "chunks": [BEGIN + b"Transfer-Encoding: chunked\r\n\r\n", *[b"1\r\nx\r\n"] * 100],
    "headers": [BEGIN, *[b"A: b\r\n"] * 90, LENGTH],
    "one header": [BEGIN + b"A: ", *[b"b"] * 100, b"\r\n" + LENGTH],
    "interim answers": [*[b"HTTP/1.1 100 Continue\r\n\r\n"] * 100, BEGIN + LENGTH],
    "request": [None] * 100,
}


def trickled(parts: str, url: str) -> Request:
    return ask(url, "PUT", HUGE) if parts == "request" else ask(url)


@pytest.mark.parametrize(
    ("parts", "way"),
    [
        *((parts, "http") for parts in TRICKLES),
        *((parts, "https") for parts in ("body", "headers", "request")),
        ("headers", "proxy"),
    ],
)
def test_what_trickles_is_given_up(
    parts: str, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient = evolve(HURRIED, longest=0.2, ca_bundle=ca_bundle(tmp_path))
    with raw_server(*TRICKLES[parts], pause=0.02, tls=way == "https") as url:
        if way == "proxy":
            monkeypatch.setenv("http_proxy", url)
        place = "http://registry.invalid/" if way == "proxy" else url
        error = failure_of(trickled(parts, place), impatient)

    assert (error.status, error.message) == (None, "no whole answer within 0.2 seconds")


@pytest.mark.parametrize("parts", ["body", "request"])
def test_a_trickle_ends_with_the_run(parts: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_GRACE", 0.0)
    began = time.monotonic()
    with raw_server(*TRICKLES[parts], pause=0.02) as url, pytest.raises(OutOfTime):
        send(trickled(parts, url), ConnectOptions(time_limit=0.3))

    assert time.monotonic() - began < 1.5


def test_each_answer_over_one_connection_has_time_of_its_own() -> None:
    answers = [BEGIN + b"Content-Length: 1\r\n\r\n%d" % number for number in range(4)]
    transport = Transport(evolve(HURRIED, longest=1.0))
    with raw_server(*answers, pause=0.4) as url:
        found = [transport.send(ask(url)).content for _ in answers]
    transport.close()

    assert found == [b"0", b"1", b"2", b"3"]


# Addresses: https, except on this machine or for an explicit http://


@pytest.mark.parametrize(
    ("text", "schemes"),
    [
        *((name, ("https",)) for name in ("quay.io", "quay.io:8443", "192.168.0.1:5000")),
        *((name, ("http",)) for name in ("http://registry.test", "http://localhost")),
        *((name, ("https",)) for name in ("https://registry.test:5000/", "https://127.0.0.1:5000")),
        *((name, ("http", "https")) for name in ("127.0.0.1:5000", "localhost", "[::1]:5000")),
    ],
)
def test_an_address_has_a_host_and_schemes(text: str, schemes: tuple[str, ...]) -> None:
    host = text.rpartition("://")[2].rstrip("/")

    assert Address.parse(text) == Address(host, schemes)


def test_https_comes_first_where_an_option_is_about_certificates() -> None:
    assert Address.parse("localhost:1", prefers_tls=True).schemes == ("https", "http")
    assert Address.parse("http://localhost:1", prefers_tls=True).schemes == ("http",)


MALFORMED = [
    *("", "ftp://quay.io", "https://", "https://quay.io/v2", "quay.io/v2", "quay.io?x"),
    *("quay.io:99999", "https://https://quay.io", "quay .io"),
    *("https://u:s3cr3t@quay.io", "u:s3cr3t@quay.io", "ftp://s3cr3t@h"),
]


@pytest.mark.parametrize("text", MALFORMED)
def test_a_malformed_address_is_refused_and_a_login_in_it_not_shown(text: str) -> None:
    with pytest.raises(InvalidReference) as caught:
        Address.parse(text)

    assert "s3cr3t" not in f"{caught.value} {caught.value!r}"


def test_loopback_is_this_machine_alone() -> None:
    here = ["localhost", "LOCALHOST:5000", "127.9.9.9:5000", "[::1]"]
    there = ["localhost.example.com", "127.0.0.1.example.com", "10.0.0.1", "[::2]:5000", ""]

    assert [each for each in here + there if is_loopback(each)] == here


@given(st.text())
def test_any_text_is_an_address_or_no_reference(text: str) -> None:
    try:
        address = Address.parse(text)
    except InvalidReference:
        return
    assert address.schemes == ("https",) or text.startswith("http://") or is_loopback(address.host)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://Quay.io/v2/", ("https", "quay.io", 443)),
        ("http://quay.io", ("http", "quay.io", 80)),
        ("https://quay.io:5000/a", ("https", "quay.io", 5000)),
        ("https://user@quay.io", ("https", "quay.io", 443)),
        ("file:///etc/passwd", ("file", "", None)),
    ],
)
def test_an_origin_has_its_port_written_out(url: str, expected: object) -> None:
    assert origin(url) == expected


@pytest.mark.parametrize(
    "url", ["http://[::1", "http://h:99999/", "http://h:x/", "http://evil.test\\@quay.io/"]
)
def test_a_malformed_url_has_no_origin(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        origin(url)


# Answers: what callers of the http library see, and what nobody does


def answer(status: int, content: bytes = b"", reason: str = "") -> Answer:
    headers = CaseInsensitiveDict({"content-type": "text/plain"})
    return Answer(status, headers, content, "https://quay.io/v2/?signature=s3cr3t", reason)


@pytest.mark.parametrize(
    ("status", "kind"), [(307, "Unexpected Answer"), (404, "Client Error"), (503, "Server Error")]
)
def test_a_refusal_becomes_the_error_of_the_http_library(status: int, kind: str) -> None:
    """Without the query of its URL, which may be a signature."""
    error = answer(status, b"nothing here", "No").as_http_error()

    assert error.response.status_code == status
    assert error.response.text == "nothing here"
    assert error.response.headers["Content-Type"] == "text/plain"
    assert str(error) == f"{status} {kind}: No for url: {error.response.url}"
    assert error.response.url == "https://quay.io/v2/"


def test_representations_show_no_headers_and_no_content() -> None:
    request = evolve(ask("/", "PUT", b"s3cr3t"), headers={"Authorization": "Basic s3cr3t"})

    assert "s3cr3t" not in f"{request!r} {answer(200, b's3cr3t')!r}"


@pytest.mark.parametrize(
    ("options", "verify", "prefers_tls"),
    [
        (ConnectOptions(), True, False),
        (ConnectOptions(ca_bundle="ca.pem"), "ca.pem", True),
        (ConnectOptions(insecure=True), False, True),
        (ConnectOptions(insecure=True, ca_bundle="ca.pem"), False, True),
    ],
)
def test_certificates_are_verified_unless_an_option_says_otherwise(
    options: ConnectOptions, verify: bool | str, prefers_tls: bool
) -> None:
    assert options.verify == verify
    assert options.prefers_tls is prefers_tls


# Waits grow, obey the registry, and end


PATIENT = Retries(first_wait=0.5, longest_wait=60.0)
NONE = ["0", "", "soon", "-5", "1.5", "NaN", "\u0663", "Wed, 21 Oct 2015 07:28:00 GMT", "9 Foo 99"]


@pytest.mark.parametrize(
    ("attempt", "header", "least", "most"),
    [
        *((attempt, "", wait / 2, wait) for attempt, wait in [(0, 0.5), (1, 1.0), (3, 4.0)]),
        *((0, header, 0.25, 0.5) for header in NONE),
        *((0, header, wait, wait) for header, wait in [("7", 7), (" 7 ", 7), ("86400", 60)]),
        *((attempt, "", 60, 60) for attempt in (20, 5000)),
    ],
)
def test_the_wait_doubles_each_time_or_obeys_the_registry_within_bounds(
    attempt: int, header: str, least: float, most: float
) -> None:
    waits = [PATIENT.wait(attempt, {"Retry-After": header}) for _ in range(50)]

    assert least <= min(waits) <= max(waits) <= most
    assert (len(set(waits)) > 1) is (least < most)


@pytest.mark.parametrize("zone", ["GMT", "-0000"])
def test_a_date_is_obeyed(zone: str) -> None:
    at = datetime.now(timezone.utc) + timedelta(seconds=20)
    header = format_datetime(at, usegmt=True).replace("GMT", zone)

    assert 15 < PATIENT.wait(0, {"Retry-After": header}) <= 20


# The pace of requests


def pause(pace: Pace, epoch: int, seconds: str = "") -> float:
    return pace.slow_down(epoch, PATIENT, {"Retry-After": seconds})


def wait(pace: Pace) -> None:
    pace.wait(0.0, time.sleep)


def test_without_retry_after_the_pause_grows_for_all() -> None:
    pace = Pace()
    pauses = [pause(pace, epoch) for epoch in range(4)]

    assert 0.25 <= pauses[0] <= 0.55 <= pauses[2] <= 2.2 <= 2 * pauses[3]


def test_refusals_of_what_was_sent_before_a_pause_do_not_prolong_it() -> None:
    pace = Pace()
    first = pause(pace, 0)

    assert all(pause(pace, 0) <= first for _ in range(8))


def test_a_pause_begun_while_a_thread_waits_is_waited_for_too() -> None:
    pace, naps = Pace(), list[float]()

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 1:
            pause(pace, 1, "40")

    pause(pace, 0, "5")
    pace.wait(0.0, sleep)

    assert naps[0] < 6
    assert naps[1] > 39


def test_after_a_pause_requests_keep_an_interval_that_shrinks(naps: list[float]) -> None:
    pace = Pace()
    pause(pace, 0)
    wait(pace)
    wait(pace)
    apart = naps[1] - naps[0]
    for _ in range(20):
        pace.speed_up()
    wait(pace)
    wait(pace)

    assert 0.04 < apart < 0.06
    assert naps[3] - naps[2] < apart


def test_requests_keep_no_long_interval_after_a_limit_that_took_long() -> None:
    """Each pause lets one request pass, so its refusal says nothing of the rate."""
    pace, naps = Pace(), list[float]()
    for _ in range(10):
        pace.slow_down(pace.wait(0.0, naps.append)[0], Retries(), {})
    pace.speed_up()
    naps.clear()
    for _ in range(2):
        pace.wait(0.0, naps.append)

    assert naps[1] - naps[0] < 0.1
