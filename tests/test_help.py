"""The help of each program: an example that works, and lines that fit a terminal."""

from __future__ import annotations

import shlex
from glob import glob
from pathlib import Path

import pytest

from pubtools_mlmerge.testing import RegistryServer, make_image, make_index
from tests.programs import PROGRAMS, Done, put, run

HOST = "registry.example.com"
RECORDS = "records/"
OLD = make_index([make_image(f"linux/{name}", seed="old") for name in ("amd64", "s390x", "arm/v7")])
NEW = make_index([make_image("linux/amd64", seed="new")])
OWN = ("merge", "remove-archs", "inspect", "restore")


def explained(program: str, columns: int = 80) -> list[str]:
    """Read the help of a program on a terminal of some width."""
    done = run(program, "--help", env={"COLUMNS": str(columns)})
    assert (done.code, done.err) == (0, "")
    return done.out.splitlines()


def example(program: str) -> list[str]:
    """Take the example out of the help of a program, as words."""
    lines = explained(program)
    end = "\n".join(lines[lines.index("example:") + 1 :])
    name, *words = shlex.split(end.replace("\\\n", " "))
    assert name == f"pubtools-mlmerge-{program}"
    return words


def spelled_out(word: str, server: RegistryServer, directory: Path) -> list[str]:
    """Fill in what is different each time, and what a shell fills in."""
    if word.startswith(RECORDS):
        return glob(str(directory / word[len(RECORDS) :]))  # noqa: PTH207 - as a shell does
    return [word.replace(HOST, server.host)]


@pytest.fixture
def filled(registry_server: RegistryServer, tmp_path: Path) -> RegistryServer:
    """A tag with a record of its last merge."""
    for tag, index in (("1.0", OLD), ("1.1", NEW), ("stable", OLD)):
        put(registry_server, tag, index)
    source, stable = (f"{registry_server.host}/app:{tag}" for tag in ("1.1", "stable"))
    merge = ["merge", "--source-ref", source, "--dest-ref", stable, "--audit", str(tmp_path)]
    assert run(*merge).code == 0
    registry_server.forget_requests()
    return registry_server


def run_example(program: str, server: RegistryServer, directory: Path) -> Done:
    words = [spelled_out(word, server, directory) for word in example(program)]
    return run(program, *(word for found in words for word in found))


@pytest.mark.parametrize("program", OWN)
def test_the_example_works_and_writes_nothing(
    program: str, filled: RegistryServer, tmp_path: Path
) -> None:
    done = run_example(program, filled, tmp_path)

    assert done.code == 0, done.err
    assert "linux/s390x" in done.out
    assert f"{filled.host}/app:stable" in done.out
    assert {request.method for request in filled.requests} <= {"GET", "HEAD"}


def test_the_example_of_the_demo_works(filled: RegistryServer, tmp_path: Path) -> None:
    done = run_example("demo", filled, tmp_path)

    assert done.code == 0, done.err
    assert "linux/s390x" in done.out


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("program", PROGRAMS)
def test_no_line_is_wider_than_the_terminal(program: str, columns: int) -> None:
    lines = explained(program, columns)

    assert [line for line in lines if len(line) > columns] == []
    assert [line for line in lines if line != line.rstrip()] == []


@pytest.mark.parametrize("program", PROGRAMS)
def test_each_option_is_explained(program: str) -> None:
    text = "\n".join(explained(program, 1000)).replace("\n" + " " * 10, "  ")

    options = [line.strip() for line in text.splitlines() if line.startswith("  -")]
    assert options
    assert [line for line in options if "  " not in line] == []
