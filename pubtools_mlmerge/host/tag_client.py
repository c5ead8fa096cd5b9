"""The host's Quay client as tag-docker uses it while our step is enabled."""

from __future__ import annotations

import json
from collections.abc import Callable

from pubtools._quay.quay_client import QuayClient

from pubtools_mlmerge.core.manifests import Index, Manifest, digest_of
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.core.strict_json import encode
from pubtools_mlmerge.host.clients import client_like
from pubtools_mlmerge.host.tag_step import with_platforms_as_architectures
from pubtools_mlmerge.registry.adapter import ClientRegistry, http_errors


class TagDockerClient(QuayClient):  # type: ignore[misc]  # the host is untyped
    """The host's client; finds OCI indexes, too, and shows indexes by platforms.

    Asked for any type, the host's own takes a registry's refusal of the first type for the absence
    of the tag.

    Attributes:
        write (Callable[[Reference, bytes], str] | None):
            Does the next upload in the stead of the host's client, and tells the digest.
        uploaded (str | None):
            Digest of what was uploaded last.
    """

    write: Callable[[Reference, bytes], str] | None = None
    uploaded: str | None = None

    def get_manifest(
        self,
        image: str,
        raw: bool = False,  # noqa: FBT001, FBT002 - the host's signature
        media_type: str | None = None,
        return_headers: bool = False,  # noqa: FBT001, FBT002 - the host's signature
    ) -> object:
        """Read a manifest; of any type if none is asked for."""
        if media_type is not None:
            return super().get_manifest(image, raw, media_type, return_headers)
        found = self._pull(image)
        if raw:
            return found.content.decode("utf-8")
        if isinstance(found, Index):
            return with_platforms_as_architectures(found)
        return {**json.loads(found.content), "mediaType": found.media_type}

    def upload_manifest(
        self,
        manifest: object,
        image: str,
        raw: bool = False,  # noqa: ARG002, FBT001, FBT002 - the host's signature
    ) -> None:
        """Write a manifest, or let `write` do that once."""
        write, self.write = self.write, None
        content = _content(manifest)
        if write is not None:
            with http_errors():
                self.uploaded = write(Reference.parse(image), content)
            return
        if _is_untyped(content):
            client_like(self).upload_manifest(content, image, raw=True)
        else:
            # The http library would encode text that is not ASCII as Latin-1.
            text = content.decode("ascii") if content.isascii() else content
            super().upload_manifest(text, image, raw=True)
        self.uploaded = digest_of(content)

    def _pull(self, image: str) -> Manifest:
        with http_errors():
            return ClientRegistry(self).pull(Reference.parse(image))


def _is_untyped(content: bytes) -> bool:
    """Find a document that states no media type; the host's client takes it for schema 1."""
    return json.loads(content).get("mediaType") is None


def _content(manifest: object) -> bytes:
    """Encode a manifest as the host's client does."""
    if isinstance(manifest, dict):
        return encode(manifest)
    return manifest if isinstance(manifest, bytes) else str(manifest).encode("utf-8")
