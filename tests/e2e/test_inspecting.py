"""A look at what a real registry holds, by the program."""

from __future__ import annotations

from pubtools_mlmerge.testing import make_attestation, make_image, make_index
from tests.e2e.conftest import Shelf, images
from tests.peers import OCI_INDEX, OCI_MANIFEST
from tests.programs import run

CHILDREN = images("linux/amd64", "linux/arm/v7")
INDEX = make_index([*CHILDREN, make_attestation(CHILDREN[1])])


def test_a_table_shows_each_entry(shelf: Shelf) -> None:
    reference = shelf.put("stable", INDEX)

    done = run("inspect", reference)

    title, empty, *table = done.out.splitlines()
    assert (done.code, done.err, empty) == (0, "", "")
    assert title == f"{reference} {INDEX.digest} {OCI_INDEX}"
    first, second = CHILDREN
    assert [line.split() for line in table[:3]] == [
        ["PLATFORM", "DIGEST", "SIZE", "TYPE", "ATTESTATIONS"],
        ["linux/amd64", first.digest, str(len(first.content)), OCI_MANIFEST, "-"],
        ["linux/arm/v7", second.digest, str(len(second.content)), OCI_MANIFEST, "1"],
    ]
    assert table[3].startswith(f"attestation of {second.digest[7:19]}")


def test_json_shows_each_entry(shelf: Shelf) -> None:
    reference = shelf.put("stable", INDEX)

    report = run("inspect", reference, "--output", "json").report

    assert list(report) == ["reference", "digest", "media_type", "entries"]
    assert (report["reference"], report["digest"]) == (reference, INDEX.digest)
    entries = report["entries"]
    assert isinstance(entries, list)
    assert [entry["digest"] for entry in entries] == [child.digest for child in INDEX.children]
    assert [entry["platform"] for entry in entries] == ["linux/amd64", "linux/arm/v7", None]
    assert [entry.get("attests") for entry in entries] == [None, None, CHILDREN[1].digest]


def test_a_digest_can_be_looked_at(shelf: Shelf) -> None:
    shelf.put("stable", INDEX)
    reference = f"{shelf.registry.host}/{shelf.repository}@{INDEX.digest}"

    done = run("inspect", reference, "--output", "json")

    assert (done.code, done.report["reference"]) == (0, reference)


def test_a_single_image_is_no_index(shelf: Shelf) -> None:
    done = run("inspect", shelf.put("stable", make_image()))

    assert (done.code, done.out) == (1, "")
    assert "expected an image index" in done.err
