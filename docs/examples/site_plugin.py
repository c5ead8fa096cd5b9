"""What a site adds to each merge: a freeze, a journal, and a lock for the whole machine."""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pubtools.pluggy import hookimpl, pm

if TYPE_CHECKING:  # every task of every pubtools library loads this module, so it loads little
    from pluggy import Result

    from pubtools_mlmerge.jobs import MergeRequest
    from pubtools_mlmerge.outcome import MergeReport


class FrozenError(Exception):
    """The repository must not change now."""


def directory() -> Path:
    """Tell where the site keeps its files; asked for at run time, as the environment may change."""
    return Path(os.environ["SITE_MERGES"])


@hookimpl(hookwrapper=True)
def mlmerge_merge(
    request: MergeRequest,
) -> Generator[None, Result[MergeReport | Literal[False]], None]:
    """Refuse frozen repositories; else let the step do its work, and write down what came of it."""
    frozen = directory() / "frozen"
    if frozen.exists() and request.repository in frozen.read_text(encoding="utf-8").split():
        raise FrozenError(f"{request.repository} is frozen")
    outcome = yield
    if outcome.excinfo is not None:
        note(request.destination, "failed")
    elif not outcome.get_result():
        note(request.destination, "copied by the host")


@hookimpl
def mlmerge_merged(report: MergeReport) -> None:
    """Write down what was kept."""
    kept = [entry.descriptor for entry in report.entries if entry.fate == "kept"]
    platforms = [str(descriptor.slot) for descriptor in kept if descriptor.slot is not None]
    note(report.destination, "merged", digest=report.digest, kept=platforms)


@hookimpl
def mlmerge_lock(reference: str) -> AbstractContextManager[None]:
    """Let one process of this machine at a time write a tag, and one thread of it."""
    return machine_lock(reference)


@contextmanager
def machine_lock(reference: str) -> Iterator[None]:
    """Hold a lock file; the system lets go of it if the process dies."""
    name = sha256(reference.encode()).hexdigest()
    with (directory() / f"{name}.lock").open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def note(tag: object, outcome: str, **facts: object) -> None:
    """Add a line to the journal."""
    line = json.dumps({"tag": str(tag), "outcome": outcome, **facts})
    with (directory() / "journal").open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")


pm.register(sys.modules[__name__])

# ruff: noqa: INP001 - a module of its own, which the pyproject.toml beside it installs
