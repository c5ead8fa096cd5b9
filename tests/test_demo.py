"""The demo serves its registry. What it prints is tested with the tutorial."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Iterator

import pytest

from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.registry.client import RegistryClient
from tests.programs import command, environment, run
from tests.servers import free_port

Served = subprocess.Popen[str]


@pytest.fixture
def served() -> Iterator[tuple[Served, str]]:
    """Let the demo serve, and tell where."""
    port = str(free_port())
    # Who runs the tests in the background may have them ignore interrupts.
    begun = ["env", "--default-signal=INT", *command("demo"), "--serve", port]
    with subprocess.Popen(begun, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while f"127.0.0.1:{port}/demo/app:stable" not in process.stdout.readline():
            assert process.poll() is None
        yield process, f"127.0.0.1:{port}"
        process.kill()


def test_the_demo_serves_both_versions_on_a_port(served: tuple[Served, str]) -> None:
    _, host = served
    client = RegistryClient(host=f"http://{host}")

    found = {
        tag: client.pull_index(Reference.parse(f"{host}/demo/app:{tag}"))
        for tag in ("1.0", "1.1", "stable")
    }

    assert [len(index.manifests) for index in found.values()] == [4, 6, 4]
    assert found["stable"].digest == found["1.0"].digest


def test_the_demo_serves_until_it_is_interrupted(served: tuple[Served, str]) -> None:
    process, _ = served

    process.send_signal(signal.SIGINT)

    out, _ = process.communicate(timeout=10)
    assert (process.returncode, "The registry has stopped." in out) == (0, True)


def test_the_demo_says_that_a_port_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        done = run("demo", "--serve", str(other.getsockname()[1]))

    assert (done.code, done.out) == (1, "")
    assert "ERROR: cannot listen on port" in done.err


def test_the_demo_ends_quietly_where_nobody_reads_it() -> None:
    done = run("demo", is_read=False)

    assert (done.code, done.err) == (0, "")
