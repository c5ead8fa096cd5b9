"""The client of any registry that speaks the OCI distribution protocol."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from urllib.parse import quote

from attrs import evolve, field, frozen

from pubtools_mlmerge.core.manifests import (
    MANIFEST_TYPES,
    Image,
    Manifest,
    check_digest,
    digest_of,
    read_manifest,
)
from pubtools_mlmerge.core.references import Reference, is_registered_digest
from pubtools_mlmerge.core.strict_json import decode, encode
from pubtools_mlmerge.errors import InvalidIndex, InvalidReference, NotAnIndex, RegistryError
from pubtools_mlmerge.registry.auth import Credentials, RegistrySession, Scope
from pubtools_mlmerge.registry.base import Link, Registry, suppress_absence
from pubtools_mlmerge.registry.credentials import find_credentials
from pubtools_mlmerge.registry.http import Address, Answer, ConnectOptions, Request, Transport


@frozen(kw_only=True, eq=False, repr=False)
class Call:
    """One request to the repository that a reference names.

    Attributes:
        method (str):
            HTTP method.
        reference (Reference):
            Names host and repository, and is what errors speak of.
        path (str):
            Path below the repository, or a Location that the registry gave.
        headers (Mapping[str, str]):
            Headers.
        content (bytes | None):
            Body to send.
        push (bool):
            Whether the right to write is needed.
        reads (tuple[str, ...]):
            Other repositories that are read.
        repeatable (bool):
            Whether it is sent again after a passing failure.
    """

    method: str
    reference: Reference
    path: str
    headers: Mapping[str, str] = field(factory=dict)
    content: bytes | None = None
    push: bool = False
    reads: tuple[str, ...] = ()
    repeatable: bool = True


@frozen(eq=False, repr=False)
class Place:
    """A host that is connected to, with what another program needs to do the same.

    Attributes:
        host (str):
            Host with its port.
        is_plain (bool):
            Whether it is spoken to over plain http.
        options (Options):
            How to connect.
        credentials (Credentials | None):
            The login that was given; none if it is left to the auth files.
    """

    host: str
    is_plain: bool
    options: ConnectOptions
    credentials: Credentials | None

    @property
    def url(self) -> str:
        """Scheme and host."""
        return f"{'http' if self.is_plain else 'https'}://{self.host}"


class Access:
    """Sends calls to the registries that references name; safe from several threads."""

    def __init__(
        self, credentials: Credentials | None, host: str | None, options: ConnectOptions
    ) -> None:
        self._credentials = credentials
        self._host_name = host
        self._options = options
        self._transport = Transport(options)
        self._lock = threading.Lock()
        self._hosts: dict[str, RegistrySession] = {}

    @property
    def count(self) -> int:
        """How many requests were sent, those for tokens included."""
        return self._transport.count

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def place(self, reference: Reference) -> Place:
        """Tell where a reference is really looked up."""
        host = self._host(reference)
        return Place(host.name, host.is_plain, self._options, self._credentials)

    def link(self, reference: Reference) -> Link:
        """Tell where a reference is read from, see `Registry.link`."""
        host = self._host(reference)
        return Link(self.place(reference).url, host.is_plain or host.is_new)

    def send(self, call: Call) -> Answer:
        """Carry out a call."""
        is_location = call.path.startswith(("/", "http://", "https://"))
        request = Request(
            method=call.method,
            url=call.path if is_location else f"/v2/{call.reference.repository}/{call.path}",
            subject=str(call.reference),
            headers=call.headers,
            content=call.content,
            repeatable=call.repeatable,
        )
        own = Scope(call.reference.repository, push=call.push)
        others = {Scope(repository) for repository in call.reads if repository != own.repository}
        return self._host(call.reference).send(request, frozenset({own, *others}))

    def intend(self, *, pull: Iterable[Reference] = (), push: Iterable[Reference] = ()) -> None:
        """Announce what will be done, so that each registry is asked for one token only."""
        wanted: dict[RegistrySession, dict[str, Scope]] = {}
        for reference in pull:
            scopes = wanted.setdefault(self._host(reference), {})
            scopes.setdefault(reference.repository, Scope(reference.repository))
        for reference in push:
            scopes = wanted.setdefault(self._host(reference), {})
            scopes[reference.repository] = Scope(reference.repository, push=True)
        for host, scopes in wanted.items():
            host.intend(scopes.values())

    def _host(self, reference: Reference) -> RegistrySession:
        name = self._host_name or reference.host
        if not name:
            raise InvalidReference(str(reference), "it names no host, and no other one is given")
        with self._lock:
            if name not in self._hosts:
                address = Address.parse(name, prefers_tls=self._options.prefers_tls)
                find = partial(self._find_credentials, address.host, reference)
                has_login = self._credentials is not None
                self._hosts[name] = RegistrySession(
                    address, self._transport, find, has_login=has_login
                )
            return self._hosts[name]

    def _find_credentials(self, host: str, reference: Reference) -> Credentials | None:
        return self._credentials or find_credentials(host, reference.repository)


_ACCEPT = {"Accept": ", ".join(MANIFEST_TYPES)}
_CREATED = 201


class RegistryClient(Registry):
    """A client of any registry, in the shape of the host's Quay client.

    It is safe from several threads, which share its connections and tokens. Credentials that are
    not given are looked up in the auth files of container tools, when a registry asks for them.

    Args:
        username (str | None):
            User name.
        password (str | None):
            Password.
        host (str | None):
            Where to connect (host, host:port or URL), whatever host references name; none to
            connect to the host of each reference.
        options (Options | None):
            How to connect.
    """

    def __init__(
        self,
        username: str | None = None,
        password: str | None = None,
        host: str | None = None,
        options: ConnectOptions | None = None,
    ) -> None:
        self.username, self.password, self.host = username, password, host
        credentials = Credentials(username, password) if username and password else None
        self._access = Access(credentials, host, options or ConnectOptions())

    @property
    def request_count(self) -> int:
        """How many requests were sent, those for tokens included."""
        return self._access.count

    def close(self) -> None:
        """Close the connections."""
        self._access.close()

    def get_manifest(
        self,
        image: str,
        raw: bool = False,  # noqa: FBT001, FBT002 - the host's signature
        media_type: str | None = None,
        return_headers: bool = False,  # noqa: FBT001, FBT002 - the host's signature
    ) -> object:
        """Read a manifest in the shapes that callers of the host's client know.

        Args:
            image (str):
                Reference.
            raw (bool):
                Whether to return text instead of a dict.
            media_type (str | None):
                The type that is expected; none for any.
            return_headers (bool):
                Whether to return raw text together with the headers of the answer.

        Returns:
            dict | str | tuple[str, Mapping[str, str]]: The manifest.

        Raises:
            NotAnIndex: When the image holds another type than the one expected.
            MergeError: As `pull` does.
        """
        reference = Reference.parse(image)
        found, headers = self._pull(reference)
        if media_type not in (None, found.media_type):
            raise NotAnIndex(image, found.media_type)
        if not raw:
            return json.loads(found.content)
        text = found.content.decode("utf-8")
        return (text, headers) if return_headers else text

    def get_manifest_digest(self, image: str, media_type: str | None = None) -> str:
        """Tell the digest of what a reference holds.

        Args:
            image (str):
                Reference.
            media_type (str | None):
                The type that is expected; none for any.

        Returns:
            str: The digest, computed from the content.

        Raises:
            MergeError: As `get_manifest` does.
        """
        return digest_of(str(self.get_manifest(image, True, media_type)).encode("utf-8"))  # noqa: FBT003

    def upload_manifest(
        self,
        manifest: object,
        image: str,
        raw: bool = False,  # noqa: FBT001, FBT002 - the host's signature
    ) -> None:
        """Write a manifest given in a shape that callers of the host's client know.

        Args:
            manifest (dict | str | bytes):
                The manifest; a dict is encoded as the host encodes.
            image (str):
                Reference.
            raw (bool):
                Whether it is text that goes up as it is.

        Raises:
            InvalidIndex: When it is neither an index nor an image.
            MergeError: As `push` does.
        """
        content = encode(manifest if isinstance(manifest, dict) else {})
        if raw:
            content = manifest if isinstance(manifest, bytes) else str(manifest).encode("utf-8")
        reference = Reference.parse(image)
        self.push(reference, read_manifest(reference, content, None))

    def pull(self, reference: Reference) -> Manifest:
        """Read what a reference holds in one request, see `Registry.pull`."""
        return self._pull(reference)[0]

    def _pull(self, reference: Reference) -> tuple[Manifest, Mapping[str, str]]:
        answer = self._access.send(_manifest_call("GET", reference))
        check_digest(reference, answer.content, answer.headers.get("Docker-Content-Digest"))
        content_type = answer.headers.get("Content-Type")
        return read_manifest(reference, answer.content, content_type), answer.headers

    def digest(self, reference: Reference) -> str | None:
        """Tell what a reference holds now, by a HEAD request, see `Registry.digest`."""
        with suppress_absence(reference):
            answer = self._access.send(_manifest_call("HEAD", reference))
            stated = answer.headers.get("Docker-Content-Digest", "")
            comparable = stated.startswith("sha256:") and is_registered_digest(stated)
            return stated if comparable else super().digest(reference)
        return None

    def push(self, reference: Reference, manifest: Manifest, *, repeat: bool = True) -> str:
        """Write a manifest, see `Registry.push`."""
        call = Call(
            method="PUT",
            reference=reference,
            path=f"manifests/{reference.target}",
            headers={"Content-Type": manifest.media_type},
            content=manifest.content,
            push=True,
            repeatable=repeat,
        )
        answer = self._access.send(call)
        stored = answer.headers.get("Docker-Content-Digest")
        check_digest(reference, manifest.content, stored)
        return manifest.digest

    def pull_config(self, reference: Reference, image: Image) -> Mapping[str, object]:
        """Read the config blob of an image, see `Registry.pull_config`."""
        blob = reference.at(image.config)
        answer = self._access.send(Call(method="GET", reference=blob, path=f"blobs/{image.config}"))
        check_digest(blob, answer.content, None)
        try:
            return decode(answer.content)
        except InvalidIndex as error:
            raise evolve(error, reference=str(blob)) from error

    def has_manifest(self, reference: Reference) -> bool:
        """Tell whether a manifest exists, by a HEAD request.

        Args:
            reference (Reference):
                Tag or digest.

        Returns:
            bool: False if the registry says that it does not.

        Raises:
            RegistryError: When the registry refuses otherwise or cannot be asked.
        """
        return self.digest(reference) is not None

    def mount_blob(self, reference: Reference, digest: str, source: str) -> bool:
        """Make a blob of one repository available in another one of the same registry.

        Args:
            reference (Reference):
                Any reference in the destination repository.
            digest (str):
                Digest of the blob.
            source (str):
                Repository that has it.

        Returns:
            bool: False if the registry wants an upload (distribution-spec, "Mounting a blob").

        Raises:
            RegistryError: When the registry refuses or cannot be asked.
        """
        path = f"blobs/uploads/?mount={quote(digest)}&from={quote(source, safe='')}"
        call = Call(
            method="POST", reference=reference, path=path, content=b"", push=True, reads=(source,)
        )
        answer = self._access.send(call)
        if answer.status == _CREATED:
            return True
        location = answer.headers.get("Location")
        if location:  # an upload was opened instead, which nobody will use
            cancel = Call(method="DELETE", reference=reference, path=location, push=True)
            with suppress(RegistryError):
                self._access.send(cancel)
        return False

    def place(self, reference: Reference) -> Place:
        """Tell where a reference is really looked up, see `Access.place`."""
        return self._access.place(reference)

    def link(self, reference: Reference) -> Link:
        """Tell where a reference is read from, see `Registry.link`."""
        return self._access.link(reference)

    def intend(self, *, pull: Iterable[Reference] = (), push: Iterable[Reference] = ()) -> None:
        """Tell what will be done, to be asked for one login, see `Access.intend`."""
        self._access.intend(pull=pull, push=push)


def _manifest_call(method: str, reference: Reference) -> Call:
    path = f"manifests/{reference.target}"
    return Call(method=method, reference=reference, path=path, headers=_ACCEPT)
