"""Answers of clients of the host's shape: a manifest as dict, text or bytes, headers or none."""

from __future__ import annotations

from collections.abc import Mapping

from pubtools_mlmerge.core.strict_json import encode


def unpack(answer: object) -> tuple[object, Mapping[str, str]]:
    """Part a manifest from its headers.

    Args:
        answer (object):
            What a client returned.

    Returns:
        tuple[object, Mapping[str, str]]: The manifest, and the headers that came with it; their
        names are in lower case.
    """
    if not isinstance(answer, tuple):
        return answer, {}
    body, headers = answer
    return body, {str(name).lower(): str(value) for name, value in dict(headers).items()}


def encode_body(body: object) -> bytes:
    """Take any of the shapes in which a client gives a manifest.

    Args:
        body (object):
            The manifest.

    Returns:
        bytes: Its bytes; those of a dict as the host would encode it.

    Raises:
        TypeError: When it is something else.
    """
    if isinstance(body, Mapping):
        return encode(body)
    if isinstance(body, (bytes, str)):
        return body.encode("utf-8") if isinstance(body, str) else body
    raise TypeError(f"the client gave a manifest as {type(body).__name__}")
