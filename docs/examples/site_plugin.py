"""What a site adds to each merge: a freeze, a journal, and locks in a database of its own."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from uuid import uuid4

from pubtools.pluggy import hookimpl, pm

if TYPE_CHECKING:  # every task of every pubtools library loads this module, so it loads little
    from pluggy import Result

    from pubtools_mlmerge.core.plan import Report
    from pubtools_mlmerge.host.requests import MergeRequest


SECONDS = 600


class FrozenError(Exception):
    """The repository must not change now."""


class LeaseLostError(Exception):
    """Somebody else has the tag by now."""


def directory() -> Path:
    """Tell where the site keeps its files; asked for at run time, as the environment may change."""
    return Path(os.environ["SITE_MERGES"])


@hookimpl(hookwrapper=True)
def mlmerge_merge(
    request: MergeRequest,
) -> Generator[None, Result[Report | Literal[False]], None]:
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
def mlmerge_merged(report: Report) -> None:
    """Write down what was kept."""
    kept = [entry.descriptor for entry in report.entries if entry.fate == "kept"]
    platforms = [str(descriptor.slot) for descriptor in kept if descriptor.slot is not None]
    note(report.destination, "merged", digest=report.digest, kept=platforms)


@hookimpl
def mlmerge_lock(reference: str) -> AbstractContextManager[Lease]:
    """Let one writer at a time have a tag, as the site's database says."""
    return leased(reference)


@contextmanager
def leased(reference: str) -> Iterator[Lease]:
    """Wait for a tag, and hold it; from a writer that died, it goes when its time is up."""
    lease = Lease(reference)
    while not lease.take():
        time.sleep(0.1)
    try:
        yield lease
    finally:
        lease.give_back()


class Lease:
    """A row of the database: whose a tag is, and until when."""

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.holder = uuid4().hex

    def take(self) -> bool:
        """Take the tag if it is nobody's, or was held for too long."""
        now = time.time()
        return execute(
            "INSERT INTO leases VALUES (?, ?, ?) ON CONFLICT (tag) DO UPDATE"
            " SET holder = excluded.holder, until = excluded.until WHERE until < ?",
            *(self.tag, self.holder, now + SECONDS, now),
        )

    def check(self) -> None:
        """Renew it; called just before each write of the tag."""
        now = time.time()
        if not execute(
            "UPDATE leases SET until = ? WHERE tag = ? AND holder = ? AND until >= ?",
            *(now + SECONDS, self.tag, self.holder, now),
        ):
            raise LeaseLostError(self.tag)

    def give_back(self) -> None:
        """Let the next writer have the tag."""
        execute("DELETE FROM leases WHERE tag = ? AND holder = ?", self.tag, self.holder)


def execute(statement: str, *values: object) -> bool:
    """Change a row, and tell whether there was one to change."""
    with closing(sqlite3.connect(directory() / "leases.db", timeout=60)) as database, database:
        database.execute(
            "CREATE TABLE IF NOT EXISTS leases (tag PRIMARY KEY, holder TEXT, until REAL)"
        )
        return database.execute(statement, values).rowcount > 0


def note(tag: object, outcome: str, **facts: object) -> None:
    """Add a line to the journal."""
    line = json.dumps({"tag": str(tag), "outcome": outcome, **facts})
    with (directory() / "journal").open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")


pm.register(sys.modules[__name__])

# ruff: noqa: INP001 - a module of its own, which the pyproject.toml beside it installs
