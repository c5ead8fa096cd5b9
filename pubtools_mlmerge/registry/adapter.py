"""A client of the host's shape as a registry."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from requests.exceptions import RequestException

from pubtools_mlmerge.core.manifests import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    Index,
    Manifest,
    check_digest,
    read_manifest,
)
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.core.strict_json import encode
from pubtools_mlmerge.errors import MergeError, NotAnIndex, NotFound, RegistryError
from pubtools_mlmerge.registry.auth import failure
from pubtools_mlmerge.registry.base import ManifestClient, Registry


def content_of(body: object) -> bytes:
    """Return the bytes of a manifest from any of the shapes that a client takes or returns."""
    if isinstance(body, Mapping):
        return encode(body)
    if isinstance(body, str):
        return body.encode("utf-8")
    if isinstance(body, bytes):
        return body
    raise TypeError(f"the client gave a manifest as {type(body).__name__}")


class ClientRegistry(Registry):
    """A registry behind a client of the host's shape, of which two public calls are used.

    Such a client asks for one media type at a time: a Docker list takes one request, an OCI index
    two.
    """

    logs_in_per_thread = True

    def __init__(self, client: ManifestClient) -> None:
        self._client = client

    def pull(self, reference: Reference) -> Manifest:
        """Read a manifest, see `Registry.pull`."""
        return self._pull(reference, MANIFEST_TYPES)

    def pull_index(self, reference: Reference) -> Index:
        """Read an index, see `Registry.pull_index`."""
        found = self._pull(reference, INDEX_TYPES)
        if isinstance(found, Index):
            return found
        raise NotAnIndex(str(reference), found.kind)

    def _pull(self, reference: Reference, types: tuple[str, ...]) -> Manifest:
        refusal: NotFound | NotAnIndex | None = None
        for media_type in types:
            try:
                with _mapped_errors(reference, media_type):
                    answer = self._client.get_manifest(
                        str(reference), raw=True, media_type=media_type, return_headers=True
                    )
                body, headers = answer if isinstance(answer, tuple) else (answer, {})
                named = {str(name).lower(): str(value) for name, value in dict(headers).items()}
                return self._read(reference, body, named)
            except (NotFound, NotAnIndex) as error:
                # Registries hide a tag from those who ask for another type than it holds: a 404
                # after "it is another type" is about the type, not about the tag.
                if refusal is None or isinstance(refusal, NotFound):
                    refusal = error
        raise refusal or NotFound(str(reference))

    def _read(self, reference: Reference, body: object, headers: Mapping[str, str]) -> Manifest:
        content, stated = content_of(body), headers.get("content-type")
        if not isinstance(body, Mapping):  # a dict is not the bytes of the digest
            check_digest(reference, content, headers.get("docker-content-digest"), stated)
        # The host takes text/plain for any type; then only the document itself can tell.
        reliable = None if stated is None or stated.startswith("text/plain") else stated
        return read_manifest(reference, content, reliable)

    def push(self, reference: Reference, manifest: Manifest, *, repeat: bool = True) -> str:  # noqa: ARG002 - the client decides
        """Write a manifest, see `Registry.push`; whether it is repeated is up to the client."""
        # The host's client takes a document without media type for schema 1.
        if isinstance(manifest, Index) and not manifest.states_media_type:
            manifest = manifest.with_media_type()
        content = manifest.content
        # The http library would encode text that is not ASCII as Latin-1.
        text = content.decode("ascii") if content.isascii() else content
        with _mapped_errors(reference, manifest.media_type):
            self._client.upload_manifest(text, str(reference), raw=True)
        return manifest.digest


@contextmanager
def _mapped_errors(reference: Reference, media_type: str) -> Iterator[None]:
    """Turn the client's errors into ours, with the client's as the cause."""
    try:
        yield
    except RequestException as error:
        if error.response is None:
            raise RegistryError(str(reference), None, str(error)) from error
        content = error.response.content
        body = content if isinstance(content, bytes) else b""  # callers' fakes have none
        raise failure(str(reference), error.response.status_code, body) from error
    except Exception as error:
        # The host's error for another type, without importing the host.
        host = sys.modules.get("pubtools._quay.exceptions")
        if not isinstance(error, getattr(host, "ManifestTypeError", ())):
            raise
        raise NotAnIndex(str(reference), f"something else than {media_type}") from error


@contextmanager
def http_errors() -> Iterator[None]:
    """Let callers of the host's class see the errors of its client, unchanged."""
    try:
        yield
    except MergeError as error:
        cause = error.__cause__
        is_type_refusal = isinstance(error, NotAnIndex) and not isinstance(cause, MergeError)
        if cause is not None and (isinstance(cause, RequestException) or is_type_refusal):
            raise cause from None
        raise
