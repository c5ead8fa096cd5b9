"""Retries: waits grow, obey the registry, and end."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pubtools_mlmerge.registry.http import Pauses, Retries

PATIENT = Retries(first_wait=0.5, longest_wait=60.0)


def in_seconds(seconds: float) -> str:
    return format_datetime(datetime.now(timezone.utc) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(("attempt", "backoff"), [(0, 0.5), (1, 1.0), (3, 4.0)])
def test_the_wait_doubles_each_time(attempt: int, backoff: float) -> None:
    waits = [PATIENT.wait(attempt, {}) for _ in range(50)]

    assert all(backoff / 2 <= wait <= backoff for wait in waits)
    assert len(set(waits)) > 1


def test_the_wait_is_bounded() -> None:
    assert PATIENT.wait(20, {}) == 60.0


@pytest.mark.parametrize(("header", "wait"), [("7", 7.0), (" 7 ", 7.0), ("86400", 60.0)])
def test_seconds_are_obeyed_within_bounds(header: str, wait: float) -> None:
    assert PATIENT.wait(0, {"Retry-After": header}) == wait


def test_a_date_is_obeyed() -> None:
    assert 15 < PATIENT.wait(0, {"Retry-After": in_seconds(20)}) <= 20


def test_a_date_without_zone_is_utc() -> None:
    header = in_seconds(20).replace("GMT", "-0000")

    assert 15 < PATIENT.wait(0, {"Retry-After": header}) <= 20


@pytest.mark.parametrize(
    "header",
    ["0", "", "soon", "-5", "1.5", "NaN", "\u0663", "Wed, 21 Oct 2015 07:28:00 GMT", "9 Foo 99"],
)
def test_anything_else_asks_for_nothing(header: str) -> None:
    assert PATIENT.wait(0, {"Retry-After": header}) <= 0.5


def test_a_number_of_any_length_is_within_bounds() -> None:
    assert PATIENT.wait(0, {"Retry-After": "9" * 100_000}) == 60.0


DATES = st.from_regex(r"[A-Z][a-z]{2}, \d{1,3} [A-Z][a-z]{2} \d{1,6} \d\d:\d\d:\d\d [+-]?\w{3,5}")


@given(st.text() | DATES, st.integers(0, 50))
def test_no_header_leads_beyond_the_bounds(header: str, attempt: int) -> None:
    assert 0 <= PATIENT.wait(attempt, {"Retry-After": header}) <= 60.0


def test_a_pause_is_for_one_host_and_ends() -> None:
    pauses = Pauses()
    pauses.set("quay.io", 30.0)
    pauses.set("done.example", 0.0)

    assert 29.0 < pauses.left("quay.io") <= 33.0
    assert (pauses.left("other.example"), pauses.left("done.example")) == (0.0, 0.0)


def test_a_shorter_pause_does_not_end_a_longer_one() -> None:
    pauses = Pauses()
    pauses.set("quay.io", 30.0)
    pauses.set("quay.io", 1.0)

    assert pauses.left("quay.io") > 29.0


def test_those_who_pause_do_not_come_back_at_once() -> None:
    pauses = Pauses()
    pauses.set("quay.io", 30.0)

    assert len({round(pauses.left("quay.io"), 1) for _ in range(50)}) > 5
