"""Commands, scripts and settings of the documentation work, and print what the pages say."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from doctest import ELLIPSIS, OutputChecker
from pathlib import Path

import pytest

from pubtools_mlmerge.cli import demo
from pubtools_mlmerge.locks import check_url
from pubtools_mlmerge.settings import Settings
from pubtools_mlmerge.testing import RegistryServer
from tests.pages import ROOT, Block, every_block, relative
from tests.programs import PROGRAMS, Done, command, environment, run, run_here, write_program
from tests.redis_servers import redis_server

BLOCKS = every_block()
REGISTRY, REDIS = "localhost:5000", "127.0.0.1:6379"
# Commands that prepare an environment, and the demo, which the fixture `registry` serves.
NOT_RUN = re.compile(
    r"make \w+|pip install \S+|\. \.venv/bin/activate|pubtools-mlmerge-demo --serve \d+"
)
COSIGN = 'echo "$@" >>"$(dirname "$0")/cosign.log"'

OURS, NEEDS_SHELL = "pubtools-mlmerge-", re.compile(r"[|&;<>()$`*?#~{}\n]")

Shell = Callable[[str], Done]


def of_kind(language: str, kind: str = "") -> list[Block]:
    return [block for block in BLOCKS if (block.language, block.kind) == (language, kind)]


# Commands


@pytest.fixture
def registry() -> Iterator[RegistryServer]:
    """Start the registry that the demo serves."""
    with demo._registry(0) as server:
        yield server


def place_of(registry: RegistryServer) -> str:
    """Tell host and port, the host as the pages write it."""
    return registry.host.replace("127.0.0.1", "localhost")


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """Make a directory of the programs that the pages call; cosign notes its arguments."""
    directory = tmp_path / "bin"
    directory.mkdir()
    found = {f"pubtools-mlmerge-{name}": shlex.join(command(name)) for name in PROGRAMS}
    found["pubtools-mlmerge"] = f"{sys.executable} -m pubtools_mlmerge"
    for name, begun in {**found, "python3": sys.executable}.items():
        write_program(directory / name, f'exec {begun} "$@"')
    write_program(directory / "cosign", COSIGN)
    return directory


@pytest.fixture
def shell(
    programs: Path, tmp_path: Path, registry: RegistryServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Shell]:
    """Run code as people do, but on the registry of the test, and on its Redis."""
    with ExitStack() as stack:

        def run_shell(code: str) -> Done:
            if REDIS in code:
                server = stack.enter_context(redis_server(tmp_path))
                code = code.replace(REDIS, f"127.0.0.1:{server.port}")
            code = code.replace(REGISTRY, place_of(registry)).replace("\\\n", " ")
            program, _, rest = code.strip().partition(" ")
            if program.startswith(OURS) and not NEEDS_SHELL.search(rest):
                monkeypatch.chdir(tmp_path)
                return run_here(program[len(OURS) :], *shlex.split(rest))
            return bash(code, programs, tmp_path)

        yield run_shell


def bash(
    code: str, programs: Path, directory: Path, variables: Mapping[str, str] | None = None
) -> Done:
    """Run code in a directory, with some programs before all others."""
    own = environment(**(variables or {}))
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code],
        cwd=directory,
        env={**own, "PATH": f"{programs}:{own['PATH']}", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def with_commands() -> list[Path]:
    """List the pages that have commands to type in."""
    return sorted({block.page for block in of_kind("console") if typed([block])})


def typed(blocks: list[Block]) -> list[tuple[str, str]]:
    """List the commands that are run, with their output."""
    found = [session for block in blocks for session in block.sessions]
    return [(line, out) for line, out in found if not NOT_RUN.fullmatch(line)]


def agrees(expected: str, actual: str) -> bool:
    """Compare an output with the documented one, where three dots stand for anything."""
    return OutputChecker().check_output(f"{expected.strip()}\n", f"{actual.strip()}\n", ELLIPSIS)


@pytest.mark.parametrize("page", with_commands(), ids=relative)
def test_commands_print_what_the_page_says(
    page: Path, shell: Shell, registry: RegistryServer
) -> None:
    for line, expected in typed([block for block in of_kind("console") if block.page == page]):
        # The time in the name of a record is that of the test.
        done = shell(re.sub(r"\d{8}T[\d.]+Z", "*", line))

        actual = done.out.replace(place_of(registry), REGISTRY)
        assert done.code == 0, done.err
        assert agrees(expected, actual), f"$ {line}\n{actual}"


def test_the_tutorial_shows_what_the_demo_prints() -> None:
    shown = [block.code.strip() for block in of_kind("text", "demo")]

    done = run("demo")

    assert done.code == 0, done.err
    actual = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:5000", done.out)
    assert len(shown) > 1
    assert agrees("\n...\n".join(shown), actual), actual


# Scripts


def scripts(name: str) -> list[str]:
    return [block.code for block in of_kind("bash", "shell") if block.page.stem == name]


@pytest.mark.parametrize("code", scripts("signing"))
def test_what_was_merged_is_signed_by_its_digest(
    code: str, shell: Shell, registry: RegistryServer, programs: Path
) -> None:
    done = shell(code)

    assert done.code == 0, done.err
    digest = registry.manifest("demo/app", "stable").digest
    signed = (programs / "cosign.log").read_text(encoding="utf-8").splitlines()
    assert f"sign --yes --key cosign.key {place_of(registry)}/demo/app@{digest}" in signed
    assert len(signed) == code.count(":latest") + 1


@pytest.mark.parametrize("code", scripts("signing"))
def test_nothing_is_signed_after_a_failure(
    code: str, shell: Shell, registry: RegistryServer, programs: Path
) -> None:
    registry.delete_tag("demo/app", "1.1")

    assert shell(code).code == 1

    assert not (programs / "cosign.log").exists()


@pytest.mark.parametrize("code", scripts("locks"))
def test_tags_are_locked_in_redis(code: str, shell: Shell) -> None:
    done = shell(code)

    assert done.code == 0, done.err


@pytest.mark.parametrize("code", scripts("restore"))
def test_changes_are_undone_newest_first(code: str, shell: Shell, registry: RegistryServer) -> None:
    before = registry.manifest("demo/app", "stable").digest
    tags = f"--source-ref {REGISTRY}/demo/app:1.1 --dest-ref {REGISTRY}/demo/app:stable"
    for architecture in ("arm64", "amd64"):
        options = f"--arch {architecture} --audit records"
        assert shell(f"pubtools-mlmerge-merge {tags} {options}").code == 0

    done = shell(code)

    assert done.code == 0, done.err
    assert registry.manifest("demo/app", "stable").digest == before


# Settings and Python


@pytest.mark.parametrize("block", of_kind("json"), ids=lambda block: block.page.name)
def test_json_examples_are_settings(block: Block) -> None:
    Settings.from_task(json.loads(block.code), {})


@pytest.mark.parametrize("block", of_kind("text", "environment"), ids=lambda block: block.page.name)
def test_variables_are_settings(block: Block) -> None:
    pairs = [line.split("=", 1) for line in block.code.splitlines()]

    for name, value in pairs:
        settings = Settings.from_task({}, {name: value})
        if settings.lock:
            check_url(settings.lock)

    assert pairs


@pytest.mark.parametrize("block", of_kind("python"), ids=lambda block: block.page.name)
def test_python_runs(block: Block, shell: Shell) -> None:
    done = shell(f"python3 -c {shlex.quote(block.code)}")

    assert done.code == 0, done.err
