"""JSON from registries: a strict decoder, and the host's encoding."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping

from pubtools_mlmerge.errors import InvalidIndex

LARGEST = 4 * 1024 * 1024
"""Most bytes that a manifest may have (distribution-spec, "Pushing Manifests")."""
DEEPEST = 32
"""Most levels of nested objects and arrays."""


def decode(content: bytes, largest: int = LARGEST) -> Mapping[str, object]:
    """Decode a JSON object."""
    if len(content) > largest:
        raise InvalidIndex("", f"has {len(content)} bytes, at most {largest} are allowed")
    flaws: list[InvalidIndex] = []  # in the document, they stand where a value is not allowed
    try:
        text = content.decode("utf-8")
        document: object = _decoder(flaws).decode(text)
    except UnicodeDecodeError as error:
        raise InvalidIndex("", f"is not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        problem = f"is not JSON: {error.msg} at line {error.lineno} column {error.colno}"
        raise InvalidIndex("", problem) from error
    except RecursionError as error:
        raise InvalidIndex("", f"nests deeper than {DEEPEST} levels") from error
    if flaws or "\\ud" in text.lower() or _is_too_deep(document):
        _refuse_first(document)
    if not isinstance(document, dict):
        raise InvalidIndex("", "expected an object")
    return document


def encode(document: Mapping[str, object]) -> bytes:
    """Encode a document the way the host does, so that both compute the same digest."""
    return json.dumps(document, sort_keys=True, indent=4).encode("ascii")


def check_names(fields: Mapping[str, object], known: Mapping[str, str], path: str = "") -> None:
    """Refuse keys that differ from known ones only in case: Go's decoder treats them as equal."""
    for name in fields:
        meant = known.get(name.casefold(), name)
        if name != meant:
            place = f"{path}.{name}" if path else name
            raise InvalidIndex(place, f"is easily taken for {meant!r}")


def folded(*names: str) -> Mapping[str, str]:
    """Index names by their case-folded form, for `check_names`."""
    return {name.casefold(): name for name in names}


def _decoder(flaws: list[InvalidIndex]) -> json.JSONDecoder:
    def flaw(problem: str) -> InvalidIndex:
        flaws.append(InvalidIndex("", problem))
        return flaws[-1]

    def unique(pairs: list[tuple[str, object]]) -> object:
        members = dict(pairs)
        if len(members) == len(pairs):
            return members
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        return flaw(f"has the key {twice!r} more than once")

    def fraction(text: str) -> object:
        value = float(text)
        return value if math.isfinite(value) else flaw(f"{text[:40]} is out of range")

    def integer(text: str) -> object:
        # int() accepts thousands of digits, and fails on more without naming the place.
        return int(text) if math.isfinite(float(text)) else fraction(text)

    return json.JSONDecoder(
        object_pairs_hook=unique,
        parse_float=fraction,
        parse_int=integer,
        parse_constant=lambda text: flaw(f"{text} is no JSON number"),
    )


def _members(value: object) -> Iterator[tuple[str, object]]:
    """Yield the members of an object or array, each with its step in a path."""
    if isinstance(value, dict):
        yield from ((f".{name}", member) for name, member in value.items())
    elif isinstance(value, list):
        yield from ((f"[{number}]", member) for number, member in enumerate(value))


def _is_too_deep(document: object) -> bool:
    """Look level by level, as recursion would overflow the stack on a nesting bomb."""
    level = [document]
    for _ in range(DEEPEST):
        level = [
            member
            for value in level
            for _, member in _members(value)
            if isinstance(member, (dict, list))
        ]
    return bool(level)


def _refuse_first(value: object, *steps: str) -> None:
    """Report the first flaw with its path, which the decoder does not know.

    The steps are joined to a path only when needed: with keys of a megabyte, one path for each
    value would fill the memory.
    """
    problem = None
    texts = [value, *value] if isinstance(value, dict) else [value]
    if isinstance(value, InvalidIndex):
        problem = value.problem
    elif len(steps) >= DEEPEST and isinstance(value, (dict, list)):
        problem = f"nests deeper than {DEEPEST} levels"
    elif any("\ud800" <= c <= "\udfff" for text in texts if isinstance(text, str) for c in text):
        problem = "has half of a surrogate pair"
    if problem is not None:
        raise InvalidIndex("".join(steps).lstrip("."), problem)
    for step, member in _members(value):
        _refuse_first(member, *steps, step)
