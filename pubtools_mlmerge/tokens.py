"""Tokens: rights to repositories, as a registry's authorization server grants them.

The protocol is distribution's "Token Authentication Specification".
"""

from __future__ import annotations

import json
import re
import threading
import time
from base64 import b64encode
from urllib.parse import urlencode

from attrs import field, frozen

from pubtools_mlmerge.addresses import origin
from pubtools_mlmerge.challenges import Challenge
from pubtools_mlmerge.errors import RegistryError, Unauthorized
from pubtools_mlmerge.exchange import Answer, Request
from pubtools_mlmerge.failures import failure
from pubtools_mlmerge.transport import Transport

_SHORTEST_LIFE = 60  # seconds; also what a server that states none means
_LONGEST_LIFE = 24 * 60 * 60
_MARGIN = 5  # seconds before its end that a token is not used any more
_LARGEST_REPLY = 64 * 1024
# Printable ASCII but the backslash, which is in no token (RFC 6750, section 2.1, "b64token").
_ALLOWED = r"[ -\[\]-~]+"


@frozen
class Credentials:
    """A user name and a password.

    Attributes:
        username (str):
            The user name.
        password (str):
            The password; in no representation of the object.
    """

    username: str
    password: str = field(repr=False)

    @property
    def basic(self) -> str:
        """The Authorization header of the Basic scheme (RFC 7617)."""
        return f"Basic {b64encode(f'{self.username}:{self.password}'.encode()).decode()}"

    @property
    def encoded(self) -> tuple[str, ...]:
        """User name and password as a header has them, and without padding, which tells nothing."""
        text = self.basic.partition(" ")[2]
        return text, text.rstrip("=")

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not show up anywhere."""
        return *self.encoded, self.password


@frozen(order=True)
class Scope:
    """A right to a repository.

    Attributes:
        repository (str):
            The repository.
        push (bool):
            Whether it may be written, too.
    """

    repository: str
    push: bool = False

    def __str__(self) -> str:
        """Write the scope as the authorization server reads it."""
        return f"repository:{self.repository}:{'pull,push' if self.push else 'pull'}"

    def covers(self, other: Scope) -> bool:
        """Tell whether this right includes another one."""
        return self.repository == other.repository and self.push >= other.push


@frozen(eq=False, repr=False)
class _Token:
    header: str
    expires: float


class Tokens:
    """Fetches tokens and keeps them as long as they live; safe from several threads.

    Args:
        transport (Transport):
            Sends the requests.
        registry (str):
            URL of the registry that the tokens are for.
    """

    def __init__(self, transport: Transport, registry: str) -> None:
        self._transport = transport
        self._registry = registry
        self._lock = threading.Lock()
        self._fetching: dict[frozenset[Scope], threading.Lock] = {}
        self._tokens: dict[frozenset[Scope], _Token] = {}

    def header(
        self,
        challenge: Challenge,
        scopes: frozenset[Scope],
        credentials: Credentials | None,
        rejected: str | None = None,
    ) -> str:
        """Give an Authorization header for these scopes.

        Args:
            challenge (Challenge):
                What the registry answered.
            scopes (frozenset[Scope]):
                The rights to ask for, in one request.
            credentials (Credentials | None):
                Who asks; none for anonymous.
            rejected (str | None):
                A header that the registry did not take, which is not given again.

        Returns:
            str: The header.

        Raises:
            RegistryError: When the server refuses, or must not be trusted with credentials.
        """
        with self._lock:
            fetching = self._fetching.setdefault(scopes, threading.Lock())
        with fetching:  # threads that want the same token wait for one request
            token = self._tokens.get(scopes)
            if token is None or token.header == rejected or token.expires <= time.monotonic():
                token = self._fetch(challenge, scopes, credentials)
                self._tokens[scopes] = token
            return token.header

    def secrets(self) -> list[str]:
        """List what must not show up anywhere.

        Returns:
            list[str]: The tokens fetched so far.
        """
        return [token.header.partition(" ")[2] for token in list(self._tokens.values())]

    def _fetch(
        self, challenge: Challenge, scopes: frozenset[Scope], credentials: Credentials | None
    ) -> _Token:
        realm = challenge.parameters.get("realm", "")
        repositories = ", ".join(sorted(scope.repository for scope in scopes))
        subject = f"login to {self._registry.partition('://')[2].rstrip('/')} for {repositories}"
        self._check_realm(realm, subject)
        query = [("scope", str(scope)) for scope in sorted(scopes)]
        if "service" in challenge.parameters:
            query.insert(0, ("service", challenge.parameters["service"]))
        url = f"{realm}{'&' if '?' in realm else '?'}{urlencode(query)}"
        headers = {"Authorization": credentials.basic} if credentials else {}
        asked = time.monotonic()
        request = Request(
            method="GET", url=url, subject=subject, headers=headers, limit=_LARGEST_REPLY
        )
        answer = self._transport.send(request)
        if not answer.is_success:
            answer = answer.without(credentials.secrets if credentials else ())
            raise failure(subject, answer.status, answer.content) from answer.as_http_error()
        return _read(answer, subject, asked)

    def _check_realm(self, realm: str, subject: str) -> None:
        """Refuse to send a login in the clear where the registry itself is not."""
        try:
            scheme, host, _ = origin(realm)
        except ValueError:
            scheme, host = "", ""
        if not host or scheme not in ("http", "https"):
            raise Unauthorized(subject, 401, "the registry names no place to log in")
        if scheme == "http" and origin(self._registry)[0] != "http":
            raise Unauthorized(subject, 401, "the registry wants the login over plain http")


def _read(answer: Answer, subject: str, asked: float) -> _Token:
    try:
        reply: object = json.loads(answer.content)
    except (ValueError, RecursionError) as error:
        raise RegistryError(subject, answer.status, "the login answer is not JSON") from error
    fields = reply if isinstance(reply, dict) else {}
    token = fields.get("token") or fields.get("access_token")
    if not isinstance(token, str) or re.fullmatch(_ALLOWED, token) is None:
        raise RegistryError(subject, answer.status, "the login answer holds no token")
    life = fields.get("expires_in")
    # Written so that NaN, too, counts as nothing stated.
    if not (isinstance(life, (int, float)) and _SHORTEST_LIFE <= life <= _LONGEST_LIFE):
        life = _SHORTEST_LIFE
    return _Token(f"Bearer {token}", asked + life - _MARGIN)
