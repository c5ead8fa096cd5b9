"""Reports on a terminal: the content of the plain text, in colours and as wide as it is."""

from __future__ import annotations

import io
import json
import sys

import pytest
from rich.console import Console

from pubtools_mlmerge.core.ages import with_ages
from pubtools_mlmerge.core.manifests import Index
from pubtools_mlmerge.core.merge import merge
from pubtools_mlmerge.core.plan import Age, Plan, Policy, Report
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.reports.report import to_text
from pubtools_mlmerge.reports.terminal import ALARM, colored, find_terminal, plain, text_of
from pubtools_mlmerge.testing import RegistryServer, make_image, make_index
from tests.factories import attestation, digest, entry, index
from tests.programs import put, run
from tests.terminals import Shown, on_a_terminal, program_on_a_terminal

OLD = index("linux/amd64@old", "linux/arm64", "linux/s390x", "linux/ppc64le")
NEW = index("linux/amd64@new", "linux/arm64", attestation(digest("linux/amd64@new"), seed="x"))
S390X = digest("linux/s390x")
RED, BOLD_RED = "\x1b[31m", "\x1b[1;31m"


def report(plan: Plan[Index]) -> Report:
    return Report(
        source=Reference("quay.io", "org/app", tag="new"),
        destination=Reference("quay.io", "org/app", tag="stable"),
        source_digest=NEW.digest,
        previous_digest=OLD.digest,
        digest=plan.result.digest,
        media_type=plan.result.media_type,
        changed=plan.changed,
        dry_run=False,
        entries=plan.entries,
    )


def console(width: int, **fields: object) -> Console:
    """Make a console as it would be on a terminal."""
    given = {"force_terminal": True, "color_system": "standard", "_environ": {}, **fields}
    return Console(file=io.StringIO(), width=width, **given)  # type: ignore[arg-type]  # as above


def shown(width: int, plan: Plan[Index]) -> Shown:
    return Shown(0, colored(report(plan), console(width)))


PLAN = merge(NEW, OLD, Policy(drop=["ppc64le"]))
AGED = with_ages(PLAN, {S390X: Age(days=1127)}, {S390X: "1127 days old, more than 365"})


@pytest.mark.parametrize("plan", [PLAN, AGED, merge(OLD, OLD)])
def test_a_wide_terminal_shows_what_the_text_says(plan: Plan[Index]) -> None:
    found = shown(200, plan)

    assert found.lines == [line.rstrip() for line in to_text(report(plan)).splitlines()]
    assert found.styles
    assert found.others == set()


@pytest.mark.parametrize("width", [20, 40, 41, 60, 80, 100, 120])
@pytest.mark.parametrize("plan", [PLAN, AGED])
def test_nothing_is_lost_where_it_is_narrow(width: int, plan: Plan[Index]) -> None:
    found = shown(width, plan)

    assert max(map(len, found.text.splitlines())) <= width
    text = to_text(report(plan))
    for word in set(text.split()) - {"PLATFORM"}:
        assert word in found.joined, word
    assert text.splitlines()[-1].replace(" ", "") in found.joined


def test_eighty_columns_have_room_for_a_table() -> None:
    assert shown(80, AGED).lines[0].split() == [
        *("PLATFORM", "BEFORE", "AFTER", "AGE", "FATE", "REASON")
    ]


def test_forty_columns_have_room_for_a_list() -> None:
    lines = shown(40, PLAN).lines

    assert [line for line in lines if line.startswith("linux/")] == [
        *("linux/amd64", "linux/arm64", "linux/s390x", "linux/ppc64le")
    ]
    start = lines.index("linux/amd64") + 1
    assert [line.split()[0] for line in lines[start : start + 4]] == [
        *("BEFORE", "AFTER", "FATE", "REASON")
    ]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_stale_image_catches_the_eye(width: int) -> None:
    lines = shown(width, AGED).raw.splitlines()

    marked = [line for line in lines if BOLD_RED in line]
    assert "linux/s390x" in marked[0]
    assert "1127 days" in "".join(marked)
    assert BOLD_RED not in shown(width, PLAN).raw


def test_fates_have_colours_of_their_own() -> None:
    raw = shown(200, merge(NEW, OLD, Policy(eligible=["arm64", "amd64"], drop=["s390x"]))).raw

    assert f"{RED}dropped" in raw
    assert "\x1b[36mreplaced" in raw
    assert "\x1b[33mkept" in raw


HOSTILE = "[bold red]x[/] :smile: \x1b[2J\x1b]0;title\x07\r\n\u202e\u2028[link=http://x.invalid]"


@pytest.mark.parametrize("width", [40, 400])
def test_what_a_registry_wrote_is_text_and_no_more(width: int) -> None:
    platform: dict[str, object] = {"os": "linux", "architecture": HOSTILE}
    odd = index(entry(None, seed="odd", platform=platform))

    found = shown(width, merge(odd, OLD))

    assert "linux/[boldred]x[/]:smile:?[2j?]0;title?????[link=http://x.invalid]" in found.joined
    assert found.others == set()


def test_a_text_with_wide_characters_stays_in_its_lines() -> None:
    wide: dict[str, object] = {"os": "linux", "architecture": "\u4e2d" * 50}

    found = shown(60, merge(index(entry(None, seed="wide", platform=wide)), OLD))

    assert max(plain(line).cell_len for line in found.text.splitlines()) <= 60
    assert found.joined.count("\u4e2d") == 50


def test_without_colours_boldness_is_left() -> None:
    raw = colored(report(AGED), console(80, no_color=True))

    assert "\x1b[1m" in raw
    assert not {"\x1b[31m", BOLD_RED, "\x1b[32m", "\x1b[33m"} & Shown(0, raw).styles
    assert ALARM == "bold red"


def test_where_there_is_no_terminal_text_is_plain() -> None:
    assert find_terminal() is None
    assert text_of(report(AGED)) == to_text(report(AGED))


# The programs, on a terminal of their own

MERGE_OLD = make_index([make_image(p, seed="old") for p in ("linux/amd64", "linux/s390x")])
MERGE_NEW = make_index([make_image("linux/amd64", seed="new")])


@pytest.fixture
def merging(registry_server: RegistryServer) -> list[str]:
    """Return the command that shows a merge."""
    source = put(registry_server, "new", MERGE_NEW)
    stable = put(registry_server, "stable", MERGE_OLD)
    return ["merge", "--source-ref", source, "--dest-ref", stable, "--dry-run", "--ages"]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_program_fills_the_terminal_and_no_more(merging: list[str], width: int) -> None:
    found = program_on_a_terminal(*merging, width=width)

    text = run(*merging).out
    assert (found.code, found.others) == (0, set())
    assert max(map(len, found.text.splitlines())) <= width
    lost = {word for word in text.split() if word not in found.joined}
    assert lost <= {"PLATFORM"}  # a list has no need of that name
    assert any("31" in style for style in found.styles)


def test_a_terminal_without_size_is_taken_for_a_common_one(merging: list[str]) -> None:
    assert max(map(len, program_on_a_terminal(*merging, width=0).lines)) <= 80


def test_the_user_may_say_how_wide_it_is(merging: list[str]) -> None:
    assert max(map(len, program_on_a_terminal(*merging, width=200, COLUMNS="40").lines)) <= 40


@pytest.mark.parametrize("width", [40, 80, 200])
def test_nothing_is_coloured_for_those_who_want_none(merging: list[str], width: int) -> None:
    found = program_on_a_terminal(*merging, width=width, NO_COLOR="1")

    assert found.styles <= {"\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[1;2m"}
    assert "linux/s390x" in found.text


@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_a_simple_terminal_gets_no_escape_sequences(merging: list[str], term: str) -> None:
    found = program_on_a_terminal(*merging, TERM=term)

    assert "\x1b" not in found.raw
    assert "linux/s390x" in found.text


def test_a_file_gets_plain_text_even_if_colours_are_forced(merging: list[str]) -> None:
    done = run(*merging, env={"FORCE_COLOR": "1", "TERM": "xterm-256color"})

    assert "\x1b" not in done.out
    assert done.out.split() == run(*merging).out.split()


def test_json_is_json_on_a_terminal_too(merging: list[str]) -> None:
    found = program_on_a_terminal(*merging, "--output", "json", width=40)

    assert (found.styles, found.others) == (set(), set())
    assert json.loads(found.text)["changed"] is True


def test_without_the_library_a_terminal_gets_plain_text(merging: list[str]) -> None:
    code = (
        "import sys; sys.modules['rich.console'] = None\n"
        f"from pubtools_mlmerge.cli.parsers import merge_main; merge_main({merging[1:]!r})"
    )

    found = on_a_terminal([sys.executable, "-c", code], 40)

    assert found.raw.replace("\r\n", "\n") == run(*merging).out


def test_a_removal_is_shown_as_well(registry_server: RegistryServer) -> None:
    stable = put(registry_server, "stable", MERGE_OLD)

    found = program_on_a_terminal("remove-archs", "--ref", stable, "--arch", "s390x", width=200)

    assert f"{RED}dropped" in found.raw
