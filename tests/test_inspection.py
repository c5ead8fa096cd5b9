"""Inspections: what is listed, in order, and what is odd about it."""

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
    Difference,
    Inspection,
    compare,
    difference_to_json,
    difference_to_text,
    inspect,
    inspection_to_json,
    inspection_to_text,
    platform_text,
    rows_of,
)
from pubtools_mlmerge.reports.report import short
from tests.factories import attestation, digest, entry, index

# Inspections: what is listed, in order, and what is odd about it


AMD64, ARM64 = digest("linux/amd64"), digest("linux/arm64")
PROOF = attestation(AMD64, seed="proof")


def kinds(inspection: Inspection) -> list[tuple[str, str | None]]:
    return [(problem.kind, problem.digest) for problem in inspection.problems]


def of(*entries: str | dict[str, object]) -> Inspection:
    return inspect("app:1", index(*entries))


def test_attestations_stand_with_their_images() -> None:
    found = of(
        "linux/amd64", "linux/arm64", attestation(ARM64), PROOF, attestation(ARM64, seed="x")
    )

    amd64, arm64 = found.images
    assert (amd64.platform, arm64.platform) == ("linux/amd64", "linux/arm64")
    assert [a.digest for a in amd64.attestations] == [digest("proof")]
    assert [a.digest for a in arm64.attestations] == [
        digest(f"attestation of {ARM64}"),
        digest("x"),
    ]
    assert (found.attestation_count, found.orphans, found.problems) == (3, (), ())


def test_an_attestation_may_come_before_its_image() -> None:
    found = of(PROOF, "linux/amd64")

    assert [len(image.attestations) for image in found.images] == [1]
    assert found.problems == ()


@pytest.mark.parametrize("named", ["", digest("elsewhere")])
def test_an_attestation_without_its_image_is_an_orphan(named: str) -> None:
    found = of("linux/amd64", attestation(named, seed="orphan"))

    assert [orphan.digest for orphan in found.orphans] == [digest("orphan")]
    assert kinds(found) == [("orphan", digest("orphan"))]
    assert f"the attestation of {named or 'nothing'} has no image" in found.problems[0].message


def test_an_attestation_of_an_attestation_is_an_orphan() -> None:
    found = of("linux/amd64", PROOF, attestation(digest("proof"), seed="second"))

    assert kinds(found) == [("orphan", digest("second"))]


def test_two_images_in_one_slot_are_told() -> None:
    found = of("linux/arm64", entry("linux/arm64/v8", seed="again"), entry("linux/arm64", seed="3"))

    assert kinds(found) == [("duplicate", digest("again")), ("duplicate", digest("3"))]
    assert found.problems[0].message == f"linux/arm64 is listed before, as {ARM64}"
    assert found.odd == {digest("again"), digest("3")}


def test_one_image_listed_twice_has_its_attestations_once() -> None:
    found = of("linux/amd64", "linux/amd64", PROOF)

    assert [len(image.attestations) for image in found.images] == [1, 0]
    assert kinds(found) == [("duplicate", AMD64)]


@pytest.mark.parametrize("platform", [None, "unknown/unknown"])
def test_an_image_without_platform_is_told(platform: str | None) -> None:
    found = of("linux/amd64", entry(platform, seed="bare"), entry(platform, seed="other"))

    assert kinds(found) == [("no-platform", digest("bare")), ("no-platform", digest("other"))]
    assert found.images[1].platform is None


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
def test_docker_and_oci_together_are_told(
    types: tuple[str, ...], docker: bool, is_odd: bool
) -> None:
    found = inspect("app:1", mixed(*types, docker=docker))

    assert kinds(found) == ([("mixed-types", None)] if is_odd else [])


def test_what_is_missing_is_told_once() -> None:
    listed = index("linux/amd64", "linux/arm64", PROOF, PROOF)

    found = inspect("app:1", listed, missing=[ARM64, digest("proof"), digest("not listed")])

    assert kinds(found) == [("missing", ARM64), ("missing", digest("proof"))]
    assert found.problems[1].message == f"the attestation of {AMD64} is not in the repository"
    assert (found.is_checked, found.lacks_something) == (True, True)


def test_nothing_is_said_of_what_nobody_looked_for() -> None:
    listed = index("linux/amd64")

    assert (of("linux/amd64").is_checked, of("linux/amd64").lacks_something) == (False, False)
    checked = inspect("app:1", listed, missing=())
    assert (checked.is_checked, checked.lacks_something) == (True, False)


def test_ages_stand_with_their_images() -> None:
    found = inspect("app:1", index("linux/amd64", "linux/arm64", PROOF), {ARM64: Age(days=3)})

    assert [image.age for image in found.images] == [None, Age(days=3)]
    assert found.has_ages
    assert not of("linux/amd64").has_ages


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
            "windows/amd64 (10.0.17763)",
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


# Inspections as text for people and as JSON for programs


AMD64_INSPECTION_REPORT, S390X = digest("linux/amd64"), digest("linux/s390x")
PROOF_INSPECTION_REPORT, ORPHAN = (
    attestation(AMD64_INSPECTION_REPORT, seed="proof"),
    attestation("", seed="orphan"),
)
LISTED = index("linux/amd64", "linux/s390x", PROOF_INSPECTION_REPORT)
MADE = datetime(2021, 3, 4, tzinfo=timezone.utc)


def test_an_index_is_shown_as_a_tree() -> None:
    title, *tree, empty, summary = inspection_to_text(inspect("app:1", LISTED)).splitlines()

    assert title == f"app:1 {LISTED.digest} {OCI_INDEX}"
    assert tree == [
        f"|-- linux/amd64      {AMD64}  1.2 kB  OCI manifest",
        f"|   `-- attestation  {digest('proof')}  1.2 kB  OCI manifest",
        f"`-- linux/s390x      {S390X}  1.2 kB  OCI manifest",
    ]
    assert (empty, summary) == ("", "2 images, 1 attestation, manifests of 3.7 kB")


def test_what_follows_the_last_image_has_no_line_beside_it() -> None:
    second = attestation(AMD64_INSPECTION_REPORT, seed="second")

    _, *tree, _, _ = inspection_to_text(
        inspect("app:1", index("linux/amd64", PROOF_INSPECTION_REPORT, second))
    ).splitlines()

    assert [line[:12] for line in tree] == ["`-- linux/am", "    |-- atte", "    `-- atte"]


def test_problems_stand_at_the_entry_and_at_the_end() -> None:
    again = entry("linux/amd64", seed="again", media_type=DOCKER_MANIFEST)
    found = inspect("app:1", index("linux/amd64", again, ORPHAN), missing=[digest("again")])

    lines = inspection_to_text(found).splitlines()

    assert lines[2].endswith("  Docker manifest  ! duplicate, missing")
    assert lines[3].startswith("`-- attestation of nothing  ")
    assert lines[3].endswith("  ! orphan")
    assert [line.split(": ")[:2] for line in lines[-4:]] == [
        ["problem", kind] for kind in ("duplicate", "missing", "orphan", "mixed-types")
    ]
    assert lines[-3] == (
        f"problem: missing: linux/amd64 is not in the repository ({digest('again')})"
    )


@pytest.mark.parametrize(("missing", "said"), [((), True), ((AMD64_INSPECTION_REPORT,), False)])
def test_it_is_said_that_nothing_is_missing(missing: tuple[str, ...], said: bool) -> None:
    text = inspection_to_text(inspect("app:1", LISTED, missing=missing))

    assert ("manifests of 3.7 kB, all are in the repository" in text) == said


def test_an_old_image_catches_the_eye() -> None:
    ages = {AMD64_INSPECTION_REPORT: Age(MADE, 365), S390X: Age(MADE, 1127)}

    lines = inspection_to_text(inspect("app:1", LISTED, ages)).splitlines()

    assert lines[1].endswith("  365 days old (2021-03-04)")
    assert lines[2].endswith("  OCI manifest")
    assert lines[3].endswith("  1127 days old (2021-03-04)  ! old")
    assert [row.is_old for row in rows_of(inspect("app:1", LISTED, ages))] == [False, False, True]


def test_an_unknown_age_is_said_with_its_reason() -> None:
    ages = {AMD64_INSPECTION_REPORT: Age(problem="'\x1b[2J' is no date"), S390X: Age(MADE, 1)}

    lines = inspection_to_text(inspect("app:1", LISTED, ages)).splitlines()

    assert lines[1].endswith("  age unknown: '?[2J' is no date")
    assert lines[3].endswith("  1 day old (2021-03-04)")


def test_an_empty_index_has_no_tree() -> None:
    empty = index()

    assert inspection_to_text(inspect("app:1", empty)).splitlines() == [
        f"app:1 {empty.digest} {OCI_INDEX}",
        "",
        "0 images, 0 attestations, manifests of 0 B",
    ]


def test_what_a_registry_writes_cannot_draw_on_the_terminal() -> None:
    platform: dict[str, object] = {"os": "linux", "architecture": "a\x1b[31m\nb"}
    odd = entry(None, platform=platform, media_type="x\r\u2028y")

    text = inspection_to_text(inspect("app:1\x07", index(odd)))

    assert "linux/a?[31m?b" in text
    assert "x??y" in text
    assert all(c.isprintable() or c == "\n" for c in text)


def test_json_has_each_entry_in_order() -> None:
    text = inspection_to_json(inspect("app:1", LISTED))

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
            {"platform": "linux/amd64", "digest": AMD64_INSPECTION_REPORT, **common},
            {"platform": "linux/s390x", "digest": S390X, **common},
            {
                "platform": None,
                "digest": digest("proof"),
                **common,
                "attests": AMD64_INSPECTION_REPORT,
            },
        ],
        "problems": [],
    }


def test_json_has_problems() -> None:
    document = json.loads(inspection_to_json(inspect("app:1", LISTED, missing=[S390X])))

    assert document["checked"] is True
    assert document["problems"] == [
        {"kind": "missing", "digest": S390X, "message": "linux/s390x is not in the repository"}
    ]


def test_json_has_ages_of_images_if_they_were_asked() -> None:
    ages = {AMD64_INSPECTION_REPORT: Age(MADE, 1127), S390X: Age(problem="no date is stated")}

    first, second, third = json.loads(inspection_to_json(inspect("app:1", LISTED, ages)))["entries"]

    assert (first["created"], first["age_days"]) == ("2021-03-04T00:00:00Z", 1127)
    assert "age_problem" not in first
    assert (second["created"], second["age_days"]) == (None, None)
    assert second["age_problem"] == "no date is stated"
    assert "age_days" not in third


# Differences: what two indexes do not have in common


OLD, NEW = digest("linux/amd64@old"), digest("linux/amd64@new")
A = index("linux/amd64@old", "linux/arm64", "linux/s390x")
B = index("linux/amd64@new", "linux/arm64", "linux/riscv64", attestation(NEW, seed="proof"))


def of_difference(a: Index, b: Index) -> Difference:
    return compare(("app:a", "app:b"), (a, b))


def states(found: Difference) -> list[tuple[str | None, str, str]]:
    return [(slot.platform, slot.state, slot.note) for slot in found.slots]


def fields(found: Difference) -> list[tuple[str, object, object]]:
    return [(f.name, f.a, f.b) for f in found.fields]


def test_each_platform_is_the_same_or_not() -> None:
    found = of_difference(A, B)

    assert states(found) == [
        ("linux/amd64", "changed", ""),
        ("linux/arm64", "same", ""),
        ("linux/s390x", "only-a", ""),
        ("linux/riscv64", "only-b", ""),
    ]
    assert found.slots[0].digests == ((OLD,), (NEW,))
    assert found.slots[0].attestations == (0, 1)
    assert (fields(found), found.is_same) == ([], False)


def test_an_index_does_not_differ_from_itself() -> None:
    found = of_difference(B, B)

    assert {slot.state for slot in found.slots} == {"same"}
    assert (found.fields, found.is_same) == ((), True)


def test_platforms_go_by_their_usual_names() -> None:
    found = of_difference(
        index(entry("linux/arm64", seed="x")), index(entry("linux/aarch64/v8", seed="x"))
    )

    assert states(found) == [("linux/arm64", "same", "the same image, listed otherwise")]


def test_two_images_of_one_platform_are_compared_together() -> None:
    twice = index("linux/amd64@old", "linux/amd64@new")

    assert states(of_difference(twice, twice)) == [("linux/amd64", "same", "")]
    (slot,) = of_difference(twice, index("linux/amd64@new")).slots
    assert (slot.state, slot.digests) == ("changed", ((OLD, NEW), (NEW,)))


def test_images_without_platform_go_by_their_digest() -> None:
    found = of_difference(
        index(entry(None, seed="1")), index(entry(None, seed="2"), entry(None, seed="1"))
    )

    assert states(found) == [(None, "same", ""), (None, "only-b", "")]


def test_other_attestations_of_the_same_image_are_told() -> None:
    bare = index("linux/amd64@new")
    proven = index("linux/amd64@new", attestation(NEW, seed="proof"))

    assert states(of_difference(bare, proven)) == [("linux/amd64", "same", "other attestations")]


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (index(), index(docker=True), [("mediaType", OCI_INDEX, DOCKER_LIST)]),
        (index(), index(media_type_field=False), []),
        (index(annotations={"x": "1"}), index(), [("annotations.x", "1", None)]),
        (
            index(annotations={"x": "1", "y": "2"}),
            index(annotations={"x": "3", "y": "2"}),
            [("annotations.x", "1", "3")],
        ),
        (index(annotations=None), index(annotations={}), []),
        (index(), index(annotations=["odd"]), [("annotations", None, ["odd"])]),
        (index(), index(subject={"digest": "x"}), [("subject", None, {"digest": "x"})]),
    ],
)
def test_what_differs_of_the_indexes_themselves(
    a: Index, b: Index, expected: list[tuple[str, object, object]]
) -> None:
    assert fields(of_difference(a, b)) == expected


def test_text_is_a_table_with_a_summary() -> None:
    first, second, _, header, *rows, _, summary = difference_to_text(
        of_difference(A, B)
    ).splitlines()

    assert first == f"A: app:a {A.digest} {OCI_INDEX}"
    assert second == f"B: app:b {B.digest} {OCI_INDEX}"
    assert header.split() == ["PLATFORM", "A", "B", "STATE", "ATTESTATIONS", "NOTE"]
    assert rows[0].split() == ["linux/amd64", short(OLD), short(NEW), "changed", "0", "->", "1"]
    assert rows[2].split() == [
        "linux/s390x",
        short(digest("linux/s390x")),
        *["-", "only", "in", "A", "0"],
    ]
    assert summary == "1 changed, 1 only in A, 1 only in B, 1 same"


def test_text_has_what_differs_of_the_indexes_themselves() -> None:
    hostile = index("linux/amd64", annotations={"a\x1b[2J": "b\n" + "c" * 500})

    *_, line, summary = difference_to_text(
        of_difference(index("linux/amd64"), hostile)
    ).splitlines()

    assert line.startswith('annotations.a [2J: - -> "b\\nccc')
    assert line.isprintable()
    assert len(line) < 300
    assert summary == "1 same"


@pytest.mark.parametrize(
    ("a", "b", "summary"),
    [
        (A, A, "A and B are the same, byte for byte"),
        (
            index("linux/amd64", "linux/arm64"),
            index("linux/arm64", "linux/amd64"),
            "2 same; the order of the entries or the encoding differs",
        ),
        (index(), index(subject=1), "nothing is listed"),
        (index("linux/amd64"), index(entry("linux/amd64", x=1)), "1 same"),
    ],
)
def test_the_last_line_sums_up(a: Index, b: Index, summary: str) -> None:
    assert difference_to_text(of_difference(a, b)).splitlines()[-1] == summary


def test_json_has_each_platform() -> None:
    document = json.loads(
        difference_to_json(of_difference(A, index(*(e.fields for e in B.manifests), subject=None)))
    )

    assert document["a"] == {"reference": "app:a", "digest": A.digest, "media_type": OCI_INDEX}
    assert (document["b"]["reference"], document["same"]) == ("app:b", False)
    assert document["platforms"][0] == {
        "platform": "linux/amd64",
        "state": "changed",
        "a": [OLD],
        "b": [NEW],
        "attestations_a": 0,
        "attestations_b": 1,
        "note": "",
    }
    assert [slot["state"] for slot in document["platforms"][1:]] == ["same", "only-a", "only-b"]
    assert document["fields"] == []


def test_json_has_what_differs_of_the_indexes_themselves() -> None:
    document = json.loads(difference_to_json(of_difference(A, index(subject={"digest": "x"}))))

    assert document["fields"] == [{"name": "subject", "a": None, "b": {"digest": "x"}}]
