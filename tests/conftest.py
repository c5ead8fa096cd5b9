"""What all tests have in common."""

from __future__ import annotations

import os

import pytest

pytest_plugins = ["tests.servers", "pubtools_mlmerge.testing.fixtures"]

# A bundle named here would stand in for the authorities that the tests make.
for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
    os.environ.pop(name, None)


@pytest.fixture
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take out of the environment what the console scripts read there."""
    for name in os.environ:
        if name.startswith("MLMERGE_") or name.endswith("_QUAY_PASSWORD"):
            monkeypatch.delenv(name)
