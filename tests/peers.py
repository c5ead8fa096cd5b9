"""A registry under test, and a client that logs in but otherwise hides nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import requests
from attrs import field, frozen

from pubtools_mlmerge.core.manifests import digest_of
from pubtools_mlmerge.testing import Image, ImageIndex, upload

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"
EVERY_TYPE = f"{OCI_INDEX}, {OCI_MANIFEST}, {DOCKER_LIST}, {DOCKER_MANIFEST}"


def _session() -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    return session


def challenge(response: requests.Response) -> dict[str, str]:
    """Return the parts of a Bearer challenge."""
    scheme, _, rest = response.headers["WWW-Authenticate"].partition(" ")
    assert scheme == "Bearer"
    return dict(re.findall(r'(\w+)="([^"]*)"', rest))


def wanted_rights(response: requests.Response) -> set[tuple[str, str]]:
    """Return repositories and actions of a challenge, which may come in any order."""
    scopes = (scope.split(":") for scope in challenge(response)["scope"].split())
    return {(name, action) for _, name, actions in scopes for action in actions.split(",")}


def error_codes(response: requests.Response) -> list[str]:
    """Return the codes of a registry's error list."""
    return [error["code"] for error in response.json()["errors"]]


@frozen(kw_only=True)
class Peer:
    """A registry, and who talks to it."""

    url: str
    verify: str | bool = True
    credentials: tuple[str, str] | None = None
    session: requests.Session = field(factory=_session, repr=False)
    tokens: dict[str, Mapping[str, str]] = field(factory=dict, repr=False)

    @property
    def host(self) -> str:
        return self.url.partition("://")[2]

    def once(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        content: bytes = b"",
    ) -> requests.Response:
        """Send one request, as it is."""
        # Without a value of its own, requests would send an Accept of `*/*`.
        wanted = {"Accept": None, **(headers or {})}
        url = path if "://" in path else self.url + path
        return self.session.request(
            method,
            url,
            headers=wanted,
            data=content,
            verify=self.verify,
            timeout=20,
        )

    def send(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        content: bytes = b"",
    ) -> requests.Response:
        """Send a request, and again with a token where the registry asks for one."""
        response = self.once(method, path, headers, content)
        if response.status_code != 401 or self.credentials is None:
            return response
        scope = challenge(response).get("scope", "")
        if scope not in self.tokens:
            self.tokens[scope] = self.token(scope.split())
        return self.once(method, path, {**(headers or {}), **self.tokens[scope]}, content)

    def ask_token(
        self,
        scopes: Iterable[str],
        credentials: tuple[str, str] | None = None,
    ) -> requests.Response:
        """Ask the token endpoint that the registry's root names."""
        parts = challenge(self.once("GET", "/v2/"))
        return self.session.get(
            parts["realm"],
            params={"service": parts["service"], "scope": list(scopes)},
            auth=credentials,
            timeout=20,
        )

    def token(self, scopes: Iterable[str]) -> dict[str, str]:
        """Return the header with a token for these scopes."""
        reply = self.ask_token(scopes, self.credentials)
        assert reply.status_code == 200
        return {"Authorization": f"Bearer {reply.json()['token']}"}

    def get(self, repository: str, reference: str, accept: str = "") -> requests.Response:
        headers = {"Accept": accept} if accept else {}
        return self.send("GET", f"/v2/{repository}/manifests/{reference}", headers)

    def head(self, repository: str, reference: str, accept: str = "") -> requests.Response:
        headers = {"Accept": accept} if accept else {}
        return self.send("HEAD", f"/v2/{repository}/manifests/{reference}", headers)

    def put(
        self,
        repository: str,
        reference: str,
        content: bytes,
        content_type: str,
    ) -> requests.Response:
        headers = {"Content-Type": content_type} if content_type else {}
        return self.send("PUT", f"/v2/{repository}/manifests/{reference}", headers, content)

    def delete(self, repository: str, reference: str) -> requests.Response:
        return self.send("DELETE", f"/v2/{repository}/manifests/{reference}")

    def upload(self, repository: str, item: Image | ImageIndex, tag: str | None = None) -> str:
        login, verify = self.credentials, self.verify
        return upload(self.url, repository, item, reference=tag, credentials=login, verify=verify)

    def start_upload(self, repository: str, query: str = "") -> requests.Response:
        return self.send("POST", f"/v2/{repository}/blobs/uploads/{query}")

    def put_blob(self, repository: str, content: bytes, digest: str = "") -> requests.Response:
        location = self.start_upload(repository).headers["Location"]
        return self.finish_upload(location, content, digest or digest_of(content))

    def finish_upload(self, location: str, content: bytes, digest: str) -> requests.Response:
        joint = "&" if "?" in location else "?"
        return self.send("PUT", f"{location}{joint}digest={digest}", {}, content)
