"""Reports as text for people and as JSON for programs."""

from __future__ import annotations

import json

import pytest
from attrs import evolve

from pubtools_mlmerge.core.manifests import OCI_INDEX, Index, platform_name
from pubtools_mlmerge.core.merge import merge, remove
from pubtools_mlmerge.core.plan import Plan, Policy, Report
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.reports.report import short, table, to_json, to_text
from tests.factories import attestation, digest, entry, index
from tests.paper import example

SOURCE = Reference("quay.io", "org/app", tag="new")
STABLE = Reference("quay.io", "org/app", tag="stable")
OLD = index("linux/amd64@old", "linux/s390x")
NEW = index("linux/amd64@new", attestation(digest("linux/amd64@new"), seed="proof"))


def report(plan: Plan[Index], **fields: object) -> Report:
    found: dict[str, object] = {
        "source": SOURCE,
        "source_digest": NEW.digest,
        "previous_digest": OLD.digest,
        "dry_run": False,
        **fields,
    }
    return Report(
        destination=STABLE,
        digest=plan.result.digest,
        media_type=plan.result.media_type,
        changed=plan.changed,
        entries=plan.entries,
        missing=plan.missing,
        **found,  # type: ignore[arg-type]  # each has the type of its field
    )


def test_json_has_every_key_in_one_line() -> None:
    plan = merge(NEW, OLD)

    text = to_json(report(plan, requests=3, seconds=0.123456, anchor_tag="kept"))

    assert "\n" not in text
    found = json.loads(text)
    entries = found.pop("entries")
    assert found == {
        "schema": 1,
        "source": "quay.io/org/app:new",
        "destination": "quay.io/org/app:stable",
        "source_digest": NEW.digest,
        "previous_digest": OLD.digest,
        "digest": plan.result.digest,
        "media_type": OCI_INDEX,
        "changed": True,
        "dry_run": False,
        "anchor_tag": "kept",
        "attempts": 1,
        "requests": 3,
        "seconds": 0.123,
    }
    assert [entry["fate"] for entry in entries] == ["replaced", "added", "kept"]


def test_json_tells_what_became_of_each_entry() -> None:
    first, second, _ = json.loads(to_json(report(merge(NEW, OLD))))["entries"]

    assert first == {
        "platform": "linux/amd64",
        "digest": digest("linux/amd64@new"),
        "fate": "replaced",
        "previous_digest": digest("linux/amd64@old"),
        "reason": "the source has a newer one",
    }
    assert second == {
        "platform": None,
        "digest": digest("proof"),
        "fate": "added",
        "previous_digest": None,
        "reason": "only the source has it",
        "attests": digest("linux/amd64@new"),
    }


def test_json_has_null_for_what_there_is_not() -> None:
    plan = remove(OLD, ["s390x"])

    found = json.loads(to_json(report(plan, source=None, source_digest=None, previous_digest=None)))

    keys = ("source", "source_digest", "previous_digest", "anchor_tag")
    assert [found[key] for key in keys] == [None] * 4


def test_text_shows_before_and_after() -> None:
    text = to_text(report(merge(NEW, OLD)))

    rows = [line.split("  ") for line in text.splitlines()]
    cells = [[cell.strip() for cell in row if cell] for row in rows]
    old, new = short(digest("linux/amd64@old")), short(digest("linux/amd64@new"))
    kept = short(digest("linux/s390x"))
    assert cells[:4] == [
        ["PLATFORM", "BEFORE", "AFTER", "FATE", "REASON"],
        ["linux/amd64", old, new, "replaced", "the source has a newer one"],
        [f"attestation of {new}", "-", short(digest("proof")), "added", "only the source has it"],
        ["linux/s390x", kept, kept, "kept", "only the destination has it"],
    ]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "is now {digest} (was {old}): 1 added, 1 replaced, 1 kept"),
        ({"dry_run": True}, "would become {digest} (was {old}): 1 added, 1 replaced, 1 kept"),
        ({"previous_digest": None}, "is now {digest} (was absent): 1 added, 1 replaced, 1 kept"),
        (
            {"anchor_tag": "kept"},
            "is now {digest} (was {old}): 1 added, 1 replaced, 1 kept, anchor tag kept",
        ),
    ],
)
def test_the_last_line_sums_up(fields: dict[str, object], expected: str) -> None:
    plan = merge(NEW, OLD)

    *_, empty, last = to_text(report(plan, **fields)).splitlines()

    summary = expected.format(digest=plan.result.digest, old=short(OLD.digest))
    assert (empty, last) == ("", f"{STABLE} {summary}")


def test_nothing_to_do_is_said() -> None:
    text = to_text(report(merge(OLD, OLD)))

    assert text.endswith(f"\n\n{STABLE}: nothing to do, it stays {OLD.digest}")


def test_what_is_gone_has_nothing_after() -> None:
    plan = merge(NEW, OLD, Policy(eligible=["riscv64"], drop=["s390x"]))

    rows = to_text(report(plan)).splitlines()

    dropped = next(row for row in rows if " dropped " in row).split()
    excluded = next(row for row in rows if " excluded " in row).split()
    assert dropped[:3] == ["linux/s390x", short(digest("linux/s390x")), "-"]
    assert excluded[:3] == ["linux/amd64", "-", "-"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linux/arm", "linux/arm/v7"),
        ("linux/x86_64", "linux/amd64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("unknown/unknown", None),
        (None, None),
    ],
)
def test_platforms_go_by_their_usual_names(text: str | None, expected: str | None) -> None:
    assert platform_name(index(entry(text)).manifests[0]) == expected


def test_what_a_registry_writes_cannot_draw_on_the_terminal() -> None:
    odd = entry(None, platform={"os": "linux", "architecture": "a\x1b[31m\n\u2028b"})

    text = to_text(report(merge(index(odd), OLD)))

    assert text.count("linux/a?[31m??b") == 1
    assert all(c.isprintable() or c == "\n" for c in text)


def test_columns_are_aligned_and_lines_end_without_spaces() -> None:
    assert table(("A", "B"), [("long", "x"), ("", "")]) == ["A     B", "long  x", ""]


def test_fates_are_counted_in_one_order() -> None:
    counted = evolve(example(), entries=reversed(example().entries)).counts

    assert list(counted.items()) == [
        *(("added", 2), ("replaced", 1), ("same", 1)),
        *(("kept", 1), ("dropped", 1), ("excluded", 1)),
    ]
    assert evolve(example(), entries=()).counts == {}
