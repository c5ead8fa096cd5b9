"""How registries differ."""

from __future__ import annotations

import json
from typing import Protocol

from pubtools_mlmerge.testing.http import HTML_TYPE, TEXT_TYPE, Refused, RegistryError, refuse
from pubtools_mlmerge.testing.storage import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    INDEX_TYPES,
    MANIFEST_TYPES,
    OCI_INDEX,
    OCI_MANIFEST,
    SCHEMA_1,
    SCHEMA_VERSION,
    Document,
    Entry,
    Repository,
    Storage,
    StoredManifest,
    digest_of,
)


class Dialect(Protocol):
    """What a kind of registry does in its own way.

    Attributes:
        token_path (str):
            Where tokens are issued.
        delete_action (str):
            The right that a DELETE needs.
        push_actions (tuple[str, ...]):
            The rights that an upload needs.
        sends_etag (bool):
            Whether manifests come with their digest as an entity tag.
        deletes_tags (bool):
            Whether a tag can be deleted by its name.
        states_token_life (bool):
            Whether a token comes with the time that it lasts.
        creates_on_push_token (bool):
            Whether asking for the right to push makes the repository.
        strict_scopes (bool):
            Whether a scope with anything unusual in it is refused.
        reads_without_token (bool):
            Whether public repositories can be read without a token.
        always_challenges (bool):
            Whether the root sends a challenge even along with a 200.
        root_refusal (bytes):
            The body of a 401 at the root; empty for the usual errors.
        has_history_api (bool):
            Whether the history of tags is served.
        mount_needs_source (bool):
            Whether a mount without rights on its source is refused.
        single_request_upload (bool):
            Whether a blob can be sent with the POST.
        relative_locations (bool):
            Whether an uploaded manifest's Location lacks the host.
        page_type (str):
            The type of the page for paths that nothing serves.
        most_tags (int):
            How many tags come at once; 0 for all.
        no_tags (list[str] | None):
            What stands for the tags when all of them were deleted.
    """

    token_path: str
    delete_action: str
    push_actions: tuple[str, ...]
    sends_etag: bool
    deletes_tags: bool
    states_token_life: bool
    creates_on_push_token: bool
    strict_scopes: bool
    reads_without_token: bool
    always_challenges: bool
    root_refusal: bytes
    has_history_api: bool
    mount_needs_source: bool
    single_request_upload: bool
    relative_locations: bool
    page_type: str
    most_tags: int
    no_tags: list[str] | None

    def read(
        self,
        storage: Storage,
        name: str,
        reference: str,
        accepted: frozenset[str],
    ) -> StoredManifest:
        """Return what a GET of the reference answers with."""

    def check(self, repository: Repository, content: bytes, content_type: str) -> str:
        """Return the media type under which a manifest may be stored."""

    def stored(self, repository: Repository, digest: str, reference: str) -> None:
        """Take note of a manifest that was just uploaded."""

    def refuse_tag_move(self, tag: str) -> Refused:
        """Refuse to move an immutable tag."""


def linux_amd64(stored: StoredManifest) -> str | None:
    """Find what clients get that know of no indexes."""
    document = Document.parse(stored.content)
    if "manifests" not in document.keys:
        return stored.digest
    entry = document.linux_amd64
    return entry.digest if entry else None


def schema_1(name: str, tag: str, image: StoredManifest) -> StoredManifest:
    """Make the document of the first schema that stands for an image."""
    layers = Document.parse(image.content).blobs[1:]
    compatible = json.dumps({"id": image.digest.partition(":")[2], "os": "linux"})
    document = {
        "schemaVersion": 1,
        "name": name,
        "tag": tag,
        "architecture": "amd64",
        "fsLayers": [{"blobSum": digest} for digest in layers],
        "history": [{"v1Compatibility": compatible} for _ in layers],
        "signatures": [],
    }
    content = json.dumps(document, indent=3).encode()
    return StoredManifest(content=content, media_type=SCHEMA_1, digest=digest_of(content))


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


LISTED_SECONDS = 300
UNSTATED_TYPES = ("", "application/json")


class Quay:
    """Strict about Docker lists and children; answers old clients at any price."""

    token_path = "/v2/auth"  # noqa: S105 - a path, not a token
    delete_action = "push"
    push_actions: tuple[str, ...] = ("push",)
    sends_etag = False
    deletes_tags = True
    states_token_life = False
    creates_on_push_token = True
    strict_scopes = True
    reads_without_token = True
    always_challenges = True
    root_refusal = b"true"
    has_history_api = True
    mount_needs_source = False
    single_request_upload = True
    relative_locations = True
    page_type = HTML_TYPE
    most_tags = 50
    no_tags: list[str] | None = []  # noqa: RUF012 - not changed by anyone

    def read(
        self,
        storage: Storage,
        name: str,
        reference: str,
        accepted: frozenset[str],
    ) -> StoredManifest:
        """Return what a GET of the reference answers with."""
        repository = storage.find(name)
        if repository is None:
            raise refuse(404, RegistryError("NAME_UNKNOWN", "repository name not known", {}))
        found = repository.find(reference)
        if found is None or (":" in reference and not repository.is_reachable(found.digest)):
            raise _not_found(repository, reference)
        if ":" in reference or found.media_type in accepted:
            return found
        image = repository.manifests.get(linux_amd64(found) or "")
        if image is None:
            raise _not_found(repository, found.digest)
        return image if image.media_type in accepted else schema_1(name, reference, image)

    def check(self, repository: Repository, content: bytes, content_type: str) -> str:
        """Return the media type under which a manifest may be stored."""
        if content_type not in (*MANIFEST_TYPES, *UNSTATED_TYPES):
            unsupported = f"unsupported type {content_type}"
            raise _quay_invalid(unsupported, status=415)
        try:
            document = Document.parse(content)
        except ValueError as error:
            problem = f"malformed manifest: {error}"
            raise _quay_invalid(problem) from error
        problem = _type_problem(document, content_type) or _list_problem(document, content_type)
        if problem:
            # The real answer quotes what it refuses, at any length.
            quoted = content.decode(errors="replace")
            raise _quay_invalid(problem + "\n\nOn instance:\n" + quoted)
        for digest in document.blobs:
            if digest not in repository.blobs:
                raise _quay_invalid("Unknown manifest blob: " + digest)
        for child in document.children:
            problem = _child_problem(repository, child, content_type)
            if problem:
                raise _quay_invalid(problem)
        return content_type

    def stored(self, repository: Repository, digest: str, reference: str) -> None:
        """Keep what was pushed by digest, and what a list names, for a while."""
        if ":" in reference:
            repository.pin(digest)
        for child in repository.children(digest):
            repository.pin(child, LISTED_SECONDS)

    def refuse_tag_move(self, tag: str) -> Refused:
        """Refuse to move an immutable tag."""
        return refuse(409, RegistryError("TAG_IMMUTABLE", f"tag {tag} is immutable", {}))


def _type_problem(document: Document, content_type: str) -> str:
    """Say why the document is not of the type that it came under."""
    if content_type in UNSTATED_TYPES:
        return "not a signed manifest of schema 1"
    if document.media_type not in (content_type, ""):
        return f"mediaType is not {content_type}"
    if document.schema_version != SCHEMA_VERSION or not document.fits(content_type):
        return f"not a document of type {content_type}"
    if content_type in (DOCKER_LIST, DOCKER_MANIFEST) and not document.media_type:
        return "'mediaType' is a required property"
    return ""


def _list_problem(document: Document, content_type: str) -> str:
    """Say why a Docker list may not have these entries; an OCI index may have any."""
    for child in document.children if content_type == DOCKER_LIST else ():
        if child.media_type != DOCKER_MANIFEST:
            return f"'{child.media_type}' is not a type that a list may hold"
        if not {"os", "architecture"} <= child.platform.keys():
            return "'platform' is a required property, with os and architecture"
    return ""


def _child_problem(repository: Repository, child: Entry, list_type: str) -> str:
    """Say why an entry does not fit what the repository holds."""
    stored = repository.manifests.get(child.digest)
    if stored is None:
        return f"Could not find child manifest with digest `{child.digest}`"
    size = len(stored.content)
    if size != child.size:
        return f"Size of manifest does not match that retrieved: {size} vs {child.size}"
    if list_type == DOCKER_LIST and stored.media_type != DOCKER_MANIFEST:
        return f"{child.digest} is not a Docker manifest"
    return ""


def _not_found(repository: Repository, reference: str) -> Refused:
    if repository.history(reference):
        message = f"tag {reference} was deleted or has expired"
        return refuse(404, RegistryError("TAG_EXPIRED", message, {}))
    return refuse(404, RegistryError("MANIFEST_UNKNOWN", "manifest unknown", {}))


def _quay_invalid(message: str, *, status: int = 400) -> Refused:
    detail = {"message": message}
    return refuse(status, RegistryError("MANIFEST_INVALID", "manifest invalid", detail))
