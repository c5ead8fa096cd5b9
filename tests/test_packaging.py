"""What an installed project is: its metadata, its programs, the files that go with it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from email.message import Message
from email.parser import BytesParser
from importlib import metadata
from pathlib import Path
from zipfile import ZipFile

import pytest

from pubtools_mlmerge.cli.parsers import COMMANDS, new_parser
from tests.servers import require

ROOT = Path(__file__).parents[1]
NAME = "pubtools-mlmerge"
BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZipFile]:
    """The wheel, built from a copy, as setuptools leaves files in the directory it builds."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    (source / "docs").mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "docs/options.py"):
        shutil.copy(ROOT / name, source / name)
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "pubtools_mlmerge", source / "pubtools_mlmerge", ignore=ignore)
    left = source / "build" / "man" / "pubtools-mlmerge-gone.1"  # by an earlier version
    left.parent.mkdir(parents=True)
    left.touch()
    subprocess.run(
        [sys.executable, "-c", BUILD, str(target)], cwd=source, check=True, capture_output=True
    )
    (built,) = target.glob("*.whl")
    with ZipFile(built) as opened:
        yield opened


@pytest.fixture(scope="module")
def wheel_metadata(wheel: ZipFile) -> Message:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return BytesParser().parsebytes(wheel.read(name))


def requirements(wheel_metadata: Message, extra: str = "") -> dict[str, str]:
    """Return the version specifier of each requirement of an extra, or of none."""
    lines = [str(line) for line in wheel_metadata.get_all("Requires-Dist", [])]
    marker = rf"\s*;\s*extra == ['\"]{extra}['\"]" if extra else ""
    pattern = rf"([\w.-]+)\s*\(?([^;()]*?)\)?{marker}"
    found = (re.fullmatch(pattern, line) for line in lines)
    return {match[1]: match[2] for match in found if match}


def test_the_lowest_versions_are_those_tested(wheel_metadata: Message) -> None:
    constraints = (ROOT / "tests" / "constraints-lowest.txt").read_text(encoding="utf-8")
    lines = {line for line in constraints.splitlines() if not line.startswith("#")}

    parts = [requirements(wheel_metadata, *extra) for extra in ((), ("lock",), ("cli",), ("html",))]
    bounds = {name + bound for part in parts for name, bound in part.items()}

    assert {line.replace("==", ">=") for line in lines} == bounds


def test_the_licence_is_named_by_its_identifier(wheel_metadata: Message) -> None:
    licence = wheel_metadata["License-Expression"] or wheel_metadata["License"]

    assert licence == "GPL-3.0-or-later"
    assert "License ::" not in str(wheel_metadata)


def test_every_module_and_data_file_is_in_the_wheel(wheel: ZipFile) -> None:
    package = ROOT / "pubtools_mlmerge"
    files = [path for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc"]

    assert {path.relative_to(ROOT).as_posix() for path in files} <= set(wheel.namelist())


def test_nothing_but_the_package_and_its_manual_is_in_the_wheel(wheel: ZipFile) -> None:
    names = [name for name in wheel.namelist() if ".dist-info/" not in name]
    others = [name for name in names if not name.startswith("pubtools_mlmerge/")]

    assert all(re.fullmatch(r"[^/]+\.data/data/share/man/man1/[^/]+\.1", name) for name in others)


def manual(wheel: ZipFile) -> dict[str, bytes]:
    """Read the manual pages."""
    names = (name for name in wheel.namelist() if name.endswith(".1"))
    return {Path(name).stem: wheel.read(name) for name in names}


def test_each_program_has_a_manual_page(wheel: ZipFile) -> None:
    scripts = {point.name for point in entry_points() if point.group == "console_scripts"}

    assert set(manual(wheel)) == scripts


@pytest.mark.parametrize("command", COMMANDS)
def test_a_manual_page_shows_every_option(wheel: ZipFile, command: str, tmp_path: Path) -> None:
    page = tmp_path / "page.1"
    page.write_bytes(manual(wheel)[f"{NAME}-{command}"])
    man = [require("man"), "--warnings=all", "--local-file", str(page)]
    env = {**os.environ, "MANWIDTH": "100", "LC_ALL": "C.UTF-8"}

    done = subprocess.run(man, env=env, check=True, capture_output=True, text=True)

    named = (action.option_strings for action in new_parser(command, command)._actions)
    missing = [name for names in named for name in names if name not in done.stdout]
    assert (missing, done.stderr) == ([], "")
    assert f"{NAME} {metadata.version(NAME)}" in done.stdout


def entry_points() -> list[metadata.EntryPoint]:
    return list(metadata.distribution(NAME).entry_points)


@pytest.mark.parametrize("entry_point", entry_points(), ids=lambda point: point.name)
def test_entry_points_lead_somewhere(entry_point: metadata.EntryPoint) -> None:
    assert entry_point.load() is not None
