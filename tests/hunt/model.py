"""The model: what a tag offers, what somebody named, and what is lost. Nothing of it is ours."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from attrs import frozen

from tests.hunt.items import NAMES

# What a tag offers: a platform, or else the digest of an entry, or that an image is attested;
# each with the digests that stand there.
Offer = dict[str, set[str]]

_TYPE, _OF = "vnd.docker.reference.type", "vnd.docker.reference.digest"
# What each pattern names. A slip names nothing.
PATTERNS = {
    "amd64": r"\w+/amd64.*",
    "x86-64": r"\w+/amd64.*",
    "linux/amd64": r"linux/amd64.*",
    "arm64": r"linux/arm64",
    "arm64v8": r"linux/arm64",
    "arm": r"linux/arm/.*",
    "armv7": r"linux/arm/v7",
    "arm/v6": r"linux/arm/v6",
    "linux/arm/v7": r"linux/arm/v7",
    "s390x": r"linux/s390x",
    "ppc64el": r"linux/ppc64le",
    "*/ppc64le": r"linux/ppc64le",
    "linux": r"linux/.*",
    "*": r"\w+/.*",
    "windows/*": r"windows/.*",
    "none": r"sha256:.*",
}
SLIPS = ("s390", "arm46", "windws/amd64", "ppc64")
# A slip only where this is in the tag, and would go.
_NEARLY = {"ppc64": "linux/ppc64le", "arm": "linux/arm64"}


class Shelf(Protocol):
    """Where a registry keeps what it holds."""

    def read(self, repository: str, reference: str) -> bytes | None:
        """Read a manifest by tag or digest."""

    def blob(self, repository: str, digest: str) -> bytes | None:
        """Read a blob."""


def offer_of(shelf: Shelf, repository: str, reference: str, *, nested: bool = True) -> Offer:
    """Read what a tag offers; without `nested`, as one who cannot read an index within it."""
    content = shelf.read(repository, reference)
    document = json.loads(content or b'{"manifests": []}')
    offer: Offer = {}
    if "manifests" not in document:
        config = json.loads(shelf.blob(repository, document["config"]["digest"]) or b"{}")
        digest = f"sha256:{hashlib.sha256(content or b'').hexdigest()}"
        offer[_name(config, digest)] = {digest}
    for entry in document.get("manifests", ()):
        digest, notes = entry["digest"], entry.get("annotations", {})
        if _TYPE in notes:
            offer.setdefault(f"attestation of {notes[_OF]}", set()).add(digest)
        elif "index" in entry["mediaType"]:
            inner = offer_of(shelf, repository, digest) if nested else {}
            for name, digests in inner.items():
                # Marked, as an attestation is one of an image that stands beside it.
                offer.setdefault(name, set()).update(f"within {d}" for d in digests)
        else:
            offer.setdefault(_name(entry.get("platform") or {}, digest), set()).add(digest)
    return offer


def _name(platform: Mapping[str, str], digest: str) -> str:
    keys = ("os", "architecture", "variant", "os.version")
    return NAMES.get(frozenset((k, platform[k]) for k in keys if k in platform), digest)


def missing(shelf: Shelf, repository: str, reference: str) -> Iterator[str]:
    """Name what cannot be pulled of what a reference leads to."""
    content = shelf.read(repository, reference)
    if content is None:
        yield reference
        return
    document = json.loads(content)
    for entry in document.get("manifests", ()):
        yield from missing(shelf, repository, entry["digest"])
    for blob in [document["config"], *document["layers"]] if "config" in document else ():
        if shelf.blob(repository, blob["digest"]) is None:
            yield blob["digest"]


@frozen(kw_only=True)
class Named:
    """What the user named: platforms to keep, others to drop, and digests."""

    keep: Sequence[str] = ()
    drop: Sequence[str] = ()
    digests: frozenset[str] = frozenset()  # of images that are too old, or of what serves nobody
    replaces: bool = False  # by --single-image: all that is no platform may go
    is_exact: bool = False  # what is to be kept may be anything: it is no slip
    coarse: bool = False  # by --match: another image may stand for a platform that is there twice

    def lets_go(self, name: str, before: Offer, brought: Offer) -> bool:
        """Whether a platform may leave a tag with this offer."""
        if "/" not in name and self.replaces:
            return True
        is_left_out = "/" in name and not fits(self.keep, name) and self._keeps(before, brought)
        return is_left_out or fits(self.drop, name)

    def _keeps(self, before: Offer, brought: Offer) -> bool:
        """Whether what is to be kept is meant: it fits something, and no slip is in it."""
        if self.is_exact or not any(fits(self.keep, name) for name in before):
            return self.is_exact and bool(self.keep)
        named = [*self.keep, *self.drop]  # what is dropped by its name makes no slip of another
        going = {name for name in before if not covers(brought, name) and not fits(named, name)}
        near = {p for p in _NEARLY if _NEARLY[p] in going and not any(fits([p], n) for n in before)}
        return {*SLIPS[:-1], *near}.isdisjoint(self.keep)


def fits(patterns: Iterable[str], name: str) -> bool:
    """Whether one of the patterns names a platform."""
    return any(re.fullmatch(PATTERNS.get(pattern, "(?!)"), name) for pattern in patterns)


def eligible(offer: Offer, patterns: Sequence[str] | None) -> Offer:
    """Choose what may be taken of a source, attestations with their images."""
    if patterns is None:
        return offer
    chosen = {name: offer[name] for name in offer if "/" in name and fits(patterns, name)}
    digests = {digest for found in chosen.values() for digest in found}
    tied = {name: offer[name] for name in offer if attested_by(name) in digests}
    return {**chosen, **tied}


def attested_by(name: str) -> str:
    """Return the digest of the image that this says to be attested, if it does."""
    return name.partition("attestation of ")[2]


def covers(offer: Offer, name: str) -> bool:
    """Whether a platform is offered; windows without a version stands for all of its versions."""
    return name in offer or (name.startswith("windows/") and name.partition(":")[0] in offer)


def lost(before: Offer, now: Offer, brought: Offer, named: Named) -> Iterator[str]:
    """Name what left a tag although nobody named it."""
    present = {digest for digests in now.values() for digest in digests}
    for name, digests in before.items():
        stays = digests - named.digests
        if named.lets_go(name, before, brought) or not stays:
            continue
        if attested_by(name) not in {"", *present}:
            continue  # its image is gone
        may_change = named.coarse or covers(brought, name)
        is_left = covers(now, name) if may_change else stays <= now.get(name, set())
        if not is_left:
            yield name
