"""The least that merges into many tags: two requests for each, on bare connections, unchecked."""

from __future__ import annotations

import json
import os
import ssl
import threading
from concurrent.futures import Future
from contextlib import closing
from http.client import HTTPSConnection

from benchmarks.sides import THREADS, Work
from benchmarks.world import LIST


def by_least(work: Work) -> None:
    """Merge in threads with a connection each, where nothing can go wrong."""
    trusted = ssl.create_default_context(cafile=os.environ["REQUESTS_CA_BUNDLE"])
    source: Future[bytes] = Future()
    tags = iter(work.destinations)

    def merge(*, first: bool) -> None:
        with closing(HTTPSConnection(work.site.host, context=trusted)) as connection:
            if first:
                source.set_result(_ask(connection, "GET", work, work.source))
            while tag := next(tags, None):
                old = json.loads(_ask(connection, "GET", work, tag))
                new = json.loads(source.result())
                new["manifests"].append(old["manifests"][-1])
                _ask(connection, "PUT", work, tag, json.dumps(new))

    threads = [threading.Thread(target=merge, kwargs={"first": not n}) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _ask(
    connection: HTTPSConnection, method: str, work: Work, reference: str, body: str | None = None
) -> bytes:
    repository, _, tag = reference[len(work.site.host) + 1 :].partition(":")
    headers = {"Accept" if body is None else "Content-Type": LIST}
    connection.request(method, f"/v2/{repository}/manifests/{tag}", body, headers)
    return connection.getresponse().read()
