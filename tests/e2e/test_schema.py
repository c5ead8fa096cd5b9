"""What the programs print fits the schema of reports; of merges, all tests here see to that."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from pubtools_mlmerge.reports.report import inspection_schema
from pubtools_mlmerge.testing import make_attestation, make_image, make_index
from tests.e2e.conftest import REPORTS, Shelf, images
from tests.programs import run_here

OLD = images("linux/amd64", "linux/arm/v7", "linux/s390x", seed="old")
NEW = images("linux/amd64", "linux/arm64", seed="new")


@pytest.fixture
def filled(shelf: Shelf) -> Shelf:
    orphan = make_attestation(make_image("linux/riscv64"))
    proofs = make_attestation(OLD[2]), make_attestation(NEW[0])
    shelf.hold(stable=[*OLD, proofs[0], orphan], new=[*NEW, proofs[1]])
    return shelf


@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_a_removal_and_a_restore_fit(
    filled: Shelf, options: tuple[str, ...], tmp_path: Path
) -> None:
    filled.merge("--ages", "--audit", str(tmp_path))
    (record,) = map(str, tmp_path.iterdir())
    removal = ("remove-archs", "--ref", filled.ref("stable"), "--arch", "arm,none")

    for program in (removal, ("restore", record, "--force")):
        report = run_here(*program, "--json", *options).report
        REPORTS.validate(report)
        assert (report["source"], report["source_digest"]) == (None, None)


def test_a_batch_fits_without_the_lines_that_fail(filled: Shelf, tmp_path: Path) -> None:
    lines = [
        {"source_ref": filled.ref(source), "dest_ref": filled.ref(tag)}
        for source, tag in (("new", "stable"), ("absent", "one"), ("new", "two"))
    ]
    file = tmp_path / "batch"
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")

    done = run_here("merge", "--batch", str(file), "--json")

    assert (done.code, len(done.reports), len(done.failures)) == (1, 2, 1)
    for report in done.reports:
        REPORTS.validate(report)


@pytest.mark.parametrize("tag", ["stable", "new", "docker"])
@pytest.mark.parametrize("options", [(), ("--ages", "--check")])
def test_an_inspection_fits(filled: Shelf, tag: str, options: tuple[str, ...]) -> None:
    docker = images("linux/amd64", "linux/s390x", docker=True)
    filled.put("docker", make_index(docker, docker=True))

    done = run_here("inspect", filled.ref(tag), "--json", *options)

    assert done.code == 0, done.err
    Draft202012Validator(inspection_schema()).validate(done.report)
