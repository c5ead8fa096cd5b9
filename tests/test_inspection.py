"""Inspections: what an index lists, in order, and what is odd about it; and comparisons."""

from __future__ import annotations

import json
from datetime import datetime, timezone

import pytest
from attrs import evolve

from pubtools_mlmerge.core.manifests import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    Index,
)
from pubtools_mlmerge.core.plan import Age
from pubtools_mlmerge.reports.inspection import (
    Inspection,
    compare,
    inspection_sheet,
    inspection_to_json,
    platform_text,
)
from pubtools_mlmerge.reports.report import Sheet, short
from tests.factories import attestation, digest, entry, index

AMD64, ARM64, S390X = tuple(digest(f"linux/{name}") for name in ("amd64", "arm64", "s390x"))
PROOF = attestation(AMD64, seed="proof")


def kinds(inspection: Inspection) -> list[tuple[str, str | None]]:
    return [(problem.kind, problem.digest) for problem in inspection.problems]


def of(*entries: str | dict[str, object]) -> Inspection:
    return Inspection("app:1", index(*entries))


def tree(inspection: Inspection) -> list[tuple[str, str]]:
    """List what is shown of each entry: its branch and name, and its digest."""
    return [(row.branch + row.cells[0], row.cells[1]) for row in inspection_sheet(inspection).rows]


def test_attestations_stand_with_their_images() -> None:
    more = attestation(ARM64, seed="x")
    found = of(PROOF, "linux/amd64", "linux/arm64", attestation(ARM64), more)

    assert tree(found) == [
        ("|-- linux/amd64", AMD64),
        ("|   `-- attestation", digest("proof")),
        ("`-- linux/arm64", ARM64),
        ("    |-- attestation", digest(f"attestation of {ARM64}")),
        ("    `-- attestation", digest("x")),
    ]
    assert found.problems == ()


@pytest.mark.parametrize("named", ["", digest("elsewhere"), digest("proof")])
def test_an_attestation_without_its_image_is_an_orphan(named: str) -> None:
    found = of("linux/amd64", PROOF, attestation(named, seed="orphan"))

    assert tree(found)[-1] == (f"`-- attestation of {short(named) or 'nothing'}", digest("orphan"))
    assert kinds(found) == [("orphan", digest("orphan"))]
    assert f"the attestation of {named or 'nothing'} has no image" in found.problems[0].message


def test_two_images_in_one_slot_are_reported() -> None:
    found = of("linux/arm64", entry("linux/arm64/v8", seed="again"), entry("linux/arm64", seed="3"))

    assert kinds(found) == [("duplicate", digest("again")), ("duplicate", digest("3"))]
    assert found.problems[0].message == f"linux/arm64 is listed before, as {ARM64}"


def test_one_image_listed_twice_has_its_attestations_once() -> None:
    found = of("linux/amd64", "linux/amd64", PROOF)

    names = ["|-- linux/amd64", "|   `-- attestation", "`-- linux/amd64"]
    assert [name for name, _ in tree(found)] == names
    assert kinds(found) == [("duplicate", AMD64)]


@pytest.mark.parametrize("platform", [None, "unknown/unknown"])
def test_an_image_without_platform_is_reported(platform: str | None) -> None:
    found = of("linux/amd64", entry(platform, seed="bare"), entry(platform, seed="other"))

    assert kinds(found) == [("no-platform", digest("bare")), ("no-platform", digest("other"))]
    assert tree(found)[1] == ("|-- no platform", digest("bare"))


def mixed(*types: str, docker: bool) -> Index:
    entries = [entry(f"linux/{n}", media_type=t) for n, t in zip("abc", types)]
    return index(*entries, docker=docker)


@pytest.mark.parametrize(
    ("types", "docker", "is_odd"),
    [
        ((DOCKER_MANIFEST, OCI_MANIFEST), False, True),
        ((DOCKER_MANIFEST, OCI_MANIFEST), True, True),
        ((OCI_MANIFEST,), True, True),
        (("application/x",), True, True),
        ((DOCKER_MANIFEST, DOCKER_LIST), True, False),
        ((DOCKER_MANIFEST,), False, False),
        ((OCI_MANIFEST, "application/x"), False, False),
        ((), True, False),
    ],
)
def test_docker_and_oci_together_are_reported(
    types: tuple[str, ...], docker: bool, is_odd: bool
) -> None:
    found = Inspection("app:1", mixed(*types, docker=docker))

    assert kinds(found) == ([("mixed-types", None)] if is_odd else [])


def test_what_is_missing_is_reported_once() -> None:
    listed = index("linux/amd64", "linux/arm64", PROOF, PROOF)

    found = Inspection("app:1", listed, missing=[ARM64, digest("proof"), digest("not listed")])

    assert kinds(found) == [("missing", ARM64), ("missing", digest("proof"))]
    assert found.problems[1].message == f"the attestation of {AMD64} is not in the repository"
    assert found.lacks_something


def test_each_manifest_counts_once_to_the_size() -> None:
    found = of("linux/amd64", "linux/amd64", entry("linux/arm64", size=1000), PROOF)

    assert found.size == 1234 + 1000 + 1234


def test_a_message_is_one_line_whatever_a_registry_wrote() -> None:
    odd: dict[str, object] = {"os": "linux", "architecture": "a\x1b[2J\n" + "b" * 500}
    found = of(entry(None, seed="1", platform=odd), entry(None, seed="2", platform=odd))

    (problem,) = found.problems
    assert problem.message.isprintable()
    assert len(problem.message) < 400


@pytest.mark.parametrize(
    ("platform", "expected"),
    [
        ({"os": "linux", "architecture": "x86_64"}, "linux/amd64"),
        (
            {"os": "windows", "architecture": "amd64", "os.version": "10.0.17763.1"},
            "windows/amd64 (10.0.17763.1)",
        ),
        (
            {"os": "linux", "architecture": "amd64", "os.features": ["b", "a"]},
            "linux/amd64 (a, b)",
        ),
    ],
)
def test_a_platform_has_all_that_tells_it_from_others(
    platform: dict[str, object], expected: str
) -> None:
    (found,) = index(entry(None, platform=platform)).manifests

    assert platform_text(found) == expected
    assert platform_text(evolve(found, slot=None)) is None


# Text and JSON

ORPHAN = attestation("", seed="orphan")
LISTED = index("linux/amd64", "linux/s390x", PROOF)
MADE = datetime(2021, 3, 4, tzinfo=timezone.utc)


def test_an_index_is_shown_as_a_tree() -> None:
    title, *tree, empty, summary = inspection_sheet(Inspection("app:1", LISTED)).text.splitlines()

    assert title == f"app:1 {LISTED.digest} {OCI_INDEX}"
    assert tree == [
        f"|-- linux/amd64      {AMD64}  1.2 kB  OCI manifest",
        f"|   `-- attestation  {digest('proof')}  1.2 kB  OCI manifest",
        f"`-- linux/s390x      {S390X}  1.2 kB  OCI manifest",
    ]
    assert (empty, summary) == ("", "2 images, 1 attestation, manifests of 3.7 kB")


def test_problems_stand_at_the_entry_and_at_the_end() -> None:
    again = entry("linux/amd64", seed="again", media_type=DOCKER_MANIFEST)
    found = Inspection("app:1", index("linux/amd64", again, ORPHAN), missing=[digest("again")])

    lines = inspection_sheet(found).text.splitlines()

    assert lines[2].endswith("  Docker manifest  ! duplicate, missing")
    assert lines[3].startswith("`-- attestation of nothing  ")
    assert lines[3].endswith("  ! orphan")
    assert [line.split(": ")[:2] for line in lines[-4:]] == [
        ["problem", kind] for kind in ("duplicate", "missing", "orphan", "mixed-types")
    ]
    assert lines[-3] == (
        f"problem: missing: linux/amd64 is not in the repository ({digest('again')})"
    )


@pytest.mark.parametrize(("missing", "said"), [((), True), ((AMD64,), False)])
def test_it_is_said_that_nothing_is_missing(missing: tuple[str, ...], said: bool) -> None:
    text = inspection_sheet(Inspection("app:1", LISTED, missing=missing)).text

    assert ("manifests of 3.7 kB, all are in the repository" in text) == said


def test_an_old_image_catches_the_eye() -> None:
    ages = {AMD64: Age(MADE, 365), S390X: Age(MADE, 1127)}

    sheet = inspection_sheet(Inspection("app:1", LISTED, ages))

    lines = sheet.text.splitlines()
    assert lines[1].endswith("  365 days old (2021-03-04)")
    assert lines[2].endswith("  OCI manifest")
    assert lines[3].endswith("  1127 days old (2021-03-04)  ! old")
    assert [row.is_alarming for row in sheet.rows] == [False, False, True]


def test_an_unknown_age_is_said_with_its_reason() -> None:
    ages = {AMD64: Age(problem="'\x1b[2J' is no date"), S390X: Age(MADE, 1)}

    lines = inspection_sheet(Inspection("app:1", LISTED, ages)).text.splitlines()

    assert lines[1].endswith("  age unknown: '?[2J' is no date")
    assert lines[3].endswith("  1 day old (2021-03-04)")


def test_json_has_each_entry_in_order() -> None:
    text = inspection_to_json(Inspection("app:1", LISTED))

    common = {"size": 1234, "media_type": OCI_MANIFEST}
    assert "\n" not in text
    assert json.loads(text) == {
        "schema": 1,
        "reference": "app:1",
        "digest": LISTED.digest,
        "media_type": OCI_INDEX,
        "size": 3702,
        "checked": False,
        "entries": [
            {"platform": "linux/amd64", "digest": AMD64, **common},
            {"platform": "linux/s390x", "digest": S390X, **common},
            {
                "platform": None,
                "digest": digest("proof"),
                **common,
                "attests": AMD64,
            },
        ],
        "problems": [],
    }


def test_json_has_problems_and_ages_if_they_were_asked() -> None:
    ages = {AMD64: Age(MADE, 1127), S390X: Age(problem="no date is stated")}
    ages[digest("proof")] = Age(MADE, 1)  # of what is no image here

    document = json.loads(inspection_to_json(Inspection("app:1", LISTED, ages, missing=[S390X])))

    assert document["checked"] is True
    assert document["problems"] == [
        {"kind": "missing", "digest": S390X, "message": "linux/s390x is not in the repository"}
    ]
    first, second, third = document["entries"]
    assert (first["created"], first["age_days"]) == ("2021-03-04T00:00:00Z", 1127)
    assert "age_problem" not in first
    assert (second["created"], second["age_days"]) == (None, None)
    assert second["age_problem"] == "no date is stated"
    assert "age_days" not in third


# Comparisons

OLD, NEW = digest("linux/amd64@old"), digest("linux/amd64@new")
A = index("linux/amd64@new", "linux/arm64", "linux/riscv64", attestation(NEW, seed="proof"))
B = index("linux/amd64@old", "linux/arm64", "linux/s390x", attestation(OLD, seed="old proof"))


def comparison(a: Index, b: Index, *, every: bool = False) -> Sheet:
    return compare(Inspection("app:a", a), Inspection("app:b", b), every=every)


def rows(a: Index, b: Index, *, every: bool = False) -> list[tuple[str, ...]]:
    return [row.cells for row in comparison(a, b, every=every).rows]


def test_entries_are_paired_as_a_merge_of_a_into_b_does() -> None:
    assert rows(A, B, every=True) == [
        ("linux/amd64", short(NEW), short(OLD), "different"),
        ("linux/arm64", short(ARM64), short(ARM64), "same"),
        ("linux/riscv64", short(digest("linux/riscv64")), "-", "only in A"),
        (f"attestation of {short(NEW)}", short(digest("proof")), "-", "only in A"),
        ("linux/s390x", "-", short(S390X), "only in B"),
        (f"attestation of {short(OLD)}", "-", short(digest("old proof")), "only in B"),
    ]


def test_attestations_are_marks_on_the_rows_of_their_images() -> None:
    assert rows(A, B) == [
        ("linux/amd64 +1 -1 attestations", short(NEW), short(OLD), "different"),
        ("linux/arm64", short(ARM64), short(ARM64), "same"),
        ("linux/riscv64", short(digest("linux/riscv64")), "-", "only in A"),
        ("linux/s390x", "-", short(S390X), "only in B"),
    ]


def test_an_attestation_that_one_side_lacks_is_seen_on_the_row_of_an_image_of_both() -> None:
    without, one = index("linux/arm64"), index("linux/arm64", attestation(ARM64))

    (on_a,), (on_b,), (on_both,) = rows(one, without), rows(without, one), rows(one, one)

    assert (on_a[0], on_a[-1]) == ("linux/arm64 +1 attestation", "same, attestations differ")
    assert (on_b[0], on_b[-1]) == ("linux/arm64 -1 attestation", "same, attestations differ")
    assert (on_both[0], on_both[-1]) == ("linux/arm64 +1 attestation", "same")
    assert [row[-1] for row in rows(one, without, every=True)] == ["same", "only in A"]


def test_platforms_are_compared_by_their_normalised_names() -> None:
    (row,) = rows(index(entry("linux/arm64", seed="x")), index(entry("linux/aarch64/v8", seed="x")))

    assert row[-1] == "same"


def test_a_comparison_is_a_table_with_a_summary() -> None:
    first, second, _, header, *lines, _, summary = comparison(A, B).text.splitlines()

    assert first == f"A: app:a {A.digest} {OCI_INDEX}"
    assert second == f"B: app:b {B.digest} {OCI_INDEX}"
    assert header.split() == ["PLATFORM", "A", "B", "STATE"]
    mark = ["+1", "-1", "attestations"]
    assert lines[0].split() == ["linux/amd64", *mark, short(NEW), short(OLD), "different"]
    assert summary == "1 different, 2 only in A, 2 only in B, 1 same"


@pytest.mark.parametrize(
    ("a", "b", "summary"),
    [
        (A, A, "A and B are the same, byte for byte"),
        (
            index("linux/amd64", "linux/arm64"),
            index("linux/arm64", "linux/amd64"),
            "2 same, but their order or other fields differ",
        ),
        (index(), index(subject=1), "nothing is listed, but their order or other fields differ"),
        (
            index("linux/amd64", annotations={"x": "1"}),
            index("linux/arm64"),
            "1 only in A, 1 only in B",
        ),
    ],
)
def test_the_last_line_sums_up(a: Index, b: Index, summary: str) -> None:
    assert comparison(a, b).closing == (summary,)


def test_a_nested_index_is_shown_as_one_with_what_it_lists() -> None:
    stated = entry("linux/amd64", seed="nested", media_type=OCI_INDEX)
    whole = index(stated, "linux/arm64")
    listed = frozenset((e.digest, e.slot) for e in index("linux/amd64").manifests)
    read = evolve(whole.manifests[0], listed=listed)

    unread, found = (
        Inspection("app:1", each)
        for each in (whole, evolve(whole, manifests=[read, *whole.manifests[1:]]))
    )

    assert [name for name, _ in tree(unread)] == ["|-- index", "`-- linux/arm64"]
    assert tree(found)[0][0] == "|-- index of linux/amd64"
    assert unread.problems == found.problems == ()
    document = json.loads(inspection_to_json(found))
    assert document["entries"][0]["platform"] is None
    assert document["entries"][0]["platforms"] == ["linux/amd64"]
