"""A registry without HTTP; it passes the same contract tests as the clients."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

from pubtools_mlmerge.core.manifests import Image, Index, Manifest
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.core.strict_json import decode
from pubtools_mlmerge.errors import DigestMismatch, ImmutableTag, MergeError, MissingChild, NotFound
from pubtools_mlmerge.registry.base import Registry
from pubtools_mlmerge.testing import images


class MemoryRegistry(Registry):
    """Keeps manifests and configs by repository, and records what was pulled and pushed."""

    def __init__(self, immutable: Iterable[str] = ()) -> None:
        self.pulled: list[str] = []
        self.pushed: list[str] = []
        self.refusals: dict[str, MergeError] = {}
        self._immutable = frozenset(immutable)
        self._lock = threading.Lock()
        self._manifests: dict[tuple[str, str], Manifest] = {}
        self._tags: dict[tuple[str, str], str] = {}
        self._blobs: dict[tuple[str, str], bytes] = {}

    def pull(self, reference: Reference) -> Manifest:
        with self._lock:
            self.pulled.append(str(reference))
            self._refuse(reference)
            found = self._manifests.get((reference.name, self._digest(reference)))
        if found is None:
            raise NotFound(str(reference), 404, "manifest unknown")
        return found

    def push(self, reference: Reference, manifest: Manifest, *, repeat: bool = True) -> str:
        with self._lock:
            self._refuse(reference)
            if reference.digest and reference.digest != manifest.digest:
                raise DigestMismatch(str(reference), reference.digest, manifest.digest)
            if reference.tag in self._immutable and (reference.name, reference.tag) in self._tags:
                raise ImmutableTag(str(reference), 409, "tag is immutable")
            self._require_children(reference, manifest)
            self.put(reference, manifest)
            self.pushed.append(str(reference))
        return manifest.digest

    def pull_config(self, reference: Reference, image: Image) -> Mapping[str, object]:
        blob = self._blobs.get((reference.name, image.config))
        if blob is None:
            raise NotFound(str(reference), 404, "blob unknown")
        return decode(blob)

    def put(self, reference: Reference, manifest: Manifest) -> None:
        """Store a manifest past all checks and records."""
        self._manifests[reference.name, manifest.digest] = manifest
        if not reference.digest:
            self._tags[reference.name, reference.tag] = manifest.digest

    def load(self, reference: Reference, item: images.Child) -> Manifest:
        """Store an image or an index with everything below it, past all checks."""
        if isinstance(item, images.Image):
            for digest, blob in item.blobs.items():
                self._blobs[reference.name, digest] = blob
            manifest: Manifest = Image.from_bytes(item.content, item.media_type)
        else:
            for child in item.children:
                self.load(reference.at(child.digest), child)
            manifest = Index.from_bytes(item.content, item.media_type)
        self.put(reference, manifest)
        return manifest

    def digest_at(self, reference: Reference) -> str | None:
        """Return the digest of a tag, without a record of it."""
        return self._tags.get((reference.name, reference.tag))

    def _digest(self, reference: Reference) -> str:
        return reference.digest or self._tags.get((reference.name, reference.tag), "")

    def _refuse(self, reference: Reference) -> None:
        refusal = self.refusals.get(str(reference))
        if refusal is not None:
            raise refusal

    def _require_children(self, reference: Reference, manifest: Manifest) -> None:
        listed = [e.digest for e in manifest.manifests] if isinstance(manifest, Index) else []
        missing = [d for d in listed if (reference.name, d) not in self._manifests]
        if missing:
            raise MissingChild(str(reference), 400, "blob unknown to registry", tuple(missing))
