"""What an installed project is: its metadata, its programs, the files that go with it."""

from __future__ import annotations

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

ROOT = Path(__file__).parents[1]
NAME = "pubtools-mlmerge"
# Where files live on a machine, or packages on a network, is not the project's business.
PRIVATE = re.compile(
    rb"(?<![\w./:{}$-])/(?:home|root|work|Users|mnt)/\w"
    rb"|files[.]pythonhosted[.]org|pypi[.]org/simple|extra-index[-]url"
)
BINARY = (".png", ".gif", ".gz", ".tar", ".zip")
BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZipFile]:
    """The wheel, built from a copy, as setuptools leaves files in the directory it builds."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "pubtools_mlmerge", source / "pubtools_mlmerge", ignore=ignore)
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


def tracked_files() -> list[Path]:
    """Return the files of the project, or of this directory where git does not know it."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=False,
        capture_output=True,
    )
    names = listing.stdout.decode().split("\0") if listing.returncode == 0 else []
    files = [ROOT / name for name in names if name] or [*ROOT.glob("pubtools_mlmerge/**/*.py")]
    return [path for path in files if path.is_file() and path.suffix not in BINARY]


def private_lines(text: bytes) -> list[bytes]:
    """Return the lines that tell about one machine."""
    return [line for line in text.splitlines() if PRIVATE.search(line)]


def test_four_libraries_are_all_it_needs(wheel_metadata: Message) -> None:
    assert set(requirements(wheel_metadata)) == {"attrs", "pluggy", "pubtools", "requests"}


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


def test_every_python_it_claims_can_have_it(wheel_metadata: Message) -> None:
    assert wheel_metadata["Requires-Python"] == ">=3.9"
    assert wheel_metadata["Name"] == NAME


def test_its_types_are_for_everyone(wheel: ZipFile) -> None:
    assert "pubtools_mlmerge/py.typed" in wheel.namelist()


def test_schemas_are_for_everyone_as_well(wheel: ZipFile) -> None:
    schemas = {path.name for path in (ROOT / "pubtools_mlmerge" / "reports").glob("*.schema.json")}

    assert schemas
    assert {f"pubtools_mlmerge/reports/{name}" for name in schemas} <= set(wheel.namelist())


def test_the_template_and_style_of_pages_are_in_the_wheel(wheel: ZipFile) -> None:
    files = {f"pubtools_mlmerge/reports/{name}" for name in ("page.css", "page.html.jinja")}

    assert files <= set(wheel.namelist())


def test_every_module_is_in_the_wheel(wheel: ZipFile) -> None:
    package = ROOT / "pubtools_mlmerge"
    modules = {path.relative_to(ROOT).as_posix() for path in package.rglob("*.py")}

    assert modules <= set(wheel.namelist())


def test_nothing_but_the_package_is_in_the_wheel(wheel: ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}

    assert {top for top in tops if not top.endswith(".dist-info")} == {"pubtools_mlmerge"}


def entry_points() -> list[metadata.EntryPoint]:
    return list(metadata.distribution(NAME).entry_points)


@pytest.mark.parametrize("entry_point", entry_points(), ids=lambda point: point.name)
def test_entry_points_lead_somewhere(entry_point: metadata.EntryPoint) -> None:
    assert entry_point.load() is not None


def test_files_tell_nothing_of_one_machine() -> None:
    found = {path: private_lines(path.read_bytes()) for path in tracked_files()}

    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize("top", ["home", "root", "work", "Users"])
def test_a_path_of_one_machine_is_found(top: str) -> None:
    assert private_lines(f'open("/{top}/file")'.encode()) != []


@pytest.mark.parametrize("host", ["pypi", "files.pythonhosted"])
def test_the_host_of_a_package_index_is_found(host: str) -> None:
    assert private_lines(f"https://{host}.org/simple".encode()) != []


@pytest.mark.parametrize("line", ["https://quay.io/work/image", "docs/root/index", "~/.docker"])
def test_references_and_relative_paths_are_fine(line: str) -> None:
    assert private_lines(line.encode()) == []
