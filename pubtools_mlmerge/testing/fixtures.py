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
