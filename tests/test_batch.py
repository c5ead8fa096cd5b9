"""A batch that goes on where it ended: what is done is not done again, unless it has to be."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from pubtools_mlmerge.cli.commands import DoneLines
from pubtools_mlmerge.testing import RegistryServer, make_image, make_index
from tests.programs import Done, put, run_here
from tests.test_audit import room_for

OLD = make_index([make_image(p, seed="old") for p in ("linux/amd64", "linux/s390x")])
NEW = make_index([make_image(p, seed="new") for p in ("linux/amd64", "linux/arm64")])
TAGS = [f"v{number}" for number in range(12)]


@define
class Shelf:
    """A registry with tags to merge into, and the files of a batch."""

    server: RegistryServer
    lines: Path
    record: Path

    def line(self, tag: str, source: str = "new", **more: object) -> dict[str, object]:
        app = f"{self.server.host}/app"
        return {"source_ref": f"{app}:{source}", "dest_ref": f"{app}:{tag}", **more}

    def run(self, lines: Sequence[object], *options: str) -> Done:
        """Run a batch, and count its requests alone."""
        self.lines.write_text("".join(f"{json.dumps(each)}\n" for each in lines), encoding="utf-8")
        self.server.forget_requests()
        where = ("--batch", str(self.lines), "--resume", str(self.record))
        return run_here("merge", *where, "--output", "json", *options)

    def asked(self) -> set[str]:
        """List the tags that anything was asked about."""
        names = {request.path.rpartition("/")[2] for request in self.server.requests}
        return {name for name in names if name and not name.startswith("sha256:")}


@pytest.fixture
def shelf(registry_server: RegistryServer, tmp_path: Path) -> Shelf:
    for tag in TAGS:
        put(registry_server, tag, OLD)
    put(registry_server, "new", NEW)
    return Shelf(registry_server, tmp_path / "lines", tmp_path / "record")


@pytest.mark.parametrize("threads", ["1", "8"])
def test_lines_that_are_done_take_no_request(shelf: Shelf, threads: str) -> None:
    lines = [shelf.line(tag) for tag in TAGS]
    shelf.run(lines[:5], "--threads", threads)

    done = shelf.run([*reversed(lines), lines[0]], "--threads", threads)

    assert (done.code, len(done.reports)) == (0, 8)  # the last line is there a second time
    assert shelf.asked() == {"new", *TAGS[5:], TAGS[0]}
    assert "5 lines were done before" in done.err
    assert shelf.run(lines).code == 0
    assert (shelf.asked(), done.failures) == (set(), [])


def test_lines_that_failed_or_changed_are_not_done(shelf: Shelf) -> None:
    lines = [shelf.line("v0"), shelf.line("v1", "absent"), shelf.line("v2"), "no object"]
    assert shelf.run(lines).code == 1
    put(shelf.server, "absent", NEW)
    changed = [*lines[:2], shelf.line("v2", archs=["arm64"]), shelf.line("v3")]

    assert shelf.run(changed).code == 0

    assert shelf.asked() == {"absent", "new", "v1", "v2", "v3"}
    shelf.run(changed, "--drop", "s390x")
    assert shelf.asked() >= {"v0", "v1", "v2", "v3"}


def test_the_anchor_tag_belongs_to_a_line(shelf: Shelf) -> None:
    lines = [shelf.line("v0"), shelf.line("v1")]
    assert shelf.run(lines, "--anchor-tag", "v2").code == 1  # it holds something else

    assert [report["error"] is None for report in shelf.run(lines).reports] == [True, True]


def test_a_line_is_done_again_after_one_that_it_depends_on(shelf: Shelf) -> None:
    lines = [shelf.line("v0", "absent"), shelf.line("v1", "v0"), shelf.line("v2", "v1")]
    lines += [shelf.line("v3")]
    shelf.run(lines)
    put(shelf.server, "absent", NEW)

    shelf.run(lines)

    assert shelf.server.manifest("app", "v2") == shelf.server.manifest("app", "v0")
    assert "v3" not in shelf.asked()
    shelf.run(lines)
    assert shelf.asked() == set()


def test_a_dry_run_only_reads_the_record(shelf: Shelf) -> None:
    lines = [shelf.line(tag) for tag in TAGS[:3]]
    shelf.run(lines, "--dry-run")
    assert not shelf.record.exists()
    shelf.run(lines[:1])
    before = shelf.record.read_bytes()

    done = shelf.run(lines, "--dry-run")

    assert (len(done.reports), shelf.record.read_bytes()) == (2, before)


def test_no_other_process_may_use_the_record(shelf: Shelf) -> None:
    held = DoneLines.of(str(shelf.record), dry_run=False)

    with closing(held):
        done = shelf.run([shelf.line("v0")])

    assert (done.code, shelf.asked()) == (2, set())
    assert f"--resume: {shelf.record}: another process uses it" in done.err
    assert shelf.run([shelf.line("v0")]).code == 0


@pytest.mark.parametrize("content", ["a file of mine", '{"source_ref": "a"}\n', "\n"])
def test_a_file_with_something_else_is_left_alone(shelf: Shelf, content: str) -> None:
    shelf.record.write_text(content, encoding="utf-8")

    done = shelf.run([shelf.line("v0")])

    assert (done.code, shelf.asked(), shelf.record.read_text()) == (2, set(), content)
    assert "give a new file" in done.err


@pytest.mark.parametrize(
    ("path", "problem"),
    [("/dev/null", "expected a file"), ("/", "Is a directory"), ("/absent/a", "No such file")],
)
def test_what_is_no_file_is_wrong_usage(shelf: Shelf, path: str, problem: str) -> None:
    shelf.record = Path(path)

    done = shelf.run([shelf.line("v0")])

    assert (done.code, shelf.asked()) == (2, set())
    assert problem in done.err


def test_a_batch_that_cannot_be_read_to_its_end_fails_and_keeps_its_results(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A terminal that hangs up gives its lines, and then an error."""
    leader, follower = os.openpty()
    os.write(follower, f"{json.dumps(shelf.line('v0'))}\n".encode())
    os.close(follower)

    with os.fdopen(leader) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        done = run_here("merge", "--batch", "-", "--json")

    assert done.code == 1
    assert done.report["destination"] == f"{shelf.server.host}/app:v0"
    assert done.err.splitlines()[-1] == "ERROR: line 2: cannot be read: Input/output error"


def test_a_full_disk_is_a_failure_that_loses_no_result(tmp_path: Path) -> None:
    work = Work(tmp_path / "record", [("a", "x"), ("a", "y")])

    with room_for(100):
        assert not work.run()

    assert work.runs == [0, 1]
    assert work.run()
    assert work.runs == [0, 1, 1]


def test_equal_lines_are_done_as_often_as_they_are_there(tmp_path: Path) -> None:
    work = Work(tmp_path / "record", [("a", "x"), ("b", "x"), ("a", "x")])

    for until in (1, 3, 3):
        work.run(until=until)

    assert work.runs == [0, 1, 2]


# The record alone, with lines that do nothing


@define
class Work:
    """Lines of a batch, each of which reads a tag and writes one."""

    record: Path
    lines: Sequence[tuple[str, str]]
    runs: list[int] = field(factory=list)  # numbers of lines, as they were done

    def run(self, failing: Sequence[int] = (), until: int = 99, lost: int = 0) -> bool:
        """Run the lines up to one, of which some fail; then lose bytes at the end of the record.

        Return whether the record has all that were done.
        """
        done = DoneLines.of(str(self.record), dry_run=False)
        with closing(done):
            for number, (reads, writes) in enumerate(self.lines[:until]):
                begun = done.begin(f"{reads} to {writes}", [reads], [writes])
                if begun is not None and number not in failing:
                    self.runs.append(number)
                    done.add(begun, f"host/app:{writes}")
        content = self.record.read_bytes()
        self.record.write_bytes(content[: len(content) - lost])
        return done.is_whole


LINES = st.lists(st.tuples(st.sampled_from("abcx"), st.sampled_from("xyz")), unique=True)
RUNS = st.lists(
    st.tuples(st.sets(st.integers(0, 8)), st.integers(0, 8), st.integers(0, 250)), max_size=5
)


@given(LINES, RUNS)
def test_in_the_end_each_line_was_done_after_all_that_it_depends_on(
    lines: list[tuple[str, str]], runs: list[tuple[set[int], int, int]]
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        work = Work(Path(directory, "record"), lines)
        for failing, until, lost in runs:
            work.run(sorted(failing), until, lost)
        assert work.run()
        seen = len(work.runs)
        work.run()

    assert len(work.runs) == seen  # nothing is done again without a need
    last = {number: place for place, number in enumerate(work.runs)}
    assert sorted(last) == list(range(len(lines)))
    for later, (reads, writes) in enumerate(lines):
        for earlier in range(later):
            if lines[earlier][1] in (reads, writes):
                assert last[earlier] < last[later], (lines, work.runs)
