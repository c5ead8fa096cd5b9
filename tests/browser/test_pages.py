"""Pages in a real browser: what is to be seen, on any screen, and that nothing else happens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.browser.devtools import Browser

Pages = Mapping[str, Path]

NAMES = ["merge", "batch", "hostile", "inspection", "hostile inspection"]
PHONE, DESKTOP = 360, 1280
SCREENS = [(width, dark) for width in (PHONE, DESKTOP) for dark in (False, True)]


def every(selector: str) -> str:
    """Write, for the browser, all elements that are meant."""
    return f"[...document.querySelectorAll('{selector}')]"


@pytest.mark.parametrize("screen", SCREENS, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_a_page_fits_and_loads_nothing_else(
    chromium: Browser, pages: Pages, pictures: Path, name: str, screen: tuple[int, bool]
) -> None:
    width, dark = screen
    url = pages[name].as_uri()
    chromium.look_as(width, dark=dark)

    chromium.open(url)

    assert chromium.requests() == [url]
    assert chromium.complaints() == []
    assert chromium.content_width() <= width
    kind = f"{width}-{'dark' if dark else 'light'}"
    chromium.photograph(pictures / f"{name.replace(' ', '-')}-{kind}.png")


@pytest.mark.parametrize("width", [320, 700, 960, 1000])
@pytest.mark.parametrize("name", NAMES)
def test_a_page_fits_on_other_screens(
    chromium: Browser, pages: Pages, name: str, width: int
) -> None:
    chromium.look_as(width)

    chromium.open(pages[name].as_uri())

    assert chromium.content_width() <= width


def test_a_page_is_dark_where_all_is(chromium: Browser, pages: Pages) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    grounds = []
    for dark in (False, True):
        chromium.look_as(DESKTOP, dark=dark)
        chromium.open(pages["merge"].as_uri())
        grounds.append(chromium.ask(ground))

    assert grounds == ["rgb(245, 247, 250)", "rgb(16, 22, 29)"]


def test_the_checks_see_what_is_wrong(chromium: Browser, tmp_path: Path) -> None:
    """A page that does all of it, so that the test above means something."""
    bad = '<img src="x.png"><div style="width:2000px">wide</div><script>console.log(1)</script>'
    (tmp_path / "bad.html").write_text(bad, encoding="utf-8")
    chromium.look_as(PHONE)

    chromium.open((tmp_path / "bad.html").as_uri())

    assert len(chromium.requests()) == 2
    assert len(chromium.complaints()) == 2
    assert chromium.content_width() > PHONE


def test_a_script_in_a_page_would_not_run(chromium: Browser, pages: Pages, tmp_path: Path) -> None:
    text = pages["merge"].read_text(encoding="ascii")
    script = "<script>document.title = 'it ran'</script></main>"
    (tmp_path / "page.html").write_text(text.replace("</main>", script), encoding="ascii")

    chromium.open((tmp_path / "page.html").as_uri())

    assert "Content Security Policy" in str(chromium.complaints())
    assert chromium.ask("document.title") != "it ran"


def test_an_old_part_that_stays_catches_the_eye(chromium: Browser, pages: Pages) -> None:
    chromium.look_as(DESKTOP)
    chromium.open(pages["merge"].as_uri())

    text = chromium.text()
    first, found, _ = text.partition("linux/s390x is 3 years old")

    assert found
    assert len(first) < 500, "it is said in the first lines"
    assert "1095 days old, more than 365" in text
    assert "linux/s390x • kept, 3 years" in " ".join(text.split())
    colours = f"{every('tbody th')}.map(cell => getComputedStyle(cell).backgroundColor)"
    assert len(set(_texts(chromium.ask(colours)))) == 2


def test_a_merge_is_drawn_and_listed(chromium: Browser, pages: Pages) -> None:
    chromium.look_as(DESKTOP)
    chromium.open(pages["merge"].as_uri())

    drawn = _texts(
        chromium.ask("[...document.querySelectorAll('svg text')].map(t => t.textContent)")
    )

    assert [drawn.count(f"linux/{name}") for name in ("amd64", "s390x")] == [3, 2]
    assert drawn.count("windows/amd64") == 1
    assert "\u00d7 dropped" in drawn
    assert drawn.count("attestation") == 6
    widths = chromium.ask(f"{every('svg.card')}.map(c => c.getBoundingClientRect().width)")
    assert min(map(float, _texts(widths))) > 200


def test_a_digest_is_there_in_full_on_demand(chromium: Browser, pages: Pages) -> None:
    chromium.look_as(PHONE)
    chromium.open(pages["merge"].as_uri())
    full = str(
        chromium.ask(
            "document.querySelector('tbody .digest code + *, tbody .digest > code').textContent"
        )
    )
    assert full.startswith("sha256:")
    assert full not in chromium.text()

    chromium.ask("document.querySelector('tbody .digest summary').click()")

    assert full in chromium.text()
    assert chromium.content_width() <= PHONE


def test_on_paper_nothing_is_folded_up(chromium: Browser, pages: Pages) -> None:
    chromium.look_as(DESKTOP)
    chromium.open(pages["merge"].as_uri())
    full = str(chromium.ask("document.querySelector('tbody .digest > code').textContent"))
    assert full not in chromium.text()

    chromium.call("Emulation.setEmulatedMedia", media="print")

    assert full in chromium.text()
    chromium.call("Emulation.setEmulatedMedia", media="")


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_a_reader_of_the_screen_is_told_what_is_what(
    chromium: Browser, pages: Pages, width: int
) -> None:
    chromium.look_as(width)
    chromium.open(pages["merge"].as_uri())

    parts = chromium.accessible()

    assert ("image", "What became of") in {(role, name[:14]) for role, name in parts}
    headers = [name for role, name in parts if role == "columnheader"]
    assert headers == ["Platform", "Before", "After", "Age", "Fate", "Reason"]
    assert ("rowheader", "linux/s390x") in parts
    assert [role for role, _ in parts].count("main") == 1


def test_what_registries_write_is_shown_as_it_is(chromium: Browser, pages: Pages) -> None:
    chromium.look_as(DESKTOP)
    chromium.open(pages["hostile"].as_uri())

    text = chromium.text()

    assert "linux/<script>alert(1)</script>\\u202e\\u200fevil&amp;xxx" in text
    assert "\u202e" not in text
    assert chromium.ask("document.scripts.length") == 0


def test_a_batch_lists_its_failures_and_leads_to_each_merge(
    chromium: Browser, pages: Pages
) -> None:
    chromium.look_as(DESKTOP)
    chromium.open(pages["batch"].as_uri())
    text = chromium.text()
    assert "1 failed" in text
    assert "absent/v1" in text.partition("All tags")[0]

    places = _texts(chromium.ask(f"{every('main table a')}.map(a => a.getAttribute('href'))"))

    assert places == ["#m0", "#m1", "#m3"]
    found = "p => document.getElementById(p.slice(1)) !== null"
    assert chromium.ask(f"{places}.every({found})") is True


def test_a_thousand_tags_stay_usable(chromium: Browser, thousand: Path) -> None:
    chromium.look_as(DESKTOP)
    chromium.open(thousand.as_uri())
    shown = "document.getElementById('m998').checkVisibility({contentVisibilityAuto: true})"
    assert chromium.ask(shown) is False

    chromium.open(f"{thousand.as_uri()}#m998")

    assert chromium.ask(shown) is True
    assert chromium.ask("document.getElementById('m998').getBoundingClientRect().top < 800") is True
    assert chromium.ask("performance.now() < 20000") is True


def test_an_inspection_says_what_is_missing(chromium: Browser, pages: Pages) -> None:
    chromium.look_as(DESKTOP)
    chromium.open(pages["hostile inspection"].as_uri())

    assert "is not in the repository" in chromium.text()


def _texts(value: object) -> list[str]:
    assert isinstance(value, list)
    return [str(each) for each in value]
