"""What a terminal gets: the content of the plain text in colour, within its width, and bars."""

from __future__ import annotations

import io
import json
import re
import sys
from datetime import datetime, timezone
from pathlib import Path

import pytest
from rich.console import Console

from pubtools_mlmerge.core.ages import with_ages
from pubtools_mlmerge.core.manifests import Index
from pubtools_mlmerge.core.merge import merge
from pubtools_mlmerge.core.plan import Age, Plan, Policy, Report
from pubtools_mlmerge.reports.inspection import Inspection, compare, inspection_sheet
from pubtools_mlmerge.reports.report import Sheet, report_sheet, to_text
from pubtools_mlmerge.reports.terminal import find_terminal, plain, report_text
from pubtools_mlmerge.reports.terminal import shown as draw
from pubtools_mlmerge.testing import RegistryServer, make_image, make_index
from tests.factories import attestation, digest, entry, index
from tests.paper import SOURCE, STABLE
from tests.programs import put, python, run
from tests.terminals import Shown, on_a_terminal, program_on_a_terminal

OLD = index("linux/amd64@old", "linux/arm64", "linux/s390x", "linux/ppc64le")
NEW = index("linux/amd64@new", "linux/arm64", attestation(digest("linux/amd64@new"), seed="x"))
S390X = digest("linux/s390x")
RED, BOLD_RED, CYAN = "\x1b[31m", "\x1b[1;31m", "\x1b[36m"
WIDTHS = [20, 40, 41, 60, 80, 100, 120, 140, 200]


def report(plan: Plan[Index]) -> Report:
    return Report.of(plan, SOURCE, STABLE)


def console(width: int, *, no_color: bool = False) -> Console:
    """Make a console as it would be on a terminal."""
    return Console(
        file=io.StringIO(),
        width=width,
        no_color=no_color,
        force_terminal=True,
        color_system="standard",
        _environ={},
    )


def shown(width: int, plan: Plan[Index]) -> Shown:
    return Shown(0, draw(report_sheet(report(plan)), console(width)))


PLAN = merge(NEW, OLD, Policy(drop=["ppc64le"]))
SAME = merge(OLD, OLD)
AGED = with_ages(PLAN, {S390X: Age(days=1127)}, {S390X: "1127 days old, more than 365"})


AMD64 = digest("linux/amd64")
LISTED = index(
    "linux/amd64", "linux/s390x", attestation(AMD64, seed="proof"), attestation("", seed="orphan")
)
AGES = {
    AMD64: Age(datetime(2024, 2, 29, tzinfo=timezone.utc), 3),
    S390X: Age(datetime(2021, 2, 28, tzinfo=timezone.utc), 1096),
}
INSPECTION = Inspection("quay.io/org/app:1", LISTED, AGES, missing=[S390X])
COMPARED = (
    Inspection("quay.io/org/app:1", LISTED),
    Inspection(
        "quay.io/org/app:2",
        index("linux/amd64@new", "linux/s390x", "linux/arm64", attestation(S390X)),
    ),
)
SHEETS = [
    *(report_sheet(report(plan)) for plan in (PLAN, AGED, SAME)),
    *map(inspection_sheet, (INSPECTION, Inspection("quay.io/org/app:1", index()))),
    *(compare(*COMPARED, every=every) for every in (False, True)),
]


@pytest.mark.parametrize("sheet", SHEETS)
def test_a_wide_terminal_shows_what_the_text_says(sheet: Sheet) -> None:
    found = Shown(0, draw(sheet, console(200)))

    assert found.lines == [line.rstrip() for line in sheet.text.splitlines()]
    assert found.styles
    assert found.others == set()
    assert find_terminal() is None
    assert draw(sheet) == sheet.text


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("sheet", SHEETS)
def test_nothing_is_lost_where_it_is_narrow(sheet: Sheet, width: int) -> None:
    found, text = Shown(0, draw(sheet, console(width))), sheet.text

    assert max(map(len, found.text.splitlines())) <= width
    lost = {word for word in text.split() if word not in found.joined}
    assert lost <= {"PLATFORM"}  # a list has no need of that name
    assert text.splitlines()[-1].replace(" ", "") in found.joined
    assert found.others == set()


def test_eighty_columns_have_room_for_a_table() -> None:
    assert shown(80, AGED).lines[0].split() == [
        *("PLATFORM", "BEFORE", "AFTER", "AGE", "FATE", "REASON")
    ]


def test_forty_columns_have_room_for_a_list() -> None:
    lines = [line.partition(" +")[0] for line in shown(40, PLAN).lines]

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
    assert f"{CYAN}replaced" in raw
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
    raw = draw(report_sheet(report(AGED)), console(80, no_color=True))

    assert "\x1b[1m" in raw
    assert not {"\x1b[31m", BOLD_RED, "\x1b[32m", "\x1b[33m"} & Shown(0, raw).styles


# Programs on a terminal

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
    found = program_on_a_terminal(*merging, width=0)

    assert "linux/s390x" in found.text
    assert max(map(len, found.lines)) <= 80


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


def test_tables_and_logs_appear_whole_above_the_bars(merging: list[str]) -> None:
    stable = merging[merging.index("--dest-ref") + 1]
    fresh = stable.replace(":stable", ":fresh")

    found = program_on_a_terminal(
        *merging[:-1], "--dest-ref", fresh, "--debug", logs=True, width=200
    )

    assert (found.code, "0/2" in found.text) == (0, True), found.raw
    assert "\x1b[33mkept" in found.raw
    assert f"DEBUG: Merge of {merging[2]} into {fresh} (dry run): started\r\n" in found.raw
    assert f"{fresh} would become sha256:" in found.text


# Inspections and comparisons


@pytest.mark.parametrize("width", [40, 200])
def test_what_is_old_or_odd_is_bold_and_red(width: int) -> None:
    raw = draw(inspection_sheet(INSPECTION), console(width))

    assert f"{BOLD_RED}1096" in raw
    assert f"{BOLD_RED}! old," in raw
    assert f"{BOLD_RED}problem: missing" in raw
    assert f"{BOLD_RED}3 days" not in raw


# Progress bars

START = """
import logging, time
from concurrent.futures import ThreadPoolExecutor
from pubtools_mlmerge.cli.parsers import _configure_logging
from pubtools_mlmerge.concurrency import map_in_order
from pubtools_mlmerge.reports.terminal import Display
_configure_logging(0)
LOG = logging.getLogger("pubtools.mlmerge")
"""
BAR = (
    START
    + """
with Display().counted("images for [::1]:5000/app", {total}) as advance:
    for item in range(3):
        advance()
        LOG.info("log of %d", item)
        print("output of", item, flush=True)
    time.sleep(0.3)
LOG.info("the end")
"""
)
BARS = (
    START
    + """
display = Display()
def job(number):
    with display.counted("images", 12) as advance:
        for _ in range(12):
            advance()
            LOG.info("log of %d", number)
    return number
jobs = [lambda n=n: job(n) for n in range(8)]
with display.counted("", len(jobs)) as advance:
    for number in map_in_order(jobs, 4):
        advance()
        print("output of", number, "-" * 150, flush=True)
LOG.info("the end")
"""
)
WITHOUT_RICH = "import sys\nsys.modules['rich.console'] = None\n"


def run_on_a_terminal(program: str, term: str = "xterm") -> Shown:
    return on_a_terminal([sys.executable, "-c", program], logs=True, TERM=term)


@pytest.mark.parametrize(("total", "count"), [("12", "3/12"), ("None", "/?")])
def test_a_bar_is_shown_below_logs_and_output(total: str, count: str) -> None:
    found = run_on_a_terminal(BAR.format(total=total))

    assert count in found.raw
    assert "images for [::1]:5000/app" in found.text
    lines = [line for n in range(3) for line in (f"INFO: log of {n}\r\n", f"output of {n}\r\n")]
    assert [line for line in lines if line not in found.raw] == []
    assert (found.code, found.lines[-1]) == (0, "INFO: the end")  # the bar is gone


def test_bars_of_several_threads_tear_no_line() -> None:
    found = run_on_a_terminal(BARS)

    assert found.code == 0, found.raw
    assert len(re.findall(r"INFO: log of \d\r\n", found.raw)) == 8 * 12
    assert all(f"output of {number} {'-' * 150}\r\n" in found.raw for number in range(8))
    assert found.lines[-1] == "INFO: the end"


def test_output_to_a_file_stays_out_of_the_terminal(tmp_path: Path) -> None:
    output = tmp_path / "out"
    program = f"import sys\nsys.stdout = open({str(output)!r}, 'w')\n" + BAR.format(total=3)

    found = run_on_a_terminal(program)

    assert "output of" not in found.raw
    assert output.read_text().splitlines() == [f"output of {number}" for number in range(3)]


@pytest.mark.parametrize("program", [BAR.format(total=3), BARS])
def test_without_rich_there_is_no_bar(program: str) -> None:
    found = run_on_a_terminal(WITHOUT_RICH + program)

    assert (found.code, found.styles, found.others) == (0, set(), set())
    assert found.lines[-1] == "INFO: the end"


def test_a_simple_terminal_has_no_bar() -> None:
    found = run_on_a_terminal(BAR.format(total=3), term="dumb")

    assert "\x1b" not in found.raw
    assert [line.split()[0] for line in found.lines] == ["INFO:", "output"] * 3 + ["INFO:"]


def test_an_error_leaves_no_bar() -> None:
    program = BAR.format(total=3).replace("time.sleep(0.3)", "raise SystemExit('failed')")

    found = run_on_a_terminal(program)

    assert (found.code, found.lines[-1]) == (1, "failed")


def test_without_a_terminal_there_is_no_bar() -> None:
    done = python(BARS)

    words = {"INFO:", "log", "of", *map(str, range(8)), "the", "end"}
    assert (done.code, set(done.err.split())) == (0, words)


def test_each_of_several_reports_is_titled_by_its_tag() -> None:
    made = report(PLAN)

    assert report_text(made, titled=True) == f"{made.destination}\n{to_text(made)}\n"
