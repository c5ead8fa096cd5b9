"""The console scripts: their arguments, exit codes and logging.

Every task of every pubtools library imports this module to find hooks, so it imports next to
nothing and loads the rest when a script runs.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

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


def new_parser(
    name: str, usages: Sequence[str], description: str, example: str
) -> argparse.ArgumentParser:
    """Make a parser with what all commands have."""
    parser = OutputParser(
        prog=name,
        usage="\n       ".join(f"{name} {usage} [options]" for usage in usages),
        description=description,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_output()
    parser.add_argument(
        "-d",
        "--debug",
        action="count",
        default=0,
        help="show debug logs and tracebacks; repeat for those of other libraries",
    )
    return parser


def add_references(parser: argparse.ArgumentParser) -> None:
    """Add what to merge, and how."""
    parser.add_argument("--source-ref", help="image whose entries win; by tag or digest")
    parser.add_argument(
        "--dest-ref",
        action="append",
        default=[],
        metavar="REF[,REF]",
        help="tag to merge into; repeatable, or several separated by commas",
    )
    parser.add_argument(
        "--batch",
        metavar="FILE",
        help="merge what the lines of a file ask for, or of standard input (-): JSON objects with "
        "source_ref, dest_ref and perhaps archs",
    )
    parser.add_argument(
        "--threads", type=int, default=8, metavar="N", help="merge so many tags at a time (8)"
    )
    parser.add_argument(
        "--fail-fast", action="store_true", help="begin no further merge once one failed"
    )
    parser.add_argument("--dry-run", action="store_true", help="show the outcome, write nothing")
    parser.add_argument(
        "--copy",
        choices=("auto", "skopeo", "never"),
        help="how images get into another repository: mounted where the registry does that and "
        "by skopeo otherwise, by skopeo always, or not at all",
    )
    parser.add_argument(
        "--anchor-tag",
        metavar="TEMPLATE",
        help="second tag on what is uploaded, from {tag}, {timestamp} and {digest}",
    )


def add_policy(parser: argparse.ArgumentParser) -> None:
    """Add what the merge decides differently."""
    parser.add_argument(
        "--arch",
        action="append",
        metavar="A,B",
        help="take only these architectures or platforms from the source; repeatable",
    )
    parser.add_argument(
        "--match",
        choices=("platform", "architecture"),
        help="what makes two entries the same",
    )
    for name, what in (("keep", "only these platforms"), ("drop", "all but these platforms")):
        parser.add_argument(
            f"--{name}",
            action="append",
            default=[],
            metavar="PLATFORM",
            help=f"let {what} of the destination stay; patterns such as windows/*; repeatable",
        )
    parser.add_argument(
        "--single-image",
        choices=("replace", "wrap", "fail"),
        help="what to do where an image is no index",
    )
    parser.add_argument(
        "--mixed-types",
        choices=("oci", "fail"),
        help="list Docker and OCI manifests together in an OCI index, or refuse",
    )
    _add_ages(parser)


def _add_ages(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--max-age-days",
        type=int,
        metavar="N",
        help="read how old the images are that stay, and judge those that are older than this",
    )
    parser.add_argument(
        "--stale",
        choices=("warn", "drop", "fail"),
        help="keep what is too old with a warning, let it not stay, or refuse to merge",
    )
    parser.add_argument("--ages", action="store_true", help="show how old the images are that stay")


def add_connection(parser: argparse.ArgumentParser, sides: Sequence[str]) -> None:
    """Add where to connect, and as whom."""
    parser.add_argument(
        "--quay-host", help="where to connect (host, host:port or URL), whatever references name"
    )
    if "source" in sides:
        parser.add_argument("--source-quay-host", help="the same for the source alone")
    for side in sides:
        variable = f"{side.upper()}_QUAY_PASSWORD"
        parser.add_argument(f"--{side}-quay-user", help="user name; leave out for auth files")
        parser.add_argument(
            f"--{side}-quay-password",
            default=os.environ.get(variable),
            help=f"password; better given by the environment variable {variable}",
        )
    parser.add_argument("--ca-bundle", metavar="FILE", help="certificate authorities to trust")
    parser.add_argument(
        "--max-rate", type=float, metavar="N", help="most requests per second to one registry"
    )
    parser.add_argument("--insecure", action="store_true", help="do not verify certificates at all")


def add_safety(parser: argparse.ArgumentParser) -> None:
    """Add what keeps the work of others, and the way back."""
    parser.add_argument(
        "--no-verify",
        dest="verify",
        action="store_false",
        default=None,
        help="do not read the tag again just before it is written, and after that",
    )
    parser.add_argument(
        "--tries",
        type=int,
        metavar="N",
        help="plan again at most so often where somebody else writes the tag",
    )
    parser.add_argument(
        "--lock",
        metavar="URL",
        help="lock tags here (file:///DIRECTORY, redis://HOST); with a password, better given by "
        "the environment variable MLMERGE_LOCK",
    )
    parser.add_argument(
        "--audit", metavar="DIRECTORY", help="record each change here before it is made"
    )
    parser.add_argument(
        "--quay-api-token",
        default=os.environ.get("QUAY_API_TOKEN"),
        help="token of Quay's API, to learn from the history of a tag what was replaced; better "
        "given by the environment variable QUAY_API_TOKEN",
    )


def merge_main(arguments: Sequence[str] | None = None) -> None:
    """Merge an image into one or more tags."""
    parser = new_parser(
        "pubtools-mlmerge-merge",
        ["--source-ref REF --dest-ref REF[,REF]", "--batch FILE"],
        "Merge a multi-architecture image into tags: everything of the source, and of\n"
        "each destination what the source lacks.",
        "pubtools-mlmerge-merge --source-ref registry.example.com/app:1.1 \\\n"
        "      --dest-ref registry.example.com/app:stable --dry-run",
    )
    add_references(parser)
    add_policy(parser)
    add_safety(parser)
    add_connection(parser, sides=("source", "dest"))
    _run(parser, arguments, _load_merge)


def remove_archs_main(arguments: Sequence[str] | None = None) -> None:
    """Remove architectures from a tag."""
    parser = new_parser(
        "pubtools-mlmerge-remove-archs",
        ["--ref REF --arch A,B"],
        "Remove architectures from what a tag holds, their attestations with them.",
        "pubtools-mlmerge-remove-archs --ref registry.example.com/app:stable \\\n"
        "      --arch s390x,linux/arm/v7 --dry-run",
    )
    parser.add_argument("--ref", required=True, help="image reference, by tag")
    parser.add_argument(
        "--arch",
        action="append",
        required=True,
        metavar="A,B",
        help="architectures (arm64) or platforms (linux/arm/v7) to remove; repeatable",
    )
    parser.add_argument(
        "--allow-empty", action="store_true", help="remove them even if nothing is left"
    )
    parser.add_argument("--dry-run", action="store_true", help="write nothing")
    add_safety(parser)
    add_connection(parser, sides=("dest",))
    _run(parser, arguments, _load_remove_archs)


def inspect_main(arguments: Sequence[str] | None = None) -> None:
    """Show what an image lists."""
    parser = new_parser(
        "pubtools-mlmerge-inspect",
        ["REF [REF]"],
        "Show the platforms of a multi-arch image, or what differs between two.",
        "pubtools-mlmerge-inspect registry.example.com/app:stable --ages",
    )
    parser.add_argument("reference", metavar="REF", help="image reference, by tag or digest")
    parser.add_argument(
        "other",
        nargs="?",
        metavar="REF",
        help="another one, to show the difference of the two; that changes no exit code",
    )
    parser.add_argument(
        "--ages", action="store_true", help="read how old the images are, and show it"
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="ask whether all that is listed is in the repository; the exit code is 1 if not",
    )
    add_connection(parser, sides=("source",))
    _run(parser, arguments, _load_inspect)


def restore_main(arguments: Sequence[str] | None = None) -> None:
    """Put tags back to what they held before a change that was recorded."""
    parser = new_parser(
        "pubtools-mlmerge-restore",
        ["RECORD..."],
        "Put tags back to what they held before a change that --audit recorded.",
        "pubtools-mlmerge-restore records/*-app-stable-*.json --dry-run",
    )
    parser.add_argument("records", nargs="+", metavar="RECORD", help="file of a recorded change")
    parser.add_argument(
        "--force", action="store_true", help="also if the tag moved on since, or lacks images"
    )
    parser.add_argument("--dry-run", action="store_true", help="show the outcome, write nothing")
    add_connection(parser, sides=("dest",))
    _run(parser, arguments, _load_restore)


def _run(
    parser: argparse.ArgumentParser,
    given: Sequence[str] | None,
    load: Callable[[], Callable[[argparse.Namespace], Callable[[], bool]]],
) -> None:
    """Prepare a command, then carry it out inside the task context."""
    arguments = parser.parse_args(given)
    _configure_logging(arguments.debug)
    try:
        with _kept(whole=given is None):
            from pubtools.pluggy import task_context  # noqa: PLC0415 - see the module

            prepare = load()
        run = prepare(arguments)
    except ValueError as error:
        parser.error(str(error))
    with task_context():
        if not run():
            raise SystemExit(1)


@contextmanager
def _kept(*, whole: bool) -> Iterator[None]:
    """Spare the collector of garbage what is loaded, if that lives as long as the process.

    It would look through each module many times over, which takes longer than to load some.
    """
    if not whole:
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _load_merge() -> Callable[[argparse.Namespace], Callable[[], bool]]:
    from pubtools_mlmerge.cli.commands import prepare_merge  # noqa: PLC0415 - see the module

    return prepare_merge


def _load_remove_archs() -> Callable[[argparse.Namespace], Callable[[], bool]]:
    from pubtools_mlmerge.cli.commands import prepare_remove_archs  # noqa: PLC0415 - see the module

    return prepare_remove_archs


def _load_inspect() -> Callable[[argparse.Namespace], Callable[[], bool]]:
    from pubtools_mlmerge.cli.commands import prepare_inspect  # noqa: PLC0415 - see the module

    return prepare_inspect


def _load_restore() -> Callable[[argparse.Namespace], Callable[[], bool]]:
    from pubtools_mlmerge.cli.commands import prepare_restore  # noqa: PLC0415 - see the module

    return prepare_restore


def _configure_logging(debug: int) -> None:
    handler = logging.StreamHandler()
    handler.addFilter(_is_shown)
    if not debug:
        handler.addFilter(_is_news)
    logging.basicConfig(
        level=logging.WARNING, format="%(levelname)s: %(message)s", handlers=[handler]
    )
    logging.getLogger("pubtools").setLevel(logging.DEBUG if debug else logging.INFO)
    if debug > 1:
        logging.getLogger().setLevel(logging.DEBUG)
        logging.getLogger("urllib3").setLevel(logging.INFO)


def _is_news(record: logging.LogRecord) -> bool:
    """Leave out how each merge begins and ends: the program tells that itself, failures too."""
    event = getattr(record, "event", {}) if record.name == "pubtools.mlmerge" else {}
    return not event.get("type", "").endswith(("-start", "-end", "-error"))


def _is_shown(record: logging.LogRecord) -> bool:
    """Leave out what urllib3 logs: whole URLs, and those that registries redirect to are signed.

    Headers that it cannot read are worth a warning to it, with the URL and a traceback.
    """
    return record.levelno >= logging.ERROR or not record.name.startswith("urllib3")
