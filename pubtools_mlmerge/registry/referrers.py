"""Referrers of images (signatures, attestations and other artifacts), found and copied.

They are found by the referrers API (distribution-spec, "Listing Referrers"), by the tag schema
where there is none, and by the tags that cosign makes.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Literal
from urllib.parse import urljoin, urlsplit

from attrs import evolve

from pubtools_mlmerge.concurrency import Memo, map_in_order
from pubtools_mlmerge.core.manifests import (
    OCI_INDEX,
    Descriptor,
    Image,
    Index,
    Manifest,
    Referrer,
    content_type_name,
    subject_of,
)
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.core.strict_json import decode, encode
from pubtools_mlmerge.errors import (
    ConflictError,
    InvalidIndex,
    InvalidReference,
    MergeError,
    NotAnIndex,
    NotFound,
    RegistryError,
    brief,
)
from pubtools_mlmerge.registry.base import unless_absent
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.registry.copying import Children
from pubtools_mlmerge.registry.http import Answer, origin

LOG = logging.getLogger("pubtools.mlmerge")

Mode = Literal["copy", "warn", "ignore"]

_COSIGN = {"sig": "cosign signature", "att": "cosign attestation", "sbom": "cosign SBOM"}
_MERGED = (".sig", ".att")  # cosign adds a layer for each
# 303 is GHCR's, to a page of GitHub; 400 is Quay's for a digest that it lacks.
_NO_API = frozenset({303, 400, 404, 405, 406, 501})
_ACCEPT = {"Accept": OCI_INDEX}
_NEXT = re.compile(r'<([^<>]*)>\s*;[^,<>]*\brel="?next\b', re.IGNORECASE)
_THREADS = 8
_MOST_PAGES, _MOST = 32, 1000  # pages of one list; referrers of one merge
_LEVELS = 4  # referrers of referrers
_TRIES = 4
_REMEMBERED, _FRESH = 10_000, 30.0  # lists, and for how many seconds
_TAGS = 1000  # asked for at once


def schema_tag(digest: str) -> str:
    """Name the tag of what refers to a digest (distribution-spec, "Referrers Tag Schema")."""
    algorithm, _, encoded = digest.partition(":")
    return f"{algorithm[:32]}-{encoded[:64]}"


class ReferrerLists:
    """Lists the referrers of manifests in one registry; safe from several threads."""

    def __init__(self, client: RegistryClient) -> None:
        self._client = client
        self._without_api: set[str] = set()  # hosts
        # In a tuple, as an empty list would not be remembered.
        self._found: Memo[Reference, tuple[tuple[Referrer, ...]]] = Memo(_REMEMBERED, _FRESH)
        self._tags: Memo[str, tuple[frozenset[str] | None]] = Memo(_REMEMBERED, _FRESH)

    def of_all(self, repository: Reference, subjects: Iterable[str]) -> list[Referrer]:
        """List the direct referrers of manifests in one repository."""
        jobs = [partial(self.of, repository.at(subject)) for subject in dict.fromkeys(subjects)]
        # The first one finds out whether there is an API.
        found = [*(job() for job in jobs[:1]), *map_in_order(jobs[1:], _THREADS)]
        return [each for some in found for each in some]

    def of(self, subject: Reference) -> tuple[Referrer, ...]:
        """List the direct referrers of a manifest."""
        return self._found.get(subject, lambda: (self._find(subject),))[0]

    def by_api(self, subject: Reference) -> list[Descriptor] | None:
        """Ask the referrers API; none where there is none."""
        host = self._client.session(subject).host
        if host in self._without_api:
            return None
        entries: list[Descriptor] = []
        path = f"referrers/{subject.digest}"
        for _ in range(_MOST_PAGES):
            try:
                answer = self._client.get(subject, path, _ACCEPT)
                with self._client.withholding():
                    page = Index.from_bytes(answer.content, answer.headers.get("Content-Type"))
            except (InvalidIndex, NotAnIndex) as error:  # such as a page of HTML
                if entries:
                    raise evolve(error, reference=str(subject)) from error
                kind = content_type_name(answer.headers.get("Content-Type"))
                level = logging.WARNING if kind == OCI_INDEX else logging.DEBUG
                LOG.log(level, "%s: no list of referrers: %s", subject, error)
                self._without_api.add(host)
                return None
            except RegistryError as error:
                if error.status not in _NO_API or entries:
                    raise
                if error.status != 400:  # noqa: PLR2004 - see above
                    self._without_api.add(host)
                return None
            entries += page.manifests
            path = _next_page(answer)
            if not path:
                return entries
        LOG.warning(
            "%s: more than %d pages of referrers, the rest is ignored", subject, _MOST_PAGES
        )
        return entries

    def _find(self, subject: Reference) -> tuple[Referrer, ...]:
        entries, tag = self.by_api(subject) or [], schema_tag(subject.digest)
        has_tag = self._has_tag(subject, tag)
        # Clients keep the tag even for some registries that have the API, such as Quay.
        if has_tag or (has_tag is None and not entries):
            entries += self._by_schema(subject.tagged(tag))
        found: dict[str, Referrer] = {}
        for entry in entries:
            kind = entry.fields.get("artifactType") or entry.fields.get("mediaType")
            referrer = Referrer(
                subject.digest, entry.digest, brief(str(kind), 100), "", entry.fields
            )
            found.setdefault(entry.digest, referrer)  # the tag may say less than the API
        return (*found.values(), *self._by_cosign(subject, tag))

    def _by_schema(self, tag: Reference) -> tuple[Descriptor, ...]:
        try:
            held = unless_absent(tag, self._client.pull_index)[0]
        except (InvalidIndex, NotAnIndex) as error:
            LOG.warning("No list of referrers: %s", error)
            return ()
        return () if held is None else held.manifests

    def _by_cosign(self, subject: Reference, stem: str) -> Iterable[Referrer]:
        for suffix, kind in _COSIGN.items():
            tag = f"{stem}.{suffix}"
            if self._has_tag(subject, tag) is False:
                continue
            digest = self._client.digest(subject.tagged(tag))
            if digest is not None:
                yield Referrer(subject.digest, digest, kind, tag)

    def _has_tag(self, repository: Reference, tag: str) -> bool | None:
        """Look a tag up among all of the repository; none where one answer does not list them."""
        name = self._client.place(repository).name
        (tags,) = self._tags.get(name, lambda: (self._list_tags(repository),))
        return None if tags is None else tag in tags

    def _list_tags(self, repository: Reference) -> frozenset[str] | None:
        with suppress(RegistryError, InvalidIndex):
            answer = self._client.get(repository, f"tags/list?n={_TAGS}", {})
            tags = decode(answer.content).get("tags")
            if isinstance(tags, list) and not answer.headers.get("Link"):
                return frozenset(tag for tag in tags if isinstance(tag, str))
        return None


def _next_page(answer: Answer) -> str:
    """Read the path of the next page, which must be at the same place; empty if there is none."""
    found = _NEXT.search(answer.headers.get("Link", ""))
    if found is None:
        return ""
    with suppress(ValueError):
        url = urljoin(answer.url, found[1])
        if origin(url) == origin(answer.url):
            parts = urlsplit(url)
            return f"{parts.path}?{parts.query}"
    LOG.warning("The next page of referrers is on another host and is not read")
    return ""


class Referrers:
    """Copies referrers to where their images go; safe from several threads."""

    def __init__(
        self, source: RegistryClient, destination: RegistryClient, children: Children, mode: Mode
    ) -> None:
        self._source, self._destination, self._children = source, destination, children
        self._lists, self._there = ReferrerLists(source), ReferrerLists(destination)
        self.mode = mode
        self._warned: set[tuple[Reference, str, tuple[str, ...]]] = set()  # what was warned of

    def tend(  # noqa: PLR0913 - what is there, and what is to be done
        self,
        source: Reference,
        destination: Reference,
        subjects: Iterable[str],
        merged: str | None = None,
        *,
        dry_run: bool = False,
        writes: bool = True,
    ) -> None:
        """Copy the referrers of the subjects, or warn of those left behind.

        `merged` is a source index whose digest the result does not have.
        """
        subjects, copies = tuple(dict.fromkeys(subjects)), self.mode == "copy"
        warning_key = source, destination.name, subjects
        names = {self._source.place(source).name, self._destination.place(destination).name}
        if self.mode == "ignore" or len(names) == 1:
            return
        if copies and not dry_run:
            self._copy(source, destination, subjects)
        if not writes or warning_key in self._warned:
            return
        self._warned.add(warning_key)
        words = []
        try:
            left = 0 if copies else self._count_left(source, destination, subjects)
            unfit = 0 if merged is None else len(self._lists.of(source.at(merged)))
        except MergeError as error:
            LOG.warning("%s: cannot tell what refers to its images: %s", source, error)
            return
        if left:
            words.append(f"{left} signatures or others that refer to its images stay behind")
        if unfit:
            words.append(f"{unfit} that refer to the index itself do not fit the merged one")
        if words:
            LOG.warning("%s: %s; see --referrers", source, ", ".join(words))

    def _count_left(
        self, source: Reference, destination: Reference, subjects: Sequence[str]
    ) -> int:
        """Count the referrers that the destination lacks, or has with other content."""
        found = [
            each for each in self._lists.of_all(source, subjects) if each.digest not in subjects
        ]
        if len(found) > _MOST:
            LOG.warning("%s: more than %d referrers, the rest is not counted", source, _MOST)
            found = found[:_MOST]
        places = [destination.tagged(r.tag) if r.tag else destination.at(r.digest) for r in found]
        held = map_in_order((partial(self._destination.digest, each) for each in places), _THREADS)
        return sum(digest != each.digest for each, digest in zip(found, held))

    def _copy(self, source: Reference, destination: Reference, subjects: Sequence[str]) -> None:
        """Copy level by level, so that each is there before what refers to it."""
        visited, level, left = set(subjects), list(subjects), _MOST
        for _ in range(_LEVELS):
            found = self._lists.of_all(source, level)
            if len(found) > left:
                LOG.warning("%s: more than %d referrers, the rest is left behind", source, _MOST)
            pulls = (partial(self._pull, source, each) for each in found[:left])
            whole, tagged = [], []
            for each, manifest in zip(found, map_in_order(pulls, _THREADS)):
                if manifest is None:
                    continue
                whole.append(each)
                if each.tag:  # the others may be many, and are not held in memory
                    tagged.append((destination.tagged(each.tag), manifest))
            if not whole:
                return
            left -= len(whole)
            digests = list(dict.fromkeys(each.digest for each in whole))
            self._children.ensure(source, destination, digests)
            for tag, manifest in tagged:
                self._set_tag(tag, partial(self._combined, tag, manifest))
            for subject in dict.fromkeys(each.subject for each in whole if not each.tag):
                of = [each for each in whole if each.subject == subject and not each.tag]
                self._list_there(destination.at(subject), of)
            level = [digest for digest in digests if digest not in visited]
            visited.update(level)
            if not level:
                return
        LOG.warning("%s: only %d levels of referrers of referrers are copied", source, _LEVELS)

    def _pull(self, source: Reference, referrer: Referrer) -> Manifest | None:
        """Read a referrer; none, with a warning, where it is not what the list says."""
        try:
            manifest = self._source.pull(source.at(referrer.digest))
        except (NotFound, NotAnIndex, InvalidIndex, InvalidReference) as error:
            LOG.warning("A referrer of %s is left behind: %s", source.at(referrer.subject), error)
            return None
        if referrer.tag or subject_of(manifest) == referrer.subject:
            return manifest
        LOG.warning(
            "%s is left behind: it is listed for %s, and does not refer to it",
            source.at(referrer.digest),
            referrer.subject,
        )
        return None

    def _list_there(self, subject: Reference, referrers: Sequence[Referrer]) -> None:
        """Keep the tag schema where the destination does not list what refers to an image."""
        known = {entry.digest for entry in self._there.by_api(subject) or ()}
        missing = [each for each in referrers if each.digest not in known]
        if missing:
            tag = subject.tagged(schema_tag(subject.digest))
            self._set_tag(tag, partial(_listing, tag, missing))

    def _set_tag(
        self, tag: Reference, combine: Callable[[Manifest | None], Manifest | None]
    ) -> None:
        """Write what is combined with what a tag holds, until it holds all of it."""
        held = wanted = None
        for _ in range(_TRIES):
            try:
                held = self._destination.pull_if_present(tag)
            except (NotAnIndex, InvalidIndex) as error:
                LOG.warning("%s: it is left unchanged: %s", tag, error)
                return
            wanted = combine(held)
            if wanted is None or (held is not None and held.digest == wanted.digest):
                return
            self._destination.push(tag, wanted)
            event = {"type": "mlmerge-upload", "destination": str(tag), "digest": wanted.digest}
            LOG.info("Uploaded %s to %s", wanted.digest, tag, extra={"event": event})
        expected, found = (None if each is None else each.digest for each in (wanted, held))
        raise ConflictError(str(tag), expected, found, _TRIES)

    def _combined(self, tag: Reference, new: Manifest, held: Manifest | None) -> Manifest | None:
        """Unite cosign's layers of both sides; None, with a warning, if that is impossible."""
        if held is None or held.digest == new.digest:
            return new
        if isinstance(held, Image) and isinstance(new, Image) and tag.tag.endswith(_MERGED):
            first, second = decode(held.content), decode(new.content)
            if _frame(first) == _frame(second):
                return self._union(tag, (held, new), (first, second))
        LOG.warning("%s: it differs from the one in the source, and is left unchanged", tag)
        return None

    def _union(
        self, tag: Reference, images: tuple[Image, Image], fields: tuple[_Fields, _Fields]
    ) -> Image:
        found = [each.get("layers") for each in fields]
        layers = [each if isinstance(each, list) else [] for each in found]
        # Not by digest alone: signatures by two keys may be of the same content.
        added = [number for number, each in enumerate(layers[1]) if each not in layers[0]]
        if not added:
            return images[0]
        if all(each in layers[1] for each in layers[0]):
            return images[1]

        def extend(values: object, others: object) -> list[object] | None:
            """Extend a list that has an item for each layer."""
            if not isinstance(values, list) or not isinstance(others, list):
                return None
            if [len(values), len(others)] != [len(each) for each in layers]:
                return None
            return [*values, *(others[number] for number in added)]

        union = {**fields[0], "layers": extend(*layers)}
        configs = [self._destination.pull_config(tag, image) for image in images]
        roots = [each.get("rootfs") for each in configs]
        ids = extend(*(each.get("diff_ids") if isinstance(each, dict) else None for each in roots))
        if ids is not None and isinstance(roots[0], dict) and isinstance(union["config"], dict):
            config = {**configs[0], "rootfs": {**roots[0], "diff_ids": ids}}
            history = extend(*(each.get("history") for each in configs))
            if history is not None:
                config["history"] = history
            content = encode(config)
            digest = self._destination.push_blob(tag, content)
            union["config"] = {**union["config"], "digest": digest, "size": len(content)}
        return Image.from_bytes(encode(union), images[0].media_type)


_Fields = Mapping[str, object]


def _frame(fields: _Fields) -> _Fields:
    """Take what has to be the same for layers to be put together."""
    config = fields["config"]
    kind = config.get("mediaType") if isinstance(config, dict) else None
    return {**fields, "config": kind, "layers": None}


def _listing(tag: Reference, referrers: Sequence[Referrer], held: Manifest | None) -> Index | None:
    """Add referrers to the list that the tag of an image holds."""
    if held is None:
        held = Index.from_fields({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []})
    if not isinstance(held, Index):
        LOG.warning("%s: it holds no list of referrers, and is left unchanged", tag)
        return None
    known = {entry.digest for entry in held.manifests}
    missing = [each.fields for each in referrers if each.digest not in known]
    if not missing:
        return held
    listed = [*(entry.fields for entry in held.manifests), *missing]
    return Index.from_fields({**held.fields, "manifests": listed})
