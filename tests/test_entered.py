"""A reader who follows a run goes through few modules. The tasks are in tests/host."""

from __future__ import annotations

from pathlib import Path

import pytest

from pubtools_mlmerge.cli.parsers import merge_main, restore_main
from pubtools_mlmerge.testing import RegistryServer, upload_index
from tests.entered import modules_entered
from tests.programs import call

pytestmark = pytest.mark.usefixtures("no_variables")


@pytest.fixture
def tags(registry_server: RegistryServer) -> tuple[str, ...]:
    """Fill a registry, and return the options that name source and destination."""
    place = f"{registry_server.host}/app"
    upload_index(registry_server.url, "app", "new", ["linux/amd64", "linux/arm64"])
    upload_index(registry_server.url, "app", "stable", ["linux/amd64", "linux/s390x"])
    return "--source-ref", f"{place}:new", "--dest-ref", f"{place}:stable"


def test_a_merge_enters_at_most_30_modules(tags: tuple[str, ...]) -> None:
    entered = modules_entered(lambda: call(merge_main, *tags))
    # Only tasks load it; where another test did, its implementation of a hook is entered.
    entered = [module for module in entered if module != "host/clients.py"]

    assert "merging/step.py" in entered
    assert len(entered) <= 30, entered


def test_a_restore_enters_at_most_27_modules(tags: tuple[str, ...], tmp_path: Path) -> None:
    assert call(merge_main, *tags, "--audit", str(tmp_path)) == 0
    (record,) = tmp_path.iterdir()

    entered = modules_entered(lambda: call(restore_main, str(record)))

    assert "merging/restore.py" in entered
    assert len(entered) <= 27, entered
