"""Answers that are too large, too slow or never end, and absurdly long waits."""

from __future__ import annotations

import gc
import gzip
import time

import pytest

from pubtools_mlmerge.core.manifests import OCI_INDEX
from pubtools_mlmerge.errors import Forbidden, RegistryError
from pubtools_mlmerge.registry.http import ConnectOptions, Retries
from tests.floods import check, floods
from tests.hostile.helpers import GOOD, TOO_LARGE, failure_of, good, refused, wants_token
from tests.scripted import Reply, ScriptedServer, json_reply, raw_server, redirect, refusal
from tests.stress.counts import Counts

ENDLESS = {"Content-Length": str(10**12)}
WORDS = "more than 4194304 bytes"
BOMB = gzip.compress(TOO_LARGE)
# These two kilobytes would be a gigabyte before they could be counted.
TWICE = gzip.compress(gzip.compress(b" " * 2**20))
BODIES: dict[str, tuple[Reply, str]] = {
    "compressed, unasked": (
        Reply(200, {"Content-Encoding": "gzip", "Content-Type": OCI_INDEX}, BOMB),
        WORDS,
    ),
    "without end": (
        Reply(200, {**ENDLESS, "Content-Type": OCI_INDEX}, TOO_LARGE + b" " * 100_000),
        WORDS,
    ),
    "a redirect without end": (
        Reply(307, {**ENDLESS, "Location": "/elsewhere"}, TOO_LARGE + b" " * 100_000),
        WORDS,
    ),
    **{
        f"compressed: {coding:.12}": (
            Reply(200, {"Content-Encoding": coding, "Content-Type": OCI_INDEX}, TWICE),
            "an encoding other than gzip or deflate",
        )
        for coding in ("gzip, gzip", "br", "zstd", "gzip," * 20)
    },
    # An index that could be read, were its announced length not another one.
    **{
        f"announced with {length}": (
            Reply(200, {"Content-Length": str(length), "Content-Type": OCI_INDEX}, GOOD),
            words,
        )
        for length, words in [
            (len(GOOD) + 1, "connection broken"),
            (len(GOOD) - 1, "is not JSON"),
            (10**12, "connection broken"),
        ]
    },
}


@pytest.mark.parametrize(("reply", "words"), BODIES.values(), ids=list(BODIES))
def test_no_body_is_read_without_measure(reply: Reply, words: str) -> None:
    assert len(BOMB) < 10_000
    assert words in str(refused(reply))


@floods
def test_no_answer_without_end_is_read_without_end(name: str, counts: Counts) -> None:
    """With the http library of today; the host's is in tests/host."""
    check(name)
    counts.survived("answers without end", 1, of=1)


def test_a_body_without_announced_length_is_read_up_to_the_limit() -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {OCI_INDEX}\r\n\r\n".encode()
    with raw_server(head, TOO_LARGE) as url:
        assert WORDS in str(refused(redirect(url)))


def test_a_refusal_without_end_is_a_refusal() -> None:
    """It only explains; the part that is read is enough."""
    words = refusal(403, "DENIED", "no").body

    error = refused(Reply(403, ENDLESS, words + b" " * 200_000))

    assert type(error) is Forbidden
    assert error.message == "no"


def test_a_refusal_of_many_words_is_cut() -> None:
    error = refused(refusal(403, "DENIED", "no " * 20_000))

    assert len(str(error)) < 700


def test_a_token_without_end_is_not_read() -> None:
    token = json_reply({"token": "x" * 100_000})
    with ScriptedServer(Reply()) as server:
        wants_token(server, good(), token=Reply(200, ENDLESS, token.body + b" " * 100_000))
        assert "more than 65536 bytes" in str(failure_of(server))


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([b"Content-Length: %d\r\n\r\n" % len(GOOD), GOOD[:50], GOOD[50:]], "connection broken"),
        ([b"", b"HTTP/1.1 200 OK\r\n\r\n"], "no answer in time"),
    ],
    ids=["stops", "does not begin"],
)
def test_an_answer_that_stops_is_given_up(parts: list[bytes], words: str) -> None:
    first = b"HTTP/1.1 200 OK\r\n" + parts[0] if parts[0] else b""
    impatient = ConnectOptions(retries=Retries(most=0), timeout=(5.0, 0.4))
    with raw_server(first, *parts[1:], pause=3.0) as url:
        assert words in str(refused(redirect(url), options=impatient))


@pytest.mark.filterwarnings("ignore:Exception ignored in")
def test_two_lengths_are_an_error() -> None:
    error = refused(Reply(200, {"Content-Length": "1, 2"}, GOOD))
    gc.collect()  # the http library leaves the connection open; its warning belongs to this test

    assert isinstance(error, RegistryError)


# Waiting

ABSURD = [
    *("1000000000", "9" * 5000, "-5", "-1000000000", "1e9", "inf", "NaN"),
    "Fri, 31 Dec 9999 23:59:59 GMT",
    "Fri, 31 Dec 9999 23:59:59 -2359",
    "Mon, 01 Jan 0001 00:00:00 +2359",
    "Fri, 31 Dec 99999 23:59:59 GMT",
    f"Fri, 31 Dec {10**20} 23:59:59 GMT",
]


@pytest.mark.parametrize("header", ABSURD, ids=range(len(ABSURD)))
@pytest.mark.parametrize("status", [429, 503])
def test_no_registry_makes_anybody_wait_for_more_than_a_minute(
    header: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    patient = ConnectOptions(retries=Retries(most=2))

    refused(Reply(status, {"Retry-After": header}), options=patient)

    assert len(waits) >= 2
    assert 0 < min(waits) <= max(waits) <= 60
