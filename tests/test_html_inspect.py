"""The page of an inspection."""

from __future__ import annotations

from datetime import datetime, timezone

from pubtools_mlmerge.core.manifests import Index
from pubtools_mlmerge.core.plan import Age
from pubtools_mlmerge.reports.html import Failure, PageInfo, inspection_page
from pubtools_mlmerge.reports.inspection import inspect
from tests.factories import attestation, digest, entry, index
from tests.paper import NOW, read_as_html, text_of, tree_of

AMD64 = digest("linux/amd64")
PLAIN = index("linux/amd64", "linux/s390x", attestation(AMD64, seed="proof"))


def page_of(listed: Index, *rest: object) -> str:
    found = inspect("quay.io/org/app:1", listed, *rest)  # type: ignore[arg-type]  # ages, missing
    return inspection_page([found], PageInfo(NOW))


def heads(page: str) -> list[str | None]:
    return [head.text for head in tree_of(page).iterfind(".//thead//th")]


def test_a_page_lists_images_with_their_attestations_below() -> None:
    page = page_of(PLAIN)

    names = ["".join(th.itertext()) for th in tree_of(page).iterfind(".//tbody//th")]
    assert names == ["linux/amd64", "attestation", "linux/s390x"]
    below = tree_of(page).findall(".//span[@class='below']")
    assert [each.text for each in below] == ["attestation"]
    assert heads(page) == ["Platform", "Digest", "Size", "Type", "Flags"]


def test_a_page_tells_what_is_known_of_the_index() -> None:
    text = text_of(page_of(PLAIN))

    for fact in (PLAIN.digest, PLAIN.media_type, "2 images", "1 attestation", AMD64, "1.2 kB"):
        assert fact in text
    assert "problem" not in text
    assert "Looked for all of them no" in text


def test_an_old_image_is_marked() -> None:
    made = datetime(2023, 3, 2, tzinfo=timezone.utc)

    page = page_of(PLAIN, {digest("linux/s390x"): Age(made, 1095)})

    assert heads(page)[4] == "Age"
    (row,) = tree_of(page).iterfind(".//tr[@class='old']")
    assert "linux/s390x" in "".join(row.itertext())
    assert "1095 days old (2023-03-02)" in "".join(row.itertext())
    assert "old parts" in text_of(page)


def test_what_is_odd_is_listed_and_flagged() -> None:
    odd = index("linux/amd64", entry("linux/amd64", seed="twin"), attestation("sha256:0"))

    page = page_of(odd, None, [AMD64])

    text = text_of(page)
    assert "Worth a look" in text
    assert "3 problems" in text
    assert "is not in the repository" in text
    flags = [each.text for each in tree_of(page).iterfind(".//strong[@class='flags']")]
    assert flags == ["! missing", "! duplicate", "! orphan"]


def test_it_is_good_news_that_nothing_is_missing() -> None:
    text = text_of(page_of(PLAIN, None, []))

    assert "All that is listed is in the repository." in text
    assert "Looked for all of them yes" in text


def test_a_failure_is_a_page_too() -> None:
    page = inspection_page([Failure("quay.io/org/app:1", "not found")], PageInfo(NOW))

    assert "quay.io/org/app:1 failed Failures quay.io/org/app:1 not found" in text_of(page)


def test_hostile_names_stay_text() -> None:
    bad = "<script>alert(1)</script>\u202e"

    found, text = read_as_html(page_of(index(entry(f"linux/{bad}"), entry(f"linux/{bad}"))))

    assert "script" not in found
    assert "\u202e" not in text
    assert "linux/<script>" in text
