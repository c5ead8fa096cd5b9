"""The HTML page in a real browser: it opens, complains of nothing, and fits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from pubtools_mlmerge.core.plan import Report
from pubtools_mlmerge.reports.html import Failure, write_page
from tests.browser.devtools import Browser
from tests.factories import entry, index
from tests.paper import NEW, NOW, example, report_of

LONG = "<script>alert(1)</script>\u202e\u200f&amp;" + "x" * 300
WIDTH = "document.documentElement.scrollWidth"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    long = report_of(NEW, index("linux/amd64@old", entry(f"linux/{LONG}")), missing=[LONG])
    contents: dict[str, list[Report | Failure]] = {
        "merge": [example()],
        "batch": [example(), Failure(LONG, LONG), long],
        "many": [example()] * 5,
    }
    directory = tmp_path_factory.mktemp("pages")
    for name, results in contents.items():
        write_page(directory / f"{name}.html", results, NOW)
    return {name: directory / f"{name}.html" for name in contents}


@pytest.mark.parametrize("name", ["merge", "batch", "many"])
@pytest.mark.parametrize("width", [390, 1280])
def test_a_page_opens_and_fits(
    chromium: Browser, pages: Mapping[str, Path], name: str, width: int
) -> None:
    chromium.open(pages[name].as_uri(), width)

    assert "quay.io/org/app:stable" in str(chromium.evaluate("document.body.innerText"))
    assert chromium.console() == []
    assert chromium.evaluate(WIDTH) == width


CUT_OFF = (
    "[...document.querySelectorAll('.card')].filter(e => e.scrollWidth > e.clientWidth).length"
)
LINES = """
(() => {
    const range = document.createRange();
    return [...document.querySelectorAll("h1 bdi")].flatMap(e => [...e.childNodes]).map(e => {
        range.selectNodeContents(e);
        return range.getClientRects().length;
    }).filter(n => n > 1).length;
})()
"""


def test_on_a_phone_no_box_and_no_name_is_cut(chromium: Browser, pages: Mapping[str, Path]) -> None:
    chromium.open(pages["merge"].as_uri(), 240)  # as narrow for this name as 390 for a usual one

    assert chromium.evaluate(LINES) == 0
    chromium.open(pages["merge"].as_uri(), 390)
    assert chromium.evaluate(CUT_OFF) == 0


def test_these_checks_see_what_is_wrong(chromium: Browser, tmp_path: Path) -> None:
    bad = '<img src="x.png"><div style="width:2000px">wide</div><script>console.log(1)</script>'
    (tmp_path / "bad.html").write_text(bad, encoding="utf-8")

    chromium.open((tmp_path / "bad.html").as_uri(), 390)

    assert len(chromium.console()) == 2
    assert chromium.evaluate(WIDTH) != 390


def test_a_script_in_a_page_would_not_run(
    chromium: Browser, pages: Mapping[str, Path], tmp_path: Path
) -> None:
    text = pages["merge"].read_text(encoding="ascii")
    script = "<script>document.title = 'it ran'</script></main>"
    (tmp_path / "page.html").write_text(text.replace("</main>", script), encoding="ascii")

    chromium.open((tmp_path / "page.html").as_uri(), 390)

    assert "Content Security Policy" in str(chromium.console())
    assert chromium.evaluate("document.title") != "it ran"
