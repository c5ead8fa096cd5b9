"""The picture of a merge in the documentation is what the project draws today."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from tests.pictures import FILE, merge_picture

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
