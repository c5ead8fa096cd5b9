"""Access: requests to repositories, on whichever host they are."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from functools import partial

from attrs import field, frozen

from pubtools_mlmerge.addresses import Address
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.credentials import find_credentials
from pubtools_mlmerge.errors import InvalidReference
from pubtools_mlmerge.exchange import Answer, Options, Request
from pubtools_mlmerge.hosts import Host
from pubtools_mlmerge.registry import Link
from pubtools_mlmerge.tokens import Credentials, Scope
from pubtools_mlmerge.transport import Transport


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
    options: Options
    credentials: Credentials | None

    @property
    def url(self) -> str:
        """Scheme and host."""
        return f"{'http' if self.is_plain else 'https'}://{self.host}"


class Access:
    """Sends calls to the registries that references name; safe from several threads.

    Args:
        credentials (Credentials | None):
            Who asks; none to look into the auth files of container tools when challenged.
        host (str | None):
            Where to connect, whatever host references name; none for the host of each reference.
        options (Options):
            How to connect.
    """

    def __init__(self, credentials: Credentials | None, host: str | None, options: Options) -> None:
        self._credentials = credentials
        self._host_name = host
        self._options = options
        self._transport = Transport(options)
        self._lock = threading.Lock()
        self._hosts: dict[str, Host] = {}

    @property
    def count(self) -> int:
        """How many requests were sent, those for tokens included."""
        return self._transport.count

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def place(self, reference: Reference) -> Place:
        """Tell where a reference is really looked up.

        Args:
            reference (Reference):
                The reference.

        Returns:
            Place: The host, and how to talk to it.
        """
        host = self._host(reference)
        return Place(host.name, host.is_plain, self._options, self._credentials)

    def link(self, reference: Reference) -> Link:
        """Tell where a reference is read from, see `Registry.link`."""
        host = self._host(reference)
        return Link(self.place(reference).url, host.is_plain or host.is_new)

    def send(self, call: Call) -> Answer:
        """Carry out a call.

        Args:
            call (Call):
                The call.

        Returns:
            Answer: A success.

        Raises:
            RegistryError: When the registry refuses or cannot be asked.
        """
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
        """Tell what will be done, so that each registry is asked for one token instead of several.

        Args:
            pull (Iterable[Reference]):
                What will be read.
            push (Iterable[Reference]):
                What will be written. Some registries create a repository when asked for this.
        """
        wanted: dict[Host, dict[str, Scope]] = {}
        for reference in pull:
            scopes = wanted.setdefault(self._host(reference), {})
            scopes.setdefault(reference.repository, Scope(reference.repository))
        for reference in push:
            scopes = wanted.setdefault(self._host(reference), {})
            scopes[reference.repository] = Scope(reference.repository, push=True)
        for host, scopes in wanted.items():
            host.intend(scopes.values())

    def _host(self, reference: Reference) -> Host:
        name = self._host_name or reference.host
        if not name:
            raise InvalidReference(str(reference), "it names no host, and no other one is given")
        with self._lock:
            if name not in self._hosts:
                address = Address.parse(name, prefers_tls=self._options.prefers_tls)
                find = partial(self._find_credentials, address.host, reference)
                has_login = self._credentials is not None
                self._hosts[name] = Host(address, self._transport, find, has_login=has_login)
            return self._hosts[name]

    def _find_credentials(self, host: str, reference: Reference) -> Credentials | None:
        return self._credentials or find_credentials(host, reference.repository)
