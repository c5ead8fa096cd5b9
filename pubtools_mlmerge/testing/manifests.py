"""The endpoints for manifests and the list of tags."""

from __future__ import annotations

from fnmatch import fnmatchcase
from urllib.parse import quote

from pubtools_mlmerge.testing.content import digest_of
from pubtools_mlmerge.testing.dialects import Dialect
from pubtools_mlmerge.testing.storage import Repository, Storage
from pubtools_mlmerge.testing.wire import RegistryError, Request, Response, json_response, refuse

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
