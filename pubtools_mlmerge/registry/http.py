"""HTTP: addresses, requests and answers, limits, retries and redirects."""

from __future__ import annotations

import http.client
import io
import logging
import math
import os
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from functools import cache, lru_cache, partial, partialmethod
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import requests
from attrs import define, evolve, field, frozen
from requests.adapters import HTTPAdapter
from requests.exceptions import ChunkedEncodingError
from requests.utils import select_proxy
from urllib3 import PoolManager
from urllib3.exceptions import HTTPError

from pubtools_mlmerge.concurrency import SLICE, STOP
from pubtools_mlmerge.core.references import is_loopback
from pubtools_mlmerge.core.strict_json import LARGEST
from pubtools_mlmerge.errors import OutOfTime, RegistryError, Unauthorized, brief
from pubtools_mlmerge.registry.connections import (
    explain,
    explain_refusal,
    is_transient,
    name_proxy,
    without_url,
)

LOG = logging.getLogger("pubtools.mlmerge")

# Addresses


def origin(url: str) -> tuple[str, str, int | None]:
    """Take scheme, host and port from a URL; a login belongs to one origin."""
    if "\\" in url:  # a backslash is part of the host here, and ends it for the http library
        raise ValueError("a URL has no backslash")
    parts = urlsplit(url)
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    return parts.scheme, (parts.hostname or "").lower(), port


# Requests and answers


@frozen(eq=False)
class Stream:
    """A body of known length, read from the start each time it is sent."""

    length: int
    begin: Callable[[], Iterator[bytes]]

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[bytes]:
        return self.begin()


@frozen(kw_only=True, eq=False)
class Request:
    """One request; `subject` names it in errors and log lines, such as the reference."""

    method: str
    url: str
    subject: str
    headers: Mapping[str, str] = field(factory=dict, repr=False)
    content: bytes | Stream | None = field(default=None, repr=False)
    is_streamed: bool = False  # whether the body of the answer is read while it comes
    limit: int = LARGEST  # bytes of the answer's body
    repeatable: bool = True  # whether it is sent again after a transient failure


@frozen
class Answer:
    """The answer to a request; `url` is where it came from, after redirects."""

    status: int
    headers: Mapping[str, str] = field(repr=False)  # found in any case
    content: bytes = field(repr=False)
    url: str = field(repr=False)
    reason: str = ""
    parts: Iterable[bytes] = field(default=(), repr=False, eq=False)  # of a streamed body

    @property
    def is_success(self) -> bool:
        """Whether the request was carried out."""
        return self.status // 100 == 2  # noqa: PLR2004 - status codes are their own names

    def as_http_error(self) -> requests.exceptions.HTTPError:
        """Make the error that the http library would raise for this answer."""
        response = requests.Response()
        response.status_code, response.raw = self.status, io.BytesIO(self.content)
        response.headers.update(self.headers)
        # A traceback shows both: nothing may steer a terminal, and a query may be a signature.
        response.reason, response.url = brief(self.reason), brief(self.url.partition("?")[0])
        kind = {4: "Client Error", 5: "Server Error"}.get(self.status // 100, "Unexpected Answer")
        message = f"{self.status} {kind}: {response.reason} for url: {response.url}"
        return requests.exceptions.HTTPError(message, response=response)


# Options


_FIRST_INTERVAL = 0.1  # part of the first wait; between requests after a first refusal
_SLOWER, _FASTER, _GOOD = 2.0, 0.8, 20  # faster again after that many good answers
_MOST_DOUBLINGS = 30


@define
class Pace:
    """Limits the rate of requests to one host, for all threads.

    After a 429 all requests pause; answers to what was sent before that do not prolong it. Then
    they keep an interval, which doubles with each pause after a good answer and slowly shrinks.
    """

    _lock: threading.Lock = field(factory=threading.Lock)
    _next: float = 0.0  # when the next request may go
    _interval: float = 0.0  # seconds between requests
    _epoch: int = 0  # number of pauses so far
    _refusals: int = 0  # pauses since the last good answer
    _good: int = 0  # answers since the interval was changed

    def wait(self, least: float, sleep: Callable[[float], None]) -> tuple[int, float]:
        """Wait until a request may go; return the pauses before it, and seconds lost to a limit."""
        waited = 0.0
        while True:
            with self._lock:
                now, epoch, is_refused = time.monotonic(), self._epoch, self._refusals > 0
                at = max(now, self._next)
                self._next = at + max(self._interval, least)
            if at > now:
                sleep(at - now)
                waited += at - now if is_refused else 0.0  # else it just waits for its turn
            if self._epoch == epoch:  # otherwise another thread was refused in the meantime
                return epoch, waited

    def slow_down(self, epoch: int, retries: Retries, headers: Mapping[str, str]) -> float:
        """Pause after a 429 to what `wait` let go; return the seconds until the pause ends."""
        with self._lock:
            now = time.monotonic()
            if epoch == self._epoch:
                wait = retries.wait(self._refusals, headers)
                spread = wait * random.uniform(1.0, 1.1)  # noqa: S311 - spreads load, guards nothing
                first = retries.first_wait * _FIRST_INTERVAL
                if not self._refusals:  # otherwise it was the first one after a pause
                    self._interval = max(first, min(self._interval * _SLOWER, retries.longest_wait))
                self._epoch, self._refusals, self._good = epoch + 1, self._refusals + 1, 0
                self._next = now + min(spread, retries.longest_wait)
            return max(0.0, self._next - now)

    def speed_up(self) -> None:
        """Count an answer that is not a 429."""
        with self._lock:
            self._refusals, self._good = 0, self._good + 1
            if self._good >= _GOOD:
                self._interval, self._good = self._interval * _FASTER, 0


@define
class LoginState:
    """Whether a login is right, as far as it was tried at one place; for all threads."""

    lock: threading.Lock = field(factory=threading.Lock)
    is_accepted: bool = False
    refusal: Unauthorized | None = None


@define
class Shared:
    """What clients know of registries: how fast each may be asked, and refused logins."""

    _paces: dict[str, Pace] = field(factory=dict, init=False)
    _logins: dict[tuple[str, Hashable], LoginState] = field(factory=dict, init=False)

    def pace(self, host: str) -> Pace:
        """Return the pace of requests to a host."""
        return self._paces.setdefault(host, Pace())

    def login(self, place: str, login: Hashable) -> LoginState:
        """Return what is known of a login at a place."""
        return self._logins.setdefault((place, login), LoginState())


@frozen(kw_only=True)
class Retries:
    """How often and how patiently a request is repeated.

    Attributes:
        most (int):
            Most repetitions of one request; refusals for the rate (429) do not count.
        first_wait (float):
            Seconds before the first repetition; they double each time.
        longest_wait (float):
            Most seconds, even if the registry asks for more.
        patience (float):
            Seconds that one request waits, in all, because of rate limits.
    """

    most: int = 4
    first_wait: float = 0.5
    longest_wait: float = 60.0
    patience: float = 600.0

    def wait(self, attempt: int, headers: Mapping[str, str]) -> float:
        """Compute the seconds before the next repetition, at random, or as Retry-After asks."""
        backoff = self.first_wait * 2.0 ** min(attempt, _MOST_DOUBLINGS)
        spread = backoff * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing
        return min(max(spread, _retry_after(headers.get("Retry-After", ""))), self.longest_wait)


def _retry_after(header: str) -> float:
    """Read seconds or a date (RFC 9110, section 10.2.3); 0 for anything else."""
    header = header.strip()
    if header.isascii() and header.isdigit():
        return float(header[:9])
    with suppress(TypeError, ValueError, IndexError, OverflowError):
        until = parsedate_to_datetime(header)
        until = until if until.tzinfo else until.replace(tzinfo=timezone.utc)
        return max(0.0, (until - datetime.now(timezone.utc)).total_seconds())
    return 0.0


def _certs_d() -> tuple[Path, ...]:
    home = os.path.expanduser("~")  # noqa: PTH111 - no error for a user without a home
    places = (Path(home, ".config/containers"), Path("/etc/containers"), Path("/etc/docker"))
    return tuple(place / "certs.d" for place in places if place.is_absolute())


@frozen(kw_only=True)
class ConnectOptions:
    """How to connect.

    Attributes:
        ca_bundle (str | None):
            Authorities to trust; none for those of the environment and of certs.d.
        client (tuple[str, str] | None):
            Files with a certificate to show to registries and its key; none for those of certs.d.
        certs_d (tuple[pathlib.Path, ...]):
            Directories that may have one for a registry, with its certificates; the first counts.
        insecure (bool):
            Whether certificates are not verified.
        timeout (tuple[float, float]):
            Seconds to connect, and between two parts of an answer.
        longest (float):
            Seconds that a request may take to be sent, and its answer to come, headers and body.
        silence (float):
            Seconds without progress after which copying a blob is given up; it may take any time.
        retries (Retries):
            How refusals and broken connections are repeated.
        max_rate (float | None):
            Most requests per second to one registry.
        time_limit (float | None):
            Seconds, from now on, for all requests together; then they fail with `OutOfTime`.
        shared (Shared | None):
            Where clients note the pace of each host and refused logins, to share it; none for a
            client of its own.
    """

    ca_bundle: str | None = None
    client: tuple[str, str] | None = None
    certs_d: tuple[Path, ...] = field(factory=_certs_d, eq=False, repr=False)
    insecure: bool = False
    timeout: tuple[float, float] = (10.0, 60.0)
    longest: float = 600.0
    silence: float = 300.0
    retries: Retries = field(factory=Retries)
    max_rate: float | None = None
    time_limit: float | None = None
    shared: Shared | None = field(default=None, eq=False, repr=False)
    ends: float = field(init=False, eq=False, repr=False)

    @ends.default
    def _ends(self) -> float:
        return time.monotonic() + (self.time_limit or math.inf)

    @property
    def verify(self) -> bool | str:
        """The `verify` argument of the http library."""
        return False if self.insecure else self.ca_bundle or True

    @property
    def prefers_tls(self) -> bool:
        """Whether an option is about certificates, so that TLS is meant."""
        return self.insecure or self.ca_bundle is not None or self.client is not None


# Limits

_CHUNK = 64 * 1024
PIECE = 1024 * 1024  # bytes of a blob that are in memory at a time
_GRACE = 10.0  # seconds after the end of a run, to clean up
_REFUSED = 400
# Two layers of compression make gigabytes out of a kilobyte before anybody can count them, and
# other codings that a library may know depend on what is installed beside it.
_CODINGS = frozenset({"", "identity", "gzip", "x-gzip", "deflate"})
_LONGEST_REFUSAL = 64 * 1024  # bytes of an error body that are read
_MOST_AROUND = 1024 * 1024  # bytes of headers, sizes of chunks and trailers, beyond those of a body
_SHORT_LINE = 64  # what a line of these counts as, at least: a byte in each chunk is no answer


def _read_body(request: Request, response: requests.Response) -> bytes:
    refused = response.status_code >= _REFUSED
    limit = min(request.limit, _LONGEST_REFUSAL) if refused else request.limit
    coding = response.headers.get("Content-Encoding", "").strip().lower()
    if coding not in _CODINGS:
        if refused:
            return b""
        problem = "the answer has an encoding other than gzip or deflate"
        raise RegistryError(request.subject, response.status_code, problem)
    content = bytearray()
    # Compression makes up to a thousand bytes of one.
    for part in response.iter_content(_CHUNK // 8 if coding else _CHUNK):
        content += part
        if len(content) > limit:
            if refused:
                return bytes(content[:limit])
            problem = f"the answer has more than {limit} bytes"
            raise RegistryError(request.subject, response.status_code, problem)
    announced = response.headers.get("Content-Length", "")
    # urllib3 1.26 takes a body that ends early for a whole one.
    short = announced.isdecimal() and len(content) < float(announced)
    # A body that came compressed, unasked, may be longer than its content.
    if short and request.method != "HEAD" and "Content-Encoding" not in response.headers:
        raise ChunkedEncodingError(f"{len(content)} of {announced} bytes came")
    return bytes(content)


class _Unreadable(Exception):
    """Why an answer is not read to its end; the http library lets this error pass."""


def _in_slices(
    link: socket.socket, transfer: Callable[[], int], silence: float, end: float = math.inf
) -> int:
    """Transfer some bytes, in slices so that a signal can end the program."""
    usual, silent = link.gettimeout(), time.monotonic() + silence
    try:
        while True:
            STOP.check()
            now = time.monotonic()
            if now >= end:
                raise _Unreadable
            if now >= silent:
                raise socket.timeout("timed out")
            link.settimeout(min(SLICE, end - now, silent - now))
            # After a timeout TLS needs the same bytes again, which it gets.
            with suppress(socket.timeout):
                return transfer()
    finally:
        with suppress(OSError):  # closed meanwhile
            link.settimeout(usual)


class _TimedReader(io.RawIOBase):
    """Reads from a connection until a point in time."""

    def __init__(self, raw: io.RawIOBase, link: socket.socket, end: float) -> None:
        self._raw, self._link, self._end = raw, link, end
        self._silence = link.gettimeout() or math.inf

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # as it is called
        receive = partial(self._link.recv_into, buffer)
        return _in_slices(self._link, receive, self._silence, self._end)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _BoundedReader(io.BufferedReader):
    """Bounds everything around a body, which the http libraries read without limit.

    That is headers before the answer ("100 Continue"), sizes of chunks, and trailers.
    """

    _left = _MOST_AROUND

    def readline(self, size: int | None = -1) -> bytes:
        most = self._left + 1
        line = super().readline(most if size is None or size < 0 else min(size, most))
        self._left -= max(len(line), _SHORT_LINE)
        if self._left < 0:
            problem = f"the answer has more than {_MOST_AROUND} bytes around its body"
            raise _Unreadable(problem)
        return line

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0:  # a chunk states a size below zero
            raise _Unreadable("the answer states no valid size")
        content = super().read(size)
        self._left = min(self._left + len(content), _MOST_AROUND)
        return content


class _BoundedResponse(http.client.HTTPResponse):
    """An answer whose headers and body have to come within some seconds, before the run ends."""

    longest: float
    ends: float

    def __init__(self, sock: socket.socket, *others: object, **named: object) -> None:
        super().__init__(sock, *others, **named)  # type: ignore[arg-type]  # passed on as they came
        end = min(time.monotonic() + self.longest, self.ends)
        self.fp = _BoundedReader(_TimedReader(self.fp.detach(), sock, end))


def _send_all(
    connection: http.client.HTTPConnection,
    content: bytes,
    silence: float,
    longest: float,
    ends: float,
) -> None:
    """Send a part of a request."""
    if connection.sock is None:
        connection.connect()
    link, rest = connection.sock, memoryview(content)
    end = min(time.monotonic() + longest, ends)
    while rest:
        rest = rest[_in_slices(link, partial(link.send, rest), silence, end) :]


class _Adapter(HTTPAdapter):
    """Bounds the time of each answer, whether from a registry or through a proxy."""

    def __init__(
        self,
        options: ConnectOptions,
        context: ssl.SSLContext | None = None,
        *,
        streams: bool = False,
    ) -> None:
        longest = math.inf if streams else options.longest
        bounds = {"longest": longest, "ends": options.ends + _GRACE}
        silence = options.silence if streams else options.timeout[1]
        self._context = context
        self._bounded = set[PoolManager]()
        self._methods = {
            "response_class": type("Response", (_BoundedResponse,), bounds),
            "send": partialmethod(_send_all, silence=silence, **bounds),
        }
        super().__init__(pool_connections=16, pool_maxsize=32)
        self._bound(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **keywords: object) -> PoolManager:
        return self._bound(super().proxy_manager_for(proxy, **keywords))

    def _bound(self, manager: PoolManager) -> PoolManager:
        """Make connections use our methods; the http library has no option for it."""
        if manager in self._bounded:
            return manager
        if self._context is not None:
            manager.connection_pool_kw["ssl_context"] = self._context
        classes = {}
        for scheme, pool in manager.pool_classes_by_scheme.items():
            plain = pool.ConnectionCls  # type: ignore[attr-defined]  # typed as any class
            timed = type(plain.__name__, (plain,), self._methods)
            classes[scheme] = type(pool.__name__, (pool,), {"ConnectionCls": timed})
        manager.pool_classes_by_scheme = classes
        self._bounded.add(manager)
        return manager


# Sending

_RATE_LIMIT = 429
_SERVER_FAILED = 500  # docker-registry says so while somebody else writes the tag
TRANSIENT = frozenset({408, _RATE_LIMIT, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 307, 308})  # 303 names another thing (RFC 9110, 15.4.4)
_SAME_METHOD = frozenset({307, 308})
_MOST_REDIRECTS = 5
_SOON = 10  # part of the usual wait


@cache
def user_agent() -> str:
    """Name this program and its version, as registries see it."""
    with suppress(PackageNotFoundError):  # it runs from a directory of its source
        return f"pubtools-mlmerge/{version('pubtools-mlmerge')}"
    return "pubtools-mlmerge"


_USUAL = (("https://", None), ("http://", None))


class Transport:
    """Sends requests, to any host, over one pool of connections; safe from several threads.

    Contexts say, by the beginning of a URL, which certificates count beside the usual ones. Pace
    and refused logins are shared with those who have the same `shared`.
    """

    def __init__(
        self,
        options: ConnectOptions,
        contexts: Iterable[tuple[str, ssl.SSLContext | None]] = _USUAL,
        shared: Shared | None = None,
    ) -> None:
        self.options = options
        self.shared = shared or options.shared or Shared()
        self._session = requests.Session()
        # Undecoded bodies: a small compressed one cannot become a huge one.
        own = {"Accept-Encoding": "identity", "User-Agent": user_agent()}
        self._headers = {**self._session.headers, **own}
        # Looking for proxies and authorities in the environment takes a third of each request.
        self._settings_for = lru_cache(self._read_settings)
        self._streams = requests.Session()
        for prefix, context in contexts:
            self._session.mount(prefix, _Adapter(options, context))
            self._streams.mount(prefix, _Adapter(options, context, streams=True))

    def close(self) -> None:
        """Close the connections."""
        self._session.close()
        self._streams.close()

    def send(self, request: Request) -> Answer:
        """Send a request, with retries; a write follows redirects only within its origin."""
        for _ in range(_MOST_REDIRECTS + 1):
            answer = self._send_with_retries(request)
            moved = _redirected(request, answer)
            if moved is None:
                return answer
            request = moved
        raise RegistryError(request.subject, None, "the registry redirects in circles")

    def _send_with_retries(self, request: Request) -> Answer:
        retries, sleep = self.options.retries, partial(self._sleep, request)
        most = retries.most if request.repeatable else 0
        patience = math.inf if self.options.time_limit else retries.patience
        host = request.url.partition("://")[2].partition("/")[0]
        pace = self.shared.pace(host)
        least = 1 / self.options.max_rate if self.options.max_rate else 0.0
        attempt, paused = 0, 0.0
        while True:
            epoch, waited = pace.wait(least, sleep)
            paused += waited
            try:
                answer = self._send_once(request)
            # Not all are the library's own: a missing file of authorities, a malformed host name,
            # and errors of the library below, which old versions let out.
            except (OSError, ValueError, HTTPError) as error:
                self._time_left(request)
                problem, wait = self._explain(error, request.url), retries.wait(attempt, {})
                if attempt == most or not is_transient(error):
                    cause = without_url(error, problem)
                    raise RegistryError(request.subject, None, problem) from cause
            else:
                if answer.status == _RATE_LIMIT:  # nothing was done, so this was no try
                    wait = pace.slow_down(epoch, retries, answer.headers)
                    if paused + wait > patience:
                        return answer
                    LOG.info("%s: HTTP 429, retrying in %.1f s", request.subject, wait)
                    continue
                pace.speed_up()
                failed = answer.status == _SERVER_FAILED and request.method in ("GET", "HEAD")
                if answer.status not in TRANSIENT and not failed:
                    return answer
                problem, wait = f"HTTP {answer.status}", retries.wait(attempt, answer.headers)
                if failed and not attempt and "Retry-After" not in answer.headers:
                    wait /= _SOON  # it takes milliseconds to write a tag
                if attempt == most:
                    return answer
            LOG.info("%s: %s, retrying in %.1f s", request.subject, problem, wait)
            sleep(wait)
            attempt += 1

    def _time_left(self, request: Request) -> float:
        """Return the time limit of a request; a DELETE may clean up after the run's end."""
        grace = _GRACE if request.method == "DELETE" else 0.0
        left = self.options.ends + grace - time.monotonic()
        if left <= 0:
            raise OutOfTime(request.subject, self.options.time_limit or 0.0)
        return left

    def _sleep(self, request: Request, seconds: float) -> None:
        STOP.sleep(min(seconds, self._time_left(request)))
        self._time_left(request)

    def _read_settings(self, place: str) -> tuple[Mapping[str, object], str]:
        """Return how to send to a place, and the name of the proxy on the way there."""
        settings = self._session.merge_environment_settings(
            place, {}, stream=True, verify=self.options.verify, cert=None
        )
        if is_loopback(place.partition("://")[2]):  # as Go's programs do
            settings["proxies"] = {}
        proxy = select_proxy(place, settings["proxies"])
        return settings, name_proxy(proxy, place) if proxy else ""

    def _explain(self, error: Exception, url: str) -> str:
        try:
            settings, proxy = self._settings_for(_place(url))
        except ValueError:  # the URL itself is malformed, or that of the proxy
            return explain(error, url, "", verify=True)
        return explain(error, url, proxy, settings["verify"])

    def _send_once(self, request: Request) -> Answer:
        STOP.check()
        # The session would do more than we want: cookies, a login from a URL or a netrc
        # file, and redirects, whose bodies of any size it reads.
        prepared = requests.PreparedRequest()
        prepared.prepare_method(request.method)
        prepared.prepare_url(request.url, None)
        prepared.prepare_headers({**self._headers, **request.headers})
        prepared.prepare_body(request.content, None)
        settings, proxy = self._settings_for(_place(request.url))
        session, longest = self._session, self.options.timeout[1]
        if request.is_streamed or isinstance(request.content, Stream):
            session, longest = self._streams, self.options.silence
        adapter = session.get_adapter(request.url)
        left = self._time_left(request)
        timeout = min(self.options.timeout[0], left), min(longest, left)
        with self._in_time(request):
            # `verify` is given, so it is not None.
            response = adapter.send(prepared, timeout=timeout, **settings)  # type: ignore[arg-type]
            status, headers = response.status_code, response.headers
            found = partial(Answer, status, headers, url=request.url, reason=response.reason)
            if request.is_streamed and response.ok and status not in _REDIRECTS:
                return found(b"", parts=self._read_parts(request, response))
            with response:
                content = _read_body(request, response)
            if proxy and request.url.startswith("http://"):
                problem = explain_refusal(proxy, status, headers, request.url)
                if problem is not None:
                    raise RegistryError(request.subject, status, problem)
            return found(content)

    @contextmanager
    def _in_time(self, request: Request) -> Iterator[None]:
        try:
            yield
        except _Unreadable as error:
            self._time_left(request)
            slow = f"no whole answer within {self.options.longest:g} seconds"
            raise RegistryError(request.subject, None, str(error) or slow) from error

    def _read_parts(self, request: Request, response: requests.Response) -> Iterator[bytes]:
        """Read a body as it comes, whatever it says of its encoding: a digest is of these bytes."""
        with response, self._in_time(request):
            try:
                yield from response.raw.stream(PIECE, decode_content=False)
            # The library's own errors are not those of the request that sends these parts on.
            except (OSError, ValueError, HTTPError) as error:
                self._time_left(request)
                problem = self._explain(error, request.url)
                cause = ChunkedEncodingError(problem)
                raise RegistryError(request.subject, None, problem) from cause


def _place(url: str) -> str:
    """Take scheme, host and port from a URL, as they are written."""
    return "/".join(url.split("/", 3)[:3])


def _redirected(request: Request, answer: Answer) -> Request | None:
    """Make the request that a redirect asks for; credentials and writes stay within an origin."""
    target = answer.headers.get("Location")
    reads = request.method in ("GET", "HEAD")
    is_same_write = request.method in ("PUT", "POST") and answer.status in _SAME_METHOD
    if answer.status not in _REDIRECTS or not target or not (reads or is_same_write):
        return None
    try:
        url = urljoin(request.url, target)
        here, there = origin(request.url), origin(url)
    except ValueError as error:
        raise RegistryError(request.subject, None, "the redirect has no valid URL") from error
    if there[0] not in ("https", here[0]):
        raise RegistryError(request.subject, None, "the registry redirects to plain http")
    if here != there and not reads:
        problem = "the registry redirects what is written to another host or scheme"
        raise RegistryError(request.subject, answer.status, problem)
    kept = {n: v for n, v in request.headers.items() if here == there or n != "Authorization"}
    return evolve(request, url=url, headers=kept)


def may_heal(error: RegistryError) -> bool:
    """Whether a transfer that broke off may succeed if repeated."""
    if error.status is None:
        return isinstance(error.__cause__, Exception) and is_transient(error.__cause__)
    return error.status in {*TRANSIENT, _SERVER_FAILED}
