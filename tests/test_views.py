"""Inspections and differences on a terminal: the content of the text, in colours."""

from __future__ import annotations

import io
from datetime import datetime, timezone

import pytest
from rich.console import Console

from pubtools_mlmerge.core.plan import Age
from pubtools_mlmerge.reports import inspection
from pubtools_mlmerge.reports.inspection import Inspection, compare, inspect
from pubtools_mlmerge.reports.terminal import (
    colored_difference,
    colored_inspection,
    difference_text,
    inspection_text,
)
from tests.factories import attestation, digest, entry, index
from tests.terminals import Shown

AMD64, S390X = digest("linux/amd64"), digest("linux/s390x")
LISTED = index(
    "linux/amd64", "linux/s390x", attestation(AMD64, seed="proof"), attestation("", seed="orphan")
)
AGES = {
    AMD64: Age(datetime(2024, 2, 29, tzinfo=timezone.utc), 3),
    S390X: Age(datetime(2021, 2, 28, tzinfo=timezone.utc), 1096),
}
FOUND = inspect("quay.io/org/app:1", LISTED, AGES, missing=[S390X])
DIFFERENCE = compare(
    ("quay.io/org/app:1", "quay.io/org/app:2"),
    (LISTED, index("linux/amd64@new", "linux/arm64", annotations={"x": "[red]y[/]"})),
)
ALARM, CYAN = "\x1b[1;31m", "\x1b[36m"
WIDTHS = [20, 40, 60, 80, 100, 120, 140, 200]


class File(io.StringIO):
    """A file of some encoding."""

    def __init__(self, encoding: str) -> None:
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]  # what is declared has no getter
        return self._encoding


def console(width: int, encoding: str = "utf-8") -> Console:
    return Console(
        file=File(encoding),
        width=width,
        force_terminal=True,
        color_system="standard",
        _environ={},
    )


def shown(width: int, found: Inspection = FOUND, encoding: str = "utf-8") -> Shown:
    return Shown(0, colored_inspection(found, console(width, encoding)))


def test_a_wide_terminal_shows_the_tree_of_the_text() -> None:
    drawn = str.maketrans({"├": "|", "└": "`", "─": "-", "│": "|"})

    lines = shown(200).lines

    expected = inspection.inspection_to_text(FOUND).splitlines()
    assert [line.translate(drawn) for line in lines] == expected


@pytest.mark.parametrize("width", WIDTHS)
def test_no_word_of_an_inspection_is_lost(width: int) -> None:
    found = shown(width)

    assert max(map(len, found.text.splitlines())) <= width
    drawn = str.maketrans("", "", "├└─│ \n")
    joined = found.text.translate(drawn)
    words = inspection.inspection_to_text(FOUND).replace("|", " ").replace("`--", " ").split()
    assert [word for word in words if word.strip("-") not in joined] == []
    assert found.others == set()


@pytest.mark.parametrize("width", [40, 200])
def test_what_is_old_or_odd_catches_the_eye(width: int) -> None:
    raw = shown(width).raw

    assert f"{ALARM}1096 days old" in raw
    assert f"{ALARM}! old," in raw
    assert f"{ALARM}problem: missing" in raw
    assert f"{ALARM}3 days" not in raw


def test_a_terminal_that_knows_no_lines_gets_a_plain_tree() -> None:
    found = shown(200, encoding="ascii")

    assert found.text.isascii()
    assert "linux/s390x" in found.text


@pytest.mark.parametrize("width", WIDTHS)
def test_what_a_registry_wrote_is_text_and_no_more(width: int) -> None:
    platform: dict[str, object] = {"os": "[red]", "architecture": "[/]\x1b[2J\r\n:smile:"}
    odd = entry(None, seed="odd", platform=platform, media_type="[blink]\x1b]0;x\x07")

    found = shown(width, inspect("app:1", index(odd)))

    assert found.others == set()
    assert not any("5m" in style for style in found.styles)
    assert "[red]/[/]?[2j??:smile:" in found.joined.replace("│", "").replace("└──", "")


def test_an_empty_index_is_shown() -> None:
    assert shown(80, inspect("app:1", index())).lines[-1].startswith("0 images")


def test_a_wide_terminal_shows_the_table_of_a_difference() -> None:
    found = Shown(0, colored_difference(DIFFERENCE, console(200)))

    expected = [line.rstrip() for line in inspection.difference_to_text(DIFFERENCE).splitlines()]
    assert found.lines == expected
    assert f"{CYAN}changed" in found.raw


@pytest.mark.parametrize("width", WIDTHS)
def test_no_word_of_a_difference_is_lost(width: int) -> None:
    found = Shown(0, colored_difference(DIFFERENCE, console(width)))

    assert max(map(len, found.text.splitlines())) <= width
    words = inspection.difference_to_text(DIFFERENCE).split()
    lost = {word for word in words if word not in found.joined}
    assert lost <= {"PLATFORM", "NOTE"}  # a list does not need the one, and has no use of the other


def test_where_there_is_no_terminal_text_is_plain() -> None:
    assert inspection_text(FOUND) == inspection.inspection_to_text(FOUND)
    assert difference_text(DIFFERENCE) == inspection.difference_to_text(DIFFERENCE)
