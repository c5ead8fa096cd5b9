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


def test_children_and_blobs_are_mounted_within_a_registry(shelf: Shelf, tmp_path: Path) -> None:
    source = shelf.put("new", ARM)
    other = elsewhere(shelf)
    destination = shelf.put("stable", OLD, other)
    record = shelf.mark()

    merge(source, destination)

    assert shelf.get("stable", other).content == merged(*ARM, OLD[1])
    assert_whole(destination, [*ARM, OLD[1]], tmp_path)
    uploads = [line for line in record.writes if line.startswith("POST")]
    assert len(uploads) == 6
    assert [line for line in uploads if "?mount=sha256" not in line or "201" not in line] == []


def test_children_go_first_and_the_index_last(shelf: Shelf) -> None:
    source, other = shelf.put("new", ARM), elsewhere(shelf)
    record = shelf.mark()

    merge(source, shelf.ref("stable", other))

    path = f"/v2/{other}/manifests"
    puts = [line for line in record if line.startswith("PUT")]
    *children, last = puts
    assert set(children) == {f"PUT {path}/{child.digest} 201" for child in ARM}
    assert last == f"PUT {path}/stable 201"


def test_children_that_are_there_are_not_brought_again(shelf: Shelf) -> None:
    source, other = shelf.put("new", ARM), elsewhere(shelf)
    shelf.put("some", ARM[:2], other)
    record = shelf.mark()

    merge(source, shelf.ref("stable", other))

    brought = [line.split()[1].rpartition("/")[2] for line in record if line.startswith("PUT")]
    assert brought == [ARM[2].digest, "stable"]


def test_only_what_is_taken_is_brought(shelf: Shelf) -> None:
    source, other = shelf.put("new", ARM), elsewhere(shelf)

    merge(source, shelf.ref("stable", other), "--arch", "amd64")

    assert shelf.get("stable", other).content == merged(ARM[2])
    assert shelf.find(ARM[0].digest, other) is None


def test_a_single_image_is_brought_whole(shelf: Shelf, tmp_path: Path) -> None:
    image, other = make_image("linux/arm64", seed="single"), elsewhere(shelf)
    source = shelf.put("new", image)

    merge(source, shelf.ref("stable", other))

    pull_whole(shelf.ref("stable", other), image, tmp_path / "pulled")


def test_a_wrapped_image_is_brought_whole(shelf: Shelf, tmp_path: Path) -> None:
    image, other = make_image("linux/arm64", seed="single"), elsewhere(shelf)
    source, destination = shelf.put("new", image), shelf.put("stable", OLD, other)

    merge(source, destination, "--single-image", "wrap")

    assert shelf.get("stable", other).content == merged(image, *OLD)
    assert_whole(destination, [image, *OLD], tmp_path)


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


def test_nothing_is_brought_where_copying_is_ruled_out(shelf: Shelf) -> None:
    source, other = shelf.put("new", ARM), elsewhere(shelf)
    destination = shelf.put("stable", OLD, other)
    record, before = shelf.mark(), shelf.get("stable", other)

    done = merge(source, destination, "--copy", "never", code=1)

    assert "the repository lacks" in done.err
    assert all(child.digest in done.err for child in ARM)
    assert record.writes == []
    assert shelf.get("stable", other) == before


def test_nothing_needs_copying_where_all_is_there(shelf: Shelf) -> None:
    source, other = shelf.put("new", ARM), elsewhere(shelf)
    shelf.put("all", ARM, other)

    merge(source, shelf.ref("stable", other), "--copy", "never")

    assert shelf.get("stable", other).content == make_index(ARM).content


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


def test_children_are_copied_from_tls_to_plain_http(
    shelf: Shelf, tls_shelf: Shelf, tmp_path: Path
) -> None:
    source = tls_shelf.put("new", ARM)

    merge(source, shelf.ref("stable"), "--ca-bundle", str(tls_shelf.registry.ca_file))

    assert shelf.get("stable").content == make_index(ARM).content
    assert_whole(shelf.ref("stable"), ARM, tmp_path)


def test_children_are_copied_to_tls_without_verification(shelf: Shelf, tls_shelf: Shelf) -> None:
    source = shelf.put("new", ARM)

    merge(source, tls_shelf.ref("stable"), "--insecure")

    assert tls_shelf.get("stable").content == make_index(ARM).content


def test_a_mount_needs_one_login_for_both_repositories(token_shelf: Shelf) -> None:
    source, other = token_shelf.put("new", ARM), elsewhere(token_shelf)
    tokens, record = token_shelf.registry.tokens, token_shelf.mark()
    assert tokens is not None
    before = tokens.count
    login = ("--source-quay-user", TOKEN_USER, "--source-quay-password", TOKEN_PASSWORD)

    merge(source, token_shelf.ref("stable", other), *login, *TO_TOKEN)

    assert token_shelf.get("stable", other).content == make_index(ARM).content
    assert [line for line in record.writes if " 401" in line] == []
    asked = {scope for scopes in tokens.scopes[before : before + 1] for scope in scopes}
    assert asked == {
        f"repository:{token_shelf.repository}:pull",
        f"repository:{other}:pull,push",
    }


def test_a_missing_skopeo_is_named(shelf: Shelf, token_shelf: Shelf, tmp_path: Path) -> None:
    source = shelf.put("new", ARM)

    env = {"PATH": str(tmp_path)}
    skopeo = ("--copy", "skopeo", *TO_TOKEN)
    done = merge(source, token_shelf.ref("stable"), *skopeo, code=1, env=env)

    assert "skopeo is not installed" in done.err
    assert "Traceback" not in done.err
    assert token_shelf.find("stable") is None


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
