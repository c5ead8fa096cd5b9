"""Exchange: what is sent to a registry, what comes back, and how it is carried."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from io import BytesIO

import requests
from attrs import evolve, field, frozen
from requests.structures import CaseInsensitiveDict

from pubtools_mlmerge.core.strict_json import LARGEST
from pubtools_mlmerge.echoes import blank
from pubtools_mlmerge.errors import brief
from pubtools_mlmerge.retries import Retries


@frozen(kw_only=True, eq=False, repr=False)
class Request:
    """One request.

    Attributes:
        method (str):
            HTTP method.
        url (str):
            Absolute URL.
        subject (str):
            What errors and log lines call it, such as the reference.
        headers (Mapping[str, str]):
            Headers; never logged.
        content (bytes | None):
            Body to send.
        limit (int):
            Most bytes that the body of the answer may have.
        repeatable (bool):
            Whether it is sent again after a passing failure.
    """

    method: str
    url: str
    subject: str
    headers: Mapping[str, str] = field(factory=dict)
    content: bytes | None = None
    limit: int = LARGEST
    repeatable: bool = True


@frozen
class Answer:
    """What came back.

    Attributes:
        status (int):
            HTTP status code.
        headers (Mapping[str, str]):
            Headers; names are found in any case.
        content (bytes):
            The body.
        url (str):
            Where the answer came from, after redirects.
        reason (str):
            The status in words.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    content: bytes = field(repr=False)
    url: str = field(repr=False)
    reason: str = ""

    @property
    def is_success(self) -> bool:
        """Whether the status says that the request was carried out."""
        return 200 <= self.status < 300  # noqa: PLR2004 - status codes are their own names

    def without(self, secrets: Iterable[str]) -> Answer:
        """Take out what a registry might echo of a login, before it ends up in an error.

        Args:
            secrets (Iterable[str]):
                What must not show up.

        Returns:
            Answer: With asterisks in their places.
        """
        hidden = list(secrets)
        text = blank(self.content.decode("utf-8", "surrogateescape"), hidden)
        return evolve(
            self.without_in_headers(hidden),
            content=text.encode("utf-8", "surrogateescape"),
            reason=blank(self.reason, hidden),
            url=blank(self.url, hidden),
        )

    def without_in_headers(self, secrets: Iterable[str]) -> Answer:
        """Take out what a registry might echo of a login in a header that an error may quote.

        Args:
            secrets (Iterable[str]):
                What must not show up.

        Returns:
            Answer: With asterisks in their places; its content is what it was.
        """
        hidden = list(secrets)
        cleaned = {name: blank(value, hidden) for name, value in self.headers.items()}
        if cleaned == dict(self.headers):
            return self
        return evolve(self, headers=CaseInsensitiveDict(cleaned))

    def as_http_error(self) -> requests.exceptions.HTTPError:
        """Tell callers that know the http library what happened.

        Returns:
            requests.exceptions.HTTPError: With the answer as its response.
        """
        response = requests.Response()
        response.status_code = self.status
        response.headers.update(self.headers)
        # The server's words, which a traceback shows: nothing in them may steer a terminal.
        response.reason = brief(self.reason)
        # The query of a storage URL is its signature.
        response.url = brief(self.url.partition("?")[0])
        response.raw = BytesIO(self.content)
        try:
            response.raise_for_status()
        except requests.exceptions.HTTPError as error:
            return error
        message = f"{self.status} unexpected answer for url: {response.url}"
        return requests.exceptions.HTTPError(message, response=response)


@frozen(kw_only=True)
class Options:
    """How to connect.

    Attributes:
        ca_bundle (str | None):
            File with the authorities to trust; none for those of the environment.
        insecure (bool):
            Whether certificates are not verified at all.
        timeout (tuple[float, float]):
            Seconds to connect, and between two parts of an answer.
        longest (float):
            Seconds that the body of one answer may take as a whole.
        retries (Retries):
            How refusals and broken connections are repeated.
    """

    ca_bundle: str | None = None
    insecure: bool = False
    timeout: tuple[float, float] = (10.0, 60.0)
    longest: float = 600.0
    retries: Retries = field(factory=Retries)

    @property
    def verify(self) -> bool | str:
        """What the http library is told about certificates."""
        return False if self.insecure else self.ca_bundle or True

    @property
    def prefers_tls(self) -> bool:
        """Whether anything here speaks of certificates, so that TLS is meant."""
        return self.insecure or self.ca_bundle is not None
