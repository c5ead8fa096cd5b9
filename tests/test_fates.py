"""Fates as signs, and ages in words."""

from __future__ import annotations

from typing import get_args

import pytest

from pubtools_mlmerge.core.plan import Fate
from pubtools_mlmerge.reports.report import SIGNS, age_words


def test_each_fate_has_a_sign_of_its_own() -> None:
    assert tuple(SIGNS) == get_args(Fate)
    assert len(set(SIGNS.values())) == len(SIGNS)


@pytest.mark.parametrize(
    ("days", "words"),
    [
        *((0, "0 days"), (1, "1 day"), (364, "364 days"), (365, "1 year")),
        *((380, "1 year"), (420, "1.2 years"), (730, "2 years"), (1095, "3 years")),
    ],
)
def test_an_age_is_in_years_from_one_year_on(days: int, words: str) -> None:
    assert age_words(days) == words
