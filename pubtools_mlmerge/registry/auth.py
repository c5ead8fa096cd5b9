"""The session with a registry, and its parts: each has a heading, and the session comes last.

`RegistrySession.send` is what clients call. It finds out how to log in (challenges), with which
user (logins), asks for what is needed (rights, tokens), and turns a refusal into an error that
shows no secret.
"""

from __future__ import annotations

import json
import re
import threading
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from html import unescape
from typing import Optional
from urllib.parse import unquote, unquote_plus, urlencode

from attrs import evolve, field, frozen
from requests.structures import CaseInsensitiveDict

from pubtools_mlmerge.core.references import Address, Reference
from pubtools_mlmerge.errors import (
    Forbidden,
    ImmutableTag,
    InvalidReference,
    MissingChild,
    NotFound,
    RegistryError,
    Unauthorized,
)
from pubtools_mlmerge.registry.http import (
    TRANSIENT,
    Answer,
    Request,
    Transport,
    origin,
)

# Refusals: what the answer of a registry means

_BAD_REQUEST, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 400, 401, 403, 404
_DIGEST = r"sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128}"
_ABSENT = frozenset({"MANIFEST_UNKNOWN", "NAME_UNKNOWN", "TAG_EXPIRED", "BLOB_UNKNOWN"})
_IMMUTABLE = frozenset({"TAG_IMMUTABLE", "TAG_ALREADY_EXISTS", "PRECONDITION"})
# Artifact Registry (with MANIFEST_INVALID); ECR and Alibaba.
_SAYS_IMMUTABLE = re.compile(
    r"(?i)has enabled tag immutability|already exists\b.{0,80}\bcannot be overwritten"
)
_MOST_TEXT = 64 * 1024  # bytes of an error body that are looked at


def failure(reference: str, status: int, body: bytes = b"") -> RegistryError:
    """Turn a refusal into the error that a caller may handle."""
    text = body[:_MOST_TEXT].decode("utf-8", "replace")
    codes, messages = _read(text)
    message = redact("; ".join(dict.fromkeys(messages)) or ("" if "<" in text else text))
    # The code of distribution, and the words of Quay.
    in_quays_words = status == _BAD_REQUEST and "child manifest" in text
    if "MANIFEST_BLOB_UNKNOWN" in codes or (in_quays_words and "MANIFEST_INVALID" in codes):
        digests = tuple(dict.fromkeys(re.findall(_DIGEST, text)))
        return MissingChild(reference, status, message, digests)
    return _kind(status, codes, message)(reference, status, message)


def _joined(problem: str, words: str) -> str:
    """Put our words before those of the registry, of which either may be missing."""
    return ": ".join(filter(None, (problem, words)))


def _kind(status: int, codes: set[str], message: str) -> type[RegistryError]:
    if status == _UNAUTHORIZED:
        return Unauthorized
    # Repositories and annotations may have the word in them: it counts where a PUT is refused,
    # and not where the answer quotes the document or says that there is nothing.
    said = "immutable" in message.lower() and not codes & {"MANIFEST_INVALID", *_ABSENT}
    said = said or _SAYS_IMMUTABLE.search(message) is not None
    said = said or (status == 405 and "DENIED" in codes)  # noqa: PLR2004 - a lock of Azure's
    if status in (409, 412) or codes & _IMMUTABLE or (said and status != _NOT_FOUND):
        return ImmutableTag
    if status == _FORBIDDEN or "DENIED" in codes:
        return Forbidden
    return NotFound if status == _NOT_FOUND or codes & _ABSENT else RegistryError


def _read(text: str) -> tuple[set[str], list[str]]:
    """Collect the codes and the messages of the standard error document, if it is one."""
    try:
        document: object = json.loads(text)
    except (ValueError, RecursionError):
        return set(), []
    listed = document.get("errors") if isinstance(document, dict) else None
    codes, messages = set(), []
    for error in listed if isinstance(listed, list) else ():
        if isinstance(error, dict):
            detail, code = error.get("detail"), str(error.get("code", ""))
            inner = detail.get("message") if isinstance(detail, dict) else None
            found = [text for text in (error.get("message"), inner) if isinstance(text, str)]
            codes.add(code)
            messages += [*filter(None, found)] or [code]
    return codes, messages


# Secrets: a text of a registry that shows one is withheld

WITHHELD = "(text withheld, as it repeats a password or a token)"
# An Authorization header, whose secret need not be known here.
_LOGIN = re.compile(r"(?i)\b(basic|bearer)[ +:]+[\w.~+/-]{16,}=*")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_SHORTEST = 6  # characters of base64 that are not in a text by chance
_LONGEST_END = 32


class Secrets:
    """Texts that must not show up. A search takes no longer for thousands of them.

    Of long ones only the ends are looked for; those of tokens are as random as the whole.
    """

    def __init__(self, texts: Iterable[str] = (), beside: Secrets | None = None) -> None:
        self.ends: dict[int, Counter[str]] = {}  # by their length
        self._lock = threading.Lock()
        self._beside = beside
        for text in texts:
            self.add(text)

    def add(self, text: str, replaced: str = "") -> None:
        """Look for one more, and no longer for the one that it replaces."""
        with self._lock:
            for end in _ends(text):
                self.ends.setdefault(len(end), Counter())[end] += 1
            for end in _ends(replaced):
                self.ends[len(end)][end] -= 1
                if not self.ends[len(end)][end]:
                    del self.ends[len(end)][end]

    def shown_in(self, text: str) -> bool:
        """Whether one is in a text: as it is, in base64, or escaped in JSON, HTML or a URL."""
        known = [*self.ends.items(), *(self._beside.ends.items() if self._beside else ())]
        readings = {text} if known else set()
        for _ in range(2):  # such as JSON within JSON
            readings |= {read(each) for each in readings for read in _READERS}
        return any(_are_in(reading, *each) for reading in readings for each in known)

    def withhold(self, text: str) -> str:
        """Withhold a text that shows one, and blank in any other what looks like a login."""
        return WITHHELD if self.shown_in(text) else _LOGIN.sub(r"\1 ***", text)


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Withhold a text that shows a secret, see `Secrets.withhold`."""
    return Secrets(secrets).withhold(text)


def _are_in(text: str, length: int, ends: Mapping[str, int]) -> bool:
    """Look for each of the ends, or where they are more, for each piece of the text among them."""
    if len(ends) <= len(text):
        return any(end in text for end in tuple(ends))
    return any(text[at : at + length] in ends for at in range(len(text) - length + 1))


def _ends(secret: str) -> list[str]:
    forms = (secret, *_in_base64(secret)) if secret else ()
    return [form[-_LONGEST_END:] for form in forms]


def _in_base64(secret: str) -> Iterator[str]:
    """Encode a secret, with 0 to 2 bytes before it, and give the part that it alone decides."""
    for before in range(3):
        content = bytes(before) + secret.encode("utf-8", "surrogateescape")
        part = b64encode(content)[before and before + 1 : len(content) * 8 // 6].decode()
        if len(part) >= _SHORTEST:
            yield from (part, part.replace("+", "-").replace("/", "_"))


def _read_json(text: str) -> str:
    plain = _ESCAPE.sub(lambda found: chr(int(found[1], 16)) if found[1] else found[2], text)
    # Two escapes may be one character.
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


_READERS = (_read_json, unescape, unquote, unquote_plus)


def redacted(answer: Answer, secrets: Secrets) -> Answer:
    """Withhold each part of an answer that repeats a secret, before it ends up in an error."""
    text = answer.content.decode("utf-8", "surrogateescape")
    return evolve(
        with_redacted_headers(answer, secrets),
        content=secrets.withhold(text).encode("utf-8", "surrogateescape"),
        reason=secrets.withhold(answer.reason),
        url=secrets.withhold(answer.url),
    )


def with_redacted_headers(answer: Answer, secrets: Secrets) -> Answer:
    """Withhold each header that repeats a secret, as an error may quote it."""
    if not secrets.shown_in("\n".join(answer.headers.values())):
        return answer
    cleaned = {name: secrets.withhold(value) for name, value in answer.headers.items()}
    return evolve(answer, headers=CaseInsensitiveDict(cleaned))


# Challenges

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = rf'\s*({_WORD})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_WORD}))\s*(?:,|$)'
_SCHEME = rf"[\s,]*({_WORD})(?=\s|,|$)"
_LONGEST = 8192  # characters of a header that are looked at


@frozen
class Challenge:
    """One way to log in: ``bearer``, ``basic`` or another, with realm, service and scope."""

    scheme: str  # lower case, and so are the names of parameters
    parameters: Mapping[str, str] = field(factory=dict)


def parse_challenges(header: str) -> tuple[Challenge, ...]:
    """Read a WWW-Authenticate header, or several joined by commas."""
    header = header[:_LONGEST]
    next_scheme, next_parameter = re.compile(_SCHEME).match, re.compile(_PARAMETER).match
    challenges: list[Challenge] = []
    position = 0
    while (scheme := next_scheme(header, position)) is not None:
        position = scheme.end()
        parameters: dict[str, str] = {}
        while (parameter := next_parameter(header, position)) is not None:
            position = parameter.end()
            name, quoted, plain = parameter.groups()
            value = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            parameters.setdefault(name.lower(), value)
        challenges.append(Challenge(scheme[1].lower(), parameters))
    return tuple(challenges)


# Logins


@frozen
class Credentials:
    """A user name and a password, and in which option, variable or file they were found.

    Or an identity token, in the place of the password, which is good for tokens alone.
    """

    username: str
    password: str = field(repr=False)
    place: str = field(default="", eq=False)
    is_token: bool = False

    @property
    def basic(self) -> str:
        """The Authorization header of the Basic scheme (RFC 7617)."""
        return f"Basic {b64encode(f'{self.username}:{self.password}'.encode()).decode()}"

    @property
    def entry(self) -> dict[str, str]:
        """The entry of an auth file (containers-auth.json), in which a token has a user, too."""
        if not self.is_token:
            return {"auth": self.basic.partition(" ")[2]}
        return {"auth": b64encode(b"token:").decode(), "identitytoken": self.password}

    @property
    def name(self) -> str:
        """The user, and where the login was found."""
        name = "identity token" if self.is_token else f"login of {self.username}"
        return f"{name} from {self.place}" if self.place else name

    @property
    def encoded(self) -> str:
        """User name and password as in a header, without padding, or the token."""
        return self.password if self.is_token else self.basic.partition(" ")[2].rstrip("=")

    @property
    def secrets(self) -> tuple[str, ...]:
        """The secrets in it, which must never be shown."""
        return self.basic.partition(" ")[2], self.encoded, self.password

    def send(self, transport: Transport, request: Request, place: str) -> Answer:
        """Send a request with this login, from one thread at a time until it is known to be right.

        A refused one is not sent again, as registries lock accounts for that: the same error is
        raised.
        """
        if not self.is_token:
            request = evolve(request, headers={**request.headers, "Authorization": self.basic})
        state = transport.shared.login(place, self)
        if state.is_accepted:
            return transport.send(request)
        with state.lock:
            if state.refusal is not None:
                raise evolve(state.refusal, reference=request.subject) from state.refusal.__cause__
            if not state.is_accepted:
                answer = transport.send(request)
                state.is_accepted = answer.is_success or answer.status == _NOT_FOUND
                # Another place that this one redirects to gets no login, and can refuse none.
                is_own = origin(answer.url) == origin(request.url)
                if answer.status == _UNAUTHORIZED and is_own:
                    state.refusal = self._refused(request.subject, answer)
                    raise state.refusal
                return answer
        return transport.send(request)

    def _refused(self, subject: str, answer: Answer) -> Unauthorized:
        """Make the error of a refused login; it names the user and where the login was found."""
        answer = redacted(answer, Secrets(self.secrets))
        words = failure(subject, answer.status, answer.content).message
        message = _joined(f"the {self.name} was refused", words)
        error = Unauthorized(subject, answer.status, message)
        error.__cause__ = answer.as_http_error()
        return error


# Rights


@frozen(order=True)
class Scope:
    """The right to read a repository, and with `push` to write it."""

    repository: str
    push: bool = False

    def __str__(self) -> str:
        """Write the scope as the authorization server reads it."""
        return f"repository:{self.repository}:{'pull,push' if self.push else 'pull'}"

    def covers(self, other: Scope) -> bool:
        """Whether this right includes another one."""
        return self.repository == other.repository and self.push >= other.push


def rename(scopes: frozenset[Scope], challenge: Challenge) -> frozenset[Scope]:
    """Take the repositories that a challenge names, with the rights in `scopes` and no others."""
    pushes, found = any(scope.push for scope in scopes), set()
    for wanted in challenge.parameters.get("scope", "").split():
        kind, _, rest = wanted.partition(":")
        name, _, actions = rest.rpartition(":")
        if kind == "repository" and _is_repository(name):
            is_pushed = len(scopes) == 1 or "push" in actions.split(",")
            found.add(Scope(name, push=pushes and is_pushed))
    # Not more of them: to ask for the right to push may create a repository.
    return frozenset(found) if len(found) <= len(scopes) else frozenset()


def _is_repository(name: str) -> bool:
    with suppress(InvalidReference):
        return Reference.parse(f"registry.invalid/{name}:tag").repository == name
    return False


# Tokens

_SHORTEST_LIFE = 60  # seconds; also the life of a token whose server states none
_LONGEST_LIFE = 24 * 60 * 60
_MARGIN = 5  # seconds before its end that a token is not used any more
_LARGEST_REPLY = 64 * 1024
# Printable ASCII but the backslash, which is in no token (RFC 6750, section 2.1, "b64token").
_ALLOWED = r"[ -\[\]-~]+"


@frozen
class _Token:
    text: str = field(repr=False)
    expires: float

    @property
    def header(self) -> str:
        return f"Bearer {self.text}"


def _token_request(
    registry: str, challenge: Challenge, scopes: frozenset[Scope], login: Credentials | None
) -> Request:
    """Make the request for a token; an Authorization header is for who sends it."""
    realm = challenge.parameters.get("realm", "")
    repositories = ", ".join(sorted(scope.repository for scope in scopes))
    subject = f"login to {registry.partition('://')[2].rstrip('/')} for {repositories}"
    _check_realm(realm, registry, subject)
    query = [("scope", str(scope)) for scope in sorted(scopes)]
    if "service" in challenge.parameters:
        query.insert(0, ("service", challenge.parameters["service"]))
    url = f"{realm}{'&' if '?' in realm else '?'}{urlencode(query)}"
    request = Request(method="GET", url=url, subject=subject, limit=_LARGEST_REPLY)
    if login is None or not login.is_token:
        return request
    # By OAuth 2.0 (RFC 6749, section 6), which Azure's registry requires.
    form = {
        **dict(query),
        "scope": " ".join(map(str, sorted(scopes))),
        "grant_type": "refresh_token",
        "client_id": "pubtools-mlmerge",
        "refresh_token": login.password,
    }
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    content = urlencode(form).encode()
    return evolve(request, method="POST", url=realm, headers=headers, content=content)


def _check_realm(realm: str, registry: str, subject: str) -> None:
    """Refuse to send a login in the clear, unless the registry itself speaks plain http."""
    scheme = host = ""
    with suppress(ValueError):
        scheme, host, _ = origin(realm)
    if not host or scheme not in ("http", "https"):
        raise Unauthorized(subject, _UNAUTHORIZED, "the registry names no valid login server")
    if scheme == "http" and origin(registry)[0] != "http":
        problem = "the registry wants the login over plain http"
        raise Unauthorized(subject, _UNAUTHORIZED, problem)


def _read_token(answer: Answer, subject: str, asked: float) -> _Token:
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
    return _Token(token, asked + life - _MARGIN)


# The session with a registry

_LACKING = (400, 403)  # how token servers refuse a scope
# What Go's and nginx's servers answer to plain http on a TLS port.
_SPEAKS_TLS = (b"HTTP request to an HTTPS server", b"HTTP request was sent to HTTPS port")


_Key = tuple[frozenset[Scope], Optional[Credentials]]


class RegistrySession:
    """Requests to one registry: finds its scheme, and logs in when challenged."""

    def __init__(
        self,
        address: Address,
        transport: Transport,
        find_credentials: Callable[[str], Credentials | None],
        say_none_found: Callable[[], str] = str,
    ) -> None:
        self.transport, self.host = transport, address.host
        self._find_credentials = find_credentials
        self._say_none_found = say_none_found
        self._lock = threading.Lock()
        self._bases = [f"{scheme}://{address.host}" for scheme in address.schemes]
        self._base, self._is_found = self._bases[0], len(self._bases) == 1
        self._logins: dict[str, Credentials | None] = {}  # by repository, once it was challenged
        self._challenge: Challenge | None = None
        # No header contains a long one by chance; a password may be a common word.
        self._long_secrets = Secrets()
        self.secrets = Secrets(beside=self._long_secrets)
        self._fetching: dict[_Key, threading.Lock] = {}
        self._tokens: dict[_Key, _Token] = {}
        self._intended: dict[str, frozenset[Scope]] = {}
        self._renamed: dict[frozenset[Scope], frozenset[Scope]] = {}
        self.answers_head: bool | None = None  # none until a HEAD or a GET showed it

    @property
    def is_plain(self) -> bool:
        """Whether the connection is plain http."""
        return self.url("/").startswith("http://")

    def url(self, path: str) -> str:
        """Complete a path of this registry, or a Location that it gave."""
        return self._base + path if path.startswith("/") else path

    def intend(self, scopes: Iterable[Scope]) -> None:
        """Announce the rights that will be needed, so that one token is fetched for all."""
        together = frozenset(scopes)
        for scope in together:  # other threads announce other repositories
            self._intended[scope.repository] = together

    def send(self, request: Request, scopes: frozenset[Scope]) -> Answer:
        """Send a request to a path of this registry, with a login if the registry wants one."""
        answer = self._log_in_and_send(request, scopes)
        if answer.is_success:
            return with_redacted_headers(answer, self._long_secrets)
        is_own = self._is_ours(answer.url)
        answer = redacted(answer, self.secrets)
        error = failure(request.subject, answer.status, answer.content)
        if not is_own and isinstance(error, (Unauthorized, Forbidden)):
            # It got no login, and does not know who has a right to what.
            problem = "the registry redirects to a host that refuses this"
            error = evolve(error, message=_joined(problem, error.message))
        elif isinstance(error, Unauthorized):
            problem, logged_in = self._explain(answer, scopes)
            error = evolve(error, logged_in=logged_in, message=_joined(problem, error.message))
        raise error from answer.as_http_error()

    def _explain(self, answer: Answer, scopes: frozenset[Scope]) -> tuple[str, bool]:
        """Say why the registry did not authorize this, and whether it accepted the login."""
        login = self.known_login(scopes)
        is_bearer = self._challenge is not None and self._challenge.scheme == "bearer"
        if login is None:
            return self._say_none_found(), False
        if login.is_token and not is_bearer:
            words = "is of no use, as the registry wants user and password"
            return f"the {login.name} {words}", False
        offered = parse_challenges(answer.headers.get("WWW-Authenticate", ""))
        if any(each.parameters.get("error") == "invalid_token" for each in offered):
            return f"the registry does not accept the token for the {login.name}", False
        # Registries hide what does not exist by another challenge.
        return f"the {login.name} has no right to this", is_bearer and bool(offered)

    def known_login(self, scopes: frozenset[Scope]) -> Credentials | None:
        """Return the login for these rights, if one was looked up: that of what is written."""
        chosen = min(scopes, key=lambda scope: (not scope.push, scope.repository))
        return self._logins.get(chosen.repository)

    def _login(self, scopes: frozenset[Scope]) -> Credentials | None:
        """Look up the logins for these rights, and return the one to use."""
        with self._lock:
            for scope in scopes:
                if scope.repository not in self._logins:
                    login = self._find_credentials(scope.repository)
                    if login is not None and login not in self._logins.values():
                        self.secrets.add(login.password)
                        self._long_secrets.add(login.encoded)
                    self._logins[scope.repository] = login
        return self.known_login(scopes)

    def _log_in_and_send(self, request: Request, scopes: frozenset[Scope]) -> Answer:
        """Send a request, and again as long as it is challenged and there are rights to try.

        First come the rights that were announced, then these, then those of the challenge.
        """
        header, tried = None, set[frozenset[Scope]]()
        login: Credentials | None = None
        refusal: RegistryError | None = None
        if self._challenge is not None:
            login, first = self._rights(scopes)
            header, refusal = self._try_authorization(self._challenge, first, login)
            tried = {first} if refusal else tried
        answer = self._deliver(request, header, login)
        if answer.status != _UNAUTHORIZED or not self._is_ours(answer.url):
            return answer
        # Some servers refuse all rights for one that is lacking, when the token is fetched or when
        # it is used. Gateways that rewrite paths know the repository by another name.
        login, first = self._rights(scopes)
        for known in (first, scopes, None):
            challenge = self._choose_challenge(answer, request.subject)
            wanted = known or rename(scopes, challenge)
            if not wanted or wanted in tried:
                continue
            tried.add(wanted)
            self._challenge = challenge
            fresh, refusal = self._try_authorization(challenge, wanted, login, rejected=header)
            if fresh is None or fresh == header:
                continue
            header = fresh
            answer = self._deliver(request, header, login)
            if wanted != first and answer.status != _UNAUTHORIZED:
                self._renamed[scopes] = wanted
                for scope in scopes:  # all that was announced would be refused each time
                    self._intended.pop(scope.repository, None)
            if answer.status != _UNAUTHORIZED or not self._is_ours(answer.url):
                return answer
        if refusal is not None:
            raise refusal
        return answer

    def _rights(self, scopes: frozenset[Scope]) -> tuple[Credentials | None, frozenset[Scope]]:
        """Return the login for these rights, and the rights to ask for first."""
        login = self._login(scopes)
        return login, self._renamed.get(scopes) or self._widest(scopes, login)

    def _try_authorization(
        self,
        challenge: Challenge,
        scopes: frozenset[Scope],
        login: Credentials | None,
        rejected: str | None = None,
    ) -> tuple[str | None, RegistryError | None]:
        """Return the header for these rights, another one than was rejected.

        Or how the server refused to give just these rights.
        """
        if challenge.scheme == "basic":
            return login.basic if login and not login.is_token else None, None
        key = scopes, login
        # Threads that want the same token wait for one request.
        with self._fetching.setdefault(key, threading.Lock()):
            token = self._tokens.get(key)
            if token is None or token.header == rejected or token.expires <= time.monotonic():
                try:
                    fresh = self._fetch_token(challenge, scopes, login)
                except RegistryError as error:
                    if error.status not in _LACKING:
                        raise
                    return None, error
                self._long_secrets.add(fresh.text, replaced=token.text if token else "")
                self._tokens[key] = token = fresh
            return token.header, None

    def _fetch_token(
        self, challenge: Challenge, scopes: frozenset[Scope], login: Credentials | None
    ) -> _Token:
        request = _token_request(self.url("/"), challenge, scopes, login)
        asked = time.monotonic()
        if login is None:
            answer = self.transport.send(request)
        else:
            answer = login.send(self.transport, request, challenge.parameters["realm"])
        if not answer.is_success:
            answer = redacted(answer, Secrets(login.secrets if login else ()))
            error = failure(request.subject, answer.status, answer.content)
            if login is None and isinstance(error, (Unauthorized, Forbidden)):
                error = evolve(error, message=_joined(self._say_none_found(), error.message))
            raise error from answer.as_http_error()
        if login is not None:  # the registry may ask for it by Basic, too
            self.transport.shared.login(self.url("/"), login).is_accepted = True
        return _read_token(answer, request.subject, asked)

    def _deliver(self, request: Request, header: str | None, login: Credentials | None) -> Answer:
        if not self._is_found and (answer := self._find_scheme(request)) is not None:
            return answer
        url = self.url(request.url)
        if request.method not in ("GET", "HEAD") and not self._is_ours(url):
            raise RegistryError(request.subject, None, "the registry gives a URL on another host")
        request = evolve(request, url=url)
        if header is None or not self._is_ours(url):
            return self.transport.send(request)
        if login is not None and header == login.basic:
            return login.send(self.transport, request, self.url("/"))
        headers = {**request.headers, "Authorization": header}
        return self.transport.send(evolve(request, headers=headers))

    def _find_scheme(self, request: Request) -> Answer | None:
        """Find out which scheme the registry speaks, with the first request, without a login."""
        for base in self._bases:
            attempt = evolve(request, url=base + request.url, repeatable=False)
            try:
                answer = self.transport.send(attempt)
            except RegistryError as error:
                if error.status is not None or "certificate" in error.message.lower():
                    raise
                continue
            if not any(words in answer.content for words in _SPEAKS_TLS):
                self._base, self._is_found = base, True
                return None if answer.status in TRANSIENT else answer
        self._is_found = True
        return None

    def _is_ours(self, url: str) -> bool:
        with suppress(ValueError):
            return origin(url) == origin(self.url("/"))
        return False

    def _widest(self, scopes: frozenset[Scope], login: Credentials | None) -> frozenset[Scope]:
        """Return all scopes announced for a login, if they include these."""
        for scope in scopes:
            together = self._intended.get(scope.repository, frozenset())
            own = (each for each in together if self._login(frozenset({each})) == login)
            intended = frozenset(own)
            if all(any(wide.covers(each) for wide in intended) for each in scopes):
                return intended
        return scopes

    def _choose_challenge(self, answer: Answer, subject: str) -> Challenge:
        offered = parse_challenges(answer.headers.get("WWW-Authenticate", ""))
        known = [each for each in offered if each.scheme in ("bearer", "basic")]
        if known:
            return max(known, key=lambda each: each.scheme)  # of both, bearer
        if self._challenge is not None:  # nothing new where a token lacks rights
            parameters = {n: v for n, v in self._challenge.parameters.items() if n != "scope"}
            return Challenge(self._challenge.scheme, parameters)
        problem = "the registry offers no known way to log in"
        cause = redacted(answer, self.secrets).as_http_error()
        raise Unauthorized(subject, _UNAUTHORIZED, problem) from cause
