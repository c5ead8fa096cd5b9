"""What pubtools-mlmerge-restore does, in this process and on the embedded registry."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
from attrs import frozen
from pubtools.pluggy import hookimpl, pm

from pubtools_mlmerge.cli.parsers import restore_main
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import LockLost
from pubtools_mlmerge.merging.audit import to_document
from pubtools_mlmerge.testing import RegistryServer
from tests.programs import call, put
from tests.test_restoring import NEW, OLD, OTHER, Item, change_of

Capture = pytest.CaptureFixture[str]
Log = pytest.LogCaptureFixture

NAME = "registry.invalid/app"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("MLMERGE_") or name.endswith("_QUAY_PASSWORD"):
            monkeypatch.delenv(name)


@frozen
class Shelf:
    """A registry, and records of its tags."""

    server: RegistryServer
    directory: Path

    def changed(self, tag: str, previous: Item | None = OLD, new: Item = NEW) -> str:
        """Let a tag hold one thing and then the other, and return the record of that."""
        for item in (previous, new):
            if item is not None:
                put(self.server, tag, item)
        self.server.forget_requests()
        return self.record(f"{NAME}:{tag}", previous, new)

    def record(self, tag: str, previous: Item | None = OLD, new: Item = NEW) -> str:
        file = self.directory / str(len(list(self.directory.iterdir())))
        document = to_document(change_of(Reference.parse(tag), previous, new))
        file.write_text(json.dumps(document), encoding="utf-8")
        return str(file)

    def held(self, tag: str) -> str:
        return self.server.manifest("app", tag).digest

    def restore(self, *arguments: str) -> int:
        return call(restore_main, *arguments, "--quay-host", self.server.url)


@pytest.fixture
def shelf(registry_server: RegistryServer, tmp_path: Path) -> Shelf:
    directory = tmp_path / "records"
    directory.mkdir()
    return Shelf(registry_server, directory)


def test_a_tag_is_put_back_and_reported(shelf: Shelf, capsys: Capture) -> None:
    assert shelf.restore(shelf.changed("stable"), "--output", "json") == 0

    report = json.loads(capsys.readouterr().out)
    assert shelf.held("stable") == OLD.digest == report["digest"]
    assert (report["destination"], report["previous_digest"]) == (f"{NAME}:stable", NEW.digest)
    assert [entry["fate"] for entry in report["entries"]] == [
        "replaced",
        "same",
        "added",
        "dropped",
    ]


def test_text_is_printed_by_default(shelf: Shelf, capsys: Capture) -> None:
    assert shelf.restore(shelf.changed("stable"), "--dry-run") == 0

    assert f"{NAME}:stable would become {OLD.digest} " in capsys.readouterr().out
    assert shelf.held("stable") == NEW.digest


def test_every_record_gets_its_turn_in_the_given_order(
    shelf: Shelf, capsys: Capture, caplog: Log
) -> None:
    files = [shelf.changed(tag) for tag in ("one", "two", "three")]
    put(shelf.server, "two", OTHER)

    assert shelf.restore(*reversed(files), "--output", "json") == 1

    reports = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [report["destination"] for report in reports] == [f"{NAME}:three", f"{NAME}:one"]
    assert [shelf.held(tag) for tag in ("one", "two", "three")] == [
        OLD.digest,
        OTHER.digest,
        OLD.digest,
    ]
    assert f"{NAME}:two: not put back: it was changed since" in caplog.text


def test_the_changes_of_one_tag_are_undone_newest_first(shelf: Shelf) -> None:
    older, newer = shelf.changed("stable"), shelf.changed("stable", NEW, OTHER)

    assert shelf.restore(newer, older) == 0

    assert shelf.held("stable") == OLD.digest


def test_force_overwrites_what_is_there_since(shelf: Shelf) -> None:
    file = shelf.changed("stable")
    put(shelf.server, "stable", OTHER)

    assert shelf.restore(file, "--force") == 0

    assert shelf.held("stable") == OLD.digest


def test_a_new_tag_is_not_deleted(shelf: Shelf, caplog: Log) -> None:
    assert shelf.restore(shelf.changed("stable", None)) == 1

    assert caplog.messages[-1].endswith("nothing can be put back; delete it by hand")
    assert shelf.held("stable") == NEW.digest


def test_debug_adds_the_traceback(shelf: Shelf, capsys: Capture) -> None:
    assert shelf.restore(shelf.changed("stable", None), "--debug") == 1

    assert "Traceback" in capsys.readouterr().err


def test_the_password_of_the_destination_is_used(
    monkeypatch: pytest.MonkeyPatch, shelf: Shelf
) -> None:
    monkeypatch.setenv("DEST_QUAY_PASSWORD", "wonderland")
    with RegistryServer(auth="token", users={"alice": "wonderland"}) as server:
        put(server, "stable", OLD)
        file = shelf.record(put(server, "stable", NEW))

        assert call(restore_main, file, "--dest-quay-user", "alice") == 0

        assert server.manifest("app", "stable").digest == OLD.digest


def test_putting_back_is_recorded_where_the_environment_says(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLMERGE_AUDIT", str(tmp_path / "audit"))

    assert shelf.restore(shelf.changed("stable")) == 0

    (file,) = (tmp_path / "audit").iterdir()
    assert shelf.restore(str(file)) == 0
    assert shelf.held("stable") == NEW.digest


def test_the_tag_is_locked_where_the_environment_says(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Log
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MLMERGE_LOCK", f"file://{tmp_path}/file")

    assert shelf.restore(shelf.changed("stable")) == 1

    place = NAME.replace("registry.invalid", shelf.server.host)  # however references name it
    assert f"{place}:stable: cannot lock this tag: " in caplog.messages[-1]
    assert shelf.server.requests == ()


def test_a_site_may_lock_tags_in_its_own_way(shelf: Shelf, caplog: Log) -> None:
    class Site:
        """Gives out locks that are lost at once."""

        @hookimpl
        def mlmerge_lock(self, reference: str) -> AbstractContextManager[Site]:
            self.locked = reference
            return nullcontext(self)

        def check(self) -> None:
            raise LockLost(self.locked, "gone")

    pm.register(site := Site())
    try:
        assert shelf.restore(shelf.changed("stable")) == 1
    finally:
        pm.unregister(site)

    assert caplog.messages[-1].startswith(f"{site.locked}: the lock of this tag was lost")
    assert site.locked.startswith(f"{shelf.server.host}/")
    assert shelf.held("stable") == NEW.digest


# Wrong usage


@pytest.fixture
def refused(shelf: Shelf, capsys: Capture) -> Callable[..., str]:
    """Run the program, which must end with 2 and ask nothing, and return its last line."""

    def run(*arguments: str) -> str:
        assert call(restore_main, *arguments) == 2
        captured = capsys.readouterr()
        assert (captured.out, shelf.server.requests) == ("", ())
        assert "Traceback" not in captured.err
        return captured.err.splitlines()[-1]

    return run


def test_no_tag_is_written_if_one_file_is_no_record(
    refused: Callable[..., str], shelf: Shelf
) -> None:
    good, absent = shelf.changed("stable"), str(shelf.directory / "absent")

    problem = refused(good, absent, "--quay-host", shelf.server.url)

    assert problem.endswith(f"{absent}: no record of a change: No such file or directory")
    assert shelf.held("stable") == NEW.digest


def test_a_record_without_a_host_needs_one(refused: Callable[..., str], shelf: Shelf) -> None:
    shelf.changed("stable")
    file = shelf.record("app:stable")

    assert refused(file).endswith("its tag names no host; give --quay-host")
    assert shelf.restore(file) == 0


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((), "RECORD"),
        (("--dest-quay-user", "x"), "--dest-quay-user needs a password: set DEST_QUAY_PASSWORD"),
        (("--ca-bundle", "/nonexistent"), "--ca-bundle: there is no file /nonexistent"),
        (("--quay-host", "ftp://quay.io"), "expected"),
        (("--source-quay-user", "x"), "unrecognized arguments"),
    ],
)
def test_wrong_arguments(
    refused: Callable[..., str], shelf: Shelf, arguments: tuple[str, ...], problem: str
) -> None:
    files = [shelf.changed("stable")] if arguments else []

    assert problem in refused(*files, *arguments)


def test_a_wrong_setting_is_wrong_usage(
    refused: Callable[..., str], shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLMERGE_LOCK", "ftp://somewhere")

    assert "MLMERGE_LOCK: " in refused(shelf.changed("stable"))
