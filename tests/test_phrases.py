"""Sizes, types, ages and counts in words."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from pubtools_mlmerge.core.manifests import OCI_INDEX
from pubtools_mlmerge.core.plan import Age
from pubtools_mlmerge.reports.report import age_text, count_text, size_text, type_name


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


def test_types_that_are_not_known_are_written_out() -> None:
    assert type_name(OCI_INDEX) == "OCI index"
    assert type_name("application/x") == "application/x"


@pytest.mark.parametrize(
    ("age", "expected"),
    [
        (Age(datetime(2021, 3, 4, tzinfo=timezone.utc), 1127), "1127 days old (2021-03-04)"),
        (Age(datetime(2021, 3, 4, tzinfo=timezone.utc), 1), "1 day old (2021-03-04)"),
        (Age(problem="no\x07 date"), "age unknown: no? date"),
        (None, ""),
    ],
)
def test_ages_are_days_and_a_date(age: Age | None, expected: str) -> None:
    assert age_text(age) == expected


def test_one_is_no_plural() -> None:
    assert [count_text(n, "image") for n in (0, 1, 2)] == ["0 images", "1 image", "2 images"]
