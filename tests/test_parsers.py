"""The console scripts as programs: arguments, help, logs, and how little they load."""

from __future__ import annotations

import json
import logging
import shlex
from glob import glob
from itertools import chain
from pathlib import Path

import pytest

from pubtools_mlmerge.cli.parsers import merge_main
from pubtools_mlmerge.testing import RegistryServer, make_image, make_index
from tests.programs import PROGRAMS, call, put, python, run

LOADED = """
import json, sys
from pubtools_mlmerge.cli.{module} import {function}
try:
    {call}
except SystemExit as end:
    assert end.code == 0
names = [n for n in sys.modules if n.split(".")[0] in ("requests", "attr", "attrs", "urllib3")]
names += [n for n in sys.modules if n.startswith("pubtools_mlmerge.")]
print("\\n" + json.dumps(sorted(names)))
"""


@pytest.mark.parametrize("called", [True, False])
@pytest.mark.parametrize("program", PROGRAMS)
def test_neither_import_nor_help_loads_more_than_it_needs(program: str, called: bool) -> None:
    module, _, function = PROGRAMS[program].partition(":")
    module = module.rpartition(".")[2]
    action = f"{function}(['--help'])" if called else "pass"

    done = python(LOADED.format(module=module, function=function, call=action))

    assert done.code == 0, done.err
    expected = {f"pubtools_mlmerge.{name}" for name in ("cli", "cli.parsers", f"cli.{module}")}
    assert set(json.loads(done.out.splitlines()[-1])) == expected


def test_a_merge_loads_no_optional_library() -> None:
    done = python(LOADED.format(module="commands", function="prepare_merge", call="pass"))

    assert done.code == 0, done.err
    loaded = set(json.loads(done.out.splitlines()[-1]))
    assert "pubtools_mlmerge.cli.commands" in loaded
    assert [name for name in loaded if "redis" in name] == []


def test_help_shows_no_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("QUAY_API_TOKEN", "wonderland")

    assert (call(merge_main, "--help"), call(merge_main, "--no-such-option")) == (0, 2)

    captured = capsys.readouterr()
    assert "wonderland" not in captured.out + captured.err


@pytest.mark.parametrize(
    ("options", "ours", "others"),
    [
        ((), logging.INFO, logging.WARNING),
        *(((option,), logging.DEBUG, logging.WARNING) for option in ("-d", "--debug", "-v")),
        *(
            (options, logging.DEBUG, logging.DEBUG)
            for options in (("-v", "--verbose"), ("-dd",), ("-d", "--debug", "-d"))
        ),
    ],
)
def test_debug_can_be_repeated(
    options: tuple[str, ...], ours: int, others: int, registry_server: RegistryServer
) -> None:
    reference = put(registry_server, "1", make_index([make_image()]))
    names = ["pubtools.mlmerge", "some.library", "urllib3.connectionpool"]

    done = python(
        "import logging; from pubtools_mlmerge.cli.parsers import inspect_main;"
        f"inspect_main({[reference, *options]!r});"
        f"print([logging.getLogger(name).getEffectiveLevel() for name in {names}])"
    )

    *levels, of_urllib3 = json.loads(done.out.splitlines()[-1])
    assert levels == [ours, others]
    assert of_urllib3 > logging.DEBUG


@pytest.mark.parametrize(("options", "is_shown"), [((), False), (("-d",), True)])
def test_how_a_merge_begins_and_ends_is_shown_for_debugging_only(
    options: tuple[str, ...], is_shown: bool, registry_server: RegistryServer
) -> None:
    source = put(registry_server, "new", make_index([make_image()]))
    there = f"{registry_server.host}/app"

    good = run("merge", "--source-ref", source, "--dest-ref", f"{there}:fresh", *options)
    bad = run("merge", "--source-ref", f"{there}:none", "--dest-ref", f"{there}:fresh", *options)

    for words, done in (("started", good), ("finished: ", good), ("failed: ", bad)):
        assert (f": {words}" in done.err) == is_shown, done.err
    assert "INFO: Uploaded" in good.err


def test_a_reader_that_went_away_stops_nothing(registry_server: RegistryServer) -> None:
    source = put(registry_server, "new", make_index([make_image()]))
    destinations = ",".join(f"{registry_server.host}/app:{tag}" for tag in ("one", "two"))

    done = run("merge", source, destinations, is_read=False)
    looked = run("inspect", source, is_read=False)

    assert (done.code, looked.code, looked.err) == (0, 0, "")
    assert not {"Traceback", "BrokenPipe"} & set(done.err.split())
    assert registry_server.tags("app") == ("new", "one", "two")
    digest = registry_server.manifest("app", "two").digest
    assert f"/app:two is now {digest}" in done.err


def test_the_task_context_is_entered(registry_server: RegistryServer) -> None:
    reference = put(registry_server, "1", make_index([make_image()]))
    code = (
        "from pubtools.pluggy import hookimpl, pm\n"
        "class Plugin:\n"
        "    @hookimpl\n"
        "    def task_start(self): print('start')\n"
        "    @hookimpl\n"
        "    def task_stop(self, failed): print('stop', failed)\n"
        "pm.register(Plugin())\n"
        "from pubtools_mlmerge.cli.parsers import inspect_main\n"
    )

    good, bad = (python(f"{code}inspect_main([{reference + end!r}])") for end in ("", "0"))

    assert (good.code, bad.code) == (0, 1)
    assert [good.out.split()[0], good.out.split()[-2:]] == ["start", ["stop", "False"]]
    assert bad.out.split() == ["start", "stop", "True"]


# The help of each program: an example that works, and lines that fit a terminal

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


@pytest.mark.parametrize("program", OWN)
def test_the_example_works_and_writes_nothing(
    program: str, filled: RegistryServer, tmp_path: Path
) -> None:
    words = [spelled_out(word, filled, tmp_path) for word in example(program)]

    done = run(program, *chain(*words))

    assert done.code == 0, done.err
    assert "linux/s390x" in done.out
    assert f"{filled.host}/app:stable" in done.out
    assert {request.method for request in filled.requests} <= {"GET", "HEAD"}


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("program", PROGRAMS)
def test_no_line_is_wider_than_the_terminal(program: str, columns: int) -> None:
    lines = explained(program, columns)

    assert [line for line in lines if len(line) > columns] == []
    assert [line for line in lines if line != line.rstrip()] == []
