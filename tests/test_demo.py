"""The demo: what a newcomer sees."""

from __future__ import annotations

import re

import pytest

from pubtools_mlmerge.demo import main
from tests.programs import call, run


def test_the_demo_shows_both_merges(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(main) == 0

    out = capsys.readouterr().out
    whole, selected = (part.split("\n$ ")[0] for part in out.split("$ pubtools-mlmerge-merge")[1:])
    fates = re.findall(r"^(linux/\S+) .*? (replaced|kept|excluded)  ", whole, re.MULTILINE)
    assert fates == [
        *((f"linux/{name}", "replaced") for name in ("amd64", "arm64", "ppc64le")),
        ("linux/s390x", "kept"),
    ]
    assert len(re.findall(r"^attestation of \S+ +- +\S+ +added", whole, re.MULTILINE)) == 3
    assert ": 3 added, 3 replaced, 1 kept" in whole
    assert ": 1 added, 1 replaced, 3 kept, 4 excluded" in selected


def test_the_demo_says_what_to_try_next() -> None:
    done = run("demo")

    assert (done.code, "Traceback" in done.err) == (0, False)
    assert "pubtools-mlmerge-inspect HOST/REPOSITORY:TAG" in done.out
    assert done.out.index("$ pubtools-mlmerge-merge --source-ref 127.0.0.1:") > 0
    assert done.out.index(":stable holds") < done.out.index("s390x is still there")


def test_the_demo_takes_no_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(main, "something") == 2

    assert "unrecognized arguments" in capsys.readouterr().err
