"""What the programs print, and the codes that they end with, on a real registry."""

from __future__ import annotations

import json

import pytest

from pubtools_mlmerge.testing import make_attestation, make_index
from tests.e2e.conftest import Shelf, images, merge
from tests.peers import OCI_INDEX

OLD = images("linux/amd64", "linux/arm64", "linux/s390x", seed="old")
NEW = images("linux/amd64", seed="new")
KEYS = [
    "schema",
    *(
        "source",
        "sources",
        "destination",
        "source_digest",
        "previous_digest",
        "digest",
        "media_type",
    ),
    *(
        "changed",
        "dry_run",
        "destination_state",
        "anchor_tag",
        "error",
        "attempts",
        "seconds",
        "entries",
    ),
]


@pytest.fixture
def filled(shelf: Shelf) -> Shelf:
    shelf.hold(stable=OLD, new=[*NEW, make_attestation(NEW[0])])
    return shelf


def test_json_is_one_object_on_one_line_and_logs_go_to_standard_error(filled: Shelf) -> None:
    done = filled.merge("--anchor-tag", "{tag}-{digest}")

    assert done.err.startswith("INFO: Uploaded sha256:")
    line, end = done.out.split("\n")
    report = json.loads(line)
    assert (end, list(report)) == ("", KEYS)
    held = filled.get("stable")
    entries, seconds = report.pop("entries"), report.pop("seconds")
    assert 0 < seconds < 60
    assert report == {
        "schema": 1,
        "source": filled.ref("new"),
        "sources": [filled.ref("new")],
        "destination": filled.ref("stable"),
        "source_digest": filled.get("new").digest,
        "previous_digest": make_index(OLD).digest,
        "digest": held.digest,
        "media_type": OCI_INDEX,
        "changed": True,
        "dry_run": False,
        "destination_state": "present",
        "anchor_tag": f"stable-{held.digest[7:19]}",
        "error": None,
        "attempts": 1,
    }
    assert [entry["digest"] for entry in entries] == held.digests
    assert entries[0] == {
        "platform": "linux/amd64",
        "digest": NEW[0].digest,
        "fate": "replaced",
        "previous_digest": OLD[0].digest,
        "reason": "in both, the source wins",
    }
    assert entries[1]["platform"] is None
    assert entries[1]["attests"] == NEW[0].digest


def test_a_table_and_a_summary_tell_what_became_of_each_platform(filled: Shelf) -> None:
    done = filled.merge("--output", "text")

    *table, empty, summary = done.out.splitlines()
    rows = [line.replace(" +1 attestation", "").split()[:4] for line in table]
    assert rows[0] == ["PLATFORM", "BEFORE", "AFTER", "FATE"]
    assert rows[1] == ["linux/amd64", OLD[0].digest[7:19], NEW[0].digest[7:19], "replaced"]
    assert "linux/amd64 +1 attestation" in table[1]
    assert rows[2] == ["linux/arm64", OLD[1].digest[7:19], OLD[1].digest[7:19], "kept"]
    assert empty == ""
    digest, before = filled.get("stable").digest, make_index(OLD).digest[7:19]
    counts = "1 added, 1 replaced, 2 kept"
    assert summary == f"{filled.ref('stable')} is now {digest} (was {before}): {counts}"


def test_a_failure_is_one_line_on_standard_error(shelf: Shelf) -> None:
    shelf.hold(stable=OLD)

    done = shelf.merge(code=1)

    expected = f"ERROR: {shelf.ref('stable')}: {shelf.ref('new')}: not found (HTTP 404): manifest"
    assert (done.reports, done.err.count("\n")) == ([], 1)
    assert done.err.startswith(expected)


@pytest.mark.parametrize("debug", ["-d", "--debug"])
def test_a_traceback_needs_debug(shelf: Shelf, debug: str) -> None:
    done = shelf.merge(debug, code=1)

    assert "Traceback (most recent call last)" in done.err
    assert f"{shelf.ref('new')}: not found" in done.err.splitlines()[-1]


def test_one_failure_does_not_keep_the_other_tags_from_being_merged(filled: Shelf) -> None:
    image = images("linux/s390x")[0]
    filled.put("single", image)
    wanted = f"{filled.ref('single')},{filled.ref('stable')}"

    done = merge(filled.ref("new"), wanted, "--single-image", "fail", code=1)

    assert [report["destination"] for report in done.reports] == [filled.ref("stable")]
    assert filled.get("single").content == image.content
    assert filled.get("stable").digest == done.report["digest"]


def test_a_destination_by_digest_is_wrong_usage(filled: Shelf) -> None:
    destination = f"{filled.registry.host}/{filled.repository}@{make_index(OLD).digest}"
    record = filled.mark()

    done = merge(filled.ref("new"), destination, code=2)

    assert (done.out, list(record)) == ("", [])
    assert done.err.splitlines()[-1].endswith("a destination must be a tag, not a digest")
    assert "Traceback" not in done.err
