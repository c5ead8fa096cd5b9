"""Many writers of one tag at the same moment: what is lost with each way to keep them apart."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.redis_servers import RealRedis
from tests.stress.arena import Arena
from tests.stress.conftest import API_TOKEN
from tests.stress.counts import Counts
from tests.stress.crew import Crew

everywhere = pytest.mark.parametrize("name", ["docker-registry", "Quay dialect"])


@everywhere
def test_writers_that_neither_lock_nor_look_lose_images(
    arenas: Mapping[str, Arena], crew: Crew, counts: Counts, name: str
) -> None:
    """Without this the other tests could not fail: the writers do meet."""
    count = counts.measure(arenas[name], crew, "no lock, not verified", "--no-verify")

    assert count.lost > 0
    assert not count.flaws, count


@everywhere
def test_looking_before_and_after_leaves_tags_whole(
    arenas: Mapping[str, Arena], crew: Crew, counts: Counts, name: str
) -> None:
    count = counts.measure(arenas[name], crew, "no lock")

    assert not count.flaws, count


@everywhere
def test_with_a_lock_in_files_nothing_is_lost(
    arenas: Mapping[str, Arena], crew: Crew, counts: Counts, tmp_path: Path, name: str
) -> None:
    count = counts.measure(arenas[name], crew, "file lock", "--lock", tmp_path.as_uri())

    assert count.is_perfect, count


@everywhere
def test_with_a_lock_in_redis_nothing_is_lost(
    arenas: Mapping[str, Arena], crew: Crew, counts: Counts, redis: RealRedis, name: str
) -> None:
    count = counts.measure(arenas[name], crew, "Redis lock", "--lock", redis.url)

    assert count.is_perfect, count


def test_with_the_history_of_the_tag_no_loss_goes_unnoticed(
    arenas: Mapping[str, Arena], crew: Crew, counts: Counts
) -> None:
    """Whoever gives up says so, and what others lost by that is there again after the next run."""
    quay = arenas["Quay dialect"]
    token = ("--quay-api-token", API_TOKEN, "--quay-api-token-host", quay.host)

    count = counts.measure(quay, crew, "no lock, history of the tag", *token)

    assert count.unnoticed == 0, count
    assert not count.flaws, count
