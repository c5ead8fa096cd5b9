"""From a path and a method to the endpoint that serves it."""

from __future__ import annotations

import json
import re
import secrets
import time
import uuid
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Literal
from urllib.parse import quote

from attrs import frozen

from pubtools_mlmerge.testing.auth import Guard, Right
from pubtools_mlmerge.testing.dialects import Dialect
from pubtools_mlmerge.testing.http import (
    TEXT_TYPE,
    Refused,
    RegistryError,
    Request,
    Response,
    json_response,
    page_not_found,
    refuse,
)
from pubtools_mlmerge.testing.storage import (
    INDEX_TYPES,
    Repository,
    Storage,
    TagPeriod,
    UnreadableDocumentError,
    digest_of,
)

COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
NAME = rf"({COMPONENT}(?:/{COMPONENT})*)"
DIGEST = r"([a-z0-9]+(?:[+._-][a-z0-9]+)*:[0-9a-fA-F]{32,})"
TAG = r"([A-Za-z0-9_][A-Za-z0-9._-]{0,127})"
REFERENCE = rf"({DIGEST[1:-1]}|{TAG[1:-1]})"

Access = Literal["anyone", "login", "pull", "push", "delete"]


@frozen
class Endpoint:
    """What serves a method on a path, and the access that it takes."""

    access: Access
    serve: Callable[..., Response]


@frozen
class Route:
    """A form of path; its groups are handed to the endpoint as arguments."""

    pattern: re.Pattern[str]
    methods: Mapping[str, Endpoint]


class Router:
    """Answers every request, if only to say that there is nothing."""

    def __init__(
        self,
        storage: Storage,
        dialect: Dialect,
        guard: Guard,
        immutable: tuple[str, ...],
        api_token: str | None,
    ) -> None:
        self._storage = storage
        self._dialect = dialect
        self._guard = guard
        self._manifests = Manifests(storage, dialect, immutable)
        self._blobs = Blobs(storage, guard, dialect)
        self._history = TagHistory(storage, self._manifests, api_token)
        self._routes = (*self._registry_routes(), *self._further_routes())

    def answer(self, request: Request) -> Response:
        """Answer a request."""
        try:
            return self._serve(request)
        except Refused as refused:
            return refused.response
        except UnreadableDocumentError as error:
            # Only what was stored past all checks can be unreadable.
            return refuse(500, RegistryError("UNKNOWN", str(error))).response

    def _serve(self, request: Request) -> Response:
        for route in self._routes:
            match = route.pattern.fullmatch(request.path)
            if match is None:
                continue
            endpoint = route.methods.get(request.method)
            if endpoint is None:
                return self._refuse_method(route)
            self._admit(request, endpoint.access, match.groups())
            return endpoint.serve(request, *match.groups())
        raise page_not_found(self._dialect.page_type)

    def _admit(self, request: Request, access: Access, groups: tuple[str, ...]) -> None:
        if access == "login":
            self._guard.require(request, ())
        elif access != "anyone":
            rights = [Right(groups[0], action) for action in self._actions(access)]
            source = request.parameter("from")
            if source and access == "push" and self._dialect.mount_needs_source:
                rights.append(Right(source, "pull"))
            self._guard.require(request, rights)

    def _actions(self, access: Access) -> tuple[str, ...]:
        if access == "push":
            return self._dialect.push_actions
        return (self._dialect.delete_action if access == "delete" else access,)

    def _registry_routes(self) -> tuple[Route, ...]:
        manifests, blobs = self._manifests, self._blobs
        read_manifest = Endpoint("pull", manifests.read)
        read_blob = Endpoint("pull", blobs.read)
        session = r"([A-Za-z0-9-]+)"
        return (
            _route("/v2/", GET=Endpoint("login", self._root)),
            _route(
                f"/v2/{NAME}/manifests/{REFERENCE}",
                GET=read_manifest,
                HEAD=read_manifest,
                PUT=Endpoint("push", manifests.write),
                DELETE=Endpoint("delete", manifests.delete),
            ),
            _route(f"/v2/{NAME}/blobs/{DIGEST}", GET=read_blob, HEAD=read_blob),
            _route(f"/v2/{NAME}/blobs/uploads/", POST=Endpoint("push", blobs.start)),
            _route(
                f"/v2/{NAME}/blobs/uploads/{session}",
                PATCH=Endpoint("push", blobs.append),
                PUT=Endpoint("push", blobs.finish),
                DELETE=Endpoint("push", blobs.cancel),
            ),
            _route(f"/v2/{NAME}/tags/list", GET=Endpoint("pull", manifests.tags)),
        )

    def _further_routes(self) -> tuple[Route, ...]:
        token_path = re.escape(self._dialect.token_path)
        tags = f"/api/v1/repository/{NAME}/tag/"
        read_history = Endpoint("anyone", self._history.read)
        delete = Endpoint("anyone", self._history.delete)
        restore = Endpoint("anyone", self._history.restore)
        token = _route(token_path, GET=Endpoint("anyone", self._issue_token))
        if not self._dialect.has_history_api:
            return (token,)
        return (
            token,
            _route(tags, GET=read_history),
            _route(f"{tags}{TAG}", DELETE=delete),
            _route(f"{tags}{TAG}/restore", POST=restore),
        )

    def _root(self, request: Request) -> Response:
        return json_response({}, 200, **self._guard.root_headers(request))

    def _issue_token(self, request: Request) -> Response:
        response, granted = self._guard.issue(request)
        for right in granted:
            if right.action != "pull" and self._dialect.creates_on_push_token:
                self._storage.create(right.repository)
        return response

    def _refuse_method(self, route: Route) -> Response:
        headers = {"Allow": ", ".join(sorted(route.methods)), "Content-Type": TEXT_TYPE}
        return Response(status=405, headers=headers, body=b"Method not allowed\n")


def _route(pattern: str, **methods: Endpoint) -> Route:
    return Route(re.compile(pattern), methods)


MANIFEST_BYTES = 4 * 1024 * 1024


class Manifests:
    """Serves manifests, takes them, and lists their tags."""

    def __init__(self, storage: Storage, dialect: Dialect, immutable: tuple[str, ...]) -> None:
        """Serve from this storage in this dialect."""
        self._storage = storage
        self._dialect = dialect
        self._immutable = immutable

    def read(self, request: Request, name: str, reference: str) -> Response:
        """Answer GET and HEAD of a manifest."""
        manifest = self._dialect.read(self._storage, name, reference, request.accepted)
        headers = {
            "Content-Type": manifest.media_type,
            "Docker-Content-Digest": manifest.digest,
        }
        if self._dialect.sends_etag:
            headers["ETag"] = f'"{manifest.digest}"'
            if request.headers.get("if-none-match", "").strip('"') == manifest.digest:
                return Response(status=304)
        return Response(headers=headers, body=manifest.content)

    def write(self, request: Request, name: str, reference: str) -> Response:
        """Answer a PUT of a manifest."""
        content = request.body
        if len(content) > MANIFEST_BYTES:
            detail = "http: request body too large"
            raise refuse(400, RegistryError("MANIFEST_INVALID", "manifest invalid", detail))
        repository = self._storage.create(name)
        content_type = request.headers.get("content-type", "")
        media_type = self._dialect.check(repository, content, content_type)
        if ":" in reference and reference != digest_of(content):
            message = "provided digest did not match uploaded content"
            raise refuse(400, RegistryError("DIGEST_INVALID", message, {}))
        if ":" not in reference:
            self.refuse_if_immutable(repository, reference)
        digest = repository.add_manifest(content, media_type)
        if ":" not in reference:
            repository.set_tag(reference, digest)
        self._dialect.stored(repository, digest, reference)
        base = "" if self._dialect.relative_locations else request.base_url
        location = f"{base}/v2/{quote(name)}/manifests/{digest}"
        headers = {"Location": location, "Docker-Content-Digest": digest}
        return Response(status=201, headers=headers)

    def delete(self, _request: Request, name: str, reference: str) -> Response:
        """Answer a DELETE by digest, or by tag where that is possible."""
        repository = self._storage.find(name)
        if ":" not in reference and not self._dialect.deletes_tags:
            message = "provided digest did not match uploaded content"
            raise refuse(400, RegistryError("DIGEST_INVALID", message))
        if repository is None or repository.find(reference) is None:
            raise refuse(404, RegistryError("MANIFEST_UNKNOWN", "manifest unknown"))
        if ":" in reference:
            repository.remove_manifest(reference)
        else:
            self.refuse_if_immutable(repository, reference)
            repository.remove_tag(reference)
        return Response(status=202)

    def tags(self, request: Request, name: str) -> Response:
        """Answer with the tags, some at a time if the client or the dialect wants."""
        repository = self._storage.find(name)
        if repository is None or not repository.had_tags:
            error = RegistryError(
                "NAME_UNKNOWN",
                "repository name not known to registry",
                {"name": name},
            )
            raise refuse(404, error)
        if not repository.tags:
            return json_response({"name": name, "tags": self._dialect.no_tags})
        after = request.parameter("last")
        rest = [tag for tag in sorted(repository.tags) if tag > after]
        most = self._dialect.most_tags or len(rest)
        count = min(request.number("n", most), most)
        page = {"name": name, "tags": rest[:count]}
        if count == 0 or count >= len(rest):
            return json_response(page)
        link = f'</v2/{quote(name)}/tags/list?n={count}&last={rest[count - 1]}>; rel="next"'
        return json_response(page, Link=link)

    def refuse_if_immutable(self, repository: Repository, tag: str) -> None:
        """Refuse to move or delete an immutable tag that is set."""
        if tag in repository.tags and any(fnmatchcase(tag, one) for one in self._immutable):
            raise self._dialect.refuse_tag_move(tag)


class Blobs:
    """Serves blobs, and takes them in one piece or in many."""

    def __init__(self, storage: Storage, guard: Guard, dialect: Dialect) -> None:
        """Begin with no upload under way."""
        self._storage = storage
        self._guard = guard
        self._dialect = dialect
        self._sessions: dict[tuple[str, str], bytes] = {}

    def read(self, _request: Request, name: str, digest: str) -> Response:
        """Answer GET and HEAD of a blob."""
        repository = self._storage.find(name)
        content = repository.blobs.get(digest) if repository else None
        if content is None:
            raise refuse(404, RegistryError("BLOB_UNKNOWN", "blob unknown to registry", digest))
        headers = {"Content-Type": "application/octet-stream", "Docker-Content-Digest": digest}
        return Response(headers=headers, body=content)

    def start(self, request: Request, name: str) -> Response:
        """Answer a POST: mount a blob, take it whole, or open a session."""
        repository = self._storage.create(name)
        mounted = self._find_mount(request)
        if mounted is not None:
            return self._finished(request, repository, repository.add_blob(mounted))
        digest = request.parameter("digest")
        if digest and self._dialect.single_request_upload:
            return self._keep(request, repository, request.body, digest)
        session = str(uuid.uuid4())
        self._sessions[name, session] = b""
        return self._progress(request, name, session)

    def append(self, request: Request, name: str, session: str) -> Response:
        """Answer a PATCH with the next piece."""
        received = self._received(name, session)
        self._sessions[name, session] = received + request.body
        return self._progress(request, name, session)

    def finish(self, request: Request, name: str, session: str) -> Response:
        """Answer the PUT that names the digest."""
        content = self._received(name, session) + request.body
        digest = request.parameter("digest")
        if ":" in digest:
            # Right or wrong, a digest ends the upload.
            del self._sessions[name, session]
        return self._keep(request, self._storage.create(name), content, digest)

    def cancel(self, _request: Request, name: str, session: str) -> Response:
        """Answer a DELETE of a session."""
        self._received(name, session)
        del self._sessions[name, session]
        return Response(status=204)

    def _find_mount(self, request: Request) -> bytes | None:
        source = request.parameter("from")
        repository = self._storage.find(source)
        if repository is None or not self._guard.has(request, Right(source, "pull")):
            return None
        return repository.blobs.get(request.parameter("mount"))

    def _received(self, name: str, session: str) -> bytes:
        if (name, session) not in self._sessions:
            error = RegistryError("BLOB_UPLOAD_INVALID", "blob upload invalid", {})
            raise refuse(404, error)
        return self._sessions[name, session]

    def _progress(self, request: Request, name: str, session: str) -> Response:
        end = max(len(self._sessions[name, session]) - 1, 0)
        location = f"{request.base_url}/v2/{quote(name)}/blobs/uploads/{session}?_state=opaque"
        headers = {
            "Location": location,
            "Range": f"0-{end}",
            "Docker-Upload-UUID": session,
        }
        return Response(status=202, headers=headers)

    def _keep(
        self,
        request: Request,
        repository: Repository,
        content: bytes,
        digest: str,
    ) -> Response:
        if digest != digest_of(content):
            message = "provided digest did not match uploaded content"
            raise refuse(400, RegistryError("DIGEST_INVALID", message, {}))
        return self._finished(request, repository, repository.add_blob(content))

    def _finished(self, request: Request, repository: Repository, digest: str) -> Response:
        location = f"{request.base_url}/v2/{quote(repository.name)}/blobs/{digest}"
        headers = {"Location": location, "Docker-Content-Digest": digest}
        return Response(status=201, headers=headers)


DEFAULT_LIMIT = 50
HIGHEST_LIMIT = 100
FALSE = ("", "0", "false", "null")
UNSUPPORTED_FILTER = "Unsupported syntax for filter_tag_name. Expected <operation>:<tag_name>"


class TagHistory:
    """Serves the history of tags to holders of the API token."""

    def __init__(self, storage: Storage, manifests: Manifests, api_token: str | None) -> None:
        """Serve from this storage; without a token, nobody."""
        self._storage = storage
        self._manifests = manifests
        self._api_token = api_token
        # Repository, tag and place in its history, counted from the oldest.
        self._reversions: set[tuple[str, str, int]] = set()

    def read(self, request: Request, name: str) -> Response:
        """Answer with periods of one tag or of all, newest first."""
        self._authorise(request)
        repository = self._find(name)
        is_wanted = _name_filter(request)
        only_active = request.parameter("onlyActiveTags").lower() not in FALSE
        found = [
            (tag, period, (name, tag, place) in self._reversions)
            for tag, periods in repository.histories().items()
            for place, period in enumerate(reversed(periods))
            if is_wanted(tag) and not (only_active and period.end)
        ]
        found.sort(key=lambda item: item[1].start)
        found.reverse()
        limit = min(max(request.number("limit", DEFAULT_LIMIT), 1), HIGHEST_LIMIT)
        page = max(request.number("page", 1), 1)
        start, stop = (page - 1) * limit, page * limit
        rows = [
            _row(repository, tag, period, is_reversion=is_reversion)
            for tag, period, is_reversion in found[start:stop]
        ]
        return json_response({"tags": rows, "page": page, "has_additional": stop < len(found)})

    def restore(self, request: Request, name: str, tag: str) -> Response:
        """Answer the POST that lets a tag, old or new, name a manifest that is still stored."""
        self._authorise(request)
        repository = self._find(name)
        digest = _wanted_digest(request.body)
        if digest not in repository.manifests:
            raise _problem(404, "Not Found")
        self._manifests.refuse_if_immutable(repository, tag)
        self._reversions.add((name, tag, len(repository.history(tag))))
        repository.set_tag(tag, digest)
        return json_response({})

    def delete(self, request: Request, name: str, tag: str) -> Response:
        """Answer the DELETE of a tag; its history stays."""
        self._authorise(request)
        repository = self._find(name)
        if tag not in repository.tags:
            raise _problem(404, "Not Found")
        self._manifests.refuse_if_immutable(repository, tag)
        repository.remove_tag(tag)
        return Response(status=204)

    def _authorise(self, request: Request) -> None:
        given = request.headers.get("authorization", "")
        expected = f"Bearer {self._api_token}"
        if not self._api_token or not secrets.compare_digest(given.encode(), expected.encode()):
            raise _problem(401, "Requires authentication")

    def _find(self, name: str) -> Repository:
        repository = self._storage.find(name)
        if repository is None:
            raise _problem(404, "Not Found")
        return repository


def _row(
    repository: Repository, tag: str, period: TagPeriod, *, is_reversion: bool
) -> dict[str, object]:
    manifest = repository.manifests.get(period.digest)
    row: dict[str, object] = {
        "name": tag,
        "reversion": is_reversion,
        "start_ts": period.start,
        "manifest_digest": period.digest,
        "is_manifest_list": manifest is not None and manifest.media_type in INDEX_TYPES,
        "last_modified": _date(period.start),
    }
    if period.end is not None:
        row["end_ts"] = period.end
        row["expiration"] = _date(period.end)
    return row


def _name_filter(request: Request) -> Callable[[str], bool]:
    specific, expression = request.parameter("specificTag"), request.parameter("filter_tag_name")
    operation, colon, name = expression.partition(":")
    if expression and not colon:
        raise _problem(400, UNSUPPORTED_FILTER)

    def is_wanted(tag: str) -> bool:
        unlike = operation == "like" and name not in tag
        other = operation == "eq" and name != tag
        return not unlike and not other and specific in ("", tag)

    return is_wanted


def _date(seconds: int) -> str:
    return time.strftime("%a, %d %b %Y %H:%M:%S -0000", time.gmtime(seconds))


def _wanted_digest(body: bytes) -> str:
    try:
        document: object = json.loads(body)
    except ValueError:
        document = None
    digest = document.get("manifest_digest") if isinstance(document, dict) else None
    if not isinstance(digest, str):
        raise _problem(400, "'manifest_digest' is a required property")
    return digest


def _problem(status: int, message: str) -> Refused:
    body = {"status": status, "error_message": message, "title": "error", "detail": message}
    return Refused(json_response(body, status))
