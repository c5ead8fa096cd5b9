"""Merges on real registries into another repository, which needs the children first."""

from __future__ import annotations

from pathlib import Path

import pytest

from pubtools_mlmerge.testing import Image, ImageIndex, make_attestation, make_image, make_index
from tests.e2e.conftest import Shelf, images, merge, merged, pull_whole
from tests.peers import EVERY_TYPE
from tests.servers import TOKEN_PASSWORD, TOKEN_USER

ARM = images("linux/arm/v6", "linux/arm/v7", "linux/amd64", seed="new")
OLD = images("linux/amd64", "linux/s390x", seed="old")
TO_TOKEN = ("--dest-quay-user", TOKEN_USER, "--dest-quay-password", TOKEN_PASSWORD)


def elsewhere(shelf: Shelf) -> str:
    """Name another repository of the same registry."""
    return f"{shelf.repository}-too"


def assert_whole(reference: str, children: list[Image], to: Path) -> None:
    """Pull each platform of a tag."""
    for number, child in enumerate(children):
        pull_whole(reference, child, to / str(number))


def test_children_and_blobs_are_mounted_and_the_index_comes_last(
    shelf: Shelf, tmp_path: Path
) -> None:
    source, other = shelf.put("new", ARM), elsewhere(shelf)
    destination = shelf.put("stable", OLD, other)
    record = shelf.mark()

    merge(source, destination)

    assert shelf.get("stable", other).content == merged(*ARM, OLD[1])
    assert_whole(destination, [*ARM, OLD[1]], tmp_path)
    writes, path = record.writes, f"/v2/{other}/manifests"
    uploads = [line for line in writes if line.startswith("POST")]
    assert len(uploads) == 6
    assert [line for line in uploads if "?mount=sha256" not in line or "201" not in line] == []
    *children, last = (line for line in writes if line.startswith("PUT"))
    assert set(children) == {f"PUT {path}/{child.digest} 201" for child in ARM}
    assert last == f"PUT {path}/stable 201"


def test_children_that_are_there_or_not_taken_are_not_brought(shelf: Shelf) -> None:
    source, other = shelf.put("new", ARM), elsewhere(shelf)
    shelf.put("some", ARM[:1], other)
    record = shelf.mark()

    merge(source, shelf.ref("stable", other), "--arch", "linux/arm")

    brought = [line.split()[1].rpartition("/")[2] for line in record if line.startswith("PUT")]
    assert brought == [ARM[1].digest, "stable"]
    assert shelf.get("stable", other).content == merged(*ARM[:2])


@pytest.mark.parametrize("old", [[], OLD], ids=["single", "wrapped"])
def test_a_single_image_is_brought_whole(shelf: Shelf, tmp_path: Path, old: list[Image]) -> None:
    image, other = make_image("linux/arm64", seed="single"), elsewhere(shelf)
    source, destination = shelf.put("new", image), shelf.ref("stable", other)
    if old:
        shelf.put("stable", old, other)

    merge(source, destination)

    assert shelf.get("stable", other).content == (merged(image, *old) if old else image.content)
    assert_whole(destination, [image, *old], tmp_path)


@pytest.mark.parametrize("copy", ["auto", "skopeo"])
def test_nested_indexes_and_attestations_are_brought_along(
    shelf: Shelf, tmp_path: Path, copy: str
) -> None:
    image, inner = make_image("linux/arm64", seed="new"), make_image("linux/s390x", seed="inner")
    attestation, nested = make_attestation(image), make_index([inner])
    source = shelf.put("new", make_index([image, attestation, nested]))
    other = elsewhere(shelf)

    merge(source, shelf.ref("stable", other), "--copy", copy)

    held = shelf.get("stable", other)
    assert held.content == make_index([image, attestation, nested]).content
    assert shelf.get(attestation.digest, other).content == attestation.content
    assert shelf.get(nested.digest, other).content == nested.content
    pull_whole(f"{shelf.registry.host}/{other}@{inner.digest}", inner, tmp_path / "inner")


def test_without_copying_everything_has_to_be_there(shelf: Shelf) -> None:
    source, other = shelf.put("new", ARM), elsewhere(shelf)
    destination = shelf.put("stable", OLD, other)
    record, before = shelf.mark(), shelf.get("stable", other)

    done = merge(source, destination, "--copy", "never", code=1)

    assert "the repository lacks" in done.err
    assert all(child.digest in done.err for child in ARM)
    assert record.writes == []
    assert shelf.get("stable", other) == before
    shelf.put("all", ARM, other)
    merge(source, destination, "--copy", "never")
    assert shelf.get("stable", other).content == merged(*ARM, OLD[1])


@pytest.mark.parametrize("copy", ["auto", "skopeo"])
def test_children_are_copied_to_another_registry(
    shelf: Shelf, token_shelf: Shelf, tmp_path: Path, copy: str
) -> None:
    source = shelf.put("new", ARM)
    destination = token_shelf.put("stable", OLD)
    env = {"PATH": str(tmp_path)} if copy == "auto" else {}

    done = merge(source, destination, "--copy", copy, *TO_TOKEN, env=env)

    assert token_shelf.get("stable").content == merged(*ARM, OLD[1])
    for child in ARM:
        answer = token_shelf.peer.get(token_shelf.repository, child.digest, EVERY_TYPE)
        assert answer.content == child.content
        for blob, content in child.blobs.items():
            path = f"/v2/{token_shelf.repository}/blobs/{blob}"
            assert token_shelf.peer.send("GET", path).content == content
    assert TOKEN_PASSWORD not in done.out + done.err


def test_children_are_copied_from_tls_to_plain_http_and_back(
    shelf: Shelf, tls_shelf: Shelf, tmp_path: Path
) -> None:
    source = tls_shelf.put("new", ARM)

    merge(source, shelf.ref("stable"), "--ca-bundle", str(tls_shelf.registry.ca_file))
    assert_whole(shelf.ref("stable"), ARM, tmp_path)
    other = f"{tls_shelf.registry.host}/{elsewhere(tls_shelf)}:stable"
    merge(shelf.ref("stable"), other, "--insecure")

    held = [shelf.get("stable"), tls_shelf.get("stable", elsewhere(tls_shelf))]
    assert [each.content for each in held] == [make_index(ARM).content] * 2


def test_a_mount_needs_one_login_for_both_repositories(token_shelf: Shelf) -> None:
    source, other = token_shelf.put("new", ARM), elsewhere(token_shelf)
    tokens, record = token_shelf.registry.tokens, token_shelf.mark()
    assert tokens is not None
    before = len(tokens.scopes)
    login = ("--source-quay-user", TOKEN_USER, "--source-quay-password", TOKEN_PASSWORD)

    merge(source, token_shelf.ref("stable", other), *login, *TO_TOKEN)

    assert token_shelf.get("stable", other).content == make_index(ARM).content
    assert [line for line in record.writes if " 401" in line] == []
    asked = {scope for scopes in tokens.scopes[before : before + 1] for scope in scopes}
    assert asked == {
        f"repository:{token_shelf.repository}:pull",
        f"repository:{other}:pull,push",
    }


def test_a_child_that_the_source_lost_leaves_the_tag_alone(
    shelf: Shelf, token_shelf: Shelf
) -> None:
    lost: ImageIndex = make_index([*ARM, make_image("linux/riscv64", seed="lost")])
    shelf.put("whole", lost)
    shelf.peer.delete(shelf.repository, lost.children[-1].digest)
    destination = token_shelf.put("stable", OLD)
    before = token_shelf.get("stable")

    done = merge(shelf.ref("whole"), destination, *TO_TOKEN, code=1)

    assert f"{lost.children[-1].digest}: not found" in done.err
    assert token_shelf.get("stable") == before
