"""Answers without end, with the http library that the host forces, which has fewer limits."""

from __future__ import annotations

import pytest

from tests.floods import check, floods
from tests.stress.counts import counts_of


@floods
def test_no_answer_without_end_is_read_without_end(name: str, pytestconfig: pytest.Config) -> None:
    check(name)
    counts_of(pytestconfig).survived("answers without end", 1, of=1)
