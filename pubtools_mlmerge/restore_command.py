"""What pubtools-mlmerge-restore does, once its arguments are parsed."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Callable
from functools import partial

from attrs import frozen

from pubtools_mlmerge.arguments import Login, connection_of, lock_name, login_of
from pubtools_mlmerge.commands import Manner, all_succeed
from pubtools_mlmerge.core.plan import Report
from pubtools_mlmerge.errors import InvalidRecord
from pubtools_mlmerge.hooks import lock_tag
from pubtools_mlmerge.merging.audit import AuditDirectory, Change, Recorder, read_change
from pubtools_mlmerge.merging.restore import restore
from pubtools_mlmerge.outputs import output_of_reports
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.settings import Settings


def prepare_restore(arguments: Namespace) -> Callable[[], bool]:
    """Prepare to put tags back; every record is read before the first tag is written.

    Args:
        arguments (Namespace):
            Arguments as parsed.

    Returns:
        Callable[[], bool]: Runs it, and tells whether all went well.

    Raises:
        ValueError: When an argument is wrong, or a file is no record.
    """
    options = connection_of(arguments)
    login = login_of(arguments, "dest", arguments.quay_host)
    changes = [_change_in(file, login) for file in arguments.records]
    settings = Settings.from_task({}, os.environ)
    restorer = _Restorer(
        client=login.client(options),
        force=arguments.force,
        dry_run=arguments.dry_run,
        recorder=AuditDirectory(settings.audit) if settings.audit else None,
        lock=settings.lock,
    )
    jobs = [(str(c.destination), partial(restorer.restore, c)) for c in changes]
    output = output_of_reports(arguments)
    return partial(all_succeed, jobs, output, Manner(debug=arguments.debug > 0))


def _change_in(file: str, login: Login) -> Change:
    change = read_change(file)
    if not change.destination.host and not login.host:
        raise InvalidRecord(file, "its tag names no host; give --quay-host")
    return change


@frozen(kw_only=True, eq=False, repr=False)
class _Restorer:
    """Puts tags back, one after the other."""

    client: RegistryClient
    force: bool
    dry_run: bool
    recorder: Recorder | None
    lock: str | None

    def restore(self, change: Change) -> Report:
        with lock_tag(lock_name(self.client, change.destination), self.lock) as check:
            return restore(
                self.client,
                change,
                force=self.force,
                dry_run=self.dry_run,
                recorder=self.recorder,
                check=check,
            )
