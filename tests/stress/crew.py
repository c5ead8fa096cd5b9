"""Several writers, each in its own process, that begin at the same moment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import IO, Literal, final

from attrs import frozen

from tests.programs import ROOT, Done, environment

Task = Literal["ours", "host"]
_PATIENCE = 60  # seconds until the end of a writer that has nothing to do


@frozen
class Job:
    """What one writer is to do."""

    arguments: Sequence[str]
    task: Task = "ours"


@final
class Crew:
    """Processes that are started once and given jobs together; see `tests.stress.writer`."""

    def __init__(self, size: int) -> None:
        read, self._gate = os.pipe()
        self._writers = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.stress.writer", str(read)],
                cwd=ROOT,
                env=environment(),
                pass_fds=(read,),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(size)
        ]
        os.close(read)

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, failure: object, *_: object) -> None:
        for writer in self._writers:
            if failure is not None:
                writer.kill()
            writer.communicate(timeout=_PATIENCE)
        os.close(self._gate)

    def run(self, jobs: Sequence[Job]) -> list[Done]:
        """Do jobs at the same moment, each by another writer, and tell what became of them."""
        self.start(jobs)
        return self.finish(len(jobs))

    def start(self, jobs: Sequence[Job]) -> None:
        """Let everybody get ready, and then begin."""
        assert len(jobs) <= len(self._writers)
        for writer, job in zip(self._writers, jobs):
            pipe = _open(writer.stdin)
            words = {"task": job.task, "arguments": list(job.arguments)}
            print(json.dumps(words), file=pipe, flush=True)
        for writer, _ in zip(self._writers, jobs):
            assert _open(writer.stdout).readline() == "ready\n", "a writer is gone"
        os.write(self._gate, b"." * len(jobs))

    def finish(self, count: int) -> list[Done]:
        """Wait for what became of the jobs."""
        lines = [_open(writer.stdout).readline() for writer in self._writers[:count]]
        assert all(lines), "a writer is gone"
        return [Done(**json.loads(line)) for line in lines]


def _open(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe
