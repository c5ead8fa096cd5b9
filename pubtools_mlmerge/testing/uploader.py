"""Uploads test images to any registry."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from urllib.parse import urlencode, urljoin

import requests
from attrs import define, field

from pubtools_mlmerge.testing.content import digest_of
from pubtools_mlmerge.testing.images import Child, Image, ImageIndex, make_image, make_index

TIMEOUT_SECONDS = 30


def upload(  # noqa: PLR0913 - what is uploaded where, and how to get in
    url: str,
    repository: str,
    item: Child,
    *,
    reference: str | None = None,
    credentials: tuple[str, str] | None = None,
    session: requests.Session | None = None,
    verify: str | bool | None = None,
) -> str:
    """Upload an image or an index, with everything below it.

    Args:
        url (str):
            The registry's root, such as ``http://127.0.0.1:5000``.
        repository (str):
            The repository's name.
        item (Child):
            An image or an index.
        reference (str | None):
            The tag to set. By default the item is uploaded by its digest.
        credentials (tuple[str, str] | None):
            User and password, for registries that want a password or a token.
        session (requests.Session | None):
            The session to use, with its headers.
        verify (str | bool | None):
            The file with the authority for TLS, as requests takes it.

    Returns:
        str: The item's digest.

    Raises:
        requests.exceptions.HTTPError: The registry refused a part.
    """
    with ExitStack() as stack:
        used = session or stack.enter_context(requests.Session())
        used.trust_env = used.trust_env and session is not None
        put = _Upload(
            session=used,
            url=url,
            repository=repository,
            credentials=credentials,
            verify=verify,
        )
        put.item(item, reference or item.digest)
    return item.digest


def upload_index(  # noqa: PLR0913 - what is uploaded where, and how to get in
    url: str,
    repository: str,
    tag: str,
    children: Iterable[Child | str],
    *,
    docker: bool = False,
    credentials: tuple[str, str] | None = None,
    session: requests.Session | None = None,
    verify: str | bool | None = None,
) -> ImageIndex:
    """Make an index of the children and upload it with them.

    Args:
        url (str):
            The registry's root.
        repository (str):
            The repository's name.
        tag (str):
            The tag to set.
        children (Iterable[Child | str]):
            Images, or platforms to make images for.
        docker (bool):
            Make a Docker manifest list, and Docker images for platforms.
        credentials (tuple[str, str] | None):
            User and password.
        session (requests.Session | None):
            The session to use.
        verify (str | bool | None):
            The file with the authority for TLS, as requests takes it.

    Returns:
        ImageIndex: What the tag holds now.
    """
    images = [
        make_image(child, docker=docker) if isinstance(child, str) else child for child in children
    ]
    index = make_index(images, docker=docker)
    upload(
        url,
        repository,
        index,
        reference=tag,
        credentials=credentials,
        session=session,
        verify=verify,
    )
    return index


@define(kw_only=True)
class _Upload:
    """Uploads into one repository, logging in when it is asked to."""

    session: requests.Session
    url: str
    repository: str
    credentials: tuple[str, str] | None = field(repr=False)
    verify: str | bool | None
    headers: dict[str, str] = field(factory=dict, repr=False)

    def item(self, item: Child, reference: str) -> None:
        """Upload what an item refers to, then the item."""
        if isinstance(item, Image):
            for content in item.blobs.values():
                self._blob(content)
        else:
            for child in item.children:
                self.item(child, child.digest)
        path = f"{self.url}/v2/{self.repository}/manifests/{reference}"
        self._send("PUT", path, item.content, item.media_type)

    def _blob(self, content: bytes) -> None:
        path = f"{self.url}/v2/{self.repository}/blobs/uploads/"
        location = urljoin(path, self._send("POST", path).headers["Location"])
        query = f"{'&' if '?' in location else '?'}digest={digest_of(content)}"
        self._send("PUT", location + query, content, "application/octet-stream")

    def _send(
        self,
        method: str,
        url: str,
        content: bytes = b"",
        content_type: str = "application/octet-stream",
    ) -> requests.Response:
        headers = {**self.headers, "Content-Type": content_type}
        response = self._request(method, url, content, headers)
        if response.status_code == requests.codes.unauthorized and self.credentials:
            self.headers = self._log_in(response, self.credentials)
            response = self._request(method, url, content, {**headers, **self.headers})
        response.raise_for_status()
        return response

    def _request(
        self,
        method: str,
        url: str,
        content: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> requests.Response:
        return self.session.request(
            method,
            url,
            data=content,
            headers=headers,
            verify=self.verify,
            timeout=TIMEOUT_SECONDS,
        )

    def _log_in(
        self,
        response: requests.Response,
        credentials: tuple[str, str],
    ) -> dict[str, str]:
        """Return the header that the challenge of a response asks for."""
        challenge = response.headers.get("WWW-Authenticate", "")
        basic = requests.Request(url=self.url, auth=credentials).prepare()
        password = {"Authorization": basic.headers["Authorization"]}
        if not challenge.startswith("Bearer "):
            return password
        parts = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
        scope = f"repository:{self.repository}:pull,push"
        query = urlencode({"service": parts.get("service", ""), "scope": scope})
        reply = self._request("GET", f"{parts['realm']}?{query}", headers=password)
        reply.raise_for_status()
        return {"Authorization": f"Bearer {_token(reply.json())}"}


def _token(reply: object) -> str:
    members = reply if isinstance(reply, dict) else {}
    return str(members.get("token") or members["access_token"])
