"""The endpoints for blobs and their uploads."""

from __future__ import annotations

import uuid
from urllib.parse import quote

from pubtools_mlmerge.testing.auth import Guard, Right
from pubtools_mlmerge.testing.content import digest_of
from pubtools_mlmerge.testing.dialects import Dialect
from pubtools_mlmerge.testing.storage import Repository, Storage
from pubtools_mlmerge.testing.wire import RegistryError, Request, Response, refuse


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
