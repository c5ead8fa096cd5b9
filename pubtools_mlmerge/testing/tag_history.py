"""Quay's own API: which tag named what when, and moving it back."""

from __future__ import annotations

import json
import secrets
import time

from pubtools_mlmerge.testing.content import INDEX_TYPES
from pubtools_mlmerge.testing.manifests import Manifests
from pubtools_mlmerge.testing.storage import Repository, Storage, TagPeriod
from pubtools_mlmerge.testing.wire import Refused, Request, Response, json_response

DEFAULT_LIMIT = 50
HIGHEST_LIMIT = 100


class TagHistory:
    """Serves the history of tags to holders of the API token."""

    def __init__(self, storage: Storage, manifests: Manifests, api_token: str | None) -> None:
        """Serve from this storage; without a token, nobody."""
        self._storage = storage
        self._manifests = manifests
        self._api_token = api_token

    def read(self, request: Request, name: str) -> Response:
        """Answer with periods of one tag or of all, newest first."""
        self._authorise(request)
        repository = self._find(name)
        wanted = request.parameter("specificTag")
        only_active = request.parameter("onlyActiveTags") == "true"
        found = [
            (tag, period)
            for tag, periods in repository.histories().items()
            for period in periods
            if (not wanted or tag == wanted) and not (only_active and period.end)
        ]
        found.sort(key=lambda item: item[1].start, reverse=True)
        limit = min(max(request.number("limit", DEFAULT_LIMIT), 1), HIGHEST_LIMIT)
        page = max(request.number("page", 1), 1)
        start, stop = (page - 1) * limit, page * limit
        rows = [_row(repository, tag, period) for tag, period in found[start:stop]]
        return json_response({"tags": rows, "page": page, "has_additional": stop < len(found)})

    def restore(self, request: Request, name: str, tag: str) -> Response:
        """Answer the POST that moves a tag to what it once named."""
        self._authorise(request)
        repository = self._find(name)
        digest = _wanted_digest(request.body)
        if digest not in {period.digest for period in repository.history(tag)}:
            raise _problem(404, f"{tag} never named {digest}")
        self._manifests.refuse_if_immutable(repository, tag)
        repository.set_tag(tag, digest)
        return json_response({})

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


def _row(repository: Repository, tag: str, period: TagPeriod) -> dict[str, object]:
    manifest = repository.manifests.get(period.digest)
    row: dict[str, object] = {
        "name": tag,
        "reversion": False,
        "start_ts": period.start,
        "manifest_digest": period.digest,
        "is_manifest_list": manifest is not None and manifest.media_type in INDEX_TYPES,
        "last_modified": _date(period.start),
    }
    if period.end is not None:
        row["end_ts"] = period.end
        row["expiration"] = _date(period.end)
    return row


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
