"""A look at what a real registry holds, by the program."""

from __future__ import annotations

import pytest

from pubtools_mlmerge.testing import make_attestation, make_index
from tests.e2e.conftest import Shelf, images
from tests.peers import OCI_INDEX
from tests.programs import run_here
from tests.terminals import program_on_a_terminal

CHILDREN = images("linux/amd64", "linux/arm/v7")
PROOF = make_attestation(CHILDREN[1])
INDEX = make_index([*CHILDREN, PROOF])
OTHER = make_index([CHILDREN[0], *images("linux/arm/v7", "linux/s390x", seed="other")])


@pytest.mark.parametrize("name", [":stable", f"@{INDEX.digest}"], ids=["tag", "digest"])
def test_a_tree_shows_each_entry(shelf: Shelf, name: str) -> None:
    reference = shelf.put("stable", INDEX).replace(":stable", name)

    done = run_here("inspect", reference)

    title, *tree, empty, summary = done.out.splitlines()
    assert (done.code, done.err, empty) == (0, "", "")
    assert title == f"{reference} {INDEX.digest} {OCI_INDEX}"
    first, second = CHILDREN
    assert [" ".join(line.split()) for line in tree] == [
        f"|-- linux/amd64 {first.digest} {len(first.content)} B OCI manifest",
        f"`-- linux/arm/v7 {second.digest} {len(second.content)} B OCI manifest",
        f"`-- attestation {PROOF.digest} {len(PROOF.content)} B OCI manifest",
    ]
    assert summary.startswith("2 images, 1 attestation, manifests of ")


@pytest.mark.parametrize("lost", [CHILDREN[0], PROOF], ids=["image", "attestation"])
def test_what_is_lost_is_found_missing(shelf: Shelf, lost: object) -> None:
    reference = shelf.put("stable", INDEX)
    digest = next(child.digest for child in INDEX.children if child is lost)
    gone = shelf.peer.once("DELETE", f"/v2/{shelf.repository}/manifests/{digest}")
    assert gone.status_code == 202, gone.text

    done = run_here("inspect", reference, "--check", "--output", "json")

    assert done.code == 1
    problems = done.report["problems"]
    assert isinstance(problems, list)
    assert [(problem["kind"], problem["digest"]) for problem in problems] == [("missing", digest)]
    assert f"ERROR: {reference} lists manifests that the repository lacks" in done.err
    assert run_here("inspect", reference).code == 0


def test_images_that_are_brought_are_counted_on_a_terminal(shelf: Shelf) -> None:
    source = shelf.put("new", INDEX)
    target = f"{shelf.registry.host}/{shelf.repository}-copy:stable"

    command = ("merge", "--source-ref", source, "--dest-ref", target)
    shown = program_on_a_terminal(*command, width=200, logs=True)

    assert shown.code == 0, shown.raw
    assert f"images for {target}" in shown.text
    assert "/3" in shown.text
    assert shown.lines[-1].startswith(f"{target} is now sha256:")
