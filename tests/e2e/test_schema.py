"""What the programs print fits the schema of reports."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from pubtools_mlmerge.reports.report import inspection_schema, report_schema
from pubtools_mlmerge.testing import make_attestation, make_image, make_index
from tests.e2e.conftest import Shelf, images
from tests.programs import Done, run_here

OLD = images("linux/amd64", "linux/arm/v7", "linux/s390x", seed="old")
NEW = images("linux/amd64", "linux/arm64", seed="new")
VALIDATOR = Draft202012Validator(report_schema())


def check(done: Done, number: int = 1) -> list[dict[str, object]]:
    """Require so many reports that fit."""
    reports = done.reports
    assert len(reports) == number, done.err
    for report in reports:
        VALIDATOR.validate(report)
    return reports


@pytest.fixture
def filled(shelf: Shelf) -> Shelf:
    orphan = make_attestation(make_image("linux/riscv64"))
    shelf.hold(
        stable=[*OLD, make_attestation(OLD[2]), orphan], new=[*NEW, make_attestation(NEW[0])]
    )
    return shelf


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--dry-run",),
        ("--ages",),
        ("--max-age-days", "1", "--stale", "drop"),
        ("--anchor-tag", "{tag}-{timestamp}"),
        ("--arch", "arm64,riscv64", "--drop", "s390x"),
        ("--match", "architecture", "--no-verify"),
    ],
)
def test_a_merge_fits(filled: Shelf, options: tuple[str, ...]) -> None:
    done = filled.merge(*options)

    (report,) = check(done)
    assert report["changed"]
    assert "dropped" in {entry["fate"] for entry in done.entries}  # the orphan, at least


def test_a_copy_fits_and_so_does_what_is_done_already(filled: Shelf) -> None:
    (copied,) = check(filled.merge(to="fresh"))
    (again,) = check(filled.merge(to="fresh"))

    assert (copied["previous_digest"], copied["changed"], again["changed"]) == (None, True, False)


def test_a_single_image_fits(filled: Shelf) -> None:
    filled.hold(new=NEW[0], single=OLD[0])

    (report,) = check(filled.merge(to="single"))

    assert report["media_type"] == NEW[0].media_type


def test_a_batch_fits_without_the_lines_that_fail(filled: Shelf, tmp_path: Path) -> None:
    lines = [
        {"source_ref": filled.ref(source), "dest_ref": filled.ref(tag)}
        for source, tag in (("new", "stable"), ("absent", "one"), ("new", "two"))
    ]
    file = tmp_path / "batch"
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")

    done = run_here("merge", "--batch", str(file), "--output", "json")

    assert done.code == 1
    check(done, 2)


def test_a_removal_fits(filled: Shelf) -> None:
    stable = filled.ref("stable")

    done = run_here("remove-archs", "--ref", stable, "--arch", "arm,none", "--output", "json")

    (report,) = check(done)
    assert (report["source"], report["source_digest"]) == (None, None)


@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_a_restore_fits(filled: Shelf, options: tuple[str, ...], tmp_path: Path) -> None:
    check(filled.merge("--audit", str(tmp_path)))
    (record,) = tmp_path.iterdir()

    done = run_here("restore", str(record), "--output", "json", *options)

    (report,) = check(done)
    assert report["source"] is None


@pytest.mark.parametrize("tag", ["stable", "new", "docker"])
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
