"""Answers without end, with the http library of today; the host's is in tests/host."""

from __future__ import annotations

from tests.floods import check, floods


@floods
def test_no_answer_without_end_is_read_without_end(name: str) -> None:
    check(name)
