"""HTTP: addresses, requests and answers, limits, retries and redirects."""

from __future__ import annotations

import http.client
import io
import ipaddress
import logging
import math
import random
import socket
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from urllib.parse import urljoin, urlsplit

import requests
from attrs import define, evolve, field, frozen
from requests.adapters import HTTPAdapter
from requests.exceptions import (
    ChunkedEncodingError,
    InvalidURL,
    RequestException,
    SSLError,
    Timeout,
)
from requests.structures import CaseInsensitiveDict
from urllib3 import PoolManager
from urllib3.exceptions import HTTPError

from pubtools_mlmerge.concurrency import SLICE, STOP
from pubtools_mlmerge.core.references import is_host
from pubtools_mlmerge.core.strict_json import LARGEST
from pubtools_mlmerge.errors import InvalidReference, RegistryError, brief
from pubtools_mlmerge.registry.refusals import (
    Logins,
    explain_answer,
    explain_connection,
    is_final,
    redact,
    shows_secret,
)

LOG = logging.getLogger("pubtools.mlmerge")

# Addresses


@frozen
class Address:
    """A host with its port, and ``https``, ``http`` or both in the order to try them."""

    host: str
    schemes: tuple[str, ...] = field(converter=tuple[str, ...])

    @classmethod
    def parse(cls, text: str, *, prefers_tls: bool = False) -> Address:
        """Read a host, a host with a port, or a URL.

        Plain http is used for an explicit ``http://`` only, and tried on the loopback interface.
        """
        scheme, separator, rest = text.partition("://") if "://" in text else ("", "", text)
        host = rest.rstrip("/")
        shown = scheme + separator + rest.rpartition("@")[2]  # a login stays out of errors
        if separator and scheme not in ("http", "https"):
            raise InvalidReference(shown, "expected http:// or https://")
        if not is_host(host):
            raise InvalidReference(shown, "expected a host with an optional port")
        if separator:
            return cls(host, [scheme])
        if not is_loopback(host):
            return cls(host, ["https"])
        return cls(host, ["https", "http"] if prefers_tls else ["http", "https"])


def is_loopback(host: str) -> bool:
    """Whether a host, with or without a port, is this machine itself."""
    name = urlsplit(f"//{host}").hostname or ""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def origin(url: str) -> tuple[str, str, int | None]:
    """Take scheme, host and port from a URL; a login belongs to one origin."""
    if "\\" in url:  # here it is part of the host, for the http library it ends the host
        raise ValueError("a URL has no backslash")
    parts = urlsplit(url)
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    return parts.scheme, (parts.hostname or "").lower(), port


# Requests and answers


@frozen(kw_only=True, eq=False)
class Request:
    """One request; `subject` names it in errors and log lines, such as the reference."""

    method: str
    url: str
    subject: str
    headers: Mapping[str, str] = field(factory=dict, repr=False)
    content: bytes | None = field(default=None, repr=False)
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

    @property
    def is_success(self) -> bool:
        """Whether the status says that the request was carried out."""
        return 200 <= self.status < 300  # noqa: PLR2004 - status codes are their own names

    def redacted(self, secrets: Iterable[str]) -> Answer:
        """Withhold each part that repeats a secret, before it ends up in an error."""
        known = list(secrets)
        text = self.content.decode("utf-8", "surrogateescape")
        return evolve(
            self.with_redacted_headers(known),
            content=redact(text, known).encode("utf-8", "surrogateescape"),
            reason=redact(self.reason, known),
            url=redact(self.url, known),
        )

    def with_redacted_headers(self, secrets: Iterable[str]) -> Answer:
        """Withhold each header that repeats a secret, as an error may quote it."""
        known = list(secrets)
        if not shows_secret("\n".join(self.headers.values()), known):
            return self
        cleaned = {name: redact(value, known) for name, value in self.headers.items()}
        return evolve(self, headers=CaseInsensitiveDict(cleaned))

    def as_http_error(self) -> requests.exceptions.HTTPError:
        """Make the error that the http library would raise for this answer."""
        response = requests.Response()
        response.status_code = self.status
        response.headers.update(self.headers)
        # A traceback shows the reason: nothing in it may steer a terminal.
        response.reason = brief(self.reason)
        # The query of a storage URL is its signature.
        response.url = brief(self.url.partition("?")[0])
        response.raw = io.BytesIO(self.content)
        try:
            response.raise_for_status()
        except requests.exceptions.HTTPError as error:
            return error
        message = f"{self.status} unexpected answer for url: {response.url}"
        return requests.exceptions.HTTPError(message, response=response)


# Options


_FIRST_INTERVAL = 0.1  # part of the first wait; between requests after a first refusal
_SLOWER, _FASTER = 2.0, 0.8
_GOOD = 20  # answers after which requests become faster again
_MOST_DOUBLINGS = 30


@define
class _Pace:
    lock: threading.Lock = field(factory=threading.Lock)
    next: float = 0.0  # when the next request may go
    interval: float = 0.0  # seconds between requests
    epoch: int = 0  # number of pauses so far
    refusals: int = 0  # pauses since the last good answer
    good: int = 0  # answers since the interval was changed


class Throttle:
    """Lets requests to a host go one after the other once it said that there are too many.

    A pause after an answer 429 is for all. Answers to what was sent before it do not prolong it.
    After it, requests keep an interval, which doubles with each pause and slowly shrinks again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._paces: dict[str, _Pace] = {}

    def wait(self, host: str, max_rate: float | None = None) -> int:
        """Wait until a request may go to a host; return the number of pauses before it."""
        pace, least = self._pace(host), 1 / max_rate if max_rate else 0.0
        while True:
            with pace.lock:
                now, epoch = time.monotonic(), pace.epoch
                at = max(now, pace.next)
                pace.next = at + max(pace.interval, least)
            if at > now:
                STOP.sleep(at - now)
            if pace.epoch == epoch:  # otherwise another thread was refused in the meantime
                return epoch

    def slow_down(
        self, host: str, epoch: int, retries: Retries, headers: Mapping[str, str]
    ) -> float:
        """Pause after a refusal of what `wait` let go; return the seconds until its end."""
        pace = self._pace(host)
        with pace.lock:
            now = time.monotonic()
            if epoch == pace.epoch:
                wait = retries.wait(min(pace.refusals, _MOST_DOUBLINGS), headers)
                spread = wait * random.uniform(1.0, 1.1)  # noqa: S311 - spreads load, guards nothing
                first = retries.first_wait * _FIRST_INTERVAL
                pace.epoch, pace.refusals, pace.good = epoch + 1, pace.refusals + 1, 0
                pace.interval = max(first, min(pace.interval * _SLOWER, retries.longest_wait))
                pace.next = now + min(spread, retries.longest_wait)
            return max(0.0, pace.next - now)

    def speed_up(self, host: str) -> None:
        """Take note of an answer that is no refusal."""
        pace = self._pace(host)
        with pace.lock:
            pace.refusals, pace.good = 0, pace.good + 1
            if pace.good >= _GOOD:
                pace.interval, pace.good = pace.interval * _FASTER, 0

    def _pace(self, host: str) -> _Pace:
        with self._lock:
            return self._paces.setdefault(host, _Pace())


@frozen(kw_only=True)
class Retries:
    """How often and how patiently a request is repeated.

    Attributes:
        most (int):
            Most repetitions of one request.
        first_wait (float):
            Wait before the first repetition, in seconds; it doubles each time.
        longest_wait (float):
            Longest wait, in seconds, even if the registry asks for a longer one.
        patience (float):
            Seconds that one request waits, in all, because of rate limits. Only that ends it then:
            a refusal for the rate is no failure, and is not counted.
    """

    most: int = 4
    first_wait: float = 0.5
    longest_wait: float = 60.0
    patience: float = 600.0

    def wait(self, attempt: int, headers: Mapping[str, str]) -> float:
        """Compute the wait before the next repetition.

        Args:
            attempt (int):
                Number of repetitions so far.
            headers (Mapping[str, str]):
                Headers of the refusal; Retry-After is obeyed within bounds.

        Returns:
            float: Seconds, spread at random so that many clients do not come back at once.
        """
        backoff = self.first_wait * float(2**attempt)
        spread = backoff * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing
        return min(max(spread, _retry_after(headers.get("Retry-After", ""))), self.longest_wait)


def _retry_after(header: str) -> float:
    """Read seconds or a date (RFC 9110, section 10.2.3); 0 for anything else."""
    header = header.strip()
    if header.isascii() and header.isdigit():
        return float(header[:9])
    try:
        until = parsedate_to_datetime(header)
    except (TypeError, ValueError, IndexError, OverflowError):
        return 0.0
    if until.tzinfo is None:
        until = until.replace(tzinfo=timezone.utc)
    return max(0.0, (until - datetime.now(timezone.utc)).total_seconds())


@frozen(kw_only=True)
class ConnectOptions:
    """How to connect.

    Attributes:
        ca_bundle (str | None):
            File with the authorities to trust; none for those of the environment.
        insecure (bool):
            Whether certificates are not verified at all.
        timeout (tuple[float, float]):
            Seconds to connect, and between two parts of an answer.
        longest (float):
            Seconds that one answer may take as a whole, headers and body.
        retries (Retries):
            How refusals and broken connections are repeated.
        max_rate (float | None):
            Most requests per second to one registry; none for as many as it takes.
        throttle (Throttle):
            The pace of requests; clients with the same options share it.
        logins (Logins):
            Which logins were refused; clients with the same options share it.
    """

    ca_bundle: str | None = None
    insecure: bool = False
    timeout: tuple[float, float] = (10.0, 60.0)
    longest: float = 600.0
    retries: Retries = field(factory=Retries)
    max_rate: float | None = None
    throttle: Throttle = field(factory=Throttle, eq=False, repr=False)
    logins: Logins = field(factory=Logins, eq=False, repr=False)

    @property
    def verify(self) -> bool | str:
        """The `verify` argument of the http library."""
        return False if self.insecure else self.ca_bundle or True

    @property
    def prefers_tls(self) -> bool:
        """Whether an option is about certificates, so that TLS is meant."""
        return self.insecure or self.ca_bundle is not None


# Limits

_CHUNK = 64 * 1024
_REFUSED = 400
# Two layers of compression make gigabytes out of a kilobyte before anybody can count them, and
# other codings that a library may know depend on what is installed beside it.
_CODINGS = frozenset({"", "identity", "gzip", "x-gzip", "deflate"})
_LONGEST_REFUSAL = 64 * 1024  # bytes of an error body that are read


def _read_body(request: Request, response: requests.Response) -> bytes:
    refused = response.status_code >= _REFUSED
    limit = min(request.limit, _LONGEST_REFUSAL) if refused else request.limit
    coding = response.headers.get("Content-Encoding", "").strip().lower()
    if coding not in _CODINGS:
        if refused:
            return b""
        problem = f"the answer comes encoded as {coding}, which was not asked for"
        raise RegistryError(request.subject, response.status_code, problem)
    content = bytearray()
    for part in response.iter_content(_CHUNK):
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


class _TooSlow(Exception):
    """An answer took longer than it may as a whole; the http library lets this error pass."""


class _TimedReader(io.RawIOBase):
    """Reads from a connection until a point in time, though each part of the answer is in time."""

    def __init__(self, raw: io.RawIOBase, connection: socket.socket, seconds: float) -> None:
        self._raw = raw
        self._socket = connection
        self._timeout = connection.gettimeout()
        self._end = time.monotonic() + seconds

    def readable(self) -> bool:
        """Say so."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # as it is called
        """Read some bytes, waiting for no longer than the time that is left."""
        silent = math.inf if self._timeout is None else time.monotonic() + self._timeout
        try:
            while True:
                STOP.check()
                now = time.monotonic()
                if now >= self._end:
                    raise _TooSlow
                if now >= silent:
                    raise socket.timeout("timed out")
                self._socket.settimeout(min(SLICE, self._end - now, silent - now))
                with suppress(socket.timeout):
                    return self._socket.recv_into(buffer)
        finally:
            with suppress(OSError):  # closed meanwhile
                self._socket.settimeout(self._timeout)

    def close(self) -> None:
        """Let go of the connection, which may serve another answer."""
        self._raw.close()
        super().close()


class _TimedResponse(http.client.HTTPResponse):
    """An answer whose headers and body have to come within some seconds."""

    seconds: float

    def __init__(
        self,
        sock: socket.socket,
        debuglevel: int = 0,
        method: str | None = None,
        url: str | None = None,
    ) -> None:
        super().__init__(sock, debuglevel, method, url)
        self.fp = io.BufferedReader(_TimedReader(self.fp.detach(), sock, self.seconds))


class _Adapter(HTTPAdapter):
    """Bounds the time of each answer, whether from a registry or through a proxy."""

    def __init__(self, seconds: float) -> None:
        self._response_class = type("Response", (_TimedResponse,), {"seconds": seconds})
        super().__init__(pool_connections=16, pool_maxsize=32)
        self._bound(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **keywords: object) -> PoolManager:
        is_known = proxy in self.proxy_manager
        manager: PoolManager = super().proxy_manager_for(proxy, **keywords)
        if not is_known:
            self._bound(manager)
        return manager

    def _bound(self, manager: PoolManager) -> None:
        """Let connections read by our class, which the http library offers no option for."""
        classes = {}
        for scheme, pool in manager.pool_classes_by_scheme.items():
            plain = pool.ConnectionCls  # type: ignore[attr-defined]  # typed as any class
            timed = type(plain.__name__, (plain,), {"response_class": self._response_class})
            classes[scheme] = type(pool.__name__, (pool,), {"ConnectionCls": timed})
        manager.pool_classes_by_scheme = classes


# Sending

_UNKNOWN_HOST = "Name or service not known"  # the resolver's words
_RATE_LIMIT = 429
_SERVER_FAILED = 500  # docker-registry says so while somebody else writes the tag
TRANSIENT = frozenset({_RATE_LIMIT, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SAME_METHOD = frozenset({307, 308})
_MOST_REDIRECTS = 5
_SOON = 10  # part of the usual wait


def without_url(error: Exception) -> RequestException:
    """Make the same error without the URL, whose query may be a signature; tracebacks show it."""
    kind = type(error) if isinstance(error, RequestException) else RequestException
    return kind(explain(error))


def explain(error: Exception) -> str:
    """Say in a few words what broke; the library's own text goes on for lines."""
    text = str(error)
    if isinstance(error, SSLError):
        return f"TLS failed: {text.rpartition('(Caused by ')[2].rstrip(')')}"
    if isinstance(error, InvalidURL) or not isinstance(error, (RequestException, HTTPError)):
        return text.partition("?")[0]
    if isinstance(error, Timeout):
        return "no answer in time"
    if "Connection refused" in text:
        return "connection refused"
    if _UNKNOWN_HOST in text or "name resolution" in text:
        return "unknown host"
    return f"connection broken ({type(error).__name__})"


@cache
def user_agent() -> str:
    """Name this program and its version, as registries see it."""
    try:
        return f"pubtools-mlmerge/{version('pubtools-mlmerge')}"
    except PackageNotFoundError:  # it runs from a directory of its source
        return "pubtools-mlmerge"


class Transport:
    """Sends requests, to any host, over one pool of connections; safe from several threads."""

    def __init__(self, options: ConnectOptions) -> None:
        self.options = options
        self._session = requests.Session()
        # Undecoded bodies: a small compressed one cannot become a huge one.
        self._headers = {
            **self._session.headers,
            "Accept-Encoding": "identity",
            "User-Agent": user_agent(),
        }
        # Looking for proxies and authorities in the environment takes a third of each request.
        self._settings_for = lru_cache(
            lambda place: self._session.merge_environment_settings(
                place, {}, stream=True, verify=options.verify, cert=None
            )
        )
        for prefix in ("https://", "http://"):
            self._session.mount(prefix, _Adapter(options.longest))

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def send(self, request: Request) -> Answer:
        """Send a request, again where that may help, and follow redirects.

        A write is followed within its origin only, and only where it stays the same write.
        """
        for _ in range(_MOST_REDIRECTS + 1):
            answer = self._send_with_retries(request)
            target = answer.headers.get("Location")
            if answer.status not in _REDIRECTS or not target:
                return answer
            if request.method in ("GET", "HEAD"):
                request = _redirected(request, target)
            elif request.method in ("PUT", "POST") and answer.status in _SAME_METHOD:
                moved = _redirected(request, target)
                if origin(moved.url) != origin(request.url):
                    problem = "the registry redirects what is written to another host"
                    raise RegistryError(request.subject, answer.status, problem)
                request = moved
            else:
                return answer
        raise RegistryError(request.subject, None, "the registry redirects in circles")

    def _send_with_retries(self, request: Request) -> Answer:
        retries = self.options.retries
        most = retries.most if request.repeatable else 0
        host = request.url.partition("://")[2].partition("/")[0]
        throttle, attempt, paused = self.options.throttle, 0, 0.0
        while True:
            epoch = throttle.wait(host, self.options.max_rate)
            try:
                answer = self._send_once(request)
            # Not all are the library's own: a missing file of authorities, a malformed host name,
            # and errors of the library below, which old versions let out.
            except (OSError, ValueError, HTTPError) as error:
                problem, wait = self._explain(error, request.url), retries.wait(attempt, {})
                if attempt == most or not _is_transient(error):
                    raise RegistryError(request.subject, None, problem) from without_url(error)
            else:
                if answer.status == _RATE_LIMIT:  # nothing was done, so this was no try
                    wait = throttle.slow_down(host, epoch, retries, answer.headers)
                    paused += wait
                    if paused > retries.patience:
                        return answer
                    LOG.info("%s: HTTP 429, asking again in %.1f s", request.subject, wait)
                    continue
                throttle.speed_up(host)
                reads = request.method in ("GET", "HEAD")
                if answer.status not in (*TRANSIENT, _SERVER_FAILED if reads else None):
                    return answer
                problem, wait = f"HTTP {answer.status}", retries.wait(attempt, answer.headers)
                if _is_soon_over(answer, attempt):
                    wait /= _SOON
                if attempt == most:
                    return answer
            LOG.info("%s: %s, asking again in %.1f s", request.subject, problem, wait)
            STOP.sleep(wait)
            attempt += 1

    def _explain(self, error: Exception, url: str) -> str:
        try:
            settings = self._settings_for(_place(url))
        except ValueError:  # the URL itself is malformed
            return explain(error)
        known = explain_connection(error, url, settings["proxies"], settings["verify"])
        return known or explain(error)

    def _send_once(self, request: Request) -> Answer:
        STOP.check()
        # The rest of what the session does is not wanted: cookies, a login from a URL or a netrc
        # file, and redirects, whose bodies of any size it reads.
        prepared = requests.PreparedRequest()
        prepared.prepare_method(request.method)
        prepared.prepare_url(request.url, None)
        prepared.prepare_headers({**self._headers, **request.headers})
        prepared.prepare_body(request.content, None)
        settings = self._settings_for(_place(request.url))
        adapter = self._session.get_adapter(request.url)
        try:
            with adapter.send(
                prepared,
                timeout=self.options.timeout,
                **settings,  # type: ignore[arg-type]  # `verify` is given, so it is not None
            ) as response:
                content = _read_body(request, response)
                status, headers = response.status_code, response.headers
                problem = explain_answer(status, headers, request.url, settings["proxies"])
                if problem is not None:
                    raise RegistryError(request.subject, status, problem)
                return Answer(status, headers, content, request.url, response.reason)
        except _TooSlow as error:
            problem = f"the answer takes more than {self.options.longest:g} seconds"
            raise RegistryError(request.subject, None, problem) from error


def _place(url: str) -> str:
    """Take scheme, host and port from a URL, as they are written."""
    return "/".join(url.split("/", 3)[:3])


def _redirected(request: Request, target: str) -> Request:
    """Follow a redirect; credentials do not go to another origin."""
    try:
        url = urljoin(request.url, target)
        here, there = origin(request.url), origin(url)
    except ValueError as error:
        raise RegistryError(request.subject, None, "the registry redirects nowhere") from error
    if there[0] not in ("https", here[0]):
        raise RegistryError(request.subject, None, "the registry redirects to plain http")
    headers: Mapping[str, str] = request.headers
    if here != there:
        headers = {name: value for name, value in headers.items() if name != "Authorization"}
    return evolve(request, url=url, headers=headers)


def _is_soon_over(answer: Answer, attempt: int) -> bool:
    """Whether it looks like docker-registry while a tag is written, which takes milliseconds."""
    is_asked_to_wait = "Retry-After" in answer.headers
    return answer.status == _SERVER_FAILED and attempt == 0 and not is_asked_to_wait


def _is_transient(error: Exception) -> bool:
    """Whether another attempt may succeed, as after a broken connection."""
    if isinstance(error, SSLError) or _UNKNOWN_HOST in str(error) or is_final(error):
        return False
    return isinstance(error, (requests.exceptions.ConnectionError, Timeout, ChunkedEncodingError))
