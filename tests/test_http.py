"""HTTP: addresses, what is tried again, how far redirects go, how much is read and for how long."""

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
from pubtools_mlmerge.registry.auth import WITHHELD, redacted
from pubtools_mlmerge.registry.http import (
    Answer,
    ConnectOptions,
    Pace,
    Request,
    Retries,
    Transport,
    origin,
)
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
from tests.servers import free_port

SECRET = "Bearer s3cr3t"
OK = Reply(200, {}, b"fine")
TRIES = QUICK.most + 1


def get(server: ScriptedServer, *, limit: int = LARGEST, repeatable: bool = True) -> Request:
    return Request(
        method="GET",
        url=f"{server.url}/",
        subject="org/app:1",
        headers={"Authorization": SECRET},
        limit=limit,
        repeatable=repeatable,
    )


def put(server: ScriptedServer, content: bytes, method: str = "PUT") -> Request:
    return evolve(get(server), method=method, content=content)


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
    assert "s3cr3t" not in f"{caught.value} {caught.value!r} {caught.value.__cause__!r}"
    return caught.value


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record waits instead of waiting."""
    asked: list[float] = []
    monkeypatch.setattr(time, "sleep", asked.append)
    return asked


# Retries


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_passing_refusal_is_asked_again(status: int) -> None:
    with ScriptedServer(Reply(status), OK) as server:
        assert send(get(server)).content == b"fine"
        assert len(server.received) == 2
        server.then(Reply(status))
        assert send(get(server)).status == status  # in the end
        assert len(server.received) >= 2 + TRIES


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 412, 413, 501])
def test_another_refusal_is_an_answer(status: int) -> None:
    with ScriptedServer(Reply(status, {}, b"no")) as server:
        answer = send(get(server))

    assert (answer.status, answer.content) == (status, b"no")
    assert len(server.received) == 1


def test_a_failure_of_the_server_is_asked_again_only_by_who_reads() -> None:
    with ScriptedServer(Reply(500), OK) as server:
        assert send(get(server)).status == 200
    with ScriptedServer(Reply(500), OK) as server:
        assert send(put(server, b"{}")).status == 500

    assert len(server.received) == 1


BREAKS = {
    "before an answer": HANG_UP,
    "in the middle": Reply(200, {}, b"x" * 100_000, cut=50_000),
    "within chunks": Reply(
        200, {"Transfer-Encoding": "chunked", "Content-Length": ""}, b"5\r\nabc"
    ),
    "without its end": Reply(200, {"Content-Length": "10"}, b"short"),
}


@pytest.mark.parametrize("broken", BREAKS.values(), ids=list(BREAKS))
def test_a_broken_connection_is_asked_again_and_an_error_in_the_end(broken: Reply) -> None:
    with ScriptedServer(broken, OK) as server:
        assert send(get(server)).content == b"fine"
    with ScriptedServer(broken) as server:
        error = failure_of(get(server))

    assert error.status is None
    assert error.message.startswith("connection broken")
    assert isinstance(error.__cause__, requests.exceptions.RequestException)
    assert len(server.received) == TRIES


def test_what_is_not_repeatable_is_sent_once() -> None:
    with ScriptedServer(Reply(503)) as server:
        assert send(get(server, repeatable=False)).status == 503
        server.then(HANG_UP)
        failure_of(get(server, repeatable=False))

    assert len(server.received) == 2


def test_a_put_is_repeated_with_the_same_bytes() -> None:
    content = b'{"a":\xc3\xa4}' * 1000
    with ScriptedServer(Reply(503), HANG_UP, Reply(201)) as server:
        answer = send(put(server, content))

    assert answer.status == 201
    assert [request.body for request in server.received] == [content] * 3


@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
def test_a_rate_limit_is_no_try(method: str) -> None:
    """Nothing was done, so that also what must not be repeated goes up in the end."""
    patient = ConnectOptions(retries=evolve(QUICK, most=0, patience=60.0))
    with ScriptedServer(*[Reply(429)] * 9, Reply(201)) as server:
        request = evolve(put(server, b"x", method), repeatable=False)
        assert send(request, patient).status == 201

    assert len(server.received) == 10


def test_a_rate_limit_that_does_not_end_is_an_answer_in_the_end(naps: list[float]) -> None:
    patient = ConnectOptions(retries=Retries(patience=100.0))
    with ScriptedServer(Reply(429)) as server:
        assert send(get(server), patient).status == 429

    assert 30 <= sum(naps) <= 110


def test_nothing_fails_for_rate_limits_while_time_is_left() -> None:
    options = evolve(HURRIED, time_limit=60.0)  # `HURRIED` alone gives up sooner
    with ScriptedServer(*[Reply(429)] * 40, OK) as server:
        assert send(get(server), options).status == 200


def silent(_: Received) -> Reply:
    time.sleep(1.0)
    return OK


@pytest.mark.parametrize(
    "answer", [Reply(429), Reply(429, {"Retry-After": "60"}), Reply(503), HANG_UP, silent]
)
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_run_that_is_out_of_time_ends(answer: Reply, method: str) -> None:
    """Whatever it waits for; what cleans up after it still goes."""
    options = ConnectOptions(
        time_limit=0.3, retries=Retries(most=100, first_wait=0.05, longest_wait=1.0)
    )
    with ScriptedServer(answer) as server:
        transport = Transport(options)
        with pytest.raises(OutOfTime, match="not done within 0"):
            transport.send(put(server, b"x", method))
        server.then(OK)
        with pytest.raises(OutOfTime):
            transport.send(get(server))
        assert transport.send(put(server, b"", "DELETE")).status == 200

    assert server.lines[-1] == "DELETE /"  # what was cut off may still have come before


def test_a_rate_limit_holds_for_all_requests_to_that_host(naps: list[float]) -> None:
    limit = Reply(429, {"Retry-After": "7"})
    options = ConnectOptions(retries=Retries(patience=1.0))
    with ScriptedServer(limit, OK) as limited, ScriptedServer(OK) as other:
        transport, another = Transport(options), Transport(options)
        assert transport.send(get(limited)).status == 429
        transport.send(get(other))
        assert naps == []
        another.send(get(limited))

    (nap,) = naps
    assert 6.5 <= nap <= 7.7


class Limiter:
    """Answers so many requests a second, and 429 without Retry-After to all others, as nginx."""

    def __init__(self, rate: float) -> None:
        self.interval, self.free, self.refused = 1 / rate, 0.0, 0
        self.lock = threading.Lock()

    def __call__(self, _: Received) -> Reply:
        with self.lock:
            now = time.monotonic()
            if now < self.free:
                self.refused += 1
                return Reply(429, {"Content-Type": "text/html"}, b"<html>Too Many Requests</html>")
            self.free = now + self.interval
            return OK


def test_threads_find_the_rate_that_a_registry_allows() -> None:
    """The waits are a tenth of the usual ones, and so is the interval of the registry."""
    limiter, needed = Limiter(50), 120
    options = ConnectOptions(retries=Retries(first_wait=0.05, longest_wait=6.0, patience=60.0))
    with ScriptedServer(limiter) as server, ThreadPoolExecutor(8) as pool:
        transport = Transport(options)
        answers = list(pool.map(lambda _: transport.send(get(server)).status, range(needed)))

    assert answers == [200] * needed
    assert limiter.refused <= needed / 4


def test_the_rate_is_bounded_where_that_was_asked_for(naps: list[float]) -> None:
    options = ConnectOptions(max_rate=2.0)
    with ScriptedServer(OK) as server, ScriptedServer(OK) as other:
        transports = [Transport(options), Transport(options)]
        for number in range(4):
            transports[number % 2].send(get(server))
        transports[0].send(get(other))

    assert [math.ceil(round(nap * 2, 3)) / 2 for nap in naps] == [0.5, 1.0, 1.5]


def test_a_failure_of_the_server_may_be_over_at_once(naps: list[float]) -> None:
    patient = ConnectOptions(retries=Retries(most=2, first_wait=1.0, longest_wait=60))
    with ScriptedServer(Reply(500)) as server:
        send(get(server), patient)
    with ScriptedServer(Reply(500, {"Retry-After": "3"}), OK) as server:
        send(get(server), patient)

    assert 0.05 <= naps[0] <= 0.1
    assert 1.0 <= naps[1] <= 2.0
    assert naps[2:] == [3.0]


def test_each_repetition_is_logged_without_secrets(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with ScriptedServer(Reply(429), HANG_UP, OK) as server:
        send(get(server))

    ours = [r.getMessage() for r in caplog.records if r.name == "pubtools.mlmerge"]
    assert [text.partition(", retrying")[0] for text in ours] == [
        "org/app:1: HTTP 429",
        "org/app:1: connection broken (ConnectionError)",
    ]
    assert "s3cr3t" not in caplog.text


# What cannot be asked


def test_a_refused_connection_says_so() -> None:
    request = Request(method="GET", url=f"http://127.0.0.1:{free_port()}/", subject="org/app:1")

    assert failure_of(request).message == "connection refused"


def test_an_unknown_host_says_so_and_is_not_asked_again(naps: list[float]) -> None:
    request = Request(method="GET", url="http://no-such-host.invalid/", subject="org/app:1")

    assert failure_of(request).message == "unknown host"
    assert naps == []


@pytest.mark.parametrize("url", [f"http://{'a' * 64}.test/", "http://a..b/", "http:///x"])
def test_a_host_that_can_be_none_is_an_error(url: str) -> None:
    assert failure_of(Request(method="GET", url=url, subject="org/app:1")).status is None


def test_authorities_that_cannot_be_read_are_an_error() -> None:
    with ScriptedServer(OK, tls=True) as server:
        error = failure_of(
            get(server), ConnectOptions(ca_bundle="/no/such/file.pem", retries=QUICK)
        )

    assert "/no/such/file.pem" in error.message


def test_each_request_names_the_program_and_its_version() -> None:
    with ScriptedServer(OK) as server:
        send(get(server))

    name, _, number = server.received[0].headers["user-agent"].partition("/")
    assert (name, number) == ("pubtools-mlmerge", version("pubtools-mlmerge"))


# Proxies: their failures are not the registry's


# Old versions of urllib3 leave the socket of a failed tunnel to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("status", "problem"),
    [
        (407, "the proxy http://{} (from https_proxy) wants a login (HTTP 407)"),
        (403, "the proxy http://{} (from https_proxy) lets nothing through (HTTP 403)"),
    ],
)
def test_a_proxy_that_lets_nothing_through_is_named(
    status: int, problem: str, monkeypatch: pytest.MonkeyPatch, naps: list[float]
) -> None:
    with ScriptedServer(Reply(status)) as proxy:
        monkeypatch.setenv("https_proxy", f"http://user:hidden@{proxy.host}/")
        request = Request(method="GET", url="https://registry.invalid/", subject="org/app:1")
        error = failure_of(request)

    gc.collect()
    assert error.message == problem.format(proxy.host)
    assert (naps, len(proxy.received)) == ([], 1)


@pytest.mark.parametrize(
    "proxy",
    [
        *("http://alice:s3cr3t@proxy.invalid:port", "http://alice:s3cr3t", "alice:s3cr3t"),
        *("http://alice:s3cr3t@", "http://alice:s3cr3t/x@proxy.invalid:3128"),
        *("http://alice:s3cr3t#x@proxy.invalid:3128", "http://alice:s3cr3t@[::1:3128"),
    ],
)
def test_a_proxy_that_is_no_url_is_not_repeated(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", proxy)
    request = Request(method="GET", url="https://registry.invalid/", subject="org/app:1")
    error = failure_of(request)

    shown = "".join(traceback.format_exception(None, error, None))
    assert error.message == "the proxy (from https_proxy) is no URL: expected http://HOST:PORT"
    assert "s3cr3t" not in shown


FORBIDS = "seems to forbid this; allow registry.invalid there, or name it in no_proxy"


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (Reply(407), "the proxy http://{} (from http_proxy) wants a login"),
        (Reply(403, {}, b"<html>"), "the proxy http://{} (from http_proxy) " + FORBIDS),
    ],
)
def test_a_refusal_of_a_proxy_for_plain_http_is_told_apart(
    reply: Reply, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedServer(reply, refusal(403, "DENIED")) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        request = Request(method="GET", url="http://registry.invalid/", subject="org/app:1")
        error = failure_of(request)

        assert send(request).status == 403  # in a registry's form

    assert (error.status, error.message) == (reply.status, problem.format(proxy.host))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # as above
def test_a_proxy_in_passing_trouble_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedServer(Reply(503)) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        request = Request(method="GET", url="https://registry.invalid/", subject="org/app:1")
        failure_of(request)

    gc.collect()
    assert len(proxy.received) == TRIES


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_dead_proxy_is_named(
    scheme: str, monkeypatch: pytest.MonkeyPatch, naps: list[float]
) -> None:
    proxy = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("ALL_PROXY", proxy)
    request = Request(method="GET", url=f"{scheme}://registry.invalid/", subject="org/app:1")

    error = failure_of(request)

    assert error.message == f"the proxy {proxy} (from ALL_PROXY) refuses connections"
    assert naps == []


@pytest.mark.skipif(find_spec("socks") is not None, reason="it is installed here")
def test_a_missing_library_for_socks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "socks5://127.0.0.1:1")
    request = Request(method="GET", url="https://registry.invalid/", subject="org/app:1")

    assert "install requests[socks]" in failure_of(request).message


# TLS


def test_plain_http_instead_of_tls_names_the_option() -> None:
    with raw_server(b"HTTP/1.1 400 Bad Request\r\n\r\n") as url:
        host = url.partition("://")[2]
        request = Request(method="GET", url=f"https://{host}/", subject="org/app:1")
        error = failure_of(request)

    assert f"--quay-host http://{host}" in error.message


@pytest.mark.parametrize("content", ["", "rubbish"])
def test_a_bundle_without_certificates_is_named(content: str, tmp_path: Path) -> None:
    bundle = tmp_path / "empty.pem"
    bundle.write_text(content)
    with ScriptedServer(OK, tls=True) as server:
        error = failure_of(get(server), ConnectOptions(ca_bundle=str(bundle), retries=QUICK))

    assert error.message == f"the bundle {bundle} holds no readable certificates"


def test_a_directory_without_hashed_names_is_named(tmp_path: Path) -> None:
    ca_bundle(tmp_path)
    with ScriptedServer(OK, tls=True) as server:
        error = failure_of(get(server), ConnectOptions(ca_bundle=str(tmp_path), retries=QUICK))

    assert error.message.endswith("run openssl rehash")


def test_an_unknown_authority_is_an_error_at_once(naps: list[float]) -> None:
    with ScriptedServer(OK, tls=True) as server:
        error = failure_of(get(server))

    assert error.message.startswith("TLS failed: ")
    assert "certificate" in error.message.lower()
    assert (naps, server.received) == ([], [])


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_certificates_are_not_verified_where_that_was_asked_for() -> None:
    with ScriptedServer(OK, tls=True) as server:
        assert send(get(server), ConnectOptions(insecure=True)).content == b"fine"


# Redirects


def test_a_redirect_within_the_origin_keeps_the_credentials() -> None:
    with ScriptedServer(redirect("/there?x=1"), OK) as server:
        answer = send(get(server))

    assert answer.url == f"{server.url}/there?x=1"
    assert server.authorizations == [SECRET, SECRET]


def test_a_redirect_from_http_to_https_is_followed(tmp_path: Path) -> None:
    trusting = ConnectOptions(ca_bundle=ca_bundle(tmp_path), retries=QUICK)
    with ScriptedServer(OK, tls=True) as other, ScriptedServer(redirect(other.url)) as server:
        assert send(get(server), trusting).content == b"fine"

    assert other.authorizations == [""]


@pytest.mark.parametrize("method", ["PUT", "POST"])
@pytest.mark.parametrize("status", [307, 308])
def test_a_write_is_redirected_within_its_origin(method: str, status: int) -> None:
    with ScriptedServer(redirect("/there", status), Reply(201)) as server:
        answer = send(put(server, b"x", method))

    assert answer.status == 201
    assert server.lines == [f"{method} /", f"{method} /there"]
    assert server.received[1].body == b"x"
    assert server.authorizations == [SECRET, SECRET]


def test_a_write_is_not_redirected_to_another_host() -> None:
    with ScriptedServer(OK) as other, ScriptedServer(redirect(f"{other.url}/there")) as server:
        error = failure_of(put(server, b"x"))

    assert error.message == "the registry redirects what is written to another host"
    assert other.received == []


def test_writes_that_are_redirected_come_to_an_end() -> None:
    with ScriptedServer(redirect("/there")) as server:
        assert "in circles" in failure_of(put(server, b"x")).message


@pytest.mark.parametrize(("method", "status"), [("PUT", 302), ("PUT", 303), ("DELETE", 307)])
def test_a_redirect_does_not_change_what_writes(method: str, status: int) -> None:
    with ScriptedServer(redirect("/there", status)) as server:
        answer = send(put(server, b"x", method))

    assert answer.status == status
    assert len(server.received) == 1


def test_a_redirect_without_location_is_an_answer() -> None:
    with ScriptedServer(Reply(304)) as server:
        assert send(get(server)).status == 304
        server.then(Reply(302))
        assert send(get(server)).status == 302


# Bodies


def test_a_body_is_read_up_to_the_limit() -> None:
    with ScriptedServer(Reply(200, {}, b"x" * 1000)) as server:
        assert len(send(get(server, limit=1000)).content) == 1000
        error = failure_of(get(server, limit=999))

    assert (error.status, error.message) == (200, "the answer has more than 999 bytes")
    assert len(server.received) == 2


def test_compression_is_not_asked_for() -> None:
    with ScriptedServer(OK) as server:
        send(get(server))

    assert server.received[0].headers["accept-encoding"] == "identity"


def test_compression_is_undone_or_an_error() -> None:
    """It may make a body longer."""
    zipped = Reply(200, {"Content-Encoding": "gzip"}, gzip.compress(b"x"))
    with ScriptedServer(zipped, evolve(zipped, body=b"rubbish")) as server:
        assert send(get(server)).content == b"x"
        failure_of(get(server))


def test_an_answer_to_head_has_a_length_and_no_body() -> None:
    with ScriptedServer(OK) as server:
        answer = send(evolve(get(server), method="HEAD"))

    assert (answer.status, answer.content) == (200, b"")
    assert answer.headers["content-length"] == "4"


@pytest.mark.parametrize("length", ["\xb2", "four", "-1", "", "9" * 5000])
def test_a_length_that_is_no_number_says_nothing(length: str) -> None:
    with ScriptedServer(Reply(200, {"Content-Length": length}, b"fine")) as server:
        if length.startswith("9"):  # it announces more than comes
            failure_of(get(server))
        else:
            assert send(get(server)).content == b"fine"


# Time: an answer that trickles in ends, though each part of it comes in time


BEGIN = b"HTTP/1.1 200 OK\r\n"
LENGTH = b"Content-Length: 100\r\n\r\n"
TRICKLES = {
    "body": [BEGIN + LENGTH, *[b"x"] * 100],
    "chunks": [BEGIN + b"Transfer-Encoding: chunked\r\n\r\n", *[b"1\r\nx\r\n"] * 100],
    "headers": [BEGIN, *[b"A: b\r\n"] * 90, LENGTH],
    "one header": [BEGIN + b"A: ", *[b"b"] * 100, b"\r\n" + LENGTH],
    "interim answers": [*[b"HTTP/1.1 100 Continue\r\n\r\n"] * 100, BEGIN + LENGTH],
}
IMPATIENT = evolve(HURRIED, longest=0.2)
TOO_SLOW = "the answer takes more than 0.2 seconds"


@pytest.mark.parametrize("parts", TRICKLES.values(), ids=list(TRICKLES))
def test_an_answer_that_trickles_in_is_given_up(parts: list[bytes]) -> None:
    with raw_server(*parts, pause=0.02) as url:
        error = failure_of(Request(method="GET", url=url, subject="org/app:1"), IMPATIENT)

    assert (error.status, error.message) == (None, TOO_SLOW)


@pytest.mark.parametrize("parts", [TRICKLES["body"], TRICKLES["headers"]], ids=["body", "headers"])
def test_tls_makes_no_difference_to_that(parts: list[bytes], tmp_path: Path) -> None:
    trusting = evolve(IMPATIENT, ca_bundle=ca_bundle(tmp_path))
    with raw_server(*parts, pause=0.02, tls=True) as url:
        error = failure_of(Request(method="GET", url=url, subject="org/app:1"), trusting)

    assert error.message == TOO_SLOW


def test_a_trickle_ends_with_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_GRACE", 0.0)
    options = ConnectOptions(time_limit=0.3)
    with raw_server(*TRICKLES["body"], pause=0.02) as url, pytest.raises(OutOfTime):
        send(Request(method="GET", url=url, subject="org/app:1"), options)


def test_a_proxy_makes_no_difference_to_that(monkeypatch: pytest.MonkeyPatch) -> None:
    with raw_server(*TRICKLES["headers"], pause=0.02) as url:
        monkeypatch.setenv("http_proxy", url)
        request = Request(method="GET", url="http://registry.invalid/", subject="org/app:1")
        error = failure_of(request, IMPATIENT)

    assert error.message == TOO_SLOW


def test_each_answer_over_one_connection_has_time_of_its_own() -> None:
    answers = [BEGIN + b"Content-Length: 1\r\n\r\n%d" % number for number in range(4)]
    transport = Transport(evolve(HURRIED, longest=1.0))
    with raw_server(*answers, pause=0.4) as url:
        request = Request(method="GET", url=url, subject="org/app:1")
        found = [transport.send(request).content for _ in answers]
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


@given(st.text())
def test_any_text_is_an_address_or_no_reference(text: str) -> None:
    try:
        address = Address.parse(text)
    except InvalidReference:
        return
    assert address.schemes == ("https",) or text.startswith("http://") or is_loopback(address.host)


# Answers: what callers of the http library see, and what nobody does


def answer(status: int = 200, content: bytes = b"", reason: str = "") -> Answer:
    headers = CaseInsensitiveDict({"content-type": "text/plain"})
    return Answer(status, headers, content, "https://quay.io/v2/?signature=s3cr3t", reason)


@pytest.mark.parametrize(("status", "expected"), [(200, True), (299, True), (300, False)])
def test_success_is_any_2xx(status: int, expected: bool) -> None:
    assert answer(status).is_success is expected


def test_a_refusal_becomes_the_error_of_the_http_library() -> None:
    error = answer(404, b"nothing here", "Not Found").as_http_error()

    assert error.response.status_code == 404
    assert error.response.text == "nothing here"
    assert error.response.headers["Content-Type"] == "text/plain"
    assert str(error).startswith("404 Client Error: Not Found for url: https://quay.io/v2/")


@pytest.mark.parametrize("status", [307, 403])
def test_the_signature_in_a_url_stays_out_of_errors(status: int) -> None:
    error = answer(status).as_http_error()

    assert error.response.status_code == status
    assert "s3cr3t" not in f"{error} {error.response.url} {answer()!r}"


def test_representations_show_no_headers_and_no_content() -> None:
    headers = {"Authorization": "Basic s3cr3t"}
    request = Request(method="PUT", url="/", subject="app", headers=headers, content=b"s3cr3t")

    assert "s3cr3t" not in repr(request)
    assert "s3cr3t" not in repr(answer(content=b"s3cr3t"))


def test_each_part_that_repeats_a_secret_is_withheld() -> None:
    repeats = {"X-Echo": "s3cr3t", "X": "harmless"}
    found = Answer(403, repeats, b"s3cr3t", "https://quay.io/?s3cr3t", "no s3cr3t here")

    cleaned = redacted(found, ["s3cr3t"])

    assert cleaned.headers == {"x-echo": WITHHELD, "x": "harmless"}
    assert (cleaned.content, cleaned.url, cleaned.reason) == (WITHHELD.encode(), WITHHELD, WITHHELD)


@pytest.mark.parametrize("secrets", [(), ("",), ("absent",)])
def test_an_answer_without_a_secret_stays_as_it_is(secrets: tuple[str, ...]) -> None:
    assert redacted(answer(content=b"\xff\x00"), secrets) == answer(content=b"\xff\x00")


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


# Retries: waits grow, obey the registry, and end


PATIENT = Retries(first_wait=0.5, longest_wait=60.0)


def in_seconds(seconds: float) -> str:
    return format_datetime(datetime.now(timezone.utc) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(("attempt", "backoff"), [(0, 0.5), (1, 1.0), (3, 4.0)])
def test_the_wait_doubles_each_time(attempt: int, backoff: float) -> None:
    waits = [PATIENT.wait(attempt, {}) for _ in range(50)]

    assert all(backoff / 2 <= wait <= backoff for wait in waits)
    assert len(set(waits)) > 1


@pytest.mark.parametrize(("header", "wait"), [("7", 7.0), (" 7 ", 7.0), ("86400", 60.0)])
def test_seconds_are_obeyed_within_bounds(header: str, wait: float) -> None:
    assert PATIENT.wait(0, {"Retry-After": header}) == wait
    assert PATIENT.wait(20, {}) == 60.0


@pytest.mark.parametrize("zone", ["GMT", "-0000"])
def test_a_date_is_obeyed(zone: str) -> None:
    header = in_seconds(20).replace("GMT", zone)

    assert 15 < PATIENT.wait(0, {"Retry-After": header}) <= 20


@pytest.mark.parametrize(
    "header",
    ["0", "", "soon", "-5", "1.5", "NaN", "\u0663", "Wed, 21 Oct 2015 07:28:00 GMT", "9 Foo 99"],
)
def test_anything_else_asks_for_nothing(header: str) -> None:
    assert PATIENT.wait(0, {"Retry-After": header}) <= 0.5


# The pace of requests


def pause(pace: Pace, epoch: int, **headers: str) -> float:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return pace.slow_down(epoch, PATIENT, named)


def test_without_retry_after_the_pause_grows_for_all() -> None:
    pace = Pace()

    pauses = [pause(pace, epoch) for epoch in range(4)]

    assert 0.25 <= pauses[0] <= 0.55 <= pauses[2] <= 2.2 <= 2 * pauses[3]


def test_refusals_of_what_was_sent_before_a_pause_do_not_prolong_it() -> None:
    pace = Pace()
    first = pause(pace, 0)

    assert all(pause(pace, 0) <= first for _ in range(8))


def test_a_pause_begun_while_a_thread_waits_is_waited_for_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pace, naps = Pace(), []

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 1:
            pause(pace, 1, Retry_After="40")

    monkeypatch.setattr(time, "sleep", sleep)
    pause(pace, 0, Retry_After="5")
    pace.wait(0.0, time.sleep)

    assert naps[0] < 6
    assert naps[1] > 39


def test_after_a_pause_requests_keep_an_interval_that_shrinks(naps: list[float]) -> None:
    pace = Pace()
    pause(pace, 0)
    pace.wait(0.0, time.sleep)
    pace.wait(0.0, time.sleep)
    apart = naps[1] - naps[0]
    for _ in range(20):
        pace.speed_up()
    pace.wait(0.0, time.sleep)
    pace.wait(0.0, time.sleep)

    assert 0.04 < apart < 0.06
    assert naps[3] - naps[2] < apart
