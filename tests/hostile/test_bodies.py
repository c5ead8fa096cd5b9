"""Answers that are too large, too slow or never end, and absurdly long waits."""

from __future__ import annotations

import gc
import gzip
import time

import pytest

from pubtools_mlmerge.core.manifests import OCI_INDEX
from pubtools_mlmerge.errors import Forbidden, RegistryError
from pubtools_mlmerge.registry.http import ConnectOptions, Retries
from tests.hostile.helpers import (
    GOOD,
    TOO_LARGE,
    failure_of,
    good,
    refused,
    wants_token,
)
from tests.scripted import (
    Reply,
    ScriptedServer,
    json_reply,
    raw_server,
    redirect,
    refusal,
)

ENDLESS = {"Content-Length": str(10**12)}
WORDS = "more than 4194304 bytes"


def test_a_body_that_was_compressed_unasked_is_counted_decoded() -> None:
    bomb = gzip.compress(TOO_LARGE)
    assert len(bomb) < 10_000
    reply = Reply(200, {"Content-Encoding": "gzip", "Content-Type": OCI_INDEX}, bomb)

    assert WORDS in str(refused(reply))


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (len(GOOD) + 1, "connection broken"),
        (len(GOOD) - 1, "is not JSON"),
        (10**12, "connection broken"),
    ],
)
def test_a_length_that_lies_makes_no_document(length: int, words: str) -> None:
    """What comes is an index that could be read, were its announced length not another one."""
    reply = Reply(200, {"Content-Length": str(length), "Content-Type": OCI_INDEX}, GOOD)

    assert words in str(refused(reply))


def test_a_body_without_end_is_read_up_to_the_limit() -> None:
    headers = {"Content-Length": str(10**12), "Content-Type": OCI_INDEX}
    endless = Reply(200, headers, TOO_LARGE + b" " * 100_000)

    assert WORDS in str(refused(endless))


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


def test_a_redirect_without_end_is_not_read() -> None:
    away = Reply(307, {**ENDLESS, "Location": "/elsewhere"}, TOO_LARGE + b" " * 100_000)

    assert WORDS in str(refused(away))


def test_an_answer_that_stops_in_the_middle_is_given_up() -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(GOOD)}\r\n\r\n".encode()
    impatient = ConnectOptions(retries=Retries(most=0), timeout=(5.0, 0.4))
    with raw_server(head, GOOD[:50], GOOD[50:], pause=60.0) as url:
        error = refused(redirect(url), options=impatient)

    assert "connection broken" in str(error)


def test_an_answer_that_does_not_begin_is_given_up() -> None:
    impatient = ConnectOptions(retries=Retries(most=0), timeout=(5.0, 0.4))
    with raw_server(b"", b"HTTP/1.1 200 OK\r\n\r\n", pause=3.0) as url:
        error = refused(redirect(url), options=impatient)

    assert "no answer in time" in str(error)


def test_an_answer_that_was_compressed_twice_is_not_read() -> None:
    """These two kilobytes would be a gigabyte before they could be counted."""
    bomb = gzip.compress(gzip.compress(b" " * 2**20))
    for coding in ("gzip, gzip", "br", "zstd", "gzip," * 20):
        error = refused(Reply(200, {"Content-Encoding": coding, "Content-Type": OCI_INDEX}, bomb))
        assert "in another encoding than gzip or deflate" in str(error)


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
