"""The HTML page of merges: what it says, that no text breaks out of it, and how it is written."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import stat
import threading
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from attrs import evolve

from pubtools_mlmerge.core.plan import Age, Report
from pubtools_mlmerge.errors import AnchorTaken
from pubtools_mlmerge.reports import html
from pubtools_mlmerge.reports.html import Failure, check_html, page_of, write_page
from pubtools_mlmerge.reports.report import summary_of
from tests.factories import attestation, digest, entry, index
from tests.growth import growth
from tests.paper import (
    NEW,
    NOW,
    OLD,
    SOURCE,
    STABLE,
    example,
    read_as_html,
    report_of,
    text_of,
    tree_of,
)

STYLE = Path(html.__file__).with_name("page.css").read_text(encoding="ascii")
BAD = "<script>alert(1)</script>\u202e" + "y" * 300
TAKEN = AnchorTaken("quay.io/org/app:kept", digest("other"))


def made(*results: Report | Failure) -> str:
    return page_of(results, NOW)


def tags(*numbers: int) -> list[Report]:
    report = example()
    return [evolve(report, destination=evolve(report.destination, tag=f"v{n}")) for n in numbers]


def words(element: ET.Element) -> str:
    return " ".join(" ".join(element.itertext()).split())


def classes(page: ET.Element, kind: str) -> list[ET.Element]:
    return [each for each in page.iter() if kind in each.get("class", "").split()]


def rows(page: str, kind: str = "*") -> list[list[str]]:
    """Read the table as texts."""
    return [[words(cell) for cell in row] for row in tree_of(page).iterfind(f".//tbody/{kind}")]


def facts(page: str) -> dict[str, str]:
    """Read the facts below the table."""
    return {words(pair[0]): words(pair[1]) for pair in tree_of(page).iterfind(".//dl/div")}


# The frame of the page


VARIABLE = re.compile(r"--([\w-]+): (#[0-9a-f]{6})")
FATES = ("added", "blue", "muted", "kept", "dropped", "excluded")
# Text, and the ground it is written on.
PAIRS = [
    *((text, ground) for text in ("text", "muted") for ground in ("page", "surface", "raised")),
    *((text, ground) for text in FATES for ground in ("surface", "raised")),
    *((text, "page") for text in ("added", "blue", "dropped")),
    *((text, "old-ground") for text in ("old", "text", "muted", "blue", "kept")),
    *((text, "failed-ground") for text in ("text", "dropped")),
]


def palettes() -> list[dict[str, str]]:
    """Read the light colours and the dark ones."""
    light, _, rest = STYLE.partition("@media (prefers-color-scheme: dark)")
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


def test_a_page_allows_nothing_but_its_own_style() -> None:
    page = tree_of(made(example()))

    policy = page.find("head/meta[@http-equiv='Content-Security-Policy']")
    assert policy is not None
    style = page.findtext("head/style", "")
    hashed = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.get("content") == (
        f"default-src 'none'; style-src 'sha256-{hashed}'; base-uri 'none'; form-action 'none'"
    )
    assert not any(each.get("style") or each.tag == "script" for each in page.iter())
    assert not re.search(r"url\(|@import|@font-face|<|&", STYLE)


@pytest.mark.parametrize(
    ("results", "title", "start"),
    [
        ([example()], "Merge: quay.io/org/app:stable", "Merge quay.io/org/app:stable"),
        ([*tags(1, 2), Failure("line 3", "no")], "Merge: 3 tags", "Merge 3 tags"),
        (
            [*tags(1, 2), example(error=TAKEN), *tags(3)],
            "Merge: 4 tags",
            "Merge 4 tags 4 changed 1 failed",
        ),
        ([Failure("quay.io/org/app:v1", "not found")], "Merge: 1 tag", "Merge 1 tag 1 failed"),
        ([], "Merge: 0 tags", "Merge 0 tags"),
    ],
)
def test_a_page_is_the_same_as_html_and_as_xml(
    results: Sequence[Report | Failure], title: str, start: str
) -> None:
    page = made(*results)

    found, text = read_as_html(page)

    assert (tree_of(page).get("lang"), tree_of(page).findtext("head/title")) == ("en", title)
    assert text_of(page).startswith(start)
    assert page.startswith("<!DOCTYPE html>")
    assert found == [element.tag for element in tree_of(page).iter()]
    assert text.endswith(text_of(page))
    assert "None" not in text


@pytest.mark.parametrize("complete", [True, False])
def test_a_page_says_when_it_was_made_and_whether_the_run_was_interrupted(complete: bool) -> None:
    east = datetime(2026, 1, 1, 1, 30, tzinfo=timezone(timedelta(hours=2)))

    text = text_of(page_of([example()], east, complete=complete))

    assert "Made by pubtools-mlmerge on 2025-12-31 23:30:00 UTC" in text
    assert ("Interrupted: the rest is missing here." in text) is not complete


# One merge


def test_a_page_of_one_merge_has_all_of_its_report() -> None:
    report = example()

    page = made(report)

    assert summary_of(report) in text_of(page)
    marks = [words(mark) for mark in classes(tree_of(page), "mark")][:8]
    assert marks == [
        *("changed", "old images", "+ 2 added", "\u21c4 1 replaced", "= 1 same"),
        *("\u2022 1 kept", "\u00d7 1 dropped", "\u2013 1 excluded"),
    ]
    listed = facts(page)
    assert listed["Source"] == "quay.io/org/app:1.1"
    assert (listed["Anchor tag"], listed["Time"]) == ("stable-1", "1.2 s")
    assert listed["Media type"] == report.media_type
    assert str(report.source_digest) in listed["Source digest"]
    assert str(report.previous_digest) in listed["Before"]
    assert report.digest in listed["After"]
    assert "Attempts" not in listed


def test_each_entry_is_a_row_with_full_digests() -> None:
    listed = rows(made(example()))

    old, new = digest("linux/amd64@old"), digest("linux/amd64@new")
    before, after = f"{old[7:19]} {old}", f"{new[7:19]} {new}"
    reason = "in both, the source wins"
    assert listed[0] == ["linux/amd64", before, after, "", "\u21c4 replaced", reason]
    assert [(row[0], row[2] == "", row[4]) for row in listed[-3:]] == [
        ("linux/s390x", False, "\u2022 kept"),
        ("windows/amd64", True, "\u00d7 dropped"),
        ("linux/ppc64le", True, "\u2013 excluded"),
    ]


def test_a_table_names_its_columns_and_rows_also_where_it_looks_like_cards() -> None:
    page = tree_of(made(example()))

    heads = [(th.text, th.get("scope")) for th in page.iterfind(".//thead//th")]
    names = ["Platform", "Before", "After", "Age", "Fate", "Reason"]
    assert heads == [(name, "col") for name in names]
    assert {th.get("scope") for th in page.iterfind(".//tbody//th")} == {"row"}
    labels = [td.get("data-label") for td in page.iterfind(".//tbody/tr[1]/td")]
    assert labels == names[1:]
    roles = {(each.tag, each.get("role")) for each in page.iterfind(".//table//*[@role]")}
    assert roles == {
        *(("thead", "rowgroup"), ("tbody", "rowgroup"), ("tr", "row"), ("td", "cell")),
        *(("th", "columnheader"), ("th", "rowheader")),
    }


def test_an_old_image_is_named_first_and_marked_in_the_table() -> None:
    page = made(example())

    callout = page.index("linux/s390x is 1095 days old")
    assert callout < page.index("<figure") < page.index("<table")
    ((name, *_, age, fate, reason),) = rows(page, "tr[@class='old']")
    assert (name, age, fate) == ("linux/s390x", "1095 days, made on 2023-03-02", "\u2022 kept")
    assert reason.endswith("older than 365 days")


def test_without_ages_there_is_no_column_of_them() -> None:
    page = made(report_of(NEW, OLD))

    heads = [head.text for head in tree_of(page).iterfind(".//thead//th")]
    assert heads == ["Platform", "Before", "After", "Fate", "Reason"]
    assert not classes(tree_of(page), "old")
    empty = tree_of(made(example(entries=())))
    assert (empty.find(".//figure"), empty.find(".//table")) == (None, None)


def test_an_age_that_is_unknown_is_said() -> None:
    report = example()
    unknown = [evolve(e, age=Age(problem="?"), is_stale=False) for e in report.entries[-3:]]

    listed = rows(made(evolve(report, entries=unknown)))

    assert [row[3] for row in listed] == ["unknown"] * 3


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"dry_run": True}, "A dry run: nothing was written."),
        ({"dry_run": True}, "would change"),
        ({"changed": False}, "unchanged"),
        ({"missing": ("riscv64", "s390")}, "Not found: riscv64, s390"),
        ({"attempts": 3}, "Attempts 3"),
        ({"previous_digest": None}, "Before absent"),
        ({"source_digest": "odd"}, "Source digest odd odd"),
        (
            {"sources": (SOURCE, STABLE), "source_digest": "odd"},
            f"Sources {SOURCE}, {STABLE} Digest of the first source odd odd",
        ),
        ({"source": None}, "Record Result Destination"),
    ],
)
def test_what_is_special_is_said(fields: dict[str, object], text: str) -> None:
    assert text in text_of(made(example(**fields)))


# The picture


def cards(report: Report, column: str) -> list[str]:
    return [words(card) for card in classes(tree_of(made(report)), column)]


def bands(report: Report) -> list[tuple[str, ...]]:
    """Read what each row of the picture shows: the classes of the row, then its bands."""
    lines = classes(tree_of(made(report)), "flow")[1:]
    return [
        (
            line.get("class", "").removeprefix("flow "),
            *(str(i.get("class")) for i in line.iter("i")),
        )
        for line in lines
    ]


def test_each_column_lists_what_is_in_it() -> None:
    report = example()

    assert cards(report, "source") == [
        *("Source", f"linux/amd64 {digest('linux/amd64@new')[7:19]}", "attestation"),
        f"linux/riscv64 {digest('linux/riscv64')[7:19]}",
        f"linux/arm64 {digest('linux/arm64')[7:19]}",
        "linux/ppc64le \u2013 excluded",
    ]
    assert cards(report, "result") == [
        *("Result", "linux/amd64 \u21c4 replaced", "attestation", "linux/riscv64 = same"),
        *("linux/arm64 + added", "linux/s390x \u2022 kept, 1095 days"),
    ]
    assert cards(report, "destination") == [
        *("Destination", f"linux/amd64 {digest('linux/amd64@old')[7:19]}"),
        f"linux/riscv64 {digest('linux/riscv64')[7:19]}",
        f"linux/s390x {digest('linux/s390x')[7:19]}",
        "windows/amd64 \u00d7 dropped",
    ]


def test_bands_connect_the_columns_of_each_fate() -> None:
    assert bands(example()) == [
        ("replaced", "first", "second"),
        ("added", "first"),
        ("same", "first", "second"),
        ("added", "first"),
        ("kept old", "second"),
        ("dropped", "second"),
        ("excluded", "first"),
    ]


def test_a_removal_has_two_columns_and_no_source() -> None:
    entries = example().entries[-3:-1]
    report = example(source=None, sources=(), source_digest=None, entries=entries)

    page = tree_of(made(report))

    assert classes(page, "two")
    assert not classes(page, "source")
    assert "Change quay.io/org/app:stable" in text_of(made(report))
    assert "Source" not in facts(made(report))


def test_what_has_no_platform_is_drawn() -> None:
    report = report_of(index("linux/amd64", entry(None), attestation("", seed="orphan")), OLD)

    assert [card.partition(" \u21c4")[0] for card in cards(report, "result")][1:4] == [
        *("linux/amd64", "no platform + added", "attestation"),
    ]


def test_an_attestation_stands_below_its_image() -> None:
    images = [f"linux/{name}" for name in ("amd64", "arm64")]
    report = report_of(index(*images, *(attestation(digest(name)) for name in images)), OLD)

    shown = [card.split()[0] for card in cards(report, "source")[1:]]
    assert shown == ["linux/amd64", "attestation", "linux/arm64", "attestation"]


# Several merges, and failures


def test_a_batch_is_counted_and_listed_in_order() -> None:
    page = made(*tags(1, 2), Failure("line 3", "not found\nat all"), example(changed=False))

    text = text_of(page)
    assert text.startswith("Merge 4 tags 2 changed 1 unchanged 1 failed line 3 not found at all")
    assert tree_of(page).findtext(".//pre") == "not found\nat all"
    assert "<bdi>quay.io/<wbr/>org/<wbr/>app<wbr/>:stable</bdi>" in page
    names = [words(bdi) for bdi in tree_of(page).iterfind(".//details/summary/bdi")]
    assert names == [f"quay.io/org/app:{tag}" for tag in ("v1", "v2", "stable")]
    assert len(tree_of(page).findall(".//figure")) == 3


def test_a_tag_that_was_written_without_its_anchor_tag_shows_both() -> None:
    alone, several = made(example(error=TAKEN)), made(*tags(1, 2, 3), example(error=TAKEN))

    assert text_of(alone).startswith("Merge quay.io/org/app:stable changed failed ")
    failed = [each for each in classes(tree_of(several), "merge") if each.get("open")]
    for shown in (*failed, tree_of(alone)):
        assert shown.findtext(".//pre") == str(TAKEN)
    assert len(failed) == 1


@pytest.mark.parametrize(("number", "is_open"), [(2, True), (3, True), (4, False)])
def test_a_few_merges_are_open(number: int, is_open: bool) -> None:
    page = tree_of(made(*tags(*range(number))))

    assert {each.get("open") == "open" for each in classes(page, "merge")} == {is_open}


def test_an_old_image_of_many_tags_is_named_once() -> None:
    page = tree_of(made(*tags(*range(10))))

    lines = ["".join(line.itertext()) for line in classes(page, "callout")[0].iter("li")]
    every_tag = ", ".join(f"quay.io/org/app:v{n}" for n in range(10))
    assert lines == [f"linux/s390x is 1095 days old, in {every_tag}"]


def test_a_page_grows_with_what_is_on_it() -> None:
    def page(number: int) -> str:
        images = [f"linux/cpu{n}" for n in range(number)]
        return made(report_of(index(*images, *(attestation(digest(i)) for i in images)), OLD))

    assert len(page(400)) / len(page(100)) < 4
    assert growth(page, 200) < 8


# Texts that nobody can break out with


def test_hostile_names_stay_text() -> None:
    report = report_of(NEW, index("linux/amd64@old", entry(f"linux/{BAD}"), entry(f"{BAD}/x")))

    bad = evolve(report, missing=(BAD,), anchor_tag=BAD, error=AnchorTaken(BAD, BAD))
    page = made(report, Failure(BAD, BAD), bad)

    found, text = read_as_html(page)
    assert "script" not in found
    assert "\u202e" not in text
    assert "<script>alert(1)</script>?yyy" in text
    assert found == [each.tag for each in tree_of(page).iter()]


def test_a_hostile_name_is_short_in_the_picture() -> None:
    report = report_of(index(entry(f"linux/{'x' * 5000}")), OLD)

    assert max(map(len, cards(report, "source"))) < 80


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a & b", "a & b"),
        ("&amp;", "&amp;"),
        ("\" onload='x'", "\" onload='x'"),
        ("</pre><p>", "</pre><p>"),
        ("]]>", "]]>"),
        ("<!--", "<!--"),
        ("{{ 1 + 1 }}{% raw %}", "{{ 1 + 1 }}{% raw %}"),
        ("\u00fc\U0001f600", "\u00fc\U0001f600"),
        ("a\nb", "a\nb"),
        ("\u202eabc", "?abc"),  # turns the direction of writing
        ("\u2066a\u2069", "?a?"),
        ("a\u200fb", "a?b"),
        ("\x00\x0b\x1b[31m", "???[31m"),
        ("a\tb\rc", "a?b?c"),
        ("\ud800\ufffe", "??"),  # half a character, as JSON may have it
        ("\ufeff", "?"),
    ],
)
def test_a_text_is_shown_and_does_nothing(text: str, shown: str, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    destination = evolve(example().destination, tag=text)

    write_page(path, [Failure("x", text), example(destination=destination)], NOW)

    page = tree_of(path.read_text(encoding="ascii"))
    assert page.findtext(".//pre") == shown
    figure = page.find(".//figure")
    assert figure is not None
    assert f"app:{' '.join(shown.splitlines())};" in figure.get("aria-label", "")


# How it is written: checked early, replaced as a whole


def write(path: Path, *results: Report) -> None:
    write_page(path, results, NOW)


def test_a_page_is_written_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "page.html"

    check_html(path)
    assert list(tmp_path.iterdir()) == []
    write(path, example())

    assert list(tmp_path.iterdir()) == [path]
    assert text_of(path.read_text(encoding="ascii")) == text_of(made(example()))


def test_a_page_is_for_whom_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write(tmp_path / "page.html")
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "page.html").stat().st_mode) == 0o640


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "page.html").symlink_to(tmp_path / "there" / "real.html")

    check_html(tmp_path / "page.html")
    write(tmp_path / "page.html")

    assert (tmp_path / "page.html").is_symlink()
    assert [each.name for each in (tmp_path / "there").iterdir()] == ["real.html"]


def test_a_pipe_stays_a_pipe_and_a_device_a_device(tmp_path: Path) -> None:
    pipe, device = tmp_path / "pipe", Path(os.devnull)
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()

    for path in (pipe, device):
        check_html(path)
        write(path)

    reader.join(10)
    assert b"0 tags" in read[0]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert stat.S_ISCHR(device.stat().st_mode)


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

    with pytest.raises(ValueError, match=f"^--html: .*: {problem}$"):
        check_html(tmp_path / name)


def test_what_is_there_stays_until_the_page_is_written(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("before", encoding="utf-8")

    check_html(path)
    with pytest.raises(TypeError):
        write(path, example(attempts=None))

    assert [each.name for each in tmp_path.iterdir()] == ["page.html"]
    assert path.read_text(encoding="utf-8") == "before"
    write(path)
    assert "0 tags" in path.read_text(encoding="utf-8")


def test_half_a_page_is_never_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)

    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "page.html")

    assert list(tmp_path.iterdir()) == []
