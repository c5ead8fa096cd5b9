"""The schema of reports: sound, shipped, and strict enough to notice what it does not describe."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import get_args

import pytest
from jsonschema import Draft202012Validator, ValidationError

from pubtools_mlmerge.core.ages import with_ages
from pubtools_mlmerge.core.manifests import Index
from pubtools_mlmerge.core.merge import merge, remove
from pubtools_mlmerge.core.plan import Age, Plan, Report
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.merging.decision import report_of_plan
from pubtools_mlmerge.observe import Meter
from pubtools_mlmerge.reports import inspection, report
from pubtools_mlmerge.reports.inspection import ProblemKind, inspect
from pubtools_mlmerge.reports.report import inspection_schema, report_schema, to_json
from pubtools_mlmerge.testing import RegistryServer, upload_index
from tests.factories import attestation, digest, entry, index
from tests.pages import DOCS, every_block
from tests.programs import run

EXAMPLE = DOCS / "examples" / "check_reports.py"

SOURCE, TAG = Reference.parse("quay.io/src/app:new"), Reference.parse("quay.io/ns/app:1")
OLD = index("linux/amd64@old", "linux/s390x", attestation("", seed="orphan"), entry(None))
NEW = index("linux/amd64@new", attestation(digest("linux/amd64@new")))
MERGED = merge(NEW, OLD)
VALIDATOR = Draft202012Validator(report_schema())

Read = Callable[[], dict[str, object]]
SCHEMAS: list[tuple[str, Read]] = [("report", report_schema), ("inspection", inspection_schema)]


def document(plan: Plan[Index] = MERGED) -> dict[str, object]:
    written: dict[str, object] = json.loads(to_json(report_of_plan(SOURCE, TAG, plan, Meter())))
    return written


def entries(written: Mapping[str, object]) -> list[dict[str, object]]:
    listed = written["entries"]
    assert isinstance(listed, list)
    return listed


@pytest.mark.parametrize(("name", "read"), SCHEMAS)
def test_a_schema_is_one_and_named_after_its_version(name: str, read: Read) -> None:
    found = read()

    Draft202012Validator.check_schema(found)
    assert found["$schema"] == Draft202012Validator.META_SCHEMA["$schema"]
    assert found["$id"] == f"urn:pubtools-mlmerge:{name}:{report.VERSION}"
    properties = found["properties"]
    assert isinstance(properties, dict)
    assert properties["schema"]["const"] == report.VERSION


@pytest.mark.parametrize(("name", "read"), SCHEMAS)
def test_a_schema_lies_where_the_documentation_says(name: str, read: Read) -> None:
    text = (files("pubtools_mlmerge.reports") / f"{name}.schema.json").read_text(encoding="utf-8")

    assert json.loads(text) == read()


def test_the_documented_program_checks_what_the_documented_command_writes(
    registry_server: RegistryServer, tmp_path: Path
) -> None:
    (block,) = (each for each in every_block() if each.kind == "reports")
    merge_command, check_command = block.code.replace("\\\n", "").splitlines()
    for tag, platforms in (("1.1", ["linux/amd64"]), ("stable", ["linux/amd64", "linux/s390x"])):
        upload_index(registry_server.url, "demo/app", tag, platforms)
    words = merge_command.replace("localhost:5000", registry_server.host).split()
    done = run(words[0].partition("mlmerge-")[2], *words[1:-1])

    assert (words[-1], check_command) == (">reports", "python3 check_reports.py <reports")
    for text, code in ((done.out, 0), (done.out.replace("kept", "lost"), 1)):
        checked = subprocess.run(
            [sys.executable, str(EXAMPLE)], input=text, text=True, capture_output=True, check=False
        )
        assert checked.returncode == code, checked.stderr


@pytest.mark.parametrize(("name", "read"), SCHEMAS)
def test_every_key_is_described(name: str, read: Read) -> None:
    found = read()
    definitions = found["$defs"]
    assert isinstance(definitions, dict)

    parts = [each for each in (found, *definitions.values()) if "properties" in each]
    assert len(parts) > 1
    for part in parts:
        assert part["additionalProperties"] is False
        assert all(each.get("description") for each in part["properties"].values())


@pytest.mark.parametrize(
    "plan",
    [
        MERGED,
        merge(NEW, None),
        merge(OLD, OLD),
        remove(OLD, ["s390x"]),
        with_ages(MERGED, {digest("linux/s390x"): Age(days=9)}, {digest("linux/s390x"): "old"}),
        with_ages(MERGED, {digest("linux/s390x"): Age(problem="no date")}, {}),
    ],
)
def test_reports_fit(plan: Plan[Index]) -> None:
    VALIDATOR.validate(document(plan))


def test_a_report_of_a_removal_has_no_source() -> None:
    report = Report(
        source=None,
        destination=TAG,
        source_digest=None,
        previous_digest=None,
        digest=OLD.digest,
        media_type=OLD.media_type,
        changed=True,
        dry_run=False,
        entries=(),
        anchor_tag="1-20240229120000",
        seconds=0.5,
    )

    VALIDATOR.validate(json.loads(to_json(report)))


def test_a_key_that_nobody_documented_does_not_fit() -> None:
    with pytest.raises(ValidationError, match="'more' was unexpected"):
        VALIDATOR.validate({**document(), "more": 1})


def test_a_key_of_an_entry_that_nobody_documented_does_not_fit() -> None:
    written = document()
    entries(written)[0]["more"] = 1

    with pytest.raises(ValidationError, match="'more' was unexpected"):
        VALIDATOR.validate(written)


@pytest.mark.parametrize("key", document())
def test_no_key_may_be_missing(key: str) -> None:
    written = document()
    del written[key]

    assert not VALIDATOR.is_valid(written)


@pytest.mark.parametrize("key", ["platform", "digest", "fate", "previous_digest", "reason"])
def test_no_key_of_an_entry_may_be_missing(key: str) -> None:
    written = document()
    del entries(written)[0][key]

    assert not VALIDATOR.is_valid(written)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("schema", 2),
        ("source", ""),
        ("destination", None),
        ("source_digest", "new"),
        ("digest", None),
        ("media_type", "text/plain"),
        ("changed", "yes"),
        ("dry_run", 0),
        ("anchor_tag", "a tag"),
        ("attempts", 0),
        ("requests", 1.5),
        ("seconds", -1),
        ("entries", {}),
    ],
)
def test_another_value_does_not_fit(key: str, value: object) -> None:
    assert not VALIDATOR.is_valid({**document(), key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("platform", ""),
        ("digest", "sha256"),
        ("fate", "lost"),
        ("previous_digest", 1),
        ("reason", ""),
        ("attests", None),
        ("created", None),
        ("age_days", 1),
        ("stale", False),
    ],
)
def test_another_value_of_an_entry_does_not_fit(key: str, value: object) -> None:
    written = document()
    entries(written)[0][key] = value

    assert not VALIDATOR.is_valid(written)


# Inspections


@pytest.mark.parametrize("ages", [None, {digest("linux/s390x"): Age(problem="no date")}])
@pytest.mark.parametrize("missing", [None, [digest("linux/s390x")]])
def test_inspections_fit(ages: Mapping[str, Age] | None, missing: list[str] | None) -> None:
    twice = index(entry("linux/amd64", seed="a"), entry("linux/amd64", seed="b"))

    for found in (OLD, NEW, twice, index()):
        written = inspection.inspection_to_json(inspect("app:1", found, ages, missing))
        Draft202012Validator(inspection_schema()).validate(json.loads(written))


def test_every_problem_has_its_place() -> None:
    definitions = inspection_schema()["$defs"]
    assert isinstance(definitions, dict)

    assert definitions["problem"]["properties"]["kind"]["enum"] == [*get_args(ProblemKind)]


def test_a_key_of_an_inspection_that_nobody_documented_does_not_fit() -> None:
    written = {**json.loads(inspection.inspection_to_json(inspect("app:1", NEW))), "more": 1}

    with pytest.raises(ValidationError, match="'more' was unexpected"):
        Draft202012Validator(inspection_schema()).validate(written)
