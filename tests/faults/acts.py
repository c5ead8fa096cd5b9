"""What happens to an exchange when it goes wrong."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from http import HTTPStatus

from attrs import evolve

from pubtools_mlmerge.core.manifests import digest_of
from tests.faults.proxy import Exchange, Response
from tests.peers import EVERY_TYPE

_PIECES = 6
_PAUSE = 0.004  # seconds between the pieces
_MISSING = 20  # bytes that are announced and do not come
_DIGEST = "Docker-Content-Digest"


def refuse(exchange: Exchange, status: int, headers: Mapping[str, str] | None = None) -> None:
    """Refuse as a server in front of the registry does."""
    body = f"<html><h1>{status} {HTTPStatus(status).phrase}</h1></html>\n".encode()
    exchange.answer(Response(status, {"Content-Type": "text/html", **(headers or {})}, body))


def go_down(exchange: Exchange) -> None:
    exchange.proxy.collapse()
    exchange.reset()


def reset_amid_request(exchange: Exchange) -> None:
    exchange.stream.read(exchange.length // 2)
    exchange.reset()


def reset_amid_answer(exchange: Exchange) -> None:
    exchange.is_open = False
    head, body = exchange.encoded(exchange.forward())
    exchange.send(head + body[: len(body) // 2])
    exchange.reset()


def reset_when_done(exchange: Exchange) -> None:
    exchange.forward()
    exchange.reset()


def drip(exchange: Exchange) -> None:
    content = b"".join(exchange.encoded(exchange.forward()))
    size = -(-len(content) // _PIECES)
    for start in range(0, len(content), size):
        exchange.send(content[start : start + size])
        threading.Event().wait(_PAUSE)


def stall(exchange: Exchange) -> None:
    exchange.body()
    exchange.outwait()


def stall_when_done(exchange: Exchange) -> None:
    exchange.forward()
    exchange.outwait()


def truncate(exchange: Exchange) -> None:
    exchange.is_open = False
    exchange.send(b"".join(exchange.encoded(exchange.forward(), more=_MISSING)))


def mislead(exchange: Exchange) -> None:
    response = exchange.forward()
    headers = {**response.headers, _DIGEST: digest_of(b"something else")}
    exchange.answer(evolve(response, headers=headers))


def lag(exchange: Exchange, reads: int) -> None:
    """Store what is written, and show what was there before for some reads more."""
    target, left = exchange.seen.target, reads
    exchange.headers = {**exchange.headers, "accept": EVERY_TYPE}
    before = exchange.forward(method="GET")

    def show_old(later: Exchange) -> bool:
        nonlocal left
        if later.seen.target != target or later.seen.method not in ("GET", "HEAD") or left == 0:
            return False
        left -= 1
        later.answer(before)
        return True

    exchange.proxy.later.append(show_old)
    exchange.relay()


def expire(exchange: Exchange) -> None:
    """Take the token of this request for expired, now and later."""
    expired = exchange.seen.authorization

    def refuse_it(later: Exchange) -> bool:
        if later.seen.authorization != expired or later.seen.what in ("token", "referrers"):
            return False
        challenge(later)
        return True

    exchange.proxy.later.append(refuse_it)
    challenge(exchange)


def challenge(exchange: Exchange) -> None:
    """Refuse as the registry does where there is no token at all."""
    response = exchange.forward(authorized=False)
    assert response.status == 401
    exchange.answer(response)


def fail_when_done(exchange: Exchange) -> None:
    exchange.forward()
    refuse(exchange, 500)


def pretend(exchange: Exchange) -> None:
    """Say that it is stored, and store nothing."""
    headers = {"Location": exchange.seen.target, _DIGEST: digest_of(exchange.body())}
    exchange.answer(Response(201, headers))
