"""From a path and a method to the endpoint that serves it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Literal

from attrs import frozen

from pubtools_mlmerge.testing.auth import Guard, Right
from pubtools_mlmerge.testing.dialects import Dialect
from pubtools_mlmerge.testing.documents import UnreadableDocumentError
from pubtools_mlmerge.testing.manifests import Manifests
from pubtools_mlmerge.testing.storage import Storage
from pubtools_mlmerge.testing.tag_history import TagHistory
from pubtools_mlmerge.testing.uploads import Blobs
from pubtools_mlmerge.testing.wire import (
    TEXT_TYPE,
    Refused,
    RegistryError,
    Request,
    Response,
    json_response,
    page_not_found,
    refuse,
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
    """Answers every request, if only to say that there is nothing.

    Args:
        storage (Storage):
            Where everything is kept.
        dialect (Dialect):
            The kind of registry to be.
        guard (Guard):
            Who may do what.
        immutable (tuple[str, ...]):
            Patterns of tags that cannot be moved.
        api_token (str | None):
            What opens the API for the history of tags.
    """

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
        """Answer a request.

        Args:
            request (Request):
                What arrived.

        Returns:
            Response: What is to be sent.
        """
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
