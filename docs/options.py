"""The commands as reStructuredText and as manual pages, read from their parsers.

`setup.py` writes the manual pages into the wheel, so this imports what needs nothing installed.
"""

from __future__ import annotations

import re
from argparse import Action
from collections.abc import Iterator

from pubtools_mlmerge.cli.parsers import COMMANDS, new_parser

PROGRAM = "pubtools-mlmerge"


def write_command(command: str) -> Iterator[str]:
    """Write what ``--help`` says of a command, as reStructuredText."""
    name, about = f"{PROGRAM} {command}", COMMANDS[command]
    yield from (about.description.replace("\n", " "), "", ".. code-block:: text", "")
    yield from (f"   {name} {usage}[options]" for usage in about.usages)
    yield ""
    yield from (f".. program:: {PROGRAM}-{command}", "")
    yield from write_options(command)


def write_options(command: str) -> Iterator[str]:
    """Write what ``--help`` says of each option, as reStructuredText."""
    for names, value, plain in _options(command):
        text = re.sub(r"([*\\])", r"\\\1", plain)
        text = re.sub(r"(?<![\w`-])(--[a-z][a-z-]+)", r"``\1``", text)
        given = f" {value}" if value else ""
        yield f".. option:: {', '.join(name + given for name in names)}"
        yield from ("", f"   {text}", "")


def write_man(version: str) -> Iterator[tuple[str, str]]:
    """Write the manual pages: file name and content of each."""
    yield f"{PROGRAM}.1", _page(PROGRAM, _overview(), version)
    for command in COMMANDS:
        name = f"{PROGRAM}-{command}"
        yield f"{name}.1", _page(name, _sections(command), version)


def _page(name: str, lines: Iterator[str], version: str) -> str:
    head = f'.TH {name.upper()} 1 "" "{PROGRAM} {version}" "User Commands"'
    return "\n".join((head, *lines, ""))


def _overview() -> Iterator[str]:
    yield from (".SH NAME", rf"{_troff(PROGRAM)} \- merge, edit and inspect multi-arch images")
    yield from (".SH SYNOPSIS", rf".B {_troff(PROGRAM)}", r"\fICOMMAND\fR [options]")
    yield ".SH COMMANDS"
    for command, about in COMMANDS.items():
        yield from (".TP", rf"\fB{_troff(f'{PROGRAM}-{command}')}\fR(1)", _troff(about.description))


def _sections(command: str) -> Iterator[str]:
    about, name = COMMANDS[command], f"{PROGRAM}-{command}"
    summary = re.split(r"[.:;] ?", about.description.replace("\n", " "))[0]
    yield from (".SH NAME", rf"{_troff(name)} \- {_troff(summary[:1].lower() + summary[1:])}")
    yield ".SH SYNOPSIS"
    for usage in about.usages:
        yield from (rf"\fB{_troff(name)}\fR {_troff(usage)}[options]", ".br")
    yield from (".SH DESCRIPTION", _troff(about.description), ".SH OPTIONS")
    for names, value, text in _options(command):
        given = rf" \fI{_troff(value)}\fR" if value else ""
        yield from (".TP", ", ".join(rf"\fB{_troff(each)}\fR{given}" for each in names))
        yield _troff(text)
    if about.example:
        yield from (".SH EXAMPLE", ".nf", _troff(f"{name} {about.example}"), ".fi")
    yield from (".SH EXIT STATUS", "0 on success, 1 after a failure, 2 for wrong usage.")
    yield from (".SH SEE ALSO", rf"\fB{_troff(PROGRAM)}\fR(1)")


def _options(command: str) -> Iterator[tuple[list[str], str, str]]:
    """List names, value and help of each option."""
    for action in new_parser(command, command)._actions:  # noqa: SLF001 - argparse has no other way
        if action.option_strings:
            text = action.help or ""
            yield [*action.option_strings], _value(action), f"{text[:1].upper()}{text[1:]}."


def _value(action: Action) -> str:
    if action.nargs == 0:
        return ""
    if isinstance(action.metavar, str):
        return action.metavar
    choices = action.choices
    return "|".join(choices) if isinstance(choices, tuple) else action.dest.upper()


def _troff(text: str) -> str:
    """Escape what groff would take for a request, a hyphen or an escape."""
    lines = text.replace("\\", r"\e").replace("-", r"\-").split("\n")
    return "\n".join(rf"\&{line}" if line[:1] in (".", "'") else line for line in lines)
