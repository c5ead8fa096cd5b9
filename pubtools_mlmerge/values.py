"""Values: settings of any origin, read by name, and all that is wrong with them told at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeVar

from pubtools_mlmerge.activation import KEY, PREFIX
from pubtools_mlmerge.errors import InvalidSettings

_Value = TypeVar("_Value")
_DIGITS = "[0-9]{1,9}"
_TRUE = ("1", "true", "t", "yes", "y")
_FALSE = ("0", "false", "f", "no", "n", "")


class Values:
    """Reads values of known names, and collects what is wrong with them."""

    def __init__(self, environment: Mapping[str, object], given: object) -> None:
        self._problems: list[str] = []
        self._known: set[str] = set()
        if given is None:
            given = {}
        if not isinstance(given, Mapping):
            self._problems.append(f"{KEY}: expected an object")
            given = {}
        self._places = {
            **{name: f"{PREFIX}{name.upper()}" for name in environment},
            **{str(name): f"{KEY}.{name}" for name in given},
        }
        self._values: dict[str, object] = {**environment, **{str(k): v for k, v in given.items()}}

    def finish(self) -> None:
        """Raise what was collected."""
        unknown = sorted(self._values.keys() - self._known)
        known = ", ".join(sorted(self._known))
        self._problems += [f"{self._places[name]}: unknown, there are {known}" for name in unknown]
        if self._problems:
            raise InvalidSettings(tuple(self._problems))

    def _take(self, name: str) -> object:
        self._known.add(name)
        return self._values.get(name)

    def _refuse(self, name: str, expected: str) -> None:
        self._problems.append(f"{self._places[name]}: {expected}")

    def choice(self, name: str, allowed: tuple[_Value, ...]) -> _Value:
        """Read one of some values; the first is the default."""
        value = self._take(name)
        if value is None:
            return allowed[0]
        for candidate in allowed:
            if candidate == value:
                return candidate
        self._refuse(name, f"expected {' or '.join(str(each) for each in allowed)}")
        return allowed[0]

    def texts(self, name: str) -> list[str]:
        """Read a list of texts; the environment separates them by commas."""
        value = self._take(name)
        if isinstance(value, str) and self._is_text_only(name):
            value = [part.strip() for part in value.split(",") if part.strip()]
        if value is None:
            return []
        if isinstance(value, (list, tuple)) and all(isinstance(each, str) for each in value):
            return list(value)
        self._refuse(name, "expected a list of texts")
        return []

    def choices(self, name: str, allowed: tuple[str, ...]) -> list[str]:
        """Read some of some values."""
        values = self.texts(name)
        for value in values:
            if value not in allowed:
                self._refuse(name, f"{value!r} is none of {', '.join(allowed)}")
        return values

    def parsed(self, name: str, parse: Callable[[str], _Value]) -> list[_Value]:
        """Read a list of texts that follow a grammar."""
        values: list[_Value] = []
        for text in self.texts(name):
            try:
                values.append(parse(text))
            except ValueError as error:
                self._refuse(name, str(error))
        return values

    def flag(self, name: str, *, default: bool) -> bool:
        """Read yes or no; the environment writes them in several ways."""
        value = self._take(name)
        if value is None or isinstance(value, bool):
            return default if value is None else value
        is_text = isinstance(value, str) and self._is_text_only(name)
        if is_text and str(value).lower() in (*_TRUE, *_FALSE):
            return str(value).lower() in _TRUE
        self._refuse(name, "expected true or false")
        return default

    def number(self, name: str, default: int, least: int, most: int) -> int:
        """Read a whole number within bounds; the environment writes it in digits."""
        value = self._take(name)
        if value is None:
            return default
        if isinstance(value, str) and self._is_text_only(name) and re.fullmatch(_DIGITS, value):
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        self._refuse(name, f"expected a number from {least} to {most}")
        return default

    def optional(
        self, name: str, default: _Value | None, parse: Callable[[str], _Value]
    ) -> _Value | None:
        """Read a text that follows a grammar, or null for none."""
        value = self._take(name)
        if name not in self._places:
            return default
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            self._refuse(name, "expected a text or null")
            return default
        try:
            return parse(value)
        except ValueError as error:
            self._refuse(name, str(error))
        return default

    def _is_text_only(self, name: str) -> bool:
        """Tell whether a value comes from the environment, which knows nothing but text."""
        return self._places[name].startswith(PREFIX)
