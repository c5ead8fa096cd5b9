"""Other programs that put a list of images under a tag, and how each is told to.

None of them compares platforms, so each is handed what a merge would have found out: the digests.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence

from benchmarks.sides import Work
from benchmarks.world import LIST

Command = Sequence[str]

# How each program tells its version, which fails where it is absent.
_VERSIONS = {
    "crane": ("crane", "version"),
    "regctl": ("regctl", "version"),
    "buildx": ("docker", "buildx", "version"),
    "oras": ("oras", "version"),
    "buildah": ("buildah", "--version"),
    "skopeo": ("skopeo", "--version"),
}


def is_here(name: str) -> bool:
    """Tell whether a program can be run."""
    version = _VERSIONS[name]
    if shutil.which(version[0]) is None:
        return False
    return subprocess.run(version, capture_output=True, check=False).returncode == 0  # noqa: S603


def absent() -> list[str]:
    """List the programs that are not here."""
    return [name for name in _VERSIONS if not is_here(name)]


def _crane(work: Work) -> Iterator[Command]:
    kept = work.image(work.digests[-1])
    yield "crane", "index", "append", work.source, "-m", kept, "-t", work.destination


def _regctl(work: Work) -> Iterator[Command]:
    references = (f"--ref={work.image(digest)}" for digest in work.digests)
    yield "regctl", "index", "create", f"--media-type={LIST}", work.destination, *references


def _buildx(work: Work) -> Iterator[Command]:
    sources = work.source, work.image(work.digests[-1])
    yield "docker", "buildx", "imagetools", "create", "--tag", work.destination, *sources


def _oras(work: Work) -> Iterator[Command]:
    yield "oras", "manifest", "index", "create", work.destination, *work.digests


def _buildah(work: Work) -> Iterator[Command]:
    name, kept = "mlmerge-benchmark", work.image(work.digests[-1])
    yield "buildah", "manifest", "create", name
    yield "buildah", "manifest", "add", "--all", name, f"docker://{work.source}"
    yield "buildah", "manifest", "add", name, f"docker://{kept}"
    push = ("buildah", "manifest", "push", "--all", "--rm", "--format=v2s2", name)
    yield *push, f"docker://{work.destination}"


def _skopeo(work: Work) -> Iterator[Command]:
    sides = (f"docker://{reference}" for reference in (work.source, work.destination))
    yield "skopeo", "copy", "--quiet", "--all", "--preserve-digests", *sides


PEERS = {
    "crane": _crane,
    "regctl": _regctl,
    "buildx": _buildx,
    "oras": _oras,
    "buildah": _buildah,
    "skopeo": _skopeo,
}
