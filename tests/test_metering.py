"""Metering: each merge counts its own requests, whatever else goes on."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.observe import Meter, count_request, uncounted
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.testing import RegistryServer


def test_only_what_is_requested_meanwhile_counts() -> None:
    meter = Meter()
    count_request()

    with meter.running():
        count_request()
        with uncounted():
            count_request()
        count_request()
    count_request()

    assert meter.requests == 2
    assert meter.seconds >= 0


def test_threads_that_do_a_part_count_too() -> None:
    meter = Meter()

    with meter.running(), ThreadPoolExecutor(2) as pool:
        for _ in range(100):
            pool.submit(copy_context().run, count_request)
        pool.submit(count_request)  # it has nothing to do with this

    assert meter.requests == 100


def test_two_counts_of_one_client_are_kept_apart(registry_server: RegistryServer) -> None:
    client, both = RegistryClient(), threading.Barrier(2, timeout=5)
    reference = Reference(registry_server.host, "app", tag="1")

    def ask(times: int) -> int:
        meter = Meter()
        with meter.running():
            both.wait()
            for _ in range(times):
                client.digest(reference)
        return meter.requests

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(ask, (2, 5))) == [2, 5]
    assert client.request_count == 7
