"""The demo: merges on an embedded registry."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pubtools_mlmerge.cli.parsers import demo_main as main
from pubtools_mlmerge.cli.parsers import inspect_main, merge_main

if TYPE_CHECKING:
    from pubtools_mlmerge.testing import RegistryServer

__all__ = ["main", "show"]

_REPOSITORY = "demo/app"

_NEXT = """\
All of this ran on a registry inside this program. Next, try one of yours:

  pubtools-mlmerge-inspect HOST/REPOSITORY:TAG
  pubtools-mlmerge-merge --source-ref HOST/REPOSITORY:NEW --dest-ref HOST/REPOSITORY:TAG --dry-run

The merge shows its result and writes nothing. Omit --dry-run to write it."""

_SERVED = """\
A registry listens on {host}. In {host}/demo/app, the tags 1.0 and stable
cover four platforms; 1.1 lacks s390x. Ctrl-C stops the registry and discards its content.
In another terminal, try:

  pubtools-mlmerge-merge --source-ref {host}/demo/app:1.1 \\
      --dest-ref {host}/demo/app:stable --dry-run"""


def show(port: int | None) -> None:
    """Show a merge, and a merge of selected architectures; or serve a registry to try them on."""
    for name in [name for name in os.environ if name.startswith("MLMERGE_")]:
        del os.environ[name]  # it is for other registries
    os.environ.update(no_proxy="*", NO_PROXY="*")
    with _registry(port or 0) as registry:
        try:
            if port is None:
                _show(registry)
                return
            _say(_SERVED.format(host=registry.host))
            threading.Event().wait()
        except KeyboardInterrupt:
            _say("The registry has stopped.")


@contextmanager
def _registry(port: int) -> Iterator[RegistryServer]:
    """Run a registry that holds two versions of an image, and a tag."""
    # Every pubtools task imports this module to find hooks.
    from pubtools_mlmerge.testing import (  # noqa: PLC0415
        RegistryServer,
        make_attestation,
        make_image,
        make_index,
        upload,
    )

    platforms = ("linux/amd64", "linux/arm64", "linux/ppc64le", "linux/s390x")
    old = make_index([make_image(platform, seed="old") for platform in platforms])
    images = [make_image(platform, seed="new") for platform in platforms[:-1]]
    new = make_index([*images, *map(make_attestation, images)])
    registry = RegistryServer(port=port)
    try:
        registry.start()
    except OSError as error:
        sys.exit(f"ERROR: cannot listen on port {port}: {error.strerror}")
    try:
        for tag, index in (("1.0", old), ("stable", old), ("1.1", new)):
            upload(registry.url, _REPOSITORY, index, reference=tag)
        yield registry
    finally:
        registry.stop()


def _show(registry: RegistryServer) -> None:
    image = f"{registry.host}/{_REPOSITORY}"
    _say(f"{image}:stable holds version 1.0, for four platforms:")
    inspect_main([f"{image}:stable"])
    _say(
        "Version 1.1 was not built for s390x. A push to the tag would remove s390x. Merge instead:"
    )
    _merge(image)
    _say(
        "s390x is still there, unchanged; the rest is version 1.1, with its attestations.\n"
        "Now start again from 1.0, and take one architecture of 1.1:"
    )
    old = registry.manifest(_REPOSITORY, "1.0")
    registry.put_manifest(_REPOSITORY, "stable", old.content, old.media_type)
    _merge(image, "--arch", "linux/arm64")
    _say(_NEXT)


def _merge(image: str, *options: str) -> None:
    command = ["--source-ref", f"{image}:1.1", "--dest-ref", f"{image}:stable", *options]
    _say(f"$ pubtools-mlmerge-merge {' '.join(command)}")
    merge_main(command)


def _say(text: str) -> None:
    try:
        print(f"\n{text}\n", flush=True)  # noqa: T201 - the output of a program
    except OSError as error:
        from pubtools_mlmerge.cli.commands import discard_output  # noqa: PLC0415 - as above

        discard_output()
        sys.exit(None if isinstance(error, BrokenPipeError) else f"ERROR: {error.strerror}")
