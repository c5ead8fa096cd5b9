"""Wheel and source archive, as they are released: built, checked, and installed on their own.

This needs a package index, as every installation does.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pubtools_mlmerge.cli import demo
from pubtools_mlmerge.testing import RegistryServer
from tests.programs import PROGRAMS, environment
from tests.test_packaging import ROOT, tracked_files

# What people look for in a source archive, beside the package.
SOURCE = (
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE", "Makefile"),
    *("setup.py", "pyproject.toml", "docs/index.rst", "docs/pipeline.svg", ".ci/run"),
    *("docs/examples/site_plugin.py", "tests/test_merge.py", "pubtools_mlmerge/py.typed"),
)


def python(*arguments: object) -> str:
    """Run a module of this environment, and return what it says."""
    done = subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Build both from a copy, as setuptools leaves files in the directory that it builds."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for path in tracked_files():
        copy = source / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    python("build", "--outdir", target, source)
    return sorted(target.iterdir())


@pytest.fixture(scope="module", params=["wheel", "source archive"])
def installed(
    request: pytest.FixtureRequest, built: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Install one of them into an environment of its own, and return where its programs are."""
    suffix = ".whl" if request.param == "wheel" else ".tar.gz"
    (distribution,) = (path for path in built if path.name.endswith(suffix))
    place = tmp_path_factory.mktemp("installed")
    python("venv", "--without-pip", place)
    options = ("--python", place / "bin" / "python", "install", "--quiet")
    python("pip", *options, "--disable-pip-version-check", distribution)
    return place / "bin"


@pytest.fixture(scope="module")
def registry() -> Iterator[RegistryServer]:
    with demo._registry(0) as server:
        yield server


def run(*command: object) -> str:
    """Run a program elsewhere than in the checkout, and return its output."""
    done = subprocess.run(
        [*map(str, command)],
        cwd=os.sep,
        env=environment(PYTHONWARNINGS="error", PYTHONPATH=""),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_there_is_a_wheel_for_every_python_and_a_source_archive(built: list[Path]) -> None:
    archive, wheel = (path.name for path in built[::-1])

    assert re.fullmatch(r"pubtools_mlmerge-[\d.]+-py3-none-any\.whl", wheel)
    assert re.fullmatch(r"pubtools_mlmerge-[\d.]+\.tar\.gz", archive)


def test_a_package_index_would_take_them(built: list[Path]) -> None:
    said = python("twine", "check", "--strict", *built)

    assert said.count("PASSED") == 2


def test_the_source_archive_has_what_it_takes_to_work_on_it(built: list[Path]) -> None:
    (archive,) = (path for path in built if path.suffix == ".gz")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}

    assert set(SOURCE) - names == set()
    assert [name for name in names if "__pycache__" in name or "_build" in name] == []


def test_every_file_of_the_package_is_installed(installed: Path) -> None:
    (package,) = installed.parent.glob("lib/python*/site-packages/pubtools_mlmerge")
    wanted = {path.relative_to(ROOT) for path in tracked_files()}
    files = {
        path.relative_to("pubtools_mlmerge") for path in wanted if path.parts[0] == package.name
    }

    assert {name for name in files if not (package / name).is_file()} == set()
    assert Path("py.typed") in files


def test_the_programs_show_their_help(installed: Path) -> None:
    for name in PROGRAMS:
        assert run(installed / f"pubtools-mlmerge-{name}", "--help").startswith("usage: ")


def test_a_merge_and_the_way_back(
    installed: Path, registry: RegistryServer, tmp_path: Path
) -> None:
    image = f"{registry.host}/demo/app"
    before = registry.manifest("demo/app", "stable")
    tags = ("--source-ref", f"{image}:1.1", "--dest-ref", f"{image}:stable")

    merged = run(installed / "pubtools-mlmerge-merge", *tags, "--audit", tmp_path)
    assert "3 added, 3 replaced, 1 kept" in merged
    assert registry.manifest("demo/app", "stable").digest != before.digest

    (record,) = tmp_path.iterdir()
    run(installed / "pubtools-mlmerge-restore", record)
    assert registry.manifest("demo/app", "stable") == before


def test_hosts_find_the_tasks_and_the_hooks(installed: Path) -> None:
    code = (
        "from pubtools.pluggy import pm, task_context\n"
        "with task_context():\n"
        "    print(*[each.plugin_name for each in pm.hook.mlmerge_merge.get_hookimpls()])\n"
    )

    assert run(installed / "python", "-c", code).split() == ["pubtools_mlmerge.plugin"]
