"""Transport: requests carried out safely.

Redirects are followed here rather than by the http library, as credentials must not follow them to
another host, and bodies are read up to a limit only.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import urljoin

import requests
from attrs import evolve
from requests.adapters import HTTPAdapter
from requests.exceptions import (
    ChunkedEncodingError,
    SSLError,
    Timeout,
)
from urllib3.exceptions import HTTPError

from pubtools_mlmerge.addresses import origin
from pubtools_mlmerge.bodies import UNKNOWN_HOST, explain, nameless, read_body
from pubtools_mlmerge.deadlines import Deadlines
from pubtools_mlmerge.errors import RegistryError
from pubtools_mlmerge.exchange import Answer, Options, Request
from pubtools_mlmerge.observe import count_request
from pubtools_mlmerge.retries import RATE_LIMIT, SERVER_FAILED, TRANSIENT, Pauses

LOG = logging.getLogger("pubtools.mlmerge")

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 5
_SOON = 10  # part of the usual wait


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
            # Not all are the library's own: a missing file of authorities, a host that can be none,
            # and what old versions let out of the library below them.
            except (OSError, ValueError, HTTPError) as error:
                if attempt == most or not _is_passing(error):
                    problem = explain(error)
                    raise RegistryError(request.subject, None, problem) from nameless(error)
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
        count_request()
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
