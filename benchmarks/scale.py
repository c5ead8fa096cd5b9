"""A batch of very many lines, with `--resume`: what the process needs, and whether that grows."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.registry import Manager
from tests.programs import command, environment

REPOSITORIES, MOST_GROWTH = 2000, 20  # MiB
PIECE, LEFT = 1000, 10  # lines of which the rate is taken, and those that are left at the last look
ROW = "{:>7}  {:>14}  {:>5}  {:>11}  {:>7}"


def watched(argv: list[str], total: int) -> Iterator[tuple[float, ...]]:
    """Run a batch; give, after some lines, what the process has and how fast the last ones were."""
    environ, null = environment(QUAY_PASSWORD="password"), subprocess.DEVNULL  # noqa: S106 - of nobody
    with subprocess.Popen(argv, env=environ, stdout=subprocess.PIPE, stderr=null) as process:
        began, last, home = 0.0, 1, Path("/proc", f"{process.pid}")
        for number, _ in enumerate(process.stdout or (), start=1):
            if number == 1 or number % PIECE == 0 or number == total - LEFT:
                rate, last = (number - last) / (time.monotonic() - began), number
                if number == PIECE or number % (total // 10) == 0 or number == total - LEFT:
                    text = (home / "status").read_text(encoding="ascii")
                    status = dict(line.split(":", 1) for line in text.splitlines())
                    memory, files = int(status["VmRSS"].split()[0]) / 1024, (home / "fd").iterdir()
                    yield number, rate, memory, len(list(files)), int(status["Threads"])
                began = time.monotonic()
    assert process.returncode == 0, "the batch failed"


def main(total: int = 100_000) -> int:
    """Run it twice, the second time with nothing left to do; fail if something has grown."""
    with tempfile.TemporaryDirectory() as directory, Manager() as manager:
        shelf, batch = manager.shelf(REPOSITORIES, total // REPOSITORIES), Path(directory, "batch")
        with batch.open("w", encoding="ascii") as file:
            for number in range(total):
                app = f"{shelf.host()}/app-{number % REPOSITORIES}"
                line = {"source_ref": f"{app}:new", "dest_ref": f"{app}:{number // REPOSITORIES}"}
                file.write(json.dumps(line) + "\n")
        options = ("--resume", f"{batch}.done", "--creds", "user", "--json")
        argv = [*command("merge"), "--batch", str(batch), *options]
        print(ROW.format("lines", "lines a second", "MiB", "descriptors", "threads"))
        requests, found = 0, list[tuple[float, ...]]()
        for row in watched(argv, total):
            found.append(row)
            print(ROW.format(row[0], f"{row[1]:.0f}", f"{row[2]:.1f}", *row[3:]), flush=True)
            requests += shelf.count()
        shelf.count()
        again = sum(1 for _ in watched(argv, total))
        (_, rate, memory, *before), (_, last_rate, last_memory, *_) = found[0], found[-2]
        print(f"{last_memory - memory:.1f} MiB more; {last_rate / rate:.2f} times as fast as first")
        print(f"{requests} requests; to resume when all is done {shelf.count()}, results {again}")
    more = any(now > then for row in found for now, then in zip(row[3:], before))
    return int(last_memory - memory > MOST_GROWTH or more)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
