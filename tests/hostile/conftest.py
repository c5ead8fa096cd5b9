"""What is collected here."""

from __future__ import annotations

from importlib.util import find_spec

# A test that cannot run is left out rather than skipped: a skip hides something where CI runs.
collect_ignore = [] if find_spec("atheris") else ["test_atheris.py"]
