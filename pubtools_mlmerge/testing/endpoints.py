"""The endpoints of a registry (distribution-spec), the routes to them, and who may use them."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import json
import re
import secrets
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Literal, NamedTuple, Optional
from urllib.parse import quote

from attrs import field, frozen

from pubtools_mlmerge.core.manifests import OCI_INDEX, digest_of
from pubtools_mlmerge.testing.dialects import Dialect, Right
from pubtools_mlmerge.testing.http import (
    TEXT,
    Refused,
    RegistryError,
    Request,
    Response,
    json_response,
)
from pubtools_mlmerge.testing.storage import Repository, Storage, StoredManifest

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = rf"({_COMPONENT}(?:/{_COMPONENT})*)"
_DIGEST = r"([a-z0-9]+(?:[+._-][a-z0-9]+)*:[0-9a-fA-F]{32,})"
_TAG = r"([A-Za-z0-9_][A-Za-z0-9._-]{0,127})"
_REFERENCE = rf"({_DIGEST[1:-1]}|{_TAG[1:-1]})"
_SESSION = r"([A-Za-z0-9-]+)"

AuthMode = Literal["none", "token", "basic"]
# The actions that whoever sends a request must have a right to; None where no login is wanted.
Actions = Optional[tuple[str, ...]]
Endpoint = tuple[Actions, Callable[..., Response]]


class Token(NamedTuple):
    """The rights that a token gives, and until when."""

    rights: frozenset[Right]
    expires: float


@frozen
class Guard:
    """Knows users and tokens, and lets requests pass or answers which rights are missing."""

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

    def require(self, request: Request, rights: Iterable[Right]) -> None:
        """Refuse a request that lacks one of these rights, or any login where there are none."""
        needed = tuple(rights)
        if self.mode == "basic":
            user = self._login(request)
            if not (user or needed) or not all(self._allow(user, right) for right in needed):
                denied = Refused(403, RegistryError("DENIED", "requested access is denied"))
                raise denied if user else _unauthorized("authentication required")
        elif self.mode == "token":
            is_known = bool(needed) or self._token(request) is not None
            if not is_known or not all(self.has(request, right) for right in needed):
                raise self._challenge(request, needed)

    def issue(self, request: Request) -> tuple[Response, frozenset[Right]]:
        """Answer a request for a token, and return the rights that it has."""
        user = self._login(request)
        asked = [
            right
            for scope in request.parameters("scope")
            for right in self.dialect.rights_in(scope)
        ]
        granted = frozenset(right for right in asked if self._allow(user, right))
        token = secrets.token_urlsafe(24)
        now = self.clock()
        self._tokens[token] = Token(granted, now + self.token_seconds)
        issued = dt.datetime.fromtimestamp(now, dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        reply = self.dialect.token_reply(token, self.token_seconds, issued)
        return json_response(reply), granted

    def _allow(self, user: str, right: Right) -> bool:
        """Tell whether a user, or nobody in particular, has a right."""
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
        expected = self.users.get(user)
        if expected is None or not secrets.compare_digest(expected.encode(), password.encode()):
            raise _unauthorized("invalid username or password")
        return user

    def _token(self, request: Request) -> Token | None:
        token = self._tokens.get(request.credentials("bearer"))
        return token if token and token.expires > self.clock() else None

    def _challenge(self, request: Request, needed: tuple[Right, ...]) -> Refused:
        host = request.base_url.partition("://")[2]
        challenge = f'Bearer realm="{request.base_url}{self.dialect.token_path}",service="{host}"'
        names = dict.fromkeys(right.repository for right in needed)
        if names:
            wanted = {n: ",".join(r.action for r in needed if r.repository == n) for n in names}
            scopes = (f"repository:{name}:{actions}" for name, actions in wanted.items())
            challenge += f',scope="{" ".join(scopes)}"'
        if self._token(request):
            challenge += ',error="insufficient_scope"'
        elif request.credentials("bearer"):
            challenge += ',error="invalid_token"'
        return _unauthorized("authentication required", challenge)


class Router:
    """Finds the endpoint for a request and checks the access."""

    def __init__(self, storage: Storage, dialect: Dialect, guard: Guard) -> None:
        self._storage = storage
        self._dialect = dialect
        self._guard = guard
        self._routes = self._endpoints()

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
            self._admit(request, actions, match.groups())
            return serve(request, *match.groups())
        return self._dialect.serve(self._storage, request)

    def _endpoints(self) -> dict[str, dict[str, Endpoint]]:
        """Return what serves each path; the groups of its pattern are the arguments."""
        manifests = _Manifests(self._storage, self._dialect)
        blobs = _Blobs(self._storage, self._guard)
        pull, push, delete = ("pull",), self._dialect.push_actions, (self._dialect.delete_action,)
        read_manifest: Endpoint = (pull, manifests.read)
        read_blob: Endpoint = (pull, blobs.read)
        return {
            "/v2/": {"GET": ((), lambda _: json_response({}))},
            re.escape(self._dialect.token_path): {"GET": (None, self._issue_token)},
            f"/v2/{_NAME}/manifests/{_REFERENCE}": {
                "GET": read_manifest,
                "HEAD": read_manifest,
                "PUT": (push, manifests.write),
                "DELETE": (delete, manifests.delete),
            },
            f"/v2/{_NAME}/tags/list": {"GET": (pull, manifests.tags)},
            **(
                {f"/v2/{_NAME}/referrers/{_DIGEST}": {"GET": (pull, manifests.referrers)}}
                if self._dialect.lists_referrers
                else {}
            ),
            f"/v2/{_NAME}/blobs/{_DIGEST}": {"GET": read_blob, "HEAD": read_blob},
            f"/v2/{_NAME}/blobs/uploads/": {"POST": (push, blobs.start)},
            f"/v2/{_NAME}/blobs/uploads/{_SESSION}": {
                "PATCH": (push, blobs.append),
                "PUT": (push, blobs.finish),
                "DELETE": (push, blobs.cancel),
            },
        }

    def _admit(self, request: Request, actions: Actions, groups: tuple[str, ...]) -> None:
        if actions is None:
            return
        rights = [Right(groups[0], action) for action in actions]
        source = request.parameter("from")
        if source and actions == self._dialect.push_actions and self._dialect.mount_needs_source:
            rights.append(Right(source, "pull"))
        self._guard.require(request, rights)

    def _issue_token(self, request: Request) -> Response:
        response, granted = self._guard.issue(request)
        self._dialect.granted(self._storage, granted)
        return response


@frozen
class _Manifests:
    """Serves manifests, takes them, and lists their tags."""

    _storage: Storage
    _dialect: Dialect

    def read(self, request: Request, name: str, reference: str) -> Response:
        repository = self._storage.repositories.get(name)
        manifest = self._dialect.find(repository, name, reference, request.accepted)
        headers = {"Content-Type": manifest.media_type, "Docker-Content-Digest": manifest.digest}
        return Response(200, headers, manifest.content)

    def write(self, request: Request, name: str, reference: str) -> Response:
        content = request.body
        repository = self._storage.create(name)
        media_type = self._dialect.check(
            repository, content, request.headers.get("content-type", "")
        )
        if ":" in reference and reference != digest_of(content):
            raise _other_digest()
        self._refuse_if_immutable(repository, reference)
        digest = repository.add_manifest(reference, content, media_type)
        self._dialect.stored(repository, reference, digest)
        return _created(request, name, "manifests", digest)

    def delete(self, _request: Request, name: str, reference: str) -> Response:
        """Answer a DELETE by digest or by tag."""
        repository = self._storage.repositories.get(name)
        if repository is None or repository.find(reference) is None:
            raise Refused(404, RegistryError("MANIFEST_UNKNOWN", "manifest unknown"))
        if ":" in reference:
            repository.remove_manifest(reference)
        else:
            self._refuse_if_immutable(repository, reference)
            repository.remove_tag(reference)
        return Response(202)

    def tags(self, _request: Request, name: str) -> Response:
        repository = self._storage.repositories.get(name)
        if repository is None:
            message = "repository name not known to registry"
            raise Refused(404, RegistryError("NAME_UNKNOWN", message, {"name": name}))
        return json_response({"name": name, "tags": sorted(repository.tags)})

    def referrers(self, request: Request, name: str, subject: str) -> Response:
        """List the manifests that name a subject, some at a time, each as an entry of an index."""
        repository = self._storage.repositories.get(name)
        held = sorted(repository.manifests.items()) if repository else []
        last, size = request.parameter("last"), self._dialect.referrers_page
        left = [
            manifest for digest, manifest in held if digest > last and _subject(manifest) == subject
        ]
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

    def _refuse_if_immutable(self, repository: Repository, reference: str) -> None:
        if repository.is_immutable(reference):
            raise self._dialect.refuse_tag_move(reference)


@frozen
class _Blobs:
    """Serves blobs, and takes them in one piece or in many."""

    _storage: Storage
    _guard: Guard
    _sessions: dict[tuple[str, str], bytes] = field(factory=dict)

    def read(self, _request: Request, name: str, digest: str) -> Response:
        content = self._find(name, digest)
        if content is None:
            raise Refused(404, RegistryError("BLOB_UNKNOWN", "blob unknown to registry", digest))
        headers = {"Content-Type": "application/octet-stream", "Docker-Content-Digest": digest}
        return Response(200, headers, content)

    def start(self, request: Request, name: str) -> Response:
        """Answer a POST: mount a blob, or begin an upload."""
        repository = self._storage.create(name)
        source = request.parameter("from")
        mounted = self._find(source, request.parameter("mount"))
        if mounted is not None and self._guard.has(request, Right(source, "pull")):
            return _created(request, name, "blobs", repository.add_blob(mounted))
        session = str(uuid.uuid4())
        self._sessions[name, session] = b""
        return self._progress(request, name, session)

    def append(self, request: Request, name: str, session: str) -> Response:
        received = self._received(name, session)
        self._sessions[name, session] = received + request.body
        return self._progress(request, name, session)

    def finish(self, request: Request, name: str, session: str) -> Response:
        """Answer the PUT that names the digest; right or wrong, it ends the upload."""
        content = self._received(name, session) + request.body
        del self._sessions[name, session]
        if request.parameter("digest") != digest_of(content):
            raise _other_digest()
        return _created(request, name, "blobs", self._storage.create(name).add_blob(content))

    def cancel(self, _request: Request, name: str, session: str) -> Response:
        self._received(name, session)
        del self._sessions[name, session]
        return Response(204)

    def _find(self, name: str, digest: str) -> bytes | None:
        repository = self._storage.repositories.get(name)
        return repository.blobs.get(digest) if repository else None

    def _received(self, name: str, session: str) -> bytes:
        if (name, session) not in self._sessions:
            raise Refused(404, RegistryError("BLOB_UPLOAD_INVALID", "blob upload invalid"))
        return self._sessions[name, session]

    def _progress(self, request: Request, name: str, session: str) -> Response:
        end = max(len(self._sessions[name, session]) - 1, 0)
        location = f"{request.base_url}/v2/{quote(name)}/blobs/uploads/{session}?_state=opaque"
        headers = {"Location": location, "Range": f"0-{end}", "Docker-Upload-UUID": session}
        return Response(202, headers)


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


def _created(request: Request, name: str, kind: str, digest: str) -> Response:
    location = f"{request.base_url}/v2/{quote(name)}/{kind}/{digest}"
    return Response(201, {"Location": location, "Docker-Content-Digest": digest})


def _other_digest() -> Refused:
    message = "provided digest did not match uploaded content"
    return Refused(400, RegistryError("DIGEST_INVALID", message))


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _unauthorized(message: str, challenge: str = 'Basic realm="registry"') -> Refused:
    headers = {"WWW-Authenticate": challenge}
    return Refused(401, RegistryError("UNAUTHORIZED", message), headers=headers)
