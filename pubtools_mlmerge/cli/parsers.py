"""The console scripts: their arguments, exit codes and logging.

Every task of every pubtools library imports this module to find hooks, so it imports next to
nothing and loads the rest when a script runs.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence


class _Once(argparse.Action):
    """Stores a value; another one for the same is wrong usage, as one of them must be a slip."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        given: dict[str, object] = vars(namespace).setdefault("given_once", {})
        value = self.const if self.nargs == 0 else values
        first = given.setdefault(self.dest, value)
        if first is not value and first != value:
            parser.error(f"{option_string or self.dest}: given twice, with different values")
        setattr(namespace, self.dest, value)


def new_parser(
    command: str, usages: Sequence[str], description: str, example: str
) -> argparse.ArgumentParser:
    """Make a parser with the options that all commands have."""
    name = f"pubtools-mlmerge-{command}"
    parser = argparse.ArgumentParser(
        prog=name,
        usage="\n       ".join(f"{name} {usage} [options]" for usage in usages),
        description=description,
        epilog=f"example:\n  {name} {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.register("action", None, _Once)
    parser.add_argument(
        "--output",
        choices=("text", "json"),
        default="text",
        help="how to print results: as text, or as one JSON object per line",
    )
    parser.add_argument(
        "-d",
        "--debug",
        action="count",
        default=0,
        help="show debug logs and tracebacks; repeat for those of other libraries",
    )
    return parser


def add_changes(parser: argparse.ArgumentParser) -> None:
    """Add what all commands have that change tags."""
    parser.add_argument("--dry-run", action="store_true", help="show the result, write nothing")
    parser.add_argument(
        "--html", metavar="FILE", help="also write an HTML page of all results to this file"
    )


def add_references(parser: argparse.ArgumentParser) -> None:
    """Add what to merge, and how to run the merges."""
    parser.add_argument(
        "--source-ref",
        action="append",
        default=[],
        metavar="REF[,REF]",
        help="image to merge, by tag or digest; repeatable, or several separated by commas: they "
        "become one index, and of two images for one platform the first is taken",
    )
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
        help="read merges from a file, or from standard input (-): each line is a JSON object "
        "with source_ref (text or list), dest_ref and optionally archs",
    )
    parser.add_argument(
        "--threads", type=int, default=8, metavar="N", help="merge N tags at a time (default: 8)"
    )
    parser.add_argument(
        "--fail-fast", action="store_true", help="start no further merge after a failure"
    )
    parser.add_argument(
        "--copy",
        choices=("auto", "skopeo", "never"),
        help="how to bring images into another repository: auto mounts them, or runs skopeo if "
        "the registry does not mount; never fails if an image is missing",
    )
    parser.add_argument(
        "--anchor-tag",
        metavar="TEMPLATE",
        help="set a second tag on the result, made from {tag}, {timestamp} and {digest}",
    )


def add_policy(parser: argparse.ArgumentParser) -> None:
    """Add the policy of a merge."""
    parser.add_argument(
        "--arch",
        action="append",
        metavar="A,B",
        help="take only these architectures or platforms from the source; repeatable",
    )
    parser.add_argument(
        "--match",
        choices=("platform", "architecture"),
        help="which entries replace each other: those of the same platform, or architecture",
    )
    for name, kept in (("keep", "only these platforms"), ("drop", "all but these platforms")):
        text = f"keep {kept} of the destination; patterns such as windows/*; repeatable"
        parser.add_argument(f"--{name}", action="append", default=[], metavar="PLATFORM", help=text)
    parser.add_argument(
        "--single-image",
        choices=("wrap", "index", "replace", "fail"),
        help="what to do with a single image: merge it as an index of one entry (wrap, the "
        "default), never write it alone (index), let the source replace the destination, or fail",
    )
    parser.add_argument(
        "--mixed-types",
        choices=("oci", "fail"),
        help="list Docker and OCI manifests together in an OCI index, or refuse to",
    )
    parser.add_argument(
        "--max-age-days",
        type=int,
        metavar="N",
        help="check if kept images are older than N days",
    )
    parser.add_argument(
        "--stale",
        choices=("warn", "drop", "fail"),
        help="what to do with kept images that are too old: warn, drop them, or fail",
    )
    parser.add_argument("--ages", action="store_true", help="show how old kept images are")
    add_strict(parser)


def add_strict(parser: argparse.ArgumentParser) -> None:
    """Add what becomes of names that fit nothing."""
    parser.add_argument(
        "--strict", action="store_true", help="fail if a named platform is not in the tag"
    )


def add_connection(parser: argparse.ArgumentParser, sides: Sequence[str]) -> None:
    """Add where to connect, and as whom."""
    parser.add_argument(
        "--quay-host",
        help="registry to connect to (host, host:port or URL), instead of the "
        "host in each reference",
    )
    if "source" in sides:
        parser.add_argument("--source-quay-host", help="the same for the source only")
    for side in sides:
        variable = f"{side.upper()}_QUAY_PASSWORD"
        parser.add_argument(
            f"--{side}-quay-user", help="user name; without it, auth files are used"
        )
        parser.add_argument(
            f"--{side}-quay-password",
            default=os.environ.get(variable),
            help=f"password; better set the environment variable {variable}",
        )
    parser.add_argument("--ca-bundle", metavar="FILE", help="certificate authorities to trust")
    parser.add_argument(
        "--max-rate", type=float, metavar="N", help="most requests per second to one registry"
    )
    parser.add_argument(
        "--timeout", type=float, metavar="SECONDS", help="end the run after that time"
    )
    parser.add_argument("--insecure", action="store_true", help="do not verify certificates")


def add_safety(parser: argparse.ArgumentParser) -> None:
    """Add what protects the work of others, and the way back."""
    parser.add_argument(
        "--no-verify",
        dest="verify",
        action="store_false",
        default=None,
        help="do not read the tag again right before and after writing it",
    )
    parser.add_argument(
        "--tries",
        type=int,
        metavar="N",
        help="plan at most N times if somebody else keeps writing the tag",
    )
    parser.add_argument(
        "--lock",
        metavar="URL",
        help="where to lock tags (file:///DIRECTORY, redis://HOST); if it has a password, better "
        "set the environment variable MLMERGE_LOCK",
    )
    parser.add_argument(
        "--audit", metavar="DIRECTORY", help="record each change in this directory before making it"
    )
    parser.add_argument(
        "--quay-api-token",
        default=os.environ.get("QUAY_API_TOKEN"),
        help="token for Quay's API, to read in the history of a tag what was replaced; better "
        "set the environment variable QUAY_API_TOKEN",
    )


def merge_main(arguments: Sequence[str] | None = None) -> None:
    """Merge an image into one or more tags."""
    parser = new_parser(
        "merge",
        ["--source-ref REF[,REF] --dest-ref REF[,REF]", "--batch FILE"],
        "Merge images into tags: all images of the sources, plus the images of each\n"
        "destination for platforms that the sources lack.",
        "--source-ref registry.example.com/app:1.1 \\\n"
        "      --dest-ref registry.example.com/app:stable --dry-run",
    )
    add_changes(parser)
    add_references(parser)
    add_policy(parser)
    add_safety(parser)
    add_connection(parser, sides=("source", "dest"))
    _run("merge", parser, arguments)


def remove_archs_main(arguments: Sequence[str] | None = None) -> None:
    """Remove architectures from a tag."""
    parser = new_parser(
        "remove-archs",
        ["--ref REF[,REF] --arch A,B", "--ref REF[,REF] --prune"],
        "Remove architectures and their attestations from tags.",
        "--ref registry.example.com/app:stable \\\n      --arch s390x,linux/arm/v7 --dry-run",
    )
    add_changes(parser)
    parser.add_argument(
        "--ref",
        action="append",
        required=True,
        metavar="REF[,REF]",
        help="tag to remove them from; repeatable, or several separated by commas",
    )
    parser.add_argument(
        "--arch",
        action="append",
        default=[],
        metavar="A,B",
        help="architectures (arm64) or platforms (linux/arm/v7) to remove, none for entries "
        "without a platform, or digests of entries; repeatable",
    )
    parser.add_argument(
        "--prune",
        action="store_true",
        help="remove attestations of images that are not listed, entries for unknown/unknown that "
        "name no image, and what is listed twice",
    )
    add_strict(parser)
    parser.add_argument(
        "--allow-empty", action="store_true", help="remove them even if nothing is left"
    )
    add_safety(parser)
    add_connection(parser, sides=("dest",))
    _run("remove-archs", parser, arguments)


def inspect_main(arguments: Sequence[str] | None = None) -> None:
    """Show what an image lists."""
    parser = new_parser(
        "inspect",
        ["REF [REF]"],
        "Show the platforms of a multi-arch image, or how two of them compare.",
        "registry.example.com/app:stable --ages",
    )
    parser.add_argument("reference", metavar="REF", help="image reference, by tag or digest")
    parser.add_argument(
        "other", nargs="?", metavar="REF", help="another reference, to compare the two"
    )
    parser.add_argument("--ages", action="store_true", help="show how old the images are")
    parser.add_argument(
        "--check",
        action="store_true",
        help="check that the repository has everything that is listed; if not, the exit code is 1",
    )
    add_connection(parser, sides=("source",))
    _run("inspect", parser, arguments)


def restore_main(arguments: Sequence[str] | None = None) -> None:
    """Restore tags to what they held before a recorded change."""
    parser = new_parser(
        "restore",
        ["RECORD..."],
        "Restore tags to what they held before a change that --audit recorded.",
        "records/*-app-stable-*.json --dry-run",
    )
    add_changes(parser)
    parser.add_argument("records", nargs="+", metavar="RECORD", help="file with a recorded change")
    parser.add_argument(
        "--force",
        action="store_true",
        help="even if the tag was changed since, or images seem to be missing",
    )
    add_connection(parser, sides=("dest",))
    _run("restore", parser, arguments)


def _run(command: str, parser: argparse.ArgumentParser, given: Sequence[str] | None) -> None:
    """Parse arguments, prepare a command, and run it inside the task context."""
    arguments = parser.parse_args(given)
    _configure_logging(arguments.debug)
    # These load all the rest, see the module.
    from pubtools.pluggy import task_context  # noqa: PLC0415

    from pubtools_mlmerge.concurrency import ended_by_signals  # noqa: PLC0415

    with ended_by_signals(_say_so):
        from pubtools_mlmerge.cli.commands import COMMANDS  # noqa: PLC0415

        try:
            run = COMMANDS[command](arguments)
        except ValueError as error:
            parser.error(str(error))
        with task_context():
            if not run():
                raise SystemExit(1)


def _say_so(number: int) -> None:
    logging.getLogger("pubtools.mlmerge").error(
        "Interrupted by %s; what is not printed was not done", signal.Signals(number).name
    )


class _StandardError(logging.Handler):
    """Writes to the current sys.stderr, which rich replaces while it shows progress bars."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(f"{self.format(record)}\n")
        except Exception:  # noqa: BLE001 - as all handlers do
            self.handleError(record)


def _configure_logging(debug: int) -> None:
    handler = _StandardError()
    handler.addFilter(_has_no_url)
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
    """Leave out how each merge begins and ends, as the program prints that itself."""
    event = getattr(record, "event", {}) if record.name == "pubtools.mlmerge" else {}
    return not event.get("type", "").endswith(("-start", "-end", "-error"))


def _has_no_url(record: logging.LogRecord) -> bool:
    """Leave out the warnings of urllib3: they have whole URLs, which may be signed.

    Headers that it cannot read are worth a warning to it, with the URL and a traceback.
    """
    return record.levelno >= logging.ERROR or not record.name.startswith("urllib3")
