"""The option --output, which has a file with html and nothing else with text and json."""

from __future__ import annotations

import pytest

from pubtools_mlmerge.cli.parsers import OutputParser

Capture = pytest.CaptureFixture[str]


def parse(*arguments: str) -> tuple[str, str | None, list[str]]:
    parser = OutputParser(prog="program")
    parser.add_output()
    parser.add_argument("rest", nargs="*")
    found = parser.parse_args(arguments)
    return found.output, found.output_file, found.rest


def test_text_is_the_default() -> None:
    assert parse("x") == ("text", None, ["x"])


@pytest.mark.parametrize("output", ["text", "json"])
@pytest.mark.parametrize("equals", [False, True])
def test_text_and_json_have_no_file(output: str, equals: bool) -> None:
    given = [f"--output={output}"] if equals else ["--output", output]

    assert parse(*given, "x") == (output, None, ["x"])


@pytest.mark.parametrize(
    "given", [("--output", "html"), ("--output=html",), ("--out", "html"), ("--o=html",)]
)
@pytest.mark.parametrize("file", ["page.html", "-", "a=b.html", "./-x", "with space", "html"])
def test_html_has_a_file(given: tuple[str, ...], file: str) -> None:
    assert parse(*given, file, "x") == ("html", file, ["x"])


def test_other_arguments_may_come_before_and_after() -> None:
    assert parse("--output", "html", "f", "x", "y") == ("html", "f", ["x", "y"])
    assert parse("x", "y", "--output", "html", "f") == ("html", "f", ["x", "y"])


def test_the_last_one_counts() -> None:
    assert parse("--output", "html", "f", "--output", "json") == ("json", None, [])


@pytest.mark.parametrize(
    "given",
    [
        ("--output", "html"),
        ("--output=html",),
        ("--output", "html", "--output", "text"),
        ("--output", "html", ""),
    ],
)
def test_html_needs_a_file(given: tuple[str, ...], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as end:
        parse(*given)

    assert end.value.code == 2
    assert "html needs a FILE, or - for standard output" in capsys.readouterr().err


@pytest.mark.parametrize("given", ["xml", "", "json=f", "HTML", "xml=f"])
def test_another_output_is_wrong(given: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as end:
        parse("--output", given)

    assert end.value.code == 2
    assert f"expected text, json or html FILE, not {given}" in capsys.readouterr().err


def test_an_output_is_needed(capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        parse("--output")

    assert "expected one argument" in capsys.readouterr().err


def test_the_command_line_of_the_process_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["program", "--output", "html", "f"])
    parser = OutputParser(prog="program")
    parser.add_output()

    assert parser.parse_args().output_file == "f"


def test_the_help_has_all_of_it(capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        parse("--help")

    assert "--output text|json|html FILE" in capsys.readouterr().out
