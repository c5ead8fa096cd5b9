"""Ctrl-C and SIGTERM: the programs end soon whatever they wait for, and leave nothing half done.

Each wait here would last a minute or more by itself.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import requests
from attrs import define, field

from pubtools_mlmerge.cli.parsers import inspect_main
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.locks import tag_lock
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.registry.quay_history import TagHistory
from pubtools_mlmerge.testing import RegistryServer, make_image, make_index
from tests.paper import text_of
from tests.programs import ROOT, Done, call, command, environment, put, python, write_program
from tests.quay import QuayDialect
from tests.redis_servers import redis_server
from tests.scripted import Received, Reply, ScriptedServer

OLD = make_index([make_image(p, seed="old") for p in ("linux/amd64", "linux/s390x")])
NEW = make_index([make_image(p, seed="new") for p in ("linux/amd64", "linux/arm64")])
OTHER = make_index([make_image("linux/riscv64"), *OLD.children])
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}

pytestmark = pytest.mark.usefixtures("no_variables")


def until(condition: Callable[[], object]) -> None:
    """Wait until something is so."""
    give_up = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.02)


@define
class Program:
    """A program that runs."""

    process: subprocess.Popen[str]

    @property
    def works(self) -> bool:
        """Whether there is a thread beside the main one and the one that sees to the end."""
        return len(list(Path(f"/proc/{self.process.pid}/task").iterdir())) > 2

    def end(self, *signals: int) -> Done:
        """Send signals, and wait for the end."""
        for number in signals:
            self.process.send_signal(number)
        out, err = self.process.communicate(timeout=50)
        assert "Traceback" not in err
        return Done(self.process.returncode, out, err)


# Two signals come between the start of another program and the return of what starts it.
STARTING = """
import signal, subprocess, threading, time
from pubtools_mlmerge.concurrency import STOP

class Slow(subprocess.Popen):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        print(self.pid, flush=True)
        begun.set()
        while STOP.signal is None:
            time.sleep(0.01)

subprocess.Popen = Slow
begun = threading.Event()
threading.Thread(target=STOP.run, args=[["sleep", "1000"], {}]).start()
begun.wait()
STOP.on_signal(signal.SIGTERM)
STOP.on_signal(signal.SIGTERM)
"""

# A signal comes at each moment of the end, one in each of many processes.
AT_THE_END = """
import os, signal, sys
from pubtools_mlmerge.concurrency import ended_by_signals

def end(moment):
    def count(*_):
        nonlocal moment
        moment -= 1
        if moment == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return count

    with ended_by_signals(lambda number: None):
        sys.settrace(count)

processes = []
for moment in range(1, 100):
    if (process := os.fork()) == 0:
        signal.alarm(30)
        end(moment)
        sys.exit(0)
    processes.append(process)
print(*{os.waitstatus_to_exitcode(os.waitpid(each, 0)[1]) for each in processes})
"""

# A page of thousands of tags takes longer than what hangs may.
LONG_PAGE = """
import os, signal, time
from datetime import datetime
from pathlib import Path
from pubtools_mlmerge.concurrency import ended_by_signals
from pubtools_mlmerge.reports import html

def page_of(*_, complete):
    time.sleep(2.5)
    return "all of it"

html.page_of = page_of
with ended_by_signals(print):
    os.kill(os.getpid(), signal.SIGTERM)
    html.write_page(Path(PAGE), [], datetime.now(), complete=False)
"""

# Another thread releases what it holds just when the program does so too.
RELEASING = """
import os, signal, threading
from contextlib import ExitStack
from functools import partial
from pubtools_mlmerge.concurrency import STOP

class Thread(threading.Thread):
    def __init__(self, **options):
        super().__init__(**options)
        held.close()

held = ExitStack()
for number in range(3):
    held.enter_context(STOP.releasing(partial(os.write, 1, b"released\\n")))
threading.Thread = Thread
STOP.on_signal(signal.SIGTERM)
STOP.watch()
"""


@contextmanager
def program(
    *arguments: str, ignored: bool = False, variables: Mapping[str, str] | None = None
) -> Iterator[Program]:
    """Run a merge; who runs the tests in the background may have them ignore Ctrl-C."""
    setting = "--ignore-signal=INT" if ignored else "--default-signal=INT"
    with subprocess.Popen(
        ["env", setting, *command("merge"), *arguments],
        cwd=ROOT,
        env=environment(**(variables or {})),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Program(process)
        finally:
            process.kill()


@define
class Gate:
    """Stands before a registry and holds back some requests."""

    server: RegistryServer
    holds: Callable[[Received], bool]
    held: threading.Event = field(factory=threading.Event)
    open: threading.Event = field(factory=threading.Event)
    before: Callable[[Received], object] = field(default=lambda _: None)
    after: Callable[[Received], object] = field(default=lambda _: None)

    def __call__(self, request: Received) -> Reply:
        self.before(request)
        if self.holds(request):
            self.held.set()
            self.open.wait(60)
        kept = {n: v for n, v in request.headers.items() if n not in ("host", "connection")}
        url = self.server.url + request.target
        got = requests.request(request.method, url, headers=kept, data=request.body, timeout=60)
        self.after(request)
        headers = {n: v for n, v in got.headers.items() if n not in ("Connection", "Date")}
        return Reply(got.status_code, headers, got.content)


def is_put(request: Received) -> bool:
    return request.method == "PUT"


@pytest.fixture
def server(registry_server: RegistryServer) -> RegistryServer:
    put(registry_server, "old", OLD)
    put(registry_server, "new", NEW)
    return registry_server


def batch_of_200(host: str, path: Path) -> list[str]:
    """Write a batch into 200 tags, and name it."""
    line = '{{"source_ref": "{0}/app:new", "dest_ref": "{0}/app:tag{1}"}}\n'
    path.write_text("".join(line.format(host, number) for number in range(200)), encoding="ascii")
    return ["--batch", str(path), "--output", "json"]


def merge_on(host: str, tags: Sequence[str] = ("old",)) -> list[str]:
    destinations = ",".join(f"{host}/app:{tag}" for tag in tags)
    return ["--source-ref", f"{host}/app:new", "--dest-ref", destinations]


@contextmanager
def held_back(
    server: RegistryServer, *options: str, ignored: bool = False
) -> Iterator[tuple[ScriptedServer, Gate, Program]]:
    """Run a merge whose write is held back until the gate opens."""
    gate = Gate(server, is_put)
    with ScriptedServer(gate) as front:
        with program(*merge_on(front.host), *options, ignored=ignored) as running:
            until(gate.held.is_set)
            yield front, gate, running
        gate.open.set()


# Each wait gives arguments and variables, and what is so once the program waits.
Waiting = tuple[list[str], dict[str, str], Callable[[Program], object]]
Wait = Callable[[ExitStack, RegistryServer, Path], Waiting]


def retry(stack: ExitStack, _: RegistryServer, __: Path) -> Waiting:
    busy = stack.enter_context(ScriptedServer(Reply(429, {"Retry-After": "60"})))
    return merge_on(busy.host), {}, lambda _: busy.received


def locked_file(stack: ExitStack, server: RegistryServer, path: Path) -> Waiting:
    stack.enter_context(tag_lock(f"{server.host}/app:old", path.as_uri()))
    return [*merge_on(server.host), "--lock", path.as_uri()], {}, lambda p: p.works


def locked_redis(stack: ExitStack, server: RegistryServer, path: Path) -> Waiting:
    redis = stack.enter_context(redis_server(path))
    stack.enter_context(tag_lock(f"{server.host}/app:old", redis.url))
    client = stack.enter_context(redis.client())
    before = len(client.client_list())
    arguments = [*merge_on(server.host), "--lock", redis.url]
    return arguments, {}, lambda _: len(client.client_list()) > before


def silent(stack: ExitStack, _: RegistryServer, __: Path) -> Waiting:
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

    def asked(_: Program) -> bool:
        stack.enter_context(listener.accept()[0])
        return True

    return merge_on(f"127.0.0.1:{listener.getsockname()[1]}"), {}, asked


def unreachable(stack: ExitStack, _: RegistryServer, __: Path) -> Waiting:
    """Nobody accepts, and the kernel queues no more connections."""
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
    for _number in range(2):
        other = stack.enter_context(socket.socket())
        other.setblocking(False)
        other.connect_ex(listener.getsockname())
    return merge_on(f"127.0.0.1:{listener.getsockname()[1]}"), {}, lambda p: p.works


def sleeper(path: Path, name: str) -> dict[str, str]:
    """Put a program on PATH that writes down its number, and sleeps."""
    code = f"echo $$ >{path}/part\nmv {path}/part {path}/started\nexec sleep 600"
    write_program(path / name, code)
    return {"PATH": f"{path}:{os.environ['PATH']}"}


def skopeo(stack: ExitStack, server: RegistryServer, path: Path) -> Waiting:
    source = put(stack.enter_context(RegistryServer()), "new", OTHER)
    arguments = ["--source-ref", source, *merge_on(server.host)[2:], "--copy", "skopeo"]
    return arguments, sleeper(path, "skopeo"), lambda _: (path / "started").exists()


def helper(stack: ExitStack, _: RegistryServer, path: Path) -> Waiting:
    asking = stack.enter_context(ScriptedServer(Reply(401, {"WWW-Authenticate": "Basic"})))
    (path / "auth.json").write_text('{"credsStore": "own"}')
    variables = sleeper(path, "docker-credential-own")
    variables["REGISTRY_AUTH_FILE"] = str(path / "auth.json")
    return merge_on(asking.host), variables, lambda _: (path / "started").exists()


@pytest.mark.parametrize(("number", "output"), [(signal.SIGINT, "text"), (signal.SIGTERM, "json")])
@pytest.mark.parametrize(
    "wait",
    [retry, locked_file, locked_redis, silent, unreachable, skopeo],
)
def test_no_wait_holds_up_the_end(
    wait: Wait, number: signal.Signals, output: str, server: RegistryServer, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        arguments, variables, ready = wait(stack, server, tmp_path)
        with program(*arguments, "--output", output, variables=variables) as running:
            until(lambda: ready(running))

            done = running.end(number)

    assert (done.code, "digest" in done.out) == (CODES[number], False)
    assert f"ERROR: Interrupted by {number.name}" in done.err
    assert server.manifest("app", "old").digest == OLD.digest


@pytest.mark.parametrize(
    ("wait", "signals"),
    [
        (skopeo, [signal.SIGTERM]),
        (skopeo, [signal.SIGINT, signal.SIGTERM]),
        (helper, [signal.SIGTERM]),
    ],
)
def test_another_program_does_not_go_on(
    wait: Wait, signals: list[signal.Signals], server: RegistryServer, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        arguments, variables, ready = wait(stack, server, tmp_path)
        with program(*arguments, variables=variables) as running:
            until(lambda: ready(running))
            assert running.end(*signals).code == CODES[signals[0]]

    other = int((tmp_path / "started").read_text(encoding="ascii"))
    until(lambda: not Path(f"/proc/{other}").exists())


def test_a_program_that_is_just_being_started_does_not_go_on() -> None:
    done = python(STARTING)

    assert done.code == CODES[signal.SIGTERM], done.err
    until(lambda: not Path(f"/proc/{int(done.out)}").exists())


def test_a_signal_ends_a_program_at_every_moment_of_its_end() -> None:
    codes = {int(code) for code in python(AT_THE_END).out.split()}

    assert CODES[signal.SIGTERM] in codes
    assert codes <= {0, CODES[signal.SIGTERM], -signal.SIGTERM}  # the last after the end


def test_a_page_is_made_to_its_end(tmp_path: Path) -> None:
    page = tmp_path / "page.html"

    done = python(LONG_PAGE.replace("PAGE", repr(str(page))))

    assert (done.code, done.out) == (CODES[signal.SIGTERM], f"{signal.SIGTERM.value}\n"), done.err
    assert page.read_text(encoding="ascii") == "all of it\n"


def test_what_is_held_is_released_although_a_thread_releases_some_of_it() -> None:
    done = python(RELEASING)

    assert (done.code, done.out) == (CODES[signal.SIGTERM], "released\n" * 3), done.err


def test_blobs_under_way_are_given_up_and_their_uploads_cancelled(server: RegistryServer) -> None:
    image = make_image("linux/riscv64")
    with RegistryServer() as other:
        put(other, "new", make_index([image]))
        gate = Gate(other, lambda request: "/blobs/" in request.target)
        with ScriptedServer(gate) as front:
            arguments = ["--source-ref", f"{front.host}/app:new", *merge_on(server.host)[2:]]
            with program(*arguments) as running:
                blobs = len(image.blobs)
                until(lambda: sum("/blobs/" in r.target for r in front.received) == blobs)

                done = running.end(signal.SIGTERM)
            gate.open.set()

    ends = [r.status for r in server.requests if "/uploads/" in r.path and r.method == "DELETE"]
    assert done.code == 143
    assert ends == [204] * blobs


@pytest.mark.parametrize("output", ["text", "json"])
def test_what_was_done_is_printed(server: RegistryServer, tmp_path: Path, output: str) -> None:
    """The first of four tags hangs, and the others are done."""
    page = tmp_path / "page.html"
    gate = Gate(server, lambda request: request.target.endswith("/old"))
    tags = ("old", "one", "two", "three")
    with ScriptedServer(gate) as front:
        arguments = [*merge_on(front.host, tags), "--html", str(page), "--output", output]
        with program(*arguments) as running:
            until(lambda: len(server.tags("app")) == 5)
            until(lambda: sum(r.method == "PUT" for r in front.received) == 3)

            done = running.end(signal.SIGINT)
        gate.open.set()

    assert done.code == 130
    shown = text_of(page.read_text(encoding="ascii"))
    for tag in tags[1:]:
        assert f"{front.host}/app:{tag}" in done.out
        assert f"{front.host}/app:{tag} is now sha256:" in shown
    assert done.out.count(server.manifest("app", "one").digest) >= 3
    assert f"{front.host}/app:old: interrupted before it was done" in done.err
    assert "Interrupted: the rest is missing here." in shown
    if output == "json":
        assert [report["changed"] for report in done.reports] == [True] * 3


def test_what_was_done_beside_a_connection_that_hangs_is_printed(
    server: RegistryServer, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        first, _, _ = unreachable(stack, server, tmp_path)
        tags, source = f"{first[-1]},{server.host}/app:one", f"{server.host}/app:new"
        with program("--source-ref", source, "--dest-ref", tags, "--output", "json") as running:
            until(lambda: "one" in server.tags("app"))

            done = running.end(signal.SIGTERM)

    assert done.code == 143
    assert [report["destination"] for report in done.reports] == [f"{server.host}/app:one"]
    assert f"ERROR: {first[-1]}: interrupted, and whether it was done is unknown" in done.err


def test_a_batch_that_waits_for_lines_ends(server: RegistryServer) -> None:
    line = f'{{"source_ref": "{server.host}/app:new", "dest_ref": "{server.host}/app:1"}}\n'
    with program("--batch", "-", "--output", "json") as running:
        assert running.process.stdin is not None
        running.process.stdin.write(line)
        running.process.stdin.flush()
        until(lambda: "1" in server.tags("app"))

        done = running.end(signal.SIGINT)

    assert done.code == 130
    assert "ERROR: Interrupted by SIGINT" in done.err
    assert [report["changed"] for report in done.reports] == [True]


def test_no_further_line_of_a_batch_begins(server: RegistryServer, tmp_path: Path) -> None:
    gate = Gate(server, lambda request: request.target.endswith("/tag9"))
    with ScriptedServer(gate) as front:
        batch = batch_of_200(front.host, tmp_path / "batch")
        with program(*batch, "--threads", "1") as running:
            until(gate.held.is_set)

            done = running.end(signal.SIGTERM)
        gate.open.set()

    assert done.code == 143
    assert ["digest" in result for result in done.results] == [True] * 9 + [False]
    assert len(server.tags("app")) == 11


def test_a_batch_that_was_killed_goes_on(server: RegistryServer, tmp_path: Path) -> None:
    record = tmp_path / "record"
    how = [*batch_of_200(server.host, tmp_path / "batch"), "--resume", str(record)]
    with program(*how) as running:
        until(lambda: "tag20" in server.tags("app"))
        running.end(signal.SIGKILL)
    done = {words.rpartition(":")[2] for words in record.read_text("ascii").splitlines()[1:]}
    server.forget_requests()

    with program(*how) as running:
        assert running.end().code == 0

    asked = {request.path.rpartition("/")[2] for request in server.requests}
    assert asked & done == set()
    assert {f"tag{n}" for n in range(200)} <= asked | done
    assert len(done) > 10


@pytest.mark.parametrize("number", CODES)
def test_a_write_under_way_is_finished_and_reported(
    server: RegistryServer, number: signal.Signals
) -> None:
    with held_back(server, "--anchor-tag", "kept") as (front, gate, running):
        running.process.send_signal(number)
        gate.open.set()

        done = running.end()

    assert done.code == CODES[number]
    held = server.manifest("app", "old").digest
    assert held == server.manifest("app", "kept").digest != OLD.digest
    assert f"{front.host}/app:old is now {held}" in done.out


def test_no_write_begins_after_a_signal(server: RegistryServer) -> None:
    gate = Gate(server, lambda request: request.method == "HEAD")
    with ScriptedServer(gate) as front, program(*merge_on(front.host)) as running:
        until(gate.held.is_set)
        running.process.send_signal(signal.SIGTERM)
        gate.open.set()

        assert running.end().code == 143

    assert server.manifest("app", "old").digest == OLD.digest


def test_a_write_that_is_never_answered_is_given_up_and_the_lock_released(
    server: RegistryServer, tmp_path: Path
) -> None:
    with held_back(server, "--lock", tmp_path.as_uri()) as (front, _, running):
        done = running.end(signal.SIGINT)
        with tag_lock(f"{front.host}/app:old", f"{tmp_path.as_uri()}?wait=0"):
            assert server.manifest("app", "old").digest == OLD.digest

    words = "app:old: interrupted during the write, it holds its old content or the result"
    assert (done.code, done.out, words in done.err) == (130, "", True)


@pytest.mark.parametrize("option", ["--quiet", "--json"])
def test_a_tag_that_was_written_is_not_said_to_be_left_undone(
    server: RegistryServer, option: str
) -> None:
    """The write is answered, and reading the tag back is not."""
    written = threading.Event()
    gate = Gate(server, lambda request: written.is_set() and request.target.endswith("/old"))
    gate.after = lambda request: written.set() if is_put(request) else None
    with ScriptedServer(gate) as front:
        with program(*merge_on(front.host), option) as running:
            until(gate.held.is_set)
            done = running.end(signal.SIGTERM)
        gate.open.set()

    words = f"{front.host}/app:old: interrupted during the write, it holds its old content or the"
    assert server.manifest("app", "old").digest != OLD.digest
    assert f"ERROR: {words} result\n" in done.err
    assert (words in done.out) is (option == "--json")
    rest = {"--quiet": "with --quiet, no results are", "--json": "what is not printed was not done"}
    assert f"ERROR: Interrupted by SIGTERM; {rest[option]}" in done.err


def test_an_anchor_tag_that_was_written_is_not_said_to_be_missing(server: RegistryServer) -> None:
    """The write is answered, and reading the tag back is not."""
    written = threading.Event()
    gate = Gate(server, lambda request: written.is_set())
    gate.after = lambda r: written.set() if is_put(r) and r.target.endswith("/kept") else None
    with ScriptedServer(gate) as front:
        with program(*merge_on(front.host), "--anchor-tag", "kept", "--quiet") as running:
            until(gate.held.is_set)
            done = running.end(signal.SIGTERM)
        gate.open.set()

    held = server.manifest("app", "kept").digest
    words = f"{front.host}/app:old is written and holds {held}, but perhaps not its anchor tag"
    assert f"ERROR: {words}\n" in done.err


def test_a_lock_is_released_where_a_connection_hangs(
    server: RegistryServer, tmp_path: Path
) -> None:
    """Nothing ends the wait for a connection, nor a look-up of a name."""
    with ExitStack() as stack:
        redis = stack.enter_context(redis_server(tmp_path))
        client = stack.enter_context(redis.client())
        arguments, _, _ = unreachable(stack, server, tmp_path)
        with program(*arguments, "--lock", redis.url) as running:
            until(client.keys)

            done = running.end(signal.SIGTERM)

        assert done.code == 143
        assert client.keys() == []


def test_a_tag_made_for_the_moment_is_deleted() -> None:
    """Another program writes just before us; what it wrote is read again under a tag of ours."""

    def write_first(request: Received) -> None:
        if is_put(request) and not gate.held.is_set():
            put(quay, "old", OTHER)

    with RegistryServer(dialect=QuayDialect("api-token")) as quay:
        for tag, item in (("old", OLD), ("new", NEW)):
            put(quay, tag, item)
        gate = Gate(quay, lambda request: "/manifests/mlmerge-recovered-" in request.target)
        gate.before = write_first
        with ScriptedServer(gate) as front:
            token = ("--quay-api-token", "api-token", "--quay-api-token-host", front.host)
            with program(*merge_on(front.host), *token) as running:
                until(gate.held.is_set)
                assert len(quay.tags("app")) == 3

                done = running.end(signal.SIGTERM)
            gate.open.set()

        assert done.code == 143
        assert quay.tags("app") == ("new", "old")


def test_a_tag_that_expires_still_does_after_a_signal_during_its_write() -> None:
    moment = 2_000_000_000
    with RegistryServer(dialect=QuayDialect("api-token")) as quay:
        for name, item in (("old", OLD), ("new", NEW)):
            put(quay, name, item)
        history = TagHistory(RegistryClient(quay.url), "api-token")
        tag = Reference.parse(f"{quay.host}/app:old")
        history.expire_at(tag, moment)
        gate = Gate(quay, lambda request: is_put(request) and "/v2/" in request.target)
        with ScriptedServer(gate) as front:
            token = ("--quay-api-token", "api-token", "--quay-api-token-host", front.host)
            with program(*merge_on(front.host), *token) as running:
                until(gate.held.is_set)
                running.process.send_signal(signal.SIGTERM)
                gate.open.set()

                done = running.end()

        assert done.code == 143
        assert f"{front.host}/app:old is now {quay.manifest('app', 'old').digest}" in done.out
        assert history.expiration(tag) == moment


def test_a_second_signal_ends_the_program_at_once(server: RegistryServer) -> None:
    with held_back(server) as (_, _, running):
        done = running.end(signal.SIGINT, signal.SIGTERM)

    assert (done.code, done.out) == (130, "")
    assert "Interrupted" not in done.err  # that comes after the write was given up


def test_a_program_that_is_to_ignore_ctrl_c_does(server: RegistryServer) -> None:
    with held_back(server, ignored=True) as (_, gate, running):
        running.process.send_signal(signal.SIGINT)
        gate.open.set()

        assert running.end().code == 0


def test_handlers_are_set_by_programs_alone(server: RegistryServer) -> None:
    """Whoever calls us as a library, as task hosts do, handles signals in their own way."""
    numbers = (*CODES, signal.SIGALRM)
    before = [signal.getsignal(number) for number in numbers]
    seen: list[object] = []

    def look() -> None:
        seen.append(call(inspect_main, f"{server.host}/app:old"))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    look()

    assert seen == [0, 0]
    assert [signal.getsignal(number) for number in numbers] == before
