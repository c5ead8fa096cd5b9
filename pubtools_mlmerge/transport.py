"""Transport: requests carried out safely.

Redirects are followed here rather than by the http library, as credentials must not follow them to
another host, and bodies are read up to a limit only.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from http.cookiejar import DefaultCookiePolicy
from urllib.parse import urljoin

import requests
from attrs import evolve
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from requests.exceptions import (
    ChunkedEncodingError,
    InvalidURL,
    RequestException,
    SSLError,
    Timeout,
)

from pubtools_mlmerge.addresses import origin
from pubtools_mlmerge.errors import RegistryError
from pubtools_mlmerge.exchange import Answer, Options, Request
from pubtools_mlmerge.metering import count_request
from pubtools_mlmerge.retries import RATE_LIMIT, SERVER_FAILED, TRANSIENT, Pauses

LOG = logging.getLogger("pubtools.mlmerge")

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 5
_UNKNOWN_HOST = "Name or service not known"  # the resolver's words
_CHUNK = 64 * 1024
_REFUSED = 400
_LONGEST_REFUSAL = 64 * 1024  # bytes of an error body that are read


class _NoAuth(AuthBase):
    """Keeps the http library from looking for credentials in a netrc file."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Leave the request as it is."""
        return request


class _Session(requests.Session):
    """Leaves redirects alone; the http library would read their bodies, of any size."""

    def get_redirect_target(self, resp: requests.Response) -> None:  # noqa: ARG002 - the library's
        """Say that there is none."""
        return


class Transport:
    """Sends requests, to any host, over one pool of connections; safe from several threads.

    Args:
        options (Options):
            How to connect.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self._lock = threading.Lock()
        self._count = 0
        self._pauses = Pauses()
        self._session = _Session()
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
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
        """Send a request, again where that may help, and follow redirects of what only reads.

        Args:
            request (Request):
                The request.

        Returns:
            Answer: The last answer, whatever its status.

        Raises:
            RegistryError: When no answer came, it is too large, or it leads astray. The cause is
                the http library's error, if there was one.
        """
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
            # Not all are the library's own: a missing file of authorities, a host that can be none.
            except (OSError, ValueError) as error:
                if attempt == most or not _is_passing(error):
                    raise RegistryError(request.subject, None, _explain(error)) from error
                problem, wait = _explain(error), retries.wait(attempt, {})
            else:
                problem, wait = f"HTTP {answer.status}", retries.wait(attempt, answer.headers)
                if answer.status == RATE_LIMIT:  # also where it is not asked again from here
                    self._pauses.set(host, wait)
                is_read = request.method in ("GET", "HEAD")
                may_pass = answer.status in (*TRANSIENT, SERVER_FAILED if is_read else None)
                if attempt == most or not may_pass:
                    return answer
            LOG.info("%s: %s, asking again in %.1f s", request.subject, problem, wait)
            time.sleep(wait)
            attempt += 1

    def _once(self, request: Request) -> Answer:
        count_request()
        with self._lock:
            self._count += 1
        with self._session.request(
            request.method,
            request.url,
            # Undecoded bodies: a small compressed one cannot become a huge one.
            headers={"Accept-Encoding": "identity", **request.headers},
            data=request.content,
            auth=_NoAuth(),
            timeout=self.options.timeout,
            verify=self.options.verify,
            allow_redirects=False,
            stream=True,
        ) as response:
            content = _read(request, response)
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


def _read(request: Request, response: requests.Response) -> bytes:
    """Read up to the limit; of a refusal, which only explains, a part is enough."""
    refused = response.status_code >= _REFUSED
    limit = min(request.limit, _LONGEST_REFUSAL) if refused else request.limit
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


def _is_passing(error: Exception) -> bool:
    """Tell a broken connection, which another attempt may mend, from a wrong one."""
    if isinstance(error, SSLError) or _UNKNOWN_HOST in str(error):
        return False
    return isinstance(error, (requests.exceptions.ConnectionError, Timeout, ChunkedEncodingError))


def _explain(error: Exception) -> str:
    """Say what broke in a few words; the library's own text goes on for lines."""
    text = str(error)
    if isinstance(error, SSLError):
        return f"TLS failed: {text.rpartition('(Caused by ')[2].rstrip(')')}"
    if isinstance(error, InvalidURL) or not isinstance(error, RequestException):
        return text
    if isinstance(error, Timeout):
        return "no answer in time"
    if "Connection refused" in text:
        return "connection refused"
    if _UNKNOWN_HOST in text or "name resolution" in text:
        return "unknown host"
    return f"connection broken ({type(error).__name__})"
