"""Records of changes, handed to the host's own pushcollector."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pushcollector import Collector

from pubtools_mlmerge.merging.audit import Collected, read_change
from tests.test_audit import PLAN, change


class Backend:
    """A host's backend that blocks, and one that need not return anything."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self._files = files

    def attach_file(self, filename: str, content: bytes) -> None:
        if filename in self._files:
            raise ValueError(filename)
        self._files[filename] = content


@pytest.fixture
def collected() -> Iterator[dict[str, bytes]]:
    """Make a backend of the host's the default one."""
    files: dict[str, bytes] = {}
    Collector.register_backend("tests", lambda: Backend(files))
    Collector.set_default_backend("tests")
    yield files
    Collector.register_backend("tests", None)


def test_the_host_collects_records(collected: dict[str, bytes], tmp_path: Path) -> None:
    Collected().record(change())
    Collected().record(change())

    assert len(collected) == 2
    (tmp_path / "record").write_bytes(min(collected.values()))
    assert read_change(str(tmp_path / "record")).new == PLAN.result


@pytest.mark.parametrize("backend", [None, "local", "dummy"])
def test_the_backends_of_the_library_are_left_alone(
    backend: str | None,
    collected: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    Collector.set_default_backend(backend)

    Collected().record(change())

    assert (collected, list(tmp_path.iterdir()), caplog.messages) == ({}, [], [])
