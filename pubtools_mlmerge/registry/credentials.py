"""Logins and certificates that container tools have configured for a registry.

Logins come from auth files (containers-auth.json, Docker's config.json) and from programs that
follow the protocol of docker-credential-helpers, certificates from directories in certs.d.
"""

from __future__ import annotations

import binascii
import json
import logging
import math
import os
import re
import ssl
import subprocess
import threading
import time
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from attrs import field, frozen
from urllib3.util.ssl_ import create_urllib3_context

from pubtools_mlmerge.concurrency import STOP
from pubtools_mlmerge.core.references import registry_of
from pubtools_mlmerge.errors import InvalidCredentials, brief
from pubtools_mlmerge.registry.auth import Credentials

LOG = logging.getLogger("pubtools.mlmerge")

_BLANK = "\0 \t\r\n"
_SHOWN = 5  # registries of a file that has no login
_PATIENCE = 60.0  # seconds; a helper may ask its user something
_HELPER = r"[A-Za-z0-9._-]+"
_NONE = "has none"
_NO_USER = "<token>"  # as helpers say that the secret is an identity token
_HUB_KEY = "https://index.docker.io/v1/"  # under which docker keeps the login for Docker Hub


class AuthFiles:
    """The logins of this user, each file and helper read once; safe from several threads."""

    def __init__(self, patience: float = _PATIENCE, ends: float = math.inf) -> None:
        self._patience, self._ends = patience, ends  # seconds for a helper, and when a run ends
        self._lock = threading.Lock()
        self._read = lru_cache(_File.read)
        self._answers: dict[tuple[str, str], Credentials | str] = {}

    def find(self, host: str, repository: str = "") -> Credentials | None:
        """Look for a login: in the first file that has one, by its most specific entry.

        Raises:
            InvalidCredentials: When a file is malformed.
        """
        with self._lock:
            found = (self._find(self._read(path), host, repository) for path in auth_files())
            return next(filter(None, found), None)

    def say_none_found(self, host: str) -> str:
        """Name the files that were searched for a login, their keys, and the helpers' answers."""
        with self._lock:
            files = ", ".join(self._read(path).state for path in auth_files())
            answers = [
                f", {answer}"
                for (_, server), answer in self._answers.items()
                if isinstance(answer, str) and _name(server).partition("/")[0] == _name(host)
            ]
        found = f"none was found: {files}{''.join(answers)}"
        return f"no login for {host} was given, and {found}"

    def _find(self, file: _File, host: str, repository: str) -> Credentials | None:
        names = _names(host, repository)
        for name in names:
            for key, helper in file.helpers.get(name, ()):
                if helper and (found := self._ask(file, str(helper), key)) is not None:
                    return found
            for key, entry in file.entries.get(name, ()):
                if (found := file.login(key, entry)) is not None:
                    return found
        if not file.store:
            return None
        key = _HUB_KEY if names[-1] == _name(_HUB_KEY) else host
        known = [key for key, _ in file.entries.get(names[-1], ())]
        return self._ask(file, file.store, next(iter(known), key))

    def _ask(self, file: _File, helper: str, server: str) -> Credentials | None:
        """Ask a helper, once; what it says besides a login is kept for an error."""
        if (helper, server) not in self._answers:
            patience = min(self._patience, max(0.0, self._ends - time.monotonic()))
            found = _ask_helper(helper, server, patience, file.shown)
            self._answers[helper, server] = found
            if isinstance(found, str) and not found.endswith(_NONE):
                LOG.warning("A login is not known: %s", found)
        answer = self._answers[helper, server]
        return answer if isinstance(answer, Credentials) else None


def auth_files() -> Iterator[Path]:
    """Name the files in which podman, buildah, skopeo and docker keep logins, in their order."""
    environment = {name: value for name, value in os.environ.items() if value}
    if "REGISTRY_AUTH_FILE" in environment:
        yield Path(environment["REGISTRY_AUTH_FILE"])
        return
    runtime = environment.get("XDG_RUNTIME_DIR", f"/run/containers/{os.getuid()}")
    is_own = "XDG_RUNTIME_DIR" in environment
    yield Path(runtime, "containers" if is_own else "", "auth.json")
    try:
        home = Path.home()
    except RuntimeError:  # a user without an entry in passwd, as in some containers
        home = Path("/")
    yield Path(environment.get("XDG_CONFIG_HOME", home / ".config")) / "containers" / "auth.json"
    yield Path(environment.get("DOCKER_CONFIG", home / ".docker")) / "config.json"


_ByName = Mapping[str, list[tuple[str, object]]]


@frozen
class _File:
    """The entries of an auth file, by normalised key."""

    path: Path
    entries: _ByName = field(factory=dict, repr=False)
    helpers: _ByName = field(factory=dict)
    store: str = ""
    exists: bool = False

    @classmethod
    def read(cls, path: Path) -> _File:
        """Read a file, if there is one; tools leave empty ones behind."""
        try:
            text = path.read_text(encoding="utf-8").strip(_BLANK)
            document: object = json.loads(text) if text else {}
        except (FileNotFoundError, NotADirectoryError):
            return cls(path)
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidCredentials(path.name, "cannot be read") from error
        except (ValueError, RecursionError) as error:
            raise InvalidCredentials(path.name, "is not JSON") from error
        fields = document if isinstance(document, dict) else {}
        entries, helpers = (_by_name(fields.get(part)) for part in ("auths", "credHelpers"))
        store = str(fields.get("credsStore") or "")
        return cls(path, entries, helpers, store, exists=True)

    @property
    def shown(self) -> str:
        """The path for a message, the home directory as a tilde."""
        try:
            return f"~/{self.path.relative_to(Path.home())}"
        except (ValueError, RuntimeError):
            return str(self.path)

    @property
    def state(self) -> str:
        """For which registries it has a login or a helper."""
        found = [*self.entries.values(), *self.helpers.values()]
        keys = [brief(key, 80) for key in dict.fromkeys(key for each in found for key, _ in each)]
        more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
        state = f"has {', '.join(keys[:_SHOWN])}{more}" if keys else "has none"
        return f"{self.shown} {state if self.exists else 'does not exist'}"

    def login(self, key: str, entry: object) -> Credentials | None:
        """Read an entry; docker leaves an empty one where a helper keeps the login."""
        fields: dict[str, object] = entry if isinstance(entry, dict) else {}
        name, place = self.path.name, f"{self.shown} ({brief(key, 80)})"
        # Beside a token the user means nothing and the password is empty.
        if fields.get("identitytoken"):
            return Credentials("", str(fields["identitytoken"]), place, is_token=True)
        if not fields.get("auth"):
            username, password = fields.get("username"), fields.get("password")
            is_whole = username and password
            return Credentials(str(username), str(password), place) if is_whole else None
        try:
            text = b64decode(str(fields["auth"])).decode("utf-8")
        except (binascii.Error, ValueError) as error:
            raise InvalidCredentials(name, f"the entry of {key} is not base64") from error
        username, colon, password = text.partition(":")
        if not colon:
            raise InvalidCredentials(name, f"the entry of {key} has no user and password")
        return Credentials(username, password.rstrip("\0"), place)


def _by_name(part: object) -> dict[str, list[tuple[str, object]]]:
    """Index a section by normalised key; a key already in that form comes first."""
    found: dict[str, list[tuple[str, object]]] = {}
    for key, value in part.items() if isinstance(part, dict) else ():
        name = _name(key)
        found.setdefault(name, []).insert(0 if key == name else len(found[name]), (key, value))
    return found


def _name(key: str) -> str:
    """Read a key as docker and skopeo do: after a scheme, a path does not count."""
    _, scheme, rest = key.rpartition("://")
    host, _, path = rest.strip("/").partition("/")
    is_host = scheme or path in ("", "v1", "v2")
    return registry_of(host).lower() + ("" if is_host else f"/{path}")


def _names(host: str, repository: str) -> list[str]:
    parts = [_name(host), *filter(None, repository.split("/"))]
    return ["/".join(parts[:length]) for length in range(len(parts), 0, -1)]


# Credential helpers


# Variables that hold our secrets, and values with a login, such as the URL of a Redis server.
_OURS = re.compile(r"MLMERGE_.*|.*QUAY_(PASSWORD|API_TOKEN)")
_URL_WITH_LOGIN = re.compile(r"\w://[^\s/@]*:[^\s/@]+@")


def environment_without(logins: Iterable[Credentials | None] = ()) -> dict[str, str]:
    """Return the environment of another program, without our passwords and tokens.

    It may need any other variable, and a proxy may need a login.
    """
    known = {secret for login in logins if login is not None for secret in login.secrets}
    return {
        name: value
        for name, value in os.environ.items()
        if value not in known
        and not _OURS.fullmatch(name)
        and (name.lower().endswith("_proxy") or not _URL_WITH_LOGIN.search(value))
    }


def _ask_helper(helper: str, server: str, patience: float, place: str) -> Credentials | str:
    """Ask a helper for a login; return it, or a description of the failure without its output."""
    if re.fullmatch(_HELPER, helper) is None:
        return f"{place} names a credential helper by other characters than A-Z a-z 0-9 . _ -"
    program = f"docker-credential-{helper}"
    asked = f"{program} for {brief(server, 80)}"
    try:
        done = STOP.run(
            [program, "get"], environment_without(), server, end=time.monotonic() + patience
        )
    except subprocess.TimeoutExpired:
        return f"{asked} gave no answer within {patience:g} seconds"
    except OSError as error:
        return f"{asked} cannot be run ({error.strerror})"
    if done.returncode:
        is_absent = "not found" in done.stdout.lower()
        return f"{asked} {_NONE if is_absent else f'failed (exit code {done.returncode})'}"
    return _read_reply(done.stdout, f"{place} ({asked})") or f"{asked} {_NONE}"


def _read_reply(text: str, place: str) -> Credentials | None:
    """Read what a helper found."""
    try:
        reply: object = json.loads(text)
    except (ValueError, RecursionError):
        return None
    fields = reply if isinstance(reply, dict) else {}
    username, secret = (str(fields.get(part) or "") for part in ("Username", "Secret"))
    if username == _NO_USER:
        return Credentials("", secret, place, is_token=True) if secret else None
    return Credentials(username, secret, place) if secret else None


# Certificates


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
