"""What the registry holds, and when which tag named what."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Optional

from pubtools_mlmerge.testing.content import StoredManifest, digest_of
from pubtools_mlmerge.testing.documents import Document

PUSHED_BY_DIGEST_SECONDS = 3600


class TagPeriod(NamedTuple):
    """A time during which a tag named one digest, in whole seconds.

    Attributes:
        digest (str):
            What the tag named.
        start (int):
            When it began to, as a Unix time.
        end (int | None):
            When it ceased to; None while it still does.
    """

    digest: str
    start: int
    end: Optional[int]  # noqa: UP045 - read at run time, also by Python 3.9


class Repository:
    """Blobs, manifests and tags under one name."""

    def __init__(self, name: str, clock: Callable[[], float]) -> None:
        """Start out empty."""
        self.name = name
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, StoredManifest] = {}
        self._children: dict[str, tuple[str, ...]] = {}
        self._periods: dict[str, list[TagPeriod]] = {}
        self._pinned_until: dict[str, float] = {}
        self._clock = clock

    def add_blob(self, content: bytes) -> str:
        """Keep a blob and return its digest."""
        digest = digest_of(content)
        self.blobs[digest] = content
        return digest

    def add_manifest(self, content: bytes, media_type: str) -> str:
        """Keep a manifest and return its digest; no tag names it yet."""
        digest = digest_of(content)
        self.manifests[digest] = StoredManifest(
            content=content,
            media_type=media_type,
            digest=digest,
        )
        self._children[digest] = _children(content)
        return digest

    def children(self, digest: str) -> tuple[str, ...]:
        """Return the digests that a stored index lists."""
        return self._children[digest]

    def remove_manifest(self, digest: str) -> None:
        """Forget a manifest and every tag that names it."""
        del self.manifests[digest]
        for tag in [name for name, named in self.tags.items() if named == digest]:
            self.remove_tag(tag)

    @property
    def tags(self) -> dict[str, str]:
        """The digest that each tag names now."""
        return {
            tag: periods[-1].digest
            for tag, periods in self._periods.items()
            if periods[-1].end is None
        }

    @property
    def had_tags(self) -> bool:
        """Whether a tag was ever set."""
        return bool(self._periods)

    def set_tag(self, tag: str, digest: str) -> None:
        """Let the tag name this digest from now on; a new period each time."""
        self.remove_tag(tag)
        period = TagPeriod(digest, int(self._clock()), None)
        self._periods.setdefault(tag, []).append(period)

    def remove_tag(self, tag: str) -> None:
        """Let the tag name nothing from now on."""
        periods = self._periods.get(tag)
        if periods and periods[-1].end is None:
            periods[-1] = periods[-1]._replace(end=int(self._clock()))

    def history(self, tag: str) -> tuple[TagPeriod, ...]:
        """Return what the tag named, newest first."""
        return tuple(reversed(self._periods.get(tag, ())))

    def histories(self) -> dict[str, tuple[TagPeriod, ...]]:
        """Return the history of every tag that ever was."""
        return {tag: self.history(tag) for tag in self._periods}

    def find(self, reference: str) -> StoredManifest | None:
        """Return what a tag or digest names, reachable or not."""
        return self.manifests.get(self.tags.get(reference, reference))

    def pin(self, digest: str, seconds: float = PUSHED_BY_DIGEST_SECONDS) -> None:
        """Keep a manifest reachable by its digest for some time."""
        until = self._clock() + seconds
        self._pinned_until[digest] = max(until, self._pinned_until.get(digest, until))

    def is_reachable(self, digest: str) -> bool:
        """Tell whether a tag or a pin holds the manifest or an index with it."""
        now = self._clock()
        pinned = {held for held, until in self._pinned_until.items() if until > now}
        held = pinned.union(self.tags.values())
        return digest in held or any(digest in self._children.get(one, ()) for one in held)


class Storage:
    """All repositories of one registry."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Start out empty."""
        self._repositories: dict[str, Repository] = {}
        self._clock = clock

    def find(self, name: str) -> Repository | None:
        """Return a repository if it exists."""
        return self._repositories.get(name)

    def get(self, name: str) -> Repository:
        """Return a repository; raise KeyError where there is none."""
        return self._repositories[name]

    def create(self, name: str) -> Repository:
        """Return a repository, made now if it did not exist."""
        if name not in self._repositories:
            self._repositories[name] = Repository(name, self._clock)
        return self._repositories[name]


def _children(content: bytes) -> tuple[str, ...]:
    """Read what an index lists; what cannot be read lists nothing."""
    try:
        return tuple(child.digest for child in Document.parse(content).children)
    except ValueError:
        return ()
