"""How registries differ."""

from __future__ import annotations

import json
from typing import Protocol

from pubtools_mlmerge.testing.content import SCHEMA_1, StoredManifest, digest_of
from pubtools_mlmerge.testing.documents import Document
from pubtools_mlmerge.testing.storage import Repository, Storage
from pubtools_mlmerge.testing.wire import Refused


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
    """Find what clients get that know of no indexes.

    Args:
        stored (StoredManifest):
            An index or an image.

    Returns:
        str | None: The digest of the entry for linux/amd64, or of the image itself;
            None where the index has no such entry.
    """
    document = Document.parse(stored.content)
    if "manifests" not in document.keys:
        return stored.digest
    entry = document.linux_amd64
    return entry.digest if entry else None


def schema_1(name: str, tag: str, image: StoredManifest) -> StoredManifest:
    """Make the document of the first schema that stands for an image.

    Args:
        name (str):
            The repository's name.
        tag (str):
            The tag that was asked for.
        image (StoredManifest):
            The image for linux/amd64.

    Returns:
        StoredManifest: A document with a digest of its own, stored nowhere.
    """
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
