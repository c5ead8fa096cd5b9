"""A merge as a picture."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest
from attrs import evolve

from pubtools_mlmerge.core.plan import Report
from pubtools_mlmerge.reports.html import draw
from tests.factories import attestation, digest, entry, index
from tests.paper import NEW, OLD, example, report_of


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
def test_hostile_names_stay_text(name: str) -> None:
    picture = drawn(report_of(index(entry(f"linux/{name}")), OLD))

    labels = [text.text or "" for text in picture.iter("text")]
    assert max(map(len, labels)) < 80
    assert not any("\u202e" in label for label in labels)
    assert picture.find(".//script") is None
