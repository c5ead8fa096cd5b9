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

from pubtools_mlmerge.testing.dialects import Dialect
from pubtools_mlmerge.testing.http import (
    JSON_TYPE,
    Refused,
    RegistryError,
    Request,
    Response,
    json_response,
    refuse,
)

AuthMode = Literal["none", "token", "basic"]
ACTIONS = frozenset({"pull", "push", "*"})


class Right(NamedTuple):
    """The right to do one thing in one repository."""

    repository: str
    action: str


class Token(NamedTuple):
    """What a token is good for, and until when."""

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
        """Return the user that a request names, with the right password, if any."""
        encoded = _credentials(request, "basic")
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
    """Lets requests pass, or tells them what is missing."""

    def __init__(
        self,
        mode: AuthMode,
        dialect: Dialect,
        accounts: Accounts,
        token_seconds: int,
        clock: Callable[[], float],
    ) -> None:
        """Begin with no token issued."""
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
        """Refuse a request that comes without one of these rights."""
        needed = tuple(rights)
        if self._mode == "basic":
            self._require_password(request, needed)
        elif self._mode == "token" and not self._passes(request, needed):
            raise self._challenge(request, needed)

    def root_headers(self, request: Request) -> Mapping[str, str]:
        """Return the headers of the answer at the root."""
        if self._mode == "token" and self._dialect.always_challenges:
            return {"WWW_Authenticate": self._realm(request)}
        return {}

    def issue(self, request: Request) -> tuple[Response, frozenset[Right]]:
        """Answer a request for a token, and return the rights that it has."""
        user = self._accounts.login(request)
        asked = [right for scope in request.parameters("scope") for right in self._rights(scope)]
        granted = frozenset(right for right in asked if self._accounts.allow(user, right))
        text = secrets.token_urlsafe(24)
        now = self._clock()
        self._tokens[text] = Token(granted, now + self._token_seconds)
        reply: dict[str, object] = {"token": text}
        if self._dialect.states_token_life:
            issued = dt.datetime.fromtimestamp(now, dt.timezone.utc)
            reply["access_token"] = text
            reply["expires_in"] = self._token_seconds
            reply["issued_at"] = issued.strftime("%Y-%m-%dT%H:%M:%SZ")
        return json_response(reply), granted

    def _rights(self, scope: str) -> list[Right]:
        """Read one scope parameter; a strict dialect takes one scope in each."""
        rights: list[Right] = []
        for text in scope.split(" "):
            kind, _, rest = text.partition(":")
            name, _, actions = rest.rpartition(":")
            if kind == "repository" and name:
                rights += [Right(name, action) for action in actions.split(",")]
            strict = self._dialect.strict_scopes
            if strict and (" " in scope or not {right.action for right in rights} <= ACTIONS):
                problem = RegistryError("INVALID_REQUEST", f"cannot decode the scope {scope}")
                raise refuse(400, problem)
        return rights

    def _token(self, request: Request) -> Token | None:
        token = self._tokens.get(_credentials(request, "bearer"))
        return token if token and token.expires > self._clock() else None

    def _passes(self, request: Request, needed: tuple[Right, ...]) -> bool:
        if not needed:
            return self._token(request) is not None
        return all(self.has(request, right) for right in needed)

    def _require_password(self, request: Request, needed: tuple[Right, ...]) -> None:
        challenge = 'Basic realm="registry"'
        try:
            user = self._accounts.login(request)
        except Refused as refused:
            error = _unauthorized("authentication required")
            raise refuse(401, error, WWW_Authenticate=challenge) from refused
        if all(self._accounts.allow(user, right) for right in needed) and (user or needed):
            return
        if user:
            raise refuse(403, RegistryError("DENIED", "requested access is denied"))
        raise refuse(401, _unauthorized("authentication required"), WWW_Authenticate=challenge)

    def _realm(self, request: Request) -> str:
        host = request.base_url.partition("://")[2]
        path = self._dialect.token_path
        return f'Bearer realm="{request.base_url}{path}",service="{host}"'

    def _challenge(self, request: Request, needed: tuple[Right, ...]) -> Refused:
        challenge = self._realm(request)
        names = dict.fromkeys(right.repository for right in needed)
        scopes = [
            f"repository:{name}:" + ",".join(r.action for r in needed if r.repository == name)
            for name in names
        ]
        if scopes:
            challenge += f',scope="{" ".join(scopes)}"'
        if self._token(request):
            challenge += ',error="insufficient_scope"'
        elif _credentials(request, "bearer"):
            challenge += ',error="invalid_token"'
        if not needed and self._dialect.root_refusal:
            headers = {"WWW-Authenticate": challenge, "Content-Type": JSON_TYPE}
            return Refused(Response(status=401, headers=headers, body=self._dialect.root_refusal))
        detail = [
            {"Type": "repository", "Class": "", "Name": right.repository, "Action": right.action}
            for right in needed
        ]
        error = _unauthorized("authentication required", detail)
        return refuse(401, error, WWW_Authenticate=challenge)


def _credentials(request: Request, scheme: str) -> str:
    """Return what the Authorization header holds for a scheme, or nothing."""
    given, _, credentials = request.headers.get("authorization", "").partition(" ")
    return credentials.strip() if given.lower() == scheme else ""


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _unauthorized(message: str, detail: object = None) -> RegistryError:
    return RegistryError("UNAUTHORIZED", message, detail or {})
