"""Who may do what: open to all, by password, or by token."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import secrets
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Literal, NamedTuple

from attrs import field, frozen

from pubtools_mlmerge.testing.dialects import Dialect, Right
from pubtools_mlmerge.testing.http import (
    Refused,
    RegistryError,
    Request,
    Response,
    json_response,
    refuse,
)

AuthMode = Literal["none", "token", "basic"]
_BASIC_CHALLENGE = {"WWW-Authenticate": 'Basic realm="registry"'}


class Token(NamedTuple):
    """The rights that a token gives, and until when."""

    rights: frozenset[Right]
    expires: float


@frozen(kw_only=True)
class Accounts:
    """The users, their passwords, and which repositories are theirs."""

    users: Mapping[str, str] = field(repr=False)
    public: tuple[str, ...]
    grants: Mapping[str, tuple[str, ...]] | None

    def allow(self, user: str, right: Right) -> bool:
        """Tell whether a user, or nobody in particular, has a right."""
        if right.action == "pull" and _matches(right.repository, self.public):
            return True
        if not user:
            return False
        return self.grants is None or _matches(right.repository, self.grants.get(user, ()))

    def login(self, request: Request) -> str:
        """Return the user of a request, empty if it names none; refuse a wrong password."""
        encoded = request.credentials("basic")
        if not encoded:
            return ""
        try:
            user, _, password = base64.b64decode(encoded).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise refuse(401, _unauthorized("malformed credentials")) from None
        expected = self.users.get(user)
        if expected is None or not secrets.compare_digest(expected.encode(), password.encode()):
            raise refuse(401, _unauthorized("invalid username or password"))
        return user


class Guard:
    """Lets requests pass, or answers which rights are missing."""

    def __init__(
        self,
        mode: AuthMode,
        dialect: Dialect,
        accounts: Accounts,
        token_seconds: int,
        clock: Callable[[], float],
    ) -> None:
        self._mode = mode
        self._dialect = dialect
        self._accounts = accounts
        self._token_seconds = token_seconds
        self._clock = clock
        self._tokens: dict[str, Token] = {}

    def has(self, request: Request, right: Right) -> bool:
        """Tell whether a request comes with a right."""
        if self._mode == "none":
            return True
        if self._mode == "basic":
            return self._accounts.allow(self._accounts.login(request), right)
        token = self._token(request)
        if token is None:
            return self._dialect.reads_without_token and self._accounts.allow("", right)
        return right in token.rights or Right(right.repository, "*") in token.rights

    def require(self, request: Request, rights: Iterable[Right]) -> None:
        """Refuse a request that lacks one of these rights, or any login where there are none."""
        needed = tuple(rights)
        if self._mode == "basic":
            self._require_password(request, needed)
        elif self._mode == "token":
            is_known = bool(needed) or self._token(request) is not None
            if not is_known or not all(self.has(request, right) for right in needed):
                raise self._challenge(request, needed)

    def issue(self, request: Request) -> tuple[Response, frozenset[Right]]:
        """Answer a request for a token, and return the rights that it has."""
        user = self._accounts.login(request)
        asked = [
            right
            for scope in request.parameters("scope")
            for right in self._dialect.rights_in(scope)
        ]
        granted = frozenset(right for right in asked if self._accounts.allow(user, right))
        token = secrets.token_urlsafe(24)
        now = self._clock()
        self._tokens[token] = Token(granted, now + self._token_seconds)
        issued = dt.datetime.fromtimestamp(now, dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        reply = self._dialect.token_reply(token, self._token_seconds, issued)
        return json_response(reply), granted

    def _token(self, request: Request) -> Token | None:
        token = self._tokens.get(request.credentials("bearer"))
        return token if token and token.expires > self._clock() else None

    def _require_password(self, request: Request, needed: tuple[Right, ...]) -> None:
        unauthorized = refuse(
            401, _unauthorized("authentication required"), headers=_BASIC_CHALLENGE
        )
        try:
            user = self._accounts.login(request)
        except Refused as refused:
            raise unauthorized from refused
        if all(self._accounts.allow(user, right) for right in needed) and (user or needed):
            return
        if user:
            raise refuse(403, RegistryError("DENIED", "requested access is denied"))
        raise unauthorized

    def _challenge(self, request: Request, needed: tuple[Right, ...]) -> Refused:
        host = request.base_url.partition("://")[2]
        challenge = f'Bearer realm="{request.base_url}{self._dialect.token_path}",service="{host}"'
        names = dict.fromkeys(right.repository for right in needed)
        scopes = [
            f"repository:{name}:" + ",".join(r.action for r in needed if r.repository == name)
            for name in names
        ]
        if scopes:
            challenge += f',scope="{" ".join(scopes)}"'
        if self._token(request):
            challenge += ',error="insufficient_scope"'
        elif request.credentials("bearer"):
            challenge += ',error="invalid_token"'
        detail = [
            {"Type": "repository", "Class": "", "Name": right.repository, "Action": right.action}
            for right in needed
        ]
        error = _unauthorized("authentication required", detail)
        return refuse(401, error, headers={"WWW-Authenticate": challenge})


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _unauthorized(message: str, detail: object = None) -> RegistryError:
    return RegistryError("UNAUTHORIZED", message, detail)
