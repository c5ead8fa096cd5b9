"""What the registry holds, in memory."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import NamedTuple, Optional

from attrs import field, frozen

from pubtools_mlmerge.core.manifests import digest_of


@frozen
class StoredManifest:
    """A manifest as the registry holds it, byte for byte, with the type it was uploaded under."""

    content: bytes
    media_type: str
    digest: str


class TagPeriod(NamedTuple):
    """The Unix times between which a tag named a digest; the end is None while it still does."""

    digest: str
    start: int
    end: Optional[int]  # noqa: UP045 - read at run time, also by Python 3.9


@frozen(eq=False)
class Repository:
    """Blobs, manifests and tags under one name."""

    clock: Callable[[], float]
    _immutable: tuple[str, ...]
    blobs: dict[str, bytes] = field(factory=dict)
    manifests: dict[str, StoredManifest] = field(factory=dict)
    periods: dict[str, list[TagPeriod]] = field(factory=dict)

    @property
    def tags(self) -> dict[str, str]:
        """The digest that each tag names now."""
        last = {tag: periods[-1] for tag, periods in self.periods.items()}
        return {tag: period.digest for tag, period in last.items() if period.end is None}

    def find(self, reference: str) -> StoredManifest | None:
        """Return the manifest that a tag or digest names."""
        return self.manifests.get(self.tags.get(reference, reference))

    def is_immutable(self, tag: str) -> bool:
        """Tell whether a tag is set and cannot be moved or deleted."""
        return tag in self.tags and any(fnmatchcase(tag, one) for one in self._immutable)

    def add_blob(self, content: bytes) -> str:
        """Keep a blob and return its digest."""
        digest = digest_of(content)
        self.blobs[digest] = content
        return digest

    def add_manifest(self, reference: str, content: bytes, media_type: str) -> str:
        """Keep a manifest, let the tag name it where the reference is one, return its digest."""
        digest = digest_of(content)
        self.manifests[digest] = StoredManifest(content, media_type, digest)
        if ":" not in reference:
            self.set_tag(reference, digest)
        return digest

    def remove_manifest(self, digest: str) -> None:
        """Forget a manifest and every tag that names it."""
        del self.manifests[digest]
        for tag in [name for name, named in self.tags.items() if named == digest]:
            self.remove_tag(tag)

    def set_tag(self, tag: str, digest: str) -> None:
        """Let the tag name this digest from now on; a new period each time."""
        self.remove_tag(tag)
        self.periods.setdefault(tag, []).append(TagPeriod(digest, int(self.clock()), None))

    def remove_tag(self, tag: str) -> None:
        """Let the tag name nothing from now on."""
        periods = self.periods.get(tag)
        if periods and periods[-1].end is None:
            periods[-1] = periods[-1]._replace(end=int(self.clock()))

    def history(self, tag: str) -> tuple[TagPeriod, ...]:
        """Return the periods of a tag, newest first."""
        return tuple(reversed(self.periods.get(tag, ())))


@frozen(eq=False)
class Storage:
    """All repositories of one registry, by name."""

    _clock: Callable[[], float]
    _immutable: tuple[str, ...]
    repositories: dict[str, Repository] = field(factory=dict)

    def create(self, name: str) -> Repository:
        """Return a repository, made now if it did not exist."""
        if name not in self.repositories:
            self.repositories[name] = Repository(self._clock, self._immutable)
        return self.repositories[name]
