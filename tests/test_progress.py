"""Progress: bars for people, nothing for anybody else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pubtools_mlmerge.reports.terminal import Display, unwatched
from tests.programs import ROOT, environment
from tests.terminals import Shown, on_a_terminal

PROGRAM = """
import logging
logging.basicConfig(format="%(message)s", level=logging.INFO)
from pubtools_mlmerge.reports.terminal import Display
for item in Display().watched((number for number in range(3)), {total}):
    logging.info("log of %d", item)
    print("output of", item, flush=True)
logging.info("the end")
"""
WITHIN = """
import logging
logging.basicConfig(format="%(message)s", level=logging.INFO)
from concurrent.futures import ThreadPoolExecutor
from pubtools_mlmerge.reports.terminal import Display
from pubtools_mlmerge.concurrency import map_in_order
display = Display()
def job(number):
    with display.counted(f"images for app:[{number}]", 12) as advance:
        for _ in range(12):
            advance()
            logging.info("log of %d", number)
    return number
jobs = [lambda n=n: job(n) for n in range(8)]
for number in display.watched(in_order(jobs, 4), len(jobs)):
    print("output of", number, "-" * 150, flush=True)
logging.info("the end")
"""
HIDDEN = "import sys\nsys.modules['rich.console'] = None\n"


def shown(program: str, term: str = "xterm") -> Shown:
    return on_a_terminal([sys.executable, "-c", program], logs=True, TERM=term)


@pytest.mark.parametrize(("total", "count"), [("3", "3/3"), ("None", "/?")])
def test_a_terminal_shows_a_bar_below_all_else(total: str, count: str) -> None:
    found = shown(PROGRAM.format(total=total))

    assert count in found.raw
    lines = [f"{kind} of {number}\r\n" for number in range(3) for kind in ("log", "output")]
    assert all(line in found.raw for line in lines)
    assert "the end" in found.raw


def test_bars_within_a_bar_are_one_display() -> None:
    found = shown(WITHIN)

    assert found.code == 0, found.raw
    assert found.raw.count("log of ") == 8 * 12
    assert all(f"output of {number} {'-' * 150}\r\n" in found.raw for number in range(8))
    assert found.lines[-1].endswith("the end")


def test_what_is_counted_is_named_as_it_is() -> None:
    program = (
        "import time\nfrom pubtools_mlmerge.reports.terminal import Display\n"
        "with Display().counted('images for [::1]:5000/app', 12) as advance:\n"
        "    advance(); advance(); advance(); time.sleep(0.3)\n"
    )

    found = shown(program)

    assert "images for [::1]:5000/app" in found.text
    assert "3/12" in found.text


def test_what_is_printed_goes_where_it_is_to_go(tmp_path: Path) -> None:
    output = tmp_path / "out"
    program = f"import sys\nsys.stdout = open({str(output)!r}, 'w')\n" + PROGRAM.format(total=3)

    found = shown(program)

    assert "output of" not in found.raw
    assert output.read_text().splitlines() == [f"output of {number}" for number in range(3)]


@pytest.mark.parametrize("program", [PROGRAM.format(total=3), WITHIN])
def test_without_the_library_there_is_no_bar(program: str) -> None:
    found = shown(HIDDEN + program)

    assert (found.code, found.styles, found.others) == (0, set(), set())
    assert found.lines[-1].endswith("the end")


def test_a_simple_terminal_has_no_bar() -> None:
    found = shown(PROGRAM.format(total=3), term="dumb")

    assert "\x1b" not in found.raw
    assert [line.split()[0] for line in found.lines] == ["log", "output"] * 3 + ["the"]


def test_a_loop_that_is_left_leaves_no_bar() -> None:
    program = PROGRAM.format(total=3).replace("flush=True)", "flush=True); break")

    found = shown(program)

    assert (found.code, found.lines[-1]) == (0, "the end")


def test_elsewhere_there_is_no_bar() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHIN],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert set(done.stderr.split()) == {"log", "of", *map(str, range(8)), "the", "end"}


def test_items_are_the_same_without_a_terminal() -> None:
    items = [1, 2]

    assert Display().watched(items, 2) is items


def test_counting_is_for_nobody_by_default() -> None:
    with unwatched("images", 2) as advance, Display().counted("images", None) as other:
        advance()
        other()
