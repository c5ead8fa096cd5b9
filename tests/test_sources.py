"""Sources: read once, by whichever thread comes first."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pubtools_mlmerge.concurrency import Sources
from pubtools_mlmerge.core.manifests import Index, Manifest
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import NotFound
from tests.factories import index

FOUND = index("linux/amd64")


def reference(tag: object) -> Reference:
    return Reference.parse(f"quay.io/ns/app:{tag}")


class Shelf:
    """Counts what is read; may fail, or wait until everybody asked."""

    def __init__(self, failures: int = 0) -> None:
        self.read: list[Reference] = []
        self.failures = failures
        self.go = threading.Event()
        self.go.set()

    def __call__(self, asked: Reference) -> Manifest:
        self.read.append(asked)
        assert self.go.wait(5)
        if self.failures:
            self.failures -= 1
            raise NotFound(str(asked))
        return FOUND


def test_a_source_is_read_once() -> None:
    sources, shelf = Sources(), Shelf()

    assert [sources.get(reference(1), shelf) for _ in range(3)] == [FOUND] * 3
    assert shelf.read == [reference(1)]
    assert reference(1) in sources
    assert reference(2) not in sources


def test_threads_wait_for_the_one_that_reads() -> None:
    sources, shelf = Sources(), Shelf()
    shelf.go.clear()

    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(sources.get, reference(1), shelf) for _ in range(4)]
        shelf.go.set()

        assert [each.result(5) for each in asked] == [FOUND] * 4
    assert len(shelf.read) == 1


def test_a_failure_is_told_and_not_remembered() -> None:
    sources, shelf = Sources(), Shelf(failures=1)

    with pytest.raises(NotFound):
        sources.get(reference(1), shelf)

    assert isinstance(sources.get(reference(1), shelf), Index)


def test_only_so_many_are_remembered() -> None:
    sources, shelf = Sources(most=2), Shelf()
    for tag in (1, 2, 1, 3, 1):
        sources.get(reference(tag), shelf)

    assert shelf.read == [reference(1), reference(2), reference(3)]
    assert reference(2) not in sources
