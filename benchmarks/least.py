"""The least that merges into many tags: two requests for each in threads, and nothing checked."""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from http.client import HTTPSConnection
from typing import Callable, Optional

import requests

from benchmarks.sides import THREADS, Work
from benchmarks.world import LIST, PASSWORD, USER
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.registry.auth import parse_challenges

_PATIENCE = 60  # seconds

Ask = Callable[[str, str, Mapping[str, str], Optional[str]], bytes]


def on_connections(work: Work, threads: int = THREADS) -> None:
    """Merge on a bare connection for each thread."""
    trusted = ssl.create_default_context(cafile=os.environ["REQUESTS_CA_BUNDLE"])

    @contextmanager
    def connected() -> Iterator[Ask]:
        with closing(HTTPSConnection(work.site.host, context=trusted)) as connection:

            def ask(method: str, path: str, headers: Mapping[str, str], body: str | None) -> bytes:
                connection.request(method, path, body, headers)
                return connection.getresponse().read()

            yield ask

    _merge(work, connected, threads)


def by_requests(work: Work, threads: int = THREADS) -> None:
    """Merge by a session of the http library for each thread, which looks nothing up."""

    @contextmanager
    def connected() -> Iterator[Ask]:
        with requests.Session() as session:
            session.trust_env, session.verify = False, os.environ["REQUESTS_CA_BUNDLE"]

            def ask(method: str, path: str, headers: Mapping[str, str], body: str | None) -> bytes:
                url = f"{work.site.url}{path}"
                return session.request(method, url, data=body, headers=headers).content

            yield ask

    _merge(work, connected, threads)


def _merge(work: Work, connected: Callable[[], AbstractContextManager[Ask]], threads: int) -> None:
    login = _login(work) if work.site.wants_login else {}
    source: Future[bytes] = Future()
    tags = iter(work.destinations)

    def merge(number: int) -> None:
        with connected() as ask:
            if number == 0:
                source.set_result(ask("GET", _path(work.source), {"Accept": LIST, **login}, None))
            while tag := next(tags, None):
                old = json.loads(ask("GET", _path(tag), {"Accept": LIST, **login}, None))
                new = json.loads(source.result(_PATIENCE))
                new["manifests"].append(old["manifests"][-1])
                ask("PUT", _path(tag), {"Content-Type": LIST, **login}, json.dumps(new))

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(merge, range(threads)))


def _path(reference: str) -> str:
    parsed = Reference.parse(reference)
    return f"/v2/{parsed.repository}/manifests/{parsed.target}"


def _login(work: Work) -> dict[str, str]:
    """Get one token for all tags."""
    references = (work.source, *work.destinations)
    places = {Reference.parse(reference).repository for reference in references}
    refused = requests.get(f"{work.site.url}/v2/", timeout=_PATIENCE)
    (challenge,) = parse_challenges(refused.headers["WWW-Authenticate"])
    asked = challenge.parameters
    scopes = [f"repository:{place}:pull,push" for place in sorted(places)]
    parameters = {"service": asked["service"], "scope": scopes}
    answer = requests.get(asked["realm"], parameters, auth=(USER, PASSWORD), timeout=_PATIENCE)
    return {"Authorization": f"Bearer {answer.json()['token']}"}
