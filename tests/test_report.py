"""Reports as text for people and as JSON for programs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from importlib.resources import files
from pathlib import Path
from typing import get_args

import pytest
from attrs import evolve
from jsonschema import Draft202012Validator

from pubtools_mlmerge.core.ages import with_ages
from pubtools_mlmerge.core.manifests import OCI_INDEX, Index
from pubtools_mlmerge.core.merge import merge, remove
from pubtools_mlmerge.core.plan import Age, Fate, Plan, Policy, Report
from pubtools_mlmerge.reports import inspection
from pubtools_mlmerge.reports.inspection import Inspection, ProblemKind
from pubtools_mlmerge.reports.report import (
    SIGNS,
    VERSION,
    age_text,
    count_text,
    inspection_schema,
    report_schema,
    short,
    size_text,
    table,
    to_json,
    to_text,
)
from pubtools_mlmerge.testing import RegistryServer, upload_index
from tests.factories import attestation, digest, entry, index
from tests.pages import DOCS, every_block
from tests.paper import MADE, SOURCE, STABLE, example
from tests.programs import run

OLD = index("linux/amd64@old", "linux/s390x")
NEW = index("linux/amd64@new", attestation(digest("linux/amd64@new"), seed="proof"))


PROVEN = index("linux/amd64@old", attestation(digest("linux/amd64@old")))


def proof(seed: str) -> dict[str, object]:
    return attestation(digest("linux/amd64@new"), seed=seed)


def report(plan: Plan[Index], **fields: object) -> Report:
    made = Report.of(plan, SOURCE, STABLE)
    return evolve(made, **fields)  # type: ignore[arg-type]  # each has the type of its field


def test_json_has_every_key_in_one_line() -> None:
    plan = merge(NEW, OLD)

    text = to_json(report(plan, seconds=0.123456, anchor_tag="kept"))
    bare = to_json(report(plan, source=None, source_digest=None, previous_digest=None))

    assert "\n" not in text
    found = json.loads(text)
    entries = found.pop("entries")
    assert found == {
        "schema": 1,
        "source": "quay.io/org/app:1.1",
        "sources": ["quay.io/org/app:1.1"],
        "destination": "quay.io/org/app:stable",
        "source_digest": NEW.digest,
        "previous_digest": OLD.digest,
        "digest": plan.result.digest,
        "media_type": OCI_INDEX,
        "changed": True,
        "dry_run": False,
        "destination_state": "present",
        "anchor_tag": "kept",
        "error": None,
        "attempts": 1,
        "seconds": 0.123,
    }
    assert [entry["fate"] for entry in entries] == ["replaced", "added", "kept"]
    keys = ("source", "source_digest", "previous_digest", "anchor_tag")
    assert [json.loads(bare)[key] for key in keys] == [None] * 4


def test_json_has_the_fate_of_each_entry() -> None:
    first, second, _ = json.loads(to_json(report(merge(NEW, OLD))))["entries"]

    assert first == {
        "platform": "linux/amd64",
        "digest": digest("linux/amd64@new"),
        "fate": "replaced",
        "previous_digest": digest("linux/amd64@old"),
        "reason": "in both, the source wins",
    }
    assert second == {
        "platform": None,
        "digest": digest("proof"),
        "fate": "added",
        "previous_digest": None,
        "reason": "only the source has it",
        "attests": digest("linux/amd64@new"),
    }


def test_text_shows_before_and_after() -> None:
    text = to_text(report(merge(NEW, OLD)))

    rows = [line.split("  ") for line in text.splitlines()]
    cells = [[cell.strip() for cell in row if cell] for row in rows]
    old, new = short(digest("linux/amd64@old")), short(digest("linux/amd64@new"))
    kept = short(digest("linux/s390x"))
    head = ["PLATFORM", "BEFORE", "AFTER", "FATE", "REASON"]
    proof = ["-", short(digest("proof")), "added", "only the source has it"]
    last = ["linux/s390x", kept, kept, "kept", "only the destination has it"]
    wins = [old, new, "replaced", "in both, the source wins"]
    assert cells[:3] == [head, ["linux/amd64 +1 attestation", *wins], last]
    text = to_text(report(merge(NEW, OLD)), every=True)
    rows = [line.split("  ") for line in text.splitlines()]
    cells = [[cell.strip() for cell in row if cell] for row in rows]
    assert cells[:4] == [head, ["linux/amd64", *wins], [f"attestation of {new}", *proof], last]


@pytest.mark.parametrize(
    ("new", "old", "marks"),
    [
        (index("linux/amd64@new", *map(proof, "ab")), OLD, ["+2 attestations", ""]),
        (index("linux/amd64@new"), PROVEN, ["-1 attestation"]),
        (NEW, PROVEN, ["+1 -1 attestations"]),
        (index("linux/arm64"), PROVEN, ["", "+1 attestation"]),
    ],
)
def test_attestations_are_marks_on_the_row_of_their_image(
    new: Index, old: Index, marks: list[str]
) -> None:
    plan = merge(new, old)

    _, *rows, _, _ = to_text(report(plan)).splitlines()

    assert [re.sub(r"^\S+ ?(.*?)  .*", r"\1", row).strip() for row in rows] == marks


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

    rows = to_text(report(plan), every=True).splitlines()

    dropped = next(row for row in rows if " dropped " in row).split()
    excluded = next(row for row in rows if " excluded " in row).split()
    assert dropped[:3] == ["linux/s390x", short(digest("linux/s390x")), "-"]
    assert excluded[:3] == ["linux/amd64", "-", "-"]


def test_columns_are_aligned_and_lines_end_without_spaces() -> None:
    assert table([("A", "B"), ("long", "x"), ("", "")]) == ["A     B", "long  x", ""]


def test_fates_are_counted_in_one_order() -> None:
    counted = evolve(example(), entries=reversed(example().entries)).counts

    assert list(counted.items()) == [
        *(("added", 2), ("replaced", 1), ("same", 1)),
        *(("kept", 1), ("dropped", 1), ("excluded", 1)),
    ]
    assert evolve(example(), entries=()).counts == {}


# Sizes, types, ages and counts in words


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (4_200_000, "4.2 MB"),
        (10**15, "1.0 PB"),
        (10**19, "10000.0 PB"),
    ],
)
def test_sizes_can_be_read(size: int, expected: str) -> None:
    assert size_text(size) == expected


@pytest.mark.parametrize(
    ("age", "expected"),
    [
        (Age(datetime(2021, 3, 4, tzinfo=timezone.utc), 1127), "1127 days old (2021-03-04)"),
        (Age(datetime(2021, 3, 4, tzinfo=timezone.utc), 1), "1 day old (2021-03-04)"),
        (Age(problem="no date"), "age unknown: no date"),
        (None, ""),
    ],
)
def test_ages_are_days_and_a_date(age: Age | None, expected: str) -> None:
    assert age_text(age) == expected


def test_one_is_no_plural() -> None:
    assert [count_text(n, "image") for n in (0, 1, 2)] == ["0 images", "1 image", "2 images"]


# The schemas: sound, shipped, and strict enough to notice what they do not describe


EXAMPLE = DOCS / "examples" / "check_reports.py"

ODD = index("linux/amd64@old", "linux/s390x", attestation("", seed="orphan"), entry(None))
MERGED = merge(NEW, ODD)
VALIDATOR = Draft202012Validator(report_schema())

Read = Callable[[], dict[str, object]]
SCHEMAS: list[tuple[str, Read]] = [("report", report_schema), ("inspection", inspection_schema)]


def document(plan: Plan[Index] = MERGED) -> dict[str, object]:
    written: dict[str, object] = json.loads(to_json(report(plan)))
    return written


@pytest.mark.parametrize(("name", "read"), SCHEMAS)
def test_a_schema_is_one_and_named_after_its_version(name: str, read: Read) -> None:
    found = read()

    Draft202012Validator.check_schema(found)
    assert found["$schema"] == Draft202012Validator.META_SCHEMA["$schema"]
    assert found["$id"] == f"urn:pubtools-mlmerge:{name}:{VERSION}"
    properties = found["properties"]
    assert isinstance(properties, dict)
    assert properties["schema"]["const"] == VERSION
    text = (files("pubtools_mlmerge.reports") / f"{name}.schema.json").read_text(encoding="utf-8")
    assert json.loads(text) == found  # where the documentation says


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
        merge(ODD, ODD),
        remove(ODD, ["s390x"]),
        with_ages(MERGED, {digest("linux/s390x"): Age(days=9)}, {digest("linux/s390x"): "old"}),
        with_ages(MERGED, {digest("linux/s390x"): Age(problem="no date")}, {}),
    ],
)
def test_reports_fit(plan: Plan[Index]) -> None:
    VALIDATOR.validate(document(plan))


ENTRY_KEYS = ["platform", "digest", "fate", "previous_digest", "reason"]
WRONG: dict[str, object] = {"schema": 2, "source": "", "destination": None, "digest": None}
WRONG |= {"source_digest": "new", "media_type": "text/plain", "changed": "yes", "dry_run": 0}
WRONG |= {"anchor_tag": "a tag", "attempts": 0, "seconds": -1, "entries": {}, "more": 1}
WRONG_IN_ENTRY: dict[str, object] = {"platform": "", "digest": "sha256", "fate": "lost"}
WRONG_IN_ENTRY |= {"previous_digest": 1, "reason": "", "attests": None, "created": None}
WRONG_IN_ENTRY |= {"age_days": 1, "stale": False, "more": 1}
GONE = object()


@pytest.mark.parametrize(
    ("of_entry", "key", "value"),
    [
        *((False, *each) for each in [*dict.fromkeys(document(), GONE).items(), *WRONG.items()]),
        *((True, key, GONE) for key in ENTRY_KEYS),
        *((True, *each) for each in WRONG_IN_ENTRY.items()),
    ],
)
def test_no_key_may_be_missing_more_or_wrong(of_entry: bool, key: str, value: object) -> None:
    written = document()
    listed = written["entries"]
    assert isinstance(listed, list)
    part = listed[0] if of_entry else written
    part[key] = value
    if value is GONE:
        del part[key]

    assert not VALIDATOR.is_valid(written)


# Inspections


@pytest.mark.parametrize(
    "ages", [{}, *({digest("linux/s390x"): a} for a in (Age(problem="no date"), Age(MADE, 9)))]
)
@pytest.mark.parametrize("missing", [None, [digest("linux/s390x")]])
def test_inspections_fit(ages: Mapping[str, Age], missing: list[str] | None) -> None:
    twice = index(entry("linux/amd64", seed="a"), entry("linux/amd64", seed="b"))

    for found in (ODD, NEW, twice, index(), index("linux/amd64", docker=True)):
        written = inspection.inspection_to_json(Inspection("app:1", found, ages, missing))
        Draft202012Validator(inspection_schema()).validate(json.loads(written))


def test_every_problem_has_its_place() -> None:
    definitions = inspection_schema()["$defs"]
    assert isinstance(definitions, dict)

    assert definitions["problem"]["properties"]["kind"]["enum"] == [*get_args(ProblemKind)]


def test_each_fate_has_a_sign_of_its_own() -> None:
    assert tuple(SIGNS) == get_args(Fate)
    assert len(set(SIGNS.values())) == len(SIGNS)
