"""What goes over the wire: requests, responses and the errors among them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote

from attrs import field, frozen

JSON_TYPE = "application/json; charset=utf-8"
TEXT_TYPE = "text/plain; charset=utf-8"
HTML_TYPE = "text/html; charset=utf-8"


@frozen(kw_only=True)
class RecordedRequest:
    """A request that the registry answered.

    Attributes:
        method (str):
            The HTTP method, in capitals.
        path (str):
            The path as it was sent, without the query.
        query (str):
            What followed the question mark, as it was sent.
        headers (Mapping[str, str]):
            The headers, by lower-case name.
        status (int):
            The status of the answer.
        body_size (int):
            The length of the request's body in bytes.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str] = field(repr=False)
    status: int
    body_size: int


@frozen(kw_only=True)
class Request:
    """A request as it arrived, with its whole body."""

    method: str
    base_url: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def raw_path(self) -> str:
        """The path as it was sent."""
        return self.target.partition("?")[0]

    @property
    def path(self) -> str:
        """The path with escaped characters decoded."""
        return unquote(self.raw_path)

    @property
    def query(self) -> str:
        """What followed the question mark."""
        return self.target.partition("?")[2]

    def parameters(self, name: str) -> tuple[str, ...]:
        """Return every value of a query parameter, in order."""
        pairs = parse_qsl(self.query, keep_blank_values=True)
        return tuple(value for key, value in pairs if key == name)

    def parameter(self, name: str) -> str:
        """Return the first value of a query parameter, or nothing."""
        return next(iter(self.parameters(name)), "")

    def number(self, name: str, default: int) -> int:
        """Return a query parameter that is a number, or the default."""
        text = self.parameter(name)
        return int(text) if text.isascii() and text.isdigit() else default

    @property
    def accepted(self) -> frozenset[str]:
        """The media types of the Accept header, without parameters."""
        ranges = self.headers.get("accept", "").split(",")
        return frozenset(text.partition(";")[0].strip() for text in ranges)


@frozen(kw_only=True)
class Response:
    """An answer that is ready to be sent."""

    status: int = 200
    headers: Mapping[str, str] = field(factory=dict)
    body: bytes = b""


class RegistryError(NamedTuple):
    """One entry of the error list that registries answer with."""

    code: str
    message: str
    detail: object = None


class Refused(Exception):
    """An endpoint's way to answer from anywhere below it."""

    def __init__(self, response: Response) -> None:
        """Keep the response that is to be sent."""
        super().__init__(response.status)
        self.response = response


def json_response(document: object, status: int = 200, **headers: str) -> Response:
    """Answer with a JSON document.

    Args:
        document (object):
            What to encode.
        status (int):
            The HTTP status.
        **headers (str):
            Further headers, with underscores for dashes.

    Returns:
        Response: The encoded document under the type of JSON.
    """
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = json.dumps(document, separators=(",", ":")).encode() + b"\n"
    return Response(status=status, headers={"Content-Type": JSON_TYPE, **named}, body=body)


def refuse(status: int, *errors: RegistryError, **headers: str) -> Refused:
    """Make the exception that answers with the registry's error format.

    Args:
        status (int):
            The HTTP status.
        *errors (RegistryError):
            The entries of the error list.
        **headers (str):
            Further headers, with underscores for dashes.

    Returns:
        Refused: To be raised.
    """
    listed = [
        {"code": error.code, "message": error.message} if error.detail is None else error._asdict()
        for error in errors
    ]
    return Refused(json_response({"errors": listed}, status, **headers))


def page_not_found(media_type: str = TEXT_TYPE) -> Refused:
    """Make the exception for a path that no endpoint serves.

    Args:
        media_type (str):
            The type of the page.

    Returns:
        Refused: To be raised.
    """
    html = b"<!doctype html>\n<html><title>404</title><h1>Not Found</h1></html>\n"
    body = html if media_type == HTML_TYPE else b"404 page not found\n"
    return Refused(Response(status=404, headers={"Content-Type": media_type}, body=body))
