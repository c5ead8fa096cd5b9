"""The frame of each page, and its style."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import stat
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from attrs import evolve

from pubtools_mlmerge.core.manifests import Index
from pubtools_mlmerge.core.plan import Age, Report
from pubtools_mlmerge.reports.html import (
    Failure,
    Markup,
    PageFile,
    PageInfo,
    Result,
    TableRow,
    document,
    draw,
    element,
    escaped,
    facts,
    failure_list,
    full_digest,
    grid,
    heading,
    inspection_page,
    joined,
    mark,
    merge_page,
    note,
    style_of,
)
from pubtools_mlmerge.reports.inspection import inspect
from pubtools_mlmerge.reports.report import summary_of
from tests.factories import attestation, digest, entry, index
from tests.paper import NEW, NOW, OLD, example, read_as_html, report_of, text_of, tree_of
from tests.pictures import FILE, merge_picture

# The frame of each page, and its style


VARIABLE = re.compile(r"--([\w-]+): (#[0-9a-f]{6})")
# What is written on what.
PAIRS = [
    *((text, ground) for text in ("text", "muted") for ground in ("page", "surface", "raised")),
    *(("link", ground) for ground in ("page", "surface", "old-ground")),
    *((fate, "raised") for fate in ("added", "replaced", "same", "kept", "dropped", "excluded")),
    *((fate, "surface") for fate in ("added", "replaced", "same", "kept", "dropped", "excluded")),
    *((tone, "page") for tone in ("added", "replaced", "muted", "dropped")),
    *(("old", "old-ground"), ("text", "old-ground"), ("muted", "old-ground")),
    *(("text", "failed-ground"), ("dropped", "failed-ground"), ("kept", "old-ground")),
]


def palettes() -> list[dict[str, str]]:
    """Read the colours by day and by night."""
    light, _, rest = style_of().partition("@media (prefers-color-scheme: dark)")
    return [dict(VARIABLE.findall(part.partition("}")[0])) for part in (light, rest)]


def luminance(colour: str) -> float:
    """Compute it as WCAG 2 does ("relative luminance")."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("palette", palettes(), ids=["light", "dark"])
@pytest.mark.parametrize(("text", "ground"), PAIRS, ids=str)
def test_text_can_be_read_on_its_ground(palette: dict[str, str], text: str, ground: str) -> None:
    lights = sorted((luminance(palette[text]), luminance(palette[ground])))

    assert (lights[1] + 0.05) / (lights[0] + 0.05) >= 4.5


def test_both_palettes_have_the_same_colours() -> None:
    light, dark = palettes()

    assert light.keys() == dark.keys()


def test_a_page_allows_nothing_but_its_own_style() -> None:
    page = tree_of(document("Title", PageInfo(NOW), "text"))

    policy = page.find("head/meta[@http-equiv='Content-Security-Policy']")
    assert policy is not None
    style = page.findtext("head/style", "")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.get("content") == (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def test_the_style_loads_nothing() -> None:
    style = style_of()

    assert not re.search(r"url\(|@import|@font-face|<|&", style)
    assert style.isascii()


def test_a_page_names_its_language_and_its_title() -> None:
    page = tree_of(document("A <title>", PageInfo(NOW)))

    assert (page.get("lang"), page.findtext("head/title")) == ("en", "A <title>")
    assert page.find("head/meta[@name='viewport']") is not None


def test_a_page_is_the_same_as_html_and_as_xml() -> None:
    page = document("Title", PageInfo(NOW), heading("Kind", "a <b> & \u00fc", "x"))

    tags, text = read_as_html(page)

    assert page.isascii()
    assert tags == [element.tag for element in tree_of(page).iter()]
    assert text.endswith(text_of(page))


def test_the_time_is_in_utc() -> None:
    east = timezone(timedelta(hours=2))
    page = document("Title", PageInfo(datetime(2026, 1, 1, 1, 30, tzinfo=east)))

    assert "Made by pubtools-mlmerge on 2025-12-31 23:30:00 UTC" in text_of(page)


@pytest.mark.parametrize("complete", [True, False])
def test_an_interruption_is_said(complete: bool) -> None:
    page = document("Title", PageInfo(NOW, complete))

    assert ("It was interrupted." in text_of(page)) is not complete


# Parts of pages


def read(markup: Markup) -> ET.Element:
    return ET.fromstring(markup.text)  # noqa: S314 - our own markup


def test_a_digest_is_short_and_in_full_on_demand() -> None:
    made = read(full_digest(digest("a")))

    assert (made.tag, made.get("open")) == ("details", None)
    assert made.findtext("summary/code") == digest("a")[7:19]
    assert made.findtext("code") == digest("a")


def test_a_digest_without_an_algorithm_is_shown_as_it_is() -> None:
    assert read(full_digest("odd")).findtext("summary/code") == "odd"


def test_no_digest_is_a_dash() -> None:
    assert full_digest(None).text == '<span class="none">-</span>'


def test_a_table_names_its_columns_and_rows() -> None:
    made = read(grid("What", ("A", "B"), [TableRow(["one", "two"], "odd"), TableRow(["x", "y"])]))

    assert made.findtext("caption") == "What"
    assert [(th.text, th.get("scope")) for th in made.iter("th")] == [
        *(("A", "col"), ("B", "col"), ("one", "row"), ("x", "row")),
    ]
    assert [(td.text, td.get("data-label")) for td in made.iter("td")] == [("two", "B"), ("y", "B")]
    assert [tr.get("class") for tr in made.iter("tr")] == [None, "odd", None]


def test_a_table_keeps_its_roles_where_it_looks_like_cards() -> None:
    made = read(grid("What", ("A", "B"), [TableRow(["one", "two"])]))

    assert made.get("role") == "table"
    assert {each.get("role") for each in made.iter("tr")} == {"row"}
    assert [each.get("role") for each in made.iter("td")] == ["cell"]


def test_a_fact_that_is_none_is_left_out() -> None:
    made = read(facts([("A", "1"), ("B", None), ("C", element("b", "3"))]))

    assert [dt.text for dt in made.iter("dt")] == ["A", "C"]
    assert "".join(made.itertext()) == "A1C3"


def test_failures_keep_their_lines() -> None:
    made = read(failure_list([Failure("line 1", "one\ntwo <b>")]))

    assert (made.findtext(".//strong"), made.findtext(".//pre")) == ("line 1", "one\ntwo <b>")


def test_marks_and_notes_have_a_kind() -> None:
    assert mark("new", "good").text == '<span class="mark good">new</span> '
    assert note("careful", "bad").text == '<p class="callout bad">careful</p>'


# The page of merges


BAD = "<script>alert(1)</script>\u202e" + "y" * 300


def page_of(*results: Result) -> str:
    return merge_page(results, PageInfo(NOW))


def rows(page: ET.Element, kind: str = "*") -> list[list[str]]:
    """Read the tables as texts."""
    return [
        [" ".join("".join(cell.itertext()).split()) for cell in row]
        for row in page.iterfind(f".//tbody/{kind}")
    ]


def tags(*numbers: int) -> list[Result]:
    made = example()
    return [evolve(made, destination=evolve(made.destination, tag=f"v{n}")) for n in numbers]


def test_a_page_of_one_merge_has_all_of_its_report() -> None:
    report = example()

    text = text_of(page_of(report))

    for fact in (
        *("quay.io/org/app:stable", "quay.io/org/app:1.1", "stable-1", "1.2 s"),
        *(report.digest, report.previous_digest, report.source_digest, report.media_type),
        *("1 replaced", "2 added", summary_of(report)),
    ):
        assert str(fact) in text
    assert "not found: " not in text


def test_each_entry_is_a_row_with_full_digests() -> None:
    listed = rows(tree_of(page_of(example())))

    old, new = digest("linux/amd64@old"), digest("linux/amd64@new")
    before, after = f"{old[7:19]}{old}", f"{new[7:19]}{new}"
    reason = "the source has a newer one"
    assert listed[0] == ["linux/amd64", before, after, "-", "\u21c4 replaced", reason]
    assert [row[0] for row in listed][-3:] == ["linux/s390x", "windows/amd64", "linux/ppc64le"]
    assert listed[-2][2] == "-"


def test_an_old_part_is_named_first_and_marked_in_the_table() -> None:
    page = tree_of(page_of(example()))

    callout = page.find(".//div[@class='callout old']")
    assert callout is not None
    assert "linux/s390x is 3 years old" in "".join(callout.itertext())
    ((name, *_, age, fate, reason),) = rows(page, "tr[@class='old']")
    assert (name, age, fate) == ("linux/s390x", "3 years, made on 2023-03-02", "\u2022 kept")
    assert reason.endswith("1095 days old, more than 365")


def test_without_ages_there_is_no_column_of_them() -> None:
    page = page_of(report_of(NEW, OLD))

    heads = [head.text for head in tree_of(page).iterfind(".//thead//th")]
    assert heads == ["Platform", "Before", "After", "Fate", "Reason"]
    assert "Old parts" not in text_of(page)


def test_an_age_that_is_unknown_is_said() -> None:
    report = example()
    unknown = [evolve(e, age=Age(problem="?")) for e in report.entries[-3:]]

    listed = rows(tree_of(page_of(evolve(report, entries=unknown))))

    assert [row[3] for row in listed] == ["unknown"] * 3


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"dry_run": True}, "This was a dry run: nothing was written."),
        ({"dry_run": True}, "would change"),
        ({"changed": False}, "unchanged"),
        ({"missing": ("riscv64",)}, "Asked for and not found: riscv64"),
        ({"attempts": 3}, "Times planned 3"),
        ({"previous_digest": None}, "Before absent"),
    ],
)
def test_what_is_special_is_said(fields: dict[str, object], words: str) -> None:
    assert words in text_of(page_of(example(**fields)))


def test_a_removal_has_no_source() -> None:
    page = page_of(example(source=None, source_digest=None, entries=example().entries[-3:-1]))

    assert "Change quay.io/org/app:stable" in text_of(page)
    assert "Source" not in text_of(page)


def test_an_empty_index_is_no_picture() -> None:
    page = tree_of(page_of(example(entries=())))

    assert page.find(".//svg") is None
    assert page.find(".//table") is None


def test_a_batch_is_counted_and_listed() -> None:
    page = page_of(*tags(1, 2), Failure("line 3", "not found\nat all"), example(changed=False))

    text = text_of(page)
    assert "4 tags 2 changed 1 unchanged 1 failed" in text
    assert "line 3 not found at all" in text
    overview = tree_of(page).find(".//table")
    assert overview is not None
    assert rows(overview)[0][:2] == ["quay.io/org/app:v1", "changed"]
    assert rows(overview)[0][-1] == "3 years"


def test_links_lead_to_what_can_be_opened() -> None:
    page = tree_of(page_of(*tags(1, 2, 3, 4), Failure("line 5", "no")))

    links = [str(a.get("href")) for a in page.iter("a")]
    places = [div.get("id") for div in page.iterfind(".//details[@class='merge']/div")]
    assert links == [f"#{place}" for place in places] == ["#m0", "#m1", "#m2", "#m3"]


@pytest.mark.parametrize(("number", "is_open"), [(3, True), (4, False)])
def test_a_few_merges_are_open(number: int, is_open: bool) -> None:
    page = tree_of(page_of(*tags(*range(number))))

    found = {details.get("open") for details in page.iterfind(".//details[@class='merge']")}
    assert found == {"open" if is_open else None}


def test_no_identifier_comes_twice() -> None:
    page = tree_of(page_of(*tags(1, 2, 3)))

    names = [each.get("id") for each in page.iter() if each.get("id")]
    assert len(names) == len(set(names)) == 9


def test_one_old_part_of_many_tags_is_one_line() -> None:
    page = tree_of(page_of(*tags(*range(10))))

    callout = page.find(".//div[@class='callout old']")
    assert callout is not None
    (line,) = callout.iter("li")
    assert "".join(line.itertext()).endswith("quay.io/org/app:v2 and 7 more tags")


def test_many_old_parts_are_not_all_named() -> None:
    report = report_of(NEW, index(*(f"linux/cpu{n}" for n in range(30))))
    aged = [evolve(e, age=Age(days=900)) if e.fate == "kept" else e for e in report.entries]

    callout = tree_of(page_of(evolve(report, entries=aged))).find(".//div[@class='callout old']")

    assert callout is not None
    lines = ["".join(line.itertext()) for line in callout.iter("li")]
    assert (len(lines), lines[-1]) == (21, "and 10 more")


def test_failures_alone_are_a_page() -> None:
    text = text_of(page_of(Failure("quay.io/org/app:v1", "not found")))

    assert "1 tag 1 failed" in text
    assert "All tags" not in text


def test_nothing_done_is_a_page() -> None:
    assert "0 tags" in text_of(page_of())


def test_hostile_names_stay_text() -> None:
    report = report_of(NEW, index("linux/amd64@old", entry(f"linux/{BAD}"), entry(f"{BAD}/x")))

    page = page_of(report, Failure(BAD, BAD), evolve(report, missing=(BAD,), anchor_tag=BAD))

    found, text = read_as_html(page)
    assert "script" not in found
    assert "\u202e" not in text
    assert "<script>alert(1)</script>\\u202eyyy" in text
    assert found == [each.tag for each in tree_of(page).iter()]


# The page of an inspection


AMD64 = digest("linux/amd64")
PLAIN = index("linux/amd64", "linux/s390x", attestation(AMD64, seed="proof"))


def page_of_html_inspect(listed: Index, *rest: object) -> str:
    found = inspect("quay.io/org/app:1", listed, *rest)  # type: ignore[arg-type]  # ages, missing
    return inspection_page([found], PageInfo(NOW))


def heads(page: str) -> list[str | None]:
    return [head.text for head in tree_of(page).iterfind(".//thead//th")]


def test_a_page_lists_images_with_their_attestations_below() -> None:
    page = page_of_html_inspect(PLAIN)

    names = ["".join(th.itertext()) for th in tree_of(page).iterfind(".//tbody//th")]
    assert names == ["linux/amd64", "attestation", "linux/s390x"]
    below = tree_of(page).findall(".//span[@class='below']")
    assert [each.text for each in below] == ["attestation"]
    assert heads(page) == ["Platform", "Digest", "Size", "Type", "Flags"]


def test_a_page_tells_what_is_known_of_the_index() -> None:
    text = text_of(page_of_html_inspect(PLAIN))

    for fact in (PLAIN.digest, PLAIN.media_type, "2 images", "1 attestation", AMD64, "1.2 kB"):
        assert fact in text
    assert "problem" not in text
    assert "Looked for all of them no" in text


def test_an_old_image_is_marked() -> None:
    made = datetime(2023, 3, 2, tzinfo=timezone.utc)

    page = page_of_html_inspect(PLAIN, {digest("linux/s390x"): Age(made, 1095)})

    assert heads(page)[4] == "Age"
    (row,) = tree_of(page).iterfind(".//tr[@class='old']")
    assert "linux/s390x" in "".join(row.itertext())
    assert "1095 days old (2023-03-02)" in "".join(row.itertext())
    assert "old parts" in text_of(page)


def test_what_is_odd_is_listed_and_flagged() -> None:
    odd = index("linux/amd64", entry("linux/amd64", seed="twin"), attestation("sha256:0"))

    page = page_of_html_inspect(odd, None, [AMD64])

    text = text_of(page)
    assert "Worth a look" in text
    assert "3 problems" in text
    assert "is not in the repository" in text
    flags = [each.text for each in tree_of(page).iterfind(".//strong[@class='flags']")]
    assert flags == ["! missing", "! duplicate", "! orphan"]


def test_it_is_good_news_that_nothing_is_missing() -> None:
    text = text_of(page_of_html_inspect(PLAIN, None, []))

    assert "All that is listed is in the repository." in text
    assert "Looked for all of them yes" in text


def test_a_failure_is_a_page_too() -> None:
    page = inspection_page([Failure("quay.io/org/app:1", "not found")], PageInfo(NOW))

    assert "quay.io/org/app:1 failed Failures quay.io/org/app:1 not found" in text_of(page)


def test_hostile_names_stay_text_of_html_inspect() -> None:
    bad = "<script>alert(1)</script>\u202e"

    found, text = read_as_html(
        page_of_html_inspect(index(entry(f"linux/{bad}"), entry(f"linux/{bad}")))
    )

    assert "script" not in found
    assert "\u202e" not in text
    assert "linux/<script>" in text


# Elements, and texts that no registry can break out of


def test_an_element_has_its_attributes_and_content() -> None:
    made = element("a", "one ", element("b", "two"), href="#x", aria_label="y", class_="z")

    assert made.text == '<a href="#x" aria-label="y" class="z">one <b>two</b></a>'


def test_what_is_none_is_left_out() -> None:
    assert element("p", None, "text", None, title=None).text == "<p>text</p>"
    assert joined([None, "a", None, element("b")]).text == "a<b></b>"


def test_an_element_that_is_always_empty_closes_itself() -> None:
    assert element("meta", charset="utf-8").text == '<meta charset="utf-8"/>'


def test_numbers_may_be_attributes() -> None:
    assert element("rect", rx=6, x=0.5).text == '<rect rx="6" x="0.5"></rect>'


def test_markup_is_taken_as_it_is() -> None:
    assert element("p", Markup("<br/>")).text == "<p><br/></p>"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("a & b", "a &amp; b"),
        ("&amp;", "&amp;amp;"),
        ("\" onload='x'", "&quot; onload=&#x27;x&#x27;"),
        ("\u00fc\U0001f600", "&#252;&#128512;"),
        ("a\nb", "a\nb"),
        ("", ""),
    ],
)
def test_text_is_escaped(text: str, expected: str) -> None:
    assert escaped(text) == expected


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\u202eabc", r"\u202eabc"),  # turns the direction of writing
        ("\u2066a\u2069", r"\u2066a\u2069"),
        ("a\u200fb", r"a\u200fb"),
        ("\x00\x1b[31m", r"\x00\x1b[31m"),
        ("a\tb\rc", r"a\tb\rc"),
        ("\ud800", r"\ud800"),  # half a character, as JSON may have it
        ("\ufeff", r"\ufeff"),
    ],
)
def test_what_has_no_shape_is_shown(text: str, shown: str) -> None:
    assert escaped(text) == shown


@pytest.mark.parametrize("text", ["</p><p>", '"><x y="', "]]>", "<!--", "\x0b\ufffe\ud83d&lt;"])
def test_no_text_breaks_out(text: str) -> None:
    tree = ET.fromstring(element("p", text, title=text).text)  # noqa: S314 - our own markup

    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    assert (tree.text, tree.get("title"), len(tree)) == (shown, shown, 0)


# A merge as a picture


def drawn(report: Report) -> ET.Element:
    return ET.fromstring(draw(report, "p").text)  # noqa: S314 - our own markup


def cards(picture: ET.Element) -> dict[str, list[list[str]]]:
    """Read the texts on the cards of each column, by the left edge of the column."""
    found: dict[str, list[list[str]]] = {}
    for card in picture.iter("svg"):
        if card.get("class", "").startswith("card"):
            texts = [text.text or "" for text in card.iter("text")]
            found.setdefault(str(card.get("x")), []).append(texts)
    return found


def bands(picture: ET.Element) -> list[str]:
    return [path.get("class", "") for path in picture.iter("path")]


def test_each_column_lists_what_is_in_it() -> None:
    source, result, destination = cards(drawn(example())).values()

    assert [card[0] for card in source] == [
        *("linux/amd64", "attestation", "linux/riscv64", "linux/arm64", "linux/ppc64le"),
    ]
    assert [card[0] for card in result] == [
        *("linux/amd64", "attestation", "linux/riscv64", "linux/arm64", "linux/s390x"),
    ]
    assert [card[0] for card in destination] == [
        *("linux/amd64", "linux/riscv64", "linux/s390x", "windows/amd64"),
    ]


def test_cards_say_the_fate_or_the_digest() -> None:
    source, result, destination = cards(drawn(example())).values()

    assert source[0][1] == digest("linux/amd64@new")[7:19]
    assert source[-1][1] == "\u2013 excluded"
    assert result[0][1] == "\u21c4 replaced"
    assert result[-1][1] == "\u2022 kept, 3 years"
    assert destination[0][1] == digest("linux/amd64@old")[7:19]
    assert destination[-1][1] == "\u00d7 dropped"


def test_a_band_flows_from_each_card_and_ends_where_nothing_is_left() -> None:
    assert sorted(bands(drawn(example()))) == sorted(
        [
            *("band added", "band added", "band replaced", "band replaced gone"),
            *("band same", "band same", "band kept old"),
            *("band dropped gone", "band excluded gone"),
        ]
    )


def test_an_old_part_is_marked_in_both_columns() -> None:
    kinds = [svg.get("class") for svg in drawn(example()).iter("svg")]

    assert kinds.count("card kept old") == 2


def test_without_ages_nothing_is_marked() -> None:
    assert not any("old" in band for band in bands(drawn(report_of(NEW, OLD))))


def test_bands_stay_in_their_gap_and_cards_in_the_picture() -> None:
    picture = drawn(example())
    height = int(picture.get("height", "0"))

    for path in picture.iter("path"):
        xs_ys = [int(number) for number in re.findall(r"\d+", path.get("d", ""))]
        assert max(xs_ys) <= max(100, height)
    for card in picture.iter("svg"):
        if card.get("y"):
            assert int(card.get("y", "0")) + int(card.get("height", "0")) <= height


def test_cards_do_not_overlap() -> None:
    for column in ("0%", "35.5%", "71%"):
        places = sorted(
            (int(card.get("y", "0")), int(card.get("height", "0")))
            for card in drawn(example()).iter("svg")
            if card.get("x") == column and card.get("y")
        )
        assert all(top + size < after for (top, size), (after, _) in zip(places, places[1:]))


def test_a_picture_is_told_in_words() -> None:
    picture = drawn(example())
    title, description = picture.findtext("title"), picture.findtext("desc")

    assert title == "What became of quay.io/org/app:stable"
    assert description is not None
    assert "linux/s390x kept, 3 years old" in description
    assert f"attestation of {digest('linux/amd64@new')[7:19]} added" in description
    labels = picture.get("aria-labelledby", "").split()
    assert labels == [picture.find("title").get("id"), picture.find("desc").get("id")]  # type: ignore[union-attr]  # there are both, see above


def test_a_removal_has_two_columns() -> None:
    kept = example().entries[-3:-1]
    picture = drawn(evolve(example(), source=None, entries=kept))

    assert list(cards(picture)) == ["0%", "60%"]
    assert [text.text for text in picture.findall("text")] == ["Result", "Destination"]


def test_what_comes_from_no_source_comes_from_a_record() -> None:
    picture = drawn(evolve(example(), source=None))

    assert [text.text for text in picture.findall("text")] == ["Record", "Result", "Destination"]


def test_many_entries_are_not_all_drawn_and_old_ones_are() -> None:
    many = report_of(index(*(f"linux/cpu{n}" for n in range(60))), OLD)
    old = next(entry for entry in example().entries if entry.fate == "kept")

    picture = drawn(evolve(many, entries=[*many.entries, old]))

    assert "and 25 more, see the table" in [text.text for text in picture.findall("text")]
    assert sum("kept old" in band for band in bands(picture)) == 1


def test_what_has_no_platform_is_drawn() -> None:
    new = index("linux/amd64", entry(None), attestation("", seed="orphan"))

    source, *_ = cards(drawn(report_of(new, OLD))).values()

    assert [card[0] for card in source] == ["linux/amd64", "no platform", "attestation"]


@pytest.mark.parametrize("name", ["<script>", "\u202e", "x" * 5000])
def test_hostile_names_stay_text_of_drawing(name: str) -> None:
    picture = drawn(report_of(index(entry(f"linux/{name}")), OLD))

    labels = [text.text or "" for text in picture.iter("text")]
    assert max(map(len, labels)) < 80
    assert not any("\u202e" in label for label in labels)
    assert picture.find(".//script") is None


# Where a page goes: found out early, written late, as a whole or not at all


def test_a_page_is_written_as_a_whole(tmp_path: Path) -> None:
    file = PageFile.at(str(tmp_path / "page.html"))
    assert list(tmp_path.iterdir()) == []

    file.write("<p>\u00fc</p>")

    assert list(tmp_path.iterdir()) == [tmp_path / "page.html"]
    assert (tmp_path / "page.html").read_bytes() == "<p>\u00fc</p>".encode()


def test_a_page_is_for_whom_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        PageFile.at(str(tmp_path / "page.html")).write("page")
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "page.html").stat().st_mode) == 0o640


def test_what_is_there_stays_until_the_page_is_written(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("before", encoding="utf-8")

    file = PageFile.at(str(path))

    assert path.read_text(encoding="utf-8") == "before"
    file.write("after")
    assert path.read_text(encoding="utf-8") == "after"


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "page.html").symlink_to(tmp_path / "there" / "real.html")

    PageFile.at(str(tmp_path / "page.html")).write("page")

    assert (tmp_path / "page.html").is_symlink()
    assert (tmp_path / "there" / "real.html").read_text(encoding="utf-8") == "page"


def test_a_pipe_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()

    PageFile.at(str(pipe)).write("page")

    reader.join(10)
    assert read == [b"page"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_device_stays_a_device() -> None:
    PageFile.at(os.devnull).write("page")

    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("absent/page.html", "No such file or directory"),
        (".", "Is a directory"),
        ("file/page.html", "Not a directory"),
        ("x" * 300, "File name too long"),
    ],
)
def test_what_cannot_be_written_is_said_at_once(tmp_path: Path, name: str, problem: str) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(ValueError, match=f"^--output html: .*: {problem}$"):
        PageFile.at(str(tmp_path / name))


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    file = PageFile.at(str(path))
    path.mkdir()
    (path / "in the way").touch()

    with pytest.raises(OSError, match="directory"):
        file.write("page")

    assert [each.name for each in tmp_path.iterdir()] == ["page.html"]


def test_half_a_page_is_never_there(tmp_path: Path) -> None:
    file = PageFile.at(str(tmp_path / "page.html"))

    with pytest.raises(UnicodeEncodeError):
        file.write("\ud800")

    assert list(tmp_path.iterdir()) == []


# The picture of a merge in the documentation is what the project draws today


SVG = "{http://www.w3.org/2000/svg}"


def test_the_picture_of_a_merge_is_up_to_date() -> None:
    drawn = FILE.read_text(encoding="ascii")

    assert drawn == merge_picture(), "draw it anew: python -m tests.pictures"


def test_the_picture_stands_for_itself() -> None:
    picture = ET.fromstring(merge_picture())  # noqa: S314 - our own picture

    texts = [text.text for text in picture.iter(f"{SVG}text")]
    assert texts.count("linux/s390x") == 2
    assert "\u2022 kept" in texts
    assert "prefers-color-scheme" not in picture.findtext(f"{SVG}style", "")
    assert "--surface: #ffffff" in picture.findtext(f"{SVG}style", "")
