"""Red Hat Quay 3.18 in memory: a dialect of the registry for tests, with Quay's API for tags.

What it answers is what a running Quay answered, wherever this project relies on it.
"""

from __future__ import annotations

import json
import math
import re
import time
from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import TypedDict

from attrs import evolve

from pubtools_mlmerge.core.manifests import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    INDEX_TYPES,
    MANIFEST_TYPES,
    OCI_INDEX,
    Descriptor,
    Image,
    Index,
    Manifest,
)
from pubtools_mlmerge.errors import InvalidIndex, NotAnIndex
from pubtools_mlmerge.testing import StoredManifest, TagPeriod
from pubtools_mlmerge.testing.http import Refused, Request, Response, json_response
from pubtools_mlmerge.testing.registry import (
    DIGEST,
    NAME,
    PULL,
    Dialect,
    Endpoint,
    Repository,
    Right,
    Routes,
    Storage,
)

PUSHED_BY_DIGEST_SECONDS = 3600
LISTED_SECONDS = 300
ACTIONS = frozenset({"pull", "push", "*"})
UNSTATED_TYPES = ("", "application/json")
HTML = {"Content-Type": "text/html; charset=utf-8"}
_WRITTEN = re.compile("PUT /v2/(.+)/manifests/[^/]+")


class ListingDialect(Dialect):
    """Serves the list of what refers to a manifest, some at a time."""

    referrers_page = 100

    def routes(self, storage: Storage) -> Routes:
        def referrers(request: Request, name: str, subject: str) -> Response:
            repository = storage.repositories.get(name)
            held = sorted(repository.manifests.items()) if repository else []
            last, size = request.parameter("last"), self.referrers_page
            left = [found for digest, found in held if digest > last and _subject(found) == subject]
            document = {
                "schemaVersion": 2,
                "mediaType": OCI_INDEX,
                "manifests": [_referring(manifest) for manifest in left[:size]],
            }
            headers = {"Content-Type": OCI_INDEX}
            if len(left) > size:
                following = f"/v2/{name}/referrers/{subject}?last={left[size - 1].digest}"
                headers["Link"] = f'<{following}>; rel="next"'
            return Response(200, headers, json.dumps(document).encode())

        return {f"/v2/{NAME}/referrers/{DIGEST}": {"GET": (PULL, referrers)}}


def _subject(manifest: StoredManifest) -> object:
    subject = json.loads(manifest.content).get("subject")
    return subject.get("digest") if isinstance(subject, dict) else None


def _referring(manifest: StoredManifest) -> dict[str, object]:
    """Describe a referrer as the specification of its list says."""
    fields = json.loads(manifest.content)
    entry: dict[str, object] = {
        "mediaType": manifest.media_type,
        "digest": manifest.digest,
        "size": len(manifest.content),
        "artifactType": fields.get("artifactType") or fields.get("config", {}).get("mediaType"),
    }
    return {**entry, "annotations": fields["annotations"]} if "annotations" in fields else entry


class QuayDialect(ListingDialect):
    """Strict about Docker lists and children.

    Args:
        api_token (str | None):
            Opens the API for the history of tags; without a token nobody gets in.
        caches (str):
            Pattern of repositories that cache another registry: they take writes, and ignore them.
        read_only (str):
            Pattern of repositories to which nobody gets the right to push.
    """

    token_path = "/v2/auth"
    delete_action = "push"
    reads_without_token = True
    mount_needs_source = False

    def __init__(
        self,
        api_token: str | None = None,
        *,
        caches: str = "",
        read_only: str = "",
    ) -> None:
        self.expirations: dict[tuple[Repository, str], int] = {}
        self._api = TagHistory(self, api_token)
        self._caches, self._read_only = caches, read_only
        self._failures: Counter[str] = Counter()
        self._locked_until: dict[str, float] = {}
        # Until when a manifest can be read by its digest, whatever tags name.
        self._pins: dict[tuple[Repository, str], float] = {}

    def front(
        self, storage: Storage, request: Request, serve: Callable[[Request], Response]
    ) -> Response:
        """Lock out who fails to log in, and write as Quay does."""
        try:
            if request.path == self.token_path:
                return self._log_in(request, serve)
            written = _WRITTEN.fullmatch(f"{request.method} {request.path}")
            if written and fnmatchcase(written[1], self._caches):
                return self._ignore(storage.create(written[1]), request, serve)
            return serve(request)
        except Refused as refused:
            headers = dict(refused.response.headers)
            if "WWW-Authenticate" in headers:  # it never says what is wrong with a token
                headers["WWW-Authenticate"] = headers["WWW-Authenticate"].partition(",error=")[0]
            return evolve(refused.response, headers=headers)

    def _log_in(self, request: Request, serve: Callable[[Request], Response]) -> Response:
        """Give out a token; each failure locks the account for longer, and robots never."""
        encoded = request.credentials("basic")
        user = b64decode(encoded).decode().partition(":")[0]
        now = time.monotonic()
        if now < self._locked_until.get(user, 0.0):
            headers = {**HTML, "Retry-After": str(int(self._locked_until[user] - now))}
            return Response(429, headers, b"<html>Too many login attempts</html>")
        if not encoded and not request.parameters("scope"):
            raise Refused(401, "UNAUTHORIZED", "access is not authorized")
        try:
            return serve(request)
        except Refused:
            if "+" not in user:
                self._failures[user] += 1
                self._locked_until[user] = now + 2 ** self._failures[user]
            raise

    @staticmethod
    def _ignore(
        repository: Repository, request: Request, serve: Callable[[Request], Response]
    ) -> Response:
        """Say that a write was done, and leave the tags as they were."""
        before = {tag: list(periods) for tag, periods in repository.periods.items()}
        response = serve(request)
        repository.periods.clear()
        repository.periods.update(before)
        return response

    def find(
        self, repository: Repository | None, name: str, reference: str, accepted: frozenset[str]
    ) -> StoredManifest:
        if repository is None:
            raise Refused(404, "NAME_UNKNOWN", "repository name not known")
        if self.expirations.get((repository, reference), math.inf) <= repository.clock():
            repository.remove(reference)
        found = repository.find(reference)
        if found is None or (":" in reference and not self._is_reachable(repository, reference)):
            raise _not_found(repository, reference)
        if ":" not in reference and found.media_type not in accepted:
            # It may also serve the amd64 child or schema 1 instead; our clients accept any type.
            raise _not_found(repository, found.digest)
        return found

    def check(self, repository: Repository, content: bytes, content_type: str) -> str:
        if content_type not in (*MANIFEST_TYPES, *UNSTATED_TYPES):
            raise _invalid(f"unsupported type {content_type}", status=415)
        try:
            manifest = _parse(content, content_type)
        except (InvalidIndex, NotAnIndex) as error:
            # The real answer quotes the document that it refuses, at any length.
            quoted = content.decode(errors="replace")
            raise _invalid(f"{error}\n\nOn instance:\n{quoted}") from error
        if isinstance(manifest, Image):
            for digest in manifest.blobs:
                if digest not in repository.blobs:
                    raise _invalid("Unknown manifest blob: " + digest)
        else:
            for child in manifest.manifests:
                _check_child(repository, child)
        return content_type

    def stored(self, repository: Repository, reference: str, digest: str) -> None:
        """Keep a manifest pushed by digest, and what a list names, readable for a while."""
        self.expirations.pop((repository, reference), None)  # as of any tag that is written
        if ":" in reference:
            self._pin(repository, digest, PUSHED_BY_DIGEST_SECONDS)
        for child in _children(repository.manifests[digest]):
            self._pin(repository, child, LISTED_SECONDS)

    def refuse_tag_move(self, tag: str) -> Refused:
        return Refused(409, "TAG_IMMUTABLE", f"tag {tag} is immutable")

    def rights_in(self, scope: str) -> list[Right]:
        """Refuse a scope with anything unusual in it."""
        rights = super().rights_in(scope)
        if " " in scope or not {right.action for right in rights} <= ACTIONS:
            raise Refused(400, "INVALID_REQUEST", f"cannot decode the scope {scope}")
        return [
            right
            for right in rights
            if right.action == "pull" or not fnmatchcase(right.repository, self._read_only)
        ]

    def token_reply(self, token: str, seconds: int) -> Mapping[str, object]:
        return {"token": token}

    def granted(self, storage: Storage, rights: Iterable[Right]) -> None:
        """Make the repositories that someone may push to."""
        for right in rights:
            if right.action == "push":
                storage.create(right.repository)

    def routes(self, storage: Storage) -> Routes:
        return {**super().routes(storage), **self._api.routes(storage)}

    def _pin(self, repository: Repository, digest: str, seconds: float) -> None:
        until = repository.clock() + seconds
        self._pins[repository, digest] = max(until, self._pins.get((repository, digest), until))

    def _is_reachable(self, repository: Repository, digest: str) -> bool:
        """Tell whether a tag or a pin holds the manifest or an index that lists it."""
        now = repository.clock()
        pinned = {
            pinned
            for (where, pinned), until in self._pins.items()
            if where is repository and until > now
        }
        held = pinned.union(repository.tags.values())
        indexes = (repository.manifests[one] for one in held if one in repository.manifests)
        return digest in held or any(digest in _children(index) for index in indexes)


def _parse(content: bytes, content_type: str) -> Manifest:
    if content_type in UNSTATED_TYPES:
        raise NotAnIndex("document", "not a signed manifest of schema 1")
    if content_type not in INDEX_TYPES:
        return Image.from_bytes(content, content_type)
    index = Index.from_bytes(content, content_type)
    if content_type == DOCKER_LIST:
        if not index.states_media_type:
            raise InvalidIndex("mediaType", "is a required property")
        for child in index.manifests:
            if child.media_type != DOCKER_MANIFEST:
                raise InvalidIndex("manifests", f"{child.media_type!r} cannot be in a list")
            platform = child.fields.get("platform")
            if not isinstance(platform, dict) or not {"os", "architecture"} <= platform.keys():
                raise InvalidIndex("manifests", "'platform' needs os and architecture")
    return index


def _check_child(repository: Repository, child: Descriptor) -> None:
    """Refuse an entry that does not fit what the repository holds."""
    stored = repository.manifests.get(child.digest)
    if stored is None:
        raise _invalid(f"Could not find child manifest with digest `{child.digest}`")
    size = len(stored.content)
    if size != child.size:
        raise _invalid(f"Size of manifest does not match that retrieved: {size} vs {child.size}")
    if stored.media_type != child.media_type:
        raise _invalid(f"{child.digest} is {stored.media_type}, not {child.media_type}")


@lru_cache(maxsize=1000)
def _children(stored: StoredManifest) -> tuple[str, ...]:
    """List what an index lists; tests store what cannot be read, too."""
    try:
        return tuple(child.digest for child in Index.from_bytes(stored.content).manifests)
    except (InvalidIndex, NotAnIndex):
        return ()


def _not_found(repository: Repository, reference: str) -> Refused:
    if repository.history(reference):
        message = f"tag {reference} was deleted or has expired"
        return Refused(404, "TAG_EXPIRED", message)
    return Refused(404, "MANIFEST_UNKNOWN", "manifest unknown")


def _invalid(message: str, *, status: int = 400) -> Refused:
    detail = {"message": message}
    return Refused(status, "MANIFEST_INVALID", "manifest invalid", detail)


class TagHistory:
    """The part of Quay's API that serves the history of tags, to holders of the API token."""

    def __init__(self, dialect: QuayDialect, api_token: str | None) -> None:
        self._dialect = dialect
        self._api_token = api_token

    def routes(self, storage: Storage) -> Routes:
        """Serve each path of the API."""

        def guarded(serve: Callable[[Repository, str, Request], Response]) -> Endpoint:
            def answer(request: Request, name: str, tag: str = "") -> Response:
                given, expected = request.credentials("bearer"), self._api_token
                if not expected or given != expected:
                    if given and request.method != "GET":
                        return Response(
                            403, HTML, b"<html>CSRF token was invalid or missing.</html>"
                        )
                    return _problem(401, "Requires authentication")
                repository = storage.repositories.get(name)
                return serve(repository, tag, request) if repository else NOT_FOUND

            return None, answer

        path = "/api/v1/repository/(.+?)/tag/"
        return {
            path: {"GET": guarded(self._read)},
            f"{path}([^/]+)": {"PUT": guarded(self._expire), "DELETE": guarded(self._delete)},
            f"{path}([^/]+)/restore": {"POST": guarded(self._restore)},
        }

    def _read(self, repository: Repository, _tag: str, request: Request) -> Response:
        """Answer with the newest periods of one tag or of all, newest first."""
        wanted = request.parameter("specificTag")
        rows = [
            self._row(repository, tag, period)
            for tag, periods in repository.periods.items()
            for period in periods
            if wanted in ("", tag)
        ]
        # Of two rows of the same second, the later one comes first.
        rows.reverse()
        rows.sort(key=lambda row: row["start_ts"], reverse=True)
        limit = min(max(int(request.parameter("limit") or 50), 1), 100)
        page = {"tags": rows[:limit], "page": 1, "has_additional": limit < len(rows)}
        return json_response(page)

    def _row(self, repository: Repository, tag: str, period: TagPeriod) -> _Row:
        row: _Row = {"name": tag, "manifest_digest": period.digest, "start_ts": period.start}
        end = period.end
        if end is None:  # perhaps it is in the future
            end = self._dialect.expirations.get((repository, tag))
        if end is not None:
            row["end_ts"] = end
        if period.end is None and repository.is_immutable(tag):
            row["immutable"] = True
        return row

    def _restore(self, repository: Repository, tag: str, request: Request) -> Response:
        """Let a tag, old or new, name a manifest that is still stored."""
        digest = json.loads(request.body)["manifest_digest"]
        if digest not in repository.manifests:
            return NOT_FOUND
        if repository.is_immutable(tag):
            return _immutable(tag)
        repository.set_tag(tag, digest)
        return json_response({})

    def _delete(self, repository: Repository, tag: str, _request: Request) -> Response:
        """Delete a tag; its history stays."""
        if tag not in repository.tags:
            return NOT_FOUND
        if repository.is_immutable(tag):
            return _immutable(tag)
        repository.remove(tag)
        return Response(204)

    def _expire(self, repository: Repository, tag: str, request: Request) -> Response:
        """Let a tag expire at a time."""
        if tag not in repository.tags:
            return NOT_FOUND
        self._dialect.expirations[repository, tag] = json.loads(request.body)["expiration"]
        return json_response("Updated", 201)


class _Row(TypedDict, total=False):
    name: str
    manifest_digest: str
    start_ts: int
    end_ts: int
    immutable: bool


def _immutable(tag: str) -> Response:
    return _problem(409, f"Cannot modify immutable tag '{tag}'", "tag_immutable")


def _problem(status: int, message: str, kind: str = "error") -> Response:
    body = {"status": status, "error_message": message, "title": kind, "detail": message}
    return json_response({**body, "error_type": kind}, status)


NOT_FOUND = _problem(404, "Not Found")


class Nginx:
    """What `limit_req` lets pass in front of it: a rate, and ten requests more at a time."""

    def __init__(self, rate: float, burst: int = 10) -> None:
        self._rate, self._burst = rate, burst
        self._excess, self._last = 0.0, time.monotonic()

    def lets_pass(self) -> bool:
        now = time.monotonic()
        excess = max(0.0, self._excess - self._rate * (now - self._last)) + 1.0
        if excess > self._burst + 1.0:
            return False
        self._excess, self._last = excess, now
        return True
