"""What all tests have in common."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from pubtools_mlmerge.testing import RegistryServer
from tests.quay import QuayDialect
from tests.stress.counts import Counts, counts_of

pytest_plugins = ["tests.servers", "pubtools_mlmerge.testing.fixtures"]

# A bundle named here would stand in for the authorities that the tests make.
for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
    os.environ.pop(name, None)


@pytest.fixture(scope="session", autouse=True)
def _found_once() -> Iterator[None]:
    """Look through what is installed once: each task and each program does, for 20 to 60 ms."""
    module = import_module("pubtools._impl.pluggy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "entry_points", cache(module.entry_points))
        yield


@pytest.fixture
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take out of the environment what the console scripts read there."""
    for name in os.environ:
        if name.startswith("MLMERGE_") or name.endswith("_QUAY_PASSWORD"):
            monkeypatch.delenv(name)


@pytest.fixture
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no login in any auth file."""
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "absent.json"))


@pytest.fixture
def counts(pytestconfig: pytest.Config) -> Counts:
    """Count what was attempted; the counts are printed at the end."""
    return counts_of(pytestconfig)


@pytest.fixture
def quay_server() -> Iterator[RegistryServer]:
    """Run a Quay whose `alice/...` repositories belong to user alice, password wonderland."""
    with RegistryServer(
        dialect=QuayDialect("api-token"),
        auth="token",
        users={"alice": "wonderland"},
        grants={"alice": ["alice/*"]},
    ) as registry:
        yield registry
