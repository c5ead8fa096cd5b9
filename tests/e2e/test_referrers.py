"""Signatures and other referrers come along: between repositories and registries that are real."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from jsonschema import Draft202012Validator

from pubtools_mlmerge.registry.referrers import schema_tag
from pubtools_mlmerge.reports.report import inspection_schema
from pubtools_mlmerge.testing import Image, make_index
from tests.e2e.conftest import Shelf, merge
from tests.peers import OCI_INDEX
from tests.programs import run_here
from tests.servers import TOKEN_PASSWORD, TOKEN_USER, require
from tests.test_referrers import AMD64, ARM64, blob, cosign, referrer, signed

SBOM = referrer(AMD64)
TAG = schema_tag(AMD64.digest)
LOGIN = ("--dest-quay-user", TOKEN_USER), {"DEST_QUAY_PASSWORD": TOKEN_PASSWORD}


def fill(shelf: Shelf) -> None:
    """Let an image have an SBOM in the tag schema, and a signature."""
    shelf.put("new", [AMD64, ARM64])
    shelf.put(SBOM.digest, SBOM)
    entry = {**blob(SBOM.content, SBOM.media_type), "artifactType": "application/sbom+json"}
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}
    answer = shelf.peer.put(shelf.repository, TAG, json.dumps(document).encode(), OCI_INDEX)
    assert answer.status_code == 201
    shelf.put(cosign(AMD64), signed("alice"))


def pull(reference: str, item: Image, to: Path, *options: str) -> None:
    """Pull an artifact with another program, which checks every digest."""
    source = ["--src-tls-verify=false", *options, f"docker://{reference}"]
    subprocess.run([require("skopeo"), "copy", "--quiet", *source, f"dir:{to}"], check=True)
    assert (to / "manifest.json").read_bytes() == item.content


def test_referrers_come_along_within_a_registry(shelf: Shelf, tmp_path: Path) -> None:
    fill(shelf)
    other = f"{shelf.repository}-other"
    shelf.put("stable", [ARM64], other)
    shelf.put(cosign(AMD64), signed("bob"), other)

    warned = merge(shelf.ref("new"), shelf.ref("stable", other), "--dry-run")
    merge(shelf.ref("new"), shelf.ref("stable", other), "--referrers", "copy")

    assert "2 signatures or others that refer to its images stay behind" in warned.err
    assert SBOM.digest in shelf.get(TAG, other).digests
    pull(f"{shelf.ref('x', other)[:-2]}@{SBOM.digest}", SBOM, tmp_path / "sbom")
    layers = json.loads(shelf.get(cosign(AMD64), other).content)["layers"]
    assert len(layers) == 2
    shown = run_here("inspect", shelf.ref("stable", other), "--referrers", "--output", "json")
    Draft202012Validator(inspection_schema()).validate(shown.report)
    found = shown.report["referrers"]
    assert isinstance(found, list)
    assert [(each["kind"], each["subject"]) for each in found] == [
        ("application/sbom+json", AMD64.digest),
        ("cosign signature", AMD64.digest),
    ]
    text = run_here("inspect", shelf.ref("stable", other), "--referrers").out
    assert "cosign signature of linux/amd64" in text


def test_referrers_come_along_to_another_registry(
    shelf: Shelf, token_shelf: Shelf, tmp_path: Path
) -> None:
    fill(shelf)
    options, env = LOGIN

    for _ in range(2):
        merge(shelf.ref("new"), token_shelf.ref("stable"), *options, "--referrers", "copy", env=env)

    assert token_shelf.get("stable").content == make_index([AMD64, ARM64]).content
    assert token_shelf.get(TAG).digests == [SBOM.digest]
    login = f"--src-creds={TOKEN_USER}:{TOKEN_PASSWORD}"
    pull(token_shelf.ref(cosign(AMD64)), signed("alice"), tmp_path / "sig", login)
    pull(f"{token_shelf.ref('x')[:-2]}@{SBOM.digest}", SBOM, tmp_path / "sbom", login)
