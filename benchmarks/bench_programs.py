"""Programs: one merge as a process beside other programs, and how long starting takes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from functools import partial

import pytest

from benchmarks.bench_merges import COMMAND, DISTANCES, Case, Side
from benchmarks.conftest import Measure
from benchmarks.registry import DOCKER_LIST, OLD, SOURCES, Place
from tests.programs import ROOT, command, environment

# Only the first of them compares platforms; the others are told what a merge would find out.
PEERS = {
    "curl+jq": """
        url() { rest=${1#*/}; echo "https://${1%%/*}/v2/${rest%:*}/manifests/${rest##*:}"; }
        new=$(curl -fsS -H "Accept: $LIST" "$(url "$SOURCE")")
        old=$(curl -fsS -H "Accept: $LIST" "$(url "$DEST")")
        jq -n --argjson new "$new" --argjson old "$old" '
            def slot: .platform | [.os, .architecture, .variant];
            [$new.manifests[] | slot] as $taken | $new
            | .manifests += [$old.manifests[] | select(slot as $s | $taken | index([$s]) | not)]' |
            curl -fsS -X PUT -H "Content-Type: $LIST" --data-binary @- "$(url "$DEST")"
        """,
    "crane": 'crane index append "$SOURCE" -m "${DEST%:*}@$KEPT" -t "$DEST"',
    "regctl": 'regctl index create "$DEST" $(printf " --ref ${DEST%:*}@%s" $ALL)',
    "oras": 'oras manifest index create "$DEST" $ALL',
    "buildx": 'docker buildx imagetools create --tag "$DEST" "$SOURCE" "${DEST%:*}@$KEPT"',
}
PROBES = {"curl+jq": "curl --version && jq --version", "buildx": "docker buildx version"}
ALONE = ROOT / ".venv" / "bin" / COMMAND  # where the host is installed, it loads more
MERGE = [str(ALONE)] if ALONE.exists() else command("merge")


def run(argv: Sequence[str], **variables: str) -> None:
    """Run a program to its end, which must be a good one."""
    kept = {"HOME", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE"} & os.environ.keys()
    environ = environment(**{name: os.environ[name] for name in kept}, **variables)
    environ.pop("PYTHONDONTWRITEBYTECODE", None)  # with it, each start compiles everything
    done = subprocess.run(argv, cwd=ROOT, env=environ, capture_output=True, check=False)
    assert done.returncode == 0, f"{argv[0]} failed: {done.stderr.decode()}"


def is_here(peer: str) -> bool:
    probe = ("bash", "-c", PROBES.get(peer, f"{peer} version"))
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


def by_process(source: str, tags: list[str]) -> None:
    run([*MERGE, "--source-ref", source, "--dest-ref", tags[0]])


def by_peer(peer: str, source: str, tags: list[str]) -> None:
    kept = OLD.children[-1].digest
    listed = [*(child.digest for child in SOURCES[int(source[-1])].children), kept]
    names = {"SOURCE": source, "DEST": tags[0], "KEPT": kept, "ALL": " ".join(listed)}
    run(["bash", "-euo", "pipefail", "-c", PEERS[peer]], LIST=DOCKER_LIST, **names)


SIDES: dict[str, Side] = {peer: partial(by_peer, peer) for peer in PEERS if is_here(peer)}
SIDES[COMMAND] = by_process
ABSENT = [peer for peer in PEERS if peer not in SIDES]


@pytest.mark.parametrize("name", SIDES)
@pytest.mark.parametrize("ms", DISTANCES)
def bench_one_process(measure: Measure, registry: Place, ms: int, name: str) -> None:
    Case(f"one merge as a process, {ms} ms", ms, SIDES).measure(measure, registry, name)


HOST_HELP = "from pubtools._quay.merge_manifest_list import *; merge_manifest_list_main()"
TASK = "import pubtools._quay.push_docker"
PYTHON = (sys.executable, "-W", "ignore", "-c")
STARTS = {
    ("start of a command", f"{COMMAND} --help"): (*MERGE, "--help"),
    ("start of a command", "the host's command --help"): (*PYTHON, HOST_HELP, "--help"),
    ("import of the plugin", "a task with it"): (*PYTHON, f"{TASK}, pubtools_mlmerge.plugin"),
    ("import of the plugin", "a task without it"): (*PYTHON, TASK),
}


@pytest.mark.parametrize("names", STARTS)
def bench_start(measure: Measure, names: tuple[str, str]) -> None:
    """How long starting takes, and what the plugin adds to each task of the host."""
    measure(names, partial(run, STARTS[names]), rounds=15)
