"""How registries differ."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from pubtools_mlmerge.core.manifests import (
    DOCKER_LIST,
    INDEX_TYPES,
    MANIFEST_TYPES,
    Image,
    Index,
    content_type_name,
)
from pubtools_mlmerge.errors import InvalidIndex, NotAnIndex
from pubtools_mlmerge.testing.http import TEXT, Refused, RegistryError, Request, Response
from pubtools_mlmerge.testing.storage import Repository, Storage, StoredManifest

_LACKS = "MANIFEST_BLOB_UNKNOWN"


class Right(NamedTuple):
    """The right to do one thing in one repository."""

    repository: str
    action: str


class Dialect:
    """How a registry behaves where registries differ: by default much like docker-registry.

    Tests that need another registry derive a class from this one.
    """

    token_path = "/token"  # noqa: S105 - a path, not a token
    push_actions: tuple[str, ...] = ("pull", "push")
    delete_action = "delete"
    # Whether public repositories can be read without a token.
    reads_without_token = False
    # Whether it lists what refers to a manifest, and how many at once.
    lists_referrers = False
    referrers_page = 100
    # Whether a mount without the right to read its source is refused, or begins an upload.
    mount_needs_source = True

    def front(
        self, _storage: Storage, request: Request, serve: Callable[[Request], Response]
    ) -> Response:
        """Answer a request, as what stands in front of a registry may do for it."""
        return serve(request)

    def find(
        self, repository: Repository | None, name: str, reference: str, accepted: frozenset[str]
    ) -> StoredManifest:
        """Return the manifest that answers a GET of the reference."""
        found = repository.find(reference) if repository else None
        if found is None:
            by_digest = {"Name": name, "Revision": reference}
            detail = by_digest if ":" in reference else {"Tag": reference}
            raise Refused(404, RegistryError("MANIFEST_UNKNOWN", "manifest unknown", detail))
        if found.media_type in MANIFEST_TYPES and found.media_type not in accepted:
            message = f"{found.media_type} found, but the Accept header does not name it"
            raise Refused(404, RegistryError("MANIFEST_UNKNOWN", message))
        return found

    def check(self, repository: Repository, content: bytes, content_type: str) -> str:
        """Return the media type under which a manifest may be stored."""
        media_type = content_type_name(content_type) or ""
        if media_type not in MANIFEST_TYPES:
            raise Refused(400, _invalid(f"unsupported type {media_type!r}"))
        try:
            found = (Index if media_type in INDEX_TYPES else Image).from_bytes(content, media_type)
        except (InvalidIndex, NotAnIndex) as error:
            raise Refused(400, _invalid(str(error))) from error
        if isinstance(found, Image):
            missing = [digest for digest in found.blobs if digest not in repository.blobs]
        elif media_type == DOCKER_LIST and not found.states_media_type:
            raise Refused(400, _invalid("mediaType is missing"))
        else:
            listed = (entry.digest for entry in found.manifests)
            missing = [digest for digest in listed if digest not in repository.manifests]
        if missing:
            message = "blob unknown to registry"
            raise Refused(400, *(RegistryError(_LACKS, message, digest) for digest in missing))
        return media_type

    def stored(self, repository: Repository, reference: str, digest: str) -> None:
        """Take note of a manifest that was just stored."""

    def refuse_tag_move(self, tag: str) -> Refused:
        """Refuse to move or delete an immutable tag, as Harbor does."""
        message = f"configured as immutable, cannot be updated: {tag}"
        return Refused(412, RegistryError("PRECONDITION", message))

    def serve(self, _storage: Storage, _request: Request) -> Response:
        """Answer a request that none of the usual endpoints serves."""
        return Response(404, TEXT, b"404 page not found\n")

    def rights_in(self, scope: str) -> list[Right]:
        """Read a scope parameter of a request for a token."""
        rights: list[Right] = []
        for text in scope.split(" "):
            kind, _, rest = text.partition(":")
            name, _, actions = rest.rpartition(":")
            if kind == "repository" and name:
                rights += [Right(name, action) for action in actions.split(",")]
        return rights

    def token_reply(self, token: str, seconds: int, issued: str) -> Mapping[str, object]:
        """Return the document that brings a token."""
        return {"token": token, "access_token": token, "expires_in": seconds, "issued_at": issued}

    def granted(self, storage: Storage, rights: Iterable[Right]) -> None:
        """Take note of the rights that a token was issued for."""


def _invalid(detail: str) -> RegistryError:
    return RegistryError("MANIFEST_INVALID", "manifest invalid", detail)
