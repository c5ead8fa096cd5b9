"""Quay's own API: which tag named what when, moving it back, and deleting it."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable

from pubtools_mlmerge.testing.content import INDEX_TYPES
from pubtools_mlmerge.testing.manifests import Manifests
from pubtools_mlmerge.testing.storage import Repository, Storage, TagPeriod
from pubtools_mlmerge.testing.wire import Refused, Request, Response, json_response

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
