"""Batches: a JSON object a line, read strictly."""

from __future__ import annotations

import json

import pytest

from pubtools_mlmerge.cli.commands import BatchLine, numbered

LINE = {"source_ref": "quay.io/a/b:new", "dest_ref": "quay.io/a/b:1"}


def test_a_line_names_source_and_destination() -> None:
    line = BatchLine.parse(json.dumps(LINE) + "\n")

    assert line == BatchLine("quay.io/a/b:new", "quay.io/a/b:1")
    assert line.archs is None


def test_a_line_may_name_architectures() -> None:
    line = BatchLine.parse(json.dumps({**LINE, "archs": ["arm64", "linux/arm/v7"]}))

    assert line.archs == ("arm64", "linux/arm/v7")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is not JSON"),
        ("quay.io/a/b:1", "is not JSON"),
        ("[]", "expected an object"),
        ('{"source_ref": "a", "source_ref": "b", "dest_ref": "c"}', "more than once"),
        (json.dumps({**LINE, "arch": ["arm64"]}), "arch: unknown, there are source_ref"),
        (json.dumps({"source_ref": "a"}), "source_ref, dest_ref: expected texts"),
        (json.dumps({**LINE, "dest_ref": ["a"]}), "source_ref, dest_ref: expected texts"),
        (json.dumps({**LINE, "archs": "arm64"}), "archs: expected a list of texts"),
        (json.dumps({**LINE, "archs": []}), "archs: expected a list of texts"),
        (json.dumps({**LINE, "archs": [7]}), "archs: expected a list of texts"),
        ("\udcff", "is not UTF-8"),
    ],
)
def test_anything_else_is_no_line(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        BatchLine.parse(text)


def test_lines_are_numbered_as_editors_do() -> None:
    assert list(numbered(["a\n", "\n", "  \n", "b"])) == [(1, "a\n"), (4, "b")]
