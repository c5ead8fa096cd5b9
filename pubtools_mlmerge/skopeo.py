"""Copies between registries, by skopeo."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

from pubtools_mlmerge.access import Place
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.echoes import blank, blank_headers
from pubtools_mlmerge.errors import CopyFailed

_PRIVATE = 0o600


def copy(source: Reference, at: Place, destination: Reference, to: Place) -> None:
    """Copy one manifest, all that it lists and all its blobs, under the same digest.

    Args:
        source (Reference):
            What to copy, by digest.
        at (Place):
            Where it is.
        destination (Reference):
            Where to, by the same digest.
        to (Place):
            Where that is.

    Raises:
        CopyFailed: When skopeo is missing or fails.
    """
    with tempfile.TemporaryDirectory(prefix="mlmerge-") as directory:
        command = [
            *("skopeo", "copy", "--quiet", "--all", "--preserve-digests"),
            *_side("src", at, Path(directory)),
            *_side("dest", to, Path(directory)),
            f"docker://{at.host}/{source.repository}@{source.digest}",
            f"docker://{to.host}/{destination.repository}@{destination.digest}",
        ]
        try:
            done = subprocess.run(  # noqa: S603 - every argument fits a grammar that we check
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
            )
        except OSError as error:
            problem = "skopeo is not installed, and the registry does not mount"
            raise CopyFailed(str(source), str(destination), problem) from error
    if done.returncode:
        # It repeats what registries say, and they may repeat what it sent.
        known = [
            secret for side in (at, to) if side.credentials for secret in side.credentials.secrets
        ]
        problem = blank_headers(blank(done.stderr.strip(), known)) or "skopeo failed"
        raise CopyFailed(str(source), str(destination), problem)


def _side(side: str, place: Place, directory: Path) -> Iterator[str]:
    """Give the options of one side; secrets go into a file that only this user may read."""
    if place.is_plain or place.options.insecure:
        yield f"--{side}-tls-verify=false"
    named = (os.environ.get(name) for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"))
    bundle = next(filter(None, (place.options.ca_bundle, *named)), None)
    if bundle and not place.is_plain:
        certificates = directory / f"{side}-certificates"
        certificates.mkdir()
        shutil.copyfile(bundle, certificates / "authorities.crt")
        yield f"--{side}-cert-dir={certificates}"
    if place.credentials is not None:
        path = directory / f"{side}-auth.json"
        login = f"{place.credentials.username}:{place.credentials.password}"
        entry = {"auth": b64encode(login.encode()).decode()}
        path.touch(mode=_PRIVATE)
        path.write_text(json.dumps({"auths": {place.host: entry}}), encoding="utf-8")
        yield f"--{side}-authfile={path}"
