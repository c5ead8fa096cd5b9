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
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib import import_module
from typing import NamedTuple, NoReturn


class _Parser(argparse.ArgumentParser):
    """Repeats nothing of what was given that would steer a terminal."""

    def error(self, message: str) -> NoReturn:
        from pubtools_mlmerge.errors import one_line  # noqa: PLC0415 - see the module

        super().error(one_line(message))


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


class _Version(argparse.Action):
    """Prints the version, which takes a while to find out."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version  # noqa: PLC0415 - see above

        name = "pubtools-mlmerge"
        print(name, version(name))  # noqa: T201 - the output of a program
        parser.exit()


class Command(NamedTuple):
    """A command's help texts, and the function that adds its options."""

    usages: Sequence[str]
    description: str
    example: str
    add: Callable[[argparse.ArgumentParser], None]


def new_parser(command: str, name: str) -> argparse.ArgumentParser:
    """Make the parser of a command, for a script or a subcommand of that name."""
    about = COMMANDS[command]
    parser = _Parser(
        prog=name,
        usage="\n       ".join(f"{name} {usage}[options]" for usage in about.usages),
        description=about.description,
        epilog=f"example:\n  {name} {about.example}".rstrip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.register("action", None, _Once)
    about.add(parser)
    return parser


def _add_version(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")


def add_output(parser: argparse.ArgumentParser, *, raw: str = "") -> None:
    """Add how results are shown; `raw` says when the exact bytes may be."""
    _add_version(parser)
    text = "print results as text, or as one JSON object per line"
    parser.add_argument(
        "-o",
        "--output",
        choices=("text", "json", *(["raw"] if raw else [])),
        default="text",
        help=f"{text}{raw} (default: text)",
    )
    parser.add_argument(
        "--json",
        dest="output",
        action=_Once,
        nargs=0,
        const="json",
        default=argparse.SUPPRESS,
        help="same as --output json",
    )
    parser.add_argument(
        "-q", "--quiet", action="store_true", help="print only errors, and results with --json"
    )
    parser.add_argument(
        *("-v", "--verbose", "-d", "--debug"),
        dest="debug",
        action="count",
        default=0,
        help="show debug logs and tracebacks; twice: also those of other libraries",
    )


def add_changes(parser: argparse.ArgumentParser, *, raw: str = "") -> None:
    """Add the options of all commands that change tags."""
    add_output(parser, raw=raw)
    parser.add_argument(
        "-n", "--dry-run", action="store_true", help="show the result, but write nothing"
    )
    add_all(parser)
    parser.add_argument(
        "--html",
        metavar="FILE",
        help="also write all results to this HTML file (default: none)",
    )


def add_all(parser: argparse.ArgumentParser) -> None:
    """Add how many rows tables have."""
    parser.add_argument("--all", action="store_true", help="show a row for each attestation")


def add_references(parser: argparse.ArgumentParser) -> None:
    """Add sources and destinations."""
    parser.add_argument(
        "references",
        nargs="*",
        metavar="REF",
        help="images to merge; the last argument is the tag to merge into, or several separated by "
        "commas",
    )
    parser.add_argument(
        "--source-ref",
        action="append",
        default=[],
        metavar="REF[,REF]",
        help="image to merge, by tag or digest; repeatable, or several separated by commas: of two "
        "images for one platform, the first is taken (default: none)",
    )
    parser.add_argument(
        "--dest-ref",
        action="append",
        default=[],
        metavar="REF[,REF]",
        help="tag to merge into; repeatable, or several separated by commas (default: none)",
    )
    parser.add_argument(
        "--copy",
        choices=("auto", "skopeo", "never"),
        help="how to copy images into another repository: mount or stream them (auto), run "
        "skopeo, or fail if one is missing (never) (default: auto)",
    )
    parser.add_argument(
        "--referrers",
        choices=("copy", "warn", "ignore"),
        help="signatures, SBOMs and others that refer to images from another repository: copy "
        "them, warn about them, or ignore them (default: warn)",
    )
    parser.add_argument(
        "--anchor-tag",
        metavar="TEMPLATE",
        help="give the result a second tag, made from {tag}, {timestamp} and {digest} "
        "(default: none)",
    )


def add_batch(parser: argparse.ArgumentParser) -> None:
    """Add batches, and how several merges are run."""
    parser.add_argument(
        "--batch",
        metavar="FILE",
        help="read merges from a file, or from standard input (-): each line is a JSON object with "
        "source_ref (text or list), dest_ref and optionally archs (default: none)",
    )
    parser.add_argument(
        "--resume",
        metavar="FILE",
        help="record in this file which lines of the batch are done, and leave out those that it "
        "has already (default: none)",
    )
    parser.add_argument(
        "--threads",
        type=int,
        default=8,
        metavar="N",
        help="merge N tags at a time, at most 100 (default: 8)",
    )
    parser.add_argument(
        "--fail-fast", action="store_true", help="start no more merges after a failure"
    )


def add_policy(parser: argparse.ArgumentParser, advanced: argparse._ArgumentGroup) -> None:
    """Add the policy of a merge."""
    parser.add_argument(
        "--arch",
        action="append",
        metavar="A,B",
        help="take only these architectures (arm64) or platforms (linux/arm/v7, "
        "windows/amd64:10.0.17763) from the sources; repeatable (default: all)",
    )
    advanced.add_argument(
        "--match",
        choices=("platform", "architecture"),
        help="replace images of the same platform, or of the same architecture (default: platform)",
    )
    for name, kept, default in (
        ("keep", "only these platforms", "all"),
        ("drop", "all but these platforms", "none of them"),
    ):
        text = f"keep {kept} of the destination, or patterns such as windows/*; repeatable "
        text += f"(default: {default})"
        parser.add_argument(f"--{name}", action="append", default=[], metavar="PLATFORM", help=text)
    parser.add_argument(
        "--single-image",
        choices=("wrap", "index", "replace", "fail"),
        help="merge a single image as an index of one entry (wrap), always write an index (index), "
        "let the source replace the destination (replace), or fail (default: wrap)",
    )
    advanced.add_argument(
        "--mixed-types",
        choices=("oci", "fail"),
        help="allow Docker and OCI manifests in one OCI index, or fail (default: oci)",
    )
    parser.add_argument(
        "--max-age-days",
        type=int,
        metavar="N",
        help="maximum age of kept images in days; see --stale (default: no limit)",
    )
    parser.add_argument(
        "--stale",
        choices=("warn", "drop", "fail"),
        help="warn about images older than --max-age-days, drop them, or fail (default: warn)",
    )
    parser.add_argument("--ages", action="store_true", help="show the age of kept images")


def add_strict(parser: argparse.ArgumentParser, also: str = "") -> None:
    """Add --strict, for names that match nothing."""
    parser.add_argument(
        "--strict", action="store_true", help=f"fail if a named platform is not in the tag{also}"
    )


def add_connection(parser: argparse.ArgumentParser, sides: Sequence[str]) -> None:
    """Add the options for connections and logins."""
    parser.add_argument(
        "--quay-host",
        metavar="HOST",
        help="registry to connect to: host, host:port or URL (default: the host of each reference)",
    )
    if "source" in sides:
        parser.add_argument(
            "--source-quay-host",
            metavar="HOST",
            help="registry of the source (default: --quay-host)",
        )
    add_logins(parser, sides)
    parser.add_argument(
        "--ca-bundle",
        metavar="FILE",
        help="certificate authorities to trust (default: those of requests and of certs.d)",
    )
    parser.add_argument(
        "--cert",
        metavar="FILE",
        help="client certificate (default: the one in certs.d)",
    )
    parser.add_argument(
        "--key", metavar="FILE", help="private key of --cert (default: the same file)"
    )
    parser.add_argument(
        "--max-rate",
        type=float,
        metavar="N",
        help="maximum requests per second to one registry (default: no limit)",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        metavar="SECONDS",
        help="stop after this time (default: no limit)",
    )
    parser.add_argument("--insecure", action="store_true", help="do not verify certificates")


def add_logins(parser: argparse.ArgumentParser, sides: Sequence[str]) -> None:
    """Add the options for logins."""
    parser.add_argument(
        "--creds",
        metavar="USER",
        help="user name; the password is in the environment variable MLMERGE_PASSWORD, or see "
        "--password-stdin (default: MLMERGE_CREDS, else the logins of container tools)",
    )
    for side in sides:
        name, side_name = ("src", side) if side == "source" else ("dest", "destination")
        variable = f"MLMERGE_{name.upper()}"
        parser.add_argument(
            f"--{name}-creds",
            f"--{side}-quay-user",
            dest=f"{side}_quay_user",
            metavar="USER",
            help=f"user name for the {side_name}; the password is in {variable}_PASSWORD (default: "
            f"--creds or {variable}_CREDS)",
        )
        parser.add_argument(
            f"--{side}-quay-password",
            metavar="PASSWORD",
            help="password, visible to other users of this machine (default: "
            f"{variable}_PASSWORD or {side.upper()}_QUAY_PASSWORD)",
        )
    parser.add_argument(
        "--password-stdin",
        action="store_true",
        help="read the password from the first line of standard input",
    )


def add_safety(parser: argparse.ArgumentParser, advanced: argparse._ArgumentGroup) -> None:
    """Add locks, records and the checks around a write."""
    parser.add_argument(
        "--lock",
        metavar="URL",
        help="where to lock tags: file:///DIRECTORY or redis://HOST (default: MLMERGE_LOCK, which "
        "hides a password, else only in this process)",
    )
    parser.add_argument(
        "--audit",
        metavar="DIRECTORY",
        help="record each change in this directory before making it (default: none)",
    )
    advanced.add_argument(
        "--no-verify",
        dest="verify",
        action="store_false",
        default=None,
        help="do not check the tag before and after writing it",
    )
    advanced.add_argument(
        "--tries",
        type=int,
        metavar="N",
        help="try at most N times if another program writes the tag (default: 5)",
    )
    advanced.add_argument(
        "--quay-api-token",
        default=os.environ.get("QUAY_API_TOKEN"),
        metavar="TOKEN",
        help="token of Quay's API, to find in a tag's history what the write replaced (default: "
        "QUAY_API_TOKEN)",
    )
    advanced.add_argument(
        "--quay-api-token-host",
        default=os.environ.get("QUAY_API_TOKEN_HOST"),
        metavar="HOST",
        help="the only registry that gets this token (default: --quay-host, else quay.io)",
    )


_RAW = "; with --dry-run, raw prints the exact bytes of one result"


def _add_merge(parser: argparse.ArgumentParser) -> None:
    advanced = parser.add_argument_group("Advanced")
    add_changes(parser, raw=_RAW)
    add_references(parser)
    add_batch(parser)
    add_policy(parser, advanced)
    add_annotation(parser)
    add_strict(parser, ", or two sources have different images for one platform")
    add_safety(parser, advanced)
    add_connection(parser, sides=("source", "dest"))


def add_annotation(parser: argparse.ArgumentParser) -> None:
    """Add --annotation."""
    parser.add_argument(
        "--annotation",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="annotate the index, which makes it an OCI index; repeatable (default: none)",
    )


def _add_remove_archs(parser: argparse.ArgumentParser) -> None:
    advanced = parser.add_argument_group("Advanced")
    add_changes(parser, raw=_RAW)
    parser.add_argument(
        "--ref",
        action="append",
        required=True,
        metavar="REF[,REF]",
        help="tag to change; repeatable, or several separated by commas",
    )
    parser.add_argument(
        "--arch",
        action="append",
        default=[],
        metavar="A,B",
        help="architectures (arm64), platforms (linux/arm/v7, windows/amd64:10.0.17763) or digests "
        "(whole or as shown) to remove; none means entries without a platform; "
        "repeatable (default: none)",
    )
    parser.add_argument(
        "--prune",
        action="store_true",
        help="remove attestations without their image, entries for unknown/unknown that name no "
        "image, and duplicates; finding none is no failure",
    )
    add_annotation(parser)
    add_strict(parser)
    parser.add_argument(
        "--allow-empty", action="store_true", help="allow an empty index as the result"
    )
    add_safety(parser, advanced)
    add_connection(parser, sides=("dest",))


def _add_inspect(parser: argparse.ArgumentParser) -> None:
    add_output(parser)
    parser.add_argument("reference", metavar="REF", help="image reference, by tag or digest")
    parser.add_argument(
        "other", nargs="?", metavar="REF", help="another reference, to compare with"
    )
    add_all(parser)
    parser.add_argument("--ages", action="store_true", help="show the age of each image")
    parser.add_argument(
        "--check",
        action="store_true",
        help="check that the repository has all listed manifests; if not, the exit code is 1",
    )
    parser.add_argument("--raw", action="store_true", help="print the exact bytes of the manifest")
    parser.add_argument(
        "--referrers",
        action="store_true",
        help="show signatures, SBOMs and others that refer to the index or its images",
    )
    add_connection(parser, sides=("source",))


def _add_restore(parser: argparse.ArgumentParser) -> None:
    add_changes(parser)
    parser.add_argument("records", nargs="+", metavar="RECORD", help="file with a recorded change")
    parser.add_argument(
        "--force",
        action="store_true",
        help="restore even if the tag was changed since, or images seem to be missing",
    )
    parser.add_argument(
        "--yes",
        action="store_true",
        help="do not ask before sending a given login to the host of a record",
    )
    add_connection(parser, sides=("dest",))


def _add_demo(parser: argparse.ArgumentParser) -> None:
    _add_version(parser)
    parser.add_argument(
        "--serve",
        metavar="PORT",
        type=_port,
        help="serve the registry on this port of the loopback interface (0: any free port) until "
        "interrupted, to try commands (default: show two merges and exit)",
    )


_LAST_PORT = 65535


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= _LAST_PORT):
        raise argparse.ArgumentTypeError(f"expected a number from 0 to {_LAST_PORT}")
    return int(text)


COMMANDS = {
    "merge": Command(
        ["REF... REF[,REF] ", "--source-ref REF --dest-ref REF ", "--batch FILE "],
        "Merge images into tags: all images of the sources, plus the images of each\n"
        "destination for platforms that the sources lack.",
        "registry.example.com/app:1.1 \\\n      registry.example.com/app:stable --dry-run",
        _add_merge,
    ),
    "remove-archs": Command(
        ["--ref REF[,REF] --arch A,B ", "--ref REF[,REF] --prune "],
        "Remove architectures and their attestations from tags.",
        "--ref registry.example.com/app:stable \\\n      --arch s390x,linux/arm/v7 --dry-run",
        _add_remove_archs,
    ),
    "inspect": Command(
        ["REF [REF] "],
        "Show the platforms of an image, or how two of them compare.",
        "registry.example.com/app:stable --ages",
        _add_inspect,
    ),
    "restore": Command(
        ["RECORD... "],
        "Restore tags to what they held before a change that --audit recorded.",
        "records/*-app-stable-*.json --dry-run",
        _add_restore,
    ),
    "demo": Command(
        [""],
        "Show two merges on a registry inside this program.",
        "",
        _add_demo,
    ),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one of the commands: what ``pubtools-mlmerge`` and ``python -m pubtools_mlmerge`` do."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given and given[0] in COMMANDS:
        _run(given[0], given[1:], f"pubtools-mlmerge {given[0]}")
        return
    parser = _Parser(
        prog="pubtools-mlmerge",
        usage="pubtools-mlmerge COMMAND [options]",
        description="Merge, edit and inspect multi-arch images without losing a platform.",
    )
    _add_version(parser)
    commands = parser.add_subparsers(metavar="COMMAND", required=True, dest="command")
    for name, about in COMMANDS.items():
        summary = " ".join(about.description.split())
        about.add(commands.add_parser(name, help=summary[:1].lower() + summary[1:]))
    _complete(parser)
    parser.parse_args(given)


def merge_main(arguments: Sequence[str] | None = None) -> None:
    """Merge images into one or more tags."""
    _run("merge", arguments)


def remove_archs_main(arguments: Sequence[str] | None = None) -> None:
    """Remove architectures from tags."""
    _run("remove-archs", arguments)


def inspect_main(arguments: Sequence[str] | None = None) -> None:
    """Show what an image lists."""
    _run("inspect", arguments)


def restore_main(arguments: Sequence[str] | None = None) -> None:
    """Restore tags to what they held before a recorded change."""
    _run("restore", arguments)


def demo_main(arguments: Sequence[str] | None = None) -> None:
    """Show what a merge does, on an embedded registry."""
    _run("demo", arguments)


def _complete(parser: argparse.ArgumentParser) -> None:
    """Complete the command line for a shell, if argcomplete is installed."""
    if "_ARGCOMPLETE" in os.environ:
        import_module("argcomplete").autocomplete(parser)


def _run(command: str, given: Sequence[str] | None, name: str = "") -> None:
    """Parse arguments, prepare a command, and run it inside the task context."""
    _open_closed_streams()
    parser = new_parser(command, name or f"pubtools-mlmerge-{command}")
    _complete(parser)
    arguments = parser.parse_intermixed_args(given)
    if command == "demo":
        import_module("pubtools_mlmerge.cli.demo").show(arguments.serve)
        return
    _configure_logging(arguments.debug, quiet=arguments.quiet)
    # These load all the rest, see the module.
    from pubtools.pluggy import task_context  # noqa: PLC0415

    from pubtools_mlmerge.concurrency import ended_by_signals  # noqa: PLC0415

    with ended_by_signals(_say_so):
        from pubtools_mlmerge.cli.commands import prepare  # noqa: PLC0415

        try:
            run = prepare(command, arguments)
        except ValueError as error:
            parser.error(str(error))
        with ExitStack() as stack:
            try:
                stack.enter_context(task_context())
            except Exception as error:
                _say_broken(error, debug=arguments.debug > 0)
                raise SystemExit(1) from error
            if not run():
                raise SystemExit(1)


def _say_broken(error: Exception, *, debug: bool) -> None:
    from pubtools_mlmerge.errors import brief  # noqa: PLC0415 - see the module

    logging.getLogger("pubtools.mlmerge").error(
        "a plugin of this environment cannot be loaded: %s",
        brief(f"{type(error).__name__}: {error}"),
        exc_info=error if debug else None,
    )


def _open_closed_streams() -> None:
    """Make writes to a closed standard output fail; otherwise the next open file would get them."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            is_log = name == "stderr"
            file = os.open(os.devnull, os.O_WRONLY if is_log else os.O_RDONLY)
            stream = os.fdopen(file, "r" if name == "stdin" else "w")
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


def _say_so(number: int) -> None:
    logging.getLogger("pubtools.mlmerge").error(
        "Interrupted by %s; what is not printed was not done", signal.Signals(number).name
    )


class _StandardError(logging.Handler):
    """Writes to the current sys.stderr, which rich replaces while it shows progress bars."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            from pubtools_mlmerge.errors import harmless  # noqa: PLC0415 - see the module

            if record.exc_info:  # indented, so that no line of an error passes for one of the log
                traceback = logging.Formatter().formatException(record.exc_info)
                record.exc_text = "  " + traceback.replace("\n", "\n  ")
            sys.stderr.write(f"{harmless(self.format(record))}\n")
        except Exception:  # noqa: BLE001 - as all handlers do
            self.handleError(record)


def _configure_logging(debug: int, *, quiet: bool = False) -> None:
    handler = _StandardError()
    handler.addFilter(_has_no_url)
    if not debug:
        handler.addFilter(_is_news)
    logging.basicConfig(
        level=logging.WARNING, format="%(levelname)s: %(message)s", handlers=[handler]
    )
    if quiet:
        handler.setLevel(logging.ERROR)
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
