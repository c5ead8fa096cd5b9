"""One blob from a registry into another: sent on as it comes, checked, and tried again."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

from requests.exceptions import HTTPError

from pubtools_mlmerge.concurrency import STOP, Watch
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import RegistryError
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.registry.http import PIECE, Stream, may_heal

LOG = logging.getLogger("pubtools.mlmerge")

_NOT_FOUND, _OUT_OF_ORDER = 404, 416


def stream_blob(  # noqa: PLR0913 - the two sides, and two options
    source_client: RegistryClient,
    source: Reference,
    destination_client: RegistryClient,
    destination: Reference,
    *,
    size: int,
    watch: Watch,
) -> None:
    """Copy the blob of a digest; a few megabytes of it are in memory at a time.

    After a break all of it is sent again. Content of another digest or size never arrives whole,
    and an upload that is given up is cancelled.
    """
    options, attempt, shown = destination_client.options, 0, 0

    def read() -> Generator[bytes, None, None]:
        nonlocal shown
        count = 0
        for part in _read_ahead(source_client.read_blob(source, size)):
            yield part
            count += len(part)
            while shown < count // PIECE:
                advance()
                shown += 1

    with watch(f"{destination.name} {source.digest[:19]}, MiB", -(-size // PIECE)) as advance:
        while True:
            upload = destination_client.begin_upload(destination)
            try:
                with ExitStack() as begun:  # a failed request may hold on to what it was sending
                    content = Stream(size, lambda: begun.enter_context(closing(read())))
                    destination_client.finish_upload(destination, upload, content)
            except BaseException as error:
                with STOP.finishing(cleans=True):
                    destination_client.cancel_upload(destination, upload)
                if attempt == options.retries.most or not _may_heal(error, destination):
                    raise
                problem, wait = error, options.retries.wait(attempt, _headers_of(error))
            else:
                return
            LOG.info("%s, copying it anew in %.1f s", problem, wait)
            STOP.sleep(min(wait, max(0.0, options.ends - time.monotonic())))
            attempt += 1


def _read_ahead(parts: Iterator[bytes]) -> Iterator[bytes]:
    """Read and hash the next part in another thread, while this one is sent."""
    with ThreadPoolExecutor(1, thread_name_prefix="mlmerge") as pool:
        coming = pool.submit(next, parts, b"")
        while part := coming.result():
            coming = pool.submit(next, parts, b"")
            yield part


def _may_heal(error: BaseException, destination: Reference) -> bool:
    """Whether another attempt may succeed, with an upload that has not expired."""
    if not isinstance(error, RegistryError):
        return False
    is_lost = error.reference == str(destination) and error.status in (_NOT_FOUND, _OUT_OF_ORDER)
    return is_lost or may_heal(error)


def _headers_of(error: BaseException) -> Mapping[str, str]:
    cause = error.__cause__
    response = cause.response if isinstance(cause, HTTPError) else None
    return {} if response is None else response.headers
