"""What the programs print on a real registry, and that it fits the schemas."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from pubtools_mlmerge.reports.report import inspection_schema, report_schema
from pubtools_mlmerge.testing import make_attestation, make_image, make_index
from tests.e2e.conftest import Shelf, images
from tests.peers import OCI_INDEX
from tests.programs import Done, run_here

OLD = images("linux/amd64", "linux/arm/v7", "linux/s390x", seed="old")
NEW = images("linux/amd64", "linux/arm64", seed="new")
ORPHAN = make_attestation(make_image("linux/riscv64"))
STABLE = make_index([*OLD, make_attestation(OLD[2]), ORPHAN])
VALIDATOR = Draft202012Validator(report_schema())


@pytest.fixture
def filled(shelf: Shelf) -> Shelf:
    shelf.hold(stable=STABLE, new=[*NEW, make_attestation(NEW[0])])
    return shelf


def reports_of(done: Done) -> list[dict[str, object]]:
    """Return the reports, which fit."""
    for report in done.reports:
        VALIDATOR.validate(report)
    return done.reports


def test_json_is_one_object_on_one_line_and_logs_go_to_standard_error(filled: Shelf) -> None:
    done = filled.merge("--anchor-tag", "{tag}-{digest}")

    assert done.err.startswith("INFO: Uploaded sha256:")
    line, end = done.out.split("\n")
    report = json.loads(line)
    held = filled.get("stable")
    entries, seconds = report.pop("entries"), report.pop("seconds")
    assert (end, 0 < seconds < 60) == ("", True)
    assert report == {
        "schema": 1,
        "source": filled.ref("new"),
        "sources": [filled.ref("new")],
        "destination": filled.ref("stable"),
        "source_digest": filled.get("new").digest,
        "previous_digest": STABLE.digest,
        "digest": held.digest,
        "media_type": OCI_INDEX,
        "changed": True,
        "dry_run": False,
        "destination_state": "present",
        "anchor_tag": f"stable-{held.digest[7:19]}",
        "error": None,
        "attempts": 1,
    }
    assert [entry["digest"] for entry in entries[:-1]] == held.digests
    assert entries[0] == {
        "platform": "linux/amd64",
        "digest": NEW[0].digest,
        "fate": "replaced",
        "previous_digest": OLD[0].digest,
        "reason": "in both, the source wins",
    }
    assert (entries[2]["platform"], entries[2]["attests"]) == (None, NEW[0].digest)


def test_a_table_and_a_summary_tell_what_became_of_each_platform(filled: Shelf) -> None:
    done = filled.merge("--output", "text")

    *table, empty, summary = done.out.splitlines()
    rows = [line.replace(" +1 attestation", "").split()[:4] for line in table]
    old, new = ([image.digest[7:19] for image in each] for each in (OLD, NEW))
    assert rows[:4] == [
        ["PLATFORM", "BEFORE", "AFTER", "FATE"],
        ["linux/amd64", old[0], new[0], "replaced"],
        ["linux/arm64", "-", new[1], "added"],
        ["linux/arm/v7", old[1], old[1], "kept"],
    ]
    assert "linux/amd64 +1 attestation" in table[1]
    changed = f"is now {filled.get('stable').digest} (was {STABLE.digest[7:19]}): "
    counts = "2 added, 1 replaced, 3 kept, 1 dropped"
    assert (empty, summary) == ("", f"{filled.ref('stable')} {changed}{counts}")


@pytest.mark.parametrize(
    "options",
    [
        ("--dry-run",),
        ("--ages",),
        ("--max-age-days", "1", "--stale", "drop"),
        ("--anchor-tag", "{tag}-{timestamp}"),
        ("--arch", "arm64,riscv64", "--drop", "s390x"),
        ("--match", "architecture", "--no-verify"),
    ],
)
def test_the_report_of_a_merge_fits(filled: Shelf, options: tuple[str, ...]) -> None:
    done = filled.merge(*options)

    (report,) = reports_of(done)
    assert report["changed"]
    assert "dropped" in {entry["fate"] for entry in done.entries}  # the orphan, at least


def test_whatever_changes_a_tag_has_a_report_that_fits(filled: Shelf, tmp_path: Path) -> None:
    json_of = ("--output", "json")
    filled.hold(single=OLD[0])

    (copied,), (again,) = (reports_of(filled.merge(to="fresh")) for _ in range(2))
    filled.merge("--audit", str(tmp_path))
    (record,) = tmp_path.iterdir()
    restores = [run_here("restore", str(record), *json_of, *o) for o in (("--dry-run",), ())]
    removal = run_here("remove-archs", "--ref", filled.ref("stable"), "--arch", "arm", *json_of)
    filled.hold(new=NEW[0])
    (single,) = reports_of(filled.merge(to="single"))

    assert (copied["previous_digest"], copied["changed"], again["changed"]) == (None, True, False)
    others = [report for done in (*restores, removal) for report in reports_of(done)]
    assert [(report["source"], report["changed"]) for report in others] == [(None, True)] * 3
    assert single["media_type"] == NEW[0].media_type


def test_a_batch_has_reports_without_the_lines_that_fail(filled: Shelf, tmp_path: Path) -> None:
    lines = [
        {"source_ref": filled.ref(source), "dest_ref": filled.ref(tag)}
        for source, tag in (("new", "stable"), ("absent", "one"), ("new", "two"))
    ]
    file = tmp_path / "batch"
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")

    done = run_here("merge", "--batch", str(file), "--output", "json")

    assert (done.code, len(reports_of(done))) == (1, 2)


@pytest.mark.parametrize("tag", ["stable", "docker"])
@pytest.mark.parametrize("options", [(), ("--ages", "--check")])
def test_an_inspection_fits(filled: Shelf, tag: str, options: tuple[str, ...]) -> None:
    docker = images("linux/amd64", "linux/s390x", docker=True)
    filled.put("docker", make_index(docker, docker=True))

    done = run_here("inspect", filled.ref(tag), "--output", "json", *options)

    assert done.code == 0, done.err
    Draft202012Validator(inspection_schema()).validate(done.report)


@pytest.mark.parametrize(
    ("options", "to", "code"),
    [(("--mixed-types", "fail"), "absent@no", 2), (("--arch", "riscv64"), "fresh", 1)],
)
def test_a_failure_has_no_report(
    filled: Shelf, options: tuple[str, ...], to: str, code: int
) -> None:
    assert filled.merge(*options, to=to, code=code).reports == []
