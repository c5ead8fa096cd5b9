"""Image references: host, repository, tag and digest."""

from __future__ import annotations

import re
from contextlib import suppress
from ipaddress import IPv6Address, ip_address
from urllib.parse import urlsplit

from attrs import evolve, field, frozen

from pubtools_mlmerge.errors import InvalidReference

# distribution-spec, "Pulling manifests": <name> and <reference>.
_REPOSITORY = re.compile(
    r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
)
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
# image-spec, "Content Descriptors", section "Digests".
_DIGEST = re.compile(r"[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+")
_REGISTERED = {
    "sha256": re.compile(r"[a-f0-9]{64}"),
    "sha512": re.compile(r"[a-f0-9]{128}"),
    "blake3": re.compile(r"[a-f0-9]{64}"),
}
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST = re.compile(
    rf"(?:{_LABEL}(?:\.{_LABEL})*|\[(?P<address>[0-9a-fA-F:.]+)\])(?::(?P<port>[0-9]{{1,5}}))?"
)
_LONGEST_NAME = 255  # host and repository together, as most clients limit them
_LAST_PORT = 65535
_BAD_TAG = "tag: expected 1 to 128 of A-Z a-z 0-9 _ . -"


def is_digest(text: str) -> bool:
    """Check for the form ``algorithm:encoded`` (image-spec, "Digests")."""
    return _DIGEST.fullmatch(text) is not None


def is_registered_digest(text: str) -> bool:
    """Check for a whole digest of a registered algorithm: sha256, sha512 or blake3."""
    algorithm, _, encoded = text.partition(":")
    form = _REGISTERED.get(algorithm)
    return form is not None and form.fullmatch(encoded) is not None


def is_host(text: str) -> bool:
    """Check for a host name or address with or without a port, such as ``[::1]:5000``."""
    found = _HOST.fullmatch(text)
    if found is None or not 0 < int(found["port"] or 1) <= _LAST_PORT:
        return False
    with suppress(ValueError):
        return found["address"] is None or IPv6Address(found["address"]) is not None
    return False


_DEFAULT_PORTS = (":443", ":80")
_HUB = "registry-1.docker.io"  # where the images of docker.io are
_HUB_NAMES = ("docker.io", "index.docker.io", _HUB)
_ONE_HOST = {
    **dict.fromkeys(("127.0.0.1", "[::1]"), "localhost"),
    **dict.fromkeys(_HUB_NAMES, "docker.io"),
}


def registry_of(host: str) -> str:
    """Return the host to connect to: Docker Hub's for docker.io, else the name itself."""
    return _HUB if host.lower().removesuffix(":443") in _HUB_NAMES else host


def _in_hub(repository: str) -> str:
    return f"library/{repository}" if repository and "/" not in repository else repository


@frozen
class Reference:
    """A place in a registry: ``host/repository:tag@digest``, tag or digest or both.

    Attributes:
        host (str): Host with its port; empty if the reference names none.
        repository (str): Repository below the host.
        tag (str): Tag; empty if there is none.
        digest (str): Digest; empty if there is none.
    """

    host: str
    repository: str
    tag: str = ""
    digest: str = ""

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read a reference.

        Nothing is filled in: no default host, no default tag. What would change the URL that the
        reference ends up in (``..``, ``?``, ``#``, ``%``, spaces) does not fit the grammar.

        Args:
            text (str): ``[host[:port]/]repository[:tag][@algorithm:encoded]``.

        Raises:
            InvalidReference: When the text does not fit the grammar.
        """
        scheme = re.match(r"[a-zA-Z][a-zA-Z+.-]*://", text)
        if scheme is not None:
            raise InvalidReference(text, f"leave out {scheme[0]}")
        rest, at, digest = text.partition("@")
        if at:
            _require(text, digest=digest)
        head, slash, tail = rest.rpartition("/")
        last, colon, tag = tail.partition(":")
        if colon and _TAG.fullmatch(tag) is None:
            raise InvalidReference(text, _BAD_TAG)
        if not tag and not digest:
            raise InvalidReference(text, "missing :tag or @digest")
        host, repository = _split_host(head + slash + last)
        if host and not is_host(host):
            raise InvalidReference(text, "host: expected a name or address, with or without a port")
        if _REPOSITORY.fullmatch(repository) is None:
            raise InvalidReference(text, "repository: expected lower-case parts joined by slashes")
        reference = cls(host, repository, tag, digest)
        if len(reference.name) > _LONGEST_NAME:
            raise InvalidReference(text, f"the name is longer than {_LONGEST_NAME} characters")
        return reference

    @property
    def target(self) -> str:
        """The digest if there is one, else the tag: what to request from the registry."""
        return self.digest or self.tag

    @property
    def name(self) -> str:
        """Host and repository."""
        return f"{self.host}/{self.repository}" if self.host else self.repository

    @property
    def resolved(self) -> Reference:
        """What to request, as ``docker.io/app`` is ``registry-1.docker.io/library/app``."""
        if registry_of(self.host) != _HUB:
            return self
        return evolve(self, host=_HUB, repository=_in_hub(self.repository))

    def at(self, digest: str) -> Reference:
        """Name a manifest of the same repository by digest.

        Raises:
            InvalidReference: When the digest does not have the form of its algorithm.
        """
        _require(f"{self.name}@{digest}", digest=digest)
        return evolve(self, tag="", digest=digest)

    def tagged(self, tag: str) -> Reference:
        """Name a tag of the same repository.

        Raises:
            InvalidReference: When the tag is malformed.
        """
        if _TAG.fullmatch(tag) is None:
            raise InvalidReference(f"{self.name}:{tag}", _BAD_TAG)
        return evolve(self, tag=tag, digest="")

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.name}{tag}{digest}"


def _require(text: str, digest: str) -> None:
    algorithm = digest.partition(":")[0]
    fits = is_registered_digest(digest) if algorithm in _REGISTERED else is_digest(digest)
    if not fits:
        raise InvalidReference(text, "digest: expected algorithm:encoded, in full length")


def _split_host(name: str) -> tuple[str, str]:
    """Split off the host: a first part that cannot begin a repository, or localhost."""
    first, slash, rest = name.partition("/")
    if slash and (
        any(c in first for c in ".:[]") or first == "localhost" or first != first.lower()
    ):
        return first, rest
    return "", name


def lacks_host(reference: Reference, otherwise: str = "") -> InvalidReference:
    """Make the error of a reference without a host; no registry is guessed."""
    example = evolve(reference, host="docker.io")
    problem = f"it names no host: write HOST/{reference}, such as {example} for Docker Hub"
    return InvalidReference(str(reference), problem + otherwise)


def one_name(reference: str) -> str:
    """Choose one spelling of a host, and of a repository on Docker Hub."""
    host, slash, rest = reference.partition("/")
    found = re.fullmatch(r"(\[.*\]|[^:]*)(:\d+)?", host.lower())
    if found is None or not slash:
        return reference
    port = "" if found[2] in (None, *_DEFAULT_PORTS) else found[2]
    name = _ONE_HOST.get(found[1], found[1]) + port
    return f"{name}/{_in_hub(rest) if name == 'docker.io' else rest}"


# Where to connect


@frozen
class Address:
    """A host with its port, and the schemes to try, in this order."""

    host: str
    schemes: tuple[str, ...] = field(converter=tuple[str, ...])

    @classmethod
    def parse(cls, text: str, *, prefers_tls: bool = False) -> Address:
        """Read a host, a host with a port, or a URL; plain http is for loopback or `http://`."""
        scheme, separator, rest = text.partition("://") if "://" in text else ("", "", text)
        host = rest.rstrip("/")
        _, at, address = rest.rpartition("@")
        shown = scheme + separator + address  # a login stays out of errors
        if at:
            raise InvalidReference(shown, "expected a host without user and password")
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
    """Whether a host, with or without a port, is this machine itself."""
    name = urlsplit(f"//{host}").hostname or ""
    with suppress(ValueError):
        return ip_address(name).is_loopback
    return name == "localhost"
