"""A process that merges on request, at the same moment as others.

It is started once and merges often, so that the start of an interpreter does not keep writers
apart. Each line on its standard input is a job; it says that it is ready, waits for a byte from
the gate that all writers share, and then prints the outcome of the job.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from typing import TextIO

from pubtools_mlmerge.cli.parsers import merge_main
from tests.programs import call

_PATIENCE = 180


def merge(arguments: Sequence[str]) -> int:
    """Run our program."""
    logging.getLogger().handlers.clear()  # it sets up its own on what is standard error now
    return call(merge_main, *arguments)


def merge_as_host(arguments: Sequence[str]) -> int:
    """Let the class of pubtools-quay do it, which is given source, destination and host."""
    from pubtools._quay.manifest_list_merger import ManifestListMerger  # noqa: PLC0415 - may lack

    source, destination, host = arguments
    login = ("user", "password", "user", "password")
    ManifestListMerger(source, destination, None, *login, host=host).merge_manifest_lists()
    return 0


_TASKS: Mapping[str, Callable[[Sequence[str]], int]] = {"ours": merge, "host": merge_as_host}


def do(task: str, arguments: Sequence[str]) -> dict[str, object]:
    """Do a job, and keep all that it prints."""
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = _TASKS[task](arguments)
        except Exception as error:  # noqa: BLE001 - the parent reports it
            code = 1
            print(f"ERROR: {type(error).__name__}: {error}", file=err)
    return {"code": code, "out": out.getvalue(), "err": err.getvalue()}


def main(gate: int, jobs: TextIO, answers: TextIO) -> None:
    """Do jobs until there are no more."""
    for line in jobs:
        faulthandler.dump_traceback_later(_PATIENCE, exit=True)
        print("ready", file=answers, flush=True)
        os.read(gate, 1)
        print(json.dumps(do(**json.loads(line))), file=answers, flush=True)
        faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.stdin, sys.stdout)
