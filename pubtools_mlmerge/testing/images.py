"""Tiny but valid images, attestations and indexes for tests and demos."""

from __future__ import annotations

import io
import json
import re
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Union
from urllib.parse import urlencode, urljoin

import requests
from attrs import define, evolve, field, frozen

from pubtools_mlmerge.core.manifests import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    digest_of,
)

_DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
_DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
_OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_OCI_EMPTY = "application/vnd.oci.empty.v1+json"
_OCTETS = "application/octet-stream"
_IN_TOTO = "application/vnd.in-toto+json"
_PREDICATE = "https://slsa.dev/provenance/v0.2"
_ATTESTATION = "application/vnd.docker.attestation.manifest.v1+json"
_TIMEOUT_SECONDS = 30


@frozen(kw_only=True)
class Image:
    """A manifest for one platform, with config and layers by digest.

    Platform (os, architecture, variant) and annotations are for the entry in an index.
    """

    content: bytes = field(repr=False)
    media_type: str
    platform: Mapping[str, str]
    blobs: Mapping[str, bytes] = field(repr=False)
    annotations: Mapping[str, str] = field(factory=dict)

    @property
    def digest(self) -> str:
        """The digest of the manifest."""
        return digest_of(self.content)

    @property
    def descriptor(self) -> dict[str, object]:
        """The entry for this image in an index."""
        described = _describe(self.content, self.media_type)
        described["platform"] = dict(self.platform)
        if self.annotations:
            described["annotations"] = dict(self.annotations)
        return described


@frozen(kw_only=True)
class ImageIndex:
    """An OCI index or a Docker manifest list, with the children it was made from, in order."""

    content: bytes = field(repr=False)
    media_type: str
    children: tuple[Child, ...]

    @property
    def digest(self) -> str:
        """The digest of the index."""
        return digest_of(self.content)

    @property
    def descriptor(self) -> dict[str, object]:
        """The entry for this index in another one; it has no platform."""
        return _describe(self.content, self.media_type)


Child = Union[Image, ImageIndex]


def make_image(
    platform: str = "linux/amd64",
    *,
    docker: bool = False,
    created: str = "2024-01-01T00:00:00Z",
    seed: str = "",
) -> Image:
    """Make an image that a container engine could load.

    The same arguments give the same bytes, on every machine.

    Args:
        platform (str):
            ``os/architecture`` or ``os/architecture/variant``.
        docker (bool):
            Use Docker's media types instead of OCI's.
        created (str):
            The time of creation that the config states.
        seed (str):
            Text for the image's only file; another seed gives another digest.

    Returns:
        Image: The manifest with its config and its layer.
    """
    described = dict(zip(("os", "architecture", "variant"), platform.split("/")))
    archive = _tar(f"{platform} {seed}\n".encode())
    layer = _gzip(archive)
    config = _encode(
        {
            **described,
            "created": created,
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(archive)]},
            "history": [{"created": created, "created_by": "make_image"}],
        }
    )
    manifest = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST if docker else OCI_MANIFEST,
        "config": _describe(config, _DOCKER_CONFIG if docker else _OCI_CONFIG),
        "layers": [_describe(layer, _DOCKER_LAYER if docker else _OCI_LAYER)],
    }
    return _image(manifest, described, config, layer)


def make_attestation(image: Image, *, artifact: bool = False) -> Image:
    """Make the attestation manifest that BuildKit adds next to an image.

    Args:
        image (Image):
            The image that is attested.
        artifact (bool):
            Use the newer form: an OCI artifact with the image as its subject.

    Returns:
        Image: An OCI manifest whose entry refers to the image's digest.
    """
    statement = _encode(
        {
            "_type": "https://in-toto.io/Statement/v0.1",
            "predicateType": _PREDICATE,
            "subject": [{"name": "image", "digest": {"sha256": image.digest.partition(":")[2]}}],
            "predicate": {},
        }
    )
    platform = {"architecture": "unknown", "os": "unknown"}
    manifest: dict[str, object] = {"schemaVersion": 2, "mediaType": OCI_MANIFEST}
    if artifact:
        config, config_type = b"{}", _OCI_EMPTY
        manifest["artifactType"] = _ATTESTATION
        manifest["subject"] = _describe(image.content, image.media_type)
    else:
        rootfs = {"type": "layers", "diff_ids": [digest_of(statement)]}
        config, config_type = _encode({**platform, "config": {}, "rootfs": rootfs}), _OCI_CONFIG
    annotations = {"in-toto.io/predicate-type": _PREDICATE}
    manifest["config"] = _describe(config, config_type)
    manifest["layers"] = [{**_describe(statement, _IN_TOTO), "annotations": annotations}]
    return evolve(
        _image(manifest, platform, config, statement),
        annotations={
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": image.digest,
        },
    )


def make_index(
    children: Iterable[Child],
    *,
    docker: bool = False,
    media_type_field: bool = True,
    annotations: Mapping[str, str] | None = None,
) -> ImageIndex:
    """Make an index of the given children, in the given order.

    Args:
        children (Iterable[Child]):
            Images, attestations, or other indexes.
        docker (bool):
            Make a Docker manifest list instead of an OCI index.
        media_type_field (bool):
            Whether the document names its own type at the top.
        annotations (Mapping[str, str] | None):
            Annotations of the index itself.

    Returns:
        ImageIndex: The document and its children.
    """
    entries = tuple(children)
    media_type = DOCKER_LIST if docker else OCI_INDEX
    document: dict[str, object] = {"schemaVersion": 2}
    if media_type_field:
        document["mediaType"] = media_type
    document["manifests"] = [child.descriptor for child in entries]
    if annotations is not None:
        document["annotations"] = dict(annotations)
    return ImageIndex(content=_encode(document), media_type=media_type, children=entries)


def _image(manifest: Mapping[str, object], platform: Mapping[str, str], *blobs: bytes) -> Image:
    return Image(
        content=_encode(manifest),
        media_type=str(manifest["mediaType"]),
        platform=platform,
        blobs={digest_of(blob): blob for blob in blobs},
    )


def _describe(content: bytes, media_type: str) -> dict[str, object]:
    return {"mediaType": media_type, "size": len(content), "digest": digest_of(content)}


def _encode(document: object) -> bytes:
    """Encode a document with the indentation that Docker uses.

    Nothing else in this package writes this form: a test that compares bytes notices when
    a document was decoded and encoded again.
    """
    return json.dumps(document, indent=3).encode()


def _tar(content: bytes) -> bytes:
    """Make an archive with one file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        member = tarfile.TarInfo("content.txt")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _gzip(content: bytes) -> bytes:
    """Wrap content as gzip without compression, which versions of zlib do differently."""
    header = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
    size = len(content)
    block = struct.pack("<BHH", 1, size, size ^ 0xFFFF) + content
    return header + block + struct.pack("<II", zlib.crc32(content), size)


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
        if session is None:
            session = stack.enter_context(requests.Session())
            session.trust_env = False
        request = partial(session.request, verify=verify, timeout=_TIMEOUT_SECONDS)
        _Upload(request, url, repository, credentials).item(item, reference or item.digest)
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


@define
class _Upload:
    """Uploads into one repository, and logs in when the registry wants it."""

    request: Callable[..., requests.Response]
    url: str
    repository: str
    credentials: tuple[str, str] | None = field(repr=False)
    authorization: dict[str, str] = field(factory=dict, repr=False)

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
        self._send("PUT", location + query, content)

    def _send(
        self, method: str, url: str, content: bytes = b"", content_type: str = _OCTETS
    ) -> requests.Response:
        headers = {"Content-Type": content_type, **self.authorization}
        response = self.request(method, url, data=content, headers=headers)
        if response.status_code == requests.codes.unauthorized and self.credentials:
            self.authorization = self._log_in(response, self.credentials)
            headers.update(self.authorization)
            response = self.request(method, url, data=content, headers=headers)
        response.raise_for_status()
        return response

    def _log_in(self, response: requests.Response, credentials: tuple[str, str]) -> dict[str, str]:
        """Return the header that the challenge of a response wants."""
        challenge = response.headers.get("WWW-Authenticate", "")
        basic = requests.Request(url=self.url, auth=credentials).prepare()
        password = {"Authorization": basic.headers["Authorization"]}
        if not challenge.startswith("Bearer "):
            return password
        parts = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
        scope = f"repository:{self.repository}:pull,push"
        query = urlencode({"service": parts.get("service", ""), "scope": scope})
        reply = self.request("GET", f"{parts['realm']}?{query}", headers=password)
        reply.raise_for_status()
        fields = reply.json()
        return {"Authorization": f"Bearer {fields.get('token') or fields['access_token']}"}
