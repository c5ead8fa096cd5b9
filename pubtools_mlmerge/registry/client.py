"""The client of any registry that speaks the OCI distribution protocol."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property, partial
from typing import TypeVar
from urllib.parse import quote, urljoin

from attrs import evolve
from requests.exceptions import ChunkedEncodingError

from pubtools_mlmerge.core.manifests import (
    MANIFEST_TYPES,
    DigestCheck,
    Image,
    Manifest,
    check_digest,
    digest_of,
    read_manifest,
)
from pubtools_mlmerge.core.references import (
    Address,
    Reference,
    is_registered_digest,
    lacks_host,
    registry_of,
)
from pubtools_mlmerge.core.strict_json import decode, encode
from pubtools_mlmerge.errors import (
    Forbidden,
    InvalidIndex,
    NotAnIndex,
    RegistryError,
    Unauthorized,
    brief,
)
from pubtools_mlmerge.registry.auth import Credentials, RegistrySession, Scope, redact
from pubtools_mlmerge.registry.base import Registry, unless_absent
from pubtools_mlmerge.registry.credentials import AuthFiles, Certificates
from pubtools_mlmerge.registry.http import (
    Answer,
    ConnectOptions,
    Request,
    Stream,
    Transport,
)

ClientT = TypeVar("ClientT", bound="RegistryClient")

_ACCEPT = {"Accept": ", ".join(MANIFEST_TYPES)}
_CREATED, _NOT_FOUND = 201, 404
_SHOWN = 80  # bytes of an answer that is no manifest
_REFUSED_HEAD = frozenset({400, 403, _NOT_FOUND, 405, 501})


@contextmanager
def _explain_lacking_right(reference: Reference) -> Iterator[None]:
    """Say that the login is valid but may not write."""
    try:
        yield
    except (Unauthorized, Forbidden) as error:
        if isinstance(error, Unauthorized) and not error.logged_in:
            raise
        problem = f"this login may not write to the repository {reference.repository}"
        message = f"{problem}: {error.message}" if error.message else problem
        raise evolve(error, message=message) from error.__cause__


def _upload_of(answer: Answer) -> str:
    """Take the URL of an upload, which may be relative; empty if there is none."""
    with suppress(ValueError):
        location = answer.headers.get("Location", "")
        return urljoin(answer.url, location) if location else ""
    return ""


class RegistryClient(Registry):
    """A client of any registry, in the shape of the host's Quay client.

    Threads may share it. A login that is not given is looked up in the auth files of container
    tools, when a registry asks for one.

    Used as a context manager, it closes its connections at the end.

    Args:
        host (str | None):
            Where to connect (host, host:port or URL); none for the host of each reference.
        username (str | None):
            User name.
        password (str | None):
            Password.
        options (ConnectOptions | None):
            How to connect.
        login_from (str):
            Where user and password come from, for errors.

    Raises:
        ValueError: When the user name is a URL.
    """

    def __init__(
        self,
        host: str | None = None,
        *,
        username: str | None = None,
        password: str | None = None,
        options: ConnectOptions | None = None,
        login_from: str = "",
    ) -> None:
        if username and "://" in username:  # it would go to whatever the references name
            raise ValueError("the user name is a URL; the host is the first argument")
        self.username, self.password, self.host = username, password, host
        self.credentials: Credentials | None = None
        if username and password:
            self.credentials = Credentials(username, password, login_from)
        self.options = options or ConnectOptions()
        self.transport = Transport(self.options)
        self._lock = threading.Lock()
        self._sessions: dict[str, RegistrySession] = {}

    def __enter__(self: ClientT) -> ClientT:  # noqa: PYI019 - Self is of Python 3.11
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        for session in tuple(self._sessions.values()):  # another thread may add to them
            session.transport.close()
        self.transport.close()

    def get_manifest(
        self,
        image: str,
        raw: bool = False,  # noqa: FBT001, FBT002 - the host's signature
        media_type: str | None = None,
        return_headers: bool = False,  # noqa: FBT001, FBT002 - the host's signature
    ) -> object:
        """Read a manifest as the host's client does: as a dict, as text, or as text and headers.

        Raises:
            NotAnIndex: When the image holds another type than `media_type`.
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
        """Read a manifest, as `get_manifest` does, and return the digest of its content."""
        return digest_of(str(self.get_manifest(image, True, media_type)).encode("utf-8"))  # noqa: FBT003

    def upload_manifest(
        self,
        manifest: object,
        image: str,
        raw: bool = False,  # noqa: FBT001, FBT002 - the host's signature
    ) -> None:
        """Write a manifest: a dict as the host encodes it, or with `raw` text or bytes as they are.

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
        """Read a manifest in one request, see `Registry.pull`."""
        return self._pull(reference)[0]

    def _pull(self, reference: Reference) -> tuple[Manifest, Mapping[str, str]]:
        answer = self._get_manifest(reference)
        content_type = answer.headers.get("Content-Type")
        with self.withholding():
            try:
                return read_manifest(reference, answer.content, content_type), answer.headers
            except InvalidIndex as error:
                if answer.content.lstrip().startswith(b"{"):
                    raise
                words = brief(answer.content[:_SHOWN].decode("utf-8", "replace"))
                found = f"{content_type or 'an answer without content type'} {words!r}"
                advice = f"expected a manifest, found {found}: check the host, and any proxy"
                raise evolve(error, problem=f"{error.problem}; {advice}") from None

    @contextmanager
    def withholding(self) -> Iterator[None]:
        """Withhold what repeats a secret in the error of a document, which may quote its keys."""
        try:
            yield
        except NotAnIndex as error:
            raise evolve(error, media_type=self.withhold(error.media_type)) from None
        except InvalidIndex as error:
            path, problem = self.withhold(error.path), self.withhold(error.problem)
            raise evolve(error, path=path, problem=problem) from None

    def _get_manifest(self, reference: Reference) -> Answer:
        answer = self._send("GET", reference, f"manifests/{reference.target}", headers=_ACCEPT)
        announced = answer.headers.get("Docker-Content-Digest")
        check_digest(reference, answer.content, announced, answer.headers.get("Content-Type"))
        return answer

    def digest(self, reference: Reference) -> str | None:
        """Look up the digest by a HEAD request, by GET where that is refused."""
        return unless_absent(reference, self._digest_by_head)[0]

    def _digest_by_head(self, reference: Reference) -> str:
        """Send HEAD unless this registry refuses it, which shows once GET succeeds.

        Proxies and gateways refuse HEAD, or say 404; crane, docker and containerd use GET then.
        """
        session, path, stated = self.session(reference), f"manifests/{reference.target}", ""
        if session.answers_head is not False:
            try:
                head = self._send("HEAD", reference, path, headers=_ACCEPT)
            except RegistryError as refusal:
                is_absent = refusal.status == _NOT_FOUND
                if refusal.status not in _REFUSED_HEAD or (is_absent and session.answers_head):
                    raise
                found = digest_of(self._get_manifest(reference).content)
                session.answers_head = False
                return found
            session.answers_head = True
            stated = head.headers.get("Docker-Content-Digest", "")
        if stated.startswith("sha256:") and is_registered_digest(stated):
            return stated
        return digest_of(self._get_manifest(reference).content)

    def push(self, reference: Reference, manifest: Manifest, *, repeat: bool = True) -> str:
        """Write a manifest, see `Registry.push`."""
        with _explain_lacking_right(reference):
            answer = self._send(
                "PUT",
                reference,
                f"manifests/{reference.target}",
                headers={"Content-Type": manifest.media_type},
                content=manifest.content,
                repeatable=repeat,
            )
        stored = answer.headers.get("Docker-Content-Digest")
        check_digest(reference, manifest.content, stored)
        return manifest.digest

    def pull_config(self, reference: Reference, image: Image) -> Mapping[str, object]:
        """Read the config blob of an image, see `Registry.pull_config`."""
        blob = reference.at(image.config)
        answer = self._send("GET", blob, f"blobs/{image.config}")
        check_digest(blob, answer.content, None)
        with self.withholding():
            try:
                return decode(answer.content)
            except InvalidIndex as error:
                raise evolve(error, reference=str(blob)) from None

    def has_manifest(self, reference: Reference) -> bool:
        """Whether a manifest exists, see `Registry.digest`."""
        return self.digest(reference) is not None

    def mount_blob(self, reference: Reference, digest: str, source: str) -> bool:
        """Make a blob of another repository available in that of a reference.

        Returns:
            bool: False if the registry wants an upload (distribution-spec, "Mounting a blob").

        Raises:
            RegistryError: When the registry refuses or cannot be asked.
        """
        name = self._repository(reference, source)
        path = f"blobs/uploads/?mount={quote(digest)}&from={quote(name, safe='')}"
        answer = self._send("POST", reference, path, content=b"", mounts_from=source)
        if answer.status == _CREATED:
            return True
        # An upload was begun instead, and nobody will use it.
        self.cancel_upload(reference, _upload_of(answer))
        return False

    def has_blob(self, reference: Reference) -> bool:
        """Whether a repository has the blob of a digest, as far as its registry tells."""
        with suppress(RegistryError):
            return self._send("HEAD", reference, f"blobs/{reference.digest}").is_success
        return False

    def read_blob(self, reference: Reference, size: int) -> Iterator[bytes]:
        """Read a blob in parts; the last one is yielded only after the digest is checked.

        Raises:
            DigestMismatch: When the content has another digest.
            RegistryError: When it has another size, or cannot be read; it is not tried again.
        """
        check, path = DigestCheck(reference, reference.digest), f"blobs/{reference.digest}"
        answer = self._send("GET", reference, path, repeatable=False, is_streamed=True)
        last, count = b"", 0
        for part in answer.parts:
            if last:
                yield last
            last, count = part, count + len(part)
            check.update(part)
            if count > size:
                problem = f"the blob has more than the {size} bytes that its manifest states"
                raise RegistryError(str(reference), None, problem)
        if count < size:
            problem = f"{count} of {size} bytes came"
            raise RegistryError(str(reference), None, problem) from ChunkedEncodingError(problem)
        check.finish()
        if last:
            yield last

    def begin_upload(self, reference: Reference) -> str:
        """Begin an upload into a repository, and return its URL.

        Raises:
            RegistryError: When the login may not write, or the registry cannot be asked.
        """
        with _explain_lacking_right(reference):
            return _upload_of(self._send("POST", reference, "blobs/uploads/", content=b""))

    def finish_upload(self, reference: Reference, upload: str, content: bytes | Stream) -> None:
        """Send the blob of a digest in one request, which is not tried again."""
        if not upload:
            problem = "the registry gives no URL to upload to"
            raise RegistryError(str(reference), None, problem)
        url = f"{upload}{'&' if '?' in upload else '?'}digest={quote(reference.digest)}"
        self._send(
            "PUT",
            reference,
            url,
            headers={"Content-Type": "application/octet-stream"},
            content=content or b"",
            repeatable=False,
        )

    def cancel_upload(self, reference: Reference, upload: str) -> None:
        """Cancel an upload, if the registry can do that."""
        if upload:
            with suppress(RegistryError):
                self._send("DELETE", reference, upload, repeatable=False)

    def require_push(self, reference: Reference) -> None:
        """Make sure that the login may write to a repository, by an upload without content.

        Raises:
            RegistryError: When it may not, or the registry cannot be asked.
        """
        self.cancel_upload(reference, self.begin_upload(reference))

    def push_blob(self, reference: Reference, content: bytes) -> str:
        """Upload a small blob in one piece, and return its digest."""
        place = reference.at(digest_of(content))
        self.finish_upload(place, self.begin_upload(place), content)
        return place.digest

    def get(self, reference: Reference, path: str, headers: Mapping[str, str]) -> Answer:
        """Read a path below the repository of a reference, or one of the registry.

        Raises:
            RegistryError: When the registry refuses or cannot be asked.
        """
        return self._send("GET", reference, path, headers=headers)

    def intend(self, *, pull: Iterable[Reference] = (), push: Iterable[Reference] = ()) -> None:
        """Announce what will be read and written, see `Registry.intend`."""
        wanted: dict[RegistrySession, dict[str, Scope]] = {}
        for references, pushes in ((pull, False), (push, True)):
            for reference in references:
                name = self._repository(reference)
                wanted.setdefault(self.session(reference), {})[name] = Scope(name, push=pushes)
        for session, scopes in wanted.items():
            session.intend(scopes.values())

    def session(self, reference: Reference) -> RegistrySession:
        """Return the session with the registry that a reference is looked up in."""
        name = self.host or reference.host
        if not name:
            raise lacks_host(reference)
        with self._lock:
            if name not in self._sessions:
                address = Address.parse(name, prefers_tls=self.options.prefers_tls)
                address = evolve(address, host=registry_of(address.host))
                find = partial(self._find_credentials, address.host)
                say = partial(self._say_none_found, address.host)
                transport = self.transport
                if (own := self.certificates(address.host)) is not None:
                    contexts = own.contexts(address.host, verifies=not self.options.insecure)
                    transport = Transport(self.options, contexts, transport.shared)
                self._sessions[name] = RegistrySession(address, transport, find, say)
            return self._sessions[name]

    def certificates(self, host: str) -> Certificates | None:
        """Return the certificates for a registry, from the options or from certs.d."""
        options = self.options
        places = (directory / host for directory in options.certs_d)
        found = next(filter(os.path.isdir, places), None)
        if found is None and options.client is None:
            return None
        own = Certificates() if found is None else Certificates.read(found)
        return own.or_given(options.ca_bundle, options.client)

    def place(self, reference: Reference) -> Reference:
        """Return the reference as requested: the host to connect to, Docker Hub names in full."""
        return evolve(reference.resolved, host=self.session(reference).host).resolved

    def _repository(self, reference: Reference, name: str = "") -> str:
        """Name the repository of a reference, or another one there, as it is requested."""
        named = evolve(reference, repository=name or reference.repository)
        return self.place(named).repository

    def login(self, reference: Reference) -> Credentials | None:
        """Return the login for a repository: the one given, or one found since it was wanted."""
        scopes = frozenset({Scope(self._repository(reference))})
        return self.credentials or self.session(reference).known_login(scopes)

    def withhold(self, text: str) -> str:
        """Withhold a text that repeats a login, given or found, or a token."""
        for session in tuple(self._sessions.values()):
            text = session.secrets.withhold(text)
        return redact(text, self.credentials.secrets if self.credentials else ())

    @cached_property
    def _auth_files(self) -> AuthFiles:
        return AuthFiles(ends=self.options.ends)

    def _find_credentials(self, host: str, repository: str) -> Credentials | None:
        return self.credentials or self._auth_files.find(host, repository)

    def _say_none_found(self, host: str) -> str:
        return self._auth_files.say_none_found(host)

    def _send(  # noqa: PLR0913 - the parts of a request
        self,
        method: str,
        reference: Reference,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | Stream | None = None,
        mounts_from: str = "",
        repeatable: bool = True,
        is_streamed: bool = False,
    ) -> Answer:
        """Send a request for a path below the repository, or a Location that the registry gave."""
        repository = self._repository(reference)
        is_location = path.startswith(("/", "http://", "https://"))
        request = Request(
            method=method,
            url=path if is_location else f"/v2/{repository}/{path}",
            subject=str(reference),
            headers=headers or {},
            content=content,
            repeatable=repeatable,
            is_streamed=is_streamed,
        )
        scopes = {Scope(repository, push=method not in ("GET", "HEAD"))}
        if mounts_from not in ("", reference.repository):
            scopes.add(Scope(self._repository(reference, mounts_from)))
        return self.session(reference).send(request, frozenset(scopes))
