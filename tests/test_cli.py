"""The commands as people type them: one program, positions, short options, logins, bytes."""

from __future__ import annotations

import json
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest

from pubtools_mlmerge import __version__
from pubtools_mlmerge.cli.options import connection_of
from pubtools_mlmerge.cli.parsers import COMMANDS, main, merge_main, new_parser
from pubtools_mlmerge.concurrency import STOP
from pubtools_mlmerge.core.manifests import digest_of
from pubtools_mlmerge.core.platforms import PlatformPattern
from pubtools_mlmerge.errors import InvalidPlatform
from pubtools_mlmerge.testing import RegistryServer, make_attestation, make_image, make_index
from tests.programs import call, environment, put, python, run_here
from tests.servers import require

AMD64, ARM64 = make_image("linux/amd64"), make_image("linux/arm64")
S390X = make_image("linux/s390x", seed="old")
OLD = make_index([make_image("linux/amd64", seed="old"), S390X, make_attestation(S390X)])

Capture = pytest.CaptureFixture[str]
Log = pytest.LogCaptureFixture

pytestmark = pytest.mark.usefixtures("no_variables")


@pytest.fixture
def app(registry_server: RegistryServer) -> str:
    """Hold an image for each of two platforms, and an index."""
    for tag, item in (("amd64", AMD64), ("arm64", ARM64), ("stable", OLD)):
        put(registry_server, tag, item)
    return f"{registry_server.host}/app"


def held(server: RegistryServer, tag: str = "stable") -> list[str]:
    """List the architectures that a tag covers."""
    listed = json.loads(server.manifest("app", tag).content)["manifests"]
    return [entry["platform"]["architecture"] for entry in listed]


# One program


def test_images_are_merged_by_position(app: str, registry_server: RegistryServer) -> None:
    assert call(main, "merge", f"{app}:amd64", "-q", f"{app}:arm64", f"{app}:stable") == 0

    assert held(registry_server) == ["amd64", "arm64", "s390x", "unknown"]


@pytest.mark.parametrize("arguments", [["--version"], ["merge", "--version"]])
def test_the_version_is_shown(arguments: list[str], capsys: Capture) -> None:
    assert call(main, *arguments) == 0

    assert capsys.readouterr().out == f"pubtools-mlmerge {__version__}\n"


def test_the_program_lists_its_commands_and_runs_as_a_module(capsys: Capture) -> None:
    assert (call(main, "--help"), call(main)) == (0, 2)
    assert set(COMMANDS) <= set(capsys.readouterr().out.split())

    begin = "import runpy, sys; sys.argv[1:] = ['inspect', '--help']"
    done = python(f"{begin}; runpy.run_module('pubtools_mlmerge', run_name='__main__')")
    assert "usage: pubtools-mlmerge inspect REF" in done.out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_with_a_value_states_its_default(command: str) -> None:
    actions = new_parser(command, "x")._actions

    valued = [a for a in actions if a.option_strings and a.nargs != 0 and not a.required]
    assert [a.dest for a in valued if "default: " not in str(a.help)] == []


def test_rare_options_have_a_group_of_their_own() -> None:
    (group,) = (g for g in new_parser("merge", "x")._action_groups if g.title == "Advanced")

    named = {action.option_strings[0] for action in group._group_actions}
    assert named >= {"--match", "--mixed-types", "--tries", "--no-verify", "--quay-api-token"}


def test_the_rate_and_the_time_of_a_run_are_bounded_by_options() -> None:
    given = ("app:1", "--max-rate", "2.5", "--timeout", "60")

    options = connection_of(new_parser("inspect", "x").parse_args(given))

    assert (options.max_rate, options.time_limit) == (2.5, 60.0)


def test_both_sides_together_keep_the_rate(
    app: str, registry_server: RegistryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(STOP, "sleep", waited.append)
    for side in ("SRC", "DEST"):
        monkeypatch.setenv(f"MLMERGE_{side}_PASSWORD", "wonderland")
    logins = ("--src-creds", "alice", "--dest-creds", "bob")

    call(main, "merge", f"{app}:amd64", f"{app}:stable", *logins, "--max-rate", "0.01")

    assert max(waited) > 100 * (len(registry_server.requests) - 2)


COMPLETE = """
eval "$(register-python-argcomplete $1)"
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*" COMP_TYPE=9
COMP_POINT=${#COMP_LINE}
$(complete -p $1 | sed "s/.*-F \\([^ ]*\\).*/\\1/") $1 "${@: -1}"
printf "%s\n" "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("pubtools-mlmerge ", {*COMMANDS, "--version", "--help", "-h"}),
        ("pubtools-mlmerge remove-archs --pr", {"--prune"}),
        ("pubtools-mlmerge merge quay.io/a/b:1 --copy ", {"auto", "skopeo", "never"}),
        ("pubtools-mlmerge-inspect --a", {"--all", "--ages"}),
    ],
)
def test_bash_completes_commands(line: str, expected: set[str]) -> None:
    programs = Path(sys.executable).parent
    require(str(programs / "register-python-argcomplete"))  # of the extra `completion`
    path = f"{programs}:{environment()['PATH']}"

    found = subprocess.run(
        [require("bash"), "-c", COMPLETE, "bash", *line.split(" ")],
        env=environment(PATH=path),
        capture_output=True,
        text=True,
        check=True,
    )

    assert {word.strip() for word in found.stdout.splitlines()} == expected, found.stderr


# Output


def test_quiet_prints_errors_only(app: str) -> None:
    good = run_here("merge", f"{app}:amd64", f"{app}:stable", "--quiet")
    bad = run_here("merge", f"{app}:none", f"{app}:stable", "-q")
    machine = run_here("inspect", f"{app}:stable", "-q", "--json")
    looked = run_here("inspect", f"{app}:stable", "-q")

    for done in (good, looked):
        assert (done.code, done.out, done.err) == (0, "", "")
    assert (bad.code, bad.out) == (1, "")
    assert bad.err.startswith(f"ERROR: {app}:stable: {app}:none: not found")
    assert machine.report["reference"] == f"{app}:stable"


def test_a_failure_is_an_object_in_json(app: str, tmp_path: Path) -> None:
    batch = tmp_path / "batch"
    line = {"source_ref": f"{app}:none", "dest_ref": f"{app}:stable"}
    batch.write_text(f"{json.dumps(line)}\nnonsense")

    done = run_here("merge", "--batch", str(batch), "--json")

    first, second = (each["error"] for each in done.failures)
    assert [each["destination"] for each in done.failures] == [f"{app}:stable", None]
    assert isinstance(first, dict)
    assert (first["type"], first["status"]) == ("NotFound", 404)
    assert isinstance(second, dict)
    assert second["message"].startswith("line 2: ")
    assert f"{app}:stable" in done.err.splitlines()[0]
    looked = run_here("inspect", f"{app}:none", "--json")
    assert looked.failures[0]["reference"] == f"{app}:none"


def test_attestations_have_rows_with_all(app: str) -> None:
    few = run_here("merge", f"{app}:amd64", f"{app}:stable", "-n").out
    many = run_here("merge", f"{app}:amd64", f"{app}:stable", "-n", "--all").out

    assert ("linux/s390x +1 attestation " in few, "attestation of" in few) == (True, False)
    assert ("+1 attestation" in many, "attestation of" in many) == (False, True)


def test_the_exact_bytes_are_printed(
    app: str, registry_server: RegistryServer, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    merging = (f"{app}:amd64", f"{app}:stable", "--annotation", "org.example=1")
    assert call(merge_main, *merging, "-n", "-o", "raw") == 0
    planned = capfdbinary.readouterr().out
    assert call(merge_main, *merging, "-q") == 0
    assert call(main, "inspect", f"{app}:stable", "--raw") == 0

    assert planned == capfdbinary.readouterr().out
    assert digest_of(planned) == registry_server.manifest("app", "stable").digest
    assert json.loads(planned)["annotations"] == {"org.example": "1"}
    assert call(merge_main, *merging, "-q") == 0  # again, which changes nothing
    assert registry_server.manifest("app", "stable").content == planned


# Logins


WORD = "wonderland"  # of alice
OF_BOTH = f"MLMERGE_CREDS=alice MLMERGE_PASSWORD={WORD}"
OF_ROBOT = "MLMERGE_CREDS=robot MLMERGE_PASSWORD=oil"
OF_EACH = " ".join(OF_BOTH.replace("MLMERGE", f"MLMERGE_{side}") for side in ("SRC", "DEST"))


@pytest.mark.parametrize(
    ("options", "variables", "place"),
    [
        ("--creds alice --password-stdin", "MLMERGE_PASSWORD=oil", "--creds and --password-stdin"),
        ("--creds alice", f"MLMERGE_PASSWORD={WORD}", "--creds and MLMERGE_PASSWORD"),
        ("--creds alice", f"QUAY_PASSWORD={WORD}", "--creds and QUAY_PASSWORD"),
        (
            "--dest-creds alice --src-creds alice",
            f"DEST_QUAY_PASSWORD={WORD} SOURCE_QUAY_PASSWORD={WORD}",
            "--src-creds and SOURCE_QUAY_PASSWORD",
        ),
        ("", OF_BOTH, "MLMERGE_CREDS and MLMERGE_PASSWORD"),
        ("--password-stdin", "MLMERGE_CREDS=alice", "MLMERGE_CREDS and --password-stdin"),
        ("", OF_EACH, "MLMERGE_SRC_CREDS and MLMERGE_SRC_PASSWORD"),
        ("", f"{OF_EACH} {OF_ROBOT}", "MLMERGE_SRC_CREDS and MLMERGE_SRC_PASSWORD"),
        (
            "--creds alice",
            f"{OF_EACH} {OF_ROBOT} QUAY_PASSWORD={WORD}".replace("alice", "robot"),
            "--creds and QUAY_PASSWORD",
        ),
    ],
)
def test_a_login_comes_from_an_option_or_a_variable(
    options: str, variables: str, place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An option wins over a variable, one side over both, and all of them over auth files."""
    monkeypatch.setattr("sys.stdin", StringIO(f"{WORD}\n" * 2))
    users, file = {"alice": WORD}, tmp_path / "auth.json"
    env = {"REGISTRY_AUTH_FILE": str(file), **dict(p.split("=") for p in variables.split())}
    with RegistryServer(auth="basic", users=users) as server:
        entry = {"username": "robot", "password": "oil"}
        file.write_text(json.dumps({"auths": {server.host: entry}}), encoding="ascii")
        tags = (put(server, "new", AMD64), f"{server.host}/app:x")

        done = run_here("merge", *tags, *options.split(), env=env)
        users["alice"] = "another"
        refused = run_here("merge", *tags, *options.split(), env=env)

    assert (done.code, "WARNING" in done.err) == (0, False), done.err  # no variable is unknown
    assert f"the login of alice from {place} was refused" in refused.err


# Editing


@pytest.mark.parametrize("named", [S390X.digest, S390X.digest[:14], S390X.digest[7:19]])
def test_an_entry_is_removed_by_its_digest(
    app: str, registry_server: RegistryServer, named: str
) -> None:
    put(registry_server, "other", OLD)
    done = run_here("remove-archs", "--ref", f"{app}:stable,{app}:other", "--arch", named)

    assert done.code == 0, done.err
    assert (held(registry_server), held(registry_server, "other")) == (["amd64"], ["amd64"])


def test_removing_what_is_not_there_is_a_failure(app: str) -> None:
    done = run_here("remove-archs", "--ref", f"{app}:stable", "--arch", "riscv64,sha256:0123456")

    assert (done.code, done.out) == (1, "")
    assert "removal riscv64, sha256:0123456 matches none of its platforms" in done.err


def test_nothing_to_prune_is_no_failure_unless_something_was_named(app: str) -> None:
    """A regular job prunes tags that were pruned before."""
    pruning = ("remove-archs", "--ref", f"{app}:stable", "--prune")

    done, named = run_here(*pruning), run_here(*pruning, "--arch", "riscv64")

    assert (done.code, "nothing to do" in done.out) == (0, True)
    assert (named.code, named.out) == (1, "")


def test_a_digest_that_is_too_short_is_not_guessed() -> None:
    with pytest.raises(InvalidPlatform, match="fits several digests"):
        PlatformPattern.removed("0000000").among(["sha256:00000001", "sha256:00000002"])


def test_a_version_of_windows_is_shown_and_removed(registry_server: RegistryServer) -> None:
    entries = [make_image("windows/amd64", seed=seed) for seed in "ab"]
    made = make_index(entries)
    document = json.loads(made.content)
    for entry, version in zip(document["manifests"], ("10.0.17763.4131", "10.0.20348.169")):
        entry["platform"]["os.version"] = version
    put(registry_server, "x", made)
    registry_server.put_manifest("app", "win", json.dumps(document).encode(), made.media_type)
    name = f"{registry_server.host}/app:win"

    shown = run_here("inspect", name)
    removal = ("remove-archs", "--ref", name, "--arch", "windows/amd64:10.0.17763")
    table = run_here(*removal, "--dry-run")
    report = run_here(*removal, "--json")

    assert "windows/amd64 (10.0.17763.4131)" in shown.out
    assert "windows/amd64:10.0.20348 " in table.out
    versions = [(e["os_version"], e["fate"]) for e in report.entries]
    assert versions == [("10.0.20348.169", "kept"), ("10.0.17763.4131", "dropped")]


def test_a_single_image_is_inspected(app: str) -> None:
    text = run_here("inspect", f"{app}:amd64", "--ages", "--check")
    document = run_here("inspect", f"{app}:amd64", "--json").report
    compared = run_here("inspect", f"{app}:amd64", f"{app}:stable")

    title = f"{app}:amd64 {AMD64.digest} {AMD64.media_type}\n"
    assert text.out.startswith(f"{title}`-- linux/amd64")
    assert (document["digest"], document["media_type"]) == (AMD64.digest, AMD64.media_type)
    assert compared.out.startswith(f"A: {title}")


def test_an_index_is_annotated(app: str, registry_server: RegistryServer) -> None:
    removal = ("remove-archs", "--ref", f"{app}:stable", "--annotation", "a=b=c", "--json")
    done = run_here(*removal, env={"MLMERGE_ANCHOR_TAG": "kept"})  # of merges

    assert (done.code, done.report["anchor_tag"]) == (0, None), done.err
    written = json.loads(registry_server.manifest("app", "stable").content)
    assert (written["annotations"], len(written["manifests"])) == ({"a": "b=c"}, 3)
