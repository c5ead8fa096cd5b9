"""Removal of platforms from a tag, on the embedded registry."""

from __future__ import annotations

import pytest

from pubtools_mlmerge.core.plan import patterns_of
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import EmptyIndex, NotAnIndex, NotFound
from pubtools_mlmerge.merging.decision import StepOptions
from pubtools_mlmerge.merging.step import remove_platforms
from pubtools_mlmerge.merging.writer import Writer
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.testing import RegistryServer, make_attestation, make_image, make_index
from tests.programs import put

AMD64, ARM64 = make_image("linux/amd64"), make_image("linux/arm64")
WHOLE = make_index([AMD64, ARM64, make_attestation(ARM64)])


def writer(*, dry_run: bool = False) -> Writer:
    return Writer(RegistryClient(), StepOptions(dry_run=dry_run))


@pytest.fixture
def tag(registry_server: RegistryServer) -> Reference:
    put(registry_server, "1", WHOLE)
    return Reference(registry_server.host, "app", tag="1")


def test_the_tag_is_written_without_them(registry_server: RegistryServer, tag: Reference) -> None:
    report = remove_platforms(writer(), tag, patterns_of(["arm64", "s390x"]))

    held = registry_server.manifest("app", "1")
    assert (report.digest, report.previous_digest) == (held.digest, WHOLE.digest)
    assert [e.fate for e in report.entries] == ["kept", "dropped", "dropped"]
    assert (report.source, report.missing, report.requests) == (None, ("s390x",), 4)
    assert (report.changed, report.dry_run) == (True, False)


def test_nothing_to_remove_is_not_written(registry_server: RegistryServer, tag: Reference) -> None:
    report = remove_platforms(writer(), tag, patterns_of(["s390x"]))

    assert (report.changed, report.digest, report.requests) == (False, WHOLE.digest, 1)


def test_a_dry_run_writes_nothing(registry_server: RegistryServer, tag: Reference) -> None:
    report = remove_platforms(writer(dry_run=True), tag, patterns_of(["arm64"]))

    assert (report.changed, report.dry_run) == (True, True)
    assert registry_server.manifest("app", "1").content == WHOLE.content


def test_emptying_needs_permission(registry_server: RegistryServer, tag: Reference) -> None:
    with pytest.raises(EmptyIndex):
        remove_platforms(writer(), tag, patterns_of(["*"]))

    report = remove_platforms(writer(), tag, patterns_of(["*"]), allow_empty=True)

    assert registry_server.manifest("app", "1").digest == report.digest
    assert [e.fate for e in report.entries] == ["dropped"] * 3


def test_only_an_index_has_platforms(registry_server: RegistryServer, tag: Reference) -> None:
    put(registry_server, "single", AMD64)

    with pytest.raises(NotAnIndex):
        remove_platforms(writer(), tag.tagged("single"), patterns_of(["amd64"]))
    with pytest.raises(NotFound):
        remove_platforms(writer(), tag.tagged("none"), patterns_of(["amd64"]))
