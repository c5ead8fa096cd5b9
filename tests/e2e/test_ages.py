"""The ages of what stays, on a real registry, by the program."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from pubtools_mlmerge.testing import Image, make_attestation, make_image
from tests.e2e.conftest import Shelf, images, merged
from tests.paper import text_of
from tests.programs import Done

NEW = images("linux/amd64", seed="new")
THREE_YEARS = 3 * 365


def ago(days: int) -> str:
    """Write a date as container tools do, down to the nanosecond and in another zone."""
    date = datetime.now(timezone.utc) - timedelta(days=days, hours=1) + timedelta(hours=2)
    return f"{date:%Y-%m-%dT%H:%M:%S}.123456789+02:00"


def fill(shelf: Shelf, *kept: Image) -> None:
    """Put a new amd64 beside a tag that has more."""
    attestations = [make_attestation(image) for image in kept]
    shelf.hold(stable=[*images("linux/amd64", seed="old"), *kept, *attestations], new=NEW)


def old_s390x() -> Image:
    return make_image("linux/s390x", created=ago(THREE_YEARS))


def entries(done: Done) -> dict[object, dict[str, object]]:
    """Give the images of a report by their platforms."""
    return {entry["platform"]: entry for entry in done.entries if "attests" not in entry}


def test_an_old_image_stays_with_a_warning_in_every_output(shelf: Shelf, tmp_path: Path) -> None:
    s390x, page = old_s390x(), tmp_path / "page"
    fill(shelf, s390x)
    rule = ("--max-age-days", "365", "--dry-run")

    done = shelf.merge(*rule, "--html", str(page))
    text = shelf.merge(*rule, "--output", "text")

    entry = entries(done)["linux/s390x"]
    assert (entry["fate"], entry["age_days"], entry["stale"]) == ("kept", THREE_YEARS, True)
    assert entry["reason"] == "only the destination has it; older than 365 days"
    image = f"{shelf.ref('stable')}@{s390x.digest}"
    assert f"WARNING: {image} (linux/s390x) is kept: 1095 days old, more than 365\n" in done.err
    assert "1095 days  kept" in text.out
    assert "linux/s390x is 1095 days old" in text_of(page.read_text(encoding="utf-8"))
    shelf.merge(*rule[:2])
    assert s390x.digest in shelf.get("stable").digests


@pytest.mark.parametrize("how", ["option", "environment"])
def test_an_old_image_is_dropped_with_its_attestation(shelf: Shelf, how: str) -> None:
    arm64, s390x = make_image("linux/arm64", created=ago(9)), old_s390x()
    fill(shelf, arm64, s390x)
    options = ["--max-age-days", "365", "--stale", "drop"] if how == "option" else []
    variables = {} if options else {"MLMERGE_MAX_AGE_DAYS": "365", "MLMERGE_STALE": "drop"}

    done = shelf.merge(*options, "--output", "text", env=variables)

    assert shelf.get("stable").content == merged(*NEW, arm64, make_attestation(arm64))
    assert "1095 days  dropped   older than 365 days\n" in done.out
    assert "linux/s390x +1 attestation" in done.out


def test_an_old_image_may_be_an_error(shelf: Shelf) -> None:
    s390x = old_s390x()
    fill(shelf, s390x)
    record = shelf.mark()

    done = shelf.merge("--max-age-days", "365", "--stale", "fail", code=1)

    named = f"linux/s390x ({s390x.digest}) is 1095 days old, more than 365"
    assert done.reports == []
    assert done.err.startswith(
        f"ERROR: {shelf.ref('stable')} would keep images that are too old: {named}; "
    )
    assert record.writes == []


def test_an_image_that_is_gone_is_of_unknown_age(shelf: Shelf) -> None:
    s390x = old_s390x()
    fill(shelf, s390x)
    assert shelf.peer.delete(shelf.repository, s390x.digest).status_code == 202

    done = shelf.merge("--ages", "--dry-run", "--output", "text")

    assert "  unknown  kept " in done.out
    assert f"{s390x.digest} (linux/s390x) is kept: age unknown: " in done.err
