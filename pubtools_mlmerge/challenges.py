"""Challenges: what a registry says about how to log in (RFC 9110, section 11.6.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from attrs import field, frozen

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = rf'\s*({_WORD})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_WORD}))\s*(?:,|$)'
_SCHEME = rf"[\s,]*({_WORD})(?=\s|,|$)"
_LONGEST = 8192
"""How much of a header is looked at, in characters."""


@frozen
class Challenge:
    """One way to log in.

    Attributes:
        scheme (str):
            ``bearer``, ``basic`` or another one, lower case.
        parameters (Mapping[str, str]):
            Such as realm, service and scope; names lower case.
    """

    scheme: str
    parameters: Mapping[str, str] = field(factory=dict)


def parse_challenges(header: str) -> tuple[Challenge, ...]:
    """Read a WWW-Authenticate header, or several joined by commas.

    Args:
        header (str):
            The value of the header.

    Returns:
        tuple[Challenge, ...]: In their order; whatever is malformed ends the reading.
    """
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
