"""What all tests have in common."""

from __future__ import annotations

import os

pytest_plugins = ["tests.servers", "pubtools_mlmerge.testing.fixtures"]

# A bundle named here would stand in for the authorities that the tests make.
for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
    os.environ.pop(name, None)
