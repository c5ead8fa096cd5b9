"""The page of merges."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest
from attrs import evolve

from pubtools_mlmerge.core.plan import Age
from pubtools_mlmerge.reports.html import Failure, PageInfo, Result, merge_page
from pubtools_mlmerge.reports.report import summary_of
from tests.factories import digest, entry, index
from tests.paper import NEW, NOW, OLD, example, read_as_html, report_of, text_of, tree_of

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
