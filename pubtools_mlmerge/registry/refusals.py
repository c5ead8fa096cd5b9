"""What a registry's refusal means, without what it repeats of our secrets."""

from __future__ import annotations

import json
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import accumulate, product
from urllib.parse import unquote

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
    """Turn a refusal into the error that a caller may handle."""
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


_BLANK = "***"
# An Authorization header; whoever sent it need not be known here.
_HEADER = r"(?i)\b(basic|bearer)[ +:]+[\w.~+/-]{16,}=*"


def blank(text: str, secrets: Iterable[str]) -> str:
    """Put asterisks in the places of secrets, as they are or as JSON, HTML or a URL writes them.

    It takes time in proportion to the text, whatever the text and the secrets are.
    """
    # The longest first: a secret may be a part of another one.
    known = sorted(filter(None, secrets), key=len, reverse=True)
    if not known:
        return text
    used = [coding for coding in _codings() if coding.marker in text]
    for coding in used:
        text = coding.blank(text, known)
    for secret in known:
        text = text.replace(secret, _BLANK)
    # What is coded twice, such as JSON in JSON, is not worth taking apart.
    twice = [outer.read(inner.read(text)) for inner, outer in product(used, _codings())]
    return _BLANK if any(secret in plain for secret in known for plain in twice) else text


def blank_headers(text: str) -> str:
    """Put asterisks in the places of logins that are known by their form alone."""
    return re.sub(_HEADER, rf"\1 {_BLANK}", text)


class _Coding:
    """A way to write characters by other ones; each match is one piece of the text."""

    def __init__(self, marker: str, coded: str, read: Callable[[str], str]) -> None:
        self.marker = marker
        self._coded = re.compile(coded, re.DOTALL)
        self._pattern = re.compile(f"{coded}|.", re.DOTALL)
        self._read = read

    def read(self, text: str) -> str:
        """Undo the coding."""
        return self._coded.sub(lambda found: self._read(found[0]), text)

    def blank(self, text: str, secrets: Sequence[str]) -> str:
        """Put asterisks in the places of secrets that were coded, and leave the rest coded."""
        pieces: list[str] = self._pattern.findall(text)
        plain = [self._read(piece) if len(piece) > 1 else piece for piece in pieces]
        ends, whole = list(accumulate(map(len, plain))), "".join(plain)
        for secret in secrets:
            for found in re.finditer(re.escape(secret), whole):
                first, last = bisect_right(ends, found.start()), bisect_left(ends, found.end())
                pieces[first : last + 1] = [_BLANK] + [""] * (last - first)
            whole = whole.replace(secret, "\0" * len(secret))
        return "".join(pieces)


def _read_json(piece: str) -> str:
    if piece.startswith("\\u") and len(piece) > len("\\u"):
        return bytes.fromhex(piece.replace("\\u", "")).decode("utf-16-be", "surrogatepass")
    return piece[1:]


@lru_cache(maxsize=1)
def _codings() -> Sequence[_Coding]:
    """Give the ways in which a server may write what it was sent."""
    # A table of thousands of names, needed after failures only.
    from html import unescape  # noqa: PLC0415

    digit = "[0-9a-fA-F]"
    pair = rf"\\u[dD][89abAB]{digit}{{2}}\\u[dD][c-fC-F]{digit}{{2}}"
    return (
        _Coding("\\", rf"{pair}|\\u{digit}{{4}}|\\.", _read_json),
        _Coding("&", r"&#?[0-9a-zA-Z]{1,31};", unescape),
        _Coding("%", rf"(?:%{digit}{{2}})+", unquote),
    )
