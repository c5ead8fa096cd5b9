"""Locks in a directory."""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pubtools_mlmerge.errors import LockFailed, LockLost
from pubtools_mlmerge.locks import Held, _file_name, _FileLock, tag_lock

TAG = "quay.io/ns/app:1"


def lock(directory: Path) -> AbstractContextManager[Held]:
    return tag_lock(TAG, f"{directory.as_uri()}?wait=0.3")


def take(directory: Path) -> list[Path]:
    """Hold the tag for a moment, and tell what files there were."""
    with lock(directory) as held:
        held.check()
        return list(directory.iterdir())


def test_a_missing_directory_is_made(tmp_path: Path) -> None:
    (file,) = take(tmp_path / "of" / "locks")

    assert file.name.startswith("quay.io_ns_app_1-")


def test_a_file_that_was_left_behind_hinders_nobody(tmp_path: Path) -> None:
    assert take(tmp_path) == take(tmp_path) != []


def test_a_directory_that_cannot_be_written_is_named() -> None:
    """In it, not even root may make files."""
    with pytest.raises(LockFailed, match=r"/proc/self/quay\.io_ns_app_1-\S+: No such file"):
        take(Path("/proc/self"))


def test_a_file_in_the_place_of_the_directory_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "locks").touch()

    with pytest.raises(LockFailed, match="File exists"):
        take(tmp_path / "locks")


def test_a_link_in_the_place_of_the_file_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    locks = tmp_path / "locks"
    locks.mkdir()
    (locks / _file_name(TAG)).symlink_to(victim)

    with pytest.raises(LockFailed, match="symbolic links"):
        take(locks)

    assert not victim.exists()


def test_a_lock_whose_file_was_removed_is_lost(tmp_path: Path) -> None:
    with lock(tmp_path / "locks") as held:
        shutil.rmtree(tmp_path / "locks")

        with pytest.raises(LockLost, match="was removed"):
            held.check()


def test_a_lock_whose_file_was_replaced_is_lost(tmp_path: Path) -> None:
    with lock(tmp_path) as held:
        (file,) = tmp_path.iterdir()
        file.unlink()
        file.touch()

        with pytest.raises(LockLost, match="was removed"):
            held.check()


def test_a_lost_lock_does_not_cover_the_error_of_its_body(tmp_path: Path) -> None:
    def lose() -> None:
        with lock(tmp_path / "locks"):
            shutil.rmtree(tmp_path / "locks")
            raise KeyError

    with pytest.raises(KeyError):
        lose()


def test_who_locks_a_file_just_removed_takes_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between opening and locking there is a moment in which the file can go."""
    really_lock, inodes = fcntl.flock, []

    def remove_and_lock(file: int, how: int) -> None:
        inodes.append(os.fstat(file).st_ino)
        if len(inodes) == 1:
            shutil.rmtree(tmp_path)
        really_lock(file, how)

    monkeypatch.setattr(fcntl, "flock", remove_and_lock)

    (file,) = take(tmp_path)
    assert len(inodes) > 1
    assert file.stat().st_ino == inodes[-1]


def test_a_child_that_has_the_file_open_does_not_keep_the_lock(tmp_path: Path) -> None:
    with lock(tmp_path):
        (file,) = tmp_path.iterdir()
        (number,) = (int(fd.name) for fd in open_files() if fd.samefile(file))
        copy = os.dup(number)  # what a fork would leave in the child

    assert take(tmp_path)
    os.close(copy)


def open_files() -> list[Path]:
    return [fd for fd in sorted(Path("/proc/self/fd").iterdir()) if fd.exists()]


def test_no_file_stays_open(tmp_path: Path) -> None:
    before = open_files()

    with lock(tmp_path) as held:
        (file,) = tmp_path.iterdir()
        assert not _FileLock(TAG, file).take()
        held.check()

    assert open_files() == before


@given(st.text(st.characters(codec="utf-8")))
@example("../..")
@example(f"quay.io/{'a' * 255}:1")
def test_no_reference_leads_out_of_the_directory(name: str) -> None:
    file = _file_name(name)

    assert Path("/locks", file).parent == Path("/locks")
    assert not file.startswith(".")
    assert len(os.fsencode(file)) < 255


@pytest.mark.parametrize(
    ("one", "other"),
    [("h/a/b:1", "h/a_b:1"), ("h/a:1", "h/A:1"), (f"h/{'x' * 90}:1", f"i/{'x' * 90}:1")],
)
def test_each_tag_has_a_file_of_its_own(one: str, other: str) -> None:
    assert _file_name(one) != _file_name(other)
