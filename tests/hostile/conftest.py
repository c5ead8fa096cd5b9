"""What is collected here."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from tests.stress.counts import Counts, counts_of

# A test that cannot run is left out rather than skipped: a skip hides something where CI runs.
collect_ignore = [] if find_spec("atheris") else ["test_atheris.py"]


@pytest.fixture
def counts(pytestconfig: pytest.Config) -> Counts:
    """Count what was attempted; the counts are printed at the end."""
    return counts_of(pytestconfig)
