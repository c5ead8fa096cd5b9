"""What the programs print and write on a real registry, and that it fits the schemas."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from pubtools_mlmerge.reports.report import report_schema
from pubtools_mlmerge.testing import make_attestation, make_image, make_index
from tests.e2e.conftest import Shelf, images
from tests.paper import text_of
from tests.programs import Done, run_here
from tests.terminals import program_on_a_terminal

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


def read(page: Path) -> str:
    return text_of(page.read_text(encoding="ascii"))


def test_json_is_one_object_on_one_line_beside_logs_and_a_page(
    filled: Shelf, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"

    done = filled.merge("--anchor-tag", "{tag}-{digest}", "--html", str(page))

    assert done.err.startswith("INFO: Uploaded sha256:")
    line, end = done.out.split("\n")
    report = json.loads(line)
    held = filled.get("stable")
    assert (end, report["digest"], report["anchor_tag"]) == (
        *("", held.digest, f"stable-{held.digest[7:19]}"),
    )
    assert 0 < report["seconds"] < 60
    VALIDATOR.validate(report)
    assert [entry["digest"] for entry in report["entries"][:-1]] == held.digests
    for fact in (held.digest, "2 added", "1 replaced", "3 kept", "linux/s390x", OLD[2].digest):
        assert fact in read(page)
    assert list(tmp_path.iterdir()) == [page]


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


@pytest.mark.parametrize(
    ("options", "to", "code"),
    [(("--mixed-types", "fail"), "absent@no", 2), (("--arch", "riscv64"), "fresh", 1)],
)
def test_a_failure_has_no_report(
    filled: Shelf, options: tuple[str, ...], to: str, code: int
) -> None:
    assert filled.merge(*options, to=to, code=code).reports == []


# Inspections


CHILDREN = images("linux/amd64", "linux/arm/v7")
PROOF = make_attestation(CHILDREN[1])
INDEX = make_index([*CHILDREN, PROOF])


@pytest.mark.parametrize("lost", [CHILDREN[0], PROOF], ids=["image", "attestation"])
def test_what_is_lost_is_found_missing(shelf: Shelf, lost: object) -> None:
    reference = shelf.put("stable", INDEX)
    digest = next(child.digest for child in INDEX.children if child is lost)
    gone = shelf.peer.once("DELETE", f"/v2/{shelf.repository}/manifests/{digest}")
    assert gone.status_code == 202, gone.text

    done = run_here("inspect", reference, "--check", "--output", "json")

    assert done.code == 1
    problems = done.report["problems"]
    assert isinstance(problems, list)
    assert [(problem["kind"], problem["digest"]) for problem in problems] == [("missing", digest)]
    assert f"ERROR: {reference} lists manifests that the repository lacks" in done.err
    assert run_here("inspect", reference).code == 0


def test_images_that_are_brought_are_counted_on_a_terminal(shelf: Shelf) -> None:
    source = shelf.put("new", INDEX)
    target = f"{shelf.registry.host}/{shelf.repository}-copy:stable"

    words = ("merge", "--source-ref", source, "--dest-ref", target)
    shown = program_on_a_terminal(*words, width=200, logs=True)

    assert shown.code == 0, shown.raw
    assert f"images for {target}" in shown.text
    assert "/3" in shown.text
    assert shown.lines[-1].startswith(f"{target} is now sha256:")
