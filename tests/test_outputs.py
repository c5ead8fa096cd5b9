"""What is printed of results, and the page that is written of all of them."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import pytest

from pubtools_mlmerge.cli.commands import Output, output_of_reports
from pubtools_mlmerge.reports.html import Failure, Page, PageFile, PageInfo
from tests.paper import example, text_of

Capture = pytest.CaptureFixture[str]


def listed(results: Sequence[str | Failure], making: PageInfo) -> str:
    """Stand for a page."""
    return f"page of {[str(result) for result in results]}, complete: {making.complete}"


def test_without_a_page_results_are_printed(capsys: Capture) -> None:
    output = Output(str.upper)

    output.tell("one")
    output.fail("two", ValueError("no"))
    output.close(complete=True)

    assert capsys.readouterr().out == "ONE\n"


def test_a_page_has_results_and_failures_in_their_order(capsys: Capture, tmp_path: Path) -> None:
    output: Output[str] = Output(str.upper, Page(PageFile(tmp_path / "page"), listed))

    output.tell("one")
    output.fail("two", ValueError("no"))
    output.tell("three")
    output.close(complete=False)

    failure = str(Failure("two", "no"))
    expected = f"page of {['one', failure, 'three']}, complete: False"
    assert (tmp_path / "page").read_text(encoding="utf-8") == expected
    assert capsys.readouterr().out == "ONE\nTHREE\n"


def test_an_error_without_words_is_named(tmp_path: Path) -> None:
    output: Output[str] = Output(str, Page(PageFile(tmp_path / "page"), listed))

    output.fail("two", MemoryError())
    output.close(complete=True)

    assert "MemoryError" in (tmp_path / "page").read_text(encoding="utf-8")


def test_a_page_on_standard_output_is_alone_there(capsys: Capture) -> None:
    output: Output[str] = Output(str.upper, Page(None, listed))

    output.tell("one")
    assert capsys.readouterr().out == ""
    output.close(complete=True)

    assert capsys.readouterr().out == "page of ['one'], complete: True\n"


@pytest.mark.parametrize("output", ["text", "json"])
def test_reports_are_printed_as_asked(output: str, capsys: Capture) -> None:
    output_of_reports(Namespace(output=output, output_file=None)).tell(example())

    printed = capsys.readouterr().out
    assert printed.startswith("{" if output == "json" else "PLATFORM")
    if output == "json":
        assert json.loads(printed)["anchor_tag"] == "stable-1"


def test_reports_are_text_beside_a_page(capsys: Capture, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    output = output_of_reports(Namespace(output="html", output_file=str(file)))

    output.tell(example())
    output.close(complete=True)

    assert capsys.readouterr().out.startswith("PLATFORM")
    assert "quay.io/org/app:stable" in text_of(file.read_text(encoding="ascii"))


def test_a_file_that_cannot_be_written_is_wrong_usage(tmp_path: Path) -> None:
    arguments = Namespace(output="html", output_file=str(tmp_path / "absent" / "page.html"))

    with pytest.raises(ValueError, match=r"--output html: .*: No such file or directory"):
        output_of_reports(arguments)
