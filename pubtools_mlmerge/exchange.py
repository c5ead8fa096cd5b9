"""Exchange: what is sent to a registry, what comes back, and how it is carried."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from http.client import responses
from io import BytesIO

import requests
from attrs import evolve, field, frozen

from pubtools_mlmerge.documents import LARGEST
from pubtools_mlmerge.errors import brief
from pubtools_mlmerge.retries import Retries


@frozen(kw_only=True)
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
    headers: Mapping[str, str] = field(factory=dict, repr=False)
    content: bytes | None = field(default=None, repr=False)
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
        # The longest first: a secret may be a part of another one.
        hidden = sorted(filter(None, secrets), key=len, reverse=True)
        is_bare = not self.content and self.reason in responses.values()
        # Then nothing is a registry's own but the place that it redirected to.
        if not hidden or (is_bare and not any(secret in self.url for secret in hidden)):
            return self
        forms = [_as_json_writes(secret) for secret in hidden]
        pattern = re.compile("|".join(forms))
        text = pattern.sub("***", self.content.decode("utf-8", "surrogateescape"))
        content = text.encode("utf-8", "surrogateescape")
        reason, url = pattern.sub("***", self.reason), pattern.sub("***", self.url)
        return evolve(self, content=content, reason=reason, url=url)

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


def _as_json_writes(secret: str) -> str:
    """Match a text in JSON, where any character may be escaped."""
    matches = []
    for character in secret:
        units = re.findall("....", character.encode("utf-16-be", "surrogatepass").hex())
        escaped = "".join(rf"\\u{unit}" for unit in units)
        matches.append(rf"(?:(?i:{escaped})|\\?{re.escape(character)})")
    return "".join(matches)


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
        retries (Retries):
            How refusals and broken connections are repeated.
    """

    ca_bundle: str | None = None
    insecure: bool = False
    timeout: tuple[float, float] = (10.0, 60.0)
    retries: Retries = field(factory=Retries)

    @property
    def verify(self) -> bool | str:
        """What the http library is told about certificates."""
        return False if self.insecure else self.ca_bundle or True

    @property
    def prefers_tls(self) -> bool:
        """Whether anything here speaks of certificates, so that TLS is meant."""
        return self.insecure or self.ca_bundle is not None
