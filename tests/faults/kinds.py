"""The faults: what can happen to an exchange, where, and what must come of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, get_args

from attrs import define, evolve, field, frozen

from tests.faults import acts
from tests.faults.proxy import Exchange, Seen

Mode = Literal["once", "each time", "from then on"]
MODES: tuple[Mode, ...] = get_args(Mode)

_BROKEN = "the request failed: connection (broken|refused)"
_LATE = "no answer in time"
_NEVER = "(?!)"  # matches nothing
ASKED_WAIT = 7
_LOGIN = "not authorized"


@frozen(kw_only=True)
class Fault:
    """One way in which an exchange goes wrong."""

    name: str
    act: Callable[[Exchange], None]
    fits: Callable[[Seen], bool] = lambda _: True
    """Whether it can happen to this request."""
    says: str = _BROKEN
    """What an error of the program then looks like."""
    shows: str = ""
    """What its log must show in any case."""
    heals: bool = True
    """Whether the program must get over it if it happens once."""
    modes: tuple[Mode, ...] = MODES
    waits: float = 0.0
    """How many seconds the answer asks the program to wait."""
    is_limit: bool = False
    """Whether it asks for patience, which other programs have for minutes; so they are spared."""
    is_slow: bool = False
    """Whether only an impatient client gets to the end of it."""

    def __str__(self) -> str:
        return self.name


@define(eq=False)
class Injection:
    """Lets a fault happen at one request of a run: once, to each one like it, or from then on."""

    fault: Fault
    place: str
    mode: Mode
    hits: list[Seen] = field(factory=list)

    def __call__(self, exchange: Exchange) -> None:
        """Handle an exchange."""
        if not self._strikes(exchange):
            exchange.relay()
            return
        self.hits.append(exchange.seen)
        self.fault.act(exchange)

    def _strikes(self, exchange: Exchange) -> bool:
        seen, is_skopeo = exchange.seen, "skopeo" in exchange.headers.get("user-agent", "")
        if not self.fault.fits(seen) or (self.fault.is_limit and is_skopeo):
            return False
        if not self.hits:
            return seen.place == self.place
        return self.mode == "from then on" or (
            self.mode == "each time" and seen.is_like(self.hits[0])
        )


def _is_write(seen: Seen) -> bool:
    return seen.is_write


def _puts_tag(seen: Seen) -> bool:
    return seen.label == "PUT tag"


def _has_token(seen: Seen) -> bool:
    # This registry has no such address, and asks nobody there for a token.
    return seen.authorization.startswith("Bearer ") and seen.what != "referrers"


def _status(status: int, *, heals: bool = True) -> Fault:
    act = partial(acts.refuse, status=status)
    return Fault(name=str(status), act=act, says=rf"\(HTTP {status}\)", heals=heals)


_ONCE: tuple[Mode, ...] = ("once",)

_CONNECTION = (
    Fault(
        name="connection refused",
        act=acts.go_down,
        shows="connection refused",
        modes=("once", "from then on"),
    ),
    Fault(name="reset before it is read", act=Exchange.reset),
    Fault(
        name="reset amid the request",
        act=acts.reset_amid_request,
        fits=lambda seen: seen.method == "PUT",
    ),
    Fault(
        name="reset amid the answer",
        act=acts.reset_amid_answer,
        fits=lambda seen: seen.method == "GET",
    ),
    Fault(name="reset once stored", act=acts.reset_when_done, fits=_is_write),
    Fault(name="truncated answer", act=acts.truncate, fits=lambda seen: seen.method != "HEAD"),
    Fault(name="slow drip", act=acts.drip, says=_NEVER),
    Fault(name="stall", act=acts.stall, says=_LATE, is_slow=True),
    Fault(
        name="stall once stored",
        act=acts.stall_when_done,
        fits=_is_write,
        says=_LATE,
        is_slow=True,
    ),
)
_REFUSALS = (
    evolve(_status(429), is_limit=True),
    evolve(
        _status(429),
        name="429 with Retry-After",
        act=partial(acts.refuse, status=429, headers={"Retry-After": str(ASKED_WAIT)}),
        waits=ASKED_WAIT,
        is_limit=True,
    ),
    _status(500, heals=False),
    _status(502),
    _status(503),
    evolve(
        _status(500, heals=False), name="500 though stored", act=acts.fail_when_done, fits=_is_write
    ),
)
_LOGINS = (
    Fault(
        name="401 without a challenge",
        act=partial(acts.refuse, status=401),
        says=_LOGIN,
        heals=False,
    ),
    # Quay answers so where there is nothing; then the tag turns out to be there after all.
    Fault(name="401", act=acts.challenge, fits=_has_token, says=f"{_LOGIN}|it holds"),
    Fault(name="token expired", act=acts.expire, fits=_has_token, says=_NEVER, modes=_ONCE),
)
_LIES = (
    Fault(
        name="wrong digest header",
        act=acts.mislead,
        fits=lambda seen: seen.what in ("source", "tag", "child", "anchor"),
        says="content has digest|holds sha256:",
        heals=False,
    ),
    Fault(
        name="404 for a tag that is there",
        act=partial(acts.refuse, status=404),
        fits=lambda seen: seen.what == "tag" and not seen.is_write,
        says="it holds",
        modes=("once", "each time"),  # a registry in which the tag is not there at all is none
    ),
    Fault(
        name="stale read", act=partial(acts.lag, reads=1), fits=_puts_tag, says=_NEVER, modes=_ONCE
    ),
    Fault(
        name="stale reads", act=partial(acts.lag, reads=3), fits=_puts_tag, says=_NEVER, modes=_ONCE
    ),
    Fault(
        name="stale for good",
        act=partial(acts.lag, reads=-1),
        fits=_puts_tag,
        says="it holds sha256:",
        heals=False,
        modes=_ONCE,
    ),
    Fault(
        name="201 for a tag that is not stored", act=acts.pretend, fits=_puts_tag, says="it holds"
    ),
    Fault(
        name="201 for a part that is not stored",
        act=acts.pretend,
        fits=lambda seen: seen.is_write and not _puts_tag(seen),
        says="lacks sha256:|not found|it holds",
        heals=False,
    ),
)
FAULTS = (*_CONNECTION, *_REFUSALS, *_LOGINS, *_LIES)
NAMED = {fault.name: fault for fault in FAULTS}
