"""Links of the files in the top directory lead somewhere, to the very heading."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.pages import DOCS, MARKDOWN, PAGES, ROOT, relative

FILES = [path for path in MARKDOWN if path.exists()]
CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)|^\[[^\]]+\]: (\S+)$", re.MULTILINE)


def prose(path: Path) -> str:
    """Return a text without its blocks of code."""
    return CODE.sub("", path.read_text(encoding="utf-8"))


def links(path: Path) -> list[tuple[str, str]]:
    """List the links within the repository: file, if it is another one, and heading."""
    found = [one or other for one, other in LINK.findall(prose(path))]
    parts = [link.partition("#") for link in found if "://" not in link]
    return [(file, heading) for file, _, heading in parts]


def headings(path: Path) -> set[str]:
    """Name the headings of a file as the code host does, in both markups."""
    text = prose(path)
    found = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    found += re.findall(r"^(\S.*)\n(?:=+|-+|~+)$", text, re.MULTILINE)
    words = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in found)
    return {word.strip().replace(" ", "-") for word in words}


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_files_that_are_linked_are_there(path: Path) -> None:
    missing = [file for file, _ in links(path) if file and not (path.parent / file).exists()]

    assert missing == []


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_headings_that_are_linked_are_there(path: Path) -> None:
    wanted = [(path.parent / file if file else path, heading) for file, heading in links(path)]

    assert [(p, h) for p, h in wanted if h and h not in headings(p)] == []


def test_the_files_that_people_look_for_are_there() -> None:
    names = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE")

    assert [name for name in names if not (ROOT / name).is_file()] == []


def test_the_readme_leads_to_every_kind_of_page() -> None:
    contents = (DOCS / "index.rst").read_text(encoding="utf-8")
    captions = re.findall(r":caption: (.+)", contents)
    text = (ROOT / "README.md").read_text(encoding="utf-8")

    assert captions == ["Tutorial", "How-to", "Reference", "Explanation"]
    assert [caption for caption in captions if f"**{caption}**" not in text] == []


@pytest.mark.parametrize("image", sorted(DOCS.glob("*.svg")), ids=relative)
def test_every_picture_is_shown(image: Path) -> None:
    shown = [path for path in (*PAGES, *FILES) if image.name in path.read_text(encoding="utf-8")]

    assert shown
