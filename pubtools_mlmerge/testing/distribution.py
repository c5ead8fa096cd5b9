"""The dialect of the CNCF distribution registry, version 2.8."""

from __future__ import annotations

from pubtools_mlmerge.testing.content import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    INDEX_TYPES,
    MANIFEST_TYPES,
    OCI_INDEX,
    OCI_MANIFEST,
    SCHEMA_VERSION,
    StoredManifest,
)
from pubtools_mlmerge.testing.dialects import linux_amd64, schema_1
from pubtools_mlmerge.testing.documents import Document
from pubtools_mlmerge.testing.storage import Repository, Storage
from pubtools_mlmerge.testing.wire import TEXT_TYPE, Refused, RegistryError, refuse

OCI_KINDS = {OCI_INDEX: ("index", "indexes"), OCI_MANIFEST: ("manifest", "manifests")}


class Distribution:
    """Accepts nearly everything whose parts are there; strict about Accept."""

    token_path = "/token"  # noqa: S105 - a path, not a token
    delete_action = "delete"
    push_actions: tuple[str, ...] = ("pull", "push")
    sends_etag = True
    deletes_tags = False
    states_token_life = True
    creates_on_push_token = False
    strict_scopes = False
    reads_without_token = False
    always_challenges = False
    root_refusal = b""
    has_history_api = False
    mount_needs_source = True
    single_request_upload = False
    relative_locations = False
    page_type = TEXT_TYPE
    most_tags = 0
    no_tags: list[str] | None = None

    def read(
        self,
        storage: Storage,
        name: str,
        reference: str,
        accepted: frozenset[str],
    ) -> StoredManifest:
        """Return what a GET of the reference answers with."""
        repository = storage.find(name)
        found = repository.find(reference) if repository else None
        if repository is None or found is None:
            raise refuse(404, _unknown(name, reference))
        if found.media_type in accepted:
            return found
        if found.media_type in OCI_KINDS:
            _refuse_unless_untyped(found)
            return found
        if ":" in reference:
            return found
        return _older_form(repository, reference, found, accepted)

    def check(self, repository: Repository, content: bytes, content_type: str) -> str:
        """Return the media type under which a manifest may be stored."""
        media_type = content_type.partition(";")[0].strip()
        document = _parse(content, media_type)
        missing = [
            entry.digest for entry in document.children if entry.digest not in repository.manifests
        ]
        if media_type not in INDEX_TYPES:
            missing += [digest for digest in document.blobs if digest not in repository.blobs]
        if missing:
            raise refuse(400, *map(_part_unknown, missing))
        return media_type

    def stored(self, repository: Repository, digest: str, reference: str) -> None:
        """Take note of nothing: whatever was uploaded stays."""

    def refuse_tag_move(self, tag: str) -> Refused:
        """Refuse to move a tag, as Harbor does in front of this registry."""
        message = f"configured as immutable, cannot be updated: {tag}"
        return refuse(412, RegistryError("PRECONDITION", message))


def _parse(content: bytes, media_type: str) -> Document:
    try:
        document = Document.parse(content)
    except ValueError as error:
        raise refuse(400, _invalid(str(error))) from error
    is_typed = media_type in (DOCKER_LIST, DOCKER_MANIFEST)
    named = document.media_type or ("" if is_typed else media_type)
    if media_type not in MANIFEST_TYPES or named != media_type:
        raise refuse(400, _invalid({}))
    # A Docker list may have an image's parts as well: nothing looks at them.
    if media_type != DOCKER_LIST and not document.fits(media_type):
        raise refuse(400, _invalid({}))
    if document.schema_version != SCHEMA_VERSION:
        raise refuse(500, RegistryError("UNKNOWN", "unknown error", {}))
    return document


def _refuse_unless_untyped(manifest: StoredManifest) -> None:
    """Refuse an OCI document whose type the client does not accept."""
    if Document.parse(manifest.content).media_type:
        one, many = OCI_KINDS[manifest.media_type]
        message = f"OCI {one} found, but accept header does not support OCI {many}"
        raise refuse(404, RegistryError("MANIFEST_UNKNOWN", message))


def _older_form(
    repository: Repository,
    tag: str,
    found: StoredManifest,
    accepted: frozenset[str],
) -> StoredManifest:
    """Return what a client gets that does not accept the Docker type of a tag."""
    digest = linux_amd64(found)
    if digest is None:
        raise refuse(404, RegistryError("MANIFEST_UNKNOWN", "manifest unknown"))
    image = repository.manifests.get(digest)
    if image is None:
        raise refuse(404, _unknown(repository.name, digest))
    if image.media_type in accepted or image.media_type in OCI_KINDS:
        return image
    return schema_1(repository.name, tag, image)


def _unknown(name: str, reference: str) -> RegistryError:
    by_digest = {"Name": name, "Revision": reference}
    detail = by_digest if ":" in reference else {"Tag": reference}
    return RegistryError("MANIFEST_UNKNOWN", "manifest unknown", detail)


def _invalid(detail: object) -> RegistryError:
    return RegistryError("MANIFEST_INVALID", "manifest invalid", detail)


def _part_unknown(digest: str) -> RegistryError:
    return RegistryError("MANIFEST_BLOB_UNKNOWN", "blob unknown to registry", digest)
