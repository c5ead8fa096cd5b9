"""Options: the arguments of the console scripts.

Like `cli`, this loads nothing but the standard library.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from pubtools_mlmerge.output_option import OutputParser


def new_parser(
    name: str, usages: Sequence[str], description: str, example: str
) -> argparse.ArgumentParser:
    """Make a parser with what all commands have.

    Args:
        name (str):
            Name of the program.
        usages (Sequence[str]):
            Its own arguments, in short, for each way to call it.
        description (str):
            What it does, in lines that fit a terminal.
        example (str):
            What it is for, and a command, likewise.

    Returns:
        argparse.ArgumentParser: The parser.
    """
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
    """Add what to merge, and how.

    Args:
        parser (argparse.ArgumentParser):
            The parser.
    """
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
    """Add what the merge decides differently.

    Args:
        parser (argparse.ArgumentParser):
            The parser.
    """
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
    """Add where to connect, and as whom.

    Args:
        parser (argparse.ArgumentParser):
            The parser.
        sides (Sequence[str]):
            Any of ``source`` and ``dest``.
    """
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


def add_safety(parser: argparse.ArgumentParser) -> None:
    """Add what keeps the work of others, and the way back.

    Args:
        parser (argparse.ArgumentParser):
            The parser.
    """
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
