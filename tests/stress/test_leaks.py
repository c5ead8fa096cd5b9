"""The login of a merge that fails, sought in processes, files, output and records.

Both registries repeat all that they are given. While skopeo waits for an answer, the processes
below the program are looked at; after the end, all that was printed and left behind.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import pytest
from attrs import define, field

from pubtools_mlmerge.testing import make_image, make_index
from tests.factories import content_of, document
from tests.hostile.helpers import LOGIN, PASSWORD, SECRETS, TOKEN, USER, good
from tests.programs import ROOT, command, environment, write_program
from tests.scripted import (
    Received,
    Reply,
    ScriptedServer,
    bearer,
    json_reply,
    manifest_reply,
    refusal,
)
from tests.servers import free_port, require
from tests.stress.arena import IS_LONG
from tests.stress.counts import Counts

TOLD = f"no: Basic {LOGIN} {PASSWORD} Bearer {TOKEN}"
CHILD = make_image()
INDEX = make_index([CHILD])
OLD = content_of(document("linux/s390x"))
HELPER = f"""
import json
print(json.dumps({{"Username": {USER!r}, "Secret": {PASSWORD!r}}}))
"""
WAYS = ("options", "environment", "auth file", "helper", "proxy", "lock", "token of Quay's API")
ENDS = (None, signal.SIGTERM, signal.SIGINT, signal.SIGKILL)
PROCESSES = Path("/proc")
SHORT = [("options", None), ("environment", signal.SIGTERM), ("helper", None), ("lock", None)]
CASES = [(way, end) for way in WAYS for end in ENDS] if IS_LONG else SHORT


@define
class Hunt:
    """Two registries that repeat secrets, and what was found while a program uses them."""

    way: str
    end: signal.Signals | None
    home: str  # by which the program is told from other processes of this run
    looked: int = 0
    children: int = 0
    leaks: list[str] = field(factory=list)

    def answer(self, request: Received) -> Reply:
        """Give out tokens and a source, fail in all else, and look around when skopeo asks."""
        if "skopeo" in request.headers.get("user-agent", ""):
            self.look()
        elif request.target.startswith("/token"):
            return json_reply({"token": TOKEN})
        elif request.authorization != f"Bearer {TOKEN}":
            return bearer(f"http://{request.host}/token")
        reads, name = request.method in ("GET", "HEAD"), request.target.split("/")[2]
        answers = {
            ("source", True): good(INDEX.content),
            ("held", True): good(OLD),
            ("lacking", True): refusal(404, "MANIFEST_UNKNOWN", TOLD),
            ("lacking", False): Reply(202, {"Location": "/v2/lacking/blobs/uploads/1"}),
        }
        if reads and name != "lacking" and request.target.endswith(CHILD.digest):
            return manifest_reply(CHILD.content, CHILD.media_type)
        refused = refusal(403, "DENIED", f"{TOLD} {request.authorization}")
        return answers.get((name, reads), refused)

    def look(self) -> None:
        """Look at the command lines and variables of all processes below the program."""
        for process, depth in below(os.getpid(), self.home):
            self.looked += 1
            self.children += depth > 1
            exempt = depth == 1 and self.way == "options"  # the user's own command line
            self.seek("command line", b"" if exempt else read(process / "cmdline"))
            self.seek("variables", b"" if depth == 1 else read(process / "environ"))
            if self.end and depth == 1:
                os.kill(int(process.name), self.end)

    def seek(self, place: str, content: bytes) -> None:
        self.leaks += [place for secret in SECRETS if secret.encode() in content]


def read(path: Path) -> bytes:
    with suppress(OSError):  # it ended meanwhile
        return path.read_bytes()
    return b""


def below(pid: int, home: str) -> Iterator[tuple[Path, int]]:
    """List the program below a process, and all below that, with their depth."""
    found = {
        path: read(path / "stat").rpartition(b")")[2].split() for path in PROCESSES.glob("[1-9]*")
    }
    parents = {path: int(fields[1]) for path, fields in found.items() if fields}
    level, depth = {pid}, 1
    while level:
        children = [path for path, parent in parents.items() if parent in level]
        if depth == 1:
            children = [path for path in children if home.encode() in read(path / "environ")]
        yield from ((path, depth) for path in children)
        level, depth = {int(path.name) for path in children}, depth + 1


def login(way: str, place: Path, hosts: tuple[str, str]) -> tuple[list[str], Mapping[str, str]]:
    """Log in on both sides, or where else a secret is given, in one way."""
    sides = [f"--{side}-quay-user={USER}" for side in ("source", "dest")]
    exported = {"SOURCE_QUAY_PASSWORD": PASSWORD, "DEST_QUAY_PASSWORD": PASSWORD}
    auths: dict[str, object] = {"auths": {host: {"auth": LOGIN} for host in hosts}}
    if way == "options":
        return [*sides, *(f"--{s}-quay-password={PASSWORD}" for s in ("source", "dest"))], {}
    if way in ("auth file", "helper"):
        if way == "helper":
            auths = {"credHelpers": dict.fromkeys(hosts, "hunt")}
            write_program(place / "docker-credential-hunt", HELPER, f"{sys.executable} -ISE")
        (place / "auth.json").write_text(json.dumps(auths))
        path = f"{place}{os.pathsep}{os.environ['PATH']}"
        return [], {"REGISTRY_AUTH_FILE": str(place / "auth.json"), "PATH": path}
    port, quoted = free_port(), "wonder-land&<77>"
    more = {
        "environment": {},
        "proxy": {"http_proxy": f"http://{USER}:{quoted}@127.0.0.1:{port}"},
        "lock": {"MLMERGE_LOCK": f"redis://:{quoted}@127.0.0.1:{port}/0?wait=0"},
        "token of Quay's API": {"QUAY_API_TOKEN": TOKEN},
    }
    if way == "proxy":  # none is asked for this machine
        sides.append("--source-quay-host=http://registry.test")
    return sides, {**exported, **more[way]}


@pytest.mark.parametrize(("way", "end"), CASES)
def test_no_secret_is_left_anywhere(
    way: str, end: signal.Signals | None, tmp_path: Path, counts: Counts
) -> None:
    require("skopeo")
    hunt = Hunt(way=way, end=end, home=str(tmp_path / "home"))
    with ScriptedServer(hunt.answer) as source, ScriptedServer(hunt.answer) as dest:
        places = {name: tmp_path / name for name in ("own", "home", "tmp", "records")}
        for each in places.values():
            each.mkdir()
        options, variables = login(way, places["own"], (source.host, dest.host))
        arguments = (
            *("--source-ref", f"{source.host}/source:1", "--copy", "skopeo", "-ddd", *options),
            *("--dest-ref", f"{dest.host}/held:1,{dest.host}/lacking:1", "--threads", "1"),
            *("--audit", str(places["records"]), "--html", str(tmp_path / "page.html")),
        )
        done = subprocess.run(
            [*command("merge"), *arguments],
            cwd=ROOT,
            env=environment(
                **{"HOME": str(places["home"]), "TMPDIR": str(places["tmp"]), **variables}
            ),
            capture_output=True,
            timeout=120,
            check=False,
        )
    hunt.seek("output", done.stdout + done.stderr)
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.parent != places["own"]:
            hunt.looked += 1
            hunt.seek(str(path), path.read_bytes())

    counts.survived("secrets sought in processes, files and output", not hunt.leaks, of=1)
    assert hunt.leaks == []
    assert done.returncode in ((1,) if end is None else (1, -end, 128 + end))
    assert way in ("proxy", "lock") or hunt.children
