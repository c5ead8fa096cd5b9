"""Uploading: a manifest is written, and the log and the trace tell of it."""

from __future__ import annotations

import logging

from pubtools_mlmerge.core.manifests import Manifest
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.observe import span
from pubtools_mlmerge.registry.base import Registry

LOG = logging.getLogger("pubtools.mlmerge")


def push(
    registry: Registry, destination: Reference, manifest: Manifest, *, repeat: bool = True
) -> str:
    """Write a manifest under a tag, and say so in the log.

    Args:
        registry (Registry):
            Writes it.
        destination (Reference):
            The tag.
        manifest (Manifest):
            What it is to hold.
        repeat (bool):
            Whether it is sent again after a passing failure.

    Returns:
        str: The digest that the registry keeps it under.

    Raises:
        RegistryError: When the registry refuses.
    """
    with span("push", destination=str(destination), digest=manifest.digest):
        digest = registry.push(destination, manifest, repeat=repeat)
    event = {"type": "mlmerge-upload", "destination": str(destination), "digest": digest}
    LOG.info("Uploaded %s to %s", digest, destination, extra={"event": event})
    return digest
