"""Each block of code in the documentation is run or read by a test, or it is said why not."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from doctest import ELLIPSIS, OutputChecker
from importlib import metadata
from pathlib import Path

import pytest

from pubtools_mlmerge.cli import demo
from pubtools_mlmerge.core.manifests import Index
from pubtools_mlmerge.core.merge import merge
from pubtools_mlmerge.locks import check_url
from pubtools_mlmerge.settings import Settings
from pubtools_mlmerge.testing import RegistryServer, make_image, make_index, upload
from tests.pages import DOCS, PAGES, ROOT, Block, every_block, relative
from tests.programs import PROGRAMS, Done, command, environment
from tests.redis_servers import redis_server

BLOCKS = every_block()
REGISTRY, REDIS = "localhost:5000", "127.0.0.1:6379"
# Commands that no test types in, and what makes sure of them instead.
TRUSTED = {
    "make demo": "continuous integration has its environments by the Makefile; tests run the demo",
    "make test": "it runs these tests",
    "make unit": "likewise",
    "pip install .": "tests/test_distributions.py installs what is built",
    'pip install ".[html]"': "the environment of the tests has what this extra asks for",
    'pip install ".[lock]"': "the environment of the tests has what this extra asks for",
    'pip install ".[quay]"': "make hosts does it",
    ". .venv/bin/activate": "it comes with Python",
    "pubtools-mlmerge-demo --serve 5000": "the fixture `registry` serves the same on another port",
}
# What tests do with a block, by its language and class.
RUN, READ = "run here", "read here"
CLAIMS = {
    ("console", ""): RUN,
    ("bash", "shell"): RUN,
    ("python", ""): RUN,
    ("json", ""): READ,
    ("text", "environment"): READ,
    ("text", "redis-acl"): READ,
    ("text", "journal"): READ,
    ("text", "log"): READ,
    ("text", ""): READ,
    ("text", "demo"): "tests/test_docs.py",
    ("bash", "comparison"): "tests/e2e/test_comparison.py",
    ("bash", "reports"): "tests/test_schema.py",
}
# Files that pages show, and what runs them.
SHOWN = {
    "examples/site_plugin.py": "tests/test_docs_examples.py",
    "examples/pyproject.toml": "tests/test_docs_examples.py",
    "examples/check_reports.py": "tests/test_schema.py",
    "examples/ci/gitlab-ci.yml": RUN,
    "examples/ci/merge.sh": RUN,
}
BUILDAH = """
import sys
from pubtools_mlmerge.testing import make_image, upload

if sys.argv[1] == "push":
    name, tag = sys.argv[-1].partition("/")[2].split(":")
    image = make_image("linux/" + tag.rpartition("-")[2], seed="new")
    upload({url!r}, name, image, reference=tag)
"""
COSIGN = 'echo "$@" >>"$(dirname "$0")/cosign.log"\n'

Shell = Callable[[str], Done]


def of_kind(language: str, kind: str = "") -> list[Block]:
    return [block for block in BLOCKS if (block.language, block.kind) == (language, kind)]


def test_every_block_is_somebodys_business() -> None:
    unclaimed = [b for b in BLOCKS if (b.language, b.kind) not in CLAIMS]

    assert [(relative(b.page), b.language, b.kind, b.code) for b in unclaimed] == []


def test_nothing_is_shown_in_other_ways() -> None:
    lines = [(page.name, line) for page in PAGES for line in page.read_text("utf-8").splitlines()]

    assert [found for found in lines if re.match(r"(?!\.\.|>>>).*\S::$", found[1].strip())] == []


def test_every_file_that_is_shown_is_run() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)

    assert set(re.findall(r"literalinclude:: (\S+)", text)) == set(SHOWN)
    assert [name for name in SHOWN if not (DOCS / name).is_file()] == []


def test_tests_that_are_named_are_there() -> None:
    named = {value for value in (*CLAIMS.values(), *SHOWN.values()) if value.startswith("tests/")}

    assert [name for name in named if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("name", ["push", "tag-docker", "host"])
def test_the_tasks_that_pages_name_are_there(name: str) -> None:
    text = (DOCS / f"{name}.rst").read_text(encoding="utf-8")
    tasks = {point.name for point in metadata.distribution("pubtools-mlmerge").entry_points}

    named = set(re.findall(r"``(mlmerge-\w+-docker)``", text))

    assert named
    assert named <= tasks


# Commands


@pytest.fixture
def registry() -> Iterator[RegistryServer]:
    """Start the registry that the demo serves."""
    with demo._registry(0) as server:
        yield server


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """Make a directory of the programs that the pages call; cosign notes its arguments."""
    directory = tmp_path / "bin"
    directory.mkdir()
    found = {f"pubtools-mlmerge-{name}": shlex.join(command(name)) for name in PROGRAMS}
    for name, begun in {**found, "python3": sys.executable}.items():
        write_program(directory / name, f'exec {begun} "$@"\n')
    write_program(directory / "cosign", COSIGN)
    return directory


def write_program(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}", encoding="utf-8")
    path.chmod(0o755)


@pytest.fixture
def shell(programs: Path, tmp_path: Path, registry: RegistryServer) -> Iterator[Shell]:
    """Run code as people do, but on the registry of the test, and on its Redis."""
    with ExitStack() as stack:

        def run_shell(code: str) -> Done:
            if REDIS in code:
                server = stack.enter_context(redis_server(tmp_path))
                code = code.replace(REDIS, f"127.0.0.1:{server.port}")
            return bash(code.replace(REGISTRY, registry.host), programs, tmp_path)

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
    """Give the commands that are not taken on trust, with their output."""
    found = [session for block in blocks for session in block.sessions]
    return [(line, out) for line, out in found if line not in TRUSTED]


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

        actual = done.out.replace(registry.host, REGISTRY)
        assert done.code == 0, done.err
        assert agrees(expected, actual), f"$ {line}\n{actual}"


def test_commands_that_are_trusted_are_on_a_page() -> None:
    lines = {line for block in of_kind("console") for line, _ in block.sessions}

    assert set(TRUSTED) <= lines
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = [line.removeprefix("make ") for line in TRUSTED if line.startswith("make ")]
    assert [target for target in targets if f"\n{target}:" not in makefile] == []


# Scripts


def scripts(name: str) -> list[str]:
    return [block.code for block in of_kind("bash", "shell") if block.page.stem == name]


def test_pages_with_scripts_are_those_tested_here() -> None:
    pages = {block.page.stem for block in of_kind("bash", "shell")}

    assert pages == {"signing", "locks", "restore"}


@pytest.mark.parametrize("code", scripts("signing"))
def test_what_was_merged_is_signed_by_its_digest(
    code: str, shell: Shell, registry: RegistryServer, programs: Path
) -> None:
    done = shell(code)

    assert done.code == 0, done.err
    digest = registry.manifest("demo/app", "stable").digest
    signed = (programs / "cosign.log").read_text(encoding="utf-8").splitlines()
    assert f"sign --yes --key cosign.key {registry.host}/demo/app@{digest}" in signed
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


@pytest.mark.parametrize("code", [c for c in scripts("locks") if "pubtools-mlmerge-merge" in c])
def test_nothing_is_merged_where_no_redis_answers(
    code: str, shell: Shell, registry: RegistryServer
) -> None:
    before = registry.manifest("demo/app", "stable").digest

    done = shell(code.replace(REDIS, "127.0.0.1:1").replace("wait=60", "wait=0"))

    assert (done.code, "cannot lock this tag" in done.err) == (1, True)
    assert registry.manifest("demo/app", "stable").digest == before


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


# The pipeline


def jobs() -> dict[str, list[str]]:
    """Read the commands of each job."""
    text = (DOCS / "examples" / "ci" / "gitlab-ci.yml").read_text(encoding="utf-8")
    parts = re.split(r"^(\w+):\n", text, flags=re.MULTILINE)[1:]
    found = zip(parts[::2], parts[1::2])
    return {
        name: re.findall(r"^    - (.+)$", part.partition("  script:\n")[2], re.MULTILINE)
        for name, part in found
        if "  script:\n" in part
    }


@pytest.fixture
def builder(programs: Path, registry: RegistryServer) -> Path:
    """Make a program that builds nothing, and pushes a tiny image in the place of what it built."""
    script = programs / "buildah.py"
    script.write_text(BUILDAH.format(url=registry.url), encoding="utf-8")
    write_program(programs / "buildah", f'exec {shlex.join([sys.executable, str(script)])} "$@"\n')
    return programs


def run_pipeline(builder: Path, registry: RegistryServer, directory: Path) -> None:
    """Run the jobs of the pipeline, those of each architecture first."""
    (directory / "ci").mkdir()
    (directory / "ci" / "merge.sh").write_bytes((DOCS / "examples/ci/merge.sh").read_bytes())
    common = {"IMAGE": f"{registry.host}/team/app", "BUILD": "7"}
    for name, variables in (
        *(("build", {"ARCH": architecture}) for architecture in ("amd64", "arm64")),
        ("merge", {}),
    ):
        done = bash("\n".join(jobs()[name]), builder, directory, {**common, **variables})
        assert done.code == 0, done.err


def test_the_pipeline_builds_and_merges(
    builder: Path, registry: RegistryServer, tmp_path: Path
) -> None:
    old = make_index([make_image(f"linux/{name}", seed="old") for name in ("amd64", "s390x")])
    upload(registry.url, "team/app", old, reference="stable")

    run_pipeline(builder, registry, tmp_path)

    listed = json.loads(registry.manifest("team/app", "stable").content)["manifests"]
    new = [make_image(f"linux/{name}", seed="new").digest for name in ("amd64", "arm64")]
    kept = make_image("linux/s390x", seed="old").digest
    assert {entry["digest"] for entry in listed} == {*new, kept}
    assert len(list((tmp_path / "records").iterdir())) == 1


def test_the_pipeline_begins_a_tag(builder: Path, registry: RegistryServer, tmp_path: Path) -> None:
    run_pipeline(builder, registry, tmp_path)

    listed = json.loads(registry.manifest("team/app", "stable").content)["manifests"]
    assert sorted(entry["platform"]["architecture"] for entry in listed) == ["amd64", "arm64"]


def test_the_pipeline_has_the_jobs_that_were_run() -> None:
    assert list(jobs()) == ["build", "merge"]
    assert jobs()["merge"] == ["sh ci/merge.sh amd64 arm64"]


# What is read


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
def test_python_runs(block: Block, programs: Path, tmp_path: Path) -> None:
    done = bash(f"python3 -c {shlex.quote(block.code)}", programs, tmp_path)

    assert done.code == 0, done.err


def test_the_rights_in_redis_are_those_tested() -> None:
    (block,) = of_kind("text", "redis-acl")
    tested = (ROOT / "tests" / "test_lock_redis.py").read_text(encoding="utf-8")

    rights = [right for right in block.code.split() if right.startswith("+")]
    assert f"rights = {json.dumps(rights)}" in tested


def test_the_journal_is_one_that_the_plugin_writes() -> None:
    (block,) = of_kind("text", "journal")
    plugin = (DOCS / "examples" / "site_plugin.py").read_text(encoding="utf-8")

    outcomes = re.findall(r'"outcome": "([^"]+)"', block.code)
    assert outcomes == ["merged", "copied by the host"]
    assert [outcome for outcome in outcomes if f'"{outcome}"' not in plugin] == []


@pytest.mark.parametrize("block", of_kind("text", "log"), ids=lambda block: block.page.name)
def test_log_lines_are_those_of_the_programs(block: Block) -> None:
    line = " ".join(block.code.split())
    sources = "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "pubtools_mlmerge").rglob("*.py")
    )

    level, _, said = line.partition(": ")
    phrases = re.findall(r"[A-Za-z][a-z ]{6,}[a-z]", re.sub(r"\S*[/:@(]\S+", "%", said))
    assert level in {"INFO", "WARNING"}
    assert phrases
    assert [phrase for phrase in phrases if phrase not in sources] == []


def drawn(lines: list[str], first: int, last: int) -> list[list[str]]:
    """Read some columns of a drawing: platform, age and perhaps fate of each entry."""
    return [line[first:last].split()[:3] for line in lines if "linux/" in line[first:last]]


def listed(entries: list[list[str]]) -> Index:
    """Make an index of what is drawn."""
    made = make_index([make_image(platform, seed=age) for platform, age in entries])
    return Index.from_bytes(made.content, made.media_type)


def test_a_drawing_of_a_merge_is_what_a_merge_does() -> None:
    for block in of_kind("text"):
        source, destination, result = (
            drawn(block.code.splitlines(), *columns) for columns in ((0, 22), (27, 48), (50, 99))
        )

        entries = merge(listed(source), listed(destination)).entries

        assert [[str(entry.descriptor.slot), entry.fate] for entry in entries] == [
            [platform, fate] for platform, _, fate in result
        ]
        assert [age for _, age, _ in result] == ["new", "new", "old"]
