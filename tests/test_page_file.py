"""Where a page goes: found out early, written late, as a whole or not at all."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from pubtools_mlmerge.reports.html import PageFile


def test_a_page_is_written_as_a_whole(tmp_path: Path) -> None:
    file = PageFile.at(str(tmp_path / "page.html"))
    assert list(tmp_path.iterdir()) == []

    file.write("<p>\u00fc</p>")

    assert list(tmp_path.iterdir()) == [tmp_path / "page.html"]
    assert (tmp_path / "page.html").read_bytes() == "<p>\u00fc</p>".encode()


def test_a_page_is_for_whom_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        PageFile.at(str(tmp_path / "page.html")).write("page")
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "page.html").stat().st_mode) == 0o640


def test_what_is_there_stays_until_the_page_is_written(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("before", encoding="utf-8")

    file = PageFile.at(str(path))

    assert path.read_text(encoding="utf-8") == "before"
    file.write("after")
    assert path.read_text(encoding="utf-8") == "after"


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "page.html").symlink_to(tmp_path / "there" / "real.html")

    PageFile.at(str(tmp_path / "page.html")).write("page")

    assert (tmp_path / "page.html").is_symlink()
    assert (tmp_path / "there" / "real.html").read_text(encoding="utf-8") == "page"


def test_a_pipe_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()

    PageFile.at(str(pipe)).write("page")

    reader.join(10)
    assert read == [b"page"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_device_stays_a_device() -> None:
    PageFile.at(os.devnull).write("page")

    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("absent/page.html", "No such file or directory"),
        (".", "Is a directory"),
        ("file/page.html", "Not a directory"),
        ("x" * 300, "File name too long"),
    ],
)
def test_what_cannot_be_written_is_said_at_once(tmp_path: Path, name: str, problem: str) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(ValueError, match=f"^--output html: .*: {problem}$"):
        PageFile.at(str(tmp_path / name))


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    file = PageFile.at(str(path))
    path.mkdir()
    (path / "in the way").touch()

    with pytest.raises(OSError, match="directory"):
        file.write("page")

    assert [each.name for each in tmp_path.iterdir()] == ["page.html"]


def test_half_a_page_is_never_there(tmp_path: Path) -> None:
    file = PageFile.at(str(tmp_path / "page.html"))

    with pytest.raises(UnicodeEncodeError):
        file.write("\ud800")

    assert list(tmp_path.iterdir()) == []
