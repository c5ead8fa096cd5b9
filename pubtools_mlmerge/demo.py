"""The demo: the main job, on a registry that this program brings along."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from pubtools_mlmerge.cli import inspect_main, merge_main

_OLD = ("linux/amd64", "linux/arm64", "linux/ppc64le", "linux/s390x")
_NEW = ("linux/amd64", "linux/arm64", "linux/ppc64le")
_SELECTED = "linux/arm64"

_NEXT = """\
That was all on a registry inside this program, which is gone now. Next, on one of yours:

  pubtools-mlmerge-inspect HOST/REPOSITORY:TAG
  pubtools-mlmerge-merge --source-ref HOST/REPOSITORY:NEW --dest-ref HOST/REPOSITORY:TAG --dry-run

The second one shows what a merge would do and writes nothing; leave out --dry-run to do it."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Show a merge, and a merge of selected architectures.

    Args:
        arguments (Sequence[str] | None):
            Command line without the name of the program; none for that of this process.

    Raises:
        SystemExit: With 1 after a failure, 2 after wrong usage.
    """
    parser = argparse.ArgumentParser(prog="pubtools-mlmerge-demo", description=__doc__)
    parser.parse_args(arguments)
    # Every task of every pubtools library imports this module; only the demo needs a registry.
    from pubtools_mlmerge.testing import (  # noqa: PLC0415
        RegistryServer,
        make_attestation,
        make_image,
        make_index,
        upload,
    )

    old = make_index([make_image(platform, seed="old") for platform in _OLD])
    images = [make_image(platform, seed="new") for platform in _NEW]
    new = make_index([*images, *map(make_attestation, images)])
    with RegistryServer() as registry:
        for tag, index in (("1.0", old), ("stable", old), ("1.1", new)):
            upload(registry.url, "demo/app", index, reference=tag)
        image = f"{registry.host}/demo/app"
        _say(f"Version 1.0 is what {image}:stable holds. It covers four platforms:")
        inspect_main([f"{image}:stable"])
        _say("Version 1.1 was not built for s390x. Pushed over the tag, it would take s390x away.")
        _merge(image, [])
        _say(
            "s390x is still there, as it was; the rest is version 1.1, with its attestations.\n"
            "Now a tag that is to get one architecture of 1.1, and stay at 1.0 otherwise:"
        )
        upload(registry.url, "demo/app", old, reference="stable")
        _merge(image, ["--arch", _SELECTED])
    _say(_NEXT)


def _merge(image: str, options: list[str]) -> None:
    command = ["--source-ref", f"{image}:1.1", "--dest-ref", f"{image}:stable", *options]
    _say(f"$ pubtools-mlmerge-merge {' '.join(command)}")
    merge_main(command)


def _say(text: str) -> None:
    print(f"\n{text}\n", flush=True)  # noqa: T201 - the output of a program
