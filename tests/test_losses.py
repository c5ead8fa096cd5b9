"""Losses: what was replaced before anybody had read it is found, also behind another write."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from pubtools_mlmerge.core.manifests import Manifest
from pubtools_mlmerge.core.plan import Report
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.merging.decision import StepOptions
from pubtools_mlmerge.merging.step import Step
from pubtools_mlmerge.merging.writer import Writer
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.registry.copying import Children
from pubtools_mlmerge.registry.quay_history import QuayTags, Recovery
from pubtools_mlmerge.testing import ImageIndex, RegistryServer, make_image, make_index
from tests.programs import put

TOKEN = "0auth+t0ken"


def listing(*architectures: str) -> ImageIndex:
    return make_index([make_image(f"linux/{a}", docker=True) for a in architectures], docker=True)


BASE, OURS = listing("loong64"), listing("s390x")
EARLIER, LATER = listing("amd64", "loong64"), listing("arm64", "loong64")


class Arena:
    """A Quay on which others write at the worst of times."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0
        self.server = RegistryServer(dialect="quay", api_token=TOKEN, clock=lambda: self.now)

    def write(self, item: ImageIndex, seconds: float = 60) -> None:
        self.now += seconds
        put(self.server, "1", item)

    def merge(
        self, before: Callable[[], None] | None = None, after: Callable[[], None] | None = None
    ) -> Report:
        """Merge our source, with something done before or after the first write."""
        client = Interrupted(self.server.url, before, after)
        options = StepOptions()
        writer = Writer(client, options, history=Recovery(QuayTags(client, TOKEN)))
        step = Step(client, client, options, Children(client, client), writer)
        name = Reference(self.server.host, "app", tag="1")
        self.now += 60
        return step.merge(name.tagged("ours"), name)

    @property
    def held(self) -> set[str]:
        index = RegistryClient(host=self.server.url).pull_index(Reference("", "app", tag="1"))
        return {str(entry.slot) for entry in index.manifests}


class Interrupted(RegistryClient):
    """A client that others come before and after."""

    def __init__(
        self, host: str, before: Callable[[], None] | None, after: Callable[[], None] | None
    ) -> None:
        super().__init__(host=host)
        self.before = before
        self.after = after
        self.pushed = 0

    def push(self, reference: Reference, manifest: Manifest, *, repeat: bool = True) -> str:
        before, self.before = self.before, None
        if before is not None:
            before()
        self.pushed += 1
        digest = super().push(reference, manifest, repeat=repeat)
        after, self.after = self.after, None
        if after is not None:
            after()
        return digest


@pytest.fixture
def arena() -> Iterator[Arena]:
    made = Arena()
    with made.server:
        put(made.server, "ours", OURS)
        for item in (EARLIER, LATER):
            put(made.server, "others", item)
        made.write(BASE)
        yield made


def all_of(*architectures: str) -> set[str]:
    return {f"linux/{each}" for each in architectures}


def test_who_comes_between_the_look_and_the_write_is_merged_back_in(arena: Arena) -> None:
    report = arena.merge(before=lambda: arena.write(EARLIER, 10))

    assert arena.held == all_of("s390x", "amd64", "loong64")
    assert report.attempts == 2


def test_the_same_second_is_no_hiding_place(arena: Arena) -> None:
    arena.merge(before=lambda: arena.write(EARLIER, 0))

    assert arena.held == all_of("s390x", "amd64", "loong64")


def test_what_our_write_replaced_is_found_although_our_write_was_replaced(arena: Arena) -> None:
    arena.merge(before=lambda: arena.write(EARLIER, 0), after=lambda: arena.write(LATER, 1))

    assert arena.held == all_of("s390x", "amd64", "arm64", "loong64")


def test_no_tag_is_left_behind(arena: Arena) -> None:
    arena.merge(before=lambda: arena.write(EARLIER, 10))

    assert arena.server.tags("app") == ("1", "others", "ours")


def test_another_order_is_no_reason_to_write_again(arena: Arena) -> None:
    everything = listing("loong64", "s390x")
    put(arena.server, "everything", everything)

    report = arena.merge(after=lambda: arena.write(everything, 0))

    assert (report.digest, report.attempts) == (everything.digest, 2)
    assert arena.server.manifest("app", "1").digest == everything.digest
