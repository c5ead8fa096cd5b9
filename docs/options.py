"""The options of the commands as reStructuredText, read from their parsers."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pubtools_mlmerge.cli.parsers import new_parser


def write_options(command: str) -> Iterator[str]:
    """Write what ``--help`` says of each option."""
    for action in new_parser(command, command)._actions:  # noqa: SLF001 - argparse has no other way
        if not action.option_strings:
            continue
        value = f" {_value(action.metavar, action.choices, action.dest)}"
        value = "" if action.nargs == 0 else value
        text = re.sub(r"([*\\])", r"\\\1", action.help or "")
        text = re.sub(r"(?<![\w`-])(--[a-z][a-z-]+)", r"``\1``", text)
        yield f".. option:: {', '.join(name + value for name in action.option_strings)}"
        yield ""
        yield f"   {text[:1].upper()}{text[1:]}."
        yield ""


def _value(metavar: object, choices: object, name: str) -> str:
    if isinstance(metavar, str):
        return metavar
    return "|".join(choices) if isinstance(choices, tuple) else name.upper()
