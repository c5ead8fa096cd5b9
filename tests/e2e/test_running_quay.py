"""The laws of a merge, on any Quay that runs: see `make quay` in CONTRIBUTING."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.registry.quay_history import TagHistory
from pubtools_mlmerge.testing import Image, make_index
from tests.e2e.conftest import images, merged
from tests.peers import DOCKER_LIST, EVERY_TYPE, OCI_INDEX
from tests.programs import Done, run_here
from tests.running_quay import Quay, running_quay

THREE, TWO = ("linux/amd64", "linux/arm64", "linux/s390x"), ("linux/amd64", "linux/arm64")
numbers = itertools.count()
KINDS = pytest.mark.parametrize("docker", [True, False], ids=["docker", "oci"])


@pytest.fixture(scope="module")
def quay() -> Iterator[Quay]:
    with running_quay() as found:
        yield found


def held(quay: Quay, tag: Reference) -> bytes:
    answer = quay.peer.get(tag.repository, tag.tag, EVERY_TYPE)
    assert answer.status_code == 200, answer.text
    return answer.content


def program(quay: Quay, name: str, *arguments: str, source: bool = True) -> Done:
    sides = ("source", "dest") if source else ("dest",)
    users = [option for side in sides for option in (f"--{side}-quay-user", quay.user)]
    passwords = {f"{side.upper()}_QUAY_PASSWORD": quay.password for side in sides}
    output = ("--output", "json", "--quay-host", quay.url)
    done = run_here(name, *arguments, *users, *output, env=passwords)
    assert done.code == 0, done.err
    return done


def merge(quay: Quay, source: Reference, tag: Reference, *options: str) -> dict[str, object]:
    tags = ("--source-ref", str(source), "--dest-ref", str(tag))
    return program(quay, "merge", *tags, *options).report


def tags_of(
    quay: Quay, old: list[Image], new: list[Image], *, docker: bool = False
) -> tuple[Reference, Reference]:
    """Push an index of each, and name the source and the tag to merge into."""
    tag = quay.reference(next(numbers), "stable")
    source = tag.tagged("new")
    quay.put(tag, make_index(old, docker=docker))
    quay.put(source, make_index(new, docker=docker))
    return source, tag


@KINDS
def test_nothing_is_lost_and_a_second_merge_changes_nothing(quay: Quay, docker: bool) -> None:
    old, new = images(*THREE, seed="old", docker=docker), images(*TWO, seed="new", docker=docker)
    source, tag = tags_of(quay, old, new, docker=docker)

    first, again = merge(quay, source, tag), merge(quay, source, tag)

    assert held(quay, tag) == merged(*new, old[2], media_type=DOCKER_LIST if docker else OCI_INDEX)
    assert (first["changed"], again["changed"]) == (True, False)
    for child in (*new, old[2]):
        assert quay.peer.get(tag.repository, child.digest, EVERY_TYPE).content == child.content


@KINDS
def test_what_is_selected_or_covers_all_is_taken(quay: Quay, docker: bool) -> None:
    old, new = images(*TWO, seed="old", docker=docker), images(*THREE, seed="new", docker=docker)
    source, tag = tags_of(quay, old, new, docker=docker)
    media_type = DOCKER_LIST if docker else OCI_INDEX

    merge(quay, source, tag, "--arch", "s390x")
    assert held(quay, tag) == merged(new[2], *old, media_type=media_type)
    merge(quay, source, tag)
    assert held(quay, tag) == make_index(new, docker=docker).content  # byte for byte


def test_images_of_another_repository_are_brought_and_a_dry_run_brings_none(quay: Quay) -> None:
    old, new = images(*THREE, seed="old"), images(*TWO, seed="new")
    source, tag = quay.reference(next(numbers)), quay.reference(next(numbers))
    quay.put(source, make_index(new))
    quay.put(tag, make_index(old))

    merge(quay, source, tag, "--dry-run")
    assert quay.peer.get(tag.repository, new[0].digest, EVERY_TYPE).status_code == 404
    merge(quay, source, tag)

    assert held(quay, tag) == merged(*new, old[2])


def test_what_was_replaced_is_restored_byte_for_byte(quay: Quay, tmp_path: Path) -> None:
    old = images(*THREE, seed="old")
    source, tag = tags_of(quay, old, images(*TWO, seed="new"))
    before = held(quay, tag)
    merge(quay, source, tag, "--audit", str(tmp_path))
    assert held(quay, tag) != before

    (record,) = tmp_path.iterdir()
    program(quay, "restore", str(record), source=False)

    assert json.loads(record.read_text())["destination"] == str(tag)
    assert held(quay, tag) == before


def test_what_somebody_wrote_unseen_is_found_in_the_history(quay: Quay) -> None:
    """Where there is a token of the API; without one there is no history to look at."""
    seen, unseen, ours = (make_index(images(p, seed="x")) for p in THREE)
    tag = quay.reference(next(numbers))
    for item in (seen, unseen, ours):
        quay.put(tag, item)
    if quay.api_token is None:
        return
    client = quay.client()
    history = TagHistory(client, quay.api_token, quay.url)

    found = [each for each, _ in history.lost(tag, ours.digest, seen.digest)]

    assert unseen.digest in [client.pull(each).digest for each in found]
    for each in found:
        history.forget(each)
