"""Addresses: where a registry is reached, and whether plain http will do."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from attrs import field, frozen

from pubtools_mlmerge.core.references import is_host
from pubtools_mlmerge.errors import InvalidReference


def _strings(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(values)


@frozen
class Address:
    """Where to connect.

    Attributes:
        host (str):
            Host with its port.
        schemes (tuple[str, ...]):
            ``https``, ``http``, or both in the order in which they are tried.
    """

    host: str
    schemes: tuple[str, ...] = field(converter=_strings)

    @classmethod
    def parse(cls, text: str, *, prefers_tls: bool = False) -> Address:
        """Read a host, a host with a port, or a URL.

        Plain http is used for an explicit ``http://`` only, and tried on the loopback interface.

        Args:
            text (str):
                Such as ``quay.io``, ``127.0.0.1:5000`` or ``http://registry.test``.
            prefers_tls (bool):
                Whether https is tried first on the loopback interface, too.

        Returns:
            Address: The address.

        Raises:
            InvalidReference: When it is none of these, or the URL has a path or credentials.
        """
        scheme, separator, rest = text.partition("://") if "://" in text else ("", "", text)
        host = rest.rstrip("/")
        shown = scheme + separator + rest.rpartition("@")[2]  # a login stays out of errors
        if separator and scheme not in ("http", "https"):
            raise InvalidReference(shown, "expected http:// or https://")
        if not is_host(host):
            raise InvalidReference(shown, "expected a host with an optional port")
        if separator:
            return cls(host, [scheme])
        if not is_loopback(host):
            return cls(host, ["https"])
        return cls(host, ["https", "http"] if prefers_tls else ["http", "https"])


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine itself.

    Args:
        host (str):
            Host with an optional port.

    Returns:
        bool: True for localhost and the loopback addresses.
    """
    name = urlsplit(f"//{host}").hostname or ""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def origin(url: str) -> tuple[str, str, int | None]:
    """Take scheme, host and port of a URL: what credentials are bound to.

    Args:
        url (str):
            An absolute URL.

    Returns:
        tuple[str, str, int | None]: With the default port written out.

    Raises:
        ValueError: When the URL is malformed.
    """
    if "\\" in url:  # here it is part of the host, for the http library it ends the host
        raise ValueError("a URL has no backslash")
    parts = urlsplit(url)
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    return parts.scheme, (parts.hostname or "").lower(), port
