"""What pubtools-mlmerge-remove-archs does, once its arguments are parsed."""

from __future__ import annotations

import logging
import os
from argparse import Namespace
from collections.abc import Callable
from functools import partial

from pubtools_mlmerge.arguments import (
    connection_of,
    lock_name,
    lock_of,
    login_of,
    split,
    step_options_of,
    tag_of,
    writer_of,
)
from pubtools_mlmerge.commands import Manner, all_succeed
from pubtools_mlmerge.core.plan import Report
from pubtools_mlmerge.core.platforms import PlatformPattern
from pubtools_mlmerge.hooks import lock_tag
from pubtools_mlmerge.merging.step import remove_platforms
from pubtools_mlmerge.outputs import output_of_reports
from pubtools_mlmerge.settings import Settings

LOG = logging.getLogger("pubtools.mlmerge")


def prepare_remove_archs(arguments: Namespace) -> Callable[[], bool]:
    """Prepare the removal of architectures from a tag.

    Args:
        arguments (Namespace):
            Arguments as parsed.

    Returns:
        Callable[[], bool]: Runs it, and tells whether all went well.

    Raises:
        ValueError: When an argument is wrong.
    """
    options = connection_of(arguments)
    login = login_of(arguments, "dest", arguments.quay_host)
    reference = tag_of(arguments.ref, login)
    patterns = tuple(PlatformPattern.parse(text) for text in split("--arch", arguments.arch))
    settings = Settings.from_task({}, os.environ)
    step_options = step_options_of(arguments, settings)
    client = login.client(options)
    writer = writer_of(arguments, settings, client, step_options)
    url = lock_of(arguments, settings)

    def run() -> Report:
        with lock_tag(lock_name(client, reference), url) as check:
            report = remove_platforms(
                writer, reference, patterns, allow_empty=arguments.allow_empty, check=check
            )
        for name in report.missing:
            LOG.warning("%s has no %s", reference, name)
        return report

    output = output_of_reports(arguments)
    manner = Manner(debug=arguments.debug > 0)
    return partial(all_succeed, [(str(reference), run)], output, manner)
