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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib import import_module
from typing import NamedTuple, NoReturn

LOG = logging.getLogger("pubtools.mlmerge")


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
    """A command's texts, and the help of each argument by how it is written, see `_add`."""

    usages: Sequence[str]
    description: str
    example: str
    arguments: Mapping[str, str]


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
    _add_all(parser, about.arguments)
    return parser


def _add_all(parser: argparse.ArgumentParser, arguments: Mapping[str, str]) -> None:
    advanced = parser.add_argument_group("Advanced")
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    for form, text in arguments.items():
        name = form.partition(" ")[0]
        _add(advanced if name in _ADVANCED else parser, form, text)
    parser.set_defaults(
        debug=0,
        output="text",
        quay_api_token=os.environ.get("QUAY_API_TOKEN"),
        quay_api_token_host=os.environ.get("QUAY_API_TOKEN_HOST"),
        threads=8,
    )


def _add(parser: argparse._ActionsContainer, form: str, text: str) -> None:
    """Add an argument that is written as its names and its value, such as `--keep PLATFORM*`.

    Without a value it is a flag. `*` stands for any number, `+` for one or more, `?` for one or
    none; an option is repeated for that.
    """
    *names, value = form.split()
    metavar = value.rstrip("+*?")
    many = value[len(metavar) :] or None
    if value == "--json":
        parser.add_argument(value, dest="output", action=_Once, nargs=0, const="json", help=text)
    elif value == "--debug":
        parser.add_argument(*names, value, dest="debug", action="count", help=text)
    elif value.startswith("-"):
        parser.add_argument(*names, value, action="store_true", help=text)
    elif "|" in value:
        parser.add_argument(*names, choices=tuple(value.split("|")), help=text)
    elif many and names[0].startswith("-"):
        needed = many == "+"
        parser.add_argument(
            *names, action="append", default=[], metavar=metavar, required=needed, help=text
        )
    else:
        convert = _TYPES.get(names[0], str)
        parser.add_argument(*names, nargs=many, type=convert, metavar=metavar, help=text)


_LAST_PORT = 65535


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= _LAST_PORT):
        raise argparse.ArgumentTypeError(f"expected a number from 0 to {_LAST_PORT}")
    return int(text)


_TYPES: Mapping[str, Callable[[str], object]] = {
    "--max-age-days": int,
    "--max-rate": float,
    "--serve": _port,
    "--threads": int,
    "--timeout": float,
    "--tries": int,
}
_ADVANCED = (
    *("--match", "--mixed-types", "--no-verify", "--tries"),
    *("--quay-api-token", "--quay-api-token-host"),
)


def _output(*, raw: bool) -> dict[str, str]:
    """List how results are shown."""
    form, text = "text|json", "print results as text, or as one JSON object per line"
    if raw:
        form += "|raw"
        text += "; with --dry-run, raw prints the exact bytes of one result"
    return {
        f"-o --output {form}": f"{text} (default: text)",
        "--json": "same as --output json",
        "-q --quiet": "print only errors, and results with --json",
        "-v --verbose -d --debug": "show debug logs and tracebacks; twice: also those of other "
        "libraries",
    }


_ALL = {"--all": "show a row for each attestation"}
_CHANGES = {
    "-n --dry-run": "show the result, but write nothing",
    **_ALL,
    "--html FILE": "also write all results to this HTML file (default: none)",
}
_ANNOTATION = {
    "--annotation KEY=VALUE*": "annotate the index, which makes it an OCI index; repeatable "
    "(default: none)"
}
_STRICT = "fail if a named platform is not in the tag"
_SAFETY = {
    "--lock URL": "where to lock tags: file:///DIRECTORY or redis://HOST (default: MLMERGE_LOCK, "
    "which hides a password, else only in this process)",
    "--audit DIRECTORY": "record each change in this directory before making it (default: none)",
    "--no-verify": "do not check the tag before and after writing it",
    "--tries N": "try at most N times if another program writes the tag (default: 5)",
    "--quay-api-token TOKEN": "token of Quay's API, to find in a tag's history what the write "
    "replaced (default: QUAY_API_TOKEN)",
    "--quay-api-token-host HOST": "the only registry that gets this token (default: --quay-host, "
    "else quay.io)",
}


_CONNECTION = {
    "--quay-host HOST": "registry to connect to: host, host:port or URL (default: the host of "
    "each reference)",
    "--source-quay-host HOST": "registry of the source (default: --quay-host)",
    "--creds USER": "user name; the password is in the environment variable MLMERGE_PASSWORD, or "
    "see --password-stdin (default: MLMERGE_CREDS, else the logins of container tools)",
    "--src-creds --source-quay-user USER": "user name for the source; the password is in "
    "MLMERGE_SRC_PASSWORD (default: --creds or MLMERGE_SRC_CREDS)",
    "--source-quay-password PASSWORD": "password, visible to other users of this machine "
    "(default: MLMERGE_SRC_PASSWORD or SOURCE_QUAY_PASSWORD)",
    "--dest-creds --dest-quay-user USER": "user name for the destination; the password is in "
    "MLMERGE_DEST_PASSWORD (default: --creds or MLMERGE_DEST_CREDS)",
    "--dest-quay-password PASSWORD": "password, visible to other users of this machine (default: "
    "MLMERGE_DEST_PASSWORD or DEST_QUAY_PASSWORD)",
    "--password-stdin": "read the password from the first line of standard input",
    "--ca-bundle FILE": "certificate authorities to trust (default: those of requests and of "
    "certs.d)",
    "--cert FILE": "client certificate (default: the one in certs.d)",
    "--key FILE": "private key of --cert (default: the same file)",
    "--max-rate N": "maximum requests per second to one registry (default: no limit)",
    "--timeout SECONDS": "stop after this time (default: no limit)",
    "--insecure": "do not verify certificates",
}


def _one_side(*others: str) -> dict[str, str]:
    """List the options of a connection, without those that begin as the other side's do."""
    return {form: text for form, text in _CONNECTION.items() if not form.startswith(others)}


_SOURCE, _DESTINATION = _one_side("--dest-"), _one_side("--src-", "--source-")
_MERGE = {
    "references REF*": "images to merge; the last argument is the tag to merge into, or several "
    "separated by commas",
    "--source-ref REF[,REF]*": "image to merge, by tag or digest; repeatable, or several separated "
    "by commas: of two images for one platform, the first is taken (default: none)",
    "--dest-ref REF[,REF]*": "tag to merge into; repeatable, or several separated by commas "
    "(default: none)",
    "--copy auto|skopeo|never": "how to copy images into another repository: mount or stream them "
    "(auto), run skopeo, or fail if one is missing (never) (default: auto)",
    "--referrers copy|warn|ignore": "signatures, SBOMs and others that refer to images from "
    "another repository: copy them, warn about them, or ignore them (default: warn)",
    "--anchor-tag TEMPLATE": "give the result a second tag, made from {tag}, {timestamp} and "
    "{digest} (default: none)",
    "--batch FILE": "read merges from a file, or from standard input (-): each line is a JSON "
    "object with source_ref (text or list), dest_ref and optionally archs (default: none)",
    "--resume FILE": "record in this file which lines of the batch are done, and leave out those "
    "that it has already (default: none)",
    "--threads N": "merge N tags at a time, at most 100 (default: 8)",
    "--fail-fast": "start no more merges after a failure",
    "--arch A,B*": "take only these architectures (arm64) or platforms (linux/arm/v7, "
    "windows/amd64:10.0.17763) from the sources; repeatable (default: all)",
    "--match platform|architecture": "replace images of the same platform, or of the same "
    "architecture (default: platform)",
    "--keep PLATFORM*": "keep only these platforms of the destination, or patterns such as "
    "windows/*; repeatable (default: all)",
    "--drop PLATFORM*": "keep all but these platforms of the destination, or patterns such as "
    "windows/*; repeatable (default: none of them)",
    "--single-image wrap|index|replace|fail": "merge a single image as an index of one entry "
    "(wrap), always write an index (index), let the source replace the destination (replace), or "
    "fail (default: wrap)",
    "--mixed-types oci|fail": "allow Docker and OCI manifests in one OCI index, or fail (default: "
    "oci)",
    "--max-age-days N": "maximum age of kept images in days; see --stale (default: no limit)",
    "--stale warn|drop|fail": "warn about images older than --max-age-days, drop them, or fail "
    "(default: warn)",
    "--ages": "show the age of kept images",
    **_ANNOTATION,
    "--strict": f"{_STRICT}, or two sources have different images for one platform",
}
_REMOVE_ARCHS = {
    "--ref REF[,REF]+": "tag to change; repeatable, or several separated by commas",
    "--arch A,B*": "architectures (arm64), platforms (linux/arm/v7, windows/amd64:10.0.17763) or "
    "digests (whole or as shown) to remove; none means entries without a platform; repeatable "
    "(default: none)",
    "--prune": "remove attestations without their image, entries for unknown/unknown that name no "
    "image, and duplicates; finding none is no failure",
    **_ANNOTATION,
    "--strict": _STRICT,
    "--allow-empty": "allow an empty index as the result",
}
_INSPECT = {
    "reference REF": "image reference, by tag or digest",
    "other REF?": "another reference, to compare with",
    **_ALL,
    "--ages": "show the age of each image",
    "--check": "check that the repository has all listed manifests; if not, the exit code is 1",
    "--raw": "print the exact bytes of the manifest",
    "--referrers": "show signatures, SBOMs and others that refer to the index or its images",
}
_RESTORE = {
    "records RECORD+": "file with a recorded change",
    "--force": "restore even if the tag was changed since, or images seem to be missing",
    "--yes": "do not ask before sending a given login to the host of a record",
}
_DEMO = {
    "--serve PORT": "serve the registry on this port of the loopback interface (0: any free port) "
    "until interrupted, to try commands (default: show two merges and exit)"
}

COMMANDS = {
    "merge": Command(
        ["REF... REF[,REF] ", "--source-ref REF --dest-ref REF ", "--batch FILE "],
        "Merge images into tags: all images of the sources, plus the images of each\n"
        "destination for platforms that the sources lack.",
        "registry.example.com/app:1.1 \\\n      registry.example.com/app:stable --dry-run",
        {**_output(raw=True), **_CHANGES, **_MERGE, **_SAFETY, **_CONNECTION},
    ),
    "remove-archs": Command(
        ["--ref REF[,REF] --arch A,B ", "--ref REF[,REF] --prune "],
        "Remove architectures and their attestations from tags.",
        "--ref registry.example.com/app:stable \\\n      --arch s390x,linux/arm/v7 --dry-run",
        {**_output(raw=True), **_CHANGES, **_REMOVE_ARCHS, **_SAFETY, **_DESTINATION},
    ),
    "inspect": Command(
        ["REF [REF] "],
        "Show the platforms of an image, or how two of them compare.",
        "registry.example.com/app:stable --ages",
        {**_output(raw=False), **_INSPECT, **_SOURCE},
    ),
    "restore": Command(
        ["RECORD... "],
        "Restore tags to what they held before a change that --audit recorded.",
        "records/*-app-stable-*.json --dry-run",
        {**_output(raw=False), **_CHANGES, **_RESTORE, **_DESTINATION},
    ),
    "demo": Command([""], "Show two merges on a registry inside this program.", "", _DEMO),
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
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, dest="command")
    for name, about in COMMANDS.items():
        summary = " ".join(about.description.split())
        subparser = commands.add_parser(name, help=summary[:1].lower() + summary[1:])
        _add_all(subparser, about.arguments)
    _complete(parser)
    parser.parse_args(given)


def _complete(parser: argparse.ArgumentParser) -> None:
    """Complete the command line for a shell, if argcomplete is installed."""
    if "_ARGCOMPLETE" in os.environ:
        import_module("argcomplete").autocomplete(parser)


@contextmanager
def _usable_streams() -> Iterator[None]:
    """Keep standard streams that are closed or full from changing what the program does.

    Writes to a closed standard output fail; otherwise the next open file would get them. What
    standard error did not take would fail again at the end, and change the exit code.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            is_log = name == "stderr"
            file = os.open(os.devnull, os.O_WRONLY if is_log else os.O_RDONLY)
            stream = os.fdopen(file, "r" if name == "stdin" else "w")
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
    try:
        yield
    finally:
        try:
            sys.stderr.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


@_usable_streams()
def _run(command: str, given: Sequence[str] | None = None, name: str = "") -> None:
    """Parse arguments, prepare a command, and run it inside the task context."""
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

    prints = not arguments.quiet or arguments.output != "text"
    with ended_by_signals(partial(_log_interruption, prints=prints)):
        from pubtools_mlmerge.cli.commands import prepare  # noqa: PLC0415
        from pubtools_mlmerge.errors import brief  # noqa: PLC0415

        try:
            run = prepare(command, arguments)
        except ValueError as error:
            parser.error(str(error))
        with ExitStack() as stack:
            try:
                stack.enter_context(task_context())
            except Exception as error:
                words = "a plugin of this environment cannot be loaded: %s"
                problem = brief(f"{type(error).__name__}: {error}")
                LOG.error(words, problem, exc_info=arguments.debug > 0)  # noqa: TRY400 - as asked for
                raise SystemExit(1) from error
            if not run():
                raise SystemExit(1)


# The console scripts.
merge_main = partial(_run, "merge")
remove_archs_main = partial(_run, "remove-archs")
inspect_main = partial(_run, "inspect")
restore_main = partial(_run, "restore")
demo_main = partial(_run, "demo")


def _log_interruption(number: int, *, prints: bool) -> None:
    rest = "what is not printed was not done" if prints else "with --quiet, no results are printed"
    LOG.error("Interrupted by %s; %s", signal.Signals(number).name, rest)


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
