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
from tests.programs import command, environment

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
