"""Fixtures for pytest: name this module in ``pytest_plugins`` to have them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pubtools_mlmerge.testing.server import RegistryServer


@pytest.fixture
def registry_server() -> Iterator[RegistryServer]:
    """Run a registry that is open to all."""
    with RegistryServer() as registry:
        yield registry


@pytest.fixture
def quay_server() -> Iterator[RegistryServer]:
    """Run a registry that behaves as Quay does.

    It wants tokens, which user ``alice`` gets with password ``wonderland`` for
    repositories ``alice/...``; ``api-token`` opens the API for the history of tags.
    """
    with RegistryServer(
        dialect="quay",
        auth="token",
        users={"alice": "wonderland"},
        grants={"alice": ["alice/*"]},
        api_token="api-token",  # noqa: S106 - opens nothing but this registry
    ) as registry:
        yield registry
