"""The benchmarks still run, and the page on them shows what is in their data."""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benchmarks import copies, lists, many_tags, one_merge, sides
from benchmarks.figures import Case, Detail, Ratio, Side, in_turn
from benchmarks.pages import DATA, PAGE, PLOT, with_tables, write_pages
from benchmarks.plot import plot
from benchmarks.results import Results, read
from benchmarks.sides import Work
from benchmarks.targets import growth_of, targets
from benchmarks.world import merged_digests, world
from tests.programs import ROOT
from tests.servers import require

DOCS = ROOT / "docs"


def case(name: str, against: str, values: dict[str, float], **details: Detail) -> Case:
    """Make a case of one value for each side."""
    taken = {side: Side(values=(value,), requests=3) for side, value in values.items()}
    return Case(name=name, details=details, sides=taken, against=against)


def results(*cases: Case) -> Results:
    return Results(machine={"cores": 2}, absent=("crane",), cases=cases)


def bench(directory: Path, *parts: str) -> Results:
    """Run the smallest cases of some parts once, and read what was written."""
    shutil.copy(DOCS / PAGE, directory)
    chosen = [argument for part in parts for argument in ("--only", part)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--into", str(directory), *chosen],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return read(directory / DATA)


def test_a_run_measures_and_counts_requests(tmp_path: Path) -> None:
    require("docker-registry")

    found = bench(tmp_path, "one", "tags", "copies")

    open_, token = found.all_of(one_merge.NAME)
    assert [open_.sides[s].requests for s in (sides.STEP, sides.STEP_VERIFIED)] == [3, 5]
    assert [token.sides[s].requests for s in (sides.STEP, sides.STEP_VERIFIED)] == [5, 7]
    assert {many_tags.NAME, copies.NAME} < set(found.names)


def test_a_run_writes_tables_and_a_plot(tmp_path: Path) -> None:
    bench(tmp_path, "lists", "starts")

    page = (tmp_path / PAGE).read_text(encoding="utf-8")
    assert f".. csv-table:: {lists.TIME}\n" in page
    assert "pubtools-mlmerge-merge --help" in page
    drawn = ET.fromstring((tmp_path / PLOT).read_text(encoding="utf-8"))  # noqa: S314 - our own
    assert lists.TIME in [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")]


def test_what_is_not_measured_again_stays(tmp_path: Path) -> None:
    shutil.copy(DOCS / PAGE, tmp_path)
    kept, gone = case("kept", "b", {"a": 1.0, "b": 2.0}), case(lists.TIME, "b", {"a": 9.0})
    write_pages(results(gone, kept), tmp_path)

    write_pages(results(case(lists.TIME, "b", {"c": 1.0})), tmp_path)

    again, same = read(tmp_path / DATA).cases
    assert (again.name, set(again.sides)) == (lists.TIME, {"c"})
    assert same == kept


def test_a_round_trip_takes_as_long_as_it_is_told() -> None:
    require("docker-registry")
    with world() as there:
        site = there.sites["open"]
        there.move(30)
        tag, source = there.next_source()
        work = Work(site, site.reference(tag), (site.reference("stable"),), merged_digests(source))

        took = sides.seconds(sides.by_facade, work)

        there.check("app", "stable", work.digests)
    assert took > 4 * 0.03  # connections, TLS, two requests at a time, and one


def test_sides_take_turns() -> None:
    order: list[str] = []

    def run(side: str) -> float:
        order.append(side)
        return float(len(order))

    values = in_turn({side: partial(run, side) for side in "ab"}, 2)

    assert order == ["a", "b"] * 3
    assert values == {"a": (3.0, 5.0), "b": (4.0, 6.0)}


def test_a_ratio_is_of_medians_and_its_range_of_pairs() -> None:
    ratio = Ratio.between((8.0, 2.0, 6.0), (2.0, 1.0, 4.0))

    assert ratio == Ratio(middle=3.0, least=1.5, most=4.0)


@pytest.mark.parametrize(("ours", "verdict"), [(1.0, True), (1.5, False)])
def test_targets_are_judged(ours: float, verdict: bool) -> None:
    values = {sides.FACADE: ours, sides.HOST: 2.0}
    found = results(case(one_merge.NAME, sides.HOST, values, registry="open", ms=20))

    judged = {target.text: target.reached for target in targets(found)}

    assert judged["one merge, open, 20 ms"] is verdict
    assert judged["one merge, token, 20 ms"] is None


def test_growth_is_an_exponent() -> None:
    times = {4: 1.0, 8: 2.0, 16: 8.0}
    cases = [case(lists.TIME, "", {lists.OURS: t}, entries=n) for n, t in times.items()]

    assert growth_of(results(*cases), lists.OURS) == [(4, 8, 1.0), (8, 16, 2.0)]


def test_results_go_into_the_page_with_their_plot(tmp_path: Path) -> None:
    found = results(case(lists.TIME, "b", {"a": 1.0, "b": 2.0}, entries=4))
    (tmp_path / PAGE).write_text((DOCS / PAGE).read_text(encoding="utf-8"), encoding="utf-8")

    write_pages(found, tmp_path)

    page = (tmp_path / PAGE).read_text(encoding="utf-8")
    assert page == with_tables(page, read(tmp_path / DATA))
    assert (tmp_path / PLOT).read_text(encoding="utf-8") == plot(read(tmp_path / DATA))
    assert ".. image:: benchmarks.svg" in page
