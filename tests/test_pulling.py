"""Pulling: both sides at the same time, where that is quicker."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import RegistryError
from pubtools_mlmerge.merging.step import are_quicker_at_once, both
from pubtools_mlmerge.registry.adapter import ClientRegistry
from pubtools_mlmerge.registry.base import Registry
from pubtools_mlmerge.registry.client import RegistryClient
from tests.scripted import HURRIED
from tests.servers import free_port

SOURCE, DESTINATION = Reference.parse("quay.io/app:new"), Reference.parse("quay.io/app:stable")


@contextmanager
def client(host: str, *login: str) -> Iterator[RegistryClient]:
    username, password = login or (None, None)
    made = RegistryClient(username, password, host, HURRIED)
    try:
        yield made
    finally:
        made.close()


def at_once(source: Registry, destination: Registry) -> bool:
    return are_quicker_at_once(source, SOURCE, destination, DESTINATION)


def test_two_registries_are_asked_at_the_same_time() -> None:
    with client("https://a.invalid", "alice", "s") as a, client("https://b.invalid") as b:
        assert at_once(a, b)


def test_one_registry_is_asked_twice_while_there_is_no_connection() -> None:
    with client(f"https://127.0.0.1:{free_port()}") as registry:
        assert at_once(registry, registry)
        with pytest.raises(RegistryError):
            registry.pull(SOURCE)

        assert not at_once(registry, registry)


def test_a_registry_that_wants_a_login_is_asked_in_turn() -> None:
    with client("https://a.invalid", "alice", "s") as registry:
        assert not at_once(registry, registry)


def test_without_tls_a_connection_costs_little() -> None:
    with client("http://a.invalid", "alice", "s") as registry:
        assert at_once(registry, registry)


def test_clients_with_connections_for_each_thread_are_asked_in_turn() -> None:
    with client("http://a.invalid") as inner:
        assert not at_once(ClientRegistry(inner), inner)


@pytest.mark.parametrize("at_once", [True, False])
def test_both_are_done(at_once: bool) -> None:
    here, there = both(threading.get_ident, threading.get_ident, at_once=at_once)

    assert here == threading.get_ident()
    assert (here == there) is not at_once


@pytest.mark.parametrize("at_once", [True, False])
def test_the_failure_of_the_first_comes_first(at_once: bool) -> None:
    def fail(problem: str) -> None:
        raise ValueError(problem)

    with pytest.raises(ValueError, match="first"):
        both(lambda: fail("first"), lambda: fail("second"), at_once=at_once)
