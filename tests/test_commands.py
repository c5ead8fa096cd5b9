"""What the console scripts do, in this process and on the embedded registry."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, redirect_stdout
from datetime import datetime, timedelta, timezone
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from typing import ClassVar

import pytest
from attrs import evolve, frozen
from pubtools.pluggy import hookimpl, pm

from pubtools_mlmerge.cli.commands import BatchLine
from pubtools_mlmerge.cli.options import Login
from pubtools_mlmerge.cli.parsers import (
    demo_main,
    inspect_main,
    merge_main,
    remove_archs_main,
    restore_main,
)
from pubtools_mlmerge.core.plan import Report
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.locks import tag_lock
from pubtools_mlmerge.testing import RegistryServer, make_attestation, make_image, make_index
from tests.factories import REFERENCE_DIGEST, REFERENCE_TYPE
from tests.paper import text_of
from tests.programs import Done, call, command, environment, put, run, run_here
from tests.pushes import registered
from tests.quay import QuayDialect
from tests.scripted import Received, Reply, ScriptedServer, refusal
from tests.terminals import program_on_a_terminal
from tests.test_ending import Gate, is_put
from tests.test_restore import NEW as AFTER
from tests.test_restore import OLD as BEFORE
from tests.test_restore import OTHER, Item, change_of

OLD = make_index([make_image(p, seed="old") for p in ("linux/amd64", "linux/s390x")])
NEW = make_index([make_image(p, seed="new") for p in ("linux/amd64", "linux/arm64")])
MERGE = ("--source-ref", "registry.invalid/app:new", "--dest-ref", "registry.invalid/app:old")

NAME, ALIAS = "registry.invalid/app", "alias.invalid"
MAINS = (merge_main, remove_archs_main, restore_main, inspect_main)

Capture = pytest.CaptureFixture[str]
Log = pytest.LogCaptureFixture

pytestmark = pytest.mark.usefixtures("no_variables")


@pytest.fixture
def server(registry_server: RegistryServer) -> RegistryServer:
    """Hold a new image and an old one."""
    put(registry_server, "old", OLD)
    put(registry_server, "new", NEW)
    return registry_server


def merge(server: RegistryServer, *options: str, env: Mapping[str, str] | None = None) -> Done:
    return run_here("merge", *MERGE, "--quay-host", server.url, "--json", *options, env=env)


def test_every_option_reaches_the_merge(server: RegistryServer) -> None:
    options = "--match architecture --keep linux/* --drop s390x --arch arm64 --copy never"
    rest = "--single-image fail --mixed-types fail --anchor-tag {tag}.{digest} --ages"

    done = merge(server, *options.split(), *rest.split())

    assert [(entry["platform"], entry["fate"]) for entry in done.entries] == [
        ("linux/arm64", "added"),
        ("linux/amd64", "kept"),
        ("linux/s390x", "dropped"),
        ("linux/amd64", "excluded"),
    ]
    assert "age_days" in done.entries[1]
    assert server.tags("app")[-1] == done.report["anchor_tag"]


def test_the_environment_gives_defaults(server: RegistryServer) -> None:
    variables = {"MLMERGE_DROP": "s390x", "MLMERGE_ANCHOR_TAG": "{tag}.{digest}"}

    first = merge(server, env=variables)
    second = merge(server, "--drop", "amd64", "--anchor-tag", "kept", env=variables).report

    assert [entry["fate"] for entry in first.entries] == ["replaced", "added", "dropped"]
    assert first.report["anchor_tag"] == f"old.{str(first.report['digest'])[7:19]}"
    assert (second["anchor_tag"], second["changed"]) == (None, False)


def test_the_token_of_quays_api_goes_where_it_is_said() -> None:
    with RegistryServer(dialect=QuayDialect("0auth")) as quay:
        new, old = (put(quay, tag, item) for tag, item in (("new", NEW), ("old", OLD)))
        for options, variables, is_sent in (
            ("--quay-api-token 0auth", {}, False),
            (f"--quay-api-token 0auth --quay-api-token-host {quay.host}", {}, True),
            ("", {"QUAY_API_TOKEN": "0auth", "QUAY_API_TOKEN_HOST": quay.host}, True),
        ):
            quay.forget_requests()
            assert run_here("merge", new, old, "-n", *options.split(), env=variables).code == 0
            sent = {request.headers.get("authorization") for request in quay.requests}
            assert ("Bearer 0auth" in sent) is is_sent


@pytest.mark.parametrize(
    ("options", "variables"),
    [
        (  # they come before the environment
            "--source-quay-password builder --dest-quay-password wonderland",
            {"SOURCE_QUAY_PASSWORD": "looking-glass"},
        ),
        ("", {"SOURCE_QUAY_PASSWORD": "builder", "DEST_QUAY_PASSWORD": "wonderland"}),
    ],
)
def test_each_side_logs_in_as_its_own_user(options: str, variables: dict[str, str]) -> None:
    users = {"bob": "builder", "alice": "wonderland"}
    grants = {"bob": ["from/*"], "alice": ["to/*"]}
    named = f"--source-quay-user bob --dest-quay-user alice --dry-run {options}"
    with RegistryServer(auth="token", users=users, grants=grants) as server:
        tags = put(server, "1", NEW, "from/app"), put(server, "1", OLD, "to/app")

        done = run_here("merge", *tags, *named.split(), env=variables)

        assert done.code == 0, done.err
        assert len(server.requests) == 8  # two of them look for referrers


def test_an_anchor_tag_that_cannot_be_set_is_said_beside_the_report(page: Path) -> None:
    new, old = (make_index([make_image("linux/amd64", seed=seed)]) for seed in ("new", "old"))
    anchor = f"old-{new.digest[7:19]}"
    with RegistryServer() as server:
        for name, item in (("new", new), ("old", old), (anchor, old)):
            put(server, name, item)

        done = merge(server, "--anchor-tag", "{tag}-{digest}", "--html", str(page))

        assert server.manifest("app", "old").digest == done.report["digest"]
    assert (done.code, done.report["changed"], done.report["anchor_tag"]) == (1, True, None)
    error = str(done.report["error"])
    assert f"app:{anchor}: the anchor tag exists and holds {old.digest}" in error
    assert f"ERROR: {error}\n" in done.err
    assert done.failures == []
    assert text_of(page.read_text("ascii")).startswith(f"Merge {NAME}:old changed failed ")


@pytest.fixture
def two_tags(server: RegistryServer) -> tuple[str, ...]:
    """The options of a merge into two tags that then hold different indexes."""
    put(server, "other", make_index([make_image("linux/riscv64")]))
    tags = "registry.invalid/app:old,registry.invalid/app:other"
    return (*MERGE[:2], "--dest-ref", tags, "--quay-host", server.url, "--anchor-tag", "kept")


def test_of_two_tags_with_one_anchor_tag_the_second_is_not_written(
    server: RegistryServer, two_tags: tuple[str, ...]
) -> None:
    other = server.manifest("app", "other").digest

    done = run_here("merge", *two_tags, "--json")

    report, (failure,) = done.report, done.failures
    assert (report["destination"], report["anchor_tag"]) == (f"{NAME}:old", "kept")
    assert "'AnchorTaken'" in str(failure["error"])
    assert server.manifest("app", "kept").digest == report["digest"]
    assert server.manifest("app", "other").digest == other
    assert (done.code, "app:kept: the anchor tag exists and holds" in done.err) == (1, True)


def test_two_anchor_tags_that_are_made_at_once_both_stay(
    server: RegistryServer, two_tags: tuple[str, ...]
) -> None:
    reports = run_here("merge", *two_tags[:-1], "kept-{timestamp}", "--json").reports

    kept = [server.manifest("app", str(report["anchor_tag"])).digest for report in reports]
    assert kept == [report["digest"] for report in reports]
    assert len({*kept}) == 2


@pytest.mark.parametrize("held", ["app:kept", "app:old"])
def test_a_tag_and_its_anchor_tag_are_locked_by_any_name(
    server: RegistryServer, two_tags: tuple[str, ...], tmp_path: Path, held: str
) -> None:
    names = f"{ALIAS},{server.host}"
    lock = f"{tmp_path.as_uri()}?wait=0"

    with tag_lock(f"{ALIAS}/{held}", tmp_path.as_uri(), aliases=[ALIAS, server.host]):
        done = run_here("merge", *two_tags, "--lock", lock, env={"MLMERGE_LOCK_ALIASES": names})

    assert done.code == 1
    assert server.manifest("app", "old").digest == OLD.digest


@pytest.mark.parametrize("stdout", [">&-", ">/dev/full"])
def test_what_became_of_a_tag_is_said_where_it_cannot_be_printed(
    server: RegistryServer, stdout: str
) -> None:
    words = [*command("merge"), *MERGE, "--quay-host", server.url, "--anchor-tag", "kept"]
    shell = ["sh", "-c", f'"$@" {stdout}', "sh", *words]

    done = subprocess.run(
        shell, env=environment(), stderr=subprocess.PIPE, text=True, timeout=60, check=False
    )

    digest = server.manifest("app", "old").digest
    assert (done.returncode, digest == OLD.digest) == (1, False)
    assert f"ERROR: registry.invalid/app:old is now {digest}" in done.stderr
    assert "anchor tag kept; its report cannot be printed" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("words", "code"), [(MERGE, 0), (MERGE[:2], 2)])
def test_the_exit_code_is_the_same_where_the_log_cannot_be_written(
    server: RegistryServer, words: Sequence[str], code: int
) -> None:
    shell = ["sh", "-c", '"$@" 2>/dev/full', "sh", *command("merge"), *words]
    variables = environment(PYTHONUNBUFFERED="")

    done = subprocess.run(
        [*shell, "--quay-host", server.url],
        env=variables,
        stdout=subprocess.PIPE,
        timeout=60,
        check=False,
    )

    assert done.returncode == code


@pytest.mark.parametrize(("options", "level"), [((), "WARNING"), (["--quiet"], "ERROR")])
def test_what_became_of_a_tag_is_said_where_nobody_reads_on(
    server: RegistryServer, options: Sequence[str], level: str
) -> None:
    words = (*MERGE, "--quay-host", server.url, "--json", *options)
    line = run("merge", *words, is_read=False).err.splitlines()[-1]

    digest = server.manifest("app", "old").digest
    assert digest != OLD.digest
    assert line.startswith(f"{level}: registry.invalid/app:old is now {digest}")
    assert line.endswith("; standard output is closed")


@pytest.mark.parametrize(
    ("answer", "words"), [(201, "was written, but"), (500, "may have been written, but")]
)
def test_a_write_that_cannot_be_read_back_is_said(
    server: RegistryServer, answer: int, words: str
) -> None:
    gate, written = Gate(server, lambda _: False), threading.Event()
    refused = refusal(403, "DENIED", "only to push")

    def front(request: Received) -> Reply:
        if written.is_set() and request.target.endswith("/old"):
            return refused
        reply = gate(request)
        if is_put(request):
            written.set()
            return evolve(reply, status=answer)
        return reply

    with ScriptedServer(front) as scripted:
        done = run_here("merge", *MERGE, "--quay-host", scripted.url, "--json")

    digest = server.manifest("app", "old").digest
    text = f"only to push; {digest} {words} the tag cannot be read back; use a login"
    assert digest != OLD.digest
    assert f"ERROR: registry.invalid/app:old: forbidden (HTTP 403): {text}" in done.err
    assert text in done.out


def test_a_terminal_without_umlauts_shows_escapes(server: RegistryServer) -> None:
    put(server, "new", make_index([make_image("linux/\u00fc86")]))

    with redirect_stdout(TextIOWrapper(BytesIO(), encoding="ascii")) as out:
        assert call(merge_main, *MERGE, "--quay-host", server.url) == 0
        out.seek(0)
        shown = out.read()

    assert "linux/\\xfc86" in shown
    assert server.manifest("app", "old").digest in shown


def test_debug_adds_the_traceback(server: RegistryServer) -> None:
    server.delete_tag("app", "new")

    done = merge(server, "--debug")

    assert (done.code, "Traceback" in done.err) == (1, True)


def test_an_error_without_words_is_named(
    server: RegistryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("builtins.print", fail)

    done = run_here("merge", *MERGE, "--quay-host", server.url)

    assert "\nERROR: registry.invalid/app:old: MemoryError\n" in done.err


@frozen
class Shelf:
    """A registry, and records of its tags."""

    server: RegistryServer
    directory: Path

    def changed(self, tag: str, previous: Item | None = BEFORE, new: Item = AFTER) -> str:
        """Let a tag hold one thing and then the other, and return the record of that."""
        for item in (previous, new):
            if item is not None:
                put(self.server, tag, item)
        self.server.forget_requests()
        return self.record(f"{NAME}:{tag}", previous, new)

    def record(self, tag: str, previous: Item | None = BEFORE, new: Item = AFTER) -> str:
        file = self.directory / str(len(list(self.directory.iterdir())))
        change = change_of(Reference.parse(tag), previous, new)
        later = change.time + timedelta(minutes=int(file.name))
        document = evolve(change, time=later).to_document()
        file.write_text(json.dumps(document), encoding="utf-8")
        return str(file)

    def held(self, tag: str) -> str:
        return self.server.manifest("app", tag).digest

    def restore(self, *arguments: str, env: Mapping[str, str] | None = None) -> Done:
        return run_here("restore", *arguments, "--json", "--quay-host", self.server.url, env=env)


@pytest.fixture
def shelf(registry_server: RegistryServer, tmp_path: Path) -> Shelf:
    directory = tmp_path / "records"
    directory.mkdir()
    return Shelf(registry_server, directory)


# Wrong usage

REF = "registry.invalid/app:1"
ARCH = f"--ref {REF} --arch"
PAIR = " ".join(MERGE)
BY_DIGEST = f"registry.invalid/app@{OLD.digest}"
NO_HOST = "for Docker Hub, or give --quay-host"
NO_TAG = "a destination must be a tag, not a digest"
NO_SUCH_HOST = "expected"
ONE_USER = "--password-stdin needs one user"
TWICE = "given twice, with different values"
WRONG: list[tuple[Callable[..., None], str, str]] = [
    (merge_main, f"{PAIR} --dest-ref {BY_DIGEST}", NO_TAG),
    (merge_main, f"{PAIR} --dest-ref registry.invalid/app:1@{OLD.digest}", NO_TAG),
    (merge_main, f"{PAIR} --dest-ref registry.invalid/app", "missing :tag or @digest"),
    (merge_main, f"{PAIR} --dest-ref registry.invalid/App:1", "invalid reference"),
    (merge_main, f"{PAIR} --dest-ref app:1", NO_HOST),
    (merge_main, f"{PAIR} --source-ref app:1", NO_HOST),
    (merge_main, f"{PAIR} --source-ref registry.invalid/app:1?x", "invalid reference"),
    (merge_main, f"{PAIR} --arch a/b/c/d", "invalid platform"),
    (merge_main, f"{PAIR} --keep a//b", "invalid platform"),
    (merge_main, f"{PAIR} --anchor-tag {{date}}", "the fields are {tag}, {timestamp} and {digest}"),
    (merge_main, f"{PAIR} --anchor-tag old", "invalid reference"),
    (merge_main, f"{PAIR} --anchor-tag {{tag}}-{'x' * 125}", "invalid reference"),
    (merge_main, f"{PAIR} --ca-bundle /nonexistent", "there is no file /nonexistent"),
    (merge_main, f"{PAIR} --max-rate 0", "--max-rate: expected a number above 0"),
    (merge_main, f"{PAIR} --max-rate nan", "--max-rate: expected a number above 0"),
    (merge_main, f"{PAIR} --timeout -1", "--timeout: expected a number above 0"),
    (merge_main, f"{PAIR} --threads 0", "--threads: expected a number from 1 to 100"),
    (merge_main, f"{PAIR} --threads 101", "--threads: expected a number from 1 to 100"),
    (merge_main, f"{PAIR} --tries 0", "--tries: expected a number from 1 to 100"),
    (merge_main, f"{PAIR} --max-age-days 0", "--max-age-days: expected a number from 1 to 36500"),
    (merge_main, f"{PAIR} --lock http://me:secret@host", "--lock: expected file:///DIRECTORY"),
    (merge_main, f"{PAIR} --match os", "invalid choice: 'os'"),
    (merge_main, f"{PAIR} --copy docker", "invalid choice: 'docker'"),
    (merge_main, f"{PAIR} --arch ''", "--arch names nothing"),
    (merge_main, f"{PAIR} --arch ,", "--arch names nothing"),
    (merge_main, f"{PAIR} --keep ''", "--keep names nothing"),
    (merge_main, f"{PAIR} --drop ''", "--drop names nothing"),
    (merge_main, f"--source-ref {REF} --dest-ref ''", "--dest-ref names nothing"),
    (merge_main, f"--source-ref {REF} --dest-ref ,,", "--dest-ref names nothing"),
    (merge_main, f"--source-ref {REF}", "a source and a destination are needed, or --batch"),
    (merge_main, f"--dest-ref {REF}", "a source and a destination are needed, or --batch"),
    (remove_archs_main, f"{ARCH} arm64 --ref {BY_DIGEST}", NO_TAG),
    (remove_archs_main, f"{ARCH} arm64 --ref app:1", NO_HOST),
    (remove_archs_main, f"{ARCH} a/b/c/d", "invalid platform"),
    (remove_archs_main, f"{ARCH} arm64 --dest-quay-user x", "needs a password"),
    (remove_archs_main, f"{ARCH} arm64 --ca-bundle /", "there is no file"),
    (merge_main, f"{PAIR} --cert /nonexistent", "--cert: there is no file /nonexistent"),
    (merge_main, f"{PAIR} --key {__file__}", "--key needs --cert"),
    (remove_archs_main, f"{ARCH} arm64 --quay-host registry.invalid/v2", NO_SUCH_HOST),
    (remove_archs_main, f"{ARCH} ''", "--arch names nothing"),
    (remove_archs_main, f"--ref {REF}", "--arch, --prune or --annotation is needed"),
    (inspect_main, "registry.invalid/app", "missing :tag or @digest"),
    (inspect_main, "app:1", NO_HOST),
    (inspect_main, f"{REF} --source-quay-user x", "needs a password"),
    (inspect_main, f"{REF} app:2", NO_HOST),
    (inspect_main, f"{REF} {REF} {REF}", "unrecognized arguments"),
    (inspect_main, "", "required"),
    *(
        (inspect_main, f"{REF} {REF} {option}", "are for one reference")
        for option in ("--ages", "--check", "--output json")
    ),
    (restore_main, "", "RECORD"),
    (restore_main, "RECORD --dest-quay-user x", "needs a password: set MLMERGE_DEST_PASSWORD"),
    (restore_main, "RECORD --ca-bundle /nonexistent", "there is no file /nonexistent"),
    (restore_main, "RECORD --quay-host ftp://quay.io", NO_SUCH_HOST),
    (restore_main, "RECORD --source-quay-user x", "unrecognized arguments"),
    *((main, "--output html", "--output: invalid choice: 'html'") for main in MAINS),
    (merge_main, "q/a:1 q/a:2 --dest-ref q/a:3", "give images by position, or by --source-ref"),
    (merge_main, "q/a:1 q/a:2 --batch -", "--batch: give sources"),
    (merge_main, f"{PAIR} --resume record", "--resume needs --batch"),
    (merge_main, f"{PAIR} -o raw", "--output raw is for a dry run of one destination"),
    (merge_main, f"{PAIR} --dest-ref q.io/a:3 -no raw", "--output raw is for a dry run of one"),
    (merge_main, f"{PAIR} --annotation key", "--annotation: expected KEY=VALUE"),
    # Logins that are not whole; there is nothing on standard input.
    (
        merge_main,
        f"{PAIR} --creds me",
        "--creds needs a password: set MLMERGE_PASSWORD, or use --pa",
    ),
    (merge_main, f"{PAIR} --src-creds me", "needs a password: set MLMERGE_SRC_PASSWORD, or use"),
    (
        merge_main,
        f"{PAIR} --creds me:secret",
        "--creds takes a user name; set the password in MLMER",
    ),
    (merge_main, f"{PAIR} --dest-creds me:secret", "set the password in MLMERGE_DEST_PASSWORD"),
    (merge_main, f"{PAIR} --password-stdin", ONE_USER),
    (merge_main, f"{PAIR} --dest-creds=me --password-stdin", ONE_USER),
    (merge_main, f"{PAIR} --src-creds=me --dest-creds=you --password-stdin", ONE_USER),
    (merge_main, f"{PAIR} --creds=me --password-stdin", "there is no password on standard input"),
    # Options with two values
    (merge_main, f"{PAIR} --match platform --match architecture", f"--match: {TWICE}"),
    (merge_main, f"{PAIR} --threads 2 --threads 3", f"--threads: {TWICE}"),
    (merge_main, f"{PAIR} --json -o text", f"-o: {TWICE}"),
    (remove_archs_main, f"--ref {REF} --lock file:///a --lock=file:///b", f"--lock: {TWICE}"),
    (inspect_main, f"{REF} --output json --output text", f"--output: {TWICE}"),
    (restore_main, "RECORD --dest-quay-user me --dest-quay-user secret", f"user: {TWICE}"),
    *((demo_main, f"--serve={port}", "from 0 to 65535") for port in ("-1", "65536", "http", "²")),
]


@pytest.fixture
def refused(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Run a program that must end with 2 and print nothing, and return its last line."""
    monkeypatch.setattr("sys.stdin", StringIO(""))

    def run(main: Callable[..., None], *arguments: str) -> str:
        assert call(main, *arguments) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert "Traceback" not in captured.err
        return captured.err.splitlines()[-1]

    return run


@pytest.mark.parametrize(("main", "words", "problem"), WRONG)
def test_wrong_usage_is_said_before_anything_is_asked(
    refused: Callable[..., str],
    shelf: Shelf,
    main: Callable[..., None],
    words: str,
    problem: str,
) -> None:
    record = shelf.changed("stable")

    last = refused(main, *shlex.split(words.replace("RECORD", record)))

    assert problem in last
    assert "secret" not in last
    assert shelf.server.requests == ()


@pytest.mark.parametrize(
    "host", ["ftp://quay.io", "registry.invalid/v2", "http://", "a b", "u:p@quay.io"]
)
@pytest.mark.parametrize("option", ["--quay-host", "--source-quay-host"])
def test_a_host_is_checked_before_anything_is_asked(
    refused: Callable[..., str], option: str, host: str
) -> None:
    for arguments in ((merge_main, *MERGE), (inspect_main, REF)):
        problem = refused(*arguments, option, host)
        assert "expected" in problem
        assert "u:p" not in problem


def test_others_hear_of_what_was_merged(server: RegistryServer) -> None:
    class Listener:
        reports: ClassVar[list[Report]] = []

        @hookimpl
        def mlmerge_merged(self, report: Report) -> None:
            self.reports.append(report)

    with registered(listener := Listener()):
        merge(server, "--dry-run")
        merge(server)

    assert [str(report.destination) for report in listener.reports] == [f"{NAME}:old"]


def test_a_plugin_that_takes_other_arguments_is_named_before_anything_is_asked(
    server: RegistryServer,
) -> None:
    class Listener:
        @hookimpl
        def mlmerge_merged(self, reprt: Report) -> None:
            """Hear of nothing, as there is no such argument."""

    class Loading:
        @hookimpl
        def task_start(self) -> None:  # stands for the import of a plugin
            pm.register(Listener(), "journal")

    with registered(Loading()):
        done = merge(server)
    pm.unregister(name="journal")

    words = "ERROR: a plugin of this environment cannot be loaded: PluginValidationError: "
    assert (done.code, done.err.startswith(words)) == (1, True)
    assert "'journal'" in done.err
    assert "mlmerge_merged(reprt" in done.err
    assert server.requests == ()


def test_a_login_does_not_show_its_password() -> None:
    assert "wonderland" not in repr(Login("quay.io", "alice", "wonderland"))


# The page


@pytest.fixture
def page(tmp_path: Path) -> Path:
    return tmp_path / "page.html"


@pytest.mark.parametrize("output", ["text", "json"])
def test_a_page_has_results_and_failures(server: RegistryServer, page: Path, output: str) -> None:
    put(server, "bad", make_image())
    tags = "registry.invalid/app:bad,registry.invalid/app:fresh"
    options = ("--single-image", "fail", "--html", str(page), "--output", output)

    done = run_here("merge", *MERGE, "--quay-host", server.url, "--dest-ref", tags, *options)

    text = page.read_text(encoding="ascii")
    digest = server.manifest("app", "old").digest
    assert done.code == 1
    assert digest in text
    assert digest in done.out
    assert "expected an image index" in text
    assert [name for name in ("app:old", "app:bad", "app:fresh") if name not in text] == []


@pytest.mark.parametrize("broken", ["builtins.print", "os.replace"])
def test_what_cannot_be_printed_is_on_the_page_and_the_other_way_round(
    server: RegistryServer, page: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(broken, fail)
    if broken == "os.replace":
        monkeypatch.setattr(Path, "replace", fail)

    done = merge(server, "--html", str(page))

    shown = done.out if broken == "os.replace" else page.read_text(encoding="ascii")
    assert (done.code, page.exists()) == (1, broken != "os.replace")
    assert server.manifest("app", "old").digest in shown
    assert "No space left on device" in done.err


@pytest.mark.parametrize(
    ("name", "problem"), [("absent/page.html", "No such file"), (".", "Is a directory")]
)
def test_a_page_is_checked_before_anything_is_asked(
    server: RegistryServer, name: str, problem: str
) -> None:
    done = merge(server, "--html", name)

    assert (done.code, server.requests) == (2, ())
    assert f"--html: {name}: {problem}" in done.err


def test_without_what_a_page_needs_nothing_is_asked(
    server: RegistryServer, page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)

    done = merge(server, "--html", str(page))

    assert (done.code, server.requests) == (2, ())
    assert "--html needs jinja2" in done.err


def test_removals_and_restores_have_a_page_and_inspections_none(
    server: RegistryServer, tmp_path: Path
) -> None:
    records = tmp_path / "records"
    removal = ("--ref", "registry.invalid/app:old", "--arch", "s390x", "--audit", str(records))
    pages = [str(tmp_path / f"{number}.html") for number in range(3)]
    host = ("--quay-host", server.url)

    assert call(remove_archs_main, *removal, *host, "--html", pages[0]) == 0
    (record,) = map(str, records.iterdir())
    assert call(restore_main, record, *host, "--html", pages[1]) == 0
    assert call(inspect_main, "registry.invalid/app:old", "--html", pages[2]) == 2

    assert [Path(name).exists() for name in pages] == [True, True, False]


# Lines of a batch

LINE = {"source_ref": "quay.io/a/b:new", "dest_ref": "quay.io/a/b:1"}


def test_a_line_names_source_and_destination() -> None:
    line = BatchLine.parse(json.dumps(LINE) + "\n")

    assert line == BatchLine(("quay.io/a/b:new",), "quay.io/a/b:1", None)
    line = BatchLine.parse(json.dumps({**LINE, "archs": ["arm64", "linux/arm/v7"]}))
    assert line.archs == ("arm64", "linux/arm/v7")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is not JSON"),
        ("quay.io/a/b:1", "is not JSON"),
        ("[]", "expected an object"),
        ('{"source_ref": "a", "source_ref": "b", "dest_ref": "c"}', "more than once"),
        (json.dumps({**LINE, "arch": ["arm64"]}), "arch: unknown, expected one of source_ref"),
        (json.dumps({"dest_ref": "a"}), "source_ref: expected a text, or a list of texts"),
        (json.dumps({**LINE, "source_ref": []}), "source_ref: expected a text, or a list of texts"),
        (json.dumps({**LINE, "dest_ref": ["a"]}), "dest_ref: expected a text"),
        (json.dumps({**LINE, "archs": "arm64"}), "archs: expected a list of texts"),
        (json.dumps({**LINE, "archs": []}), "archs: expected a list of texts"),
        (json.dumps({**LINE, "archs": [7]}), "archs: expected a list of texts"),
        ("\udcff", "is not UTF-8"),
    ],
)
def test_anything_else_is_no_line(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        BatchLine.parse(text)


def test_lines_are_numbered_as_editors_do(tmp_path: Path) -> None:
    batch = tmp_path / "batch"
    batch.write_text("a\n\n  \nb", encoding="utf-8")

    done = run_here("merge", "--batch", str(batch))

    assert [line.split(": ")[1] for line in done.err.splitlines()] == ["line 1", "line 4"]


def test_a_wrong_line_shows_its_tag_but_no_password(tmp_path: Path) -> None:
    tags, batch, page = ("user:secret@q.io/a:1", "q.io/a:2"), tmp_path / "batch", tmp_path / "page"
    lines = [json.dumps({"source_ref": "q.io/a:%", "dest_ref": tag}) for tag in tags]
    batch.write_text("\n".join(lines), encoding="utf-8")

    done = run_here("merge", "--batch", str(batch), "--json", "--html", str(page))

    assert [failure["destination"] for failure in done.failures] == [None, "q.io/a:2"]
    first, second = done.err.splitlines()
    assert first.startswith("ERROR: line 1: invalid reference '***@q.io/a:1'")
    assert second.startswith("ERROR: line 2: q.io/a:2: invalid reference 'q.io/a:%'")
    assert "secret" not in done.out + done.err + page.read_text("ascii")


# Inspections

THREE_YEARS_AGO = datetime.now(timezone.utc) - timedelta(days=3 * 365 + 1)
AMD64 = make_image("linux/amd64")
S390X = make_image("linux/s390x", created=f"{THREE_YEARS_AGO:%Y-%m-%dT%H:%M:%SZ}")
PROOF = make_attestation(AMD64)
LISTED = make_index([AMD64, S390X, PROOF])


@pytest.fixture
def reference(registry_server: RegistryServer) -> str:
    return put(registry_server, "1", LISTED)


@pytest.mark.parametrize("option", ["--quay-host", "--source-quay-host"])
def test_it_connects_where_it_is_told(
    registry_server: RegistryServer, reference: str, option: str
) -> None:
    name = f"registry.invalid/{reference.partition('/')[2]}"

    done = run_here("inspect", name, option, registry_server.url)

    assert done.out.startswith(f"{name} {LISTED.digest} ")


def test_it_shows_a_tree_or_json_with_one_request(
    registry_server: RegistryServer, reference: str
) -> None:
    text, by_digest = run_here("inspect", reference).out, f"{NAME}@{LISTED.digest}"
    document = run_here("inspect", by_digest, "--quay-host", registry_server.url, "--json")

    assert f"|   `-- attestation  {PROOF.digest}" in text.splitlines()[2]
    assert (document.report["digest"], document.report["checked"]) == (LISTED.digest, False)
    assert "age_days" not in document.entries[0]
    assert [request.method for request in registry_server.requests] == ["GET", "GET"]


def test_it_shows_what_a_nested_index_lists(registry_server: RegistryServer) -> None:
    whole = put(registry_server, "whole", make_index([LISTED, make_image("linux/arm64")]))

    shown = run_here("inspect", whole).out

    assert f"|-- index of linux/amd64, linux/s390x  {LISTED.digest}" in shown


def test_ages_of_all_images_are_read(reference: str) -> None:
    entries = run_here("inspect", reference, "--ages", "--json").entries

    assert [entry.get("age_days", "not asked") for entry in entries][1:] == [1096, "not asked"]
    assert entries[0]["created"] == "2024-01-01T00:00:00Z"


def test_all_that_is_listed_is_looked_for(registry_server: RegistryServer, reference: str) -> None:
    done = run_here("inspect", reference, "--check")

    assert (done.code, "all are in the repository" in done.out) == (0, True)
    asked = {r.path.rpartition("/")[2] for r in registry_server.requests if r.method == "HEAD"}
    assert asked == {AMD64.digest, S390X.digest, PROOF.digest}


def test_what_is_missing_is_shown_and_the_code_is_1(registry_server: RegistryServer) -> None:
    registry_server.put_manifest("app", "1", LISTED.content, LISTED.media_type)

    done = run_here("inspect", f"{registry_server.host}/app:1", "--check")

    assert (done.code, done.out.count("is not in the repository")) == (1, 3)
    assert "app:1 lists manifests that the repository lacks" in done.err


def test_problems_alone_are_no_failure(registry_server: RegistryServer) -> None:
    twice = make_index([AMD64, make_image("linux/amd64", seed="again")])

    done = run_here("inspect", put(registry_server, "twice", twice), "--check")

    assert done.code == 0
    assert "problem: duplicate: linux/amd64 is listed before" in done.out


@pytest.mark.parametrize("options", [(), ("--all",)])
def test_two_references_are_compared(
    registry_server: RegistryServer, reference: str, options: tuple[str, ...]
) -> None:
    other = put(registry_server, "2", make_index([AMD64, make_image("linux/arm64")]))

    lines = run_here("inspect", reference, other, *options).out.splitlines()

    assert any("+1 attestation " in line for line in lines) != bool(options)
    assert any(line.startswith("attestation of") for line in lines) == bool(options)
    assert lines[0] == f"A: {reference} {LISTED.digest} {LISTED.media_type}"
    assert lines[-1] == "2 only in A, 1 only in B, 1 same"
    assert run_here("inspect", reference, f"{other}0").code == 1


HOSTILE = "[bold red]x[/] \x1b[2J\x1b]0;title\x07\r\n"


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_hostile_index_cannot_draw_on_the_terminal(
    registry_server: RegistryServer, width: int
) -> None:
    image = make_image("linux/amd64")
    platform = {"os": "linux", "architecture": HOSTILE}
    tie = {REFERENCE_TYPE: HOSTILE, REFERENCE_DIGEST: HOSTILE}
    common = {"mediaType": image.media_type, "digest": image.digest, "size": len(image.content)}
    document = {
        "schemaVersion": 2,
        "mediaType": LISTED.media_type,
        "manifests": [{**common, "platform": platform}, {**common, "annotations": tie}],
        "annotations": {HOSTILE: HOSTILE},
    }
    put(registry_server, image.digest, image)
    content = json.dumps(document).encode()
    registry_server.put_manifest("app", "odd", content, LISTED.media_type)
    odd, other = f"{registry_server.host}/app:odd", put(registry_server, "1", LISTED)

    shown = program_on_a_terminal("inspect", odd, "--ages", "--check", width=width)
    compared = program_on_a_terminal("inspect", odd, other, width=width)

    for found in (shown, compared):
        assert (found.code, found.others) == (0, set())
        assert max(map(len, found.text.splitlines())) <= width
        assert "[boldred]x[/]" in found.joined.replace("│", "")
        assert not any("2J" in style for style in found.styles)


# Restoring tags


def test_every_record_gets_its_turn_in_the_given_order(shelf: Shelf) -> None:
    files = [shelf.changed(tag) for tag in ("one", "two", "three")]
    put(shelf.server, "two", OTHER)

    done = shelf.restore(*reversed(files))

    named = [report["destination"] for report in done.results]
    assert (done.code, named) == (1, [f"{NAME}:{tag}" for tag in ("three", "two", "one")])
    held = [shelf.held(tag) for tag in ("one", "two", "three")]
    assert held == [BEFORE.digest, OTHER.digest, BEFORE.digest]
    assert f"{NAME}:two: not restored: it was changed since" in done.err


@pytest.mark.parametrize("is_reversed", [True, False])
def test_the_changes_of_one_tag_are_undone_newest_first(shelf: Shelf, is_reversed: bool) -> None:
    files = [shelf.changed("stable"), shelf.changed("stable", AFTER, OTHER)]
    files = files[::-1] if is_reversed else files

    tried = shelf.restore(*files, "--dry-run")

    assert (len(tried.reports), shelf.held("stable")) == (2, OTHER.digest)
    assert shelf.restore(*files).code == 0
    assert shelf.held("stable") == BEFORE.digest


def test_the_password_of_the_destination_is_used(shelf: Shelf) -> None:
    with RegistryServer(auth="token", users={"alice": "wonderland"}) as server:
        put(server, "stable", BEFORE)
        file = shelf.record(put(server, "stable", AFTER))
        options, variables = ("--dest-quay-user", "alice"), {"DEST_QUAY_PASSWORD": "wonderland"}

        done = run_here("restore", file, *options, "--yes", env=variables)

        assert done.code == 0, done.err
        assert server.manifest("app", "stable").digest == BEFORE.digest


def test_putting_back_is_recorded_where_the_environment_says(shelf: Shelf, tmp_path: Path) -> None:
    records = tmp_path / "audit"

    shelf.restore(shelf.changed("stable"), env={"MLMERGE_AUDIT": str(records)})

    (file,) = map(str, records.iterdir())
    assert shelf.restore(file).code == 0
    assert shelf.held("stable") == AFTER.digest


def test_the_tag_is_locked_where_the_environment_says(shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    lock = {"MLMERGE_LOCK": f"file://{tmp_path}/file"}
    done = shelf.restore(shelf.changed("stable"), env=lock)

    place = NAME.replace("registry.invalid", shelf.server.host)  # however references name it
    assert (done.code, shelf.server.requests) == (1, ())
    assert f"{place}:stable: cannot lock this tag: " in done.err


@pytest.mark.parametrize("whose", ["ours", "the site's"])
def test_a_run_that_waits_for_a_lock_is_out_of_time(server: RegistryServer, whose: str) -> None:
    class Site:
        @hookimpl
        def mlmerge_lock(self, reference: str) -> AbstractContextManager[object] | None:
            return None if whose == "ours" else tag_lock(f"{reference}-of-the-site")

    name = f"{server.host}/app:old"
    with tag_lock(name), tag_lock(f"{name}-of-the-site"), registered(Site()):
        done = merge(server, "--timeout", "0.2")

    assert f"ERROR: {NAME}:old: not done within 0.2 seconds; " in done.err
    with tag_lock(name, wait=5), tag_lock(f"{name}-of-the-site", wait=5):
        assert server.manifest("app", "old").digest == OLD.digest


def test_no_tag_is_written_if_one_file_is_no_record(
    refused: Callable[..., str], shelf: Shelf
) -> None:
    good, absent = shelf.changed("stable"), str(shelf.directory / "absent")

    problem = refused(restore_main, good, absent, "--quay-host", shelf.server.url)

    assert f"{absent}: not a record of a change: No such file or directory" in problem
    assert shelf.server.requests == ()


def test_a_record_without_a_host_needs_one(refused: Callable[..., str], shelf: Shelf) -> None:
    shelf.changed("stable")
    file = shelf.record("app:stable")

    assert "its tag names no host; give --quay-host" in refused(restore_main, file)
    assert shelf.restore(file).code == 0


@pytest.mark.parametrize("setting", ["LOCK=ftp://somewhere", "COPY=docker"])
def test_a_wrong_setting_is_wrong_usage(
    refused: Callable[..., str], shelf: Shelf, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    name, _, value = setting.partition("=")
    monkeypatch.setenv(f"MLMERGE_{name}", value)

    for arguments in ((restore_main, shelf.changed("stable")), (merge_main, *MERGE)):
        assert f"MLMERGE_{name}: expected " in refused(*arguments)
