"""Fates as signs, and ages in words."""

from __future__ import annotations

from typing import get_args

import pytest

from pubtools_mlmerge.fates import SIGNS, age_words, counted
from pubtools_mlmerge.plan import Fate
from tests.paper import example


def test_each_fate_has_a_sign_of_its_own() -> None:
    assert tuple(SIGNS) == get_args(Fate)
    assert len(set(SIGNS.values())) == len(SIGNS)


def test_fates_are_counted_in_one_order() -> None:
    counts = counted(reversed(example().entries))

    assert list(counts.items()) == [
        *(("added", 2), ("replaced", 1), ("same", 1)),
        *(("kept", 1), ("dropped", 1), ("excluded", 1)),
    ]


def test_a_fate_that_there_is_not_is_not_counted() -> None:
    assert counted([]) == {}


@pytest.mark.parametrize(
    ("days", "words"),
    [
        *((0, "0 days"), (1, "1 day"), (364, "364 days"), (365, "1 year")),
        *((380, "1 year"), (420, "1.2 years"), (730, "2 years"), (1095, "3 years")),
    ],
)
def test_an_age_is_in_years_from_one_year_on(days: int, words: str) -> None:
    assert age_words(days) == words
