"""Removal of architectures on a real registry, by the program."""

from __future__ import annotations

import pytest

from pubtools_mlmerge.testing import make_attestation, make_image, make_index
from tests.e2e.conftest import Shelf, images, merged
from tests.peers import DOCKER_LIST
from tests.programs import Done
from tests.programs import run_here as run

IMAGES = images("linux/amd64", "linux/arm/v6", "linux/arm/v7")


def remove(reference: str, *options: str) -> Done:
    """Remove architectures."""
    return run("remove-archs", "--ref", reference, "--output", "json", *options)


@pytest.mark.parametrize("artifact", [False, True])
def test_attestations_go_along_and_entries_without_platform_stay(
    shelf: Shelf, artifact: bool
) -> None:
    attestations = [make_attestation(image, artifact=artifact) for image in IMAGES]
    nested = make_index([make_image("linux/s390x")])
    reference = shelf.put("stable", make_index([*IMAGES, nested, *attestations]))
    record = shelf.mark()

    done = remove(reference, "--arch", "linux/arm/v6", "--arch", "x86_64,riscv64")

    assert len(list(record)) == 4
    held = shelf.get("stable")
    assert held.content == merged(IMAGES[2], nested, attestations[2])
    assert (done.code, done.report["digest"]) == (0, held.digest)
    assert f"{reference} has no riscv64" in done.err
    assert len(record.writes) == 1
    assert done.report["source"] is done.report["source_digest"] is None


def test_a_docker_list_stays_one(shelf: Shelf) -> None:
    children = images("linux/amd64", "linux/arm64", docker=True)
    reference = shelf.put("stable", make_index(children, docker=True))

    remove(reference, "--arch", "arm64")

    held = shelf.get("stable")
    expected = merged(children[0], media_type=DOCKER_LIST)
    assert (held.media_type, held.content) == (DOCKER_LIST, expected)


def test_an_index_is_not_emptied_unless_that_is_wanted(shelf: Shelf) -> None:
    whole = make_index([*IMAGES, make_attestation(IMAGES[0])])
    reference = shelf.put("stable", whole)

    refused = remove(reference, "--arch", "amd64,arm")

    assert (refused.code, refused.out) == (1, "")
    assert "would leave an empty index" in refused.err
    assert shelf.get("stable").content == whole.content
    assert remove(reference, "--arch", "amd64,arm", "--allow-empty").code == 0
    assert shelf.get("stable").content == merged()


def test_nothing_to_remove_writes_nothing(shelf: Shelf) -> None:
    reference = shelf.put("stable", make_index(IMAGES))
    record, before = shelf.mark(), shelf.get("stable")

    done = remove(reference, "--arch", "s390x")

    assert (done.code, done.report["changed"]) == (0, False)
    assert record.writes == []
    assert shelf.get("stable") == before


def test_a_dry_run_removes_nothing(shelf: Shelf) -> None:
    reference = shelf.put("stable", make_index(IMAGES))
    record = shelf.mark()

    dry = remove(reference, "--arch", "amd64", "--dry-run").report

    assert record.writes == []
    real = remove(reference, "--arch", "amd64").report
    assert (dry["digest"], dry["entries"]) == (real["digest"], real["entries"])
    assert (dry["dry_run"], real["dry_run"]) == (True, False)


def test_a_single_image_is_refused(shelf: Shelf) -> None:
    reference = shelf.put("stable", IMAGES[0])

    done = remove(reference, "--arch", "amd64")

    assert done.code == 1
    assert f"{reference} holds {IMAGES[0].media_type}, expected an image index" in done.err
