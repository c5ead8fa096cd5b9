"""The documentation in a real browser: code, tables and pictures fit on the screen."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.browser.devtools import Browser
from tests.pages import DOCS

CUT_OFF = """
[...document.querySelectorAll("pre, table, .table-wrapper, .highlight, svg, img")]
    .filter(e => e.scrollWidth > e.clientWidth + 1 || e.getBoundingClientRect().right > innerWidth)
    .map(e => `${e.tagName}: ${e.innerText}`.slice(0, 100))
"""


@pytest.fixture(scope="module")
def built() -> list[Path]:
    """Build what `make docs` builds; where that is up to date, this takes a moment."""
    target = DOCS / "_build" / "html"
    options = ["-q", "-b", "html", "-d", str(DOCS / "_build" / "doctrees")]
    subprocess.run([sys.executable, "-m", "sphinx", *options, str(DOCS), str(target)], check=True)
    return [target / f"{page.stem}.html" for page in sorted(DOCS.glob("*.rst"))]


def test_nothing_is_cut_off(chromium: Browser, built: list[Path]) -> None:
    cut_off = {}
    for page in built:
        chromium.open(page.as_uri(), 1280)
        cut_off[page.stem] = chromium.evaluate(CUT_OFF)

    assert len(cut_off) > 20
    assert {page: found for page, found in cut_off.items() if found} == {}


def test_this_check_sees_what_is_cut_off(chromium: Browser, tmp_path: Path) -> None:
    bad = '<pre style="width: 100px; overflow: auto">' + "x" * 100
    (tmp_path / "bad.html").write_text(bad, encoding="utf-8")

    chromium.open((tmp_path / "bad.html").as_uri(), 1280)

    assert chromium.evaluate(CUT_OFF) == ["PRE: " + "x" * 95]
