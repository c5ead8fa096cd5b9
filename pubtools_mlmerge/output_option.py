"""The option --output: text, json, or html with a file.

Like `cli`, this imports nothing but the standard library.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

_OUTPUTS = ("text", "json", "html")


class OutputParser(argparse.ArgumentParser):
    """Takes the file of a page with ``--output html``, and nothing with other outputs.

    argparse itself knows options of a fixed number of values, or of as many as there are.
    """

    def parse_known_args(  # type: ignore[override]  # it is overloaded for kinds of Namespace
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse arguments, see the base class."""
        given = sys.argv[1:] if args is None else args
        return super().parse_known_args(_joined(given), namespace)

    def add_output(self) -> None:
        """Add the option; it sets ``output`` and ``output_file``, the latter for a page only."""
        self.set_defaults(output_file=None)
        self.add_argument(
            "--output",
            action=_Output,
            default="text",
            metavar="text|json|html FILE",
            help="a table; one JSON object per line and result; or the table, and a page of all "
            "results in a file (- for standard output, without the table)",
        )


def _joined(arguments: Sequence[str]) -> list[str]:
    """Write ``--output html FILE`` as ``--output=html=FILE``."""
    rest, joined = list(arguments), []
    while rest:
        option, equals, value = rest.pop(0).partition("=")
        if len(option) > len("--") and "--output".startswith(option):
            if not equals and rest[:1] == ["html"]:
                equals, value = "=", rest.pop(0)
            if value == "html" and rest and (rest[0] == "-" or not rest[0].startswith("-")):
                value = f"html={rest.pop(0)}"
        joined.append(f"{option}{equals}{value}")
    return joined


class _Output(argparse.Action):
    """Reads what `_joined` wrote."""

    def __call__(
        self,
        _parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[object] | None,
        _option: str | None = None,
    ) -> None:
        output, _, file = str(values).partition("=")
        if output not in _OUTPUTS or (file and output != "html"):
            raise argparse.ArgumentError(self, f"expected text, json or html FILE, not {values}")
        if output == "html" and not file:
            raise argparse.ArgumentError(self, "html needs a FILE, or - for standard output")
        namespace.output, namespace.output_file = output, file or None
