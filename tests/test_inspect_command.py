"""A look at an index and the difference of two, by the program."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest

from pubtools_mlmerge.cli.parsers import inspect_main
from pubtools_mlmerge.testing import RegistryServer, make_attestation, make_image, make_index
from tests.factories import REFERENCE_DIGEST, REFERENCE_TYPE
from tests.programs import call, put, run
from tests.terminals import program_on_a_terminal

THREE_YEARS_AGO = datetime.now(timezone.utc) - timedelta(days=3 * 365 + 1)
AMD64 = make_image("linux/amd64")
S390X = make_image("linux/s390x", created=f"{THREE_YEARS_AGO:%Y-%m-%dT%H:%M:%SZ}")
PROOF = make_attestation(AMD64)
LISTED = make_index([AMD64, S390X, PROOF])

Capture = pytest.CaptureFixture[str]

pytestmark = pytest.mark.usefixtures("no_variables")


@pytest.fixture
def reference(registry_server: RegistryServer) -> str:
    return put(registry_server, "1", LISTED)


@pytest.mark.parametrize("option", ["--quay-host", "--source-quay-host"])
def test_it_connects_where_it_is_told(
    registry_server: RegistryServer, reference: str, capsys: Capture, option: str
) -> None:
    name = reference.partition("/")[2]

    assert call(inspect_main, f"registry.invalid/{name}", option, registry_server.url) == 0

    assert capsys.readouterr().out.startswith(f"registry.invalid/{name} {LISTED.digest} ")


def test_it_shows_a_tree(reference: str, capsys: Capture) -> None:
    assert call(inspect_main, reference) == 0

    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-5:1] for line in lines[1:4]]
    assert f"|   `-- attestation  {PROOF.digest}" in lines[2]


def test_it_speaks_json(reference: str, capsys: Capture) -> None:
    assert call(inspect_main, reference, "--output", "json") == 0

    document = json.loads(capsys.readouterr().out)
    assert (document["digest"], document["checked"]) == (LISTED.digest, False)
    assert "age_days" not in document["entries"][0]


def test_one_request_is_enough_where_nothing_more_is_asked(
    registry_server: RegistryServer, reference: str
) -> None:
    call(inspect_main, reference)

    assert [request.method for request in registry_server.requests] == ["GET"]


def test_ages_of_all_images_are_read(reference: str, capsys: Capture) -> None:
    assert call(inspect_main, reference, "--ages", "--output", "json") == 0

    entries = json.loads(capsys.readouterr().out)["entries"]
    assert [entry.get("age_days", "not asked") for entry in entries][1:] == [1096, "not asked"]
    assert entries[0]["created"] == "2024-01-01T00:00:00Z"


def test_all_that_is_listed_is_looked_for(
    registry_server: RegistryServer, reference: str, capsys: Capture
) -> None:
    assert call(inspect_main, reference, "--check") == 0

    assert "all are in the repository" in capsys.readouterr().out
    asked = {r.path.rpartition("/")[2] for r in registry_server.requests if r.method == "HEAD"}
    assert asked == {AMD64.digest, S390X.digest, PROOF.digest}


@pytest.mark.parametrize("lost", [S390X, PROOF])
@pytest.mark.parametrize("output", ["text", "json"])
def test_what_is_missing_is_shown_and_the_code_is_1(
    registry_server: RegistryServer, capsys: Capture, lost: object, output: str
) -> None:
    kept = [child for child in (AMD64, S390X, PROOF) if child is not lost]
    for child in kept:
        put(registry_server, child.digest, child)
    registry_server.put_manifest("app", "1", LISTED.content, LISTED.media_type)
    reference = f"{registry_server.host}/app:1"

    assert call(inspect_main, reference, "--check", "--output", output) == 1

    out = capsys.readouterr().out
    assert "is not in the repository" in out
    assert out.count("missing") == (2 if output == "text" else 1)
    assert call(inspect_main, reference) == 0


def test_problems_alone_are_no_failure(registry_server: RegistryServer, capsys: Capture) -> None:
    twice = make_index([AMD64, make_image("linux/amd64", seed="again")])

    assert call(inspect_main, put(registry_server, "twice", twice), "--check") == 0

    assert "problem: duplicate: linux/amd64 is listed before" in capsys.readouterr().out


def test_two_references_show_their_difference(
    registry_server: RegistryServer, reference: str, capsys: Capture
) -> None:
    other = put(registry_server, "2", make_index([AMD64, make_image("linux/arm64")]))

    assert call(inspect_main, reference, other) == 0
    assert call(inspect_main, reference, other, "--output", "json") == 0

    *text, line = capsys.readouterr().out.splitlines()
    assert text[-1] == "1 only in A, 1 only in B, 1 same"
    states = [slot["state"] for slot in json.loads(line)["platforms"]]
    assert states == ["same", "only-a", "only-b"]


def test_no_difference_is_said(reference: str, capsys: Capture) -> None:
    assert call(inspect_main, reference, reference) == 0

    assert capsys.readouterr().out.endswith("A and B are the same, byte for byte\n")


def test_a_difference_needs_both(registry_server: RegistryServer, reference: str) -> None:
    assert call(inspect_main, reference, f"{registry_server.host}/app:none") == 1


@pytest.mark.parametrize("options", [("--ages",), ("--check",), ("--output", "html", "-")])
def test_a_difference_has_no_such_options(
    reference: str, capsys: Capture, options: tuple[str, ...]
) -> None:
    assert call(inspect_main, reference, reference, *options) == 2

    assert "are for one reference" in capsys.readouterr().err


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


@pytest.mark.parametrize("width", [40, 80, 200])
def test_an_old_image_catches_the_eye(reference: str, width: int) -> None:
    shown = program_on_a_terminal("inspect", reference, "--ages", width=width)

    assert "\x1b[1;31m1096 days old" in shown.raw
    assert "! old" in run("inspect", reference, "--ages").out
