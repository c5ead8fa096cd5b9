"""Certificates of one registry: those in its directory of certs.d, and those of a client."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen
from urllib3.util.ssl_ import create_urllib3_context

from pubtools_mlmerge.errors import InvalidCredentials


@frozen
class Certificates:
    """Certificates for one registry, beside the usual authorities."""

    authorities: tuple[Path, ...] = ()
    clients: tuple[tuple[Path, Path], ...] = ()  # each with its key

    @classmethod
    def read(cls, directory: Path) -> Certificates:
        """Sort files as docker, podman and skopeo do: ``*.crt``, and ``*.cert`` with ``*.key``.

        Raises:
            InvalidCredentials: When a certificate of a client lacks its key.
        """
        try:
            files = sorted(directory.iterdir())
        except OSError:  # for others to read
            return cls()
        authorities = [file for file in files if file.suffix == ".crt"]
        clients = [file for file in files if file.suffix == ".cert"]
        pairs = [(client, client.with_suffix(".key")) for client in clients]
        for client, key in pairs:
            if key not in files:
                raise InvalidCredentials(str(client), f"there is no {key.name} beside it")
        return cls(tuple(authorities), tuple(pairs))

    def or_given(self, ca_bundle: str | None, client: tuple[str, str] | None) -> Certificates:
        """Use those of the options instead; a bundle replaces all authorities."""
        clients = ((Path(client[0]), Path(client[1])),) if client else self.clients
        return Certificates(() if ca_bundle else self.authorities, clients)

    def link(self, directory: Path) -> None:
        """Link all of them into a directory for another program; no key is copied."""
        for number, authority in enumerate(self.authorities):
            (directory / f"{number}.crt").symlink_to(authority.resolve())
        for number, pair in enumerate(self.clients):
            for file, kind in zip(pair, ("cert", "key")):
                (directory / f"{number}.{kind}").symlink_to(file.resolve())

    def contexts(self, host: str, *, verifies: bool) -> Iterator[tuple[str, ssl.SSLContext | None]]:
        """Make TLS contexts by URL prefix; None for the usual one.

        The http library adds the authorities that all registries have.
        """
        yield "http://", None
        yield "https://", self._context((), verifies=verifies) if self.authorities else None
        if self.clients:
            yield f"https://{host}/", self._context(self.clients, verifies=verifies)

    def _context(self, clients: tuple[tuple[Path, Path], ...], *, verifies: bool) -> ssl.SSLContext:
        needed = ssl.CERT_REQUIRED if verifies else ssl.CERT_NONE
        context = create_urllib3_context(cert_reqs=needed)
        for authority in self.authorities:
            with _explained(authority):
                context.load_verify_locations(authority)
        for client, key in clients:
            with _explained(client):
                context.load_cert_chain(client, key, password=str)  # asks nobody for one
        return context


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:  # such as that of the library for TLS
        problem = "cannot be read as a certificate, with its key where it is a client's"
        raise InvalidCredentials(str(path), problem) from error
