"""A registry behind its HTTP server: contents, rules, access and endpoints (distribution-spec)."""

from __future__ import annotations

import base64
import binascii
import re
import secrets
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping
from fnmatch import fnmatchcase
from itertools import groupby
from typing import Literal, NamedTuple, Optional
from urllib.parse import quote

from attrs import field, frozen

from pubtools_mlmerge.core.manifests import (
    DOCKER_LIST,
    INDEX_TYPES,
    MANIFEST_TYPES,
    Image,
    Index,
    content_type_name,
    digest_of,
)
from pubtools_mlmerge.errors import InvalidIndex, NotAnIndex
from pubtools_mlmerge.testing.http import JSON, TEXT, Refused, Request, Response, json_response

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
NAME = rf"({_COMPONENT}(?:/{_COMPONENT})*)"
DIGEST = r"([a-z0-9]+(?:[+._-][a-z0-9]+)*:[0-9a-fA-F]{32,})"
_TAG = r"([A-Za-z0-9_][A-Za-z0-9._-]{0,127})"
_REFERENCE = rf"({DIGEST[1:-1]}|{_TAG[1:-1]})"
_SESSION = r"([A-Za-z0-9-]+)"
PULL, PUSH = ("pull",), ("pull", "push")

AuthMode = Literal["none", "token", "basic"]
# The actions that a request needs the right to; None if it needs no login.
Actions = Optional[tuple[str, ...]]
Endpoint = tuple[Actions, Callable[..., Response]]
# What serves each method of each path; the groups of a path's pattern are the arguments.
Routes = Mapping[str, Mapping[str, Endpoint]]


# What it holds, in memory


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
        return {tag: digest for tag in self.periods if (digest := self.digest_at(tag))}

    def digest_at(self, tag: str) -> str:
        """Return the digest that a tag names now, empty if none."""
        last = self.periods[tag][-1] if tag in self.periods else None
        return last.digest if last and last.end is None else ""

    def find(self, reference: str) -> StoredManifest | None:
        """Return the manifest that a tag or digest names."""
        return self.manifests.get(self.digest_at(reference) or reference)

    def is_immutable(self, tag: str) -> bool:
        """Tell whether a tag is set and cannot be moved or deleted."""
        return bool(self.digest_at(tag)) and _matches(tag, self._immutable)

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

    def remove(self, reference: str) -> None:
        """Forget a tag, or a manifest with every tag that names it."""
        named = {reference}
        if ":" in reference:
            del self.manifests[reference]
            named = {tag for tag, digest in self.tags.items() if digest == reference}
        for tag in named:
            if self.digest_at(tag):
                self.periods[tag][-1] = self.periods[tag][-1]._replace(end=int(self.clock()))

    def set_tag(self, tag: str, digest: str) -> None:
        """Let the tag name this digest from now on; a new period each time."""
        self.remove(tag)
        self.periods.setdefault(tag, []).append(TagPeriod(digest, int(self.clock()), None))

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


# How registries differ


class Right(NamedTuple):
    """The right to do one thing in one repository."""

    repository: str
    action: str


class Dialect:
    """How a registry behaves where registries differ: by default much like docker-registry.

    Tests that need another registry derive a class from this one.
    """

    token_path = "/token"  # noqa: S105 - a path, not a token
    delete_action = "delete"
    # Whether public repositories can be read without a token.
    reads_without_token = False
    # Whether a mount without the right to read its source is refused, or begins an upload.
    mount_needs_source = True

    def front(
        self, _storage: Storage, request: Request, serve: Callable[[Request], Response]
    ) -> Response:
        """Answer a request; a dialect may put something in front of the registry here."""
        return serve(request)

    def routes(self, _storage: Storage) -> Routes:
        """Return what this registry serves beyond the usual endpoints."""
        return {}

    def find(
        self, repository: Repository | None, name: str, reference: str, accepted: frozenset[str]
    ) -> StoredManifest:
        """Return the manifest that answers a GET of the reference."""
        found = repository.find(reference) if repository else None
        if found is None:
            by_digest = {"Name": name, "Revision": reference}
            detail = by_digest if ":" in reference else {"Tag": reference}
            raise Refused(404, "MANIFEST_UNKNOWN", "manifest unknown", detail)
        if found.media_type in MANIFEST_TYPES and found.media_type not in accepted:
            message = f"{found.media_type} found, but the Accept header does not name it"
            raise Refused(404, "MANIFEST_UNKNOWN", message)
        return found

    def check(self, repository: Repository, content: bytes, content_type: str) -> str:
        """Return the media type under which a manifest may be stored."""
        media_type = content_type_name(content_type) or ""
        if media_type not in MANIFEST_TYPES:
            raise _invalid(f"unsupported type {media_type!r}")
        try:
            found = (Index if media_type in INDEX_TYPES else Image).from_bytes(content, media_type)
        except (InvalidIndex, NotAnIndex) as error:
            raise _invalid(str(error)) from error
        if isinstance(found, Image):
            missing = [digest for digest in found.blobs if digest not in repository.blobs]
        elif media_type == DOCKER_LIST and not found.states_media_type:
            raise _invalid("mediaType is missing")
        else:
            listed = (entry.digest for entry in found.manifests)
            missing = [digest for digest in listed if digest not in repository.manifests]
        if missing:
            raise Refused(400, "MANIFEST_BLOB_UNKNOWN", "blob unknown to registry", *missing)
        return media_type

    def stored(self, repository: Repository, reference: str, digest: str) -> None:
        """Take note of a manifest that was just stored."""

    def refuse_tag_move(self, tag: str) -> Refused:
        """Refuse to move or delete an immutable tag, as Harbor does."""
        return Refused(412, "PRECONDITION", f"configured as immutable, cannot be updated: {tag}")

    def rights_in(self, scope: str) -> list[Right]:
        """Read a scope parameter of a request for a token."""
        rights: list[Right] = []
        for text in scope.split(" "):
            kind, _, rest = text.partition(":")
            name, _, actions = rest.rpartition(":")
            if kind == "repository" and name:
                rights += [Right(name, action) for action in actions.split(",")]
        return rights

    def token_reply(self, token: str, seconds: int) -> Mapping[str, object]:
        """Return the document that brings a token."""
        return {"token": token, "access_token": token, "expires_in": seconds}

    def granted(self, storage: Storage, rights: Iterable[Right]) -> None:
        """Take note of the rights that a token was issued for."""


# Who may do what


class Token(NamedTuple):
    """The rights that a token gives, and until when."""

    rights: frozenset[Right]
    expires: float


@frozen
class Guard:
    """Knows users and tokens, and refuses requests without the rights that they need."""

    users: Mapping[str, str] = field(repr=False)
    public: Collection[str]
    grants: Mapping[str, Collection[str]] | None
    mode: AuthMode
    dialect: Dialect
    token_seconds: int
    clock: Callable[[], float]
    _tokens: dict[str, Token] = field(factory=dict, repr=False)

    def has(self, request: Request, right: Right) -> bool:
        """Tell whether a request comes with a right."""
        if self.mode == "none":
            return True
        if self.mode == "basic":
            return self._allow(self._login(request), right)
        token = self._token(request)
        if token is None:
            return self.dialect.reads_without_token and self._allow("", right)
        return right in token.rights or Right(right.repository, "*") in token.rights

    def require(self, request: Request, needed: Collection[Right]) -> None:
        """Refuse a request that lacks one of these rights, or a login if it needs no right."""
        lacks = not all(self.has(request, right) for right in needed)
        if self.mode == "basic":
            user = self._login(request)
            if user and lacks:
                raise Refused(403, "DENIED", "requested access is denied")
            if not user and (lacks or not needed):
                raise _unauthorized("authentication required")
        elif self.mode == "token" and (lacks or not (needed or self._token(request))):
            raise self._challenge(request, needed)

    def issue(self, storage: Storage, request: Request) -> Response:
        """Answer a request for a token."""
        user = self._login(request)
        scopes = request.parameters("scope")
        asked = [right for scope in scopes for right in self.dialect.rights_in(scope)]
        granted = frozenset(right for right in asked if self._allow(user, right))
        token = secrets.token_urlsafe(24)
        self._tokens[token] = Token(granted, self.clock() + self.token_seconds)
        self.dialect.granted(storage, granted)
        return json_response(self.dialect.token_reply(token, self.token_seconds))

    def _allow(self, user: str, right: Right) -> bool:
        """Tell whether a user has a right; an empty name is an anonymous user."""
        if right.action == "pull" and _matches(right.repository, self.public):
            return True
        if not user:
            return False
        return self.grants is None or _matches(right.repository, self.grants.get(user, ()))

    def _login(self, request: Request) -> str:
        """Return the user of a request, empty if it names none; refuse a wrong password."""
        encoded = request.credentials("basic")
        if not encoded:
            return ""
        try:
            user, _, password = base64.b64decode(encoded).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise _unauthorized("malformed credentials") from None
        if self.users.get(user) != password:
            raise _unauthorized("invalid username or password")
        return user

    def _token(self, request: Request) -> Token | None:
        token = self._tokens.get(request.credentials("bearer"))
        return token if token and token.expires > self.clock() else None

    def _challenge(self, request: Request, needed: Iterable[Right]) -> Refused:
        host = request.base_url.partition("://")[2]
        challenge = f'Bearer realm="{request.base_url}{self.dialect.token_path}",service="{host}"'
        scopes = [
            f"repository:{name}:{','.join(right.action for right in rights)}"
            for name, rights in groupby(needed, key=lambda right: right.repository)
        ]
        if scopes:
            challenge += f',scope="{" ".join(scopes)}"'
        if self._token(request):
            challenge += ',error="insufficient_scope"'
        elif request.credentials("bearer"):
            challenge += ',error="invalid_token"'
        return _unauthorized("authentication required", challenge)


# The endpoints


class Registry:
    """Answers requests: finds the endpoint, checks the access, and serves."""

    def __init__(self, storage: Storage, dialect: Dialect, guard: Guard) -> None:
        self._storage = storage
        self._dialect = dialect
        self._guard = guard
        self._uploads: dict[tuple[str, str], bytes] = {}
        delete = (dialect.delete_action,)
        self._routes: Routes = {
            "/v2/": {"GET": ((), lambda _: Response(200, JSON, b"{}"))},
            re.escape(dialect.token_path): {
                "GET": (None, lambda request: guard.issue(storage, request))
            },
            f"/v2/{NAME}/manifests/{_REFERENCE}": {
                "GET": (PULL, self._read_manifest),
                "HEAD": (PULL, self._read_manifest),
                "PUT": (PUSH, self._write_manifest),
                "DELETE": (delete, self._delete_manifest),
            },
            f"/v2/{NAME}/tags/list": {"GET": (PULL, self._list_tags)},
            f"/v2/{NAME}/blobs/{DIGEST}": {
                "GET": (PULL, self._read_blob),
                "HEAD": (PULL, self._read_blob),
            },
            f"/v2/{NAME}/blobs/uploads/": {"POST": (PUSH, self._start_upload)},
            f"/v2/{NAME}/blobs/uploads/{_SESSION}": {
                "PATCH": (PUSH, self._append),
                "PUT": (PUSH, self._finish_upload),
                "DELETE": (PUSH, self._cancel_upload),
            },
            **dialect.routes(storage),
        }

    def answer(self, request: Request) -> Response:
        """Answer a request."""
        try:
            return self._dialect.front(self._storage, request, self._serve)
        except Refused as refused:
            return refused.response

    def _serve(self, request: Request) -> Response:
        for pattern, endpoints in self._routes.items():
            if (match := re.fullmatch(pattern, request.path)) is None:
                continue
            if request.method not in endpoints:
                headers = {**TEXT, "Allow": ", ".join(sorted(endpoints))}
                return Response(405, headers, b"Method not allowed\n")
            actions, serve = endpoints[request.method]
            if actions is not None:
                rights = [Right(match[1], action) for action in actions]
                source = request.parameter("from")
                if source and actions == PUSH and self._dialect.mount_needs_source:
                    rights.append(Right(source, "pull"))
                self._guard.require(request, rights)
            return serve(request, *match.groups())
        return Response(404, TEXT, b"404 page not found\n")

    def _read_manifest(self, request: Request, name: str, reference: str) -> Response:
        repository = self._storage.repositories.get(name)
        manifest = self._dialect.find(repository, name, reference, request.accepted)
        headers = {"Content-Type": manifest.media_type, "Docker-Content-Digest": manifest.digest}
        return Response(200, headers, manifest.content)

    def _write_manifest(self, request: Request, name: str, reference: str) -> Response:
        content, stated = request.body, request.headers.get("content-type", "")
        repository = self._storage.create(name)
        media_type = self._dialect.check(repository, content, stated)
        if ":" in reference and reference != digest_of(content):
            raise _other_digest()
        self._refuse_if_immutable(repository, reference)
        digest = repository.add_manifest(reference, content, media_type)
        self._dialect.stored(repository, reference, digest)
        return _created(request, name, "manifests", digest)

    def _delete_manifest(self, _request: Request, name: str, reference: str) -> Response:
        """Answer a DELETE by digest or by tag."""
        repository = self._storage.repositories.get(name)
        if repository is None or repository.find(reference) is None:
            raise Refused(404, "MANIFEST_UNKNOWN", "manifest unknown")
        self._refuse_if_immutable(repository, reference)
        repository.remove(reference)
        return Response(202)

    def _refuse_if_immutable(self, repository: Repository, reference: str) -> None:
        if repository.is_immutable(reference):
            raise self._dialect.refuse_tag_move(reference)

    def _list_tags(self, _request: Request, name: str) -> Response:
        repository = self._storage.repositories.get(name)
        if repository is None:
            message = "repository name not known to registry"
            raise Refused(404, "NAME_UNKNOWN", message, {"name": name})
        return json_response({"name": name, "tags": sorted(repository.tags)})

    def _read_blob(self, _request: Request, name: str, digest: str) -> Response:
        content = self._find_blob(name, digest)
        if content is None:
            raise Refused(404, "BLOB_UNKNOWN", "blob unknown to registry", digest)
        headers = {"Content-Type": "application/octet-stream", "Docker-Content-Digest": digest}
        return Response(200, headers, content)

    def _find_blob(self, name: str, digest: str) -> bytes | None:
        repository = self._storage.repositories.get(name)
        return repository.blobs.get(digest) if repository else None

    def _start_upload(self, request: Request, name: str) -> Response:
        """Answer a POST: mount a blob, or begin an upload."""
        repository = self._storage.create(name)
        source = request.parameter("from")
        mounted = self._find_blob(source, request.parameter("mount"))
        if mounted is not None and self._guard.has(request, Right(source, "pull")):
            return _created(request, name, "blobs", repository.add_blob(mounted))
        return self._progress(request, name, str(uuid.uuid4()), b"")

    def _append(self, request: Request, name: str, session: str) -> Response:
        return self._progress(request, name, session, self._received(name, session) + request.body)

    def _finish_upload(self, request: Request, name: str, session: str) -> Response:
        """Answer the PUT that names the digest; right or wrong, it ends the upload."""
        content = self._received(name, session) + request.body
        del self._uploads[name, session]
        if request.parameter("digest") != digest_of(content):
            raise _other_digest()
        return _created(request, name, "blobs", self._storage.create(name).add_blob(content))

    def _cancel_upload(self, _request: Request, name: str, session: str) -> Response:
        self._received(name, session)
        del self._uploads[name, session]
        return Response(204)

    def _received(self, name: str, session: str) -> bytes:
        if (name, session) not in self._uploads:
            raise Refused(404, "BLOB_UPLOAD_INVALID", "blob upload invalid")
        return self._uploads[name, session]

    def _progress(self, request: Request, name: str, session: str, received: bytes) -> Response:
        self._uploads[name, session] = received
        end = max(len(received) - 1, 0)
        location = f"{request.base_url}/v2/{quote(name)}/blobs/uploads/{session}?_state=opaque"
        headers = {"Location": location, "Range": f"0-{end}", "Docker-Upload-UUID": session}
        return Response(202, headers)


def _created(request: Request, name: str, kind: str, digest: str) -> Response:
    location = f"{request.base_url}/v2/{quote(name)}/{kind}/{digest}"
    return Response(201, {"Location": location, "Docker-Content-Digest": digest})


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _invalid(detail: str) -> Refused:
    return Refused(400, "MANIFEST_INVALID", "manifest invalid", detail)


def _other_digest() -> Refused:
    return Refused(400, "DIGEST_INVALID", "provided digest did not match uploaded content")


def _unauthorized(message: str, challenge: str = 'Basic realm="registry"') -> Refused:
    return Refused(401, "UNAUTHORIZED", message, headers={"WWW-Authenticate": challenge})
