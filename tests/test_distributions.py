"""The wheel, as it is released: built from the source archive, and installed on its own.

This needs a package index, as every installation does.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pubtools_mlmerge.cli import demo
from pubtools_mlmerge.testing import RegistryServer
from tests.programs import PROGRAMS, ROOT, environment

NOT_RELEASED = shutil.ignore_patterns(".*", "*.egg-info", "build", "dist", "_build", "__pycache__")


def python(*arguments: object) -> None:
    """Run a module of this environment; pip takes a checkout on PYTHONPATH for an installation."""
    done = subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build from a copy."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    shutil.copytree(ROOT, source, ignore=NOT_RELEASED, dirs_exist_ok=True)
    python("build", "--no-isolation", "--outdir", target, source)
    (built,) = target.glob("pubtools_mlmerge-*-py3-none-any.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install it as the Containerfile does, and return where the programs are."""
    place = tmp_path_factory.mktemp("installed")
    python("venv", "--without-pip", place)
    text = (ROOT / "docs" / "examples" / "Containerfile").read_text(encoding="utf-8")
    (line,) = re.findall("^RUN pip (.+)", text, re.MULTILINE)
    options = ("--quiet", "--disable-pip-version-check", "--no-compile", "--find-links")
    words = (*shlex.split(line), *options, wheel.parent)
    python("pip", "--python", place / "bin" / "python", *words)
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


def test_the_image_of_the_documentation_can_lock_in_redis(installed: Path) -> None:
    assert run(installed / "python", "-c", "import redis; print(redis.__name__)") == "redis\n"
