"""HTML pages that the programs write, on a real registry."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pubtools_mlmerge.testing import make_attestation
from tests.e2e.conftest import Shelf, images
from tests.paper import text_of
from tests.programs import command, environment, run_here

OLD = images("linux/amd64", "linux/s390x", seed="old")
NEW = images("linux/amd64", seed="new")


@pytest.fixture
def filled(shelf: Shelf) -> Shelf:
    shelf.hold(stable=OLD, new=[*NEW, make_attestation(NEW[0])])
    return shelf


def read(file: Path) -> str:
    return text_of(file.read_text(encoding="ascii"))


@pytest.mark.parametrize(("output", "start"), [("text", "PLATFORM"), ("json", '{"schema":')])
def test_a_merge_writes_a_page_beside_any_output(
    filled: Shelf, tmp_path: Path, output: str, start: str
) -> None:
    page = tmp_path / "page.html"

    done = filled.merge("--output", output, "--html", str(page))

    assert done.out.startswith(start)
    text = read(page)
    assert filled.get("stable").digest in text
    for fact in ("1 added", "1 replaced", "1 kept", "linux/s390x", OLD[1].digest):
        assert fact in text
    assert list(tmp_path.iterdir()) == [page]


def test_failures_are_on_the_page_of_a_batch(filled: Shelf, tmp_path: Path) -> None:
    page, batch = tmp_path / "page.html", tmp_path / "batch"
    good = {"source_ref": filled.ref("new"), "dest_ref": filled.ref("stable")}
    bad = {**good, "source_ref": filled.ref("absent")}
    batch.write_text("\n".join(map(json.dumps, (good, bad, "no"))), encoding="utf-8")

    done = run_here("merge", "--batch", str(batch), "--html", str(page))

    assert done.code == 1
    text = read(page)
    assert "3 tags 1 changed 2 failed" in text
    assert f"line 2: {filled.ref('stable')} {filled.ref('absent')}: not found (HTTP 404)" in text
    assert "line 3 line 3: document: expected an object" in text


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """Let programs heed SIGINT, also where the tests run in the background of a shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
def test_an_interruption_leaves_a_page_of_what_was_done(filled: Shelf, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    call = [*command("merge"), "--batch", "-", "--threads", "1", "--html", str(page)]
    line = json.dumps({"source_ref": filled.ref("new"), "dest_ref": filled.ref("stable")})
    before = filled.get("stable").digest
    with subprocess.Popen(
        call,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(),
        text=True,
    ) as process:
        assert process.stdin is not None
        process.stdin.write(f"{line}\n")
        process.stdin.flush()
        while filled.get("stable").digest == before:
            assert process.poll() is None, "it ended early"
        os.kill(process.pid, signal.SIGINT)  # as it waits for the next line

        assert process.wait(30) == 128 + signal.SIGINT
    text = read(page)
    assert "Interrupted: the rest is missing here." in text
    assert f"{filled.ref('stable')} is now {filled.get('stable').digest}" in text


def test_a_removal_and_a_restore_have_pages(filled: Shelf, tmp_path: Path) -> None:
    removed, restored = tmp_path / "removed.html", tmp_path / "restored.html"
    records = tmp_path / "records"
    before = filled.get("stable").digest

    done = run_here(
        *("remove-archs", "--ref", filled.ref("stable"), "--arch", "s390x"),
        *("--audit", str(records), "--html", str(removed)),
    )
    assert done.code == 0, done.err
    (record,) = records.iterdir()
    done = run_here("restore", str(record), "--html", str(restored))

    assert done.code == 0, done.err
    assert "1 kept" in read(removed)
    assert "1 dropped" in read(removed)
    assert "1 added" in read(restored)
    assert f"is now {before}" in read(restored)
