"""Uploading: what is written is in the log, and what was not is not."""

from __future__ import annotations

import pytest

from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import ImmutableTag
from pubtools_mlmerge.merging.writer import push
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.testing import RegistryServer
from tests.factories import index
from tests.memory import MemoryRegistry

TAG = Reference.parse("quay.io/org/app:1")


def test_each_write_is_a_line_and_an_event(
    registry_server: RegistryServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "pubtools.mlmerge")
    tag, empty = Reference(registry_server.host, "app", tag="1"), index()

    digest = push(RegistryClient(), tag, empty)

    (record,) = caplog.records
    assert record.getMessage() == f"Uploaded {digest} to {tag}"
    assert vars(record)["event"] == {
        "type": "mlmerge-upload",
        "destination": str(tag),
        "digest": digest,
    }
    assert registry_server.manifest("app", "1").content == empty.content


def test_what_is_refused_is_not_told_as_written(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "pubtools.mlmerge")
    registry = MemoryRegistry()
    registry.refusals[str(TAG)] = ImmutableTag(str(TAG), 409, "no")

    with pytest.raises(ImmutableTag):
        push(registry, TAG, index())

    assert caplog.messages == []
