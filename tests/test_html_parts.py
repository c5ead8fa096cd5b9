"""Parts of pages."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from pubtools_mlmerge.reports.html import (
    Failure,
    Markup,
    TableRow,
    element,
    facts,
    failure_list,
    full_digest,
    grid,
    mark,
    note,
)
from tests.factories import digest


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
