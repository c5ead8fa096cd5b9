"""The way back on a real registry, by the programs: recorded by a merge, put back by a restore."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pubtools_mlmerge.testing import make_index
from tests.e2e.conftest import Item, Shelf, image_index, images
from tests.peers import OCI_INDEX
from tests.programs import Done, run_here
from tests.servers import TOKEN_PASSWORD, TOKEN_USER

OLD = images("linux/amd64", "linux/arm64", "linux/s390x", seed="old")
NEW = images("linux/amd64", "linux/riscv64", seed="new")


def change(shelf: Shelf, audit: Path, old: Item | None = OLD, new: Item = NEW) -> str:
    """Merge something into the tag `stable`, keep a record of it, and return the new digest."""
    if old is not None:
        shelf.hold(stable=old)
    shelf.hold(new=new)
    return str(shelf.merge("--audit", str(audit)).report["digest"])


def restore(*arguments: object) -> Done:
    """Put tags back."""
    return run_here("restore", *map(str, arguments), "--output", "json")


def records(directory: Path) -> list[Path]:
    return sorted(directory.iterdir())


@pytest.mark.parametrize("docker", [True, False])
def test_a_merge_is_undone_byte_for_byte(shelf: Shelf, tmp_path: Path, docker: bool) -> None:
    old = image_index("linux/amd64", "linux/s390x", seed="old", docker=docker)
    merged = change(shelf, tmp_path, old, image_index("linux/amd64", seed="new", docker=docker))

    done = restore(*records(tmp_path))

    assert done.code == 0, done.err
    held = shelf.get("stable")
    assert (held.content, held.media_type) == (old.content, old.media_type)
    assert (done.report["digest"], done.report["previous_digest"]) == (old.digest, merged)
    assert [(e["platform"], e["fate"]) for e in done.entries] == [
        ("linux/amd64", "replaced"),
        ("linux/s390x", "same"),
    ]


def test_oddly_written_bytes_come_back_as_they_were(shelf: Shelf, tmp_path: Path) -> None:
    shelf.put("children", make_index(OLD))
    document = {
        "manifests": [child.descriptor for child in OLD],
        "schemaVersion": 2,
        "annotations": {"é\u2028": "\U0001f600\x7f", "new": 'a"\\b'},
    }
    odd = b" \n\t" + json.dumps(document, ensure_ascii=False, indent=1).encode() + b"\r\n"
    assert shelf.peer.put(shelf.repository, "stable", odd, OCI_INDEX).status_code == 201
    change(shelf, tmp_path, None)

    assert restore(*records(tmp_path)).code == 0

    assert (shelf.get("stable").content, shelf.get("stable").media_type) == (odd, OCI_INDEX)


def test_a_tag_that_was_changed_since_needs_force(shelf: Shelf, tmp_path: Path) -> None:
    later = image_index("linux/ppc64le")
    change(shelf, tmp_path)
    reference = shelf.put("stable", later)

    refused = restore(*records(tmp_path))

    assert (refused.code, refused.reports) == (1, [])
    words = f"{reference}: not restored: it was changed since: it holds {later.digest}, not sha256:"
    assert words in refused.err
    assert shelf.get("stable").content == later.content
    assert restore(*records(tmp_path), "--force").code == 0
    assert shelf.get("stable").content == make_index(OLD).content


def test_a_dry_run_writes_nothing(shelf: Shelf, tmp_path: Path) -> None:
    change(shelf, tmp_path)
    before, record = shelf.get("stable"), shelf.mark()

    dry = restore(*records(tmp_path), "--dry-run").report

    assert record.writes == []
    assert shelf.get("stable") == before
    real = restore(*records(tmp_path)).report
    assert (dry["digest"], dry["entries"]) == (real["digest"], real["entries"])


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_an_image_that_was_deleted_is_named(
    shelf: Shelf, tmp_path: Path, force: tuple[str, ...]
) -> None:
    change(shelf, tmp_path)
    before = shelf.get("stable")
    assert shelf.peer.delete(shelf.repository, OLD[0].digest).status_code == 202

    done = restore(*records(tmp_path), *force)

    assert done.code == 1
    assert f"the repository lacks {OLD[0].digest}" in done.err
    assert shelf.get("stable") == before


def test_no_secret_gets_into_a_record(token_shelf: Shelf, tmp_path: Path) -> None:
    token_shelf.hold(stable=OLD, new=NEW)
    login = [f"--{side}-quay-user={TOKEN_USER}" for side in ("source", "dest")]
    env = {f"{side}_QUAY_PASSWORD": TOKEN_PASSWORD for side in ("SOURCE", "DEST")}
    env["MLMERGE_AUDIT"] = str(tmp_path)
    merged = token_shelf.merge(*login, env=env)

    options = (login[1], "--yes", "--debug", "--debug")
    done = run_here("restore", str(records(tmp_path)[0]), *options, env=env)

    assert (done.code, token_shelf.get("stable").content) == (0, make_index(OLD).content)
    written = [file.read_text() + file.name for file in records(tmp_path)]
    assert len(written) == 2
    for text in (*written, merged.err, done.out, done.err):
        assert TOKEN_PASSWORD not in text
        assert "eyJ" not in text  # as the registry's tokens begin
