"""What the console scripts do, in this process and on the embedded registry."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest
from pubtools.pluggy import hookimpl, pm

from pubtools_mlmerge.cli.commands import Login
from pubtools_mlmerge.cli.parsers import inspect_main, merge_main, remove_archs_main
from pubtools_mlmerge.core.plan import Report
from pubtools_mlmerge.testing import RegistryServer, make_image, make_index
from tests.programs import call, put

OLD = make_index([make_image(p, seed="old") for p in ("linux/amd64", "linux/s390x")])
NEW = make_index([make_image(p, seed="new") for p in ("linux/amd64", "linux/arm64")])
MERGE = ("--source-ref", "registry.invalid/app:new", "--dest-ref", "registry.invalid/app:old")

Capture = pytest.CaptureFixture[str]

pytestmark = pytest.mark.usefixtures("no_variables")


@pytest.fixture
def server(registry_server: RegistryServer) -> RegistryServer:
    """Hold a new image and an old one."""
    put(registry_server, "old", OLD)
    put(registry_server, "new", NEW)
    return registry_server


def merge(server: RegistryServer, *options: str) -> int:
    return call(merge_main, *MERGE, "--quay-host", server.url, *options)


def test_a_merge_prints_its_report(server: RegistryServer, capsys: Capture) -> None:
    assert merge(server, "--output", "json") == 0

    report = json.loads(capsys.readouterr().out)
    assert report["digest"] == server.manifest("app", "old").digest
    assert report["destination"] == "registry.invalid/app:old"


def test_every_option_reaches_the_merge(server: RegistryServer, capsys: Capture) -> None:
    options = ("--match", "architecture", "--keep", "linux/*", "--drop", "s390x", "--arch", "arm64")
    rest = ("--single-image", "fail", "--mixed-types", "fail", "--copy", "never")

    assert merge(server, *options, *rest, "--anchor-tag", "{tag}.{digest}", "--output", "json") == 0

    report = json.loads(capsys.readouterr().out)
    fates = [(entry["platform"], entry["fate"]) for entry in report["entries"]]
    assert fates == [
        ("linux/arm64", "added"),
        ("linux/amd64", "kept"),
        ("linux/s390x", "dropped"),
        ("linux/amd64", "excluded"),
    ]
    assert server.tags("app")[-1] == report["anchor_tag"]


def test_the_environment_gives_defaults(
    server: RegistryServer, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLMERGE_DROP", "s390x")
    monkeypatch.setenv("MLMERGE_ANCHOR_TAG", "{tag}.{digest}")

    assert merge(server, "--output", "json") == 0
    assert merge(server, "--drop", "amd64", "--anchor-tag", "kept", "--output", "json") == 0

    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert [entry["fate"] for entry in first["entries"]] == ["replaced", "added", "dropped"]
    assert first["anchor_tag"] == f"old.{first['digest'][7:19]}"
    assert second["anchor_tag"] is None
    assert second["changed"] is False


def test_a_wrong_default_is_wrong_usage(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("MLMERGE_COPY", "docker")

    assert call(merge_main, *MERGE) == 2

    assert "MLMERGE_COPY: expected auto or skopeo or never" in capsys.readouterr().err


def test_text_is_printed_by_default(server: RegistryServer, capsys: Capture) -> None:
    assert merge(server, "--dry-run") == 0

    assert "registry.invalid/app:old would become sha256:" in capsys.readouterr().out


def test_a_page_that_cannot_be_written_in_the_end_is_a_failure(
    server: RegistryServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Remover:
        @hookimpl
        def mlmerge_merged(self, report: Report) -> None:
            (tmp_path / "pages").rmdir()

    (tmp_path / "pages").mkdir()
    pm.register(remover := Remover())
    try:
        code = merge(server, "--output", "html", str(tmp_path / "pages" / "page.html"))
    finally:
        pm.unregister(remover)

    assert code == 1
    assert caplog.messages[-1] == "The page cannot be written: No such file or directory"
    assert len(server.manifest("app", "old").content) > len(NEW.content)  # it is merged


def test_what_cannot_be_printed_is_on_the_page(
    server: RegistryServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("builtins.print", fail)

    assert merge(server, "--output", "html", str(tmp_path / "page.html")) == 1

    page = (tmp_path / "page.html").read_text(encoding="ascii")
    assert "No space left on device" in page
    assert server.manifest("app", "old").digest in page


def test_one_client_serves_both_sides(server: RegistryServer) -> None:
    assert merge(server) == 0

    assert [request.method for request in server.requests] == ["GET", "GET", "HEAD", "PUT", "HEAD"]


def test_a_source_host_of_its_own_is_used_for_the_source_alone(server: RegistryServer) -> None:
    with RegistryServer() as other:
        put(other, "new", NEW)

        assert merge(server, "--source-quay-host", other.url, "--dry-run") == 0

        assert [request.path for request in other.requests] == ["/v2/app/manifests/new"]
    assert [request.path for request in server.requests] == ["/v2/app/manifests/old"]


@pytest.mark.parametrize("given", ["argument", "environment"])
def test_each_side_logs_in_as_its_own_user(
    given: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    users = {"bob": "builder", "alice": "wonderland"}
    grants = {"bob": ["from/*"], "alice": ["to/*"]}
    options = ["--source-quay-user", "bob", "--dest-quay-user", "alice", "--dry-run"]
    if given == "argument":
        options += ["--source-quay-password", "builder", "--dest-quay-password", "wonderland"]
    else:
        monkeypatch.setenv("SOURCE_QUAY_PASSWORD", "builder")
        monkeypatch.setenv("DEST_QUAY_PASSWORD", "wonderland")
    with RegistryServer(auth="token", users=users, grants=grants) as server:
        put(server, "1", NEW, "from/app")
        put(server, "1", OLD, "to/app")
        tags = (
            "--source-ref",
            f"{server.host}/from/app:1",
            "--dest-ref",
            f"{server.host}/to/app:1",
        )

        assert call(merge_main, *tags, *options, "--output", "json") == 0

    assert json.loads(capsys.readouterr().out)["requests"] == 6


@pytest.mark.parametrize(
    ("options", "rights", "requests"), [((), "pull%2Cpush", 7), (("--dry-run",), "pull", 4)]
)
def test_one_login_is_asked_for_what_the_merge_needs(
    options: tuple[str, ...], rights: str, requests: int, capsys: Capture
) -> None:
    login = [f"--{side}-quay-{key}" for side in ("source", "dest") for key in ("user", "password")]
    values = ["alice", "wonderland"] * 2
    with RegistryServer(auth="token", users={"alice": "wonderland"}) as server:
        put(server, "old", OLD)
        put(server, "new", NEW)
        given = [part for pair in zip(login, values) for part in pair]

        assert merge(server, *given, *options, "--output", "json") == 0

        (query,) = (request.query for request in server.requests if "scope=" in request.query)
    assert query.endswith(f"scope=repository%3Aapp%3A{rights}")
    assert json.loads(capsys.readouterr().out)["requests"] == requests


def test_an_argument_comes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_QUAY_PASSWORD", "looking-glass")
    with RegistryServer(auth="basic", users={"alice": "wonderland"}) as server:
        put(server, "1", NEW)
        login = ("--source-quay-user", "alice", "--source-quay-password", "wonderland")

        assert call(inspect_main, f"{server.host}/app:1", *login) == 0


def test_a_failure_is_logged_and_the_code_is_1(
    server: RegistryServer, capsys: Capture, caplog: pytest.LogCaptureFixture
) -> None:
    server.delete_tag("app", "new")

    assert merge(server) == 1

    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert caplog.messages[-1].startswith("registry.invalid/app:new: not found (HTTP 404)")


def test_debug_adds_the_traceback(server: RegistryServer, capsys: Capture) -> None:
    server.delete_tag("app", "new")

    assert merge(server, "--debug") == 1

    assert "Traceback" in capsys.readouterr().err


def test_an_error_without_words_is_named(
    server: RegistryServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("builtins.print", fail)

    assert merge(server) == 1

    assert caplog.messages[-1] == "MemoryError"


def test_every_destination_gets_its_turn(server: RegistryServer, capsys: Capture) -> None:
    put(server, "single", make_image("linux/s390x"))
    destinations = "registry.invalid/app:single,,registry.invalid/app:one"

    code = merge(server, "--dest-ref", destinations, "--single-image", "fail", "--output", "json")

    reports = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert code == 1
    assert [r["destination"] for r in reports] == [
        "registry.invalid/app:old",
        "registry.invalid/app:one",
    ]


def test_removal_writes_and_reports(
    server: RegistryServer, capsys: Capture, caplog: pytest.LogCaptureFixture
) -> None:
    command = ("--ref", "registry.invalid/app:old", "--quay-host", server.url, "--output", "json")

    assert call(remove_archs_main, *command, "--arch", "s390x,riscv64") == 0

    report = json.loads(capsys.readouterr().out)
    assert report["digest"] == server.manifest("app", "old").digest
    assert "registry.invalid/app:old has no riscv64" in caplog.messages


@pytest.mark.parametrize(("options", "code"), [((), 1), (("--allow-empty",), 0)])
def test_removal_of_everything_needs_permission(
    server: RegistryServer, options: tuple[str, ...], code: int
) -> None:
    command = ("--ref", "registry.invalid/app:old", "--quay-host", server.url, "--arch", "*")

    assert call(remove_archs_main, *command, *options) == code


def test_removal_has_a_dry_run(server: RegistryServer) -> None:
    command = ("--ref", "registry.invalid/app:old", "--quay-host", server.url, "--arch", "s390x")

    assert call(remove_archs_main, *command, "--dry-run") == 0

    assert server.manifest("app", "old").content == OLD.content


# Wrong usage

REMOVE = ("--ref", "registry.invalid/app:1", "--arch", "arm64")
BY_DIGEST = f"registry.invalid/app@{OLD.digest}"


@pytest.fixture
def refused(capsys: Capture) -> Callable[..., str]:
    """Run a program that must end with 2 and print nothing, and return its last line."""

    def run(main: Callable[..., None], *arguments: str) -> str:
        assert call(main, *arguments) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert "Traceback" not in captured.err
        return captured.err.splitlines()[-1]

    return run


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--dest-ref", BY_DIGEST), "a destination must be a tag, not a digest"),
        (("--dest-ref", f"registry.invalid/app:1@{OLD.digest}"), "a destination must be a tag"),
        (("--dest-ref", "registry.invalid/app"), "neither tag nor digest were found"),
        (("--dest-ref", "registry.invalid/App:1"), "is no valid image reference"),
        (("--dest-ref", "app:1"), "it names no host; add it, or give --quay-host"),
        (("--source-ref", "app:1"), "it names no host; add it, or give --quay-host"),
        (("--source-ref", "registry.invalid/app:1?x"), "is no valid image reference"),
        (("--arch", "a/b/c/d"), "is no valid platform"),
        (("--keep", "a//b"), "is no valid platform"),
        (("--anchor-tag", "{date}"), "the fields are {tag}, {timestamp} and {digest}"),
        (("--source-quay-user", "x"), "--source-quay-user needs a password"),
        (("--dest-quay-user", "x"), "--dest-quay-user needs a password: set DEST_QUAY_PASSWORD"),
        (("--ca-bundle", "/nonexistent"), "--ca-bundle: there is no file /nonexistent"),
        (("--match", "os"), "invalid choice: 'os'"),
        (("--copy", "docker"), "invalid choice: 'docker'"),
    ],
)
def test_wrong_arguments_of_a_merge(
    refused: Callable[..., str], options: tuple[str, ...], problem: str
) -> None:
    assert problem in refused(merge_main, *MERGE, *options)


@pytest.mark.parametrize(
    "options", [("--arch", ""), ("--arch", ","), ("--keep", ""), ("--drop", "")]
)
def test_an_option_that_names_nothing_is_wrong(
    refused: Callable[..., str], options: tuple[str, ...]
) -> None:
    assert refused(merge_main, *MERGE, *options).endswith(f"{options[0]} names nothing")


@pytest.mark.parametrize("nothing", ["", ",", ",,"])
def test_a_merge_into_nothing_is_wrong(refused: Callable[..., str], nothing: str) -> None:
    problem = refused(merge_main, "--source-ref", "registry.invalid/app:1", "--dest-ref", nothing)

    assert problem.endswith("--dest-ref names nothing")


@pytest.mark.parametrize(
    "host", ["ftp://quay.io", "registry.invalid/v2", "http://", "a b", "u:p@quay.io"]
)
@pytest.mark.parametrize("option", ["--quay-host", "--source-quay-host"])
def test_a_host_is_checked_before_anything_is_asked(
    refused: Callable[..., str], option: str, host: str
) -> None:
    for arguments in ((merge_main, *MERGE), (inspect_main, "registry.invalid/app:1")):
        problem = refused(*arguments, option, host)
        assert "expected" in problem
        assert "u:p" not in problem


@pytest.mark.parametrize("anchor", ["old", "{tag}-" + "x" * 125])
def test_an_anchor_tag_is_checked_before_anything_is_asked(
    refused: Callable[..., str], anchor: str
) -> None:
    assert "is no valid image reference" in refused(merge_main, *MERGE, "--anchor-tag", anchor)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--ref", BY_DIGEST), "a destination must be a tag, not a digest"),
        (("--ref", "app:1"), "it names no host"),
        (("--arch", "a/b/c/d"), "is no valid platform"),
        (("--dest-quay-user", "x"), "needs a password"),
        (("--ca-bundle", "/"), "there is no file"),
        (("--quay-host", "registry.invalid/v2"), "expected"),
    ],
)
def test_wrong_arguments_of_a_removal(
    refused: Callable[..., str], options: tuple[str, ...], problem: str
) -> None:
    assert problem in refused(remove_archs_main, *REMOVE, *options)


def test_a_removal_of_nothing_is_wrong(refused: Callable[..., str]) -> None:
    problem = refused(remove_archs_main, "--ref", "registry.invalid/app:1", "--arch", "")

    assert problem.endswith("--arch names nothing")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("registry.invalid/app",), "neither tag nor digest were found"),
        (("app:1",), "it names no host"),
        (("registry.invalid/app:1", "--source-quay-user", "x"), "needs a password"),
        (("registry.invalid/app:1", "app:2"), "it names no host"),
        ((*["registry.invalid/app:1"] * 2, "registry.invalid/app:3"), "unrecognized arguments"),
        ((), "required"),
    ],
)
def test_wrong_arguments_of_an_inspection(
    refused: Callable[..., str], arguments: tuple[str, ...], problem: str
) -> None:
    assert problem in refused(inspect_main, *arguments)


def test_a_certificate_file_is_looked_for(server: RegistryServer, tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.touch()

    connection = ("--quay-host", server.url, "--ca-bundle", str(bundle))
    assert call(inspect_main, "registry.invalid/app:new", *connection) == 0


def test_others_hear_of_what_was_merged(registry_server: RegistryServer) -> None:
    class Listener:
        reports: ClassVar[list[Report]] = []

        @hookimpl
        def mlmerge_merged(self, report: Report) -> None:
            self.reports.append(report)

    put(registry_server, "new", make_index([make_image()]))
    image = f"{registry_server.host}/app"
    pm.register(listener := Listener())
    try:
        merging = ("--source-ref", f"{image}:new", "--dest-ref", f"{image}:old")
        assert call(merge_main, *merging, "--dry-run") == 0
        assert call(merge_main, *merging) == 0
    finally:
        pm.unregister(listener)

    assert [str(report.destination) for report in listener.reports] == [f"{image}:old"]


def test_a_login_does_not_show_its_password() -> None:
    assert "wonderland" not in repr(Login("quay.io", "alice", "wonderland"))
