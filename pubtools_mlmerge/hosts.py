"""Hosts: one registry, with the login that it wants."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from attrs import evolve

from pubtools_mlmerge.addresses import Address, origin
from pubtools_mlmerge.challenges import Challenge, parse_challenges
from pubtools_mlmerge.errors import RegistryError, Unauthorized
from pubtools_mlmerge.exchange import Answer, Request
from pubtools_mlmerge.failures import failure
from pubtools_mlmerge.retries import TRANSIENT
from pubtools_mlmerge.tokens import Credentials, Scope, Tokens
from pubtools_mlmerge.transport import Transport

_UNAUTHORIZED = 401
_LACKING = (400, 403)  # what token servers answer to a scope that is not to be had
# What Go's and nginx's servers answer to plain http on a TLS port.
_SPEAKS_TLS = (b"HTTP request to an HTTPS server", b"HTTP request was sent to HTTPS port")


class Host:
    """A registry: finds its scheme, logs in when it asks for it.

    Args:
        address (Address):
            Where it is.
        transport (Transport):
            Sends the requests.
        find_credentials (Callable[[], Credentials | None]):
            Called once, at the first challenge.
        has_login (bool):
            Whether a login was given for it, so that it is expected to ask for that: then other
            threads wait for the first answer, and are not sent away one after the other.
    """

    def __init__(
        self,
        address: Address,
        transport: Transport,
        find_credentials: Callable[[], Credentials | None],
        *,
        has_login: bool = False,
    ) -> None:
        self._address = address
        self._transport = transport
        self._find_credentials = find_credentials
        self._lock = threading.Lock()
        self._meeting = threading.Lock()
        self._is_known = not has_login
        self._is_met = False
        self._settled: str | None = None
        self._credentials: Credentials | None = None
        self._challenge: Challenge | None = None
        self._tokens: Tokens | None = None
        self._intended: dict[str, frozenset[Scope]] = {}

    @property
    def name(self) -> str:
        """Host with its port."""
        return self._address.host

    def intend(self, scopes: Iterable[Scope]) -> None:
        """Tell which rights will be needed, so that one token is asked for instead of several.

        Args:
            scopes (Iterable[Scope]):
                The rights, one scope a repository.
        """
        together = frozenset(scopes)
        for scope in together:  # beside what other threads intend for other repositories
            self._intended[scope.repository] = together

    def send(self, request: Request, scopes: frozenset[Scope]) -> Answer:
        """Send a request, with a login if the registry wants one.

        Args:
            request (Request):
                Its url is the path below the host.
            scopes (frozenset[Scope]):
                The rights that it needs.

        Returns:
            Answer: A success.

        Raises:
            RegistryError: The kind that fits the refusal; its cause is the http library's error.
        """
        try:
            answer = self._log_in_and_send(request, scopes)
        except RegistryError as refusal:
            # Some servers refuse all rights for one that is lacking: then ask for just these.
            if refusal.status not in _LACKING or self._widest(scopes) == scopes:
                raise
            self._give_up(scopes)
            answer = self._log_in_and_send(request, scopes)
        if answer.is_success:
            return answer.without_in_headers(self._unmistakable())
        answer = answer.without(self._secrets())
        error = failure(request.subject, answer.status, answer.content)
        if isinstance(error, Unauthorized):
            bearer = self._challenge is not None and self._challenge.scheme == "bearer"
            error = evolve(error, logged_in=bearer and self._credentials is not None)
        raise error from answer.as_http_error()

    @property
    def is_plain(self) -> bool:
        """Whether it is spoken to over plain http."""
        return self.url("/").startswith("http://")

    @property
    def is_new(self) -> bool:
        """Whether nothing was sent there, and the first request need not go alone."""
        return self._is_known and not self._is_met

    def url(self, path: str) -> str:
        """Complete a path of this registry, or a Location that it gave.

        Args:
            path (str):
                A path or an absolute URL.

        Returns:
            str: The absolute URL.
        """
        base = self._settled or f"{self._address.schemes[0]}://{self._address.host}"
        return base + path if path.startswith("/") else path

    def _log_in_and_send(self, request: Request, scopes: frozenset[Scope]) -> Answer:
        header, answer = None, self._introduce(request)
        if answer is None:
            if self._challenge is not None:
                header = self._authorization(self._challenge, self._widest(scopes))
            answer = self._deliver(request, header)
        # Rights beyond these may have been refused as a whole: then ask for just these.
        wide = self._widest(scopes)
        for wanted in dict.fromkeys([wide, scopes]):
            if answer.status != _UNAUTHORIZED or not self._is_ours(answer.url):
                return answer
            challenge = self._chosen_challenge(answer, request.subject)
            fresh = self._authorization(challenge, wanted, rejected=header)
            if fresh is None or fresh == header:
                return answer
            header = fresh
            answer = self._deliver(request, header)
            if wanted != wide and answer.status != _UNAUTHORIZED:
                self._give_up(scopes)  # it would be refused each time
        return answer

    def _introduce(self, request: Request) -> Answer | None:
        """Send the first request alone, to learn how to log in; none if that is known."""
        if self._is_known:
            return None
        with self._meeting:
            if self._is_known:
                return None
            answer = self._deliver(request, None)
            if answer.status == _UNAUTHORIZED and self._is_ours(answer.url):
                self._chosen_challenge(answer, request.subject)
            self._is_known = True
            return answer

    def _deliver(self, request: Request, header: str | None) -> Answer:
        self._is_met = True
        if self._settled is None:
            answer = self._settle(request)
            if answer is not None:
                return answer
        url = self.url(request.url)
        if request.method not in ("GET", "HEAD") and not self._is_ours(url):
            raise RegistryError(request.subject, None, "the registry names a place elsewhere")
        headers = dict(request.headers)
        if header is not None and self._is_ours(url):
            headers["Authorization"] = header
        return self._transport.send(evolve(request, url=url, headers=headers))

    def _settle(self, request: Request) -> Answer | None:
        """Find out which scheme the registry speaks, with the first request, without a login."""
        for scheme in self._address.schemes if len(self._address.schemes) > 1 else ():
            base = f"{scheme}://{self._address.host}"
            attempt = evolve(request, url=base + request.url, repeatable=False)
            try:
                answer = self._transport.send(attempt)
            except RegistryError as error:
                if error.status is not None or "certificate" in error.message.lower():
                    raise
                continue
            if not any(words in answer.content for words in _SPEAKS_TLS):
                self._settled = base
                return None if answer.status in TRANSIENT else answer
        self._settled = f"{self._address.schemes[0]}://{self._address.host}"
        return None

    def _is_ours(self, url: str) -> bool:
        try:
            return origin(url) == origin(self.url("/"))
        except ValueError:
            return False

    def _widest(self, scopes: frozenset[Scope]) -> frozenset[Scope]:
        for scope in scopes:
            intended = self._intended.get(scope.repository, frozenset())
            if all(any(wide.covers(each) for wide in intended) for each in scopes):
                return intended
        return scopes

    def _give_up(self, scopes: frozenset[Scope]) -> None:
        """Ask for the rights of what was intended no more, but for those of each request."""
        for scope in scopes:
            self._intended.pop(scope.repository, None)

    def _chosen_challenge(self, answer: Answer, subject: str) -> Challenge:
        offered = parse_challenges(answer.headers.get("WWW-Authenticate", ""))
        for scheme in ("bearer", "basic"):
            for challenge in offered:
                if challenge.scheme == scheme:
                    self._challenge = challenge
                    return challenge
        raise Unauthorized(
            subject, _UNAUTHORIZED, "the registry offers no known way to log in"
        ) from answer.without(self._secrets()).as_http_error()

    def _authorization(
        self, challenge: Challenge, scopes: frozenset[Scope], rejected: str | None = None
    ) -> str | None:
        with self._lock:
            if self._tokens is None:
                self._credentials = self._find_credentials()
                self._tokens = Tokens(self._transport, self.url("/"))
        if challenge.scheme == "basic":
            return self._credentials.basic if self._credentials else None
        return self._tokens.header(challenge, scopes, self._credentials, rejected)

    def _secrets(self) -> list[str]:
        """List what a hostile registry might echo into our errors."""
        password = [self._credentials.password] if self._credentials else []
        return [*self._unmistakable(), *password]

    def _unmistakable(self) -> list[str]:
        """List what stands in no header by chance; a password may be a word of a media type."""
        tokens = [] if self._tokens is None else self._tokens.secrets()
        return [*tokens, *(self._credentials.encoded if self._credentials else ())]
