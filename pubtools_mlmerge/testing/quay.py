"""The dialect of Red Hat Quay."""

from __future__ import annotations

from pubtools_mlmerge.testing.content import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    MANIFEST_TYPES,
    SCHEMA_VERSION,
    StoredManifest,
)
from pubtools_mlmerge.testing.dialects import linux_amd64, schema_1
from pubtools_mlmerge.testing.documents import Document, Entry
from pubtools_mlmerge.testing.storage import Repository, Storage
from pubtools_mlmerge.testing.wire import HTML_TYPE, Refused, RegistryError, refuse

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
            raise _invalid(unsupported, status=415)
        try:
            document = Document.parse(content)
        except ValueError as error:
            problem = f"malformed manifest: {error}"
            raise _invalid(problem) from error
        problem = _type_problem(document, content_type) or _list_problem(document, content_type)
        if problem:
            # The real answer quotes what it refuses, at any length.
            quoted = content.decode(errors="replace")
            raise _invalid(problem + "\n\nOn instance:\n" + quoted)
        for digest in document.blobs:
            if digest not in repository.blobs:
                raise _invalid("Unknown manifest blob: " + digest)
        for child in document.children:
            problem = _child_problem(repository, child, content_type)
            if problem:
                raise _invalid(problem)
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


def _invalid(message: str, *, status: int = 400) -> Refused:
    detail = {"message": message}
    return refuse(status, RegistryError("MANIFEST_INVALID", "manifest invalid", detail))
