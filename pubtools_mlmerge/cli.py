"""The console scripts: arguments, exit codes and errors.

Every task of every pubtools library imports this module to find hooks, so it imports next to
nothing and loads the rest when a script runs.
"""

from __future__ import annotations

import argparse
import gc
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from pubtools_mlmerge.options import (
    add_connection,
    add_policy,
    add_references,
    add_safety,
    new_parser,
)


def merge_main(arguments: Sequence[str] | None = None) -> None:
    """Merge an image into one or more tags.

    Args:
        arguments (Sequence[str] | None):
            Command line without the name of the program; none for that of this process.

    Raises:
        SystemExit: With 1 after a failure, 2 after wrong usage.
    """
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
    """Remove architectures from a tag.

    Args:
        arguments (Sequence[str] | None):
            Command line without the name of the program; none for that of this process.

    Raises:
        SystemExit: With 1 after a failure, 2 after wrong usage.
    """
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
    """Show what an image lists.

    Args:
        arguments (Sequence[str] | None):
            Command line without the name of the program; none for that of this process.

    Raises:
        SystemExit: With 1 after a failure, 2 after wrong usage.
    """
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
    """Put tags back to what they held before a change that was recorded.

    Args:
        arguments (Sequence[str] | None):
            Command line without the name of the program; none for that of this process.

    Raises:
        SystemExit: With 1 after a failure, 2 after wrong usage.
    """
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
    from pubtools_mlmerge.merge_command import prepare_merge  # noqa: PLC0415 - see the module

    return prepare_merge


def _load_remove_archs() -> Callable[[argparse.Namespace], Callable[[], bool]]:
    from pubtools_mlmerge.remove_command import prepare_remove_archs  # noqa: PLC0415 - see the module

    return prepare_remove_archs


def _load_inspect() -> Callable[[argparse.Namespace], Callable[[], bool]]:
    from pubtools_mlmerge.inspect_command import prepare_inspect  # noqa: PLC0415 - see the module

    return prepare_inspect


def _load_restore() -> Callable[[argparse.Namespace], Callable[[], bool]]:
    from pubtools_mlmerge.restore_command import prepare_restore  # noqa: PLC0415 - see the module

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
