"""The project's console scripts, run as programs."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, redirect_stderr, redirect_stdout
from importlib import import_module
from io import StringIO
from pathlib import Path
from unittest.mock import patch

from attrs import frozen

from pubtools_mlmerge.testing import Image, ImageIndex, RegistryServer
from tests import forked

ROOT = Path(__file__).parents[1]
PROGRAMS = {
    "merge": "pubtools_mlmerge.cli.parsers:merge_main",
    "remove-archs": "pubtools_mlmerge.cli.parsers:remove_archs_main",
    "restore": "pubtools_mlmerge.cli.parsers:restore_main",
    "inspect": "pubtools_mlmerge.cli.parsers:inspect_main",
    "demo": "pubtools_mlmerge.cli.demo:main",
}
_NOT_PASSED_ON = (
    "CURL_CA_BUNDLE",
    "DEST_QUAY_PASSWORD",
    "QUAY_API_TOKEN",
    "QUAY_API_TOKEN_HOST",
    "QUAY_PASSWORD",
    "REGISTRY_AUTH_FILE",
    "REQUESTS_CA_BUNDLE",
    "SOURCE_QUAY_PASSWORD",
)


@frozen
class Done:
    """What a program left behind."""

    code: int
    out: str
    err: str

    @property
    def results(self) -> list[dict[str, object]]:
        """The JSON objects on standard output; anything else there is an error."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def reports(self) -> list[dict[str, object]]:
        """Those of tags that were done."""
        return [each for each in self.results if "digest" in each]

    @property
    def failures(self) -> list[dict[str, object]]:
        """Those of tags that failed."""
        return [each for each in self.results if "digest" not in each]

    @property
    def report(self) -> dict[str, object]:
        """The one report there is."""
        (only,) = self.reports
        return only

    @property
    def entries(self) -> list[dict[str, object]]:
        """The entries of the one report there is."""
        found = self.report["entries"]
        assert isinstance(found, list)
        return found


def environment(**variables: str) -> dict[str, str]:
    """Make an environment in which nothing of the user's own tells where or as whom to connect."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in _NOT_PASSED_ON and not name.startswith("MLMERGE_")
    }
    nowhere = "/nonexistent"
    return {**kept, "HOME": nowhere, "XDG_RUNTIME_DIR": nowhere, **variables}


def command(program: str) -> list[str]:
    """Tell how to start a program: by its script, or where none is installed by its function."""
    script = Path(sys.executable).with_name(f"pubtools-mlmerge-{program}")
    if script.exists():
        return [str(script)]
    module, _, function = PROGRAMS[program].partition(":")
    return [sys.executable, "-c", f"from {module} import {function}; {function}()"]


def write_program(path: Path, code: str, interpreter: str = "/bin/sh") -> None:
    """Write a program of the tests' own."""
    path.write_text(f"#!{interpreter}\n{code}\n", encoding="utf-8")
    path.chmod(0o755)


def run(
    program: str,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    seconds: float = 60,
    is_read: bool = True,
) -> Done:
    """Run a program to its end, in a process of its own; perhaps nobody reads its output."""
    with (
        tempfile.TemporaryFile("w+") as out,
        tempfile.TemporaryFile("w+") as err,
        open(os.devnull) as nothing,  # noqa: PTH123 - no file
    ):
        files = [file.fileno() for file in (nothing, out, err)]
        reader, writer = os.pipe()
        os.close(reader)
        if not is_read:
            files[1] = writer
        started = start(program, arguments, files, env or {})
        os.close(writer)
        code = started.wait(seconds)
        out.seek(0)
        err.seek(0)
        return Done(code, out.read(), err.read())


def start(
    program: str, arguments: Sequence[str], streams: Sequence[int], env: Mapping[str, str]
) -> forked.Started:
    """Start a program with its three standard streams."""
    words = [f"pubtools-mlmerge-{program}", *arguments]
    return forked.start(PROGRAMS[program], words, environment(**env), streams)


def python(code: str) -> Done:
    """Run a piece of code in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def run_here(
    program: str,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    log: StringIO | None = None,
) -> Done:
    """Run a program in this process, which saves the third of a second that starting one takes."""
    module, _, function = PROGRAMS[program].partition(":")
    main: Callable[[Sequence[str]], None] = getattr(import_module(module), function)
    out, err = StringIO(), log or StringIO()
    with _own_logging(), own_environment(**(env or {})), redirect_stdout(out), redirect_stderr(err):
        code = call(main, *arguments)
    return Done(code, out.getvalue(), err.getvalue())


def own_environment(**variables: str) -> AbstractContextManager[object]:
    """Leave only such variables as a program of the tests would have."""
    return patch.dict(os.environ, environment(**variables), clear=True)


@contextmanager
def _own_logging() -> Iterator[None]:
    """Let a program set up its logging as in a new process."""
    root = logging.getLogger()
    handlers, root.handlers = root.handlers, []
    try:
        yield
    finally:
        root.handlers = handlers


def call(main: Callable[[Sequence[str]], None], *arguments: str) -> int:
    """Run the function of a program in this process, and return the code that it ends with."""
    with _kept_logging():
        try:
            main(arguments)
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else 1
    return 0


@contextmanager
def _kept_logging() -> Iterator[None]:
    """Undo what a program does to the loggers, which are one for the whole process."""
    loggers = [logging.getLogger(name) for name in (None, "pubtools", "urllib3")]
    levels = [logger.level for logger in loggers]
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)


def put(server: RegistryServer, tag: str, item: Image | ImageIndex, repository: str = "app") -> str:
    """Store an item and all that it needs in the embedded registry, past all checks and records."""
    if isinstance(item, ImageIndex):
        for child in item.children:
            put(server, child.digest, child, repository)
    else:
        for content in item.blobs.values():
            server.put_blob(repository, content)
    server.put_manifest(repository, tag, item.content, item.media_type)
    return f"{server.host}/{repository}:{tag}"
