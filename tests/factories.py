"""Small values for the tests: digests, entries, attestations and indexes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from pubtools_mlmerge.core.manifests import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    Index,
)

Json = dict[str, object]
Entry = Mapping[str, object]

REFERENCE_TYPE = "vnd.docker.reference.type"
REFERENCE_DIGEST = "vnd.docker.reference.digest"


def digest(seed: str) -> str:
    """Make a digest that is always the same for one seed."""
    return f"sha256:{hashlib.sha256(seed.encode()).hexdigest()}"


def platform(text: str) -> Json:
    """Write os/architecture[/variant] as a platform object."""
    names = ("os", "architecture", "variant")
    return dict(zip(names, text.split("/")))


def entry(
    text: str | None = "linux/amd64",
    *,
    seed: str | None = None,
    media_type: str = OCI_MANIFEST,
    annotations: Mapping[str, object] | None = None,
    **extra: object,
) -> Json:
    """Make an entry for a platform, or for none; extra fields are added or replace its own."""
    made: Json = {
        "mediaType": media_type,
        "digest": digest(seed or text or "no platform"),
        "size": 1234,
    }
    if text is not None:
        made["platform"] = platform(text)
    if annotations is not None:
        made["annotations"] = dict(annotations)
    return {**made, **extra}


def attestation(of: str, *, seed: str | None = None, **extra: object) -> Json:
    """Make the attestation of the image that has this digest, as BuildKit lists it."""
    tie = {REFERENCE_TYPE: "attestation-manifest", REFERENCE_DIGEST: of}
    seed = seed or f"attestation of {of}"
    return {**entry("unknown/unknown", seed=seed, annotations=tie), **extra}


def windows(version: str = "", *features: str) -> Json:
    """Make an entry for a version of windows."""
    made = {"os": "windows", "architecture": "amd64", "os.version": version}
    stated = {**made, "os.features": list(features)} if features else made
    return entry(platform=stated, seed=f"windows {version}")


def each(name: str, *values: object) -> list[tuple[str, object]]:
    """Pair a name with each of the values."""
    return [(name, value) for value in values]


def content_of(document: object) -> bytes:
    """Encode as neither the host nor we do, so that kept bytes are told from encoded ones."""
    return json.dumps(document, separators=(",", ": "), ensure_ascii=False).encode()


def document(
    *entries: str | Entry, docker: bool = False, media_type_field: bool = True, **fields: object
) -> Json:
    """Make an index as a document.

    An entry may be text: a platform, and after an @ the seed of the digest (linux/arm64@new).
    """
    child_type = DOCKER_MANIFEST if docker else OCI_MANIFEST
    listed = [
        entry(e.partition("@")[0], seed=e, media_type=child_type) if isinstance(e, str) else e
        for e in entries
    ]
    stated = {"mediaType": DOCKER_LIST if docker else OCI_INDEX} if media_type_field else {}
    return {"schemaVersion": 2, **stated, "manifests": listed, **fields}


def index(
    *entries: str | Entry, docker: bool = False, media_type_field: bool = True, **fields: object
) -> Index:
    """Make an index; see document for how entries are written."""
    made = document(*entries, docker=docker, media_type_field=media_type_field, **fields)
    return Index.from_bytes(content_of(made), DOCKER_LIST if docker else OCI_INDEX)


def digests(of: Index) -> list[str]:
    """List the digests of an index in order."""
    return [e.digest for e in of.manifests]


def platforms(of: Index) -> list[str]:
    """List the platforms of an index in order, as written there."""
    return [str(e.platform or "none") for e in of.manifests]
