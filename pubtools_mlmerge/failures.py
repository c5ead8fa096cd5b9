"""Failures: what a registry's refusal means.

Registries differ in how they say the same thing; here, and nowhere else, it is decided what an
answer means (distribution-spec, "Error Codes").
"""

from __future__ import annotations

import json
import re

from pubtools_mlmerge.echoes import blank_headers
from pubtools_mlmerge.errors import (
    Forbidden,
    ImmutableTag,
    MissingChild,
    NotFound,
    RegistryError,
    Unauthorized,
)

_DIGEST = r"sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128}"
_ABSENT = frozenset({"MANIFEST_UNKNOWN", "NAME_UNKNOWN", "TAG_EXPIRED", "BLOB_UNKNOWN"})
_IMMUTABLE = frozenset({"TAG_IMMUTABLE", "TAG_ALREADY_EXISTS", "PRECONDITION"})
_MOST_TEXT = 64 * 1024
"""How much of an error body is looked at, in bytes."""


def failure(reference: str, status: int, body: bytes = b"") -> RegistryError:
    """Turn a refusal into the error that a caller may handle.

    Args:
        reference (str):
            What was asked for.
        status (int):
            HTTP status code of the answer.
        body (bytes):
            Its body; registries send JSON, proxies in front of them send anything.

    Returns:
        RegistryError: The kind that fits, with the registry's own words.
    """
    text = body[:_MOST_TEXT].decode("utf-8", "replace")
    codes, words = _read(text)
    message = "; ".join(dict.fromkeys(words)) or ("" if "<" in text else text)
    message = blank_headers(message)
    if _is_missing_child(status, codes, text):
        digests = tuple(dict.fromkeys(re.findall(_DIGEST, text)))
        return MissingChild(reference, status, message, digests)
    return _kind(status, codes, message)(reference, status, message)


def _kind(status: int, codes: set[str], message: str) -> type[RegistryError]:
    if status == 401:  # noqa: PLR2004 - status codes are their own names
        return Unauthorized
    # Repositories and annotations may have the word in them: it counts where a PUT is refused,
    # and not where the answer quotes the document or says that there is nothing.
    told = "immutable" in message.lower() and not codes & {"MANIFEST_INVALID", *_ABSENT}
    if status in (409, 412) or codes & _IMMUTABLE or (told and status != 404):  # noqa: PLR2004
        return ImmutableTag
    if status == 403 or "DENIED" in codes:  # noqa: PLR2004 - as above
        return Forbidden
    if status == 404 or codes & _ABSENT:  # noqa: PLR2004 - as above
        return NotFound
    return RegistryError


def _is_missing_child(status: int, codes: set[str], text: str) -> bool:
    """Know both ways of saying it: a code of its own, or a word about the child manifest."""
    if "MANIFEST_BLOB_UNKNOWN" in codes:
        return True
    return status == 400 and "child manifest" in text and "MANIFEST_INVALID" in codes  # noqa: PLR2004


def _read(text: str) -> tuple[set[str], list[str]]:
    """Collect the codes and the messages of the standard error document, if it is one."""
    try:
        document: object = json.loads(text)
    except (ValueError, RecursionError):
        return set(), []
    listed = document.get("errors") if isinstance(document, dict) else None
    errors = [e for e in listed if isinstance(e, dict)] if isinstance(listed, list) else []
    codes = {str(error.get("code", "")) for error in errors}
    return codes, [words for error in errors for words in _words(error)]


def _words(error: dict[str, object]) -> list[str]:
    detail = error.get("detail")
    inner = detail.get("message") if isinstance(detail, dict) else None
    found = [text for text in (error.get("message"), inner) if isinstance(text, str) and text]
    return found or [str(error.get("code", ""))]
