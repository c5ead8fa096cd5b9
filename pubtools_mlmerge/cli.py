"""The console scripts: arguments, exit codes and errors.

Every task of every pubtools library imports this module to find hooks, so it imports nothing but
the family's own and loads the rest when a script runs.
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Callable, Sequence

from pubtools.pluggy import task_context


def merge_main(arguments: Sequence[str] | None = None) -> None:
    """Merge an image into one or more tags.

    Args:
        arguments (Sequence[str] | None):
            Command line without the name of the program; none for that of this process.

    Raises:
        SystemExit: With 1 after a failure, 2 after wrong usage.
    """
    parser = _parser(
        "pubtools-mlmerge-merge",
        "--source-ref REF --dest-ref REF[,REF]",
        "Merge a multi-architecture image into tags: everything of the source, and of each "
        "destination what the source lacks.",
    )
    _add_references(parser)
    _add_policy(parser)
    _add_connection(parser, sides=("source", "dest"))
    _run(parser, arguments, _load_merge)


def remove_archs_main(arguments: Sequence[str] | None = None) -> None:
    """Remove architectures from a tag.

    Args:
        arguments (Sequence[str] | None):
            Command line without the name of the program; none for that of this process.

    Raises:
        SystemExit: With 1 after a failure, 2 after wrong usage.
    """
    parser = _parser(
        "pubtools-mlmerge-remove-archs",
        "--ref REF --arch A,B",
        "Remove architectures from what a tag holds, their attestations with them.",
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
    _add_connection(parser, sides=("dest",))
    _run(parser, arguments, _load_remove_archs)


def inspect_main(arguments: Sequence[str] | None = None) -> None:
    """Show what an image lists.

    Args:
        arguments (Sequence[str] | None):
            Command line without the name of the program; none for that of this process.

    Raises:
        SystemExit: With 1 after a failure, 2 after wrong usage.
    """
    parser = _parser("pubtools-mlmerge-inspect", "REF", "Show the platforms of a multi-arch image.")
    parser.add_argument("reference", metavar="REF", help="image reference, by tag or digest")
    _add_connection(parser, sides=("source",))
    _run(parser, arguments, _load_inspect)


def _parser(name: str, usage: str, description: str) -> argparse.ArgumentParser:
    usage = f"{name} {usage} [options]"
    parser = argparse.ArgumentParser(prog=name, usage=usage, description=description)
    parser.add_argument(
        "--output",
        choices=("text", "json"),
        default="text",
        help="a table, or one JSON object per line and destination",
    )
    parser.add_argument(
        "-d",
        "--debug",
        action="count",
        default=0,
        help="show debug logs and tracebacks; repeat for those of other libraries",
    )
    return parser


def _add_references(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--source-ref", required=True, help="image whose entries win; by tag or digest"
    )
    parser.add_argument(
        "--dest-ref",
        action="append",
        required=True,
        metavar="REF[,REF]",
        help="tag to merge into; repeatable, or several separated by commas",
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


def _add_policy(parser: argparse.ArgumentParser) -> None:
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


def _add_connection(parser: argparse.ArgumentParser, sides: Sequence[str]) -> None:
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
    parser.add_argument("--insecure", action="store_true", help="do not verify certificates at all")


def _run(
    parser: argparse.ArgumentParser,
    given: Sequence[str] | None,
    load: Callable[[], Callable[[argparse.Namespace], Callable[[], bool]]],
) -> None:
    """Prepare a command, then carry it out inside the task context."""
    arguments = parser.parse_args(given)
    _configure_logging(arguments.debug)
    try:
        run = load()(arguments)
    except ValueError as error:
        parser.error(str(error))
    with task_context():
        if not run():
            raise SystemExit(1)


def _load_merge() -> Callable[[argparse.Namespace], Callable[[], bool]]:
    from pubtools_mlmerge.commands import prepare_merge  # noqa: PLC0415 - see the module

    return prepare_merge


def _load_remove_archs() -> Callable[[argparse.Namespace], Callable[[], bool]]:
    from pubtools_mlmerge.commands import prepare_remove_archs  # noqa: PLC0415 - see the module

    return prepare_remove_archs


def _load_inspect() -> Callable[[argparse.Namespace], Callable[[], bool]]:
    from pubtools_mlmerge.commands import prepare_inspect  # noqa: PLC0415 - see the module

    return prepare_inspect


def _configure_logging(debug: int) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    logging.getLogger("pubtools").setLevel(logging.DEBUG if debug else logging.INFO)
    if debug > 1:
        logging.getLogger().setLevel(logging.DEBUG)
        # It logs whole URLs, and those that registries redirect to are signed.
        logging.getLogger("urllib3").setLevel(logging.INFO)
