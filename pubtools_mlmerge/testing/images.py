"""Tiny but valid images, attestations and indexes for tests and demos."""

from __future__ import annotations

import io
import json
import re
import struct
import tarfile
import zlib
from collections.abc import Iterable, Mapping
from typing import Union
from urllib.parse import urljoin

import requests
from attrs import evolve, field, frozen

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
    """Make an image that a container engine could load; the same arguments give the same bytes.

    Args:
        platform (str): ``os/architecture`` or ``os/architecture/variant``.
        docker (bool): Use Docker's media types instead of OCI's.
        created (str): The time of creation that the config states.
        seed (str): Text for the image's only file; another seed gives another digest.
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

    As an artifact it has the newer form: an OCI artifact whose subject is the image.
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
    """Make an index of images, attestations or other indexes, in the given order.

    Args:
        children (Iterable[Child]): What it lists.
        docker (bool): Make a Docker manifest list instead of an OCI index.
        media_type_field (bool): Whether the document names its own type at the top.
        annotations (Mapping[str, str] | None): Annotations of the index itself.
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
    """Encode as Docker does and nothing else here: tests notice a document encoded anew."""
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
    verify: str | bool = True,
) -> str:
    """Upload an image or an index, with everything below it, and return its digest.

    Args:
        url (str): The registry's root, such as ``http://127.0.0.1:5000``.
        repository (str): The repository's name.
        item (Child): An image or an index.
        reference (str | None): The tag to set. By default the item is uploaded by its digest.
        credentials (tuple[str, str] | None):
            User and password, for registries that want a password or a token.
        verify (str | bool): The file with the authority for TLS, as requests takes it.

    Raises:
        requests.exceptions.HTTPError: The registry refused a part.
    """
    with requests.Session() as session:
        session.trust_env = False
        session.verify = verify
        if credentials:
            _log_in(session, url, repository, credentials)
        _put(session, f"{url}/v2/{repository}", item, reference or item.digest)
    return item.digest


def upload_index(  # noqa: PLR0913 - what is uploaded where, and how to get in
    url: str,
    repository: str,
    tag: str,
    children: Iterable[Child | str],
    *,
    docker: bool = False,
    credentials: tuple[str, str] | None = None,
    verify: str | bool = True,
) -> ImageIndex:
    """Make an index and upload it under a tag; children may be platforms to make images for.

    The other arguments are those of :func:`make_index` and :func:`upload`.
    """
    images = [
        make_image(child, docker=docker) if isinstance(child, str) else child for child in children
    ]
    index = make_index(images, docker=docker)
    upload(url, repository, index, reference=tag, credentials=credentials, verify=verify)
    return index


def _log_in(
    session: requests.Session, url: str, repository: str, credentials: tuple[str, str]
) -> None:
    """Log in where the registry asks for a password or for a token."""
    answer = session.get(f"{url}/v2/", timeout=_TIMEOUT_SECONDS)
    challenge = answer.headers.get("WWW-Authenticate", "")
    if challenge.startswith("Basic "):
        session.auth = credentials
    elif challenge:
        parts = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
        realm, scope = parts["realm"], f"repository:{repository}:pull,push"
        query = {"service": parts.get("service", ""), "scope": scope}
        reply = session.get(realm, params=query, auth=credentials, timeout=_TIMEOUT_SECONDS)
        reply.raise_for_status()
        token = reply.json().get("token") or reply.json()["access_token"]
        session.headers["Authorization"] = f"Bearer {token}"


def _put(session: requests.Session, root: str, item: Child, reference: str) -> None:
    """Upload what an item refers to, then the item."""
    if isinstance(item, Image):
        for content in item.blobs.values():
            path = f"{root}/blobs/uploads/"
            location = urljoin(path, _send(session, "POST", path).headers["Location"])
            joint = "&" if "?" in location else "?"
            _send(session, "PUT", f"{location}{joint}digest={digest_of(content)}", content)
    else:
        for child in item.children:
            _put(session, root, child, child.digest)
    _send(session, "PUT", f"{root}/manifests/{reference}", item.content, item.media_type)


def _send(
    session: requests.Session, method: str, url: str, content: bytes = b"", kind: str = _OCTETS
) -> requests.Response:
    headers = {"Content-Type": kind}
    answer = session.request(method, url, data=content, headers=headers, timeout=_TIMEOUT_SECONDS)
    answer.raise_for_status()
    return answer
