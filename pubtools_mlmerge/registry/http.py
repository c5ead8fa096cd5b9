"""HTTP: addresses, requests and answers, limits, retries and redirects."""

from __future__ import annotations

import ipaddress
import logging
import os
import random
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from functools import lru_cache
from io import BytesIO
from urllib.parse import urljoin, urlsplit

import requests
from attrs import evolve, field, frozen
from requests.adapters import HTTPAdapter
from requests.exceptions import (
    ChunkedEncodingError,
    InvalidURL,
    RequestException,
    SSLError,
    Timeout,
)
from requests.structures import CaseInsensitiveDict
from urllib3.exceptions import HTTPError

from pubtools_mlmerge.core.references import is_host
from pubtools_mlmerge.core.strict_json import LARGEST
from pubtools_mlmerge.errors import InvalidReference, RegistryError, brief
from pubtools_mlmerge.registry.refusals import blank


@frozen
class Address:
    """Where to connect.

    Attributes:
        host (str):
            Host with its port.
        schemes (tuple[str, ...]):
            ``https``, ``http``, or both in the order in which they are tried.
    """

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
    """Tell whether a host is this machine itself."""
    name = urlsplit(f"//{host}").hostname or ""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def origin(url: str) -> tuple[str, str, int | None]:
    """Take scheme, host and port of a URL: what credentials are bound to."""
    if "\\" in url:  # here it is part of the host, for the http library it ends the host
        raise ValueError("a URL has no backslash")
    parts = urlsplit(url)
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    return parts.scheme, (parts.hostname or "").lower(), port


RATE_LIMIT = 429
"""Status code that says "not so fast"."""
SERVER_FAILED = 500
"""Status code of a server that failed; docker-registry says so to who reads a tag being written."""
TRANSIENT = frozenset({RATE_LIMIT, 502, 503, 504})
"""Status codes that say "not now"."""


@frozen(kw_only=True)
class Retries:
    """How often and how patiently a request is repeated.

    Attributes:
        most (int):
            Most repetitions of one request.
        first_wait (float):
            Wait before the first repetition, in seconds; it doubles each time.
        longest_wait (float):
            Longest wait, in seconds, whatever the registry asks for.
    """

    most: int = 4
    first_wait: float = 0.5
    longest_wait: float = 60.0

    def wait(self, attempt: int, headers: Mapping[str, str]) -> float:
        """Tell how long to wait.

        Args:
            attempt (int):
                How many repetitions there were already.
            headers (Mapping[str, str]):
                Headers of the refusal; Retry-After is obeyed within bounds.

        Returns:
            float: Seconds, spread at random so that many clients do not come back at once.
        """
        backoff = self.first_wait * float(2**attempt)
        asked = _retry_after(headers.get("Retry-After", ""))
        spread = backoff * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing
        return min(max(spread, asked), self.longest_wait)


def _retry_after(header: str) -> float:
    """Read seconds or a date (RFC 9110, section 10.2.3); anything else asks for nothing."""
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


class Pauses:
    """Until when registries want to be left alone; a rate limit holds for all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until: dict[str, float] = {}

    def set(self, host: str, seconds: float) -> None:
        """Leave a registry alone for some time."""
        until = time.monotonic() + seconds
        with self._lock:
            self._until[host] = max(until, self._until.get(host, until))

    def left(self, host: str) -> float:
        """Tell how long a registry is still to be left alone."""
        with self._lock:
            left = self._until.get(host, 0.0) - time.monotonic()
        return left * random.uniform(1.0, 1.1) if left > 0 else 0.0  # noqa: S311 - as above


@frozen(kw_only=True, eq=False, repr=False)
class Request:
    """One request.

    Attributes:
        method (str):
            HTTP method.
        url (str):
            Absolute URL.
        subject (str):
            What errors and log lines call it, such as the reference.
        headers (Mapping[str, str]):
            Headers; never logged.
        content (bytes | None):
            Body to send.
        limit (int):
            Most bytes that the body of the answer may have.
        repeatable (bool):
            Whether it is sent again after a passing failure.
    """

    method: str
    url: str
    subject: str
    headers: Mapping[str, str] = field(factory=dict)
    content: bytes | None = None
    limit: int = LARGEST
    repeatable: bool = True


@frozen
class Answer:
    """What came back.

    Attributes:
        status (int):
            HTTP status code.
        headers (Mapping[str, str]):
            Headers; names are found in any case.
        content (bytes):
            The body.
        url (str):
            Where the answer came from, after redirects.
        reason (str):
            The status in words.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    content: bytes = field(repr=False)
    url: str = field(repr=False)
    reason: str = ""

    @property
    def is_success(self) -> bool:
        """Whether the status says that the request was carried out."""
        return 200 <= self.status < 300  # noqa: PLR2004 - status codes are their own names

    def without(self, secrets: Iterable[str]) -> Answer:
        """Take out what a registry might echo of a login, before it ends up in an error."""
        hidden = list(secrets)
        text = blank(self.content.decode("utf-8", "surrogateescape"), hidden)
        return evolve(
            self.without_in_headers(hidden),
            content=text.encode("utf-8", "surrogateescape"),
            reason=blank(self.reason, hidden),
            url=blank(self.url, hidden),
        )

    def without_in_headers(self, secrets: Iterable[str]) -> Answer:
        """Take out what a registry might echo of a login in a header that an error may quote."""
        hidden = list(secrets)
        cleaned = {name: blank(value, hidden) for name, value in self.headers.items()}
        if cleaned == dict(self.headers):
            return self
        return evolve(self, headers=CaseInsensitiveDict(cleaned))

    def as_http_error(self) -> requests.exceptions.HTTPError:
        """Tell callers that know the http library what happened."""
        response = requests.Response()
        response.status_code = self.status
        response.headers.update(self.headers)
        # The server's words, which a traceback shows: nothing in them may steer a terminal.
        response.reason = brief(self.reason)
        # The query of a storage URL is its signature.
        response.url = brief(self.url.partition("?")[0])
        response.raw = BytesIO(self.content)
        try:
            response.raise_for_status()
        except requests.exceptions.HTTPError as error:
            return error
        message = f"{self.status} unexpected answer for url: {response.url}"
        return requests.exceptions.HTTPError(message, response=response)


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
            Seconds that the body of one answer may take as a whole.
        retries (Retries):
            How refusals and broken connections are repeated.
    """

    ca_bundle: str | None = None
    insecure: bool = False
    timeout: tuple[float, float] = (10.0, 60.0)
    longest: float = 600.0
    retries: Retries = field(factory=Retries)

    @property
    def verify(self) -> bool | str:
        """What the http library is told about certificates."""
        return False if self.insecure else self.ca_bundle or True

    @property
    def prefers_tls(self) -> bool:
        """Whether anything here speaks of certificates, so that TLS is meant."""
        return self.insecure or self.ca_bundle is not None


UNKNOWN_HOST = "Name or service not known"
"""The resolver's words."""
_CHUNK = 64 * 1024
_REFUSED = 400
# Two layers of compression make gigabytes out of a kilobyte before anybody can count them, and what
# else a library may know depends on what is installed beside it.
_CODINGS = frozenset({"", "identity", "gzip", "x-gzip", "deflate"})
_LONGEST_REFUSAL = 64 * 1024  # bytes of an error body that are read


def read_body(request: Request, response: requests.Response, deadlines: Deadlines) -> bytes:
    """Read the body of an answer."""
    with deadlines.over(response) as reading:
        try:
            return _read(request, response)
        except (OSError, ValueError, HTTPError) as error:
            if not reading.is_late:
                raise
            problem = f"the answer takes more than {deadlines.seconds:g} seconds"
            raise RegistryError(request.subject, None, problem) from without_url(error)


def _read(request: Request, response: requests.Response) -> bytes:
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
    # What came compressed, unasked, may be longer than what it was made of.
    if short and request.method != "HEAD" and "Content-Encoding" not in response.headers:
        raise ChunkedEncodingError(f"{len(content)} of {announced} bytes came")
    return bytes(content)


def without_url(error: Exception) -> RequestException:
    """Make the same error without the URL, whose query may be a signature; tracebacks show it."""
    kind = type(error) if isinstance(error, RequestException) else RequestException
    return kind(explain(error))


def explain(error: Exception) -> str:
    """Say what broke in a few words; the library's own text goes on for lines."""
    text = str(error)
    if isinstance(error, SSLError):
        return f"TLS failed: {text.rpartition('(Caused by ')[2].rstrip(')')}"
    if isinstance(error, InvalidURL) or not isinstance(error, (RequestException, HTTPError)):
        return text.partition("?")[0]
    if isinstance(error, Timeout):
        return "no answer in time"
    if "Connection refused" in text:
        return "connection refused"
    if UNKNOWN_HOST in text or "name resolution" in text:
        return "unknown host"
    return f"connection broken ({type(error).__name__})"


_OFTEN = 10.0  # seconds between two looks, at most


class Deadlines:
    """Cuts off what takes too long, by one thread for all; there is none while nothing is read."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._lock = threading.Condition()
        self._open: dict[int, _Reading] = {}
        self._is_watched = False

    @contextmanager
    def over(self, response: requests.Response) -> Iterator[_Reading]:
        """Watch over the reading of an answer."""
        reading = _Reading(response, time.monotonic() + self.seconds)
        with self._lock:
            self._open[id(reading)] = reading
            if not self._is_watched:
                self._is_watched = True
                threading.Thread(target=self._watch, name="mlmerge-deadlines", daemon=True).start()
        try:
            yield reading
        finally:
            with self._lock:
                del self._open[id(reading)]

    def _watch(self) -> None:
        with self._lock:
            while self._open:
                self._lock.wait(min(self.seconds / 4, _OFTEN))
                for reading in self._open.values():
                    if reading.deadline <= time.monotonic():
                        reading.cut_off()
            self._is_watched = False


class _Reading:
    """An answer that is being read."""

    def __init__(self, response: requests.Response, deadline: float) -> None:
        self._response = response
        self.deadline = deadline
        self.is_late = False

    def cut_off(self) -> None:
        """Let whoever reads it find the connection broken."""
        self.is_late = True
        with suppress(OSError, ValueError, AttributeError):  # it may have come to its end just now
            handle = os.dup(self._response.raw.fileno())
            with socket.socket(fileno=handle) as connection:
                connection.shutdown(socket.SHUT_RDWR)


LOG = logging.getLogger("pubtools.mlmerge")

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 5
_SOON = 10  # part of the usual wait


class Transport:
    """Sends requests, to any host, over one pool of connections; safe from several threads."""

    def __init__(self, options: ConnectOptions) -> None:
        self.options = options
        self._lock = threading.Lock()
        self._count = 0
        self._pauses = Pauses()
        self._deadlines = Deadlines(options.longest)
        self._session = requests.Session()
        # Undecoded bodies: a small compressed one cannot become a huge one.
        self._headers = {**self._session.headers, "Accept-Encoding": "identity"}
        # Looking for proxies and authorities in the environment takes a third of each request.
        self._settings_for = lru_cache(
            lambda place: self._session.merge_environment_settings(
                place, {}, stream=True, verify=options.verify, cert=None
            )
        )
        for prefix in ("https://", "http://"):
            self._session.mount(prefix, HTTPAdapter(pool_connections=16, pool_maxsize=32))

    @property
    def count(self) -> int:
        """How many requests were sent, repetitions included."""
        return self._count

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def send(self, request: Request) -> Answer:
        """Send a request, again where that may help, and follow redirects of what only reads."""
        for _ in range(_MOST_REDIRECTS + 1):
            answer = self._persist(request)
            target = answer.headers.get("Location")
            reads = request.method in ("GET", "HEAD")
            if answer.status not in _REDIRECTS or not target or not reads:
                return answer
            request = _redirected(request, target)
        raise RegistryError(request.subject, None, "the registry redirects in circles")

    def _persist(self, request: Request) -> Answer:
        retries = self.options.retries
        most = retries.most if request.repeatable else 0
        host = request.url.partition("://")[2].partition("/")[0]
        pause = self._pauses.left(host)
        if pause:
            time.sleep(pause)
        attempt = 0
        while True:
            try:
                answer = self._once(request)
            # Not all are the library's own: a missing file of authorities, a host that can be none,
            # and what old versions let out of the library below them.
            except (OSError, ValueError, HTTPError) as error:
                if attempt == most or not _is_passing(error):
                    problem = explain(error)
                    raise RegistryError(request.subject, None, problem) from without_url(error)
                problem, wait = explain(error), retries.wait(attempt, {})
            else:
                is_read = request.method in ("GET", "HEAD")
                if answer.status not in (*TRANSIENT, SERVER_FAILED if is_read else None):
                    return answer
                problem, wait = f"HTTP {answer.status}", retries.wait(attempt, answer.headers)
                if _is_soon_over(answer, attempt):
                    wait /= _SOON
                if answer.status == RATE_LIMIT:  # also where it is not asked again from here
                    self._pauses.set(host, wait)
                if attempt == most:
                    return answer
            LOG.info("%s: %s, asking again in %.1f s", request.subject, problem, wait)
            time.sleep(wait)
            attempt += 1

    def _once(self, request: Request) -> Answer:
        with self._lock:
            self._count += 1
        # The rest of what the session does is not wanted: cookies, a login from a URL or a netrc
        # file, and redirects, whose bodies of any size it reads.
        prepared = requests.PreparedRequest()
        prepared.prepare_method(request.method)
        prepared.prepare_url(request.url, None)
        prepared.prepare_headers({**self._headers, **request.headers})
        prepared.prepare_body(request.content, None)
        settings = self._settings_for("/".join(request.url.split("/", 3)[:3]))
        adapter = self._session.get_adapter(request.url)
        with adapter.send(
            prepared,
            timeout=self.options.timeout,
            **settings,  # type: ignore[arg-type]  # what is verified is given, so it is not None
        ) as response:
            content = read_body(request, response, self._deadlines)
            status, headers = response.status_code, response.headers
            return Answer(status, headers, content, request.url, response.reason)


def _redirected(request: Request, target: str) -> Request:
    """Follow, leaving the credentials behind at the border of the origin."""
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
    """Tell what docker-registry says while a tag is written, which takes it some milliseconds."""
    is_asked_to_wait = "Retry-After" in answer.headers
    return answer.status == SERVER_FAILED and attempt == 0 and not is_asked_to_wait


def _is_passing(error: Exception) -> bool:
    """Tell a broken connection, which another attempt may mend, from a wrong one."""
    if isinstance(error, SSLError) or UNKNOWN_HOST in str(error):
        return False
    return isinstance(error, (requests.exceptions.ConnectionError, Timeout, ChunkedEncodingError))
