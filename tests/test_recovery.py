"""Recovery: what a write replaced unseen is found on an embedded Quay, and read again."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import requests

from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.registry.quay_history import QuayTags, Recovery
from pubtools_mlmerge.testing import ImageIndex, RegistryServer, make_image, make_index
from tests.factories import digest
from tests.programs import put
from tests.scripted import HURRIED

TOKEN = "0auth+t0ken"
SEEN, THEIRS, OURS = (
    make_index([make_image(p)]) for p in ("linux/amd64", "linux/arm64", "linux/s390x")
)


class Quay:
    """A Quay on which a minute passes between two writes."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0
        self.server = RegistryServer(dialect="quay", api_token=TOKEN, clock=lambda: self.now)

    def write(self, *indexes: ImageIndex) -> None:
        for each in indexes:
            self.now += 60
            put(self.server, "1", each, "ns/app")


@pytest.fixture
def quay() -> Iterator[Quay]:
    made = Quay()
    with made.server:
        yield made


def history_of(server: RegistryServer, token: str = TOKEN) -> tuple[Recovery, Reference]:
    client = RegistryClient(host=server.url, options=HURRIED)
    return Recovery(QuayTags(client, token)), Reference(server.host, "ns/app", tag="1")


def test_what_was_seen_is_not_lost(quay: Quay) -> None:
    history, tag = history_of(quay.server)
    quay.write(SEEN, OURS)

    assert history.lost(tag, OURS.digest, SEEN.digest) == ()


def test_what_was_not_seen_can_be_pulled_until_it_is_forgotten(
    quay: Quay, caplog: pytest.LogCaptureFixture
) -> None:
    history, tag = history_of(quay.server)
    quay.write(SEEN, THEIRS, OURS)

    (recovered,) = history.lost(tag, OURS.digest, SEEN.digest)

    assert RegistryClient(host=quay.server.url).pull(recovered).digest == THEIRS.digest
    assert f"{THEIRS.digest} was replaced by {OURS.digest}" in caplog.text
    history.forget(recovered)
    assert quay.server.tags("ns/app") == ("1",)


def test_what_is_not_kept_any_more_is_told(quay: Quay, caplog: pytest.LogCaptureFixture) -> None:
    history, tag = history_of(quay.server)
    quay.write(SEEN, THEIRS, OURS)
    client = RegistryClient(host=quay.server.url)

    requests.delete(f"{quay.server.url}/v2/ns/app/manifests/{THEIRS.digest}", timeout=5)
    assert client.digest(tag.at(THEIRS.digest)) is None
    assert history.lost(tag, OURS.digest, SEEN.digest) == ()
    assert "it is lost" in caplog.text


def test_a_history_that_cannot_be_read_is_told_without_the_token(
    quay: Quay, caplog: pytest.LogCaptureFixture
) -> None:
    history, tag = history_of(quay.server, "revoked-token")
    quay.write(SEEN, OURS)

    assert history.lost(tag, OURS.digest, SEEN.digest) == ()
    assert "cannot tell whether another writer was replaced" in caplog.text
    assert "revoked" not in caplog.text


def test_a_registry_without_a_history_is_no_reason_to_worry(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with RegistryServer() as server:
        history, tag = history_of(server)

        assert history.lost(tag, OURS.digest, SEEN.digest) == ()

    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


def test_a_history_that_lags_behind_is_told(quay: Quay, caplog: pytest.LogCaptureFixture) -> None:
    history, tag = history_of(quay.server)
    quay.write(SEEN)

    assert history.lost(tag, digest("not there yet"), SEEN.digest) == ()
    assert "its history does not have" in caplog.text
