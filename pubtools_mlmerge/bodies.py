"""Bodies: read up to a limit in size and in time; and what broke, in a few words."""

from __future__ import annotations

import requests
from requests.exceptions import (
    ChunkedEncodingError,
    InvalidURL,
    RequestException,
    SSLError,
    Timeout,
)
from urllib3.exceptions import HTTPError

from pubtools_mlmerge.deadlines import Deadlines
from pubtools_mlmerge.errors import RegistryError
from pubtools_mlmerge.exchange import Request

UNKNOWN_HOST = "Name or service not known"
"""The resolver's words."""
_CHUNK = 64 * 1024
_REFUSED = 400
# Two layers of compression make gigabytes out of a kilobyte before anybody can count them, and what
# else a library may know depends on what is installed beside it.
_CODINGS = frozenset({"", "identity", "gzip", "x-gzip", "deflate"})
_LONGEST_REFUSAL = 64 * 1024  # bytes of an error body that are read


def read_body(request: Request, response: requests.Response, deadlines: Deadlines) -> bytes:
    """Read the body of an answer.

    Args:
        request (Request):
            What was asked for; says how large the body may be.
        response (requests.Response):
            The answer, of which only the headers were read.
        deadlines (Deadlines):
            How long it may take as a whole.

    Returns:
        bytes: The body, decoded. Of a refusal, which only explains, a part is enough.

    Raises:
        RegistryError: When it is too large, too slow, or encoded in a way that was not asked for.
        RequestException: When the connection breaks.
    """
    with deadlines.over(response) as reading:
        try:
            return _read(request, response)
        except (OSError, ValueError, HTTPError) as error:
            if not reading.is_late:
                raise
            problem = f"the answer takes more than {deadlines.seconds:g} seconds"
            raise RegistryError(request.subject, None, problem) from nameless(error)


def _read(request: Request, response: requests.Response) -> bytes:
    refused = response.status_code >= _REFUSED
    limit = min(request.limit, _LONGEST_REFUSAL) if refused else request.limit
    coding = response.headers.get("Content-Encoding", "").strip().lower()
    if coding not in _CODINGS:
        if refused:
            return b""
        problem = f"the answer comes encoded as {coding}, which was not asked for"
        raise RegistryError(request.subject, response.status_code, problem)
    content = bytearray()
    for part in response.iter_content(_CHUNK):
        content += part
        if len(content) > limit:
            if refused:
                return bytes(content[:limit])
            problem = f"the answer has more than {limit} bytes"
            raise RegistryError(request.subject, response.status_code, problem)
    announced = response.headers.get("Content-Length", "")
    # urllib3 1.26 takes a body that ends early for a whole one.
    short = announced.isdecimal() and len(content) < float(announced)
    # What came compressed, unasked, may be longer than what it was made of.
    if short and request.method != "HEAD" and "Content-Encoding" not in response.headers:
        raise ChunkedEncodingError(f"{len(content)} of {announced} bytes came")
    return bytes(content)


def nameless(error: Exception) -> RequestException:
    """Make the same error without the URL, whose query may be a signature; tracebacks show it.

    Args:
        error (Exception):
            The http library's error.

    Returns:
        RequestException: One that says the same in a few words.
    """
    kind = type(error) if isinstance(error, RequestException) else RequestException
    return kind(explain(error))


def explain(error: Exception) -> str:
    """Say what broke in a few words; the library's own text goes on for lines.

    Args:
        error (Exception):
            The http library's error.

    Returns:
        str: The words.
    """
    text = str(error)
    if isinstance(error, SSLError):
        return f"TLS failed: {text.rpartition('(Caused by ')[2].rstrip(')')}"
    if isinstance(error, InvalidURL) or not isinstance(error, (RequestException, HTTPError)):
        return text.partition("?")[0]
    if isinstance(error, Timeout):
        return "no answer in time"
    if "Connection refused" in text:
        return "connection refused"
    if UNKNOWN_HOST in text or "name resolution" in text:
        return "unknown host"
    return f"connection broken ({type(error).__name__})"
