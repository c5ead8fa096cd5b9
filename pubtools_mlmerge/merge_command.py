"""What pubtools-mlmerge-merge does, once its arguments are parsed."""

from __future__ import annotations

import logging
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from attrs import evolve, frozen

from pubtools_mlmerge.arguments import (
    Login,
    anchor_tag_of,
    connection_of,
    lock_name,
    lock_of,
    login_of,
    policy_of,
    reference_of,
    split,
    step_options_of,
    tag_of,
    writer_of,
)
from pubtools_mlmerge.commands import Manner, all_succeed
from pubtools_mlmerge.core.plan import Policy, Report
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.hooks import announce, lock_tag
from pubtools_mlmerge.merging.step import Step
from pubtools_mlmerge.outputs import output_of_reports
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.registry.copying import Children
from pubtools_mlmerge.reports.terminal import Display
from pubtools_mlmerge.settings import Settings

if TYPE_CHECKING:
    from pubtools_mlmerge.batch import BatchLine

LOG = logging.getLogger("pubtools.mlmerge")

_MOST_THREADS = 100


def prepare_merge(arguments: Namespace) -> Callable[[], bool]:
    """Prepare the merge of one source into its destinations, or of a batch.

    Args:
        arguments (Namespace):
            Arguments as parsed.

    Returns:
        Callable[[], bool]: Runs it, and tells whether all went well.

    Raises:
        ValueError: When an argument is wrong.
    """
    from_login = login_of(arguments, "source", arguments.source_quay_host or arguments.quay_host)
    to_login = login_of(arguments, "dest", arguments.quay_host)
    settings = Settings.from_task({}, os.environ)
    policy = policy_of(arguments, settings.policy)
    if not 1 <= arguments.threads <= _MOST_THREADS:
        raise ValueError(f"--threads: expected a number from 1 to {_MOST_THREADS}")
    output = output_of_reports(arguments)
    manner = Manner(
        debug=arguments.debug > 0, threads=arguments.threads, fail_fast=arguments.fail_fast
    )
    if arguments.batch is not None:
        if arguments.source_ref or arguments.dest_ref or arguments.arch:
            raise ValueError("--batch: source, destination and architectures stand in its lines")
        lines = _lines_of(arguments.batch)
        merging = _merging(arguments, settings, policy, (from_login, to_login), ())
        manner = evolve(manner, total=None, display=merging.display)
        return partial(all_succeed, merging.of_lines(lines), output, manner)
    if not arguments.source_ref or not arguments.dest_ref:
        raise ValueError("--source-ref and --dest-ref are needed, or --batch")
    source = reference_of(arguments.source_ref, from_login)
    tags = [tag_of(text, to_login) for text in split("--dest-ref", arguments.dest_ref)]
    merging = _merging(arguments, settings, policy, (from_login, to_login), tags)
    jobs = [(str(tag), partial(merging.merge, source, tag, policy)) for tag in tags]
    threads = min(arguments.threads, len(jobs))
    manner = evolve(manner, threads=threads, total=len(jobs), display=merging.display)
    return partial(all_succeed, jobs, output, manner)


@frozen(kw_only=True, eq=False, repr=False)
class _Merging:
    """All merges of one call of the program."""

    step: Step
    writer: RegistryClient
    policy: Policy
    logins: tuple[Login, Login]
    lock: str | None
    display: Display

    def merge(self, source: Reference, destination: Reference, policy: Policy) -> Report:
        with lock_tag(lock_name(self.writer, destination), self.lock) as check:
            report = self.step.merge(source, destination, check, policy)
        if report.changed and not report.dry_run:
            announce(report)
        return report

    def of_lines(self, lines: Iterable[str]) -> Iterator[tuple[str, Callable[[], Report]]]:
        # What it loads is not needed for a merge or two.
        from pubtools_mlmerge.batch import BatchLine, numbered  # noqa: PLC0415

        for number, text in numbered(lines):
            name = f"line {number}"
            try:
                line = BatchLine.parse(text)
            except ValueError as error:
                yield name, partial(_refuse, name, error)
            else:
                yield f"{name}: {line.destination}", partial(self._merge_line, name, line)

    def _merge_line(self, name: str, line: BatchLine) -> Report:
        try:
            source = reference_of(line.source, self.logins[0])
            destination = tag_of(line.destination, self.logins[1])
            policy = evolve(self.policy, eligible=line.archs)
        except ValueError as error:
            _refuse(name, error)
        return self.merge(source, destination, policy)


def _refuse(name: str, error: ValueError) -> NoReturn:
    raise ValueError(f"{name}: {error}") from error


def _merging(
    arguments: Namespace,
    settings: Settings,
    policy: Policy,
    logins: tuple[Login, Login],
    tags: Iterable[Reference],
) -> _Merging:
    """Connect; one client for both sides asks for one token, and keeps one pool of connections."""
    anchor = anchor_tag_of(arguments, settings, tags)
    step_options = step_options_of(arguments, settings, policy, anchor)
    options = connection_of(arguments)
    reader = logins[0].client(options)
    writer = reader if logins[0] == logins[1] else logins[1].client(options)
    display = Display()
    children = Children(reader, writer, arguments.copy or settings.copy, watch=display.counted)
    tag_writer = writer_of(arguments, settings, writer, step_options)
    return _Merging(
        step=Step(reader, writer, step_options, children, tag_writer),
        writer=writer,
        policy=policy,
        logins=logins,
        lock=lock_of(arguments, settings),
        display=display,
    )


def _lines_of(batch: str) -> Iterable[str]:
    """Open a batch now, so that one that is not there is wrong usage."""
    if batch == "-":
        return sys.stdin
    try:
        return Path(batch).open(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise ValueError(f"--batch: {batch}: {error.strerror}") from error
