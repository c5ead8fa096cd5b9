"""Batches: many tags in one call, on a real registry, through the console script."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from pubtools_mlmerge.cli.parsers import merge_main
from pubtools_mlmerge.testing import make_image, make_index
from tests.e2e.conftest import Shelf, merged
from tests.peers import OCI_INDEX
from tests.programs import Done, call, run_here

OLD = [make_image(p, seed="old") for p in ("linux/amd64", "linux/s390x")]
NEW = [make_image(p, seed="new") for p in ("linux/amd64", "linux/arm64")]
WHOLE = merged(*NEW, OLD[1])


def line(shelf: Shelf, tag: str, **more: object) -> dict[str, object]:
    return {"source_ref": shelf.ref("new"), "dest_ref": shelf.ref(tag), **more}


@pytest.fixture
def tags(shelf: Shelf) -> list[str]:
    names, old = [f"v{number}" for number in range(20)], make_index(OLD)
    shelf.put("new", NEW)
    shelf.put(names[0], old)
    for name in names[1:]:
        shelf.peer.put(shelf.repository, name, old.content, OCI_INDEX).raise_for_status()
    return names


def batch(path: Path, lines: Sequence[object], *options: str) -> Done:
    path.write_text("".join(f"{json.dumps(each)}\n" for each in lines), encoding="utf-8")
    return run_here("merge", "--batch", str(path), "--output", "json", *options)


def test_results_come_in_the_order_of_the_lines(
    shelf: Shelf, tags: list[str], tmp_path: Path
) -> None:
    record = shelf.mark()

    done = batch(tmp_path / "lines", [line(shelf, tag) for tag in tags])

    assert done.code == 0, done.err
    assert [report["destination"] for report in done.reports] == [shelf.ref(t) for t in tags]
    # The registry fails whoever reads what it is writing at that moment, and is asked again.
    assert len(list(record)) >= 4 * len(tags)
    assert {shelf.get(tag).content for tag in tags} == {WHOLE}
    assert len([each for each in record if "manifests/new" in each]) == 1


@pytest.mark.parametrize("threads", ["1", "8"])
def test_lines_that_depend_on_each_other_are_done_in_their_order(
    shelf: Shelf, tmp_path: Path, threads: str
) -> None:
    shelf.put("stable", OLD)
    shelf.put("new", NEW)
    steps = [("stable", "backup"), ("new", "stable"), ("stable", "prod"), ("new", "backup")] * 2
    other = shelf.ref("").replace("127.0.0.1", "localhost")  # the same, by another name
    lines = [{"source_ref": shelf.ref(a), "dest_ref": f"{other}{b}"} for a, b in steps]

    done = batch(tmp_path / "lines", lines, "--threads", threads)

    assert done.code == 0, done.err
    assert done.reports[0]["digest"] == make_index(OLD).digest
    assert [shelf.get(tag).content for tag in ("stable", "prod", "backup")] == [WHOLE] * 3


@pytest.mark.parametrize("threads", ["1", "3"])
def test_a_producer_may_wait_for_each_result(
    shelf: Shelf, tags: list[str], tmp_path: Path, threads: str
) -> None:
    printed = threading.Semaphore(0)

    class Out(StringIO):
        def write(self, text: str) -> int:
            if "\n" in text:
                printed.release()
            return super().write(text)

    def produce() -> Iterator[bool]:
        with pipe.open("w", encoding="utf-8") as stream:
            for tag in tags[:4]:
                print(json.dumps(line(shelf, tag)), file=stream, flush=True)
                yield printed.acquire(timeout=20)

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool, redirect_stdout(Out()):
        seen = pool.submit(lambda: list(produce()))
        code = call(merge_main, "--batch", str(pipe), "--threads", threads, "--output", "json")

    assert (code, seen.result(60)) == (0, [True] * 4)


def test_failing_fast_awaits_no_further_line(tmp_path: Path) -> None:
    pipe, ended = tmp_path / "pipe", threading.Event()
    os.mkfifo(pipe)

    def produce() -> bool:
        with pipe.open("w", encoding="utf-8") as stream:
            print("no object", file=stream, flush=True)
            return ended.wait(20)

    with ThreadPoolExecutor(1) as pool:
        is_in_time = pool.submit(produce)
        done = run_here("merge", "--batch", str(pipe), "--fail-fast")
        ended.set()

    assert (done.code, is_in_time.result(60)) == (1, True)


def test_an_empty_batch_says_so(tmp_path: Path) -> None:
    done = batch(tmp_path / "lines", [])

    assert (done.code, done.out) == (0, "")
    assert done.err.endswith("/lines has no lines, so nothing is merged\n")


def test_what_is_done_already_takes_one_read(shelf: Shelf, tags: list[str], tmp_path: Path) -> None:
    lines = [line(shelf, tag) for tag in tags]
    batch(tmp_path / "lines", lines[:10])
    record = shelf.mark()

    done = batch(tmp_path / "lines", lines)

    assert [report["changed"] for report in done.reports] == [False] * 10 + [True] * 10
    path = f"/v2/{shelf.repository}/manifests/{tags[3]}"
    assert [each for each in record if f"{path} " in each] == [f"GET {path} 200"]


def test_failing_fast_begins_nothing_more(shelf: Shelf, tags: list[str], tmp_path: Path) -> None:
    """The second line fails while the first one is merged."""
    lines = [line(shelf, tags[0]), "no object", *(line(shelf, tag) for tag in tags[1:])]

    done = batch(tmp_path / "lines", lines, "--fail-fast", "--threads", "2")

    assert (done.code, len(done.reports)) == (1, 1)
    assert {shelf.get(tag).content for tag in tags[1:]} == {make_index(OLD).content}


def test_lines_may_select_architectures(shelf: Shelf, tags: list[str], tmp_path: Path) -> None:
    lines = [line(shelf, tags[0], archs=["arm64"]), line(shelf, tags[1])]

    assert batch(tmp_path / "lines", lines).code == 0

    assert shelf.get(tags[0]).content == merged(NEW[1], *OLD)
    assert shelf.get(tags[1]).content == WHOLE
