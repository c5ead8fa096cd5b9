"""A batch of very many lines, with `--resume`: what the process needs, and whether that grows."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.managers import BaseManager
from pathlib import Path

from attrs import frozen

from benchmarks.registry import OLD, SOURCES
from pubtools_mlmerge.testing import RegistryServer
from tests.programs import command, environment, put

REPOSITORIES, PIECE, LEFT = 2000, 1000, 10  # PIECE: lines of which the rate is taken
LOGIN = {"QUAY_PASSWORD": "password"}
MOST_GROWTH = 20  # MiB
ROW = "{:>9}  {:>14}  {:>7}  {:>11}  {:>7}"


class Shelf:
    """A registry with tokens, in a process of its own."""

    def __init__(self, repositories: int, tags: int) -> None:
        self._server = RegistryServer(users={"user": LOGIN["QUAY_PASSWORD"]}, auth="token")
        self._server.start()
        for repository in (f"app-{number}" for number in range(repositories)):
            put(self._server, "new", SOURCES[0], repository)
            put(self._server, "0", OLD, repository)
            for tag in range(1, tags):
                self._server.put_manifest(repository, f"{tag}", OLD.content, OLD.media_type)

    def host(self) -> str:
        return self._server.host

    def count(self) -> int:
        """Count the requests since the last time."""
        count = len(self._server.requests)
        self._server.forget_requests()
        return count


class Manager(BaseManager):
    """Runs the registry in another process."""


Manager.register("Shelf", Shelf)


@frozen
class Sample:
    """What the process has after some lines, and how many of the last ones it did in a second."""

    lines: int
    rate: float
    memory: float
    descriptors: int
    threads: int

    @classmethod
    def of(cls, process: int, lines: int, rate: float) -> Sample:
        text = Path(f"/proc/{process}/status").read_text(encoding="ascii")
        status = dict(line.split(":", 1) for line in text.splitlines())
        files = len(list(Path(f"/proc/{process}/fd").iterdir()))
        memory = int(status["VmRSS"].split()[0]) / 1024
        return cls(lines, rate, memory, files, int(status["Threads"]))

    def __str__(self) -> str:
        shown = (self.lines, f"{self.rate:.0f}", f"{self.memory:.1f}")
        return ROW.format(*shown, self.descriptors, self.threads)


def samples(argv: list[str], total: int) -> Iterator[Sample]:
    """Run a batch, and look at the process while its results come."""
    with subprocess.Popen(
        argv,
        env=environment(**LOGIN),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        began, last = 0.0, 1
        for number, _ in enumerate(process.stdout, start=1):
            if number == 1 or number % PIECE == 0 or number == total - LEFT:
                rate, last = (number - last) / (time.monotonic() - began), number
                if number == PIECE or number % (total // 10) == 0 or number == total - LEFT:
                    yield Sample.of(process.pid, number, rate)
                began = time.monotonic()
    assert process.returncode == 0, "the batch failed"


def main(total: int = 100_000) -> int:
    """Run it twice, the second time with nothing left to do; print a table, and what has grown."""
    with tempfile.TemporaryDirectory() as directory, Manager() as manager:
        shelf: Shelf = vars(Manager)["Shelf"](manager, REPOSITORIES, total // REPOSITORIES)
        batch = Path(directory, "batch")
        with batch.open("w", encoding="ascii") as file:
            for number in range(total):
                app = f"{shelf.host()}/app-{number % REPOSITORIES}"
                line = {"source_ref": f"{app}:new", "dest_ref": f"{app}:{number // REPOSITORIES}"}
                file.write(json.dumps(line) + "\n")
        options = ("--resume", f"{batch}.done", "--creds", "user", "--json")
        argv = [*command("merge"), "--batch", str(batch), *options]
        print(ROW.format("lines", "lines a second", "MiB", "descriptors", "threads"))
        requests, found = 0, list[Sample]()
        for sample in samples(argv, total):
            print(sample, flush=True)
            requests += shelf.count()
            found.append(sample)
        shelf.count()
        again = list(samples(argv, total))
        first, last = found[0], found[-1]
        growth = last.memory - first.memory
        more = any(s.descriptors > first.descriptors or s.threads > first.threads for s in found)
        print(f"{growth:.1f} MiB more, {last.rate / first.rate:.2f} times as fast as at first")
        print(f"{requests} requests; {shelf.count()} once all was done, and {len(again)} results")
    return int(growth > MOST_GROWTH or more)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
