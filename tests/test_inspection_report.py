"""Inspections as text for people and as JSON for programs."""

from __future__ import annotations

import json
from datetime import datetime, timezone

import pytest

from pubtools_mlmerge.core.manifests import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from pubtools_mlmerge.core.plan import Age
from pubtools_mlmerge.reports.inspection import (
    inspect,
    inspection_to_json,
    inspection_to_text,
    rows_of,
)
from tests.factories import attestation, digest, entry, index

AMD64, S390X = digest("linux/amd64"), digest("linux/s390x")
PROOF, ORPHAN = attestation(AMD64, seed="proof"), attestation("", seed="orphan")
LISTED = index("linux/amd64", "linux/s390x", PROOF)
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
    second = attestation(AMD64, seed="second")

    _, *tree, _, _ = inspection_to_text(
        inspect("app:1", index("linux/amd64", PROOF, second))
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


@pytest.mark.parametrize(("missing", "said"), [((), True), ((AMD64,), False)])
def test_it_is_said_that_nothing_is_missing(missing: tuple[str, ...], said: bool) -> None:
    text = inspection_to_text(inspect("app:1", LISTED, missing=missing))

    assert ("manifests of 3.7 kB, all are in the repository" in text) == said


def test_an_old_image_catches_the_eye() -> None:
    ages = {AMD64: Age(MADE, 365), S390X: Age(MADE, 1127)}

    lines = inspection_to_text(inspect("app:1", LISTED, ages)).splitlines()

    assert lines[1].endswith("  365 days old (2021-03-04)")
    assert lines[2].endswith("  OCI manifest")
    assert lines[3].endswith("  1127 days old (2021-03-04)  ! old")
    assert [row.is_old for row in rows_of(inspect("app:1", LISTED, ages))] == [False, False, True]


def test_an_unknown_age_is_said_with_its_reason() -> None:
    ages = {AMD64: Age(problem="'\x1b[2J' is no date"), S390X: Age(MADE, 1)}

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
            {"platform": "linux/amd64", "digest": AMD64, **common},
            {"platform": "linux/s390x", "digest": S390X, **common},
            {"platform": None, "digest": digest("proof"), **common, "attests": AMD64},
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
    ages = {AMD64: Age(MADE, 1127), S390X: Age(problem="no date is stated")}

    first, second, third = json.loads(inspection_to_json(inspect("app:1", LISTED, ages)))["entries"]

    assert (first["created"], first["age_days"]) == ("2021-03-04T00:00:00Z", 1127)
    assert "age_problem" not in first
    assert (second["created"], second["age_days"]) == (None, None)
    assert second["age_problem"] == "no date is stated"
    assert "age_days" not in third
