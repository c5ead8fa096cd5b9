"""The demo: what it prints, and the registry that it serves."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
from collections.abc import Iterator

import pytest

from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.registry.client import RegistryClient
from tests.programs import command, environment, run, run_here
from tests.servers import free_port


def test_the_demo_shows_both_merges_whatever_the_environment_says() -> None:
    env = {"MLMERGE_DROP": "s390x", "MLMERGE_CREDS": "alice", "HTTP_PROXY": "http://127.0.0.1:1"}

    out = run_here("demo", env=env).out

    whole, selected = (part.split("\n$ ")[0] for part in out.split("$ pubtools-mlmerge-merge")[1:])
    fates = re.findall(r"^(linux/\S+) .*? (replaced|kept|excluded)  ", whole, re.MULTILINE)
    assert whole.count(" +1 attestation ") == 3
    assert fates == [
        *((f"linux/{name}", "replaced") for name in ("amd64", "arm64", "ppc64le")),
        ("linux/s390x", "kept"),
    ]
    assert ": 3 added, 3 replaced, 1 kept" in whole
    assert ": 1 added, 1 replaced, 3 kept, 4 excluded" in selected


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
